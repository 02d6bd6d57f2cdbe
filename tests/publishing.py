"""What the tests of publishing share: a plugin's model that has been trained, and what a Hub should hold in the end."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load

import zoo
from zoo.publishing.folder import Folder, write_folder
from zoo.publishing.subject import subject_of
from zoo.testing import LoopbackHub, perturb

REPO, NAME, ON_SHELF = "acme/tiny-moves", "acme/tiny", ("config.json", "model.safetensors", "README.md")
LABELS = ("walk", "run", "jump")
PROTOCOL = zoo.Preprocessing(num_frames=4, resize=(16, 16), crop=12, fps=7.5)
TERMS: dict[str, Any] = {
    "license": "cc-by-4.0",
    "training_data": "Clips of our own.",
    "description": "Names three ways to move.",
    "metrics": (zoo.Metric(name="top1", value=71.3, dataset="ours", origin="measured", by="python evaluate.py"),),
}


@contextmanager
def acme(**weights: zoo.Weights) -> Iterator[zoo.ModelSpec]:
    """A registry in which only the plugin `acme` is, with the model `acme/tiny`."""
    with zoo.testing.isolated():
        spec = zoo.ModelSpec(
            name="tiny",
            builder="models:tiny",
            num_classes=5,
            license="Apache-2.0",
            preprocessing=zoo.Preprocessing(num_frames=8, resize=32),
            weights=weights,
            default_tag=next(iter(weights), None),
        )
        zoo.register(spec, name="acme")
        yield zoo.info(NAME)


def trained(seed: int = 0, width: int = 6) -> zoo.VideoModel:
    """What somebody has in memory after training."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = perturb(zoo.create(NAME, num_classes=len(LABELS), width=width), seed=seed)
    model.labels, model.preprocessing = LABELS, PROTOCOL
    return model.train()


def written(folder: Path, model: zoo.VideoModel | None = None, **terms: object) -> Folder:
    """The files as they would be published."""
    folder.mkdir(exist_ok=True)
    return write_folder(subject_of(model or trained()), {**TERMS, **terms}, REPO, folder)


def quietly(text: str) -> None:
    pass


def holds(hub: LoopbackHub, model: zoo.VideoModel, cache: Any, revision: str = "main") -> bool:
    """Whether the Hub has the whole model, which anybody can open, and nothing else."""
    repository = hub._store.repositories[REPO]
    files = {path: f.data for path, f in repository.commits[repository.commit_of(revision)].items()}
    assert set(files) == {*ON_SHELF, ".gitattributes"}
    published = load(files["model.safetensors"])
    same = all(torch.equal(tensor, published[key]) for key, tensor in model.state_dict().items())
    again = zoo.create(f"hf-hub:{REPO}@{revision}", endpoint=hub.url, cache_dir=cache)
    assert again.labels == model.labels
    assert again.preprocessing == model.preprocessing
    assert json.loads(files["config.json"])["architecture"] == NAME
    clip = torch.rand(1, 3, 4, 12, 12)
    with torch.no_grad():
        return same and torch.equal(again(clip), model.eval()(clip))


def commits(hub: LoopbackHub) -> int:
    """How many there are, besides the one that makes the repository."""
    return len(hub._store.repositories[REPO].commits) - 1
