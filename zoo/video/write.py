"""Writing a video file, for demos, tests and training data."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt

from zoo.errors import VideoError
from zoo.video.source import translated

# Encoders that halve the colour resolution of even sizes only.
EVEN_ONLY = ("libx264", "libx265")
# The encoder of a container that does not take H.264, and the pixels of an encoder that does not take yuv420p.
CODECS = {"webm": "libvpx-vp9", "gif": "gif"}
PIXELS = {"gif": "rgb8"}
MOST_FPS = 1_000_000  # time is counted in 32 bits


def write_video(
    dst: Any,
    frames: Iterable[Any],
    *,
    fps: float | Fraction,
    codec: str | None = None,
    crf: float | None = None,
    pix_fmt: str | None = None,
    options: Mapping[str, str] | None = None,
    format: str = "mp4",
) -> None:
    """Encode RGB frames, uint8 [H, W, 3] each, all of one size: an iterable, a [T, H, W, 3] array, or a CPU tensor.

    dst: a path, whose suffix chooses the container (.mp4, .mkv, .mov, .avi, .ts, .webm, .gif, ...) and which appears
    only once the file is complete; or a writable binary file object, for which `format` chooses.
    codec: default libx264, in webm libvpx-vp9, in gif gif. options: the encoder's own, such as {"g": "12"}.
    crf: quality, smaller is better; None is the encoder's default.
    pix_fmt: default yuv420p, which every player takes. H.264 and H.265 cannot hold an odd width or height in it:
    such frames are written as yuv444p, unchanged in size, which some players refuse. Crop to even sizes for those.
    """
    rate = _rate(fps)
    with destination(dst) as (name, target, suffix):
        kind = suffix or format
        codec = codec or CODECS.get(kind, "libx264")
        pictures = _pictures(frames, name)
        first = next(pictures, None)
        if first is None:
            raise VideoError(f"{name}: there are no frames to write", hint="give at least one", source=name)
        height, width = first.shape[:2]
        with (
            translated(name, writing=True),
            av.open(target, "w", format=None if suffix else format) as container,
        ):
            if av.Codec(codec, "w").type != "video":
                raise VideoError(f"{name}: {codec} does not encode pictures", hint="leave codec out", source=name)
            stream = container.add_stream(codec, rate=rate, options=_options(options, crf))
            assert isinstance(stream, av.VideoStream)
            stream.width, stream.height = width, height
            stream.pix_fmt = pix_fmt or pix_fmt_of(codec, height, width)
            if codec in EVEN_ONLY and (height % 2 or width % 2) and stream.pix_fmt == "yuv420p":
                raise VideoError(
                    f"{name}: {codec} cannot write {width}x{height} as yuv420p",
                    hint="crop to an even size, or leave pix_fmt out for yuv444p",
                    source=name,
                )
            stream.codec_context.time_base = 1 / rate
            for k, picture in enumerate(_chain(first, pictures)):
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts, frame.time_base = k, 1 / rate
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))


def _chain(first: npt.NDArray[np.uint8], rest: Iterator[npt.NDArray[np.uint8]]) -> Iterator[npt.NDArray[np.uint8]]:
    yield first
    yield from rest


def _pictures(frames: Iterable[Any], name: str) -> Iterator[npt.NDArray[np.uint8]]:
    shape: tuple[int, ...] | None = None
    if not isinstance(frames, Iterable):
        raise VideoError(f"{name}: frames={frames!r:.80}", hint="frames are many pictures, uint8 [H, W, 3] each")
    for k, frame in enumerate(frames):
        picture = np.asarray(frame)
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or not picture.size:
            raise VideoError(
                f"{name}: frame {k} is {picture.dtype} of shape {picture.shape}",
                hint="frames are uint8 [H, W, 3], RGB with values 0..255",
                source=name,
            )
        shape = shape or picture.shape
        if picture.shape != shape:
            raise VideoError(
                f"{name}: frame {k} has shape {picture.shape}, the first one had {shape}",
                hint="resize them to one size, with zoo.video.transforms.resize",
                source=name,
            )
        yield np.ascontiguousarray(picture)


def _rate(fps: float | Fraction) -> Fraction:
    try:
        rate = Fraction(fps) if isinstance(fps, Fraction) else Fraction(fps).limit_denominator(1001)  # 30000/1001
    except (TypeError, ValueError, OverflowError):
        rate = Fraction(0)
    if not 0 < rate <= MOST_FPS:
        raise VideoError(f"fps={fps!r}", hint=f"fps is a number of frames per second, above 0 and at most {MOST_FPS}")
    return rate


def pix_fmt_of(codec: str, height: int, width: int) -> str:
    odd = codec in EVEN_ONLY and (height % 2 or width % 2)
    return "yuv444p" if odd else PIXELS.get(codec, "yuv420p")


def _options(options: Mapping[str, str] | None, crf: float | None) -> dict[str, str]:
    return {name: str(value) for name, value in (options or {}).items()} | ({} if crf is None else {"crf": str(crf)})


@contextmanager
def destination(dst: Any) -> Iterator[tuple[str, Any, str]]:
    """(name for messages, what av opens, suffix). A file is written under another name, then renamed."""
    if callable(getattr(dst, "write", None)):
        yield f"<{type(dst).__name__}>", dst, ""
        return
    if not isinstance(dst, str | os.PathLike):
        raise VideoError(f"cannot write to {dst!r:.80}", hint="give a path, or a file opened in binary mode")
    path = Path(os.fsdecode(dst))
    if not path.suffix or not path.parent.is_dir():
        raise VideoError(
            f"cannot write {path}",
            hint="give a path in an existing directory with a suffix such as .mp4",
            source=str(path),
        )
    part = path.with_name(f".{uuid.uuid4().hex}{path.suffix}")
    try:
        yield str(path), f"file:{part}", path.suffix[1:].lower()
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
