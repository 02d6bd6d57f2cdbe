"""Batch norms folded into the convolutions before them, for inference: the same numbers with fewer passes over memory.

    from zoo_cnn.fold import fold_batch_norms

    fast = fold_batch_norms(zoo.create("x3d_s"))

For every model of this family; none has a norm left then. In evaluation on a CPU the networks of `zoo_cnn.blocks` fold
as they run, which costs them little; torchvision's, MoViNet and steps of streams gain more.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from itertools import pairwise
from typing import TypeVar

import torch
from torch import nn

from zoo_cnn.blocks import absorbed

Network = TypeVar("Network", bound=nn.Module)


def fold_batch_norms(model: Network) -> Network:
    """A copy in evaluation mode, without its batch norms. Its state dict is its own: load weights before, not after.

    Modules say in `FOLDS` which of their norms follows which convolution. In a Sequential it is the next one, which may
    itself be a Sequential: then its last.
    """
    folded = copy.deepcopy(model).eval()
    for module in folded.modules():
        for convolution, norm_path in list(_pairs(module)):
            norm = module.get_submodule(norm_path)
            with torch.no_grad():
                weight, bias = absorbed(convolution.weight, convolution.bias, norm)
            convolution.weight, convolution.bias = nn.Parameter(weight), nn.Parameter(bias)
            parent, _, name = norm_path.rpartition(".")
            module.get_submodule(parent)._modules[name] = nn.Identity()
    return folded


def _pairs(module: nn.Module) -> Iterator[tuple[nn.Module, str]]:
    """Convolutions of this module, each with the path of the batch norm right after it."""
    paths = getattr(module, "FOLDS", ())
    if isinstance(module, nn.Sequential):
        paths = pairwise(module._modules)
    for first, second in paths:
        try:
            convolution, norm = module.get_submodule(first), module.get_submodule(second)
        except AttributeError:
            continue  # a convolution over time, in a module that has one over the picture
        while isinstance(convolution, nn.Sequential) and len(convolution):
            convolution = convolution[-1]
        if isinstance(convolution, nn.Conv2d | nn.Conv3d) and isinstance(norm, nn.BatchNorm3d):
            yield convolution, second
