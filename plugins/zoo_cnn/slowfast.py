"""SlowFast: few frames through a wide network for what is seen, many through a narrow one for how it moves.

Feichtenhofer et al., "SlowFast Networks for Video Recognition", https://arxiv.org/abs/1812.03982

Takes one clip like every model: the slow pathway picks its frames itself. Between stages a map is a pair (slow, fast).
What leaves the network is one map on the slow pathway's time steps, the fast one averaged over the frames of each
step: of that the head's windows have the same means as the published head, and it is a map like any other.

Keys and logits are those of PyTorchVideo's hub models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo_cnn.blocks import STAGES, BlockNet, Head, Stem, conv, depths, head_window
from zoo_cnn.options import one_of
from zoo_cnn.resnet3d import res_stage

Pair = tuple[Tensor, Tensor]
Kernels = tuple[tuple[int, ...], ...]
ALPHA = 4  # frames of the fast pathway for one of the slow
BETA = 8  # channels of the slow pathway for one of the fast


@dataclass(frozen=True)
class Variant:
    """frames: of the clip. fusion: time kernel between pathways. slow, fast: those of the blocks in each stage."""

    frames: int
    depth: int
    fusion: int
    slow: Kernels = ((1,), (1,), (3,), (3,))
    fast: Kernels = ((3,), (3,), (3,), (3,))


MIXED = (3,) * 6 + (1,) * 17
VARIANTS = {
    "slowfast_r50": Variant(32, 50, 7),
    "slowfast_r101": Variant(32, 101, 5),
    "slowfast_16x8_r101_50_50": Variant(64, 101, 5, slow=((1,), (1,), MIXED, (3,)), fast=((3,), (3,), MIXED, (3,))),
}


def slow_indices(frames: int, rule: str) -> list[int]:
    """Which of so many frames the slow pathway sees.

    "linspace": evenly from first to last, rounded down (0, 4, 8, 13, 17, 22, 26, 31 of 32), as PyTorchVideo and
    PySlowFast; in the float32 arithmetic of `torch.linspace`, which at some lengths is one frame off the exact result.
    "stride": every fourth.
    """
    if rule == "stride":
        return list(range(0, frames, ALPHA))
    count = frames // ALPHA
    if count == 1:
        return [0]
    last = np.float32(frames - 1)
    step = last / np.float32(count - 1)
    up = [int(step * np.float32(i)) for i in range(count // 2)]
    return up + [int(last - step * np.float32(count - 1 - i)) for i in range(count // 2, count)]


class FastToSlow(nn.Module):
    """The fast map, strided to the slow pathway's steps, beside the slow one."""

    FOLDS = (("conv_fast_to_slow", "norm"),)

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.conv_fast_to_slow = conv(channels, 2 * channels, (kernel, 1, 1), (ALPHA, 1, 1))
        self.norm = nn.BatchNorm3d(2 * channels)

    def forward(self, slow: Tensor, fast: Tensor) -> Pair:
        message = F.relu(self.conv_fast_to_slow(fast, self.norm), inplace=True)
        return torch.cat([slow, message], 1), fast


class Pathways(nn.Module):
    """One stage of both pathways, and what the fast one tells the slow one after it."""

    def __init__(self, slow: nn.Module, fast: nn.Module, fusion: nn.Module | None) -> None:
        super().__init__()
        self.multipathway_blocks = nn.ModuleList([slow, fast])
        self.multipathway_fusion = fusion

    def forward(self, pair: Pair) -> Pair:
        slow, fast = (block(x) for block, x in zip(self.multipathway_blocks, pair, strict=True))
        return self.multipathway_fusion(slow, fast) if self.multipathway_fusion is not None else (slow, fast)


class PathwaysStem(Pathways):
    """Makes two pathways out of one clip."""

    def __init__(self, slow: nn.Module, fast: nn.Module, fusion: nn.Module, rule: str) -> None:
        super().__init__(slow, fast, fusion)
        self.rule = rule

    def forward(self, clip: Tensor) -> Pair:
        indices = torch.tensor(slow_indices(clip.shape[2], self.rule), device=clip.device)
        return super().forward((clip.index_select(2, indices), clip))


class Join(nn.Module):
    """(slow, fast) as one map: the fast one averaged over the ALPHA frames of every slow step."""

    def forward(self, pair: Pair) -> Tensor:
        slow, fast = pair
        return torch.cat([slow, F.avg_pool3d(fast, (ALPHA, 1, 1))], 1)


class SlowFast(BlockNet):
    """SlowFast. The outputs of its stages are one map each: channels of the slow pathway, then of the fast."""

    def forward_intermediates(self, clip: Tensor, indices: Sequence[int] | int | None = None) -> list[Tensor]:
        join = Join()
        return [join(x) if isinstance(x, tuple) else x for x in super().forward_intermediates(clip, indices)]


def slowfast(
    *,
    variant: str,
    num_classes: int = 400,
    dropout: float = 0.5,
    head_pool: str = "window",
    slow_path: str = "linspace",
    depth: int | None = None,
) -> SlowFast:
    """SlowFast. slow_path: "linspace" as published, or "stride"; head_pool: "window" as published, or "global".

    depth: other than the variant's: 50, 101, or 10 for tests.
    """
    rule = one_of("slow_path", slow_path, ("linspace", "stride"))
    v = VARIANTS[one_of("variant", variant, VARIANTS)]
    blocks_of = depths(v.depth if depth is None else depth)

    def stage(i: int, channels: int, inner: int, stride: int) -> Pathways:
        slow = channels + 2 * (channels // BETA)
        pathways = (
            res_stage(slow, inner, blocks_of[i], v.slow[i], stride),
            res_stage(channels // BETA, inner // BETA, blocks_of[i], v.fast[i], stride),
        )
        return Pathways(*pathways, FastToSlow(4 * inner // BETA, v.fusion) if i < 3 else None)

    stem = PathwaysStem(
        Stem(conv(3, 64, (1, 7, 7), (1, 2, 2)), 64),
        Stem(conv(3, 8, (5, 7, 7), (1, 2, 2)), 8),
        FastToSlow(8, v.fusion),
        rule,
    )
    blocks = [  # [B, 3, T, H, W]; the slow pathway has T/4 frames
        stem,  # 64 + 16 | 8 channels, H/4
        stage(0, 64, 64, 1),  # 256 + 64 | 32
        stage(1, 256, 128, 2),  # 512 + 128 | 64, H/8
        stage(2, 512, 256, 2),  # 1024 + 256 | 128, H/16
        stage(3, 1024, 512, 2),  # 2048 | 256, H/32
        Join(),  # [B, 2304, T/4, H/32, W/32]
        Head(2304, num_classes, head_window(head_pool, (v.frames // ALPHA, 7, 7)), dropout),
    ]
    return SlowFast(blocks, [*STAGES, ""], 2304, num_classes)
