"""What the bottleneck networks of this family are made of: stem, bottleneck, residual stage, head, and the network.

Modules and their names are laid out as in PyTorchVideo's hub models, so that `state_dict` has the published keys and
their files load as they are. Maps are [B, C, T, H, W] throughout.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import zoo
from zoo_cnn.options import dropped, one_of

Activation = Callable[..., Tensor]
Triple = tuple[int, int, int]


def for_convolutions(maps: Tensor) -> Tensor:
    """The same maps, with their channels last in memory where that makes 3D convolutions several times faster.

    On a CPU the framework's plain layout sends depthwise and 1x1x1 convolutions through slow code. Norms, ReLUs and
    pooling keep the layout they are given. The numbers are the same to a few units in the last place.
    """
    return maps.contiguous(memory_format=torch.channels_last_3d) if maps.device.type == "cpu" else maps


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, stride: Triple, padding: Triple, groups: int) -> Tensor:
    """A 3D convolution that takes and gives maps with their channels last on a CPU, where 1x1x1 is a matrix product.

    The framework decides by the size of the maps and the number of threads whether oneDNN may have a convolution; those
    it may not have are slow, and lose the layout.
    """
    if x.device.type != "cpu":
        return F.conv3d(x, weight, bias, stride, padding, groups=groups)
    if weight.shape[2:] == (1, 1, 1) and groups == 1:
        t, h, w = stride
        rows = x[:, :, ::t, ::h, ::w].permute(0, 2, 3, 4, 1)  # [B, T, H, W, C], a view if channels are last
        return F.linear(rows, weight.flatten(1), bias).permute(0, 4, 1, 2, 3)
    x = for_convolutions(x)
    if weight.shape[2] == stride[0] == 1 and not padding[0]:  # in 2D, oneDNN may have it whatever its size
        pictures = x.transpose(1, 2).flatten(0, 1)  # [BT, C, H, W], a view
        y = F.conv2d(pictures, weight[:, :, 0], bias, stride[1:], padding[1:], groups=groups)
        return for_convolutions(y.unflatten(0, (-1, x.shape[2])).transpose(1, 2))
    if weight.shape[3:] == stride[1:] == (1, 1) and not any(padding[1:]):  # so it may have pixels in a row, over time
        y = F.conv2d(x.flatten(3), weight.flatten(3), bias, (stride[0], 1), (padding[0], 0), groups=groups)
        return for_convolutions(y.unflatten(3, x.shape[3:]))
    return for_convolutions(F.conv3d(x, weight, bias, stride, padding, groups=groups))


def absorbed(weight: Tensor, bias: Tensor | None, norm: nn.BatchNorm3d) -> tuple[Tensor, Tensor]:
    """Weight and bias of a convolution that does what one with these does with this norm after it, in evaluation."""
    assert norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    shift = torch.addcmul(norm.bias, norm.running_mean, scale, value=-1)
    return weight * scale.reshape(-1, *[1] * (weight.ndim - 1)), shift if bias is None else shift + bias * scale


class Conv3d(nn.Conv3d):
    """`convolve` as a module, with the norm that follows it if there is one.

    In evaluation on a CPU the norm scales the weights, which are few, instead of the maps: a pass over memory less.
    """

    def forward(self, x: Tensor, norm: nn.Module | None = None) -> Tensor:
        weight, bias = self.weight, self.bias
        if x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64) and self._may_absorb(norm):
            weight, bias = absorbed(weight, bias, norm)
            norm = None
        y = convolve(x, weight, bias, self.stride, self.padding, self.groups)
        return y if norm is None else norm(y)

    def _may_absorb(self, norm: nn.Module | None) -> TypeGuard[nn.BatchNorm3d]:
        """Whether it is one that adds up nothing now, and nobody looks at what is between the two."""
        if type(norm) is not nn.BatchNorm3d or norm.training or norm.running_mean is None or norm.weight is None:
            return False
        return not (self._forward_hooks or norm._forward_hooks or norm._forward_pre_hooks)


def conv(channels: int, out: int, kernel: Triple, stride: Triple = (1, 1, 1), groups: int = 1) -> Conv3d:
    """A convolution without bias that keeps the size, but for its stride."""
    padding = tuple(k // 2 for k in kernel)
    return Conv3d(channels, out, kernel, stride, padding, groups=groups, bias=False)


class Stem(nn.Module):
    """Convolution, norm, ReLU and, if there is one, max pooling over space."""

    FOLDS = (("conv", "norm"),)

    def __init__(self, convolution: nn.Module, out: int, *, pool: bool = True) -> None:
        super().__init__()
        self.conv = convolution
        self.norm = nn.BatchNorm3d(out)
        self.pool = nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)) if pool else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(F.relu(self.conv(x, self.norm), inplace=True))


class Bottleneck(nn.Module):
    """1x1 convolution to few channels (over `time_kernel` frames), `conv_b` among them, 1x1x1 to many."""

    FOLDS = (("conv_a", "norm_a"), ("conv_b", "norm_b"), ("conv_c", "norm_c"))

    def __init__(
        self,
        channels: int,
        inner: int,
        out: int,
        conv_b: nn.Module,
        *,
        time_kernel: int = 1,
        norm_b: nn.Module | None = None,
        act_b: Activation = F.relu,
    ) -> None:
        super().__init__()
        self.conv_a = conv(channels, inner, (time_kernel, 1, 1))
        self.norm_a = nn.BatchNorm3d(inner)
        self.conv_b = conv_b
        self.norm_b = norm_b or nn.BatchNorm3d(inner)
        self.act_b = act_b
        self.conv_c = conv(inner, out, (1, 1, 1))
        self.norm_c = nn.BatchNorm3d(out)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv_a(x, self.norm_a), inplace=True)
        x = self.act_b(self.inside(x), inplace=True)
        return self.conv_c(x, self.norm_c)

    def inside(self, x: Tensor) -> Tensor:
        return self.conv_b(x, self.norm_b)


class ResBlock(nn.Module):
    """`branch2` beside a shortcut, which is a strided 1x1x1 convolution where the shape changes."""

    FOLDS = (("branch1_conv", "branch1_norm"),)

    def __init__(self, branch2: Bottleneck, channels: int, out: int, stride: Triple, *, norm: bool = True) -> None:
        super().__init__()
        changes = channels != out or stride != (1, 1, 1)
        self.branch1_conv = conv(channels, out, (1, 1, 1), stride) if changes else nn.Identity()
        self.branch1_norm = nn.BatchNorm3d(out) if changes and norm else nn.Identity()
        self.branch2 = branch2

    def forward(self, x: Tensor) -> Tensor:
        y = self.branch2(x)  # first, so that no shortcut takes memory meanwhile
        shortcut = x if isinstance(self.branch1_conv, nn.Identity) else self.branch1_conv(x, self.branch1_norm)
        return F.relu(y.add_(shortcut), inplace=True)


class ResStage(nn.Module):
    """Residual blocks; the first one changes channels and size."""

    def __init__(self, blocks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.res_blocks = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        return self.res_blocks(x)


def pool_windows(maps: Tensor, window: Triple | None) -> Tensor:
    """Means over windows of this size, one step apart; over all there is (None), or along an axis too short for one.

    The published heads were given windows as large as the maps of the TRAINING crop. At the larger test crop there are
    several windows, the middle of the maps counts more often, and the published accuracy is of just that.
    """
    size = maps.shape[2:]
    kernel = size if window is None else [min(pair) for pair in zip(window, size, strict=True)]
    return F.avg_pool3d(maps, tuple(kernel), stride=1)


class Head(nn.Module):
    """Window means, dropout, linear layer. `proj` is linear, so it sees the mean of the windows instead of each."""

    def __init__(self, features: int, num_classes: int, window: Triple | None, dropout: float) -> None:
        super().__init__()
        self.window = window
        self.dropout = dropped(dropout)
        self.features = features
        self.proj: nn.Module = nn.Linear(features, num_classes) if num_classes else nn.Identity()

    def pre_logits(self, maps: Tensor) -> Tensor:
        return pool_windows(maps, self.window).mean((2, 3, 4))

    def forward(self, maps: Tensor) -> Tensor:
        return self.classify(self.pre_logits(maps))

    def classify(self, rows: Tensor) -> Tensor:
        if isinstance(self.proj, nn.Identity):
            return rows  # features are the same in training: dropout belongs to the classifier
        return self.proj(F.dropout(rows, self.dropout, self.training))


class BlockNet(zoo.VideoModel):
    """A network that is a row of `blocks`, the last of which is its head.

    names: of the stages; those named "" run as the end of the stage before.
    """

    def __init__(self, blocks: Sequence[nn.Module], names: Sequence[str], num_features: int, num_classes: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*blocks)
        self.names = tuple(names)
        self.num_features = num_features
        self.num_classes = num_classes
        initialise(self)

    @property
    def head(self) -> Head:
        head = self.blocks[-1]
        assert isinstance(head, Head)
        return head

    def stages(self) -> dict[str, nn.Module]:
        # Slices of a Sequential are views; made on every call, as keeping them would give parameters a second name.
        starts = [i for i, name in enumerate(self.names) if name]
        return {self.names[a]: self.blocks[a:b] for a, b in pairwise([*starts, len(self.names)])}

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        return self.head.pre_logits(features) if pre_logits else self.head(features)

    def reset_classifier(self, num_classes: int) -> None:
        self.num_classes = num_classes
        if not num_classes:
            self.head.proj = nn.Identity()
            return
        like = next(self.blocks[0].parameters())
        self.head.proj = nn.Linear(self.head.features, num_classes, device=like.device, dtype=like.dtype)
        initialise(self.head.proj)


def initialise(model: nn.Module) -> None:
    """Fresh weights as the papers have them: every residual branch starts at zero, so a deep network starts shallow."""
    for module in model.modules():
        if isinstance(module, nn.Conv3d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0, 0.01)
            nn.init.zeros_(module.bias)
    for module in model.modules():
        if isinstance(module, Bottleneck):
            nn.init.zeros_(module.norm_c.weight)


def head_window(head_pool: str, window: Triple) -> Triple | None:
    """The window that the option `head_pool` of every builder asks for."""
    return window if one_of("head_pool", head_pool, ("window", "global")) == "window" else None


def depths(depth: int) -> tuple[int, int, int, int]:
    """Blocks of the four stages of a network of so many layers; 10 is for tests."""
    known = {10: (1, 1, 1, 1), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
    return known[one_of("depth", depth, known)]


STAGES = ("stem", "res2", "res3", "res4", "res5")
