"""Which architectures a file may be of: asked when it does not fit the one that it was given to.

Names and shapes of tensors are all there is to go by. Architectures that have the same are told apart by nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

import torch
from torch import Tensor, nn

from zoo.errors import WeightsMismatch
from zoo.spec import ModelSpec
from zoo.weights.layouts import layout_function
from zoo.weights.skip_init import skip_init

Shapes = Mapping[str, tuple[int, ...]]

NEAR = 2  # times as many numbers: a classifier of other classes is no larger part of any network
COUNTER = "num_batches_tracked"  # old files have none


def named(
    wrong: WeightsMismatch, spec: ModelSpec, others: Collection[ModelSpec], build: Callable[..., nn.Module]
) -> None:
    """Have an error's hint say which architecture its `shapes` are of, where one of these has them.

    spec: whose the file should have been. build: makes a network of a spec's full name.
    """
    alike = [other for other in others if other.streaming == spec.streaming]
    unlike = [other for other in others if other.streaming != spec.streaming]
    found = _fitting(wrong.shapes, alike, build) or _fitting(wrong.shapes, unlike, build)
    if spec.full_name in found:
        found = {spec.full_name: found[spec.full_name]}
        if not found[spec.full_name]:
            return  # it is of the right architecture, and something else is wrong
    if found:
        first, classes = next(iter(found.items()))
        of, option = (f", with {classes} classes", f", num_classes={classes}") if classes else ("", "")
        wrong.hint = f"it is a file of {' or '.join(found)}{of}: load it into zoo.build({first!r}{option})"


def _fitting(shapes: Shapes, specs: Iterable[ModelSpec], build: Callable[..., nn.Module]) -> dict[str, int]:
    """Architectures that the file fits, each with the file's number of classes, or 0 where it is the usual one."""
    found: dict[str, int] = {}
    size = sum(map(math.prod, shapes.values()))
    for spec in specs:
        if spec.resolver or not spec.params or not 1 / NEAR < size / spec.params < NEAR:
            continue
        try:
            with torch.device("meta"), skip_init():
                wanted = {name: tuple(tensor.shape) for name, tensor in build(spec.full_name).state_dict().items()}
            read = (_other_classes(renamed, wanted, spec.num_classes) for renamed in _readings(shapes, spec.layouts))
            fits = [classes for classes in read if classes is not None]
        except Exception:
            continue  # a network that cannot be built here is not named
        if fits:
            found[spec.full_name] = fits[0]
    return found


def _readings(shapes: Shapes, layouts: Mapping[str, str]) -> Iterator[Shapes]:
    """The file as it is, and as every layout reads it."""
    yield shapes
    for reference in layouts.values():
        tensors: dict[str, Tensor] = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
        try:
            renamed = layout_function(reference)(tensors)
        except Exception:
            continue  # a file of another kind, or a layout that wants values
        if renamed is not None:
            yield {name: tuple(tensor.shape) for name, tensor in renamed.items()}


def _other_classes(shapes: Shapes, wanted: Shapes, usual: int | None) -> int | None:
    """0 if the file fits; its number of classes, if that is all in which it differs; else None."""
    ours, theirs = (
        {name: shape for name, shape in some.items() if not name.endswith(COUNTER)} for some in (wanted, shapes)
    )
    if ours.keys() != theirs.keys():
        return None
    odd = [name for name, shape in ours.items() if theirs[name] != shape]
    if not odd:
        return 0
    heads = all(ours[name][:1] == (usual,) and ours[name][1:] == theirs[name][1:] for name in odd)
    rows = {theirs[name][:1] for name in odd}
    return theirs[odd[0]][0] if heads and len(rows) == 1 and all(rows) else None
