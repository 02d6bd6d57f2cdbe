"""R(2+1)D with bottlenecks: each 3x3x3 convolution is one over time and one over space, with a ReLU between them.

Tran et al., "A Closer Look at Spatiotemporal Convolutions for Action Recognition", https://arxiv.org/abs/1711.11248

The 50-layer network of PyTorchVideo, under its keys. Its published builder ends in a softmax; this one gives logits.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from zoo_cnn.blocks import STAGES, BlockNet, Bottleneck, Head, ResBlock, ResStage, Stem, conv, depths, head_window


class Conv2plus1d(nn.Module):
    """3x1x1, norm, ReLU, 1x3x3, and the norm that follows."""

    FOLDS = (("conv_t", "norm"),)

    def __init__(self, channels: int, time_stride: int, stride: int) -> None:
        super().__init__()
        self.conv_t = conv(channels, channels, (3, 1, 1), (time_stride, 1, 1))
        self.norm = nn.BatchNorm3d(channels)
        self.conv_xy = conv(channels, channels, (1, 3, 3), (1, stride, stride))

    def forward(self, x: Tensor, norm: nn.Module | None = None) -> Tensor:
        return self.conv_xy(F.relu(self.conv_t(x, self.norm), inplace=True), norm)


class SplitBottleneck(Bottleneck):
    """A bottleneck around a Conv2plus1d."""

    FOLDS = (("conv_a", "norm_a"), ("conv_b.conv_xy", "norm_b"), ("conv_c", "norm_c"))


def split_stage(channels: int, inner: int, depth: int, time_stride: int, stride: int) -> ResStage:
    """Bottlenecks with split convolutions inside."""
    blocks = []
    for i in range(depth):
        step = (time_stride, stride, stride) if i == 0 else (1, 1, 1)
        branch = SplitBottleneck(channels, inner, 4 * inner, Conv2plus1d(inner, step[0], step[1]))
        blocks.append(ResBlock(branch, channels, 4 * inner, step))
        channels = 4 * inner
    return ResStage(blocks)


def r2plus1d(*, num_classes: int = 400, depth: int = 50, dropout: float = 0.5, head_pool: str = "window") -> BlockNet:
    """R(2+1)D with bottlenecks. head_pool: "window" as published, or "global". depth: 50, 101, or 10 for tests."""
    d2, d3, d4, d5 = depths(depth)
    blocks = [  # [B, 3, T, H, W]
        Stem(conv(3, 64, (1, 7, 7), (1, 2, 2)), 64, pool=False),  # [B, 64, T, H/2, W/2]
        split_stage(64, 64, d2, 1, 2),  # [B, 256, T, H/4, W/4]
        split_stage(256, 128, d3, 1, 2),  # [B, 512, T, H/8, W/8]
        split_stage(512, 256, d4, 2, 2),  # [B, 1024, T/2, H/16, W/16]
        split_stage(1024, 512, d5, 2, 2),  # [B, 2048, T/4, H/32, W/32]
        Head(2048, num_classes, head_window(head_pool, (4, 7, 7)), dropout),
    ]
    return BlockNet(blocks, STAGES, 2048, num_classes)
