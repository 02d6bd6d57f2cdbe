"""Weights that hide nothing."""

from __future__ import annotations

from math import prod

import torch
from torch import nn


def perturb(model: nn.Module, *, seed: int = 0) -> nn.Module:
    """Move every number of the state dict away from its fresh value, in place, and give the model back.

    Fresh weights hide bugs: a zero gain switches a branch off, zero biases and equal norms make different code agree.
    Adds N(0, 0.1), and to matrices and kernels N(0, 0.5/sqrt(fan-in)), so that deep networks do not overflow; running
    variances stay positive. Buffers that are not in the state dict are computed by the code, and stay.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point():
                noise = torch.randn(tensor.shape, generator=generator) * _scale(name, tensor)
                tensor.add_((noise.abs() if name.endswith("running_var") else noise).to(tensor))
    return model


def _scale(name: str, tensor: torch.Tensor) -> float:
    is_matrix = tensor.ndim >= 2 and "weight" in name.rpartition(".")[2]
    return float(0.5 / prod(tensor.shape[1:]) ** 0.5) if is_matrix else 0.1
