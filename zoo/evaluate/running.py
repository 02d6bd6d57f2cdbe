"""From a model's name and a listing to an evaluation."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from zoo.contract import VideoModel
from zoo.data import Listing, Sample, digest_of, read_listing
from zoo.data.checks import some
from zoo.data.listing import SPLITS, TEST, VAL
from zoo.errors import DataError, SpecError
from zoo.evaluate.evaluation import Evaluation
from zoo.evaluate.scoring import score
from zoo.processes import World, processes
from zoo.spec import Preprocessing
from zoo.tasks import as_model
from zoo.video.clips import ViewsOption, protocol_of, view_counts
from zoo.weights.repository import exported_folder

COMPUTING = ("video-zoo", "torch", "torchvision", "timm", "av", "numpy")


def run(
    model_or_name: VideoModel | str,
    data: str | os.PathLike[str],
    *,
    views: ViewsOption,
    split: str,
    out: str | os.PathLike[str] | None,
    workers: int,
    device: Any,
) -> Evaluation:
    """See `zoo.evaluate`."""
    if isinstance(workers, bool) or not isinstance(workers, int) or workers < 0:
        raise SpecError(f"workers={workers!r}", hint="it is a number of processes, 0 to decode in this one")
    if device is None and isinstance(model_or_name, VideoModel):
        device = next(model_or_name.parameters(), torch.empty(0)).device
    elif device is None and exported_folder(model_or_name) is not None:
        device = "cpu"  # what was exported runs nowhere else
    with processes("" if device is None else str(device)) as world:
        if out is not None:
            world.by_first(lambda: _check_folder(Path(out)))
        model = as_model(model_or_name, world.device)
        _check_task(model)
        protocol = protocol_of(model)
        view_counts(protocol, views)
        listing: Listing = world.by_first(lambda: read_listing(os.fspath(data)))
        part, chosen = _part(listing, split)
        labels = _labels(model, listing)
        samples = tuple(_named(sample, labels) for sample in chosen)
        scores = score(model, samples, labels, protocol, world, views=views, workers=workers)
        about = {"source": listing.name, "split": part, "digest": digest_of(samples)}
        setting = setting_of(model, about, protocol, views, world, workers)
        found = Evaluation(labels, samples, scores, protocol.activation == "softmax", setting)
        if out is not None:
            world.by_first(lambda: found.save(Path(out)))
        return found


def setting_of(
    model: VideoModel, data: Mapping[str, Any], protocol: Preprocessing, views: ViewsOption, world: World, workers: int
) -> dict[str, Any]:
    """What an evaluation says of itself, as plain data: everything that is needed to repeat it."""
    weights = model.weights
    return {
        "model": model.spec.full_name if model.spec else type(model).__name__,
        "weights": None if weights is None else {n: getattr(weights, n) for n in ("tag", "source", "sha256")},
        "options": dict(model.options),
        "data": dict(data),
        "views": views if isinstance(views, str) else list(views),
        "protocol": protocol.to_dict(),
        "labels": list(model.labels or ()),
        "machine": {
            "device": str(world.device),
            "processes": world.size,
            "threads": torch.get_num_threads(),
            "workers": workers,
        },
        "versions": {name: found for name in COMPUTING if (found := _version(name))},
    }


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return ""


def _check_folder(path: Path) -> None:
    """Raise SpecError for one that cannot be written into, before anything is measured."""
    nearest = next(place for place in (path, *path.absolute().parents) if place.exists())
    if not nearest.is_dir():
        raise SpecError(f"out={str(path)!r}: {nearest} is no folder", hint="give the name of one, new or not")


def _check_task(model: VideoModel) -> None:
    name = model.spec.full_name if model.spec else type(model).__name__
    if model.spec is not None and model.spec.task != "classification":
        raise SpecError(f"{name} is of the task {model.spec.task}", hint="zoo evaluates classifiers")
    if not getattr(model, "num_classes", 0):
        raise SpecError(f"{name} has no classifier", hint="num_classes=N makes a new one, to be trained")


def _part(listing: Listing, split: str) -> tuple[str, Sequence[Sample]]:
    """(split, its samples)."""
    said = {sample.part for sample in listing.samples} - {""}
    if split not in ("", *SPLITS):
        raise SpecError(f"split={split!r}", hint=f"it is {' or '.join(SPLITS)}, or left out")
    part = split or next((held for held in (VAL, TEST) if held in said), "")
    chosen = [sample for sample in listing.samples if not part or sample.part == part]
    if not chosen:
        have = ", ".join(sorted(said)) or "no splits"
        raise DataError(f"{listing.source} has nothing in the split {part!r}", hint=f"it has {have}")
    return part, chosen


def _labels(model: VideoModel, listing: Listing) -> tuple[str, ...]:
    """Those of the model, in the order of the logits. Raises DataError for data that have others."""
    count = int(model.num_classes)
    labels = model.labels or tuple(f"class_{i}" for i in range(count))
    unknown = [label for label in listing.labels if label not in labels and _number(label, count) is None]
    if unknown:
        raise DataError(
            f"{listing.source} has labels that the model does not know: {', '.join(some(unknown))}",
            hint=f"it knows {', '.join(some(labels))}; or give their numbers, from 0 to {count - 1}",
        )
    return labels


def _number(label: str, count: int) -> int | None:
    return int(label) if label.isascii() and label.isdecimal() and int(label) < count else None


def _named(sample: Sample, labels: Sequence[str]) -> Sample:
    """With the model's name for its label."""
    return sample if sample.label in labels else replace(sample, label=labels[int(sample.label)])
