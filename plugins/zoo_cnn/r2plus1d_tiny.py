"""A small (2+1)D residual network: every 3-D convolution is a 2-D one over space, then a 1-D one over time.

Paper: A Closer Look at Spatiotemporal Convolutions for Action Recognition, https://arxiv.org/abs/1711.11248
Ours, made for questions about motion rather than about things: it starts narrow, keeps every frame until the maps are
an eighth of the clip's size, and ends with a mean over time and space. Any clip from 8x8 pixels runs through it; the
weights are trained on 8 frames of 64x64.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from zoo import VideoModel
from zoo_cnn.options import dropped, several


def conv2plus1d(inputs: int, outputs: int, *, kernel: int = 3, stride: int = 1, time_stride: int = 1) -> nn.Sequential:
    """kernel x kernel over space, then 3 over time, with norm and ReLU between and a norm at the end."""
    pad = kernel // 2
    return nn.Sequential(
        nn.Conv3d(inputs, outputs, (1, kernel, kernel), (1, stride, stride), (0, pad, pad), bias=False),
        nn.BatchNorm3d(outputs),
        nn.ReLU(inplace=True),
        nn.Conv3d(outputs, outputs, (3, 1, 1), (time_stride, 1, 1), (1, 0, 0), bias=False),
        nn.BatchNorm3d(outputs),
    )


class Block(nn.Module):
    """Two (2+1)D convolutions and a shortcut, which is a strided 1x1x1 where the shape changes."""

    def __init__(self, inputs: int, outputs: int, *, stride: int, time_stride: int) -> None:
        super().__init__()
        self.conv1 = conv2plus1d(inputs, outputs, stride=stride, time_stride=time_stride)
        self.conv2 = conv2plus1d(outputs, outputs)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut: nn.Module = nn.Identity()
        if inputs != outputs or stride > 1 or time_stride > 1:
            strides = (time_stride, stride, stride)
            self.shortcut = nn.Sequential(nn.Conv3d(inputs, outputs, 1, strides, bias=False), nn.BatchNorm3d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.conv2(self.relu(self.conv1(x))) + self.shortcut(x))  # type: ignore[no-any-return]


class R2Plus1dTiny(VideoModel):
    """Stem, a block between each two widths (the first two keep every frame, the rest halve time), mean, linear."""

    def __init__(self, *, num_classes: int, widths: Sequence[int], dropout: float) -> None:
        super().__init__()
        stem, *rest = widths
        self.stem = nn.Sequential(
            conv2plus1d(3, stem, kernel=5, stride=2), nn.ReLU(inplace=True)
        )  # (B, 3, T, H, W) -> (B, stem, T, H/2, W/2)
        blocks = []
        for i, (inputs, outputs) in enumerate(zip(widths, rest, strict=False)):
            blocks.append(Block(inputs, outputs, stride=2, time_stride=1 if i < 2 else 2))
        self.blocks = nn.ModuleList(blocks)  # (B, 32, T, H/4, W/4), (B, 64, T, H/8, W/8), (B, 128, T/2, H/16, W/16)
        self.num_features = widths[-1]
        self.dropout = nn.Dropout(dropout)
        self.num_classes = num_classes
        self.head: nn.Module = nn.Identity()
        self.reset_classifier(num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def stages(self) -> dict[str, nn.Module]:
        return {"stem": self.stem, **{f"block{i}": block for i, block in enumerate(self.blocks, 1)}}

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        pooled = features.mean((2, 3, 4))  # (B, C, T', H', W') -> (B, C)
        return pooled if pre_logits else self.head(self.dropout(pooled))  # type: ignore[no-any-return]

    def reset_classifier(self, num_classes: int) -> None:
        self.num_classes = num_classes
        like = self.stem[0][0].weight
        self.head = nn.Identity()
        if num_classes:
            self.head = nn.Linear(self.num_features, num_classes, device=like.device, dtype=like.dtype)


def r2plus1d_tiny(
    *, num_classes: int = 9, widths: Sequence[int] = (16, 32, 64, 128), dropout: float = 0.1
) -> R2Plus1dTiny:
    """The network. widths: channels of the stem and of every block."""
    return R2Plus1dTiny(num_classes=num_classes, widths=several("widths", widths), dropout=dropped(dropout))
