"""MoViNet: searched mobile networks, and their causal form that takes a stream frame by frame.

Kondratyuk et al., "MoViNets: Mobile Video Networks for Efficient Video Recognition", https://arxiv.org/abs/2103.11511

In a `base` network kernels are 3D and centred. In a `stream` network each is one over the picture and one over time
that looks back only, and what the past left behind is a state: a flat dict of tensors that the caller holds.
Sizes, padding and keys are those of the weights converted from TensorFlow for MoViNet-pytorch.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import zoo
from zoo_cnn.blocks import convolve
from zoo_cnn.options import dropped, one_of, whole

State = dict[str, Tensor]

# Stem and last convolution, and for each of five stages its channels and blocks: expanded channels / kernel over time
# and over the picture. The first block of every stage but the fourth halves the picture.
VARIANTS = {
    "a0": (
        *(8, 480),
        (8, "24/15"),
        (32, "80/33 80/33 80/33"),
        (56, "184/53 112/33 184/33"),
        (56, "184/53 184/33 184/33 184/33"),
        (104, "384/53 280/15 280/15 344/15"),
    ),
    "a1": (
        *(16, 600),
        (16, "40/15 40/33"),
        (40, "96/33 120/33 96/33 96/33"),
        (64, "216/53 128/33 216/33 168/33 216/33"),
        (64, "216/53 216/33 216/33 128/33 128/15 216/33"),
        (136, "456/53 360/15 360/15 360/15 456/15 456/33 544/13"),
    ),
    "a2": (
        *(16, 640),
        (16, "40/15 40/33 64/33"),
        (40, "96/33 120/33 96/33 96/33 120/33"),
        (72, "240/53 160/33 240/33 192/33 240/33"),
        (72, "240/53 240/33 240/33 240/33 144/15 240/33"),
        (144, "480/53 384/15 384/15 480/15 480/15 480/33 576/13"),
    ),
    "a3": (
        *(16, 744),
        (16, "40/15 40/33 64/33 40/33"),
        (48, "112/33 144/33 112/33 112/15 144/33 144/33"),
        (80, "240/53 152/33 240/33 192/33 240/33"),
        (88, "264/53 264/33 264/33 264/33 160/15 264/33 264/33 264/33"),
        (168, "560/53 448/15 448/15 560/15 560/15 560/33 448/15 448/15 560/33 672/13"),
    ),
    "a4": (
        *(24, 856),
        (24, "64/15 64/33 96/33 64/33 96/33 64/33"),
        (56, "168/33 168/33 136/33 136/33 168/33 168/33 168/33 136/15 136/33"),
        (96, "320/53 160/33 320/33 192/33 320/33 160/33 320/33 256/33 320/33"),
        (96, "320/53 320/33 320/33 320/33 192/15 320/33 320/33 192/33 320/33 320/33"),
        (192, "640/53 512/15 512/15 640/15 640/15 640/33 512/15 512/15 640/15 768/15 640/15 640/33 768/33"),
    ),
    "a5": (
        *(24, 992),
        (24, "64/15 64/15 96/33 64/33 96/33 64/33"),
        (64, "192/53 152/33 152/33 152/33 192/33 192/33 192/33 152/33 152/33 192/33 192/33"),
        (
            112,
            "376/53 224/33 376/33 376/33 296/33 376/33 224/33 376/33 376/33 296/33 376/33 376/33 376/33",
        ),
        (120, "376/53 376/33 376/33 376/33 224/15 376/33 376/33 224/33 376/33 376/33 376/33"),
        (
            224,
            "744/53 744/33 600/15 600/15 744/15 744/15 744/33 896/15 600/15 600/15 896/15 744/15 744/33 896/15 "
            "600/15 600/15 744/15 744/33",
        ),
    ),
}
HIDDEN = 2048


def same(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """TensorFlow's SAME padding before and after: an odd pixel more goes after, so it depends on the size."""
    total = max(kernel - (size % stride or stride), 0)
    return total // 2, total - total // 2


def round8(channels: int) -> int:
    """To a multiple of eight, at least eight, and never below nine tenths."""
    rounded = max(8, (channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


class Kernel(nn.Module):
    """A convolution, norm and activation. Its weight is stored with the axes that the published layout has."""

    FOLDS = (("conv3d", "norm"), ("conv2d", "norm"))

    def __init__(
        self,
        axes: str,
        channels: int,
        out: int,
        kernel: tuple[int, int, int],
        stride: int,
        groups: int,
        act: nn.Module,
        *,
        norm: bool = True,
    ) -> None:
        super().__init__()
        self.axes, self.stride = axes, stride
        t, s, _ = kernel
        if axes == "thw":
            self.conv3d = nn.Conv3d(channels, out, kernel, groups=groups, bias=not norm)
        else:  # over the picture, or over time
            self.conv2d = nn.Conv2d(channels, out, (t, 1) if axes == "t" else (s, s), groups=groups, bias=not norm)
        self.norm: nn.Module = nn.BatchNorm3d(out, eps=1e-3) if norm else nn.Identity()
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        layer = self.conv3d if self.axes == "thw" else self.conv2d
        weight = layer.weight
        if self.axes != "thw":
            weight = weight.unsqueeze(4 if self.axes == "t" else 2)
        t, s, _ = weight.shape[2:]
        time = t // 2 if self.axes == "thw" else 0  # over time alone: the caller puts the past in front
        rows, columns = same(x.shape[3], s, self.stride), same(x.shape[4], s, self.stride)
        if rows[0] != rows[1] or columns[0] != columns[1]:
            x, rows, columns = F.pad(x, (*columns, *rows)), (0, 0), (0, 0)
        strides, padding = (1, self.stride, self.stride), (time, rows[0], columns[0])
        return self.act(self.norm(convolve(x, weight, layer.bias, strides, padding, layer.groups)))


class Conv(nn.Module):
    """One convolution of the paper: 3D, or in a causal network one over the picture and one back over time."""

    def __init__(
        self,
        causal: bool,
        channels: int,
        out: int,
        kernel: tuple[int, int, int] = (1, 1, 1),
        *,
        stride: int = 1,
        groups: int = 1,
        act: nn.Module | None = None,
        norm: bool = True,
    ) -> None:
        super().__init__()
        act = act or nn.Identity()
        self.past = (kernel[0] - 1) if causal else 0  # frames
        self.channels = out
        axes = "hw" if causal else "thw"
        self.conv_1 = Kernel(axes, channels, out, kernel, stride, groups, act, norm=norm)
        if self.past:
            self.conv_2 = Kernel("t", out, out, kernel, 1, groups, act, norm=norm)

    def step(self, x: Tensor, past: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """The output, and the frames that the next step has to know."""
        x = self.conv_1(x)
        if not self.past:
            return x, None
        if past is None:
            past = x.new_zeros(1, 1, 1, 1, 1)
        past = zoo.VideoModel.spread(past, x.shape[0], x.shape[1], self.past, *x.shape[3:]).to(x.dtype)
        x = torch.cat([past, x], 2)
        return self.conv_2(x), x[:, :, -self.past :].clone()

    def forward(self, x: Tensor) -> Tensor:
        return self.step(x)[0]


def running_mean(frames: Tensor, mean: Tensor | float, seen: Tensor | int) -> Tensor:
    """After each of these frames `[B, C, T, 1, 1]` the mean of all so far, where `mean` is that of the `seen` before.

    A sum would grow for ever, and in the end no longer change by a frame.
    """
    new = torch.arange(1, frames.shape[2] + 1, device=frames.device)[:, None, None]
    return mean + (frames.cumsum(2) / new - mean) * (new / (seen + new)).to(frames.dtype)


class SqueezeExcite(nn.Module):
    """A factor for every channel, from the means of all; in a causal network from the frame and from all so far."""

    def __init__(self, causal: bool, channels: int) -> None:
        super().__init__()
        self.causal = causal
        width = 2 if causal else 1
        squeezed = round8(channels // 4 * width)
        self.fc1 = Conv(causal, width * channels, squeezed, norm=False)
        self.fc2 = Conv(causal, squeezed, channels, norm=False)

    def step(self, x: Tensor, mean: Tensor | float = 0.0, seen: Tensor | int = 0) -> tuple[Tensor, Tensor]:
        """The output, and the mean of all frames so far; `seen` frames were before."""
        frames = x.mean((3, 4), keepdim=True)
        means = running_mean(frames, mean, seen)
        if self.causal:
            hidden = F.hardswish(self.fc1(torch.cat([means, frames], 1)))
            scale = (0.2 * self.fc2(hidden) + 0.5).clamp(0, 1)  # TensorFlow's hard sigmoid
        else:
            scale = self.fc2(F.silu(self.fc1(frames.mean(2, keepdim=True)))).sigmoid()
        return x * scale, means[:, :, -1:]

    def forward(self, x: Tensor) -> Tensor:
        return self.step(x)[0]


class SamePool(nn.Module):
    """Means of 3x3 pixels, every other one; padding counts for nothing."""

    def forward(self, x: Tensor) -> Tensor:
        pads = (*same(x.shape[4], 3, 2), *same(x.shape[3], 3, 2))
        sums = F.avg_pool3d(F.pad(x, pads), (1, 3, 3), (1, 2, 2))
        return sums / F.avg_pool3d(F.pad(x.new_ones(1, 1, 1, *x.shape[3:]), pads), (1, 3, 3), (1, 2, 2))


class Block(nn.Module):
    """Expand, depthwise convolution, squeeze and excite, project; times a learned factor, beside a shortcut."""

    def __init__(
        self, causal: bool, channels: int, expanded: int, out: int, kernel: tuple[int, int, int], stride: int
    ) -> None:
        super().__init__()
        act = nn.Hardswish() if causal else nn.SiLU()
        self.expand: nn.Module = Conv(causal, channels, expanded, act=act) if expanded != out else nn.Identity()
        self.deep = Conv(causal, expanded, expanded, kernel, stride=stride, groups=expanded, act=act)
        self.se = SqueezeExcite(causal, expanded)
        self.project = Conv(causal, expanded, out)
        shortcut: list[nn.Module] = [SamePool()] if stride > 1 else []
        if stride > 1 or channels != out:
            shortcut.append(Conv(causal, channels, out))
        self.res = nn.Sequential(*shortcut)
        self.alpha = nn.Parameter(torch.zeros(()))

    def step(self, x: Tensor, state: State, name: str) -> tuple[Tensor, State]:
        """The output and the block's part of the next state."""
        y, past = self.deep.step(self.expand(x), state.get(f"{name}.past"))
        seen = state["frames"][:, None, None, None, None] if state else 0
        y, mean = self.se.step(y, state.get(f"{name}.mean", 0.0), seen)
        new = {f"{name}.mean": mean} if past is None else {f"{name}.mean": mean, f"{name}.past": past}
        return torch.addcmul(self.res(x), self.alpha, self.project(y)), new

    def forward(self, x: Tensor) -> Tensor:
        return self.step(x, {}, "")[0]


class MoViNet(zoo.VideoModel):
    """A MoViNet. Where it is causal, `step` takes a stream in chunks of any length, and says what one pass would."""

    def __init__(self, variant: str, causal: bool, num_classes: int, dropout: float, longest: int | None) -> None:
        super().__init__()
        channels, last, *stages = VARIANTS[variant]
        self.causal, self.dropout = causal, dropout
        act = nn.Hardswish() if causal else nn.SiLU()
        self.conv1 = Conv(causal, 3, channels, (1, 3, 3), stride=2, act=act)
        self.blocks = nn.Sequential()
        self.starts = [0]
        for i, (out, blocks) in enumerate(stages):
            for j, (expanded, kernel) in enumerate(block.split("/") for block in blocks.split()[:longest]):
                t, s = map(int, kernel)
                stride = 2 if j == 0 and i != 3 else 1
                self.blocks.add_module(f"b{i}_l{j}", Block(causal, channels, int(expanded), out, (t, s, s), stride))
                channels = out
            self.starts.append(len(self.blocks))
        self.conv7 = Conv(causal, channels, last, act=act)
        self.num_features, self.num_classes = last, num_classes
        hidden = Conv(causal, last, HIDDEN, norm=False)
        self.classifier = nn.Sequential(hidden, nn.SiLU(), nn.Dropout(dropout), self._last_layer(num_classes))
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def stages(self) -> dict[str, nn.Module]:
        return {  # [B, 3, T, H, W]; T stays
            "conv1": self.conv1,  # H/2
            **{f"b{i}": self.blocks[a:b] for i, (a, b) in enumerate(zip(self.starts, self.starts[1:], strict=False))},
            "conv7": self.conv7,  # [B, num_features, T, H/32, W/32]
        }

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        return self._classify(features.mean((2, 3, 4), keepdim=True), pre_logits)

    def init_state(self, batch: int, size: tuple[int, int] | None = None) -> State:
        """What is known before the first frame: nothing.

        size: (height, width) of the frames makes every tensor as large as it will be after the first step; without it
        pasts are one pixel wide. Row i of every tensor belongs to stream i; zeros in it start that stream anew.
        """
        if not self.causal:
            return super().init_state(batch, size)  # which raises
        like = self.classifier[0].conv_1.conv2d.weight
        state = {"frames": torch.zeros(batch, dtype=torch.long, device=like.device)}
        h, w = (-(-side // 2) for side in size or (1, 1))
        for name, block in self.blocks.named_children():
            h, w = -(-h // block.deep.conv_1.stride), -(-w // block.deep.conv_1.stride)
            channels = block.deep.channels
            state[f"{name}.mean"] = like.new_zeros(batch, channels, 1, 1, 1)
            if block.deep.past:
                state[f"{name}.past"] = like.new_zeros(batch, channels, block.deep.past, h, w)
        state["head.mean"] = like.new_zeros(batch, self.num_features, 1, 1, 1)
        return state

    def step(self, frames: Tensor, state: State) -> tuple[Tensor, State]:
        """Logits after these frames `[B, 3, T, H, W]` and all before them, and the next state. Changes neither."""
        self.check_step(frames, state)
        new = {"frames": state["frames"] + frames.shape[2]}
        x = self.conv1(frames)
        for name, block in self.blocks.named_children():
            x, part = block.step(x, state, name)
            new |= part
        x = self.conv7(x)
        seen = state["frames"][:, None, None, None, None]
        mean = new["head.mean"] = running_mean(x.mean((3, 4), keepdim=True), state["head.mean"], seen)[:, :, -1:]
        logits = self._classify(mean, False)
        return logits, {name: part.contiguous() for name, part in new.items()}  # which safetensors asks for

    def _classify(self, pooled: Tensor, pre_logits: bool) -> Tensor:
        hidden = self.classifier[:2](pooled)  # [B, 2048, 1, 1, 1]
        if pre_logits or not self.num_classes:
            return hidden.flatten(1)
        return self.classifier[2:](hidden).flatten(1)

    def reset_classifier(self, num_classes: int) -> None:
        self.num_classes = num_classes
        like = next(self.conv1.parameters())
        self.classifier[3] = self._last_layer(num_classes).to(like.device, like.dtype)

    def _last_layer(self, num_classes: int) -> nn.Module:
        return Conv(self.causal, HIDDEN, num_classes, norm=False) if num_classes else nn.Identity()


def movinet(
    *, variant: str, causal: bool, num_classes: int = 600, dropout: float = 0.2, longest: int | None = None
) -> MoViNet:
    """A MoViNet of size "a0" to "a5". causal: the form that takes streams. longest: of every stage, only its first."""
    one_of("variant", variant, VARIANTS)
    one_of("causal", causal, (True, False))
    if longest is not None:
        whole("longest", longest)
    return MoViNet(variant, causal, num_classes, dropped(dropout), longest)
