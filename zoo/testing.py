"""Helpers for tests of zoo and of plugins."""

from __future__ import annotations

import torch
from torch import nn

from zoo import registry

isolated = registry.default.isolated


def perturb(model: nn.Module, *, seed: int = 0) -> nn.Module:
    """Move every parameter and floating-point buffer away from its fresh value, and give the model back.

    Fresh weights hide bugs: a zero gain switches a branch off, zero biases and equal norms make different code agree.
    Adds N(0, 0.1); running variances stay positive.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            if tensor.is_floating_point():
                noise = 0.1 * torch.randn(tensor.shape, generator=generator)
                tensor.add_(noise.abs() if name.endswith("running_var") else noise)
    return model
