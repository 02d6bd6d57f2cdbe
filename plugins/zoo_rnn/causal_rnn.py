"""Small classifiers for live video: convolutions that look back a little, then a convolutional memory of what they saw.

Ballas et al., "Delving Deeper into Convolutional Networks for Learning Video Representations",
https://arxiv.org/abs/1511.06432
Tran et al., "A Closer Look at Spatiotemporal Convolutions for Action Recognition", https://arxiv.org/abs/1711.11248

Motion is a pattern of a few frames, which convolutions over space and then over time learn soonest; what it amounts to
takes longer, which is left to the memory. Gates damp what passes through them, so that a recurrence at the bottom hides
small motions from all that is above; here it comes last, and a norm brings its maps back to unit size.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import zoo
from zoo.errors import SpecError
from zoo_rnn.conv_rnn import Cell, blank, cell_of, halved, unroll
from zoo_rnn.recurrent import RecurrentNet, Remembers, State


class CausalLevel(Remembers):
    """A convolution that halves the picture, one over each frame and `look_back` before it, and a strided shortcut."""

    def __init__(self, channels: int, out: int, kernel: int, look_back: int) -> None:
        super().__init__()
        self.look_back = look_back
        self.space = nn.Conv3d(channels, out, (1, kernel, kernel), (1, 2, 2), (0, kernel // 2, kernel // 2), bias=False)
        self.space_norm = nn.BatchNorm3d(out)
        self.time = nn.Conv3d(out, out, (look_back + 1, 1, 1), bias=False)
        self.time_norm = nn.BatchNorm3d(out)
        self.shortcut = nn.Sequential(nn.Conv3d(channels, out, 1, (1, 2, 2), bias=False), nn.BatchNorm3d(out))

    def size_of(self, size: tuple[int, int]) -> tuple[int, int]:
        return halved(size)

    def init_state(self, batch: int, size: tuple[int, int] | None = None) -> State:
        like = self.time.weight
        h, w = self.size_of(size) if size else (1, 1)
        return {"past": like.new_zeros(batch, like.shape[1], self.look_back, h, w)}

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        maps = F.relu(self.space_norm(self.space(x)))  # [B, out, T, H/2, W/2]
        past = zoo.VideoModel.spread(state["past"].to(maps.dtype), -1, -1, -1, *maps.shape[3:])
        seen = torch.cat([past, maps], 2)
        out = F.relu(self.time_norm(self.time(seen)) + self.shortcut(x))
        return out, {"past": seen[:, :, seen.shape[2] - self.look_back :].clone()}


class Memory(Remembers):
    """A recurrent convolution along the frames, normed: maps `[B, C, T, h, w]` to `[B, D, T, h, w]`."""

    def __init__(self, cell: Cell) -> None:
        super().__init__()
        self.cell = cell
        self.norm = nn.BatchNorm3d(cell.channels)

    def init_state(self, batch: int, size: tuple[int, int] | None = None) -> State:
        return blank(self.cell, batch, size)

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        maps, state = unroll(self.cell, x, state)
        return self.norm(maps), state


def causal_rnn(
    *,
    cell: str,
    widths: Sequence[int],
    kernel: int = 3,
    look_back: int = 2,
    pool: str = "last",
    num_classes: int = 9,
    dropout: float = 0.1,
) -> RecurrentNet:
    """cell: "lstm" or "gru", of as many channels as the last level. widths: of the levels. kernel: of the recurrence.

    look_back: frames before its own that each level sees. pool: "last" or "mean" over time.
    """
    if not widths or look_back < 0 or kernel % 2 == 0:
        said = f"widths={widths!r:.80}, look_back={look_back!r}, kernel={kernel!r}"
        raise SpecError(said, hint="at least one width, look_back of 0 or more and an odd kernel")
    stages: dict[str, nn.Module] = {}
    channels = 3
    for i, width in enumerate(widths, 1):  # [B, width, T, H/2^i, W/2^i]
        stages[f"level{i}"] = CausalLevel(channels, width, 5 if i == 1 else 3, look_back)
        channels = width
    stages["memory"] = Memory(cell_of(cell, channels, channels, kernel))
    network = RecurrentNet(stages, channels, pool=pool, num_classes=num_classes, dropout=dropout)
    for module in network.modules():
        if isinstance(module, nn.Conv3d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Conv2d):  # the gates
            nn.init.xavier_uniform_(module.weight)
    return network
