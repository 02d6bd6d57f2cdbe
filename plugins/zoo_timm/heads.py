"""What becomes of the rows of a clip's frames: `[B, T, D]` in, one row `[B, D']` out.

mean, max      order does not matter; "mean" is the consensus of TSN, https://arxiv.org/abs/1608.00859
attention      a learned weight for each frame, https://arxiv.org/abs/1802.04712
lstm, gru      the last state of a recurrent layer, as LRCN has it, https://arxiv.org/abs/1411.4389
tcn            causal convolutions of growing reach, https://arxiv.org/abs/1803.01271, no weight norm; the last step
transformer    pre-norm layers over frames with sine positions, and their mean
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.errors import SpecError
from zoo_timm.options import is_count, is_fraction


class Mean(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.out_features = width

    def forward(self, rows: Tensor) -> Tensor:
        return rows.mean(1)


class Max(Mean):
    def forward(self, rows: Tensor) -> Tensor:
        return rows.amax(1)


class Attention(Mean):
    def __init__(self, width: int, hidden: int = 128) -> None:
        super().__init__(width)
        self.hidden = nn.Linear(width, hidden)
        self.score = nn.Linear(hidden, 1, bias=False)  # a bias would be the same for every frame

    def forward(self, rows: Tensor) -> Tensor:
        weights = self.score(self.hidden(rows).tanh()).softmax(1)  # [B, T, 1]
        return (weights * rows).sum(1)


class Recurrent(nn.Module):
    def __init__(self, width: int, cell: str, hidden: int = 512, layers: int = 1) -> None:
        super().__init__()
        self.out_features = hidden
        self.rnn = {"lstm": nn.LSTM, "gru": nn.GRU}[cell](width, hidden, layers, batch_first=True)

    def forward(self, rows: Tensor) -> Tensor:
        outputs, _ = self.rnn(rows)
        return outputs[:, -1]


class TCN(nn.Module):
    def __init__(self, width: int, hidden: int = 512, layers: int = 3, kernel: int = 3) -> None:
        super().__init__()
        self.out_features = hidden
        self.project = nn.Linear(width, hidden)
        self.convs = nn.ModuleList(nn.Conv1d(hidden, hidden, kernel, dilation=2**i) for i in range(layers))

    def forward(self, rows: Tensor) -> Tensor:
        x = self.project(rows).transpose(1, 2)  # [B, hidden, T]
        for conv in self.convs:
            past = conv.dilation[0] * (conv.kernel_size[0] - 1)
            x = x + F.relu(conv(F.pad(x, (past, 0))))
        return x[:, :, -1]


class Transformer(Mean):
    """`heads` has to divide the width; without it, there are as many of eight as do."""

    def __init__(
        self, width: int, layers: int = 2, heads: int | None = None, ratio: int = 4, dropout: float = 0.1
    ) -> None:
        super().__init__(width)
        heads = math.gcd(width, 8) if heads is None else heads
        if width % heads:
            raise SpecError(f"heads={heads} for {width} features", hint=f"a number that divides {width}")
        layer = nn.TransformerEncoderLayer(
            width, heads, ratio * width, dropout, "gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, layers, nn.LayerNorm(width), enable_nested_tensor=False)

    def forward(self, rows: Tensor) -> Tensor:
        return self.layers(rows + _positions(rows)).mean(1)


def _positions(rows: Tensor) -> Tensor:
    """Sines and cosines of the frames' places, `[T, D]`, for any T."""
    _, length, width = rows.shape
    place = torch.arange(length, device=rows.device, dtype=torch.float32)[:, None]
    pace = torch.exp(torch.arange(0, width, 2, device=rows.device, dtype=torch.float32) * (-math.log(1e4) / width))
    return torch.stack((torch.sin(place * pace), torch.cos(place * pace)), dim=-1).flatten(1)[:, :width].to(rows.dtype)


HEADS: dict[str, tuple[Callable[..., nn.Module], Mapping[str, Any]]] = {
    "mean": (Mean, {}),
    "max": (Max, {}),
    "attention": (Attention, {}),
    "lstm": (Recurrent, {"cell": "lstm"}),
    "gru": (Recurrent, {"cell": "gru"}),
    "tcn": (TCN, {}),
    "transformer": (Transformer, {}),
}


def temporal_head(name: str, width: int, options: Mapping[str, Any]) -> nn.Module:
    """The head of that name for rows of `width` features. Raises SpecError for what there is not."""
    if not isinstance(name, str) or name not in HEADS:
        raise SpecError(f"temporal={name!r:.80}", hint=f"it is one of {', '.join(HEADS)}")
    kind, fixed = HEADS[name]
    known = [option for option in inspect.signature(kind).parameters if option != "width" and option not in fixed]
    for option, value in options.items():
        if option not in known:
            raise SpecError(
                f"temporal={name!r} has no option {option!r}", hint=f"its options are {', '.join(known) or 'none'}"
            )
        if not (is_fraction(value) if option == "dropout" else is_count(value)):
            wanted = "at least 0 and less than 1" if option == "dropout" else "a whole number of at least 1"
            raise SpecError(f"temporal={name!r} with {option}={value!r:.80}", hint=wanted)
    head = kind(width, **fixed, **options)
    _initialise(head)
    return head


def _initialise(head: nn.Module) -> None:
    """Fresh values, also where zoo builds a network for a file: one of timm's holds nothing for this part."""
    for module in head.modules():
        for name, parameter in module.named_parameters(recurse=False):
            values = parameter.detach()  # a view: what fills a parameter itself may be skipped
            if values.ndim > 1:
                nn.init.xavier_uniform_(values)
            else:
                values.fill_(1.0 if isinstance(module, nn.LayerNorm) and name == "weight" else 0.0)
