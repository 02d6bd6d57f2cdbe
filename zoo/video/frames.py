"""Frames by number, exactly: any order, repeats, every container.

Frames are converted to upright RGB and resized as they arrive, so that one full-size frame is in memory at a time.
"""

from __future__ import annotations

import operator
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from zoo.errors import VideoError, VideoLimitError
from zoo.video.decode import Decode
from zoo.video.index import VideoIndex
from zoo.video.picture import Converter, Frame, Picture, Resize, Shape, Size, is_whole, upright_shape
from zoo.video.select import selection_of
from zoo.video.source import Limits, name_of, open_video


@dataclass(frozen=True)
class Report:
    """What reading took.

    path: "fast" if only the needed groups of pictures were decoded; else "sequential", and `why`.
    n_packets: given to the decoder. n_decoded: frames that came out of it.
    n_errors: damaged packets and frames that were passed over. errors: a sentence for each of the first thousand.
    """

    n_packets: int
    n_decoded: int
    errors: tuple[str, ...] = ()
    path: str = "sequential"
    why: str | None = None
    n_errors: int = 0


@dataclass(frozen=True, eq=False)
class Frames:
    """Some frames of a video: data uint8 [T, H, W, 3], upright RGB, contiguous; when each was shown, in seconds."""

    data: Picture
    indices: tuple[int, ...]
    time_s: tuple[float, ...]
    report: Report


def read_frames(
    src: Any,
    indices: Iterable[int],
    *,
    index: VideoIndex | None = None,
    size: Size = None,
    interpolation: str = "bilinear",
    antialias: bool = True,
    threads: int | None = None,
    on_error: str = "raise",
    isolate: bool = False,
    limits: Limits = Limits(),  # noqa: B008  frozen
    _force_sequential: bool = False,
) -> Frames:
    """The frames with these numbers, in this order.

    index: what `probe` said, if it is known; that of a path is remembered, that of bytes or a file object is not.
    size: short side, or exactly (height, width); None keeps the size.
    interpolation, antialias: of the resize, equal to torchvision's v2 transforms on uint8.
    threads: at most this many; None is up to four, and one in the workers of a DataLoader. Reading in order takes one.
    on_error: "raise" on damage that a wanted frame may have to do with; "skip" counts only the frames that can be
    decoded, for which all before them have to be.
    isolate: decode in a child process with limits, for files from strangers: even its crash is a VideoError.
    A number that the video does not have raises VideoError.
    """
    wanted = _integers(indices)
    rows: dict[int, list[int]] = {}
    for row, k in enumerate(wanted):
        rows.setdefault(k, []).append(row)
    selection = selection_of(
        isolate,
        src,
        sorted(rows),
        Resize(size, interpolation, antialias),
        index=index,
        threads=threads,
        strict=_strict(on_error),
        limits=limits,
        sequential=_force_sequential,
    )
    data: Picture | None = None
    time_s = [0.0] * len(wanted)
    for frame in selection:
        if data is None or data.shape[1:3] != selection.shape:
            data = _allocate(len(wanted), frame.data.shape[:2], src)
        here = rows[frame.index]
        data[here] = frame.data
        for row in here:
            time_s[row] = frame.time_s
    if data is None:
        assert selection.shape is not None
        data = _allocate(0, selection.shape, src)
    report = Report(
        selection.n_packets,
        selection.n_decoded,
        selection.errors,
        path=selection.path,
        why=selection.why,
        n_errors=selection.n_errors,
    )
    return Frames(data, tuple(wanted), tuple(time_s), report)


def iter_frames(
    src: Any,
    *,
    stride: int = 1,
    start: int = 0,
    size: Size = None,
    interpolation: str = "bilinear",
    antialias: bool = True,
    on_error: str = "raise",
    limits: Limits = Limits(),  # noqa: B008  frozen
) -> Generator[Frame]:
    """Every `stride`-th frame from frame `start` on, one at a time. Closing the generator closes the video.

    src: also what can be read only once: a pipe, `sys.stdin.buffer`, a socket's file, `open_device(...)`. In such an
    mp4 the table has to come first (ffmpeg's `-movflags +faststart`); mkv, webm, ts and raw h264 always work.
    With on_error="raise", damage raises when it is reached; the frames before it have been given.
    """
    if not is_whole(stride) or not is_whole(start, 0):
        raise VideoError(f"stride={stride!r}, start={start!r}", hint="whole numbers, stride from 1 and start from 0 on")
    return _iterate(src, stride, start, Resize(size, interpolation, antialias), _strict(on_error), limits)


def _iterate(src: Any, stride: int, start: int, resize: Resize, strict: bool, limits: Limits) -> Generator[Frame]:
    with open_video(src, limits, live=True) as video:
        decode, convert = Decode(video), Converter()
        stream = iter(decode)
        shape: Shape | None = None
        for decoded in stream:
            if strict and decode.damage:
                break
            shape = shape or resize.target(*upright_shape(decoded.frame))
            if decoded.index >= start and (decoded.index - start) % stride == 0:
                picture = resize.apply(convert(decoded.frame), shape, decoded.index, video.name)
                yield Frame(picture, decoded.index, decoded.time_s)
        if not decode.n_frames or (strict and decode.damage):
            raise decode.failure(stream)


def _allocate(count: int, shape: Shape, src: Any) -> Picture:
    try:
        return np.empty((count, *shape, 3), np.uint8)
    except MemoryError as error:
        raise VideoLimitError(
            f"{name_of(src)}: {count} frames of {shape[1]}x{shape[0]} do not fit into memory",
            hint="pass size=..., ask for fewer, or use iter_frames",
            source=name_of(src),
            reason="memory",
        ) from error


def _integers(indices: Iterable[int]) -> list[int]:
    try:
        return [operator.index(i) for i in indices]
    except TypeError as error:
        raise VideoError(f"indices={indices!r:.80}", hint="indices are whole numbers, such as [0, 8, 16]") from error


def _strict(on_error: str) -> bool:
    if on_error not in ("raise", "skip"):
        raise VideoError(f"on_error={on_error!r}", hint="choose 'raise' or 'skip'")
    return on_error == "raise"
