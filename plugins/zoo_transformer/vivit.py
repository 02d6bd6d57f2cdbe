"""ViViT, model 1: a vision transformer whose tokens are tubes, all attending to each other.

Arnab et al., "ViViT: A Video Vision Transformer", https://arxiv.org/abs/2103.15691

Features are tokens `[B, 1 + N, D]`, the class token first. Positions are learned for one number of frames and one size;
neither the paper nor its code stretches them for video, so other clips raise.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

import zoo
from zoo_transformer.layers import Block, ClassTokenModel, PatchEmbed, drop_rates, initialise, new_head, pair


class Embed(nn.Module):
    """`[B, C, T, H, W]` to `[B, 1 + N, D]`."""

    def __init__(self, patch: tuple[int, int, int], channels: int, dim: int, count: int) -> None:
        super().__init__()
        self.proj = PatchEmbed(patch, channels, dim)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.positions = nn.Parameter(torch.zeros(1, 1 + count, dim))

    def forward(self, clip: Tensor) -> Tensor:
        tubes = self.proj(clip).flatten(1, 3)
        return torch.cat((self.cls_token.expand(clip.shape[0], -1, -1), tubes), 1) + self.positions


class ViViT(ClassTokenModel):
    """The network; the head reads the class token. The defaults are ViViT-B/16x2."""

    def __init__(
        self,
        *,
        num_classes: int = 400,
        dim: int = 768,
        depth: int = 12,
        heads: int = 12,
        hidden: int = 3072,
        num_frames: int = 32,
        image_size: int | tuple[int, int] = 224,
        tubelet: tuple[int, int, int] = (2, 16, 16),
        channels: int = 3,
        eps: float = 1e-6,
        activation: str = "gelu_tanh",
        bias: bool = True,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        size, patch = pair(image_size), tuple(tubelet)
        self.geometry = zoo.Geometry(channels=channels, frames=num_frames, size=size)
        self.steps = num_frames // patch[0]
        count = self.steps * (size[0] // patch[1]) * (size[1] // patch[2])
        self.embed_tubes = Embed(patch, channels, dim, count)
        self.blocks = nn.ModuleList(
            Block(dim, heads, hidden, eps=eps, activation=activation, bias="qkv" if bias else "none", drop_path=rate)
            for rate in drop_rates(drop_path, depth)
        )
        self.norm = nn.LayerNorm(dim, eps=eps)
        self.num_features = dim
        self.num_classes = num_classes
        self.head: nn.Module = nn.Linear(dim, num_classes) if num_classes else nn.Identity()
        initialise(self)

    def stages(self) -> dict[str, nn.Module]:
        blocks = {f"block{i}": block for i, block in enumerate(self.blocks)}
        return {"embed": self.embed_tubes, **blocks, "norm": self.norm}  # each [B, 1 + N, D]

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        return features[:, 0] if pre_logits else self.head(features[:, 0])

    def frame_features(self, features: Tensor) -> Tensor:
        """The mean of the tubes of each time step, `[B, T', D]`."""
        return features[:, 1:].unflatten(1, (self.steps, -1)).mean(2)

    def reset_classifier(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self.head = new_head(self, self.num_features, num_classes)
