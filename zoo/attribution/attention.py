"""The attention of a network that runs, without its cooperation: every call of PyTorch's fused attention is seen."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode


class Watched(TorchFunctionMode):
    """While it is active: `product` of the attention of all calls over all tokens, `[N, N]`; `other`, whether any call
    was of another shape. Only one matrix is held, however many blocks there are.
    """

    def __init__(self) -> None:
        super().__init__()
        self.product: Tensor | None = None
        self.other = False

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if function is F.scaled_dot_product_attention:
            self._see(*args, **kwargs)
        return function(*args, **kwargs)

    def _see(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor | None = None,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> None:
        tokens = query.shape[-2]
        whole = query.shape == key.shape and math.prod(query.shape[:-3]) == 1 and attn_mask is None and not is_causal
        if not whole or (self.product is not None and len(self.product) != tokens):
            self.other = True
            return
        scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
        weights = (query @ key.transpose(-1, -2) * scale).float().softmax(-1).flatten(0, -3).mean(0)
        step = (weights + torch.eye(tokens, device=weights.device)) / 2
        self.product = step if self.product is None else step @ self.product
