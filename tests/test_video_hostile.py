"""Whatever the bytes are: frames, or a VideoError in time; in a process of its own not even a crash goes further."""

from __future__ import annotations

import http.server
import io
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from video_clips import clip, decoded, mux

from zoo.errors import VideoDecodeError, VideoError, VideoLimitError, VideoOpenError
from zoo.video import Limits, iter_frames, probe, read_frames, source, write_video
from zoo.video.select import select_frames

HERE = pathlib.Path(__file__).parent
linux = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and limits of a process")


@pytest.mark.parametrize("count", [200, pytest.param(2000, marks=pytest.mark.slow)])
@linux
def test_a_damaged_file_ends_in_frames_or_a_video_error(count):
    """No crash, no other exception, no hang past the deadline, no growth of memory."""
    done = subprocess.run(
        [sys.executable, str(HERE / "mutated.py"), "0", str(count)],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([*sys.path, str(HERE)])},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert found["slowest"][0] < 10, found["slowest"]
    assert found["growth"] < 40, "megabytes, from the second quarter to the last"
    assert {"fast", "sequential", "frames", "VideoDecodeError", "VideoOpenError"} <= found["outcomes"].keys()


def test_a_title_that_is_not_utf_8_is_no_reason_to_fail():
    data = clip("b_frames.mp4").replace(b"Lavf", b"\xff\xfe\xe9\xf0")
    assert data != clip("b_frames.mp4") and probe(data).n_frames == 40


def test_a_codec_without_a_decoder_says_so():
    data = clip("b_frames.mp4").replace(b"avc1", b"zzzz", 2).replace(b"avcC", b"zzzC")
    with pytest.raises(VideoError, match="no decoder"):
        probe(data)


def bomb() -> bytes:
    """A few bytes that decode to a picture of a gigapixel."""
    size = (32_000).to_bytes(2, "little") * 2
    return b"GIF89a" + size + b"\x00\x00\x00\x2c\0\0\0\0" + size + b"\x80\0\0\0\xff\xff\xff\x02\x02\x4c\x01\x00;"


MEMORY = """
import resource, sys
from zoo.errors import VideoError
from zoo.video import Limits, iter_frames, probe, read_frames, write_video
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
data = sys.stdin.buffer.read()
for read in (probe, lambda data: read_frames(data, [0]), lambda data: list(iter_frames(data))):
    try:
        read(data)
    except VideoError:
        continue
    sys.exit("it was read")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@linux
def test_a_gigapixel_takes_no_memory():
    done = subprocess.run([sys.executable, "-c", MEMORY], input=bomb(), capture_output=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 100_000  # KiB; one picture of it takes four million


class Endless(io.RawIOBase):
    """A raw stream that never ends, over and over the same group."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self.at = {0: 0, 1: self.at, 2: 1 << 60}[whence] + offset
        return self.at

    def tell(self) -> int:
        return self.at

    def read(self, size: int = -1) -> bytes:
        start = self.at % len(self.data)
        chunk = self.data[start : start + size]
        self.at += len(chunk)
        return chunk


@pytest.mark.parametrize(
    "read",
    [
        lambda src, limits: probe(src, limits=limits),
        lambda src, limits: read_frames(src, [10**6], limits=limits),
        lambda src, limits: list(iter_frames(src, stride=10**6, limits=limits)),
    ],
)
@pytest.mark.parametrize("limits", [{"deadline_s": 0.5}, {"max_frames": 2000}, {"max_bytes": 200_000}])
def test_input_without_an_end_ends_at_the_limit(read, limits):
    started = time.monotonic()
    with pytest.raises(VideoLimitError, match=next(iter(limits))):
        read(Endless(clip("raw.h264")), Limits(**limits))
    assert time.monotonic() - started < 10


class Silence(Endless):
    """A broadcast that goes on for ever with packets of no stream: FFmpeg reads them without giving any back."""

    def __init__(self, seekable: bool) -> None:
        super().__init__((b"\x47\x1f\xff\x10" + bytes(184)) * 1000)
        self.first, self.can_seek = clip("h264.ts"), seekable

    def seekable(self) -> bool:
        return self.can_seek

    def read(self, size: int = -1) -> bytes:
        if self.at >= len(self.first):
            return super().read(size)
        chunk = self.first[self.at : self.at + size]
        self.at += len(chunk)
        return chunk


@pytest.mark.parametrize(
    ("read", "seekable"),
    [
        (lambda src, limits: probe(src, limits=limits), True),
        (lambda src, limits: read_frames(src, [10**6], limits=limits), True),
        (lambda src, limits: list(iter_frames(src, limits=limits)), True),
        (lambda src, limits: list(iter_frames(src, limits=limits)), False),
    ],
    ids=["probe", "read", "iterate", "iterate a pipe"],
)
@pytest.mark.parametrize("limits", [{"deadline_s": 0.5}, {"max_bytes": 2_000_000}])
def test_input_that_gives_no_packets_ends_at_the_limit(read, seekable, limits, capfd):
    src, started = Silence(seekable), time.monotonic()
    with pytest.raises(VideoLimitError, match=next(iter(limits))):
        read(src, Limits(**limits))
    assert time.monotonic() - started < 10
    assert not seekable or src.at == 0, "a file object is left where it was"
    assert capfd.readouterr() == ("", "")


def test_no_read_of_a_file_may_take_longer_than_the_whole_call(tmp_path, monkeypatch):
    path, asked = tmp_path / "a.mp4", []
    path.write_bytes(clip("b_frames.mp4"))
    opened = source.av.open
    monkeypatch.setattr(source.av, "open", lambda *a, **k: asked.append(k["timeout"]) or opened(*a, **k))
    for limits in ({}, {"deadline_s": 5.0}, {"deadline_s": 60.0}, {"timeout_s": None}):
        probe(path, limits=Limits(**limits))
    assert asked == [20.0, pytest.approx(5.0, abs=4.9), 20.0, None]

    def late(*args, **options):
        raise source.av.ExitError(1, "interrupted", str(path))

    monkeypatch.setattr(source.av, "open", late)
    for limits, text in (({"deadline_s": 0.0}, "limit is deadline_s=0"), ({}, "reading took too long")):
        with pytest.raises(VideoLimitError, match=text):
            probe(path, limits=Limits(max_frames=7, **limits))


# --- in a process of its own ------------------------------------------------------------------------------------------


@linux
@pytest.mark.parametrize("name", ["open_gops.mp4", "b_frames_h264.avi"])
def test_an_isolated_read_gives_what_a_read_gives(name, tmp_path):
    data = clip(name)
    path = tmp_path / name
    path.write_bytes(data)
    known = probe(data)
    assert probe(path, isolate=True) == known
    truth = read_frames(data, [35, 3, 35], size=36)
    frames = read_frames(io.BytesIO(data), [35, 3, 35], index=known, size=36, isolate=True)
    assert (frames.data == truth.data).all() and frames.time_s == truth.time_s
    assert frames.report.path == ("fast" if known.trusted else "sequential")
    assert read_frames(path, [], isolate=True).data.shape == (0, 72, 96, 3)


@linux
def test_errors_of_an_isolated_read_are_the_same(tmp_path):
    for src in (tmp_path / "none.mp4", None, io.StringIO("hello")):
        with pytest.raises(VideoOpenError) as raised:
            read_frames(src, [0], isolate=True)
        assert raised.value.hint and raised.value.source
    with pytest.raises(VideoError, match="there is no frame 40: indices go from 0 to 39"):
        read_frames(clip("b_frames.mp4"), [40], isolate=True)
    with pytest.raises(VideoLimitError, match="max_bytes"):
        probe(clip("b_frames.mp4"), isolate=True, limits=Limits(max_bytes=10))
    with pytest.raises(VideoDecodeError, match="damaged at packet"):
        read_frames(damaged(), range(60), isolate=True)


def damaged(*, everywhere: bool = False) -> bytes:
    data = bytearray(mux([40 * k for k in range(60)], container_options={"movflags": "faststart"}))
    length = len(data) // 4 if everywhere else 1500
    data[len(data) // 2 : len(data) // 2 + length] = bytes(length)
    return bytes(data)


def test_of_much_damage_the_first_is_described_and_all_is_counted(monkeypatch):
    data = damaged(everywhere=True)
    wanted = [len(decoded(data)) - 1]
    every = read_frames(data, wanted, on_error="skip").report
    assert every.n_errors == len(every.errors) > 3
    monkeypatch.setattr("zoo.video.decode.MOST_NOTED", 2)  # of a stream without end
    some = read_frames(data, wanted, on_error="skip").report
    assert some.n_errors == every.n_errors and some.errors == every.errors[:2]
    with pytest.raises(VideoDecodeError, match=f"and {every.n_errors - 1} other places"):
        read_frames(data, wanted)


@linux
@pytest.mark.parametrize("how", [signal.SIGSEGV, signal.SIGKILL, signal.SIGABRT])
def test_a_crash_of_the_decoder_is_a_video_error(children, how, tmp_path):
    path = tmp_path / "large.avi"
    path.write_bytes(clip("b_frames_h264.avi"))
    frames = select_frames(path, range(40), size=(600, 800), isolate=True)
    next(frames)
    (child,) = children()
    os.kill(child, signal.SIGSTOP)
    os.kill(child, how)
    os.kill(child, signal.SIGCONT)
    with pytest.raises(VideoDecodeError, match=f"the decoder crashed .signal {int(how)}.") as raised:
        list(frames)
    assert str(path) in str(raised.value) and not children()


@linux
def test_a_decoder_that_hangs_is_killed_at_the_deadline(children, monkeypatch):
    from zoo.video import isolate

    monkeypatch.setattr(isolate, "CHILD", "while True: pass")
    started = time.monotonic()
    with pytest.raises(VideoLimitError, match=r"deadline_s=0\.5"):
        probe(clip("b_frames.mp4"), isolate=True, limits=Limits(deadline_s=0.5))
    assert time.monotonic() - started < 5 and not children()


@linux
def test_memory_of_an_isolated_read_is_limited():
    with pytest.raises(VideoError, match=r"memory|the decoder"):
        probe(clip("b_frames.mp4"), isolate=True, limits=Limits(max_memory=1 << 20))
    data, failed = large(), 0
    for megabytes in (100, 200, 300, 2000):
        try:
            read_frames(data, [0], isolate=True, limits=Limits(max_memory=megabytes << 20))
        except VideoError:
            failed += 1
    assert 0 < failed < 4


def large() -> bytes:
    """One frame of 50 megabytes in RGB."""
    out = io.BytesIO()
    write_video(out, [np.zeros((4096, 4096, 3), np.uint8)], fps=25, options={"preset": "ultrafast"})
    return out.getvalue()


@linux
def test_leaving_an_isolated_read_early_ends_the_child(children):
    frames = select_frames(clip("b_frames.mp4"), range(40), isolate=True)
    next(frames)
    assert len(children()) == 1
    frames.close()
    assert not children()


def test_an_isolated_read_of_a_playlist_opens_nothing(tmp_path):
    hits = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            hits.append(self.path)

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        path = tmp_path / "list.mp4"
        path.write_text(f"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:{server.server_port}/a.mp4\n#EXT-X-ENDLIST\n")
        for src in (path, path.read_bytes()):
            with pytest.raises(VideoOpenError):
                probe(src, isolate=True)
        server.shutdown()
        thread.join()
    assert not hits
