"""CSN: a ResNet whose 3x3x3 convolutions work on each channel alone; only 1x1x1 convolutions mix channels.

Tran et al., "Video Classification with Channel-Separated Convolutional Networks", https://arxiv.org/abs/1904.02811

The interaction-reduced form (ir-CSN). Keys and logits are those of PyTorchVideo's hub model.
"""

from __future__ import annotations

from zoo_cnn.blocks import STAGES, BlockNet, Bottleneck, Head, ResBlock, ResStage, Stem, conv, depths, head_window


def csn_stage(channels: int, inner: int, depth: int, stride: int) -> ResStage:
    """Bottlenecks with depthwise 3x3x3 convolutions inside; stride is over time and space."""
    blocks = []
    for i in range(depth):
        step = (stride, stride, stride) if i == 0 else (1, 1, 1)
        inside = conv(inner, inner, (3, 3, 3), step, groups=inner)
        blocks.append(ResBlock(Bottleneck(channels, inner, 4 * inner, inside), channels, 4 * inner, step))
        channels = 4 * inner
    return ResStage(blocks)


def csn(*, num_classes: int = 400, depth: int = 101, dropout: float = 0.0, head_pool: str = "window") -> BlockNet:
    """ir-CSN. head_pool: "window" as published, or "global". depth: 50, 101, or 10 for tests."""
    d2, d3, d4, d5 = depths(depth)
    blocks = [  # [B, 3, T, H, W]
        Stem(conv(3, 64, (3, 7, 7), (1, 2, 2)), 64),  # [B, 64, T, H/4, W/4]
        csn_stage(64, 64, d2, 1),  # [B, 256, T, H/4, W/4]
        csn_stage(256, 128, d3, 2),  # [B, 512, T/2, H/8, W/8]
        csn_stage(512, 256, d4, 2),  # [B, 1024, T/4, H/16, W/16]
        csn_stage(1024, 512, d5, 2),  # [B, 2048, T/8, H/32, W/32]
        Head(2048, num_classes, head_window(head_pool, (4, 7, 7)), dropout),
    ]
    return BlockNet(blocks, STAGES, 2048, num_classes)
