"""Golden logits: what weights inside a package say of a fixed clip, recorded once and compared ever after.

Beside `net.safetensors` lies `net.golden.json` with {"clip": [1, C, T, H, W], "logits": [...]}. The clip is computed,
not stored. `zoo.testing.record_golden("acme/net_s.tag")` writes the file.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoo import factory, registry
from zoo.contract import VideoModel
from zoo.cost import protocol_shape
from zoo.errors import SpecError
from zoo.spec import ModelSpec, Weights
from zoo.testing.failure import CheckFailed, require
from zoo.testing.subject import difference, run, whole_shape
from zoo.weights.source import PACKAGED, packaged

AGREE = 1e-4  # of the largest logit: other processors round differently, by less than a tenth of this


def check_packaged_weights(spec: ModelSpec) -> None:
    """Weights inside the package load, give finite logits, and the ones on record if there is a record."""
    for tag, weights in spec.weights.items():
        if weights.source.startswith(PACKAGED):
            name = f"{spec.full_name}.{tag}"
            check_golden(factory.create(name), weights, name)


def check_golden(model: VideoModel, weights: Weights, name: str) -> None:
    """A model with these weights, called `name`, gives finite logits, and the ones on record if there is a record."""
    path = _record_of(weights) if weights.source.startswith(PACKAGED) else None
    record = json.loads(path.read_text()) if path and path.is_file() else None
    logits = run(model, golden_clip(record["clip"] if record else golden_shape(model)))
    require(
        bool(logits.isfinite().all()),
        expected=f"finite logits from {name}",
        seen=f"{logits.flatten()[:5].tolist()}",
        fix="publish weights that are sound",
    )
    if record is None or path is None:
        return
    try:
        away = difference(logits, torch.tensor(record["logits"])[None])
    except (TypeError, ValueError) as error:
        raise CheckFailed(f"{path.name} holds a row of numbers", str(error), "record it again") from error
    require(
        away <= AGREE,
        expected=f"the logits of {name} in {path.name}",
        seen=f"a relative difference of {away:.2g}",
        fix="find out what has changed the network; if it is meant, publish new weights under a new tag, and "
        f"record them with zoo.testing.record_golden({name!r})",
    )


def record_golden(name: str) -> Path:
    """Write what the packaged weights `name` (architecture.tag) say of the golden clip beside them; gives the path."""
    _, weights = registry.default.find(name)
    if weights is None or not weights.source.startswith(PACKAGED):
        raise SpecError(f"{name} has no weights inside a package", hint="give architecture.tag of pkg:// weights")
    model = factory.create(name)
    shape = golden_shape(model)
    logits = run(model, golden_clip(shape))[0]
    path = _record_of(weights)
    path.write_text(json.dumps({"clip": shape, "logits": [float(f"{v:.7g}") for v in logits.tolist()]}) + "\n")
    return path


def golden_clip(shape: Any) -> Tensor:
    """The same numbers on every machine and in every version: waves of another phase in each row and frame."""
    count = torch.Size(shape).numel()
    return torch.sin(torch.arange(count, dtype=torch.float64) * 0.37).reshape(tuple(shape)).float()


def _record_of(weights: Weights) -> Path:
    path = packaged(weights.source)
    return path.with_name(f"{path.stem}.golden.json")


def golden_shape(model: VideoModel) -> list[int]:
    """One clip of the model's protocol."""
    return [1, *(protocol_shape(model.preprocessing) if model.preprocessing else whole_shape(model))]
