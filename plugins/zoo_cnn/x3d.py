"""X3D: a tiny 2D network grown along one axis at a time (frames, rate, size, width, depth) as long as it pays.

Feichtenhofer, "X3D: Expanding Architectures for Efficient Video Recognition", https://arxiv.org/abs/2004.04730

Two networks are published under this name. They differ in one layer: the first shortcut keeps its 24 channels, and
PyTorchVideo's hub models leave out the norm there (`shortcut_norm="changing"`, 3,794,274 parameters for S), while
PySlowFast has it as everywhere (`"always"`, 3,794,322). Weights of one are of no use in the other.
Sizes XS, S and M are one network for other clips: they differ in the window of the head, which has no weights, so that
files of one load into the others without a word. L is deeper.
Keys are those of the hub models. Those publish probabilities; this one gives logits.
"""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor, nn

from zoo.errors import SpecError
from zoo_cnn.blocks import (
    STAGES,
    BlockNet,
    Bottleneck,
    Conv3d,
    Head,
    ResBlock,
    ResStage,
    Stem,
    conv,
    head_window,
    pool_windows,
)
from zoo_cnn.options import one_of, whole

WIDTHS = (24, 48, 96, 192)
INNER = (54, 108, 216, 432)  # 2.25 times the width
SQUEEZED = (8, 8, 16, 32)  # a sixteenth of the inner channels, in steps of eight
DEPTHS = (1, 2, 5, 3)  # times depth_factor


class StemConv(nn.Module):
    """1x3x3 over the picture, then 5x1x1 over time in each channel.

    The published names are swapped: `conv_t` is the one over the picture. They are kept, as files have them.
    """

    def __init__(self, out: int) -> None:
        super().__init__()
        self.conv_t = conv(3, out, (1, 3, 3), (1, 2, 2))
        self.conv_xy = conv(out, out, (5, 1, 1), groups=out)

    def forward(self, x: Tensor, norm: nn.Module | None = None) -> Tensor:
        return self.conv_xy(self.conv_t(x), norm)


class X3DStem(Stem):
    FOLDS = (("conv.conv_xy", "norm"),)


class SqueezeExcite(nn.Module):
    """Every channel times a factor that depends on the means of all channels."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            Conv3d(channels, squeezed, 1), nn.ReLU(inplace=True), Conv3d(squeezed, channels, 1), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * self.block(x.mean((2, 3, 4), keepdim=True))


class X3DBottleneck(Bottleneck):
    """A bottleneck whose `norm_b` is a norm and what comes after it."""

    FOLDS = (("conv_a", "norm_a"), ("conv_b", "norm_b.0"), ("conv_c", "norm_c"))

    def inside(self, x: Tensor) -> Tensor:
        norm, excite = self.norm_b
        return excite(self.conv_b(x, norm))


class ProjectedPool(nn.Module):
    """1x1x1 convolution, norm, ReLU, window means, 1x1x1 convolution, ReLU."""

    FOLDS = (("pre_conv", "pre_norm"),)

    def __init__(self, channels: int, inner: int, out: int, window: tuple[int, int, int] | None) -> None:
        super().__init__()
        self.pre_conv = conv(channels, inner, (1, 1, 1))
        self.pre_norm = nn.BatchNorm3d(inner)
        self.post_conv = conv(inner, out, (1, 1, 1))
        self.window = window

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.pre_conv(x, self.pre_norm), inplace=True)
        return F.relu(self.post_conv(pool_windows(x, self.window)), inplace=True)


class X3DHead(Head):
    """A head with a projection on both sides of its pooling."""

    def __init__(self, num_classes: int, window: tuple[int, int, int] | None, dropout: float) -> None:
        super().__init__(2048, num_classes, window, dropout)
        self.pool = ProjectedPool(WIDTHS[-1], INNER[-1], 2048, window)

    def pre_logits(self, maps: Tensor) -> Tensor:
        return self.pool(maps).mean((2, 3, 4))


def x3d_stage(channels: int, inner: int, out: int, squeezed: int, depth: int, shortcut_norm: str) -> ResStage:
    """Depthwise bottlenecks; every other one squeezes and excites."""
    blocks = []
    for i in range(depth):
        step = (1, 2, 2) if i == 0 else (1, 1, 1)
        inside = conv(inner, inner, (3, 3, 3), step, groups=inner)
        excite = nn.Identity() if i % 2 else SqueezeExcite(inner, squeezed)
        norm_b = nn.Sequential(nn.BatchNorm3d(inner), excite)
        branch = X3DBottleneck(channels, inner, out, inside, norm_b=norm_b, act_b=F.silu)
        norm = shortcut_norm == "always" or channels != out
        blocks.append(ResBlock(branch, channels, out, step, norm=norm))
        channels = out
    return ResStage(blocks)


def x3d(
    *,
    frames: int,
    crop: int,
    num_classes: int = 400,
    depth_factor: float = 2.2,
    dropout: float = 0.5,
    shortcut_norm: str = "changing",
    head_pool: str = "window",
) -> BlockNet:
    """X3D. frames, crop: of the clips it was trained with, which make the window of the head.

    head_pool: "window" as published, or "global". shortcut_norm: see the top of this file.
    """
    one_of("shortcut_norm", shortcut_norm, ("changing", "always"))
    if isinstance(depth_factor, bool) or not isinstance(depth_factor, int | float) or not 0 < depth_factor < 100:
        raise SpecError(f"depth_factor={depth_factor!r:.80}", hint="it is a number above 0, such as 2.2 or 5")
    frames, side = whole("frames", frames), math.ceil(whole("crop", crop) / 32)
    channels, stages = WIDTHS[0], []
    for width, inner, squeezed, depth in zip(WIDTHS, INNER, SQUEEZED, DEPTHS, strict=True):
        stages.append(x3d_stage(channels, inner, width, squeezed, math.ceil(depth * depth_factor), shortcut_norm))
        channels = width
    blocks = [  # [B, 3, T, H, W]
        X3DStem(StemConv(WIDTHS[0]), WIDTHS[0], pool=False),  # [B, 24, T, H/2, W/2]
        *stages,  # [B, 24, T, H/4, W/4], then 48, 96 and 192 channels, T never shrinks, H and W by 8, 16 and 32
        X3DHead(num_classes, head_window(head_pool, (frames, side, side)), dropout),
    ]
    return BlockNet(blocks, STAGES, WIDTHS[-1], num_classes)
