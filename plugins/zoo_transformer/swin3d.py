"""Video Swin: attention within windows of space and time, which move by half a window from layer to layer.

Liu et al., "Video Swin Transformer", https://arxiv.org/abs/2106.13230

The layers are torchvision's own, under torchvision's names: its published files load as they are, its logits are ours
bit for bit. Places are relative within a window, so that clips of any length work, and of any size from 193 pixels on:
below, the last maps are smaller than a window, and torchvision (like the authors) then reads the table of places as if
the window had its full width.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torchvision.models import video

from zoo_transformer.layers import GridModel


class Swin3D(GridModel):
    """A torchvision Video Swin. The head sees the mean of the maps."""

    def __init__(self, architecture: Callable[..., nn.Module], num_classes: int) -> None:
        super().__init__()
        network = architecture(weights=None, num_classes=num_classes or 1)
        self.patch_embed, self.features, self.norm = network.patch_embed, network.features, network.norm
        self.head = network.head if num_classes else nn.Identity()
        self.num_features = network.num_features
        self.num_classes = num_classes

    def stages(self) -> dict[str, nn.Module]:
        # `features` has blocks and what halves the maps in turns; each halving belongs to the stage that follows.
        return {  # [B, 3, T, H, W]
            "embed": self.patch_embed,  # [B, T/2, H/4, W/4, D]
            "stage1": self.features[:1],  # [B, T/2, H/4, W/4, D]
            "stage2": self.features[1:3],  # [B, T/2, H/8, W/8, 2D]
            "stage3": self.features[3:5],  # [B, T/2, H/16, W/16, 4D]
            "stage4": self.features[5:],  # [B, T/2, H/32, W/32, 8D]
            "norm": self.norm,
        }

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        pooled = nn.functional.adaptive_avg_pool3d(features, 1).flatten(1)  # as torchvision, to the bit
        return pooled if pre_logits else self.head(pooled)

    def reset_classifier(self, num_classes: int) -> None:
        self.num_classes = num_classes
        if not num_classes:
            self.head = nn.Identity()
            return
        like = next(self.norm.parameters())
        self.head = nn.Linear(self.num_features, num_classes, device=like.device, dtype=like.dtype)
        nn.init.trunc_normal_(self.head.weight, std=0.02)  # as torchvision does
        nn.init.zeros_(self.head.bias)


def swin3d_t(*, num_classes: int = 400) -> Swin3D:
    """96 channels, 2 + 2 + 6 + 2 layers."""
    return Swin3D(video.swin3d_t, num_classes)


def swin3d_s(*, num_classes: int = 400) -> Swin3D:
    """96 channels, 2 + 2 + 18 + 2 layers."""
    return Swin3D(video.swin3d_s, num_classes)


def swin3d_b(*, num_classes: int = 400) -> Swin3D:
    """128 channels, 2 + 2 + 18 + 2 layers."""
    return Swin3D(video.swin3d_b, num_classes)
