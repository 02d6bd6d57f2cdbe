"""ConvGRU: a GRU whose matrix products are convolutions, so that what it remembers has a place in the picture.

Ballas et al., "Delving Deeper into Convolutional Networks for Learning Video Representations",
https://arxiv.org/abs/1511.06432

With a 1x1 kernel on a picture of one pixel it is torch.nn.GRUCell: as there, and unlike in the paper, the reset gate
acts on the product with the past instead of on the past, which makes one convolution of two.
Norm: Ba et al., "Layer Normalization", https://arxiv.org/abs/1607.06450
"""

from __future__ import annotations

from torch import Tensor, nn

from zoo_rnn.conv_lstm import layer_norm


class ConvGRU(nn.Module):
    """One step: (input gates `[B, 3 * hidden, h, w]`, (h,)) -> (h,). Gates in torch's order: r, z, n."""

    PARTS = ("hidden",)

    def __init__(self, channels: int, hidden: int, kernel: int = 3, *, norm: bool = False) -> None:
        super().__init__()
        self.channels = hidden
        self.conv_x = nn.Conv2d(channels, 3 * hidden, kernel, padding=kernel // 2)
        self.conv_h = nn.Conv2d(hidden, 3 * hidden, kernel, padding=kernel // 2)
        self.norm_x, self.norm_h = (layer_norm(3 * hidden, norm) for _ in range(2))

    def inputs(self, x: Tensor) -> Tensor:
        """The part of the gates that needs no past, so that all frames can have it at once."""
        return self.norm_x(self.conv_x(x))

    def forward(self, inputs: Tensor, past: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        (h,) = past
        r_x, z_x, n_x = inputs.chunk(3, 1)
        r_h, z_h, n_h = self.norm_h(self.conv_h(h)).chunk(3, 1)
        z = (z_x + z_h).sigmoid()
        n = (n_x + (r_x + r_h).sigmoid() * n_h).tanh()
        return (n + z * (h - n),)
