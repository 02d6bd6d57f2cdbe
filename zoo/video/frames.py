"""Frames by number, exactly: any order, repeats, every container.

Frames are converted to upright RGB and resized as they arrive, so that one full-size frame is in memory at a time.
"""

from __future__ import annotations

import operator
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.video.reformatter import VideoReformatter

from zoo.errors import VideoDecodeError, VideoError, VideoLimitError
from zoo.spec import INTERPOLATIONS
from zoo.video.decode import Decode, Decoded
from zoo.video.index import VideoIndex, probe, quarter_turns
from zoo.video.source import Limits, OpenVideo, open_video

Picture = npt.NDArray[np.uint8]
Size = int | tuple[int, int] | None


@dataclass(frozen=True)
class Report:
    """What reading took. errors: one sentence for each damaged packet or frame that was passed over."""

    n_packets: int
    n_decoded: int
    errors: tuple[str, ...] = ()

    @property
    def n_errors(self) -> int:
        return len(self.errors)


@dataclass(frozen=True, eq=False)
class Frames:
    """Some frames of a video: data uint8 [T, H, W, 3], upright RGB, contiguous; when each was shown, in seconds."""

    data: Picture
    indices: tuple[int, ...]
    time_s: tuple[float, ...]
    report: Report


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame: data uint8 [H, W, 3], its number in the video, when it is shown, in seconds."""

    data: Picture
    index: int
    time_s: float


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
    limits: Limits = Limits(),  # noqa: B008  frozen
) -> Frames:
    """The frames with these numbers, in this order.

    index: what `probe` said, if it is known. size: short side, or exactly (height, width); None keeps the size.
    interpolation, antialias: of the resize, equal to torchvision's v2 transforms on uint8.
    threads: at most this many; reading in sequence takes one.
    on_error: "raise" on damage before the last wanted frame; "skip" counts only the frames that can be decoded.
    A number that the video does not have raises VideoError.
    """
    wanted = _integers(indices)
    emit = _Emit(size, interpolation, antialias)
    strict = _strict(on_error)
    if wanted and (min(wanted) < 0 or (index is not None and max(wanted) >= index.n_frames)):
        known = index or probe(src, limits=limits)
        with open_video(src, limits) as video:
            raise _out_of_range(wanted, known.n_frames, video)
    rows: dict[int, list[int]] = {}
    for row, k in enumerate(wanted):
        rows.setdefault(k, []).append(row)
    last = max(wanted, default=0)  # without indices the first frame still tells the shape
    data: Picture | None = None
    time_s = [0.0] * len(wanted)
    with open_video(src, limits) as video:
        decode = Decode(video)
        stream = iter(decode)
        for decoded in stream:
            if strict and decode.damage:
                break
            if data is None:
                data = _allocate(len(wanted), emit.shape(decoded.frame), video)
            if here := rows.get(decoded.index):
                data[here] = emit(decoded, video)
                for row in here:
                    time_s[row] = decoded.time_s
            if decoded.index == last:
                break
        if data is None or (strict and decode.damage):
            raise decode.failure(stream)
        if decode.n_frames <= last:
            raise _out_of_range(wanted, decode.n_frames, video)
        report = Report(decode.n_packets, decode.n_frames, tuple(map(str, decode.damage)))
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

    With on_error="raise", damage raises when it is reached; the frames before it have been given.
    """
    if stride < 1 or start < 0:
        raise VideoError(f"stride={stride}, start={start}", hint="stride is at least 1 and start at least 0")
    return _iterate(src, stride, start, _Emit(size, interpolation, antialias), _strict(on_error), limits)


def _iterate(src: Any, stride: int, start: int, emit: _Emit, strict: bool, limits: Limits) -> Generator[Frame]:
    with open_video(src, limits) as video:
        decode = Decode(video)
        stream = iter(decode)
        for decoded in stream:
            if strict and decode.damage:
                break
            emit.shape(decoded.frame)
            if decoded.index >= start and (decoded.index - start) % stride == 0:
                yield Frame(emit(decoded, video), decoded.index, decoded.time_s)
        if not decode.n_frames or (strict and decode.damage):
            raise decode.failure(stream)


class _Emit:
    """From a decoded frame to upright RGB of the wanted size. The video's first frame decides what that size is."""

    def __init__(self, size: Size, interpolation: str, antialias: bool) -> None:
        if interpolation not in INTERPOLATIONS:
            raise VideoError(f"interpolation={interpolation!r}", hint="choose one of " + ", ".join(INTERPOLATIONS))
        self.size, self.interpolation, self.antialias = size, interpolation, antialias
        self.target: tuple[int, int] | None = None
        # One for all frames: av allocates a scaler for each, and gives them back late.
        self.reformatter = VideoReformatter()

    def shape(self, frame: av.VideoFrame) -> tuple[int, int]:
        """(height, width) of every frame that comes out."""
        if self.target is None:
            height, width = frame.height, frame.width
            if quarter_turns(frame) % 2:
                height, width = width, height
            if self.size is not None:
                from zoo.video.transforms import output_size  # needs torch, and not every reader does

                height, width = output_size(height, width, self.size)
            self.target = height, width
        return self.target

    def __call__(self, decoded: Decoded, video: OpenVideo) -> Picture:
        rgb: npt.NDArray[Any] = self.reformatter.reformat(decoded.frame, format="rgb24").to_ndarray()
        picture: Picture = np.ascontiguousarray(np.rot90(rgb, quarter_turns(decoded.frame)))
        target = self.shape(decoded.frame)
        if picture.shape[:2] == target:
            return picture
        if self.size is None:
            height, width = picture.shape[:2]
            reason = f"frame {decoded.index} is {width}x{height}, the first one was {target[1]}x{target[0]}"
            raise VideoDecodeError(
                f"{video.name}: {reason}", hint="pass size=(height, width)", source=video.name, reason=reason
            )
        from zoo.video.transforms import resize

        return resize(picture, target, self.interpolation, self.antialias)


def _allocate(count: int, shape: tuple[int, int], video: OpenVideo) -> Picture:
    try:
        return np.empty((count, *shape, 3), np.uint8)
    except MemoryError as error:
        raise VideoLimitError(
            f"{video.name}: {count} frames of {shape[1]}x{shape[0]} do not fit into memory",
            hint="pass size=..., ask for fewer, or use iter_frames",
            source=video.name,
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


def _out_of_range(wanted: list[int], n_frames: int, video: OpenVideo) -> VideoError:
    wrong = sorted({k for k in wanted if not 0 <= k < n_frames})
    which = ", ".join(map(str, wrong[:5])) + (", ..." if len(wrong) > 5 else "")
    said = f" (its header says {video.stream.frames})" if video.stream.frames > n_frames else ""
    return VideoError(
        f"{video.name} has {n_frames} frames{said}, there is no frame {which}",
        hint=f"indices go from 0 to {n_frames - 1}",
        source=video.name,
        reason="index out of range",
    )
