"""Put the tensors of a file into a model: all of them, or none and an error that says which differ."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from zoo.errors import WeightsCorrupt, WeightsMismatch
from zoo.weights.cached import noted, take_note
from zoo.weights.layouts import converted
from zoo.weights.safetensors_file import SafetensorsFile, Shards

SHOWN = 10
LONGEST = 120  # characters of one name: a file may contain any


def load_into(
    model: nn.Module,
    file: SafetensorsFile | Shards,
    *,
    name: str,
    layouts: Mapping[str, str] | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    finite: bool = False,
    stamps: Path | None = None,
    fresh: bool = False,
) -> None:
    """Put every tensor of the file into the model, whatever floating-point type the file has.

    fresh: nobody knows the model's parameters yet, so that the file's tensors can take their place without a copy.
    layouts: other ways to name the tensors than the model's, as in ModelSpec. device, dtype: None keeps the model's.
    finite: parameters, and buffers that are numbers in the model, must hold numbers only, for files that nobody has
    reviewed. stamps: a folder that keeps a note of files in which that was seen, so that it is seen to only once.
    Parameters that are one under several names get one value, and stay one.
    Raises WeightsMismatch or WeightsCorrupt, before the model is touched, unless names, shapes and kinds are its own.
    """
    wanted = model.state_dict()
    source: Mapping[str, Tensor] | None = None
    shapes, what = file.shapes, f"{file.path} does not fit {name}"
    if layouts and shapes.keys() != wanted.keys():
        layout, source = converted({key: file.tensor(key) for key in shapes}, layouts, what, wanted, model)
        shapes = {key: tuple(tensor.shape) for key, tensor in source.items()}
        what = f"{file.path}, read as layout {layout!r}, does not fit {name}"
    compare({key: tuple(t.shape) for key, t in wanted.items()}, shapes, what)
    numbers = must_be_finite(model) if finite else set()
    note = f"finite {hashlib.sha256(' '.join(sorted(numbers)).encode()).hexdigest()}"
    known = stamps is not None and noted(note, file.files, file.path, stamps=stamps)
    tensors: dict[str, Tensor] = {}
    for key, like in wanted.items():
        tensor = file.tensor(key) if source is None else source[key]
        if key in numbers and not known and not _all_finite(tensor):
            raise WeightsCorrupt(f"{file.path}: {_short(key)} holds NaN or infinity", hint="its training has diverged")
        tensors[key] = _as(tensor, like, f"{file.path}: {_short(key)}", device, dtype)
    if numbers and stamps and not known:
        take_note(note, file.files, file.path, stamps=stamps)
    _tie(tensors, model, str(file.path), fresh=fresh)
    # A live model keeps its parameters, which an optimiser may hold; one that has just been built takes the file's.
    model.load_state_dict(tensors, strict=True, assign=fresh)
    left = [key for key, t in [*model.named_parameters(), *model.named_buffers()] if t.is_meta]
    if left and torch.device(device or "cpu").type != "meta":
        raise WeightsMismatch(
            f"{name}: {some(left)} got no values: they are neither in the file nor computed",
            hint="the network has to compute its buffers when it is built, or to store them",
        )


def must_be_finite(model: nn.Module) -> set[str]:
    """Names of what holds numbers only in a sound state dict. A mask may be a buffer of infinities: those are not."""
    parameters = {key for key, _ in model.named_parameters(remove_duplicate=False)}
    own = model.state_dict()
    return {
        key
        for key, tensor in own.items()
        if tensor.is_floating_point() and (key in parameters or tensor.is_meta or _all_finite(tensor))
    }


def _tie(tensors: dict[str, Tensor], model: nn.Module, what: str, *, fresh: bool) -> None:
    """See to it that what is one tensor in the model gets one value. fresh: and one new parameter."""
    names: dict[int, list[str]] = {}
    for key, own in model.state_dict(keep_vars=True).items():
        names.setdefault(id(own), []).append(key)
    parameters = dict(model.named_parameters(remove_duplicate=False))
    for first, *others in (aliases for aliases in names.values() if len(aliases) > 1):
        one = tensors[first]
        if wrong := next((key for key in others if not (one.is_meta or torch.equal(tensors[key], one))), None):
            raise WeightsMismatch(
                f"{what}: {_short(first)} and {_short(wrong)} are one tensor in the model, and two in the file",
                hint="is it a file of another model?",
            )
        if fresh and first in parameters:
            parameter = nn.Parameter(one, requires_grad=parameters[first].requires_grad)
            tensors |= dict.fromkeys([first, *others], parameter)


def _all_finite(tensor: Tensor) -> bool:
    # A sum is one fast pass, and NaN or infinity stays in it. One that overflows is looked at value by value, and so
    # are numbers of one byte, which have no sum.
    summed = tensor.element_size() > 1 and bool(tensor.sum().isfinite())
    return summed or bool(tensor.isfinite().all())


def compare(wanted: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]], what: str) -> None:
    """Raise WeightsMismatch unless names and shapes are the same."""
    missing = wanted.keys() - found.keys()
    unexpected = found.keys() - wanted.keys()
    shapes = [f"{k} {found[k]} instead of {wanted[k]}" for k in wanted if k in found and found[k] != wanted[k]]
    problems = [
        f"{len(items)} {kind}: {some(items)}"
        for kind, items in (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes))
        if items
    ]
    if problems:
        raise WeightsMismatch(
            f"{what}: {'; '.join(problems)}",
            hint="is it another variant, or another number of classes? zoo.create(name, num_classes=N) replaces a head",
        )


def some(items: Iterable[str]) -> str:
    """The first few names, each of a length that can be read, and how many more there are."""
    items = sorted(items)
    more = f" and {len(items) - SHOWN} more" if len(items) > SHOWN else ""
    return ", ".join(map(_short, items[:SHOWN])) + more


def _short(name: str) -> str:
    name = name if name.isprintable() and name else repr(name)
    return name if len(name) <= LONGEST else f"{name[:LONGEST]}..."


def check_kind(tensor: Tensor, like: Tensor, what: str) -> bool:
    """Whether it is floating-point, of any width. Raises WeightsMismatch for other numbers than the model has."""
    # Of one byte they are meant to be scaled by something that is not in the model.
    if tensor.is_floating_point() and like.is_floating_point() and tensor.element_size() > 1:
        return True
    if tensor.dtype != like.dtype:
        raise WeightsMismatch(
            f"{what} is {tensor.dtype}, the model's is {like.dtype}", hint="is it a file of another model?"
        )
    return False


def _as(
    tensor: Tensor, like: Tensor, what: str, device: torch.device | str | None, dtype: torch.dtype | None
) -> Tensor:
    floating = check_kind(tensor, like, what)
    return tensor.to(device=device or like.device, dtype=(dtype or like.dtype) if floating else None)
