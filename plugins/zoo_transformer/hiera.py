"""Hiera: a hierarchical transformer without the extras, its attention within small squares of a frame to begin with.

Ryali et al., "Hiera: A Hierarchical Vision Transformer without the Bells-and-Whistles",
https://arxiv.org/abs/2306.00989

The authors' code sorts tokens so that a window is a run of
neighbours in memory; here tokens stay in the grid `[B, T, H, W, D]`, which gives the same numbers and maps for free.
Positions, one table for space and one for time, are learned for one clip size and nothing stretches them: others raise.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

import zoo
from zoo_transformer.layers import DropPath, GridModel, Mlp, attend, drop_rates, new_head

EPS = 1e-6
UNITS = 8  # side, in tokens of the first stage, of the squares that masking takes and attention stays in


def to_windows(x: Tensor, side: int) -> Tensor:
    """`[B, T, H, W, ...]` to `[B, windows, side * side, ...]`."""
    x = x.unflatten(3, (-1, side)).unflatten(2, (-1, side)).transpose(3, 4)  # [B, T, H', W', side, side, ...]
    return x.flatten(4, 5).flatten(1, 3)


def from_windows(x: Tensor, grid: Sequence[int], side: int) -> Tensor:
    """The inverse, to `[B, *grid, ...]`."""
    frames, height, width = grid
    x = x.unflatten(2, (side, side)).unflatten(1, (frames, height // side, width // side))
    return x.transpose(3, 4).flatten(4, 5).flatten(2, 3)


def halve(x: Tensor) -> Tensor:
    """The largest of 2x2 neighbours: `[B, T, H, W, ...]` to `[B, T, H/2, W/2, ...]`."""
    return x.unflatten(3, (-1, 2)).unflatten(2, (-1, 2)).amax((3, 5))


class Attention(nn.Module):
    """Attention of all tokens, or of those in a square of `window` tokens a side; `pool` halves the queries' grid."""

    def __init__(self, dim: int, dim_out: int, heads: int, *, window: int | None, pool: bool) -> None:
        super().__init__()
        self.heads, self.window, self.pool = heads, window, pool
        self.qkv = nn.Linear(dim, 3 * dim_out)
        self.proj = nn.Linear(dim_out, dim_out)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).unbind(4)  # [B, T, H, W, heads, d]
        if self.pool:
            q = halve(q)
        grid = q.shape[1:4]
        if self.window is None:
            out = attend(*(part.flatten(1, 3) for part in (q, k, v))).unflatten(1, grid)
        else:
            side = self.window // 2 if self.pool else self.window
            tokens = attend(to_windows(q, side), to_windows(k, self.window), to_windows(v, self.window))
            out = from_windows(tokens, grid, side)
        projected: Tensor = self.proj(out)
        return projected


class Block(nn.Module):
    """A pre-norm layer. Where it widens, the branch that goes past the attention is a pooled linear layer."""

    def __init__(self, dim: int, dim_out: int, heads: int, *, window: int | None, pool: bool, drop_path: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=EPS)
        self.attn = Attention(dim, dim_out, heads, window=window, pool=pool)
        self.norm2 = nn.LayerNorm(dim_out, eps=EPS)
        self.mlp = Mlp(dim_out, 4 * dim_out)
        self.drop_path = DropPath(drop_path)
        self.proj = nn.Linear(dim, dim_out) if dim != dim_out else None

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm1(x)
        if self.proj is not None:
            x = self.proj(normed)
            x = halve(x) if self.attn.pool else x
        x = x + self.drop_path(self.attn(normed))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class Embed(nn.Module):
    """Overlapping patches with their places: `[B, 3, T, H, W]` to `[B, T/2, H/4, W/4, D]`."""

    def __init__(self, dim: int, grid: tuple[int, int, int]) -> None:
        super().__init__()
        self.grid = grid
        self.proj = nn.Conv3d(3, dim, (3, 7, 7), (2, 4, 4), (1, 3, 3))
        self.space = nn.Parameter(torch.zeros(1, grid[1] * grid[2], dim))
        self.time = nn.Parameter(torch.zeros(1, grid[0], dim))

    def forward(self, clip: Tensor) -> Tensor:
        space = self.space.unflatten(1, self.grid[1:]).unsqueeze(1)  # [1, 1, H', W', D]
        time = self.time[:, :, None, None]  # [1, T', 1, 1, D]
        return self.proj(clip).movedim(1, -1) + (space + time)


class Hiera(GridModel):
    """The network; the head sees the normed mean of the last maps.

    depths: layers of the four stages; each stage after the first doubles the channels and the heads.
    drop_path: the paper fine-tunes with 0.2 for base up to 0.4 for huge.
    """

    def __init__(
        self,
        *,
        num_classes: int = 400,
        dim: int = 96,
        heads: int = 1,
        depths: Sequence[int] = (2, 3, 16, 3),
        num_frames: int = 16,
        image_size: int = 224,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        if image_size % (4 * UNITS) or num_frames % 2 or len(depths) != 4:
            raise ValueError(f"image_size={image_size} has to be a multiple of 32, num_frames={num_frames} even")
        self.geometry = zoo.Geometry(frames=num_frames, size=(image_size, image_size))
        self.embed_patches = Embed(dim, (num_frames // 2, image_size // 4, image_size // 4))
        self.ends = [sum(depths[: i + 1]) for i in range(len(depths))]
        self.blocks = nn.ModuleList()
        rates, window = drop_rates(drop_path, sum(depths)), UNITS
        for stage, depth in enumerate(depths):
            for i in range(depth):
                widens = stage > 0 and i == 0
                # Stages one and two attend within squares, and so does the block that leads on to the next stage.
                local = stage < 2 or (stage == 2 and widens)
                wide = 2 * dim if widens else dim
                heads = 2 * heads if widens else heads
                rate = rates[len(self.blocks)]
                self.blocks.append(
                    Block(dim, wide, heads, window=window if local else None, pool=widens, drop_path=rate)
                )
                window, dim = window // 2 if widens else window, wide
        self.norm = nn.LayerNorm(dim, eps=EPS)
        self.num_features = dim
        self.num_classes = num_classes
        self.head: nn.Module = nn.Linear(dim, num_classes) if num_classes else nn.Identity()
        self._initialise()

    def _initialise(self) -> None:
        nn.init.normal_(self.embed_patches.space, std=0.02)
        nn.init.normal_(self.embed_patches.time, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv3d):
                nn.init.normal_(module.weight, std=0.02)
            if isinstance(module, nn.Linear | nn.LayerNorm):
                nn.init.constant_(module.bias, 0.02)  # the authors' choice

    def stages(self) -> dict[str, nn.Module]:
        stages: dict[str, nn.Module] = {"embed": self.embed_patches}
        for i, (start, end) in enumerate(zip([0, *self.ends], self.ends, strict=False)):
            stages[f"stage{i + 1}"] = nn.Sequential(*self.blocks[start:end])  # [B, T/2, H/4 / 2^i, W/4 / 2^i, 2^i D]
        return stages

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        pooled = self.norm(features.mean((2, 3, 4)))
        return pooled if pre_logits else self.head(pooled)

    def reset_classifier(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self.head = new_head(self, self.num_features, num_classes)
