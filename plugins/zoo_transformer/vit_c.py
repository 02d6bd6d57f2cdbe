"""ViT_C for video: a small transformer whose patches are made by a few convolutions, so that it learns from scratch.

Xiao et al., "Early Convolutions Help Transformers See Better", https://arxiv.org/abs/2106.14881
Tran et al., "A Closer Look at Spatiotemporal Convolutions for Action Recognition", https://arxiv.org/abs/1711.11248

The paper replaces the one layer that makes patches by convolutions of stride two. Here each of these is followed by one
over time: what moves is seen between neighbouring pixels, and a token says how its part of the picture moves. Positions
are learned for one clip size and nothing stretches them: others raise.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parameter import Parameter

import zoo
from zoo_transformer.layers import Block, GridModel, initialise, new_head

EPS = 1e-6


class Level(nn.Module):
    """A convolution that halves the picture, one over three frames, and a strided shortcut."""

    def __init__(self, channels: int, out: int, kernel: int) -> None:
        super().__init__()
        self.space = nn.Conv3d(channels, out, (1, kernel, kernel), (1, 2, 2), (0, kernel // 2, kernel // 2), bias=False)
        self.space_norm = nn.BatchNorm3d(out)
        self.time = nn.Conv3d(out, out, (3, 1, 1), 1, (1, 0, 0), bias=False)
        self.time_norm = nn.BatchNorm3d(out)
        self.shortcut = nn.Sequential(nn.Conv3d(channels, out, 1, (1, 2, 2), bias=False), nn.BatchNorm3d(out))

    def forward(self, x: Tensor) -> Tensor:
        maps = F.relu(self.space_norm(self.space(x)))
        return F.relu(self.time_norm(self.time(maps)) + self.shortcut(x))


class Tokens(nn.Module):
    """Levels, and where each token is: `[B, 3, T, H, W]` to `[B, T, H', W', D]`."""

    def __init__(self, widths: Sequence[int], grid: tuple[int, int, int]) -> None:
        super().__init__()
        channels = [3, *widths]
        self.levels = nn.Sequential(
            *(Level(a, b, 3 if i else 5) for i, (a, b) in enumerate(zip(channels, widths, strict=False)))
        )
        self.place = Parameter(nn.init.normal_(Tensor(*grid, widths[-1]), std=0.02))
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, clip: Tensor) -> Tensor:
        tokens: Tensor = self.levels(clip).movedim(1, -1) + self.place
        return tokens


class ViTC(GridModel):
    """The network; the head sees the normed mean of the tokens.

    widths: channels of the levels, each half the size of the one before; the last is that of the tokens. depth, heads,
    hidden: of the transformer.
    """

    def __init__(
        self,
        *,
        num_classes: int = 9,
        widths: Sequence[int] = (16, 32, 64, 96),
        depth: int = 4,
        heads: int = 4,
        hidden: int = 192,
        num_frames: int = 8,
        image_size: int = 64,
    ) -> None:
        super().__init__()
        stride = 2 ** len(widths)
        if image_size % stride or widths[-1] % heads:
            raise ValueError(f"image_size={image_size} has to be a multiple of {stride}, {widths[-1]} of heads={heads}")
        self.geometry = zoo.Geometry(frames=num_frames, size=(image_size, image_size))
        self.num_features = dim = widths[-1]
        self.num_classes = num_classes
        self.blocks = nn.ModuleList(Block(dim, heads, hidden, eps=EPS) for _ in range(depth))
        self.norm = nn.LayerNorm(dim, eps=EPS)
        self.head: nn.Module = new_head(self, dim, num_classes)
        initialise(self)
        self.tokens = Tokens(widths, (num_frames, image_size // stride, image_size // stride))

    def stages(self) -> dict[str, nn.Module]:
        blocks = {f"block{i}": block for i, block in enumerate(self.blocks, 1)}
        return {"tokens": self.tokens, **blocks, "norm": self.norm}

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """features: maps `[B, D, T, H', W']`."""
        pooled = features.mean((2, 3, 4))
        return pooled if pre_logits else self.head(pooled)  # type: ignore[no-any-return]

    def reset_classifier(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self.head = new_head(self, self.num_features, num_classes)
