"""What can be opened, what cannot, and within which limits."""

from __future__ import annotations

import dataclasses
import io
import os
import pathlib
import pickle
import subprocess
import sys

import pytest
from video_clips import clip, encode, remux

import zoo
from zoo.errors import NoVideoStreamError, VideoError, VideoLimitError, VideoOpenError
from zoo.video import Limits, iter_frames, probe, read_frames, source

DATA = clip("b_frames.mp4")


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_bytes_of_any_kind_are_read(kind):
    assert probe(kind(DATA)).n_frames == 40


def test_names_that_look_like_options_or_are_not_ascii_are_only_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("vidéo 1.mp4", "%03d.mp4", "a:b.mp4", "concat:a|b", "-i.mp4", "http:x.mp4", "pipe:0", "no_suffix"):
        pathlib.Path(name).write_bytes(DATA)
        assert probe(name).n_frames == probe(pathlib.Path(name)).n_frames == 40


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names are unicode")
def test_a_name_that_is_not_unicode_is_read(tmp_path):
    name = os.fsencode(tmp_path) + b"/\xff.mp4"
    pathlib.Path(os.fsdecode(name)).write_bytes(DATA)
    assert probe(os.fsdecode(name)).n_frames == 40


def test_a_file_object_is_read_from_its_start_and_left_where_it_was():
    file = io.BytesIO(DATA)
    file.seek(100)
    assert probe(file).n_frames == 40 and file.tell() == 100
    read_frames(file, [3])
    with pytest.raises(VideoError):
        read_frames(file, [99])
    assert file.tell() == 100 and not file.closed


# --- what is refused --------------------------------------------------------------------------------------------------

REFUSED = {
    "a missing file": ("missing.mp4", "no such file"),
    "a URL": ("http://127.0.0.1:9/a.mp4", "strings are local paths"),
    "an RTSP URL": ("rtsp://127.0.0.1:9/a", "strings are local paths"),
    "a URL as a Path": (pathlib.Path("https://127.0.0.1/a.mp4"), "strings are local paths"),
    "a directory": (".", "this is a directory"),
    "a null byte": ("a\0b.mp4", "null"),
    "a name too long": ("a" * 5000, "too long"),
    "an empty string": ("", "no such file"),
    "a device": ("/dev/null", "not a regular file"),
    "no bytes": (b"", "empty"),
    "text": (b"hello, this is text\n" * 100, "not a video file"),
    "a pickle": (pickle.dumps({"a": [1, 2, 3]}), "not a video file"),
    "noise": (bytes(range(256)) * 50, "not a video file"),
    "None": (None, "cannot be a NoneType"),
    "a number": (3, "cannot be a int"),
    "a list": (["a.mp4"], "cannot be a list"),
    "a text file object": (io.StringIO("hello"), "open it in binary mode"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_a_video_says_what_it_is_and_what_to_do(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    src, text = REFUSED[name]
    for read in (probe, lambda src: read_frames(src, [0]), lambda src: next(iter_frames(src))):
        with pytest.raises(VideoOpenError, match=text) as raised:
            read(src)
        assert raised.value.hint and raised.value.source is not None


@pytest.mark.parametrize(
    ("content", "text"), [(b"", "empty"), (b"text " * 999, "not a video"), (b"\x89PNG\r\n\x1a\n" + bytes(99), "not a")]
)
def test_the_message_names_the_file(tmp_path, content, text):
    path = tmp_path / "holiday.mp4"
    path.write_bytes(content)
    with pytest.raises(VideoOpenError, match=rf"holiday\.mp4: .*{text}"):
        probe(path)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_says_so(tmp_path):
    path = tmp_path / "secret.mp4"
    path.write_bytes(DATA)
    path.chmod(0)
    with pytest.raises(VideoOpenError, match="permission denied"):
        probe(path)


def test_a_pipe_does_not_block(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(VideoOpenError, match="not a regular file"):
        probe(tmp_path / "pipe.mp4")


def test_sound_without_pictures_is_not_a_video(tmp_path):
    import av
    import numpy as np

    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(NoVideoStreamError, match=r"sound\.mp4 has no video stream, only audio"):
        probe(path)


class Failing(io.BytesIO):
    """A file on a disk that goes away after a while."""

    left = 3

    def read(self, size: int = -1) -> bytes:
        self.left -= bool(size)
        if self.left < 0:
            raise RuntimeError("the disk is gone")
        return super().read(size)


@pytest.mark.parametrize("left", [0, 3])
def test_a_file_object_that_fails_becomes_a_video_error_with_its_own_as_cause(left):
    file = Failing(encode("mp4", 60, size=(240, 320)))
    file.left = left
    with pytest.raises(VideoOpenError, match="the disk is gone") as raised:
        read_frames(file, [59])
    assert isinstance(raised.value.__cause__, RuntimeError) and raised.value.hint


@pytest.mark.parametrize("gives", [None, "text", b"x" * 10**6, 7])
def test_a_read_that_gives_something_else_than_asked_for_is_named(gives):
    class Odd(io.BytesIO):
        def read(self, size: int = -1) -> bytes:
            return gives if size else b""

    with pytest.raises(VideoOpenError, match=r"the file object failed: .*read.* gave"):
        probe(Odd(DATA))


@pytest.mark.parametrize("read", [probe, lambda src: read_frames(src, [0]), lambda src: next(iter_frames(src))])
def test_an_interrupt_inside_a_file_object_is_not_lost(read):
    class Interrupted(io.BytesIO):
        def read(self, size: int = -1) -> bytes:
            if size:
                raise KeyboardInterrupt
            return b""

    with pytest.raises(KeyboardInterrupt):
        read(Interrupted(DATA))


def test_a_file_object_that_cannot_seek_is_refused():
    class Socket(io.RawIOBase):
        def readable(self) -> bool:
            return True

        def seekable(self) -> bool:
            return False

    with pytest.raises(VideoOpenError, match="cannot be read from its start"):
        probe(Socket())


# --- limits -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("read", [probe, lambda src, limits: read_frames(src, [39], limits=limits)])
@pytest.mark.parametrize("name", ["b_frames.mp4", "b_frames_h264.avi", "raw.h264"])
@pytest.mark.parametrize(
    "limits", [{"max_pixels": 72 * 96 - 1}, {"max_frames": 30}, {"max_bytes": 2000}, {"deadline_s": 0.0}]
)
def test_limits_end_the_reading_and_say_which_to_raise(read, name, limits):
    (field,) = limits
    with pytest.raises(VideoLimitError, match=rf"limit is {field}=.*limits=Limits\({field}=\.\.\.\)"):
        read(clip(name), limits=Limits(**limits))


def test_bytes_of_a_file_object_are_counted_as_they_are_read():
    with pytest.raises(VideoLimitError, match="max_bytes"):
        read_frames(io.BytesIO(DATA), [39], limits=Limits(max_bytes=2000))


@pytest.mark.parametrize("grown", [(96, 128), (288, 384)])  # refused by us, refused by the decoder already
def test_a_size_that_grows_later_is_still_limited(grown):
    data = encode("h264", 8, options={"bf": "0"}) + encode("h264", 8, size=grown, options={"bf": "0"})
    limits = Limits(max_pixels=72 * 96)
    read_frames(data, [5], limits=limits)
    with pytest.raises(VideoLimitError, match=f"frames of {grown[1]}x{grown[0]} pixels"):
        read_frames(data, [12], size=(72, 96), limits=limits)


@pytest.mark.parametrize(
    "limits", [{"max_pixels": 10**12}, {"max_pixels": None, "max_frames": None, "timeout_s": None}]
)
def test_large_limits_and_none_at_all_break_nothing(limits):
    assert read_frames(DATA, [39], limits=Limits(**limits)).data.shape == (1, 72, 96, 3)


@pytest.mark.parametrize("wrong", [{"deadline_s": float("nan")}, {"timeout_s": -1}, {"max_frames": "many"}])
def test_limits_that_are_no_limits_are_refused(wrong):
    with pytest.raises(VideoError, match=next(iter(wrong))):
        Limits(**wrong)


@pytest.mark.parametrize("isolate", [False, True])
@pytest.mark.parametrize(
    "wrong",
    [
        *({"size": size} for size in (0, -1, 1.5, "a", True, (1, 2, 3), (0, 5), (5.0, 5), 10**9, (3, 10**9))),
        *({"threads": threads} for threads in (0, 1.5, "a", True)),
        *({"index": index} for index in (5, "x")),
        *({"indices": indices} for indices in (5, None, "ab", [1.5], [10**30], [-1])),
        {"limits": None},
    ],
    ids=str,
)
def test_arguments_that_cannot_be_are_video_errors(wrong, isolate, tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(DATA)
    with pytest.raises(VideoError) as raised:
        read_frames(path, **{"indices": [1, 20], "isolate": isolate, **wrong})
    assert raised.value.hint


@pytest.mark.parametrize("wrong", [{"stride": 0}, {"stride": 1.5}, {"stride": "a"}, {"start": -1}, {"start": None}])
def test_strides_that_cannot_be_are_video_errors(wrong):
    with pytest.raises(VideoError, match=next(iter(wrong))):
        iter_frames(DATA, **wrong)


@pytest.mark.parametrize(
    ("name", "read"),
    [
        (
            "b_frames_h264.avi",
            lambda data, limits: zoo.load_clips(zoo.Preprocessing(num_frames=40), data, limits=limits),
        ),
        ("b_frames.mp4", lambda data, limits: probe(remux("b_frames.mp4", "mp4", _same_time), limits=limits)),
        (
            "b_frames.mp4",
            lambda data, limits: read_frames(remux("b_frames.mp4", "mp4", _same_time), [39], limits=limits),
        ),
    ],
    ids=["counted, then read", "scanned, then counted", "scanned, then read"],
)
def test_a_deadline_is_one_for_all_passes_over_a_file(name, read, monkeypatch):
    """A packet takes a second, a pass forty."""
    now = [0.0]
    spend = source.Guard.spend

    def spending(self, *args):
        now[0] += 1
        spend(self, *args)

    monkeypatch.setattr(source.Guard, "spend", spending)
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    read(clip(name), Limits(deadline_s=81.0))
    now[0] = 0.0
    with pytest.raises(VideoLimitError, match="deadline_s"):
        read(clip(name), Limits(deadline_s=60.0))


def _same_time(rows):
    rows[38].pts = rows[39].pts
    return rows


def test_what_is_within_the_limits_is_read():
    assert probe(DATA, limits=Limits(max_pixels=72 * 96, max_frames=40, max_bytes=len(DATA))).n_frames == 40


def test_limits_are_plain_data():
    assert pickle.loads(pickle.dumps(Limits(max_frames=3))) == Limits(max_frames=3)
    with pytest.raises(dataclasses.FrozenInstanceError):
        Limits().max_frames = 3


def test_a_gigapixel_in_a_few_bytes_is_refused():
    gif = b"GIF89a" + (32000).to_bytes(2, "little") * 2 + b"\x00\x00\x00"
    gif += b"\x2c\0\0\0\0" + (32000).to_bytes(2, "little") * 2 + b"\x80\0\0\0\xff\xff\xff\x02\x02\x4c\x01\x00;"
    with pytest.raises(VideoError):
        probe(gif)


# --- being light ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import zoo.video", "torch av numpy"),
        ("import zoo.video.sampling", "torch av numpy"),
        ("from zoo.video import probe, read_frames, write_video", "torch torchvision"),
        ("import zoo.video.transforms", "torchvision av"),
    ],
)
def test_importing_imports_no_more_than_it_needs(statement, absent):
    check = f"{statement}; import sys; print(*[m for m in {absent.split()!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_the_public_names_are_sorted_and_all_there():
    import zoo.video

    assert zoo.video.__all__ == sorted(zoo.video.__all__) == sorted(zoo.video._LAZY) == dir(zoo.video)
    assert all(getattr(zoo.video, name).__name__ == name for name in zoo.video.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        zoo.video.nothing  # noqa: B018
