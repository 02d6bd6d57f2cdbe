"""What is written can be read back, and a failed write leaves nothing behind."""

from __future__ import annotations

import io
from fractions import Fraction

import numpy as np
import pytest
import torch
from video_clips import OneWay, pictures

from zoo.errors import VideoError
from zoo.video import probe, read_frames, write_video


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv", "webm", "avi", "ts", "gif", "m4v"])
def test_what_is_written_comes_back(tmp_path, suffix):
    frames = pictures(12)
    path = tmp_path / f"a.{suffix}"
    write_video(path, frames, fps=25, **({} if suffix == "gif" else {"crf": 4}))
    index = probe(path)
    assert (index.n_frames, index.height, index.width) == (12, 72, 96)
    assert index.fps_mean == pytest.approx(25)
    error = np.abs(read_frames(path, range(12)).data.astype(int) - frames).mean((1, 2, 3))
    assert error.max() < (40 if suffix == "gif" else 16), "colour at half resolution costs some, a wrong frame more"
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_frames_may_come_one_by_one_as_a_tensor_or_as_a_list(tmp_path):
    frames = pictures(6)
    written = []
    for source in (frames, torch.from_numpy(frames), list(frames), (frame for frame in frames), frames.tolist()[:0]):
        out = io.BytesIO()
        if isinstance(source, list) and not source:
            with pytest.raises(VideoError, match="no frames"):
                write_video(out, source, fps=5)
        else:
            write_video(out, source, fps=5)
            written.append(out.getvalue())
    assert len(set(written)) == 1


@pytest.mark.parametrize(
    ("fps", "rate"), [(1, 1), (12.5, 12.5), (29.97, 29.97), (Fraction(30000, 1001), 30000 / 1001), (240, 240)]
)
def test_rates_are_kept(fps, rate):
    out = io.BytesIO()
    write_video(out, pictures(10), fps=fps)
    assert probe(out).fps_mean == pytest.approx(rate, rel=1e-9)
    assert probe(out).duration_s == pytest.approx(10 / rate)


@pytest.mark.parametrize("size", [(71, 96), (72, 95), (71, 95), (1, 1)])
@pytest.mark.parametrize("format", ["mp4", "webm"])
def test_odd_sizes_are_kept(size, format):
    out = io.BytesIO()
    write_video(out, pictures(3, *size), fps=5, format=format)
    assert read_frames(out, [2]).data.shape == (1, *size, 3)


def test_lossless_is_lossless_up_to_the_colour_space():
    out = io.BytesIO()
    write_video(out, pictures(3), fps=5, crf=0, pix_fmt="yuv444p")
    assert np.abs(read_frames(out, range(3)).data.astype(int) - pictures(3)).max() <= 4


def test_options_reach_the_encoder():
    out = io.BytesIO()
    write_video(out, pictures(12), fps=5, options={"g": "4"})
    assert sum(probe(out).keyframe) == 3


def test_a_sink_that_cannot_seek_takes_containers_that_stream():
    out = OneWay()
    write_video(out, pictures(5), fps=5, format="matroska")
    assert probe(out.data).n_frames == 5
    with pytest.raises(VideoError):
        write_video(OneWay(), pictures(5), fps=5, format="mp4")


WRONG = {
    "no frames": ({}, [], "no frames"),
    "floats": ({}, pictures(2) / 255, r"frame 0 is float64 .* values 0\.\.255"),
    "planes first": ({}, pictures(2).transpose(0, 3, 1, 2), r"shape \(3, 72, 96\).*\[H, W, 3\]"),
    "grey": ({}, pictures(2)[..., :1], "frame 0"),
    "sizes that differ": ({}, [*pictures(2), pictures(1, 64)[0]], "frame 2 has shape"),
    "no rate": ({"fps": 0}, pictures(2), "fps=0"),
    "a negative rate": ({"fps": -3.5}, pictures(2), "fps=-3.5"),
    "not a rate": ({"fps": float("nan")}, pictures(2), "fps=nan"),
    "an unknown encoder": ({"codec": "nope"}, pictures(2), "no encoder 'nope'"),
    "an unknown pixel format": ({"pix_fmt": "nope"}, pictures(2), "nope"),
    "an encoder that the container does not take": ({"codec": "libvpx"}, pictures(2), "codec"),
    "an encoder of sound": ({"codec": "mp3"}, pictures(2), "does not encode pictures"),
    "a rate beyond counting": ({"fps": 1e12}, pictures(2), "at most 1000000"),
    "no pictures": ({}, 3, "frames=3"),
    "odd pixels": ({"pix_fmt": "yuv420p"}, pictures(2, 71), "crop to an even size"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_written_says_why_and_leaves_nothing(tmp_path, name):
    options, frames, text = WRONG[name]
    path = tmp_path / "a.mp4"
    path.write_bytes(b"what was there before")
    with pytest.raises(VideoError, match=text) as raised:
        write_video(path, frames, **{"fps": 5, **options})
    assert raised.value.hint
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"] and path.read_bytes() == b"what was there before"


def test_frames_that_fail_half_way_leave_nothing(tmp_path):
    def failing():
        yield from pictures(80)  # more than the encoder holds back, so that there is half a file
        raise RuntimeError("the camera fell")

    with pytest.raises(RuntimeError, match="the camera fell"):
        write_video(tmp_path / "a.mp4", failing(), fps=5)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a.nope", "a", "missing/a.mp4", None, 3])
def test_a_destination_that_cannot_be_says_so(tmp_path, name):
    with pytest.raises(VideoError) as raised:
        write_video(tmp_path / name if isinstance(name, str) else name, pictures(2), fps=5)
    assert raised.value.hint and not list(tmp_path.iterdir())
