"""From frames to what a network sees, equal to torchvision's operations without importing torchvision.

Frames stay uint8 [T, H, W, C] until the end; the resize runs on them as they lie in memory (channels last), which is
several times faster than on planes.
"""

from __future__ import annotations

import platform
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from zoo.errors import SpecError, VideoError
from zoo.spec import INTERPOLATIONS, ROUNDINGS, Preprocessing

Box = tuple[int, int, int, int]  # top, left, height, width


def output_size(height: int, width: int, size: int | tuple[int, int] | None) -> tuple[int, int]:
    """(height, width) after a resize: an int is the short side, the long one is rounded down; None keeps the size."""
    if size is None:
        return height, width
    if isinstance(size, tuple | list):
        target = (size[0], size[1])
    else:
        long = int(size * max(height, width) / min(height, width))
        target = (size, long) if height <= width else (long, size)
    if min(target) < 1:
        raise SpecError(f"size={size!r}", hint="size is the short side, or (height, width), in pixels")
    return target


def resize(
    frames: npt.NDArray[np.uint8] | Tensor,
    size: int | tuple[int, int] | None,
    interpolation: str = "bilinear",
    antialias: bool = True,
) -> npt.NDArray[np.uint8]:
    """Resized uint8 frames [T, H, W, C], or one frame [H, W, C]; always an array, contiguous.

    Bit for bit what `torchvision.transforms.v2.functional.resize` gives for the same frames as [T, C, H, W].
    """
    if interpolation not in INTERPOLATIONS:
        raise SpecError(f"interpolation={interpolation!r}", hint="choose one of " + ", ".join(INTERPOLATIONS))
    pixels = _pixels(frames)
    before = (pixels.shape[-3], pixels.shape[-2])
    target = output_size(*before, size)
    if before == target or not pixels.numel():
        shape = (*pixels.shape[:-3], *target, pixels.shape[-1])
        return pixels.contiguous().reshape(shape).numpy()
    planes = pixels.reshape(-1, *pixels.shape[-3:]).permute(0, 3, 1, 2)  # [T, C, H, W], still channels last in memory
    planes = _interpolate(planes, target, interpolation, antialias)
    return planes.permute(0, 2, 3, 1).contiguous().reshape(*pixels.shape[:-3], *target, -1).numpy()


def _interpolate(planes: Tensor, target: tuple[int, int], mode: str, antialias: bool) -> Tensor:
    if mode == "nearest":
        return F.interpolate(planes, target, mode=mode)
    options: dict[str, Any] = {"mode": mode, "align_corners": False, "antialias": antialias}
    # The same pixels as from planes, except that torch 2.15 fails for planes made one pixel large.
    planes = planes.contiguous(memory_format=torch.channels_last)
    if mode == "bilinear" and not _native_uint8():
        return F.interpolate(planes.float(), target, **options).round_().to(torch.uint8)
    return F.interpolate(planes, target, **options)


def _native_uint8() -> bool:
    """Whether torchvision resizes uint8 bilinearly as uint8 on this machine, rather than as rounded floats."""
    return torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512") or platform.machine() in ("aarch64", "arm64")


def crop_boxes(
    height: int, width: int, crop: int | tuple[int, int] | None, crops: int = 1, rounding: str = "floor"
) -> list[Box]:
    """(top, left, height, width) of each crop: one in the centre, or three along the longer side.

    rounding: of half a pixel at the centre. "round" is torchvision's, to the even neighbour.
    """
    if crops not in (1, 3) or rounding not in ROUNDINGS:
        raise SpecError(f"crops={crops}, rounding={rounding!r}", hint=f"1 or 3, and one of {', '.join(ROUNDINGS)}")
    if crop is None:
        return [(0, 0, height, width)] * crops
    h, w = (crop, crop) if isinstance(crop, int) else crop
    if h > height or w > width:
        raise VideoError(
            f"a crop of {h}x{w} (height x width) does not fit into frames of {height}x{width}",
            hint="resize to at least that size first, or choose a smaller crop",
        )
    top, left = _half(height - h, rounding), _half(width - w, rounding)
    if crops == 1:
        return [(top, left, h, w)]
    if height > width:
        return [(y, left, h, w) for y in (0, top, height - h)]
    return [(top, x, h, w) for x in (0, left, width - w)]


def _half(free: int, rounding: str) -> int:
    return {"floor": free // 2, "round": round(free / 2), "ceil": -(-free // 2)}[rounding]


def to_clip(frames: npt.NDArray[np.uint8] | Tensor, preprocessing: Preprocessing, box: Box) -> Tensor:
    """float32 [C, T, H, W], contiguous, from uint8 frames [T, H, W, C]: cropped, scaled to 0..1, normalised."""
    top, left, height, width = box
    pixels = _pixels(frames)[:, top : top + height, left : left + width]
    clip = pixels.permute(3, 0, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
    mean, std = (torch.tensor(v).view(3, 1, 1, 1) for v in (preprocessing.mean, preprocessing.std))
    return clip.div_(255).sub_(mean).div_(std)


def _pixels(frames: npt.NDArray[np.uint8] | Tensor) -> Tensor:
    if isinstance(frames, np.ndarray):
        # torch takes neither negative strides nor, without a warning, memory that may not be written
        frames = torch.from_numpy(np.require(frames, requirements=("C", "W")))
    if frames.dtype != torch.uint8 or frames.ndim not in (3, 4):
        raise VideoError(
            f"frames of {frames.dtype} with shape {tuple(frames.shape)}",
            hint="frames are uint8 [T, H, W, C] with values 0..255",
        )
    return frames.cpu()
