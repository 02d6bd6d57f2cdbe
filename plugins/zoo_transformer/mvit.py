"""MViT: a transformer that starts with many narrow tokens and ends with few wide ones, pooling inside its attention.

Fan et al., "Multiscale Vision Transformers", https://arxiv.org/abs/2104.11227
Li et al., "MViTv2: Improved Multiscale Vision Transformers for Classification and Detection",
https://arxiv.org/abs/2112.01526

The layers are torchvision's own, under torchvision's names: its published files load as they are, its logits are ours
bit for bit. Positions are learned for 16 frames of 224x224, and torchvision does not stretch them: other clips raise.
"""

from __future__ import annotations

from torch import Tensor, nn
from torchvision.models import video

import zoo

Grid = tuple[int, int, int]


class Patches(nn.Module):
    """`[B, 3, T, H, W]` to tokens `[B, 1 + N, D]`, the class token first, with their positions."""

    def __init__(self, conv_proj: nn.Module, pos_encoding: nn.Module) -> None:
        super().__init__()
        self.conv_proj, self.pos_encoding = conv_proj, pos_encoding

    def forward(self, clip: Tensor) -> Tensor:
        out: Tensor = self.pos_encoding(self.conv_proj(clip).flatten(2).transpose(1, 2))
        return out


class Pooling(nn.Module):
    """One of torchvision's blocks, which is told the grid of its tokens and gives back the next one's."""

    def __init__(self, block: nn.Module, grid: Grid) -> None:
        super().__init__()
        self.block, self.grid = block, grid

    def forward(self, tokens: Tensor) -> Tensor:
        out: Tensor = self.block(tokens, self.grid)[0]
        return out


class MViT(zoo.VideoModel):
    """A torchvision MViT. Features are tokens `[B, 1 + N, D]`, the class token first; the head reads that one."""

    def __init__(self, network: video.MViT, num_classes: int) -> None:
        super().__init__()
        self.conv_proj, self.pos_encoding = network.conv_proj, network.pos_encoding
        self.blocks, self.norm, self.head = network.blocks, network.norm, network.head
        self.num_features = network.head[1].in_features
        self.num_classes = num_classes
        grid: Grid = (self.pos_encoding.temporal_size, *self.pos_encoding.spatial_size)
        stride = self.conv_proj.stride
        self.geometry = zoo.Geometry(frames=grid[0] * stride[0], size=(grid[1] * stride[1], grid[2] * stride[2]))
        # A list hides them from the state dict, where what they hold has torchvision's names already.
        self._steps: list[nn.Module] = [Patches(self.conv_proj, self.pos_encoding)]  # [B, 1 + 8 * 56 * 56, 96]
        for block in self.blocks:
            self._steps.append(Pooling(block, grid))
            if block.attn.pool_q is not None:
                # A convolution of kernel 3 and padding 1 rounds up.
                grid = tuple(-(-n // s) for n, s in zip(grid, block.attn.pool_q.pool.stride, strict=True))  # type: ignore[assignment]
        self.frames = grid[0]
        # In the last block these reach the tokens of patches only, and the head reads the class token.
        last = self.blocks[-1].attn
        for unread in (last.rel_pos_h, last.rel_pos_w, last.rel_pos_t, last.pool_q and last.pool_q.pool.weight):
            if unread is not None:
                unread.requires_grad_(False)
        if not num_classes:
            self.reset_classifier(0)

    def stages(self) -> dict[str, nn.Module]:
        names = ("embed", *(f"block{i}" for i in range(len(self.blocks))))
        return {**dict(zip(names, self._steps, strict=True)), "norm": self.norm}  # at last [B, 1 + 8 * 7 * 7, 768]

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        return features[:, 0] if pre_logits else self.head(features[:, 0])

    def frame_features(self, features: Tensor) -> Tensor:
        """The mean of the tokens of each time step, `[B, T', D]`."""
        return features[:, 1:].unflatten(1, (self.frames, -1)).mean(2)

    def reset_classifier(self, num_classes: int) -> None:
        self.num_classes = num_classes
        if not num_classes:
            self.head = nn.Sequential(nn.Identity(), nn.Identity())
            return
        like = next(self.norm.parameters())
        last = nn.Linear(self.num_features, num_classes, device=like.device, dtype=like.dtype)
        nn.init.trunc_normal_(last.weight, std=0.02)  # as torchvision does
        nn.init.zeros_(last.bias)
        self.head = nn.Sequential(nn.Dropout(0.5), last)


def mvit_v1_b(*, num_classes: int = 400) -> MViT:
    """Learned positions; a query is pooled in three of sixteen blocks."""
    return MViT(video.mvit_v1_b(weights=None, num_classes=num_classes or 1), num_classes)


def mvit_v2_s(*, num_classes: int = 400) -> MViT:
    """Positions relative to each other inside the attention; the pooled query is added to what comes out."""
    return MViT(video.mvit_v2_s(weights=None, num_classes=num_classes or 1), num_classes)
