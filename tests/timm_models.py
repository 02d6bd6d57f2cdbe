"""Small video models on timm's networks, and clips for them."""

from __future__ import annotations

import torch
from torch import Tensor

import zoo


def fresh(name: str = "timm/test_resnet", **options):
    torch.manual_seed(0)
    return zoo.testing.perturb(zoo.build(name, **options)).eval()


def a_clip(batch: int = 2, frames: int = 6, size: int = 32) -> Tensor:
    return torch.randn(batch, 3, frames, size, size, generator=torch.Generator().manual_seed(1))


def away(a: Tensor, b: Tensor) -> float:
    assert a.shape == b.shape
    return float((a - b).detach().abs().max() / b.detach().abs().max())
