"""LRCN: an image network on every frame, and a recurrent one over what it sees.

Donahue et al., "Long-term Recurrent Convolutional Networks for Visual Recognition and Description",
https://arxiv.org/abs/1411.4389

The recurrent network is torch.nn.LSTM or torch.nn.GRU itself. As published every frame is classified and the answers
are averaged; the paper averages probabilities, this averages logits, which is one linear layer on the mean.
Bidirectional variants read the clip from both ends, so they have no step.
"""

from __future__ import annotations

from torch import Tensor, nn

from zoo_rnn.encoders import FrameEncoder
from zoo_rnn.recurrent import RecurrentNet, Remembers, State

CELLS: dict[str, tuple[type[nn.RNNBase], tuple[str, ...]]] = {
    "lstm": (nn.LSTM, ("hidden", "cell")),
    "gru": (nn.GRU, ("hidden",)),
}


class TorchRNN(Remembers):
    """torch.nn.LSTM or torch.nn.GRU on rows `[B, T, D]`; its state is `[B, layers, hidden]` each."""

    def __init__(self, kind: str, inputs: int, hidden: int, layers: int, bidirectional: bool) -> None:
        super().__init__()
        network, self.parts = CELLS[kind]
        self.network = network(inputs, hidden, layers, batch_first=True, bidirectional=bidirectional)
        self.bidirectional = bidirectional
        self.num_features = 2 * hidden if bidirectional else hidden

    def init_state(self, batch: int, size: tuple[int, int] | None = None) -> State:
        like = self.network.weight_hh_l0
        return {name: like.new_zeros(batch, self.network.num_layers, self.network.hidden_size) for name in self.parts}

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x)[0]

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        past = [state[name].transpose(0, 1).to(x.dtype).contiguous() for name in self.parts]  # [layers, B, hidden]
        rows, now = self.network(x, tuple(past) if len(past) > 1 else past[0])
        now = now if len(past) > 1 else (now,)
        return rows, {name: part.transpose(0, 1).contiguous() for name, part in zip(self.parts, now, strict=True)}


def frame_rnn(
    *,
    encoder: str,
    cell: str,
    hidden: int = 256,
    layers: int = 1,
    bidirectional: bool = False,
    pool: str = "last",
    num_classes: int = 400,
    dropout: float = 0.5,
    encoder_weights: str | None = None,
) -> RecurrentNet:
    """cell: "lstm" or "gru". encoder, encoder_weights: see `FrameEncoder`. pool: "last" or "mean" over time."""
    frames = FrameEncoder(encoder, encoder_weights)  # [B, 3, T, H, W] -> [B, T, D]
    rnn = TorchRNN(cell, frames.num_features, hidden, layers, bidirectional)  # -> [B, T, hidden]
    stages = {"encoder": frames, "rnn": rnn}
    return RecurrentNet(stages, rnn.num_features, pool=pool, num_classes=num_classes, dropout=dropout)
