"""minGRU and minLSTM: gates that look at the input only, so that a whole clip is one parallel scan.

Feng et al., "Were RNNs All We Needed?", https://arxiv.org/abs/2410.01201

The scan runs in log-space, as published: hidden values are kept positive by g, and h_t = a_t h_{t-1} + b_t becomes a
cumulative sum and a cumulative logarithm of sums. Sums of logarithms lose digits as they grow, so a long clip is
scanned in blocks, each from where the one before has ended.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo_rnn.encoders import FrameEncoder
from zoo_rnn.recurrent import RecurrentNet, Remembers, State

BLOCK = 32  # frames


def log_g(x: Tensor) -> Tensor:
    """The logarithm of g(x), which is x + 0.5 where x is positive and sigmoid(x) elsewhere: always positive."""
    return torch.where(x >= 0, (F.relu(x) + 0.5).log(), -F.softplus(-x))


def scan(log_a: Tensor, log_b: Tensor, h: Tensor) -> Tensor:
    """All h_t = a_t h_{t-1} + b_t along dimension 1; log_a, log_b `[B, T, D]`, h `[B, D]` before the first."""
    rows = []
    for a, b in zip(log_a.split(BLOCK, 1), log_b.split(BLOCK, 1), strict=True):
        total = F.pad(a.cumsum(1), (0, 0, 1, 0))  # [B, t + 1, D]
        log_h = total + (torch.cat([h.log()[:, None], b], 1) - total).logcumsumexp(1)
        rows.append(log_h[:, 1:].exp())
        h = rows[-1][:, -1]
    return torch.cat(rows, 1)


class MinGRU(nn.Module):
    """h_t = (1 - z_t) h_{t-1} + z_t g(W_h x_t) with z_t = sigmoid(W_z x_t)."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.gates = nn.Linear(inputs, 2 * hidden)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        z, candidate = at_least_float(self.gates(x)).chunk(2, -1)
        return scan(-F.softplus(z), log_g(candidate) - F.softplus(-z), h)


class MinLSTM(nn.Module):
    """h_t = f_t h_{t-1} + i_t g(W_h x_t), where forget and input gate are scaled to sum to one."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.gates = nn.Linear(inputs, 3 * hidden)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        forget, take, candidate = at_least_float(self.gates(x)).chunk(3, -1)
        more = F.softplus(-forget) - F.softplus(-take)  # log(i / f)
        return scan(-F.softplus(more), log_g(candidate) - F.softplus(-more), h)


def at_least_float(x: Tensor) -> Tensor:
    """Half precision is too coarse for logarithms of sums."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


CELLS = {"min_gru": MinGRU, "min_lstm": MinLSTM}


class MinRNN(Remembers):
    """Layers of one kind on rows `[B, T, D]`; the state is `[B, layers, hidden]` and begins at g(0) = 0.5."""

    def __init__(self, kind: str, inputs: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(CELLS[kind](inputs if i == 0 else hidden, hidden) for i in range(layers))
        self.num_features = hidden

    def init_state(self, batch: int, size: tuple[int, int] | None = None) -> State:
        like = next(self.parameters())
        return {"hidden": like.new_full((batch, len(self.layers), self.num_features), 0.5)}

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        last, dtype = [], x.dtype
        for i, layer in enumerate(self.layers):
            rows = layer(x, at_least_float(state["hidden"][:, i]))
            last.append(rows[:, -1])
            x = rows.to(dtype)
        return x, {"hidden": torch.stack(last, 1).to(state["hidden"].dtype)}


def min_rnn(
    *,
    encoder: str,
    cell: str,
    hidden: int = 512,
    layers: int = 3,
    pool: str = "last",
    num_classes: int = 400,
    dropout: float = 0.5,
    encoder_weights: str | None = None,
) -> RecurrentNet:
    """cell: "min_gru" or "min_lstm". encoder, encoder_weights: see `FrameEncoder`. pool: "last" or "mean" over time."""
    frames = FrameEncoder(encoder, encoder_weights)  # [B, 3, T, H, W] -> [B, T, D]
    rnn = MinRNN(cell, frames.num_features, hidden, layers)  # -> [B, T, hidden]
    stages = {"encoder": frames, "rnn": rnn}
    return RecurrentNet(stages, rnn.num_features, pool=pool, num_classes=num_classes, dropout=dropout)
