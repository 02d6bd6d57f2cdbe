"""PredRNN: besides the memory along time, one that zigzags: up through the layers, and from the top to the next frame.

Wang et al., "PredRNN: Recurrent Neural Networks for Predictive Learning using Spatiotemporal LSTMs", NeurIPS 2017,
https://papers.nips.cc/paper/6689-predrnn-recurrent-neural-networks-for-predictive-learning-using-spatiotemporal-lstms

Four layers of 128 channels with 5x5 kernels on squares of 4x4 pixels, as published.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

import zoo
from zoo_rnn.next_frames import NextFrames
from zoo_rnn.recurrent import Remembers, State, per_frame


class STLSTM(nn.Module):
    """One step of a spatiotemporal LSTM: inputs and (h, c) of the frame before, m of the layer below -> h, c, m.

    Biases belong to the input. A fresh cell remembers: the biases of its forget gates begin at one.
    """

    def __init__(self, channels: int, hidden: int, kernel: int) -> None:
        super().__init__()
        self.channels = hidden
        pad = kernel // 2
        self.conv_x = nn.Conv2d(channels, 7 * hidden, kernel, padding=pad)  # g, i, f, g', i', f', o
        self.conv_h = nn.Conv2d(hidden, 4 * hidden, kernel, padding=pad, bias=False)  # g, i, f, o
        self.conv_m = nn.Conv2d(hidden, 3 * hidden, kernel, padding=pad, bias=False)  # g', i', f'
        self.conv_o = nn.Conv2d(2 * hidden, hidden, kernel, padding=pad, bias=False)  # of [c, m]
        self.conv_1x1 = nn.Conv2d(2 * hidden, hidden, 1, bias=False)
        with torch.no_grad():
            for gate in (2, 5):
                self.conv_x.bias[gate * hidden : (gate + 1) * hidden] += 1

    def forward(self, inputs: Tensor, h: Tensor, c: Tensor, m: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """inputs: `conv_x` of what the layer reads, `[B, 7 * hidden, h, w]`."""
        g_x, i_x, f_x, g_xm, i_xm, f_xm, o_x = inputs.chunk(7, 1)
        g_h, i_h, f_h, o_h = self.conv_h(h).chunk(4, 1)
        g_m, i_m, f_m = self.conv_m(m).chunk(3, 1)
        c = (f_x + f_h).sigmoid() * c + (i_x + i_h).sigmoid() * (g_x + g_h).tanh()
        m = (f_xm + f_m).sigmoid() * m + (i_xm + i_m).sigmoid() * (g_xm + g_m).tanh()
        both = torch.cat([c, m], 1)
        return (o_x + o_h + self.conv_o(both)).sigmoid() * self.conv_1x1(both).tanh(), c, m


class PredRNNStack(Remembers):
    """ST-LSTM layers with one zigzag memory, so all of one width."""

    def __init__(self, channels: int, widths: Sequence[int], kernel: int) -> None:
        super().__init__()
        below = [channels, *widths]
        self.layers = nn.ModuleList(STLSTM(a, b, kernel) for a, b in zip(below, widths, strict=False))

    def init_state(self, batch: int, size: tuple[int, int] | None = None) -> State:
        like = next(self.parameters())
        names = [f"{i}.{part}" for i in range(len(self.layers)) for part in ("hidden", "cell")]
        return {name: like.new_zeros(batch, self.layers[0].channels, *(size or (1, 1))) for name in [*names, "memory"]}

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        state = {name: zoo.VideoModel.spread(value.to(x.dtype), -1, -1, *x.shape[3:]) for name, value in state.items()}
        outputs = []
        for gates in per_frame(self.layers[0].conv_x, x).unbind(2):  # the layers above read what comes up to them
            new, h, m = {}, None, state["memory"]
            for i, layer in enumerate(self.layers):
                gates = gates if h is None else layer.conv_x(h)
                h, new[f"{i}.cell"], m = layer(gates, state[f"{i}.hidden"], state[f"{i}.cell"], m)
                new[f"{i}.hidden"] = h
            state = {**new, "memory": m}
            outputs.append(h)
        return torch.stack(outputs, 2), state


def predrnn(
    *,
    hidden: int = 128,
    layers: int = 4,
    kernel: int = 5,
    patch: int = 4,
    channels: int = 3,
    horizon: int = 10,
) -> NextFrames:
    """hidden: channels of every layer. patch: side of the squares. channels: colours. horizon: frames to foresee."""
    stack = PredRNNStack(channels * patch**2, [hidden] * layers, kernel)
    return NextFrames(stack, hidden, patch=patch, channels=channels, horizon=horizon)
