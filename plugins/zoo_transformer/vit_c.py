"""ViT_C for video: a small transformer whose patches are made by a few convolutions, so that it learns from scratch.

Xiao et al., "Early Convolutions Help Transformers See Better", https://arxiv.org/abs/2106.14881

As there, a few strided convolutions and a last one of one pixel take the place of the layer that makes patches. The
first of them sees all frames of a tube at once, as that layer does in ViViT, so that it answers to how things move.
Positions are learned for one clip size and nothing stretches them: others raise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

import zoo
from zoo.errors import GeometryError, SpecError
from zoo_transformer.layers import Block, GridModel

EPS = 1e-6


class Tokens(nn.Module):
    """Convolutions, and where each token is: `[B, 3, T, H, W]` to `[B, T / tube, H', W', D]`."""

    def __init__(self, widths: Sequence[int], strides: Sequence[int], tube: int, grid: tuple[int, int, int]) -> None:
        super().__init__()
        self.tube = tube
        layers: list[nn.Module] = []
        channels = 3 * tube
        for i, (width, stride) in enumerate(zip(widths, strides, strict=True)):
            kernel = 3 if i else 5
            conv = nn.Conv2d(channels, width, kernel, stride, kernel // 2, bias=False)
            layers += [conv, nn.BatchNorm2d(width), nn.ReLU()]
            channels = width
        self.convs = nn.Sequential(*layers, nn.Conv2d(channels, channels, 1))
        self.place = nn.Parameter(nn.init.normal_(torch.empty(*grid, channels), std=0.02))
        for module in self.convs:
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, clip: Tensor) -> Tensor:
        tubes = clip.unflatten(2, (-1, self.tube)).transpose(1, 2)  # [B, T', 3, tube, H, W]
        maps = self.convs(tubes.flatten(2, 3).flatten(0, 1))  # [B * T', D, H', W']
        grid = maps.unflatten(0, tubes.shape[:2]).movedim(2, -1)
        if grid.shape[1:] != self.place.shape:
            wanted, got = (tuple(shape[:3]) for shape in (self.place.shape, grid.shape[1:]))
            raise GeometryError(f"positions for {wanted} tokens, got {got}", hint="a clip of the size it is built for")
        return grid + self.place


class ViTC(GridModel):
    """The network; the head sees the normed mean of the tokens.

    widths, strides: of the convolutions; the last width is that of the tokens. tube: frames that the first convolution
    sees at once. depth, heads, hidden: of the transformer.
    """

    def __init__(
        self,
        *,
        num_classes: int = 9,
        widths: Sequence[int] = (32, 64, 96, 96),
        strides: Sequence[int] = (2, 2, 2, 1),
        tube: int = 8,
        depth: int = 4,
        heads: int = 4,
        hidden: int = 192,
        num_frames: int = 8,
        image_size: int = 64,
    ) -> None:
        super().__init__()
        if not widths or len(widths) != len(strides) or min(*widths, *strides) < 1:
            raise SpecError(f"widths={widths!r:.80} and strides={strides!r:.80}", hint="as many of one as of the other")
        stride, dim = math.prod(strides), widths[-1]
        for name, value, step in (
            ("image_size", image_size, stride),
            ("num_frames", num_frames, tube),
            ("the last of widths", dim, heads),
        ):
            if step < 1 or value < 1 or value % step:
                raise SpecError(f"{name}={value} in steps of {step}", hint="a whole multiple")
        self.geometry = zoo.Geometry(frames=num_frames, size=(image_size, image_size))
        self.tokens = Tokens(widths, strides, tube, (num_frames // tube, image_size // stride, image_size // stride))
        self.blocks = nn.ModuleList(Block(dim, heads, hidden, eps=EPS) for _ in range(depth))
        self.norm = nn.LayerNorm(dim, eps=EPS)
        self.num_features = dim
        # Linear layers stay as torch begins them: deviations of 0.02 suit a thousand channels, not a hundred.
        self.reset_classifier(num_classes)

    def stages(self) -> dict[str, nn.Module]:
        blocks = {f"block{i}": block for i, block in enumerate(self.blocks, 1)}
        return {"tokens": self.tokens, **blocks, "norm": self.norm}

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """features: maps `[B, D, T', H', W']`."""
        pooled = features.mean((2, 3, 4))
        return pooled if pre_logits else self.head(pooled)  # type: ignore[no-any-return]

    def reset_classifier(self, num_classes: int) -> None:
        self.num_classes = num_classes
        like = self.norm.weight
        self.head: nn.Module = nn.Identity()
        if num_classes:
            self.head = nn.Linear(self.num_features, num_classes, device=like.device, dtype=like.dtype)
