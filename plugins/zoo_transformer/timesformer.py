"""TimeSformer: attention over time for every place, then over space for every frame.

Bertasius et al., "Is Space-Time Attention All You Need for Video Understanding?", https://arxiv.org/abs/2102.05095

Tokens are `[B, T, 1 + P, D]`: the patches of a frame behind the class token. That token is one for the clip; attention
over space sees it beside every frame, and the mean of what the frames make of it goes on. Keeping the copies through
the layer makes each of its parts one operation on one tensor.

Other sizes and numbers of frames work as in the authors' code: learned positions are repeated or skipped (nearest
neighbour), in space on a square grid, and along time.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import zoo
from zoo_transformer.layers import (
    Attention,
    ClassTokenModel,
    DropPath,
    Mlp,
    PatchEmbed,
    drop_rates,
    initialise,
    new_head,
    plain,
    unseen,
)

KINDS = ("divided_space_time", "space_only", "joint_space_time")


class Embed(nn.Module):
    """`[B, C, T, H, W]` to `[B, T, 1 + P, D]`, with positions in space and, except for "space_only", in time."""

    def __init__(self, patch: int, channels: int, dim: int, side: int, frames: int) -> None:
        super().__init__()
        self.proj = PatchEmbed((1, patch, patch), channels, dim)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.space = nn.Parameter(torch.zeros(1, 1 + side * side, dim))
        self.time = nn.Parameter(torch.zeros(1, frames, dim)) if frames else None
        self.side = side

    def forward(self, clip: Tensor) -> Tensor:
        patches = self.proj(clip)  # [B, T, H', W', D]
        frames, height, width = patches.shape[1:4]
        patches = patches.flatten(2, 3) + self.positions(height, width)
        if self.time is not None:
            patches = patches + self.times(frames)
        cls = (self.cls_token + self.space[:, :1]).expand(clip.shape[0], frames, 1, -1)
        return torch.cat((cls, patches), 2)

    def positions(self, height: int, width: int) -> Tensor:
        """`[1, P, D]`"""
        table = self.space[:, 1:]
        if (height, width) == (self.side, self.side):
            return table
        square = table.transpose(1, 2).unflatten(2, (self.side, self.side))
        return F.interpolate(square, size=(height, width), mode="nearest").flatten(2).transpose(1, 2)

    def times(self, frames: int) -> Tensor:
        """`[1, T, 1, D]`"""
        table: Tensor = self.time  # type: ignore[assignment]
        if frames != table.shape[1]:
            table = F.interpolate(table.transpose(1, 2), size=frames, mode="nearest").transpose(1, 2)
        return table.unsqueeze(2)


class RowAttention(Attention):
    """The tokens of a row attend to each other, `[B, rows, N, D]`: those of a frame, or one place in all frames."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.flatten(0, 1)).unflatten(0, x.shape[:2])


class SpaceAttention(RowAttention):
    """The tokens of a frame attend to each other, `[B, T, 1 + P, D]`; what the class token gets is the frames' mean."""

    def forward(self, x: Tensor) -> Tensor:
        out = super().forward(x)
        out[:, :, :1] = out[:, :, :1].mean(1, keepdim=True)
        return out


class JointAttention(Attention):
    """All patches of the clip and one class token attend to each other."""

    def forward(self, x: Tensor) -> Tensor:
        frames = x.shape[1]
        out = super().forward(torch.cat((x[:, 0, :1], x[:, :, 1:].flatten(1, 2)), 1))
        cls = out[:, None, :1].expand(-1, frames, -1, -1)
        return torch.cat((cls, out[:, 1:].unflatten(1, (frames, -1))), 2)


class Layer(nn.Module):
    """`[B, T, 1 + P, D]` to the same: attention of some kind, then an MLP."""

    def __init__(
        self, kind: str, dim: int, heads: int, hidden: int, *, eps: float, activation: str, bias: bool, drop_path: float
    ) -> None:
        super().__init__()
        attention = dict(zip(KINDS, (SpaceAttention, RowAttention, JointAttention), strict=True))[kind]
        self.norm1 = nn.LayerNorm(dim, eps=eps)
        self.attn = attention(dim, heads, bias="qkv" if bias else "none")
        self.norm2 = nn.LayerNorm(dim, eps=eps)
        self.mlp = Mlp(dim, hidden, activation)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(self.attn(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class DividedLayer(Layer):
    """Attention over time first, which passes one more linear layer; then over space."""

    def __init__(self, kind: str, dim: int, heads: int, hidden: int, **options: Any) -> None:
        super().__init__(kind, dim, heads, hidden, **options)
        self.time_norm = nn.LayerNorm(dim, eps=options["eps"])
        self.time_attn = RowAttention(dim, heads, bias="qkv" if options["bias"] else "none")
        self.time_fc = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(self.over_time(x))

    def over_time(self, x: Tensor) -> Tensor:
        """`x` with what the patches have found at their places in other frames."""
        # A place's frames are neighbours from the norm, which copies what it is given here anyhow, to the sum.
        places = self.time_norm(x[:, :, 1:].transpose(1, 2))  # [B, P, T, D]
        attention, many = self.time_attn, places[..., 0].numel() > places.shape[-1]
        if many and unseen(self, x) and plain(attention.proj, self.time_fc):
            # Nothing lies between two layers: one product of their matrices saves one with all tokens.
            weight = self.time_fc.weight @ attention.proj.weight
            bias = F.linear(attention.proj.bias, self.time_fc.weight, self.time_fc.bias)
            moved = F.linear(attention.mix(places.flatten(0, 1)), weight, bias).unflatten(0, places.shape[:2])
        else:
            moved = self.time_fc(self.drop_path(attention(places)))
        x = x.clone()
        x[:, :, 1:] += moved.transpose(1, 2)
        return x

    def class_token(self, x: Tensor) -> Tensor:
        """The class token after this layer, `[B, 1, 1, D]`, in inference."""
        x = self.over_time(x)
        normed = self.norm1(x).flatten(0, 1)
        seen = self.attn.look(normed[:, :1], normed).unflatten(0, x.shape[:2])
        x = x[:, :1, :1] + seen.mean(1, keepdim=True)
        return x + self.mlp(self.norm2(x))


class MeanOfFrames(nn.Module):
    """What "space_only" does in the end: the mean over frames, `[B, T, 1 + P, D]` to `[B, 1, 1 + P, D]`."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(1, keepdim=True)


class TimeSformer(ClassTokenModel):
    """The network. Features are `[B, T, 1 + P, D]`; the head reads the class token, which all frames share.

    num_frames, image_size: those that the learned positions are made for.
    attention: "space_only" takes the mean over frames before the last norm, as the authors' code does.
    """

    def __init__(
        self,
        *,
        num_classes: int = 400,
        dim: int = 768,
        depth: int = 12,
        heads: int = 12,
        hidden: int = 3072,
        num_frames: int = 8,
        image_size: int = 224,
        patch_size: int = 16,
        channels: int = 3,
        eps: float = 1e-6,
        activation: str = "gelu",
        bias: bool = True,
        attention: str = "divided_space_time",
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        if attention not in KINDS:
            raise ValueError(f"attention={attention!r}: it is one of {', '.join(KINDS)}")
        self.geometry = zoo.Geometry(channels=channels, min_size=patch_size, size_multiple=patch_size)
        frames = 0 if attention == "space_only" else num_frames
        self.embed_patches = Embed(patch_size, channels, dim, image_size // patch_size, frames)
        layer = DividedLayer if attention == "divided_space_time" else Layer
        self.blocks = nn.ModuleList(
            layer(attention, dim, heads, hidden, eps=eps, activation=activation, bias=bias, drop_path=rate)
            for rate in drop_rates(drop_path, depth)
        )
        self.consensus = MeanOfFrames() if attention == "space_only" else None
        self.norm = nn.LayerNorm(dim, eps=eps)
        self.num_features = dim
        self.num_classes = num_classes
        self.head: nn.Module = nn.Linear(dim, num_classes) if num_classes else nn.Identity()
        initialise(self)
        nn.init.normal_(self.embed_patches.cls_token, std=0.02)
        nn.init.normal_(self.embed_patches.space, std=0.02)

    def stages(self) -> dict[str, nn.Module]:
        stages: dict[str, nn.Module] = {"embed": self.embed_patches}  # [B, T, 1 + P, D], as all that follow
        stages |= {f"block{i}": block for i, block in enumerate(self.blocks)}
        return {**stages, **({} if self.consensus is None else {"consensus": self.consensus}), "norm": self.norm}

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        token = features[:, 0, 0]
        return token if pre_logits else self.head(token)

    def frame_features(self, features: Tensor) -> Tensor:
        """The mean of every frame's patches, `[B, T, D]`."""
        return features[:, :, 1:].mean(2)

    def reset_classifier(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self.head = new_head(self, self.num_features, num_classes)
