"""V-JEPA 2: a video transformer that was trained to predict features, with places turned into its attention.

Assran et al., "V-JEPA 2: Self-Supervised Video Models Enable Understanding, Prediction and Planning",
https://arxiv.org/abs/2506.09985

Rotary positions come from the grid of the clip, as in the authors' code, so that any even number of frames and any size
in steps of a patch work. (transformers takes the grid from its config, and is wrong for other sizes.)
The classifier is the paper's attentive probe: layers over all tokens, then one learned query that attends to them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

import zoo
from zoo_transformer.layers import (
    Block,
    GridModel,
    Mlp,
    PatchEmbed,
    attend,
    drop_rates,
    fixed_table,
    initialise,
    new_head,
)


class Rotary(nn.Module):
    """Turns queries and keys by time, height and width, a third of the channels each, in pairs; some are left over.

    Neighbouring channels make a pair, while the rates are laid out as if pairs were halves: both as in the authors'
    code, and not what papers on rotary positions do. One table for the grid it was made for serves all layers and all
    smaller grids.
    """

    def __init__(self, head_dim: int, grid: tuple[int, int, int]) -> None:
        super().__init__()
        if head_dim % 2:
            raise ValueError(f"channels of a head come in pairs, and there are {head_dim}")
        self.head_dim = head_dim
        self.register_buffer("table", fixed_table(self.angles, grid), persistent=False)  # [2, T', H', W', head_dim]

    def angles(self, grid: Sequence[int], like: Tensor | None = None) -> Tensor:
        """Cosines, and sines with the sign that the swapped pair needs."""
        device = None if like is None else like.device
        third = 2 * (self.head_dim // 3 // 2)
        rates = 1.0 / 10000 ** (torch.arange(third // 2, dtype=torch.float32, device=device) / (third / 2.0))
        angles = torch.zeros(*grid, self.head_dim, device=device)
        for axis, count in enumerate(grid):
            places = torch.arange(count, dtype=torch.float32, device=device)
            turned = torch.outer(places, rates).repeat(1, 2)
            angles[..., axis * third : (axis + 1) * third] = turned.view(-1, *[1] * (2 - axis), third)
        sign = torch.tensor([-1.0, 1.0], device=device).repeat(self.head_dim // 2)
        table = torch.stack((angles.cos(), angles.sin() * sign))
        return table if like is None else table.to(like.dtype)

    def forward(self, qk: Tensor, grid: Sequence[int]) -> Tensor:
        """`[B, N, 2, heads, head_dim]`, turned."""
        known = self.table.shape[1:4]
        if all(size <= most for size, most in zip(grid, known, strict=True)):
            table = self.table[:, : grid[0], : grid[1], : grid[2]]
        else:
            table = self.angles(grid, self.table)
        cos, sin = table.flatten(1, 3)[:, :, None, None]  # [N, 1, 1, head_dim]
        swapped = qk.unflatten(-1, (-1, 2)).flip(-1).flatten(-2)
        return (qk * cos).addcmul_(swapped, sin)


class CrossAttention(nn.Module):
    """A few queries look at many tokens. There is no layer after the heads."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"pooler_heads={heads}: heads divide the channels, of which there are {dim}")
        self.heads = heads
        self.q = nn.Linear(dim, dim)
        self.kv = nn.Linear(dim, 2 * dim)

    def forward(self, queries: Tensor, tokens: Tensor) -> Tensor:
        q = self.q(queries).unflatten(-1, (self.heads, -1))
        k, v = self.kv(tokens).unflatten(-1, (2, self.heads, -1)).unbind(2)
        return attend(q, k, v)


class Pooler(nn.Module):
    """`[B, N, D]` to `[B, D]`. Only the tokens are normed before the query looks at them."""

    def __init__(self, dim: int, heads: int, hidden: int, depth: int, *, eps: float, activation: str) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(dim, heads, hidden, eps=eps, activation=activation) for _ in range(depth))
        self.query = nn.Parameter(torch.zeros(1, 1, dim))
        self.norm1 = nn.LayerNorm(dim, eps=eps)
        self.attn = CrossAttention(dim, heads)
        self.norm2 = nn.LayerNorm(dim, eps=eps)
        self.mlp = Mlp(dim, hidden, activation)

    def forward(self, tokens: Tensor) -> Tensor:
        for block in self.blocks:
            tokens = block(tokens)
        query = self.query.expand(len(tokens), -1, -1)
        x = query + self.attn(query, self.norm1(tokens))
        return (x + self.mlp(self.norm2(x))).squeeze(1)


class VJEPA2(GridModel):
    """The encoder, with the attentive pooler, or without it and then with the mean of the tokens.

    num_frames, image_size: of the clips that places are computed for beforehand; others take a little longer.
    pooler_depth: layers of the pooler before its query; None leaves the pooler away.
    pooler_heads: of its attention; None means as many as the encoder has, as in transformers.
    """

    def __init__(
        self,
        *,
        num_classes: int = 174,
        dim: int = 1024,
        depth: int = 24,
        heads: int = 16,
        mlp_ratio: float = 4.0,
        num_frames: int = 64,
        image_size: int = 256,
        patch_size: int = 16,
        tubelet: int = 2,
        channels: int = 3,
        eps: float = 1e-6,
        activation: str = "gelu",
        bias: bool = True,
        pooler_depth: int | None = 3,
        pooler_heads: int | None = None,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.geometry = zoo.Geometry(
            channels=channels,
            min_frames=tubelet,
            frames_multiple=tubelet,
            min_size=patch_size,
            size_multiple=patch_size,
        )
        side, hidden = image_size // patch_size, int(dim * mlp_ratio)
        rotary = Rotary(dim // heads, (num_frames // tubelet, side, side))
        self.patch_embed = PatchEmbed((tubelet, patch_size, patch_size), channels, dim)
        biased = "qkv" if bias else "none"
        self.blocks = nn.ModuleList(
            Block(dim, heads, hidden, eps=eps, activation=activation, bias=biased, drop_path=rate, rotate=rotary)
            for rate in drop_rates(drop_path, depth)
        )
        self.norm = nn.LayerNorm(dim, eps=eps)
        self.pooler = None
        if pooler_depth is not None:
            # The probe is four times as wide inside whatever the encoder is.
            self.pooler = Pooler(dim, pooler_heads or heads, 4 * dim, pooler_depth, eps=eps, activation=activation)
        self.num_features = dim
        self.num_classes = num_classes
        self.head: nn.Module = nn.Linear(dim, num_classes) if num_classes else nn.Identity()
        initialise(self)
        if self.pooler is not None:
            nn.init.normal_(self.pooler.query, std=0.02)

    def stages(self) -> dict[str, nn.Module]:
        blocks = {f"block{i}": block for i, block in enumerate(self.blocks)}
        return {"embed": self.patch_embed, **blocks, "norm": self.norm}  # each [B, T', H', W', D]

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        tokens = features.flatten(2).transpose(1, 2)  # [B, N, D]
        pooled = tokens.mean(1) if self.pooler is None else self.pooler(tokens)
        return pooled if pre_logits else self.head(pooled)

    def reset_classifier(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self.head = new_head(self, self.num_features, num_classes)
