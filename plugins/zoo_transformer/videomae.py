"""VideoMAE: a plain vision transformer over tubes of two frames, pre-trained by filling in what was masked.

Tong et al., "VideoMAE: Masked Autoencoders are Data-Efficient Learners for Self-Supervised Video Pre-Training",
https://arxiv.org/abs/2203.12602

There is no class token: the head sees the mean of all tokens. Positions are a fixed table of sines over the flat index
of a token, made for one number of frames and one size; the paper has no way to stretch it, so other clips raise.
Queries and values have a bias and keys have none.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

import zoo
from zoo_transformer.layers import Block, GridModel, PatchEmbed, drop_rates, fixed_table, initialise, new_head, pair

POOLS = ("mean", "first")
NORMS = ("pooled", "token", "none")


def sine_table(count: int, dim: int) -> Tensor:
    """`[count, dim]`: sines at even and cosines at odd places, computed in float64 as the published table was."""
    places = torch.arange(count, dtype=torch.float64)[:, None]
    rates = 10000.0 ** (-2.0 * torch.arange((dim + 1) // 2, dtype=torch.float64) / dim)
    angles = places * rates
    return torch.stack((angles.sin(), angles.cos()), -1).flatten(1)[:, :dim].float()


class SineEmbed(PatchEmbed):
    """Patches of a clip of one size, with their places added."""

    def __init__(self, patch: tuple[int, int, int], channels: int, dim: int, grid: tuple[int, int, int]) -> None:
        super().__init__(patch, channels, dim)
        positions = fixed_table(sine_table, grid[0] * grid[1] * grid[2], dim)
        self.register_buffer("positions", positions.unflatten(0, grid), persistent=False)

    def forward(self, clip: Tensor) -> Tensor:
        return super().forward(clip) + self.positions


class VideoMAE(GridModel):
    """The encoder and its classifier; the defaults are those of the base model.

    eps: of the norms within the layers; 1e-12 is what transformers runs the published files with.
    pool: what the head sees, the "mean" of all tokens or, as transformers has it without mean pooling, the "first".
    final_norm: of every "token" (pre-trained encoders), of the "pooled" features (fine-tuned ones), or "none".
    """

    def __init__(
        self,
        *,
        num_classes: int = 400,
        dim: int = 768,
        depth: int = 12,
        heads: int = 12,
        hidden: int = 3072,
        num_frames: int = 16,
        image_size: int | tuple[int, int] = 224,
        patch_size: int | tuple[int, int] = 16,
        tubelet: int = 2,
        channels: int = 3,
        eps: float = 1e-12,
        activation: str = "gelu",
        bias: bool = True,
        pool: str = "mean",
        final_norm: str = "pooled",
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        if pool not in POOLS or final_norm not in NORMS:
            raise ValueError(f"pool={pool!r} is one of {POOLS}, final_norm={final_norm!r} one of {NORMS}")
        size, patch = pair(image_size), (tubelet, *pair(patch_size))
        grid = (num_frames // tubelet, size[0] // patch[1], size[1] // patch[2])
        self.geometry = zoo.Geometry(channels=channels, frames=num_frames, size=size)
        self.pool = pool
        self.patch_embed = SineEmbed(patch, channels, dim, grid)
        self.blocks = nn.ModuleList(
            Block(dim, heads, hidden, eps=eps, activation=activation, bias="qv" if bias else "none", drop_path=rate)
            for rate in drop_rates(drop_path, depth)
        )
        self.norm = nn.LayerNorm(dim, eps=eps) if final_norm == "token" else None
        self.fc_norm = nn.LayerNorm(dim) if final_norm == "pooled" else nn.Identity()  # of PyTorch's eps, 1e-5
        self.num_features = dim
        self.num_classes = num_classes
        self.head: nn.Module = nn.Linear(dim, num_classes) if num_classes else nn.Identity()
        initialise(self)

    def stages(self) -> dict[str, nn.Module]:
        stages: dict[str, nn.Module] = {"embed": self.patch_embed}  # [B, T', H', W', D], as all that follow
        stages |= {f"block{i}": block for i, block in enumerate(self.blocks)}
        return stages if self.norm is None else {**stages, "norm": self.norm}

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        tokens = features.flatten(2)  # [B, D, N]
        pooled = self.fc_norm(tokens.mean(2) if self.pool == "mean" else tokens[..., 0])
        return pooled if pre_logits else self.head(pooled)

    def reset_classifier(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self.head = new_head(self, self.num_features, num_classes)
