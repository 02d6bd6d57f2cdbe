"""C2D, I3D and Slow: one ResNet, and three ways to look along time.

C2D: Wang et al., "Non-local Neural Networks", https://arxiv.org/abs/1711.07971: not at all, but for pooling.
I3D: Carreira and Zisserman, "Quo Vadis, Action Recognition?", https://arxiv.org/abs/1705.07750: 3D kernels in
every other block, as the non-local paper has it for ResNets.
Slow: Feichtenhofer et al., "SlowFast Networks", https://arxiv.org/abs/1812.03982: the slow pathway alone, with 3D
kernels in the last two stages.

Keys and logits are those of PyTorchVideo's hub models.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from zoo_cnn.blocks import BlockNet, Bottleneck, Head, ResBlock, ResStage, Stem, conv, depths, head_window
from zoo_cnn.options import one_of

Kernels = tuple[int, ...]


@dataclass(frozen=True)
class Variant:
    """time_kernels: of the first convolution of the blocks in each stage, in turn. halve: pool over time after res2."""

    stem_kernel: int
    time_kernels: tuple[Kernels, Kernels, Kernels, Kernels]
    halve: bool
    window: tuple[int, int, int]


VARIANTS = {
    "c2d_r50": Variant(1, ((1,), (1,), (1,), (1,)), True, (4, 7, 7)),
    "i3d_r50": Variant(5, ((3,), (3, 1), (3, 1), (1, 3)), True, (4, 7, 7)),
    "slow_r50": Variant(1, ((1,), (1,), (3,), (3,)), False, (8, 7, 7)),
}


def res_stage(channels: int, inner: int, depth: int, time_kernels: Kernels, stride: int) -> ResStage:
    """Bottlenecks with 1x3x3 convolutions inside; the channels become four times `inner`."""
    blocks = []
    for i in range(depth):
        step = (1, stride, stride) if i == 0 else (1, 1, 1)
        inside = conv(inner, inner, (1, 3, 3), step)
        branch = Bottleneck(channels, inner, 4 * inner, inside, time_kernel=time_kernels[i % len(time_kernels)])
        blocks.append(ResBlock(branch, channels, 4 * inner, step))
        channels = 4 * inner
    return ResStage(blocks)


def resnet3d(
    *, variant: str, num_classes: int = 400, dropout: float = 0.5, head_pool: str = "window", depth: int = 50
) -> BlockNet:
    """C2D, I3D or Slow. head_pool: "window" as published, or "global". depth: 50, 101, or 10 for tests.

    Raises SpecError for an option that cannot be, as all builders of this family.
    """
    v = VARIANTS[one_of("variant", variant, VARIANTS)]
    d2, d3, d4, d5 = depths(depth)
    k2, k3, k4, k5 = v.time_kernels
    halve = [nn.MaxPool3d((2, 1, 1), (2, 1, 1))] if v.halve else []
    blocks = [  # [B, 3, T, H, W]
        Stem(conv(3, 64, (v.stem_kernel, 7, 7), (1, 2, 2)), 64),  # [B, 64, T, H/4, W/4]
        res_stage(64, 64, d2, k2, 1),  # [B, 256, T, H/4, W/4]
        *halve,  # from here on T/2 in C2D and I3D
        res_stage(256, 128, d3, k3, 2),  # [B, 512, T, H/8, W/8]
        res_stage(512, 256, d4, k4, 2),  # [B, 1024, T, H/16, W/16]
        res_stage(1024, 512, d5, k5, 2),  # [B, 2048, T, H/32, W/32]
        Head(2048, num_classes, head_window(head_pool, v.window), dropout),
    ]
    names = ["stem", "res2", *("" for _ in halve), "res3", "res4", "res5"]
    return BlockNet(blocks, names, 2048, num_classes)
