"""Classifiers of convolutions and recurrent convolutions in turn: what moves is compared where it moves.

Ballas et al., "Delving Deeper into Convolutional Networks for Learning Video Representations",
https://arxiv.org/abs/1511.06432

As there, every level of the picture has a memory of its own, fine ones for small motions, coarse ones for large. Here
the levels lie one on the other, and the convolutions between them are few, so that it learns from scratch.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.errors import SpecError
from zoo_rnn.conv_gru import ConvGRU
from zoo_rnn.conv_lstm import ConvLSTM
from zoo_rnn.recurrent import RecurrentNet, Remembers, State, per_frame

Cell = ConvLSTM | ConvGRU


def unroll(cell: Cell, maps: Tensor, state: State) -> tuple[Tensor, State]:
    """A cell along the frames of maps `[B, C, T, h, w]`: its hidden maps `[B, D, T, h, w]` and its state after them."""
    inputs = per_frame(cell.inputs, maps).unbind(2)
    past = tuple(state[name].to(inputs[0].dtype).expand(-1, -1, *maps.shape[3:]) for name in cell.PARTS)
    outputs = []
    for gates in inputs:
        past = cell(gates, past)
        outputs.append(past[0])
    return torch.stack(outputs, 2), dict(zip(cell.PARTS, past, strict=True))


def halved(size: tuple[int, int]) -> tuple[int, int]:
    return (size[0] + 1) // 2, (size[1] + 1) // 2


class Level(Remembers):
    """A convolution that halves the picture, and a recurrent one over time."""

    def __init__(self, channels: int, kernel: int, cell: Cell) -> None:
        super().__init__()
        out = cell.conv_x.in_channels
        conv = nn.Conv2d(channels, out, kernel, 2, kernel // 2, bias=False)
        self.down = nn.Sequential(conv, nn.BatchNorm2d(out), nn.ReLU())
        self.cell = cell

    def size_of(self, size: tuple[int, int]) -> tuple[int, int]:
        return halved(size)

    def init_state(self, batch: int, size: tuple[int, int] | None = None) -> State:
        h, w = self.size_of(size) if size else (1, 1)
        like = self.cell.conv_h.weight
        return {name: like.new_zeros(batch, self.cell.channels, h, w) for name in self.cell.PARTS}

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        return unroll(self.cell, per_frame(self.down, x), state)


class Stem(Remembers):
    """A convolution that halves the picture, of every frame together with `look_back` frames before it."""

    def __init__(self, out: int, look_back: int) -> None:
        super().__init__()
        self.look_back = look_back
        self.conv = nn.Conv3d(3, out, (look_back + 1, 5, 5), (1, 2, 2), (0, 2, 2), bias=False)
        self.norm = nn.BatchNorm3d(out)

    def size_of(self, size: tuple[int, int]) -> tuple[int, int]:
        return halved(size)

    def init_state(self, batch: int, size: tuple[int, int] | None = None) -> State:
        like = self.conv.weight
        return {"past": like.new_zeros(batch, 3, self.look_back, *(size or (1, 1)))} if self.look_back else {}

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        if self.look_back:
            past = state["past"].to(x.dtype).expand(-1, -1, -1, *x.shape[3:])
            x = torch.cat([past, x], 2)
            state = {"past": x[:, :, -self.look_back :].clone()}
        return F.relu(self.norm(self.conv(x))), state


def conv_rnn(
    *,
    cell: str,
    widths: Sequence[int],
    kernel: int = 3,
    look_back: int = 0,
    peepholes: bool = False,
    norm: bool = False,
    pool: str = "last",
    num_classes: int = 400,
    dropout: float = 0.5,
) -> RecurrentNet:
    """cell: "lstm" or "gru". widths: of the stem, then of each level. kernel: of the recurrent convolutions.

    look_back: frames before its own that the stem sees, so that a small motion is a pattern from the start.
    peepholes: of an LSTM, one weight per channel. norm: layer norm of the gates. pool: "last" or "mean" over time.
    """
    if cell not in ("lstm", "gru") or (cell == "gru" and peepholes):
        raise SpecError(f"cell={cell!r} with peepholes={peepholes!r}", hint='"lstm", or "gru", which has no peepholes')
    stem, *levels = widths
    stages: dict[str, nn.Module] = {"stem": Stem(stem, look_back)}  # [B, 3, T, H, W] -> [B, stem, T, H/2, W/2]
    channels = stem
    for i, width in enumerate(levels, 1):  # [B, width, T, H/2^(i+1), W/2^(i+1)]
        recurrent = (
            ConvLSTM(width, width, kernel, peepholes=(1, 1) if peepholes else None, norm=norm)
            if cell == "lstm"
            else ConvGRU(width, width, kernel, norm=norm)
        )
        stages[f"level{i}"] = Level(channels, 3, recurrent)
        channels = width
    return RecurrentNet(stages, channels, pool=pool, num_classes=num_classes, dropout=dropout)
