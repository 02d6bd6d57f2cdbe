"""Networks for clips, run on a stream: the same weights, and every frame computed once.

Hedegaard and Iosifidis, "Continual 3D Convolutional Neural Networks for Real-time Processing of Videos",
https://arxiv.org/abs/2106.00050

Of a convolution over three frames that has seen the first two, a new frame costs a third. So each layer keeps what the
last frames add to the answers to come. Its answer is that of the frame in the middle of its kernel: the network is late
by the sum of these halves (`delay`), and shortcuts wait for the branch beside them. Pooling and squeeze-and-excitation
over a whole clip become means over the last `frames` of the stream.

From then on the answers are those of the same weights without the zeros that a clip network pads its clips with in
time. At the start of a stream there are such zeros, before its first frame; after its last there are none. A stride in
time becomes a dilation of all that follows: there is an answer for every frame, not for every other.
"""

from __future__ import annotations

import copy
import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import zoo
from zoo.errors import SpecError
from zoo_cnn.blocks import BlockNet, Bottleneck, Head, ResBlock, ResStage, Stem, for_convolutions, pool_windows
from zoo_cnn.csn import csn
from zoo_cnn.options import one_of, whole
from zoo_cnn.r2plus1d import Conv2plus1d, r2plus1d
from zoo_cnn.resnet3d import resnet3d
from zoo_cnn.x3d import SqueezeExcite, StemConv, X3DHead, x3d

State = dict[str, Tensor]


class Run:
    """Layers running on new frames `[B, C, t, H, W]`. `state` is what they remember, `kept` what they will.

    seen: how many frames of each stream were before, `[B]`. new: how many there are now. window: of the means over
    recent frames. delay: by how many frames what comes out of the layers so far is late; what would be from before the
    first frame of a stream counts nowhere. started: that is over for all streams. settled: all windows are full.
    """

    def __init__(self, state: State, seen: Tensor, new: int, window: int) -> None:
        self.state, self.seen, self.new, self.window = state, seen, new, window
        self.kept: State = {}
        self.delay = 0
        self.started = self.settled = False

    def __call__(self, name: str, layer: nn.Module, x: Tensor) -> Tensor:
        match layer:
            case nn.Sequential():
                for child, part in layer.named_children():
                    x = self(f"{name}.{child}", part, x)
                return x
            case Stem():
                return layer.pool(F.relu(layer.norm(self(f"{name}.conv", layer.conv, x)), inplace=True))
            case StemConv():
                return self(f"{name}.conv_xy", layer.conv_xy, layer.conv_t(x))
            case Conv2plus1d():
                return layer.conv_xy(F.relu(layer.norm(self(f"{name}.conv_t", layer.conv_t, x)), inplace=True))
            case ResStage():
                return self(f"{name}.res_blocks", layer.res_blocks, x)
            case ResBlock():
                return self.beside_shortcut(name, layer, x)
            case Bottleneck():
                x = F.relu(layer.norm_a(self(f"{name}.conv_a", layer.conv_a, x)), inplace=True)
                x = self(f"{name}.norm_b", layer.norm_b, self(f"{name}.conv_b", layer.conv_b, x))
                return layer.norm_c(layer.conv_c(layer.act_b(x, inplace=True)))
            case SqueezeExcite():
                return x * layer.block(self.recent_mean(name, x.mean((3, 4), keepdim=True), self.window))
            case nn.Conv3d() if reach(layer):
                return self.convolution(name, layer, x)
            case nn.MaxPool3d() if reach(layer):
                frames = self.with_past(name, x, reach(layer))
                self.delay += lateness(layer)
                return F.max_pool3d(frames, layer.kernel_size, layer.stride, layer.padding, layer.dilation)
        return layer(x)  # frame by frame

    def convolution(self, name: str, layer: nn.Conv3d, x: Tensor) -> Tensor:
        """What the new frames add to their answers and to the next ones, beside what was added to these before.

        So it is answers that are kept, `[B, reach, H, W, C]`, and not frames, which are larger where there is a stride,
        and would be moved on with every step.
        """
        sums, ahead = shares(layer, self.known(x)), reach(layer)
        self.delay += lateness(layer)
        if name in self.state:
            sums[:, :ahead].add_(self.past(name, sums, ahead))
        answers, kept = sums[:, : self.new], sums[:, self.new :]
        self.kept[name] = kept.contiguous() if self.new <= ahead else kept.clone()  # no long memory for a few frames
        return (answers if layer.bias is None else answers.add_(layer.bias)).permute(0, 4, 1, 2, 3)

    def beside_shortcut(self, name: str, layer: ResBlock, x: Tensor) -> Tensor:
        before = self.delay
        y = self(f"{name}.branch2", layer.branch2, x)
        shortcut = layer.branch1_norm(layer.branch1_conv(x))
        if self.delay > before:
            shortcut = self.later(name, shortcut, self.delay - before)
        return F.relu(y.add_(shortcut), inplace=True)

    def rows(self, name: str, head: Head, maps: Tensor, frames: int, every: int) -> Tensor:
        """What the last layer sees after the newest frame, `[B, D]`: the mean of `frames` maps, `every` so many."""
        pool = head.pool if isinstance(head, X3DHead) else None
        if pool is not None:
            maps = F.relu(pool.pre_norm(pool.pre_conv(maps)), inplace=True)
        maps = pool_windows(maps, (1, *(head.window or maps.shape[2:])[1:]))
        if pool is None:
            maps = maps.mean((3, 4), keepdim=True)
        maps = self.recent_mean(name, maps, frames, every)[:, :, -1:]
        if pool is not None:
            maps = F.relu(pool.post_conv(for_convolutions(maps)), inplace=True)
        return maps.mean((2, 3, 4))

    def recent_mean(self, name: str, x: Tensor, frames: int, every: int = 1) -> Tensor:
        """After each new frame, the mean of the last `frames` of its stream, every so many."""
        span = (frames - 1) * every
        windows = self.with_past(name, self.known(x), span).unfold(2, span + 1, 1)[..., ::every]
        return windows.sum(-1) / (frames if self.settled else (self.times() // every + 1).clamp(1, frames))

    def later(self, name: str, x: Tensor, count: int) -> Tensor:
        """What x was `count` frames before."""
        if self.new != count or name not in self.state:
            return self.with_past(name, x, count)[:, :, : self.new]
        self.kept[name] = frames = x.permute(0, 2, 3, 4, 1).contiguous()  # they change places, and nothing is copied
        return self.past(name, frames, count).permute(0, 4, 1, 2, 3)

    def with_past(self, name: str, x: Tensor, count: int) -> Tensor:
        """x after the `count` frames before it. The last ones are kept, `[B, count, H, W, C]`."""
        frames = x.permute(0, 2, 3, 4, 1)  # as convolutions like them
        longer = torch.cat([self.past(name, frames, count), frames], 1)
        kept = longer[:, self.new :]
        self.kept[name] = kept.contiguous() if self.new <= count else kept.clone()  # no long memory for a few frames
        return longer.permute(0, 4, 1, 2, 3)

    def past(self, name: str, frames: Tensor, count: int) -> Tensor:
        """What is kept for maps like these `[B, t, H, W, C]`, `[B, count, H, W, C]`; at first zeros of one pixel."""
        past = self.state.get(name, frames.new_zeros(1, 1, 1, 1, 1))
        return zoo.VideoModel.spread(past.to(frames.dtype), frames.shape[0], count, *frames.shape[2:])

    def times(self) -> Tensor:
        """Which frame of its stream each is, `[B, 1, t, 1, 1]`; negative where it is from before the first."""
        new = torch.arange(self.new, device=self.seen.device)
        return (self.seen[:, None] + new - self.delay)[:, None, :, None, None]

    def known(self, x: Tensor) -> Tensor:
        """x, with zeros for what is from before the first frame."""
        return x if self.started else x * (self.times() >= 0).to(x.dtype)


def shares(layer: nn.Conv3d, x: Tensor) -> Tensor:
    """What each of these frames adds to the answers from its own on, before the bias, `[B, t + reach, H, W, C]`."""
    weight, every, ahead = layer.weight, layer.dilation[0], reach(layer)
    x = for_convolutions(x)
    if layer.groups == layer.in_channels and weight.shape[3:] == layer.stride[1:] == (1, 1):  # slow as a 3D convolution
        if x.shape[2] == every == 1:
            return x.permute(0, 2, 3, 4, 1).repeat(1, ahead + 1, 1, 1, 1).mul_(weight.flip(2)[:, 0].permute(1, 2, 3, 0))
        sums = F.conv2d(x.flatten(3), weight[..., 0], None, 1, (ahead, 0), (every, 1), layer.groups)  # pixels in a row
        return for_convolutions(sums.unflatten(3, x.shape[3:])).permute(0, 2, 3, 4, 1)
    padding = (ahead, *layer.padding[1:])
    sums = F.conv3d(x, weight, None, layer.stride, padding, layer.dilation, layer.groups)
    return for_convolutions(sums).permute(0, 2, 3, 4, 1)


def reach(layer: nn.Conv3d | nn.MaxPool3d) -> int:
    """How many frames before the newest such a layer needs."""
    return (triple(layer.kernel_size)[0] - 1) * triple(layer.dilation)[0]


def lateness(layer: nn.Conv3d | nn.MaxPool3d) -> int:
    """How many frames after the one that it speaks of."""
    return reach(layer) - triple(layer.padding)[0] * triple(layer.dilation)[0]


def triple(size: int | tuple[int, ...]) -> tuple[int, ...]:
    return (size,) * 3 if isinstance(size, int) else tuple(size)


def dilate(layers: nn.Module) -> int:
    """Turn every stride in time into a dilation of the layers after it, and say how far apart frames are at the end."""
    every = 1
    beside = {block.branch1_conv for block in layers.modules() if isinstance(block, ResBlock)}
    for layer in layers.modules():
        if isinstance(layer, nn.Conv3d | nn.MaxPool3d):
            steps = triple(layer.stride)
            layer.stride, layer.dilation = (1, *steps[1:]), (every, *triple(layer.dilation)[1:])
            every *= 1 if layer in beside else steps[0]  # that of a shortcut is that of the branch
    return every


class Unpadded(nn.Module):
    """Layers on a whole clip as on a stream, without what they do not know at its end: `delay` frames less come out."""

    def __init__(self, layers: nn.Module, window: int) -> None:
        super().__init__()
        self.layers, self.window = layers, window

    def forward(self, clip: Tensor) -> Tensor:
        run = Run({}, clip.new_zeros(clip.shape[0], dtype=torch.long), clip.shape[2], self.window)
        return run("", self.layers, clip)[:, :, run.delay :]


class ContinualNet(BlockNet):
    """A clip network that follows a stream, of the same modules, names and weights.

    frames: of the clips that it was made for, over which its means go.
    delay: an answer is about the frames up to so many before the newest. After no more than those there is none, and
    logits are zeros. receptive_field: how many frames an answer depends on.
    """

    def __init__(self, net: BlockNet, frames: int) -> None:
        zoo.VideoModel.__init__(self)
        self.blocks, self.names = net.blocks, net.names
        self.num_features, self.num_classes = net.num_features, net.num_classes
        self.frames = frames
        self.every = dilate(self.blocks[:-1])
        self.pooled = min(frames // self.every, *(self.head.window or (frames,))[:1])
        layers = [m for m in self.blocks[:-1].modules() if isinstance(m, nn.Conv3d | nn.MaxPool3d)]
        windows = (frames - 1) * sum(isinstance(m, SqueezeExcite) for m in self.modules())
        self.delay = sum(map(lateness, layers))
        self.receptive_field = 1 + sum(map(reach, layers)) + windows + (self.pooled - 1) * self.every
        self.geometry = zoo.Geometry(min_frames=self.delay + 1)
        self.memory = self._memory((1, 1))

    def stages(self) -> dict[str, nn.Module]:
        return {name: Unpadded(stage, self.frames) for name, stage in super().stages().items()}

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        run = Run({}, features.new_zeros(features.shape[0], dtype=torch.long), features.shape[2], self.frames)
        rows = run.rows("", self.head, features, self.pooled, self.every)
        return rows if pre_logits else self.head.classify(rows)

    def init_state(self, batch: int, size: tuple[int, int] | None = None) -> State:
        like = next(self.parameters())
        shapes = self.memory if size is None else self._memory(size)
        state = {name: like.new_zeros(batch, *shape) for name, shape in shapes.items()}
        return {"frames": torch.zeros(batch, dtype=torch.long, device=like.device), **state}

    def step(self, frames: Tensor, state: State) -> tuple[Tensor, State]:
        self.check_step(frames, state)
        rows, run = self._follow(frames, state, state["frames"])
        seen = state["frames"] + frames.shape[2]
        return self.head.classify(rows) * (seen > self.delay)[:, None], {"frames": seen, **run.kept}

    def _follow(self, frames: Tensor, state: State, seen: Tensor) -> tuple[Tensor, Run]:
        run = Run(state, seen, frames.shape[2], self.frames)
        if seen.device.type == "cpu" and not torch.compiler.is_compiling():  # elsewhere a look at values is dear
            run.started = (least := int(seen.min())) >= self.delay
            run.settled = least >= self.receptive_field
        for i, block in enumerate(self.blocks[:-1]):
            frames = run(f"blocks.{i}", block, frames)
        return run.rows("head", self.head, frames, self.pooled, self.every), run

    def _memory(self, size: tuple[int, int]) -> dict[str, tuple[int, ...]]:
        """The shape of every part of the state, without the batch, for frames of this size."""
        tensors = [*self.parameters(), *self.buffers()]
        twin = copy.deepcopy(self, {id(tensor): tensor.detach().to("meta") for tensor in tensors}).eval()
        frame = torch.empty(1, 3, 1, *size, device="meta")
        _, run = twin._follow(frame, {}, torch.empty(1, dtype=torch.long, device="meta"))
        return {name: tuple(part.shape[1:]) for name, part in run.kept.items()}


def continual(model: BlockNet, frames: int | None = None) -> ContinualNet:
    """A network that follows a stream with the weights of one for clips: they are shared, and the model stays as it is.

    frames: of the clips that the model was made for; None asks its protocol. Raises SpecError where there is none, or
    where the model is none of X3D, Slow, C2D, I3D, CSN and R(2+1)D.
    """
    if type(model) is not BlockNet:
        raise SpecError(f"{type(model).__name__} has no continual form", hint="it is there for X3D, Slow and the like")
    if frames is None and model.preprocessing is None:
        raise SpecError("the model has no protocol", hint="pass frames=..., how many its clips have")
    shared = {id(tensor): tensor for tensor in [*model.parameters(), *model.buffers()]}
    net = ContinualNet(copy.deepcopy(model, shared), frames or model.preprocessing.num_frames)
    net.weights, net.labels = model.weights, model.labels
    if model.preprocessing is not None:
        frames = net.delay + net.frames
        net.preprocessing = dataclasses.replace(model.preprocessing, num_frames=frames)
    return net.train(model.training)


BUILDERS: dict[str, Callable[..., BlockNet]] = {"x3d": x3d, "resnet3d": resnet3d, "csn": csn, "r2plus1d": r2plus1d}


def co(*, network: str, clip_frames: int, **options: Any) -> ContinualNet:
    """A continual network. network: whose builder, of `BUILDERS`, takes the options. clip_frames: of its clips."""
    builder = BUILDERS[one_of("network", network, BUILDERS)]
    taken = inspect.signature(builder)
    try:
        taken.bind(**options)
    except TypeError as wrong:
        raise SpecError(f"{network}: {wrong}", hint=f"its options are {', '.join(taken.parameters)}") from None
    return ContinualNet(builder(**options), whole("clip_frames", clip_frames))
