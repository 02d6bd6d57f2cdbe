"""Which architectures a file may be of: asked when it does not fit the one that it was given to.

Names and shapes of tensors are all there is to go by. Architectures that have the same are told apart by nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping

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
    wrong: WeightsMismatch, spec: ModelSpec, others: Iterable[ModelSpec], build: Callable[..., nn.Module]
) -> None:
    """Have an error's hint say which architecture its `shapes` are of, where one of these has them.

    spec: whose the file should have been. build: makes a network of a spec's full name.
    """
    alike = [other for other in others if other.streaming == spec.streaming]
    found = _fitting(wrong.shapes, alike, build) or _fitting(
        wrong.shapes, [other for other in others if other.streaming != spec.streaming], build
    )
    if spec.full_name in found:
        found = {spec.full_name: found[spec.full_name]}
        if found[spec.full_name] is None:
            return  # it is of the right architecture, and something else is wrong
    if found:
        classes = next(iter(found.values()))
        of = f", with {classes} classes" if classes is not None else ""
        option = f", num_classes={classes}" if classes is not None else ""
        first = next(iter(found))
        wrong.hint = f"it is a file of {' or '.join(found)}{of}: load it into zoo.build({first!r}{option})"


def _fitting(shapes: Shapes, specs: Iterable[ModelSpec], build: Callable[..., nn.Module]) -> dict[str, int | None]:
    """Architectures that the file fits, and its number of classes where it is another than theirs."""
    found: dict[str, int | None] = {}
    size = sum(map(math.prod, shapes.values()))
    for spec in specs:
        if spec.resolver or not spec.params or not 1 / NEAR < size / spec.params < NEAR:
            continue
        try:
            with torch.device("meta"), skip_init():
                model = build(spec.full_name)
            wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
            for renamed in _readings(shapes, spec.layouts):
                classes = _classes(renamed, wanted, spec.num_classes)
                if classes is not None:
                    found[spec.full_name] = None if classes == spec.num_classes else classes
                    break
        except Exception:
            continue  # a network that cannot be built here, or a layout that wants values: it is not named
    return found


def _readings(shapes: Shapes, layouts: Mapping[str, str]) -> Iterator[Shapes]:
    """The file as it is, and as every layout reads it."""
    yield shapes
    for reference in layouts.values():
        tensors: dict[str, Tensor] = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
        try:
            renamed = layout_function(reference)(tensors)
        except Exception:
            continue
        if renamed is not None:
            yield {name: tuple(tensor.shape) for name, tensor in renamed.items()}


def _classes(shapes: Shapes, wanted: Shapes, usual: int | None) -> int | None:
    """How many classes the file has, if that is all in which it differs; 0 stands for a network without a number."""
    ours, theirs = (
        {name: shape for name, shape in some.items() if not name.endswith(COUNTER)} for some in (wanted, shapes)
    )
    if ours.keys() != theirs.keys():
        return None
    odd = [name for name, shape in ours.items() if theirs[name] != shape]
    if not odd:
        return usual or 0
    rows = {theirs[name][0] for name in odd if theirs[name]}
    last = all(ours[name][:1] == (usual,) and ours[name][1:] == theirs[name][1:] for name in odd)
    return rows.pop() if last and len(rows) == 1 else None
