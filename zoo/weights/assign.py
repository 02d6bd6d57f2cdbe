"""Put the tensors of a file into a model: all of them, or none and an error that says which differ."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from zoo.errors import WeightsMismatch
from zoo.weights.safetensors_file import SafetensorsFile

SHOWN = 10


def load_into(model: nn.Module, file: SafetensorsFile, *, name: str) -> None:
    """Assign every tensor of the file to the model, in float32 where they are floating point.

    Raises WeightsMismatch, before the model is touched, unless names, shapes and kinds are exactly the model's.
    """
    wanted = model.state_dict()
    _compare_shapes({key: tuple(t.shape) for key, t in wanted.items()}, file.shapes, f"{file.path} does not fit {name}")
    tensors = {key: _as(tensor, wanted[key], key, file) for key, tensor in file.tensors().items()}
    model.load_state_dict(tensors, strict=True, assign=True)
    left = [key for key, t in [*model.named_parameters(), *model.named_buffers()] if t.is_meta]
    if left:
        raise WeightsMismatch(f"{name}: {_some(left)} got no values: they are neither in the file nor computed")


def _compare_shapes(wanted: dict[str, tuple[int, ...]], found: dict[str, tuple[int, ...]], what: str) -> None:
    missing = wanted.keys() - found.keys()
    unexpected = found.keys() - wanted.keys()
    shapes = [f"{k} {found[k]} instead of {wanted[k]}" for k in wanted if k in found and found[k] != wanted[k]]
    problems = [
        f"{len(items)} {kind}: {_some(items)}"
        for kind, items in (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes))
        if items
    ]
    if problems:
        raise WeightsMismatch(
            f"{what}: {'; '.join(problems)}",
            hint="is it another variant, or another number of classes? zoo.create(name, num_classes=N) replaces a head",
        )


def _some(items: Iterable[str]) -> str:
    items = sorted(items)
    more = f" and {len(items) - SHOWN} more" if len(items) > SHOWN else ""
    return ", ".join(items[:SHOWN]) + more


def _as(tensor: Tensor, like: Tensor, key: str, file: SafetensorsFile) -> Tensor:
    if tensor.is_floating_point() and like.is_floating_point():
        return tensor.to(torch.float32)
    if tensor.dtype != like.dtype:
        raise WeightsMismatch(f"{file.path}: {key} is {tensor.dtype}, the model's is {like.dtype}")
    return tensor
