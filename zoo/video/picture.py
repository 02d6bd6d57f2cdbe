"""From a decoded frame to upright RGB of the wanted size, as it arrives, so that one full-size frame is in memory."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.video.reformatter import VideoReformatter

from zoo.errors import VideoDecodeError, VideoError, VideoLimitError
from zoo.spec import INTERPOLATIONS

Picture = npt.NDArray[np.uint8]
Size = int | tuple[int, int] | None
Shape = tuple[int, int]  # height, width

MOST_PIXELS = 1 << 28  # of a resized frame


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame: data uint8 [H, W, 3], its number in the video, when it is shown, in seconds."""

    data: Picture
    index: int
    time_s: float


@dataclass(frozen=True)
class Resize:
    """How frames are resized: what `read_frames` takes under the same names."""

    size: Size = None
    interpolation: str = "bilinear"
    antialias: bool = True

    def __post_init__(self) -> None:
        if self.interpolation not in INTERPOLATIONS:
            raise VideoError(f"interpolation={self.interpolation!r}", hint="choose one of " + ", ".join(INTERPOLATIONS))
        sides = (1, 1) if self.size is None else self.size if isinstance(self.size, tuple | list) else (self.size, 1)
        if len(sides) != 2 or not all(is_whole(side) for side in sides):
            raise VideoError(f"size={self.size!r:.80}", hint="size is the short side, or (height, width), in pixels")

    def target(self, height: int, width: int) -> Shape:
        """(height, width) that every frame of a video has whose first frame, upright, is so large."""
        if self.size is None:
            return height, width
        from zoo.video.transforms import output_size  # needs torch, and not every reader does

        rows, columns = target = output_size(height, width, self.size)
        if rows * columns > MOST_PIXELS:
            raise VideoLimitError(
                f"size={self.size!r} makes frames of {columns}x{rows} from those of {width}x{height}",
                hint=f"a frame may have {MOST_PIXELS} pixels: choose a smaller size",
                reason="size",
            )
        return target

    def apply(self, picture: Picture, target: Shape, index: int, name: str) -> Picture:
        if picture.shape[:2] == target:
            return picture
        if self.size is None:
            height, width = picture.shape[:2]
            reason = f"frame {index} is {width}x{height}, the first one was {target[1]}x{target[0]}"
            raise VideoDecodeError(f"{name}: {reason}", hint="pass size=(height, width)", source=name, reason=reason)
        from zoo.video.transforms import resize

        return resize(picture, target, self.interpolation, self.antialias)


def is_whole(value: Any, least: int = 1) -> bool:
    """Whether this is a whole number, from `least` on; one of NumPy too."""
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= least


class Converter:
    """Decoded frames to upright RGB. One for all frames of a decoder: av allocates a scaler for each, freed late.

    On one thread: more of them are slower up to 1080p, and gain little beyond; see tools/bench_convert.py.
    """

    def __init__(self) -> None:
        self.reformatter = VideoReformatter()

    def __call__(self, frame: av.VideoFrame) -> Picture:
        rgb: npt.NDArray[Any] = self.reformatter.reformat(frame, format="rgb24", threads=1).to_ndarray()
        return np.ascontiguousarray(np.rot90(rgb, quarter_turns(frame)))


def upright_shape(frame: av.VideoFrame) -> Shape:
    """(height, width) of a frame once it is turned upright."""
    return (frame.width, frame.height) if quarter_turns(frame) % 2 else (frame.height, frame.width)


def quarter_turns(frame: av.VideoFrame) -> int:
    """How often a frame has to be turned counter-clockwise to be upright; 0 for a broken display matrix."""
    return round(frame.rotation / 90) % 4 if abs(frame.rotation) <= 360 else 0
