"""A child that crashes, hangs, floods or lies is a VideoError: in time, and within the limits."""

from __future__ import annotations

import json
import sys
import time

import pytest
from test_video_hostile import Endless
from video_clips import clip

from zoo.errors import VideoDecodeError, VideoError, VideoLimitError
from zoo.video import Limits, isolate, probe, read_frames

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and limits of a process")

SAY = "import sys; sys.stdout.write({!r}); sys.stdout.flush();"
FRAME = {"index": 0, "time_s": 0.0, "size": [2, 2], "path": "fast", "why": None, "shape": [2, 2]}
LAST = {"n_packets": 0, "n_decoded": 0, "errors": [], "n_errors": 0, "path": "fast", "why": None, "shape": [2, 2]}
INDEX = {
    "n_frames": 1,
    "time_s": [0.0],
    "keyframe": [True],
    "width": 2,
    "height": 2,
    "rotation": 0,
    "fps_mean": 1.0,
    "duration_s": 1.0,
    "codec": "h264",
    "container": "mp4",
    "trusted": False,
    "why": "",
    "_table": None,
}
TABLE = {"pts": [0], "shown": [7], "keys": [0], "key_pts": [0]}
LIES = {
    "noise": "noise from a library",
    "no object": "[]",
    "no fields": "{}",
    "an unknown error": json.dumps({"error": "SystemExit"}),
    "an error without a text": json.dumps({"error": "VideoError"}),
    "deep": "[" * 100_000,
    "a huge frame": json.dumps(FRAME | {"size": [1 << 20, 1 << 20]}),
    "a negative frame": json.dumps(FRAME | {"size": [-2, -2]}),
    "another frame": json.dumps(FRAME | {"index": 5}),
    "a thin first frame": json.dumps(FRAME | {"shape": [1, 1 << 60]}),
    "the end at once": json.dumps(LAST),
    "fewer times than frames": json.dumps(INDEX | {"n_frames": 3}),
    "times that are none": json.dumps(INDEX | {"time_s": ["0"]}),
    "no time at all": json.dumps(INDEX | {"duration_s": float("nan")}),
    "a table of other frames": json.dumps(INDEX | {"trusted": True, "_table": TABLE}),
}  # fmt: skip


def answers(monkeypatch, code: str):
    """Two ways to hear what a child says that runs this."""
    monkeypatch.setattr(isolate, "CHILD", "import sys; sys.stdin.buffer.read();" + code)
    limits = Limits(deadline_s=20.0)
    return (
        lambda: probe(clip("one_frame.mp4"), isolate=True, limits=limits),
        lambda: read_frames(clip("one_frame.mp4"), [0], isolate=True, limits=limits),
    )


def test_what_the_lies_are_made_of_would_be_believed(monkeypatch):
    probing, _ = answers(monkeypatch, SAY.format(json.dumps(INDEX) + "\n"))
    assert probing().n_frames == 1
    _, reading = answers(monkeypatch, SAY.format(json.dumps(FRAME) + "\n" + "a" * 12 + json.dumps(LAST) + "\n"))
    assert reading().data.tobytes() == b"a" * 12


@pytest.mark.parametrize("lie", LIES)
def test_a_child_that_lies_is_not_believed(children, lie, monkeypatch):
    for read in answers(monkeypatch, SAY.format(LIES[lie] + "\n")):
        with pytest.raises(VideoDecodeError, match="does not answer as it should") as raised:
            read()
        assert raised.value.hint and not children()


def test_a_child_that_dies_while_it_speaks_has_crashed(monkeypatch):
    die = "import os; os.kill(os.getpid(), 11)"
    for read in answers(monkeypatch, SAY.format('{"n_frames": 12') + die):
        with pytest.raises(VideoDecodeError, match=r"the decoder crashed .signal 11."):
            read()
    _, reading = answers(monkeypatch, SAY.format(json.dumps(FRAME) + "\nab") + die)
    with pytest.raises(VideoDecodeError, match=r"the decoder crashed .signal 11."):
        reading()


def test_complaints_of_any_length_hang_nobody(monkeypatch):
    for read in answers(monkeypatch, "sys.stderr.write('x' * 300_000 + '\\nthe last word\\n')"):
        with pytest.raises(VideoDecodeError, match="the last word"):
            read()


def test_a_line_without_an_end_is_not_kept(monkeypatch):
    monkeypatch.setattr(isolate, "LINE_BYTES", 1000)
    monkeypatch.setattr(isolate, "CHILD", "while True: print('x' * 10_000, end='')")
    with pytest.raises(VideoDecodeError, match="without an end"):
        probe(clip("one_frame.mp4"), isolate=True, limits=Limits(max_frames=10))


@pytest.mark.parametrize("limits", [{"max_bytes": 200_000}, {"deadline_s": 0.5}])
def test_a_file_object_without_an_end_is_read_up_to_the_limit(limits):
    src, started = Endless(clip("raw.h264")), time.monotonic()
    with pytest.raises(VideoLimitError, match=next(iter(limits))):
        probe(src, isolate=True, limits=Limits(**limits))
    assert time.monotonic() - started < 5 and src.at < 1 << 32


def test_a_file_object_that_fails_says_so():
    class Failing(Endless):
        def read(self, size: int = -1) -> bytes:
            if size:
                raise RuntimeError("made to fail")
            return b""

    with pytest.raises(VideoError, match="made to fail"):
        probe(Failing(b"x"), isolate=True)
