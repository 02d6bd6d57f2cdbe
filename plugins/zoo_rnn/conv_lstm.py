"""ConvLSTM: an LSTM whose matrix products are convolutions, so that what it remembers has a place in the picture.

Shi et al., "Convolutional LSTM Network: A Machine Learning Approach for Precipitation Nowcasting",
https://arxiv.org/abs/1506.04214

With a 1x1 kernel on a picture of one pixel it is torch.nn.LSTMCell. Peepholes are the paper's Hadamard products with
the cell. The paper has a weight for every place, which fixes the size of the picture; peepholes of size (1, 1) are one
weight per channel, for pictures of any size. Norm: Ba et al., "Layer Normalization", https://arxiv.org/abs/1607.06450
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def layer_norm(channels: int, on: bool) -> nn.Module:
    """Layer norm over channels and places at once, with a gain and bias per channel."""
    return nn.GroupNorm(1, channels) if on else nn.Identity()


class ConvLSTM(nn.Module):
    """One step: (input gates `[B, 4 * hidden, h, w]`, (h, c)) -> (h, c). Gates in torch's order: i, f, g, o."""

    PARTS = ("hidden", "cell")

    def __init__(
        self,
        channels: int,
        hidden: int,
        kernel: int = 3,
        *,
        peepholes: tuple[int, int] | None = None,
        norm: bool = False,
    ) -> None:
        super().__init__()
        self.channels = hidden
        self.conv_x = nn.Conv2d(channels, 4 * hidden, kernel, padding=kernel // 2)
        self.conv_h = nn.Conv2d(hidden, 4 * hidden, kernel, padding=kernel // 2, bias=False)
        self.norm_x, self.norm_h, self.norm_c = (layer_norm(n * hidden, norm) for n in (4, 4, 1))
        self.peepholes = nn.Parameter(torch.zeros(3, hidden, *peepholes)) if peepholes else None
        with torch.no_grad():
            self.conv_x.bias[hidden : 2 * hidden] += 1  # a fresh cell remembers

    def inputs(self, x: Tensor) -> Tensor:
        """The part of the gates that needs no past, so that all frames can have it at once."""
        return self.norm_x(self.conv_x(x))

    def forward(self, inputs: Tensor, past: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        h, c = past
        i, f, g, o = (inputs + self.norm_h(self.conv_h(h))).chunk(4, 1)
        if self.peepholes is not None:
            i, f = i + self.peepholes[0] * c, f + self.peepholes[1] * c
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        if self.peepholes is not None:
            o = o + self.peepholes[2] * c
        return o.sigmoid() * self.norm_c(c).tanh(), c
