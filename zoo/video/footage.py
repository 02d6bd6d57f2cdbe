"""Whatever a user hands over as a video, behind one face: its times, and the frames asked for."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from zoo.errors import VideoDecodeError, VideoError
from zoo.spec import Preprocessing
from zoo.video.picture import Frame
from zoo.video.url import Url

if TYPE_CHECKING:
    from zoo.video.source import Limits

Result = TypeVar("Result")
Pixels = NDArray[np.uint8]
LEAST_FPS, MOST_FPS = 1e-3, 1e6


class Footage(Protocol):
    """`time_s` has one entry per frame, in seconds from the first."""

    name: str
    time_s: Sequence[float]
    duration_s: float
    fps: float

    def frames(self, wanted: Sequence[int], preprocessing: Preprocessing) -> Iterator[Frame]:
        """The wanted frames, given as sorted and different numbers, resized as the protocol says; uint8 `[H, W, 3]`."""
        ...


def open_footage(
    video: Any,
    *,
    fps: float | None = None,
    limits: Limits | None = None,
    isolate: bool = False,
    threads: int | None = None,
) -> Footage:
    """One video: a path, bytes, a Url, a binary file object, uint8 frames `[T, H, W, 3]` or a list of images.

    fps: frames per second of an array or a list of images, which do not know it. Raises VideoError.
    limits, isolate: of reading a file, as `probe` takes them; None is the usual limits. threads: of its decoder.
    """
    if is_file(video):
        return _File(video, limits, isolate, threads)
    frames, name = _as_array(video)
    if not isinstance(fps, Real) or not LEAST_FPS <= fps <= MOST_FPS:
        raise VideoError(f"{name} has no frame rate of its own, and fps={fps!r}", hint="pass fps=30, or what it is")
    return _Array(frames, name, float(fps))


def is_file(video: Any) -> bool:
    """Whether this is a container to be decoded, rather than frames."""
    return isinstance(video, (str, os.PathLike, bytes, bytearray, memoryview, Url)) or hasattr(video, "read")


def is_several(video: Any) -> bool:
    """Whether this is a list or an iterator of videos, rather than one video. A list of images is one video."""
    if isinstance(video, Iterator):
        return not hasattr(video, "read")
    return isinstance(video, (list, tuple)) and not (video and _is_image(video[0]))


def name_of(video: Any) -> str:
    """What to call a video in results and messages: a path as it was given."""
    if isinstance(video, (str, os.PathLike)):
        return os.fspath(video)
    if isinstance(video, (bytes, bytearray, memoryview)):
        return "<bytes>"
    if isinstance(video, Url):
        return video.name
    if hasattr(video, "read"):
        return str(getattr(video, "name", "<file>"))
    return "<images>" if isinstance(video, (list, tuple)) else "<array>"


class Recounted(VideoDecodeError):
    """The table of a file was wrong, as reading it has shown: its times are others now, and frames too."""

    def __init__(self, name: str) -> None:
        reason = "its packets are not its frames, which were counted now"
        super().__init__(f"{name}: {reason}", hint="read it once more", source=name, reason=reason)


def settled(make: Callable[[], Result]) -> Result:
    """What `make` makes of some footage; made again if the footage was recounted meanwhile."""
    try:
        return make()
    except Recounted:  # now every frame is known from decoding, so that this cannot happen again
        return make()


class _File:
    def __init__(self, source: Any, limits: Limits | None, isolate: bool, threads: int | None) -> None:
        from zoo.video.source import Limits

        self.name = name_of(source)
        self._source, self._isolate, self._threads, self._started = source, isolate, threads, time.monotonic()
        self._limits = Limits() if limits is None else limits
        self._count(exact=False)

    def _count(self, exact: bool) -> None:
        from zoo.video.index import index_of

        self._index = index = index_of(self._source, exact, self._limits, self._started, self._isolate)
        self.time_s: Sequence[float] = index.time_s
        self.duration_s, self.fps = index.duration_s, index.fps_mean

    def frames(self, wanted: Sequence[int], preprocessing: Preprocessing) -> Iterator[Frame]:
        from zoo.video.picture import Resize
        from zoo.video.select import selection_of

        p = preprocessing
        selection = selection_of(
            self._isolate,
            self._source,
            wanted,
            Resize(p.resize, p.interpolation, p.antialias),
            index=self._index,
            threads=self._threads,
            limits=self._limits,
            started=self._started,
        )
        for frame in selection:
            if self._index.trusted and selection.path != "fast":
                self._count(exact=True)
                raise Recounted(self.name)
            yield frame


class _Array:
    def __init__(self, frames: Pixels, name: str, fps: float) -> None:
        self.name, self.fps, self._frames = name, fps, frames
        self.time_s: Sequence[float] = [i / fps for i in range(len(frames))]
        self.duration_s = len(frames) / fps

    def frames(self, wanted: Sequence[int], preprocessing: Preprocessing) -> Iterator[Frame]:
        from zoo.video.transforms import resize

        for i in wanted:
            frame = self._frames[i]
            if preprocessing.resize is not None:
                frame = resize(frame, preprocessing.resize, preprocessing.interpolation, preprocessing.antialias)
            yield Frame(frame, i, self.time_s[i])


def _is_image(item: Any) -> bool:
    return hasattr(item, "getbands") or getattr(item, "ndim", None) in (2, 3)


def _as_array(video: Any) -> tuple[Pixels, str]:
    name = name_of(video)
    if isinstance(video, (list, tuple)):
        video = _stack(video, name)
    if not hasattr(video, "__array__"):
        raise VideoError(
            f"a {type(video).__name__} is not a video", hint="give a path, bytes, a binary file, uint8 frames or images"
        )
    array = np.asarray(video.detach().cpu() if hasattr(video, "detach") else video)
    name = f"{name} of shape {array.shape} and type {array.dtype}"
    if array.dtype != np.uint8:
        raise VideoError(f"{name} is not a video", hint="frames are uint8, 0..255; zoo normalises them itself")
    if array.ndim != 4 or array.shape[3] != 3 or 0 in array.shape:
        channels_first = array.ndim == 4 and array.shape[1] == 3
        hint = "use video.permute(0, 2, 3, 1)" if channels_first else "frames are RGB, [T, H, W, 3], at least one"
        raise VideoError(f"{name} is not a video", hint=hint)
    return array, name


def _stack(images: Iterable[Any], name: str) -> Pixels:
    try:
        arrays = [np.asarray(im.convert("RGB") if hasattr(im, "convert") else im) for im in images]
    except (OSError, ValueError) as error:  # pictures are decoded only now
        raise VideoError(f"{name}: a picture cannot be decoded: {error}", hint="leave it out") from error
    if not arrays:
        raise VideoError(f"{name}: there are none", hint="give at least one image")
    if len(shapes := {a.shape for a in arrays}) > 1:
        raise VideoError(f"{name} have different shapes: {sorted(shapes)[:3]}", hint="give images of one size")
    return np.stack(arrays)
