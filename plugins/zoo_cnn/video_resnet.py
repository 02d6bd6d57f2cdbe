"""R3D, MC3 and R(2+1)D with 18 layers: three ways for a residual network to look along time.

Tran et al., "A Closer Look at Spatiotemporal Convolutions for Action Recognition", https://arxiv.org/abs/1711.11248

The layers are torchvision's own, under torchvision's names: its published files load as they are, its logits are ours
bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torchvision.models import video

import zoo


class VideoResNet(zoo.VideoModel):
    """A torchvision video ResNet; `architecture` is one of the functions of `torchvision.models.video`."""

    def __init__(self, architecture: Callable[..., nn.Module], num_classes: int) -> None:
        super().__init__()
        network = architecture(weights=None, num_classes=num_classes or 1)
        self.stem = network.stem
        self.layer1, self.layer2 = network.layer1, network.layer2
        self.layer3, self.layer4 = network.layer3, network.layer4
        self.avgpool = network.avgpool
        self.fc = network.fc if num_classes else nn.Identity()
        self.num_features = network.fc.in_features
        self.num_classes = num_classes

    def stages(self) -> dict[str, nn.Module]:
        # For r3d_18 and r2plus1d_18; mc3_18 keeps T, as it convolves along time in stem and layer1 only.
        return {  # [B, 3, T, H, W]
            "stem": self.stem,  # [B, 64, T, H/2, W/2]
            "layer1": self.layer1,  # [B, 64, T, H/2, W/2]
            "layer2": self.layer2,  # [B, 128, T/2, H/4, W/4]
            "layer3": self.layer3,  # [B, 256, T/4, H/8, W/8]
            "layer4": self.layer4,  # [B, 512, T/8, H/16, W/16]
        }

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        pooled = self.avgpool(features).flatten(1)  # [B, 512]
        return pooled if pre_logits else self.fc(pooled)

    def reset_classifier(self, num_classes: int) -> None:
        self.num_classes = num_classes
        if not num_classes:
            self.fc = nn.Identity()
            return
        like = next(self.stem.parameters())
        self.fc = nn.Linear(self.num_features, num_classes, device=like.device, dtype=like.dtype)
        nn.init.normal_(self.fc.weight, 0, 0.01)  # as torchvision does
        nn.init.zeros_(self.fc.bias)


def r3d_18(*, num_classes: int = 400) -> VideoResNet:
    """Every convolution is 3x3x3."""
    return VideoResNet(video.r3d_18, num_classes)


def mc3_18(*, num_classes: int = 400) -> VideoResNet:
    """3x3x3 in stem and layer1, then 1x3x3: motion is seen early, at full frame rate."""
    return VideoResNet(video.mc3_18, num_classes)


def r2plus1d_18(*, num_classes: int = 400) -> VideoResNet:
    """Every 3x3x3 convolution is split into 1x3x3 and 3x1x1, with a nonlinearity between them."""
    return VideoResNet(video.r2plus1d_18, num_classes)
