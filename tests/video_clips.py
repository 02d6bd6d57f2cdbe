"""Clips for the tests of zoo.video: made here, each with one trap in it, and the real ones beside the checkout."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Iterator
from fractions import Fraction
from functools import cache
from pathlib import Path

import av
import numpy as np

from zoo.video import write_video

os.environ.setdefault("SVT_LOG", "1")  # else it prints its settings for each clip
SHARED = Path(__file__).parents[2] / "shared" / "videos"
REAL = sorted(p.name for p in SHARED.glob("*") if p.suffix != ".md") if SHARED.is_dir() else []


def pictures(n: int, height: int = 72, width: int = 96) -> np.ndarray:
    """Moving stripes with a bright block that says which frame this is: no two frames are alike."""
    y, x = np.mgrid[:height, :width]
    frames = np.empty((n, height, width, 3), np.uint8)
    for k in range(n):
        frames[k] = np.stack([x * 2 + k * 3, y * 2 + k * 5, x + y + k * 7], -1) % 256
        frames[k, : height // 4, (k * 8) % width : (k * 8) % width + 8] = 255
    return frames


def encode(suffix: str, n: int = 40, *, size: tuple[int, int] = (72, 96), fps: float = 25, **options: object) -> bytes:
    out = io.BytesIO()
    write_video(out, pictures(n, *size), fps=fps, format=suffix, **options)
    return out.getvalue()


def mux(
    pts: list[int],
    *,
    format: str = "mp4",
    time_base: Fraction = Fraction(1, 1000),
    rotation: int | None = None,
    container_options: dict[str, str] | None = None,
    encoder: dict[str, str] | None = None,
) -> bytes:
    """A clip with these presentation times."""
    with tempfile.TemporaryDirectory() as folder:  # "faststart" opens the file a second time
        path = Path(folder, "clip")
        _mux(path, pts, format, time_base, rotation, container_options or {}, encoder or {"g": "12"})
        return path.read_bytes()


def _mux(path, pts, format, time_base, rotation, container_options, encoder):
    with av.open(str(path), "w", format=format, container_options=container_options) as container:
        stream = container.add_stream("libx264", rate=25, options=encoder)
        stream.width, stream.height, stream.pix_fmt = 96, 72, "yuv420p"
        stream.codec_context.time_base = time_base
        if rotation is not None:
            stream.set_display_rotation(rotation)
        for stamp, picture in zip(pts, pictures(len(pts)), strict=True):
            frame = av.VideoFrame.from_ndarray(picture, "rgb24")
            frame.pts, frame.time_base = stamp, time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


class OneWay:
    """A sink that cannot seek, so that the container's header cannot be completed afterwards."""

    def __init__(self) -> None:
        self.data = b""

    def write(self, data: bytes) -> int:
        self.data += bytes(data)
        return len(data)


def _webm_without_duration() -> bytes:
    out = OneWay()
    write_video(out, pictures(40), fps=30, format="webm")
    return out.data


B_FRAMES = {"bf": "3", "g": "12"}
OPEN = {"x264-params": "keyint=12:min-keyint=12:open-gop=1:bframes=3:b-adapt=0:scenecut=0:b-pyramid=normal"}
HEVC = {"x265-params": "keyint=12:min-keyint=12:open-gop=1:bframes=4:b-adapt=0:scenecut=0:log-level=none"}
AV1 = {"preset": "12", "g": "10", "svtav1-params": "lookahead=0"}
VARIABLE = [0, 40, 80, 200, 210, 230, 400, 440, 1000, 1040, 1080, 1500]

MADE = {
    "b_frames.mp4": lambda: encode("mp4", options=B_FRAMES),
    "fragmented.mp4": lambda: mux(
        [40 * k for k in range(40)], container_options={"movflags": "frag_keyframe+empty_moov"}
    ),
    "edit_list.mp4": lambda: mux(
        [40 * k - 200 for k in range(40)],
        container_options={"avoid_negative_ts": "disabled"},
        encoder={"g": "12", "bf": "0"},
    ),
    "edit_list_b_frames.mp4": lambda: mux(
        [40 * k - 1000 for k in range(80)],
        container_options={"avoid_negative_ts": "disabled"},
        encoder={"g": "12", "bf": "3", "sc_threshold": "0"},
    ),
    "open_gops.mp4": lambda: encode("mp4", 80, options=OPEN),
    "open_gops.mkv": lambda: encode("matroska", 80, options=OPEN),
    "refresh.mp4": lambda: encode("mp4", 60, options={"x264-params": "keyint=10:intra-refresh=1:bframes=0"}),
    "late_start.mp4": lambda: mux([40 * k + 5000 for k in range(20)], container_options={"use_editlist": "0"}),
    "variable.mp4": lambda: mux(VARIABLE),
    "variable.mkv": lambda: mux(VARIABLE, format="matroska"),
    "one_frame.mp4": lambda: encode("mp4", 1),
    "odd_size.mp4": lambda: encode("mp4", 10, size=(71, 95)),
    "ten_bits.mp4": lambda: encode("mp4", 10, pix_fmt="yuv420p10le"),
    "mpeg4.mov": lambda: encode("mov", codec="mpeg4", options={"bf": "2"}),
    "h264.mkv": lambda: encode("matroska", fps=30, options=B_FRAMES),
    "vp9.webm": lambda: encode("webm", 30, fps=30, options={"g": "10", "lag-in-frames": "10", "auto-alt-ref": "1"}),
    "hevc.mp4": lambda: encode("mp4", 50, codec="libx265", options=HEVC),
    "hevc.mkv": lambda: encode("matroska", 50, codec="libx265", options=HEVC),
    "vp8.webm": lambda: encode("webm", 40, codec="libvpx", options={"g": "10", "auto-alt-ref": "1"}),
    "av1.mkv": lambda: encode("matroska", 40, codec="libsvtav1", options=AV1),
    "av1.mp4": lambda: encode("mp4", 40, codec="libsvtav1", options=AV1),
    "mpeg2.mp4": lambda: encode("mp4", codec="mpeg2video", options={"bf": "2", "g": "8"}),
    "no_duration.webm": _webm_without_duration,
    "b_frames_mpeg4.avi": lambda: encode("avi", codec="mpeg4", options={"bf": "2"}),
    "b_frames_h264.avi": lambda: encode("avi", options=B_FRAMES),
    "h264.ts": lambda: encode("mpegts", options=B_FRAMES),
    "mpeg2.mpg": lambda: encode("mpeg", codec="mpeg2video", options={"bf": "2"}),
    "raw.h264": lambda: encode("h264", options=B_FRAMES),
    "moving.gif": lambda: encode("gif", 8, fps=10),
}


@cache
def clip(name: str) -> bytes:
    """The bytes of a clip by name."""
    return (SHARED / name).read_bytes() if name in REAL else MADE[name]()


def frames_of(data: bytes) -> Iterator[av.VideoFrame]:
    """The truth: a plain decode in one thread that skips bad packets."""
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.video[0]
        stream.thread_type, stream.codec_context.thread_count = "NONE", 1
        for packet in container.demux(stream):
            try:
                yield from stream.codec_context.decode(packet if packet.size else None)
            except av.FFmpegError:
                continue


def upright(frame: av.VideoFrame) -> np.ndarray:
    turns = round(frame.rotation / 90) if abs(frame.rotation) <= 360 else 0
    return np.rot90(frame.to_ndarray(format="rgb24"), turns % 4)


def decoded(data: bytes) -> list[np.ndarray]:
    return [upright(frame) for frame in frames_of(data)]


def remux(name: str, format: str, change=list, **options: str) -> bytes:
    """The same packets after `change(packets)`, which may drop or alter some, in a container of this format."""
    out = io.BytesIO()
    with (
        av.open(io.BytesIO(clip(name))) as source,
        av.open(out, "w", format=format, container_options=options) as target,
    ):
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in change([p for p in source.demux(video=0) if p.size]):
            packet.stream = stream
            target.mux_one(packet)
    return out.getvalue()
