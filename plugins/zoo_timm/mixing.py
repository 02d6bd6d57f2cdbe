"""Three ways in which the frames of a clip meet inside an image network.

Temporal shift: Lin et al., "TSM: Temporal Shift Module for Efficient Video Understanding",
https://arxiv.org/abs/1811.08383, as in https://github.com/mit-han-lab/temporal-shift-module (`ops/temporal_shift.py`).
Inflation: Carreira and Zisserman, "Quo Vadis, Action Recognition?", https://arxiv.org/abs/1705.07750.
Stacking, "early fusion": Karpathy et al., "Large-scale Video Classification with Convolutional Neural Networks",
https://cs.stanford.edu/people/karpathy/deepvideo/

The first two replace the class of a convolution that is there already, so that names of parameters stay timm's; the
third needs nothing but more channels, which timm gives its networks itself.
"""

from __future__ import annotations

import re

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.errors import SpecError

FOLDS = 8  # an eighth of the channels comes from the next frame, an eighth from the one before
LONG_STAGE = 23  # blocks; in networks with such a third stage every other block shifts

# The convolution in front of which a residual block shifts, by timm's module and class.
SHIFTS = {
    ("resnet", "BasicBlock"): "conv1",
    ("resnet", "Bottleneck"): "conv1",
    ("res2net", "Bottle2neck"): "conv1",
    ("resnest", "ResNestBottleneck"): "conv1",
    ("regnet", "Bottleneck"): "conv1.conv",
    ("_efficientnet_blocks", "InvertedResidual"): "conv_pw",  # those with a residual only
}

# Networks of plain convolutions, norms and pools, whose inflation is the same network over time.
INFLATABLE = re.compile(
    r"resnet\d+[cdst]?|wide_resnet\d+_2|resnext\d+d?_\w+|test_resnet|densenet\w+|vgg\d+(_bn)?|repvgg_[abd]\w+"
    r"|dla\d+(x|x_c|_c)?|dla102x2|xception\d+p?"
)


class ClipLength:
    """How many of the frames in a batch belong to one clip. Shared by a model and its layers.

    Not for two threads, and with gradient checkpointing not for clips of two lengths before one backward.
    """

    def __init__(self) -> None:
        self.frames = 1


def temporal_shift(frames: Tensor, length: int, folds: int = FOLDS) -> Tensor:
    """Channels of `[B*T, C, H, W]` moved along time: the first 1/folds comes from the next frame, the second from the
    one before, the rest stays. Zeros come in at the ends of a clip of `length` frames.
    """
    clips = frames.unflatten(0, (-1, length))
    fold = clips.shape[2] // folds
    coming, gone, still = clips.split((fold, fold, clips.shape[2] - 2 * fold), dim=2)
    coming = F.pad(coming[:, 1:], (0, 0, 0, 0, 0, 0, 0, 1))
    gone = F.pad(gone[:, :-1], (0, 0, 0, 0, 0, 0, 1, 0))
    return torch.cat((coming, gone, still), dim=2).flatten(0, 1)


class ShiftedConv2d(nn.Conv2d):
    """A convolution that sees its input shifted along time."""

    clip: ClipLength

    def forward(self, frames: Tensor) -> Tensor:
        return super().forward(temporal_shift(frames, self.clip.frames))


class InflatedConv2d(nn.Conv2d):
    """A convolution of space and time on folded frames, `weight` `[O, I, K, h, w]`; the ends of a clip are repeated."""

    clip: ClipLength

    def forward(self, frames: Tensor) -> Tensor:  # [B*T, I, H, W]
        clips = frames.unflatten(0, (-1, self.clip.frames)).transpose(1, 2)
        ends = self.weight.shape[2] // 2
        first, last = clips[:, :, :1], clips[:, :, -1:]
        clips = torch.cat((*[first] * ends, clips, *[last] * ends), dim=2)
        stride, padding, dilation = ((1, *self.stride), (0, *self.padding), (1, *self.dilation))
        out = F.conv3d(clips, self.weight, self.bias, stride, padding, dilation, self.groups)
        return out.transpose(1, 2).flatten(0, 1)


def add_shift(network: nn.Module, arch: str) -> ClipLength:
    """Let the residual blocks of timm's network shift, as published: before their first convolution."""
    clip, places = ClipLength(), []
    counts: dict[str, int] = {}  # blocks of each stage
    for name, block in network.named_modules():
        path = SHIFTS.get((type(block).__module__.rpartition(".")[2], type(block).__name__))
        if path is None or not getattr(block, "has_skip", True):
            continue
        stage = name.rpartition(".")[0]
        places.append((stage, counts.setdefault(stage, 0), block.get_submodule(path)))
        counts[stage] += 1
    convolutions = [conv for _, _, conv in places]
    if not convolutions or any(type(conv) is not nn.Conv2d for conv in convolutions):
        families = ", ".join(sorted({module.strip("_") for module, _ in SHIFTS}))
        raise SpecError(f"timm's {arch} has no residual blocks that shift", hint=f"those of {families} do")
    step = 2 if counts.get("layer3", 0) >= LONG_STAGE else 1
    for _, position, conv in places:
        if position % step == 0:
            conv.__class__, conv.clip = ShiftedConv2d, clip
    return clip


def inflate(network: nn.Module, arch: str, length: int = 3) -> ClipLength:
    """Let every convolution of more than one pixel look at `length` frames, with its weights spread evenly over them.

    On a clip of equal frames the network says what it says of one frame.
    """
    if not INFLATABLE.fullmatch(arch):
        raise SpecError(
            f"timm's {arch} is not known to be itself on a still clip when it is inflated",
            hint="ResNet, ResNeXt, DenseNet, VGG, RepVGG, DLA and Xception can be inflated",
        )
    if length < 1 or length % 2 == 0:
        raise SpecError(f"inflate={length!r}", hint="an odd number of frames, such as 3")
    clip = ClipLength()
    for conv in network.modules():
        if type(conv) is nn.Conv2d and max(conv.kernel_size) > 1:
            conv.weight = nn.Parameter(inflated(conv.weight.detach(), length))
            conv.__class__, conv.clip = InflatedConv2d, clip
    return clip


def inflated(weight: Tensor, length: int) -> Tensor:
    """`[O, I, h, w]` as `[O, I, length, h, w]` of the same sum."""
    return weight.unsqueeze(2).repeat(1, 1, length, 1, 1) / length
