"""C3D: eight 3x3x3 convolutions and three linear layers, the first 3D network whose features everybody used.

Tran et al., "Learning Spatiotemporal Features with 3D Convolutional Networks", https://arxiv.org/abs/1412.0767

Linear layers on flattened maps: it takes clips of 16 frames of 112x112 and nothing else.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

import zoo
from zoo_cnn.blocks import Conv3d
from zoo_cnn.options import dropped, whole

# name, channels and what follows it: pooling over space (1), over time and space (2), or nothing (0)
CONVOLUTIONS = (
    ("conv1a", 64, 1),
    ("conv2a", 128, 2),
    ("conv3a", 256, 0),
    ("conv3b", 256, 2),
    ("conv4a", 512, 0),
    ("conv4b", 512, 2),
    ("conv5a", 512, 0),
    ("conv5b", 512, 2),
)
HIDDEN = 4096


class Layer(nn.Module):
    """One or two convolutions with ReLU, then pooling. The last pooling is padded: 7 pixels become 4."""

    def __init__(self, convolutions: list[nn.Module], time: int, padded: bool) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(convolutions)
        self.pool = nn.MaxPool3d((time, 2, 2), (time, 2, 2), (0, 1, 1) if padded else 0)

    def forward(self, x: Tensor) -> Tensor:
        for convolution in self.convolutions:
            x = F.relu(convolution(x), inplace=True)
        return self.pool(x)


class C3D(zoo.VideoModel):
    """C3D. Features are the maps before the linear layers; `pre_logits` gives the paper's fc7, [B, 4096]."""

    def __init__(self, num_classes: int, dropout: float, thinner: int) -> None:
        super().__init__()
        channels, self.hidden = 3, HIDDEN // thinner
        for name, out, _ in CONVOLUTIONS:
            out = out // thinner
            self.add_module(name, Conv3d(channels, out, 3, padding=1))
            channels = out
        self.fc6 = nn.Linear(channels * 4 * 4, self.hidden)
        self.fc7 = nn.Linear(self.hidden, self.hidden)
        self.fc8 = self._last_layer(num_classes)
        self.dropout = dropout
        self.num_features, self.num_classes = channels, num_classes
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, 0, 0.005)
                nn.init.zeros_(module.bias)

    def stages(self) -> dict[str, nn.Module]:
        # Made on every call, as keeping them would give every parameter a second name.
        stages, group = {}, []
        for name, _, pool in CONVOLUTIONS:  # [B, 3, 16, 112, 112]
            group.append(self.get_submodule(name))
            if pool:  # layer1: [B, 64, 16, 56, 56], then 128, 8, 28; 256, 4, 14; 512, 2, 7; layer5: [B, 512, 1, 4, 4]
                stages[f"layer{len(stages) + 1}"] = Layer(group, pool, name == "conv5b")
                group = []
        return stages

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        x = F.relu(self.fc6(features.flatten(1)))
        x = F.relu(self.fc7(F.dropout(x, self.dropout, self.training)))
        if pre_logits or not self.num_classes:
            return x
        return self.fc8(F.dropout(x, self.dropout, self.training))

    def reset_classifier(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self.fc8 = self._last_layer(num_classes).to(self.fc7.weight.device, self.fc7.weight.dtype)

    def _last_layer(self, num_classes: int) -> nn.Module:
        return nn.Linear(self.hidden, num_classes) if num_classes else nn.Identity()


def c3d(*, num_classes: int = 487, dropout: float = 0.5, thinner: int = 1) -> C3D:
    """C3D with the classes of Sports-1M. thinner: so many times fewer channels than published."""
    return C3D(num_classes, dropped(dropout), whole("thinner", thinner, 1, 64))
