"""S3D: an Inception network whose 3D convolutions are split into one over space and one over time.

Xie et al., "Rethinking Spatiotemporal Feature Learning: Speed-Accuracy Trade-offs in Video Classification",
https://arxiv.org/abs/1712.04851

The layers are torchvision's own, under torchvision's names: its published file loads as it is, its logits are ours
bit for bit. (torchvision has the paper's S3D without the feature gating of S3D-G.)
"""

from __future__ import annotations

from torch import Tensor, nn
from torchvision.models import video

import zoo
from zoo_cnn.options import dropped, several


class S3D(zoo.VideoModel):
    """S3D. `features` keeps its 16 numbered blocks; `stages` shows them in the paper's five groups."""

    def __init__(self, num_classes: int, dropout: float, window: tuple[int, int, int]) -> None:
        super().__init__()
        frames, height, width = window
        # The least that leaves one window to the head: every stage halves its input and rounds up, the last one down.
        self.geometry = zoo.Geometry(min_frames=8 * frames - 3, min_size=32 * max(height, width) - 15)
        network = video.s3d(weights=None, num_classes=num_classes or 1, dropout=dropout)
        self.features = network.features
        self.avgpool = nn.AvgPool3d(window, stride=1)  # up to 20 frames of 240x240 there is just one of 2x7x7
        self.classifier = network.classifier  # dropout, 1x1x1 convolution
        self.num_features = network.classifier[1].in_channels
        self.num_classes = num_classes
        if not num_classes:
            self.reset_classifier(0)

    def stages(self) -> dict[str, nn.Module]:
        # All but the first open with the pooling that shrinks their input. A slice of a Sequential is a view of the
        # same modules; it is made on every call, as keeping it would give every parameter a second name.
        blocks = self.features
        return {  # [B, 3, T, H, W]
            "conv1": blocks[:1],  # [B, 64, T/2, H/2, W/2]
            "conv2": blocks[1:4],  # [B, 192, T/2, H/4, W/4]
            "mixed3": blocks[4:7],  # [B, 480, T/2, H/8, W/8]
            "mixed4": blocks[7:13],  # [B, 832, T/4, H/16, W/16]
            "mixed5": blocks[13:],  # [B, 1024, T/8, H/32, W/32]
        }

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        windows = self.avgpool(features)  # [B, 1024, T' - 1, H' - 6, W' - 6]
        if self.num_classes and not pre_logits:
            windows = self.classifier(windows)  # [B, num_classes, ...]
        return windows.mean((2, 3, 4))

    def reset_classifier(self, num_classes: int) -> None:
        self.num_classes = num_classes
        if not num_classes:
            self.classifier[1] = nn.Identity()
            return
        like = next(self.features.parameters())
        self.classifier[1] = nn.Conv3d(self.num_features, num_classes, 1, device=like.device, dtype=like.dtype)


def s3d(*, num_classes: int = 400, dropout: float = 0.2, window: tuple[int, int, int] = (2, 7, 7)) -> S3D:
    """S3D as torchvision publishes it. A smaller `window` of the head's pooling takes smaller clips."""
    frames, height, width = several("window", window, 3)
    return S3D(num_classes, dropped(dropout), (frames, height, width))
