"""Networks that foresee: a stack of recurrent layers reads the frames, then reads its own answers and goes on.

Shi et al., "Convolutional LSTM Network: A Machine Learning Approach for Precipitation Nowcasting",
https://arxiv.org/abs/1506.04214, in the form in which the authors of PredRNN compare with it: squares of pixels are the
channels of a smaller picture, and one network reads and foresees.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import zoo
from zoo_rnn.conv_lstm import ConvLSTM
from zoo_rnn.conv_rnn import unroll
from zoo_rnn.recurrent import Remembers, State, per_frame


class Patches(nn.Module):
    """Squares of pixels as channels: `[B, C, T, H, W]` to `[B, C * side^2, T, H/side, W/side]`."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, clip: Tensor) -> Tensor:
        return per_frame(lambda frames: F.pixel_unshuffle(frames, self.side), clip)

    def back(self, patches: Tensor) -> Tensor:
        return per_frame(lambda frames: F.pixel_shuffle(frames, self.side), patches)


class NextFrames(zoo.VideoModel):
    """`stack` gives hidden maps for each frame; a 1x1 convolution turns them into the frame after it.

    `forward` and `step` give the next `horizon` frames `[B, C, horizon, H, W]`, in the units of the clip.
    """

    def __init__(self, stack: Remembers, hidden: int, *, patch: int, channels: int, horizon: int) -> None:
        super().__init__()
        self.patches, self.stack = Patches(patch), stack
        self.last = nn.Conv2d(hidden, channels * patch**2, 1)
        self.num_features, self.num_classes, self.horizon = hidden, 0, horizon
        self.geometry = zoo.Geometry(channels=channels, min_size=patch, size_multiple=patch)

    def stages(self) -> dict[str, nn.Module]:
        return {"patches": self.patches, "stack": self.stack}

    def forward(self, clip: Tensor, frames: int | None = None) -> Tensor:
        """The frames after a clip; `frames` asks for another number than the horizon."""
        return self._foresee(clip, self.init_state(clip.shape[0], clip.shape[3:]), frames)[0]

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """From hidden maps `[B, D, T, h, w]` the frame after each `[B, C, T, H, W]`: what training compares."""
        return features.mean((2, 3, 4)) if pre_logits else self.patches.back(per_frame(self.last, features))

    def init_state(self, batch: int, size: tuple[int, int] | None = None) -> State:
        small = (size[0] // self.patches.side, size[1] // self.patches.side) if size else None
        return self.stack.init_state(batch, small)

    def step(self, frames: Tensor, state: State) -> tuple[Tensor, State]:
        return self._foresee(frames, state, None)

    def _foresee(self, clip: Tensor, state: State, frames: int | None) -> tuple[Tensor, State]:
        self.check_step(clip, state)
        hidden, state = self.stack.step(self.patches(clip), state)
        ahead, foreseen = state, [per_frame(self.last, hidden[:, :, -1:])]
        while len(foreseen) < (frames or self.horizon):
            hidden, ahead = self.stack.step(foreseen[-1], ahead)
            foreseen.append(per_frame(self.last, hidden))
        return self.patches.back(torch.cat(foreseen, 2)), state


class ConvLSTMStack(Remembers):
    """ConvLSTM layers, each reading the hidden maps of the one below."""

    def __init__(self, channels: int, widths: Sequence[int], kernel: int, peepholes: bool, norm: bool) -> None:
        super().__init__()
        below = [channels, *widths]
        self.layers = nn.ModuleList(
            ConvLSTM(inputs, width, kernel, peepholes=(1, 1) if peepholes else None, norm=norm)
            for inputs, width in zip(below, widths, strict=False)
        )

    def init_state(self, batch: int, size: tuple[int, int] | None = None) -> State:
        like = next(self.parameters())
        shapes = {f"{i}.{name}": layer.channels for i, layer in enumerate(self.layers) for name in layer.PARTS}
        return {name: like.new_zeros(batch, channels, *(size or (1, 1))) for name, channels in shapes.items()}

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        new = {}
        for i, layer in enumerate(self.layers):
            x, own = unroll(layer, x, {name: state[f"{i}.{name}"] for name in layer.PARTS})
            new |= {f"{i}.{name}": value for name, value in own.items()}
        return x, new


def conv_lstm_next(
    *,
    widths: Sequence[int] = (128, 128, 128, 128),
    kernel: int = 5,
    peepholes: bool = False,
    norm: bool = False,
    patch: int = 4,
    channels: int = 3,
    horizon: int = 10,
) -> NextFrames:
    """widths: of the layers. patch: side of the squares. channels: colours. horizon: frames to foresee."""
    stack = ConvLSTMStack(channels * patch**2, widths, kernel, peepholes, norm)
    return NextFrames(stack, widths[-1], patch=patch, channels=channels, horizon=horizon)
