"""Classifiers of convolutions and recurrent convolutions in turn: what moves is compared where it moves.

Ballas et al., "Delving Deeper into Convolutional Networks for Learning Video Representations",
https://arxiv.org/abs/1511.06432

As there, every level of the picture has a memory of its own, fine ones for small motions, coarse ones for large. Here
the levels lie one on the other, and the convolutions between them are few, so that it learns from scratch.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

import zoo
from zoo.errors import SpecError
from zoo_rnn.conv_gru import ConvGRU
from zoo_rnn.conv_lstm import ConvLSTM
from zoo_rnn.recurrent import RecurrentNet, Remembers, State, per_frame

Cell = ConvLSTM | ConvGRU


def unroll(cell: Cell, maps: Tensor, state: State) -> tuple[Tensor, State]:
    """A cell along the frames of maps `[B, C, T, h, w]`: its hidden maps `[B, D, T, h, w]` and its state after them."""
    inputs = per_frame(cell.inputs, maps).unbind(2)
    past = tuple(zoo.VideoModel.spread(state[name].to(inputs[0].dtype), -1, -1, *maps.shape[3:]) for name in cell.PARTS)
    outputs = []
    for gates in inputs:
        past = cell(gates, past)
        outputs.append(past[0])
    return torch.stack(outputs, 2), dict(zip(cell.PARTS, past, strict=True))


def blank(cell: Cell, batch: int, size: tuple[int, int] | None) -> State:
    """A cell's state before it has seen anything, of maps of this size; None makes maps of one pixel."""
    like = cell.conv_h.weight
    return {name: like.new_zeros(batch, cell.channels, *(size or (1, 1))) for name in cell.PARTS}


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
        return blank(self.cell, batch, self.size_of(size) if size else None)

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        return unroll(self.cell, per_frame(self.down, x), state)


class Stem(nn.Sequential):
    """A convolution that halves the picture, of every frame alone."""

    def __init__(self, out: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(3, out, (1, 5, 5), (1, 2, 2), (0, 2, 2), bias=False)
        self.norm = nn.BatchNorm3d(out)
        self.relu = nn.ReLU()

    def size_of(self, size: tuple[int, int]) -> tuple[int, int]:
        return halved(size)


def cell_of(name: str, channels: int, hidden: int, kernel: int, *, peepholes: bool = False, norm: bool = False) -> Cell:
    """A recurrent convolution by its name, "lstm" or "gru"."""
    if name not in ("lstm", "gru"):
        raise SpecError(f"cell={name!r}", hint='"lstm" or "gru"')
    if name == "gru" and peepholes:
        raise SpecError(f"cell={name!r} with peepholes={peepholes!r}", hint="a GRU has no peepholes")
    if name == "lstm":
        return ConvLSTM(channels, hidden, kernel, peepholes=(1, 1) if peepholes else None, norm=norm)
    return ConvGRU(channels, hidden, kernel, norm=norm)


def conv_rnn(
    *,
    cell: str,
    widths: Sequence[int],
    kernel: int = 3,
    peepholes: bool = False,
    norm: bool = False,
    pool: str = "last",
    num_classes: int = 400,
    dropout: float = 0.5,
) -> RecurrentNet:
    """cell: "lstm" or "gru". widths: of the stem, then of each level. kernel: of the recurrent convolutions.

    peepholes: of an LSTM, one weight per channel. norm: layer norm of the gates. pool: "last" or "mean" over time.
    """
    stem, *levels = widths
    stages: dict[str, nn.Module] = {"stem": Stem(stem)}  # [B, 3, T, H, W] -> [B, stem, T, H/2, W/2]
    channels = stem
    for i, width in enumerate(levels, 1):  # [B, width, T, H/2^(i+1), W/2^(i+1)]
        recurrent = cell_of(cell, width, width, kernel, peepholes=peepholes, norm=norm)
        stages[f"level{i}"] = Level(channels, 3, recurrent)
        channels = width
    return RecurrentNet(stages, channels, pool=pool, num_classes=num_classes, dropout=dropout)
