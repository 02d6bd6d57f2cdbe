"""A network that is small enough for tests of the core, which knows no model."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from zoo import VideoModel


class Tiny(VideoModel):
    """Two stages, batch norm, a non-persistent buffer, and a dropout."""

    def __init__(self, *, num_classes: int = 5, width: int = 4) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv3d(3, width, 3, padding=1), nn.BatchNorm3d(width), nn.ReLU())
        self.body = nn.Conv3d(width, 2 * width, 3, stride=2, padding=1)
        self.drop = nn.Dropout(0.5)
        self.register_buffer("scale", torch.full((1,), 2.0), persistent=False)
        self.num_features = 2 * width
        self.reset_classifier(num_classes)

    def stages(self) -> dict[str, nn.Module]:
        return {"stem": self.stem, "body": self.body}

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        pooled = self.drop(features.mean((2, 3, 4)) * self.scale)
        return pooled if pre_logits else self.fc(pooled)

    def reset_classifier(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self.fc = nn.Linear(self.num_features, num_classes) if num_classes else nn.Identity()


def tiny(*, num_classes: int = 5, width: int = 4) -> Tiny:
    return Tiny(num_classes=num_classes, width=width)


def fussy(*, width: int = 4) -> Tiny:
    raise ValueError(f"width is {width}")
