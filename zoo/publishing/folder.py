"""The three files of a repository in zoo's own format. The same model gives the same bytes, in every process."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from zoo import cards
from zoo.errors import PublishError, SpecError, WeightsCorrupt
from zoo.publishing.subject import Subject
from zoo.spec import Weights
from zoo.weights.cached import digest_of
from zoo.weights.config import DESCRIPTION, Config
from zoo.weights.repository import CONFIG
from zoo.weights.source import HUB

WEIGHTS, README = "model.safetensors", "README.md"
METADATA = {"format": "pt"}  # with a second key the bytes would differ from one process to the next
MODE = 0o644


@dataclass(frozen=True)
class Folder:
    """Files by their name in the repository. `weights` says of them what a plugin would; its source has no revision."""

    architecture: str
    config: Config
    weights: Weights
    files: Mapping[str, Path]

    @property
    def sha256(self) -> str:
        return self.weights.sha256

    def weights_at(self, revision: str) -> Weights:
        """As a plugin declares them, pinned to a commit."""
        source = f"{self.weights.source}@{revision}" if revision else self.weights.source
        return dataclasses.replace(self.weights, source=source)

    def differs(self, path: str, declared: str | None) -> bool:
        """Whether a file is another than the one that the Hub declares under this digest."""
        if path == WEIGHTS:
            return declared != self.sha256
        return not declared or digest_of(self.files[path], like=declared) != declared

    def changes(self, declared: Mapping[str, str]) -> list[str]:
        """The files that a repository with these digests lacks, or has otherwise."""
        return [path for path in self.files if self.differs(path, declared.get(path))]


def write_folder(subject: Subject, terms: Mapping[str, Any], repo: str, folder: Path) -> Folder:
    """Write the files of a model into an empty folder. terms: what is said about the weights, besides what is known."""
    path = folder / WEIGHTS
    save_file(subject.tensors, path, METADATA)
    path.chmod(MODE)  # safetensors makes files that only their owner can read
    digest, size = digest_of(path, like="0" * 64), path.stat().st_size
    declared = subject.declared
    known = {}
    if declared is not None and (subject.certain or declared.sha256 == digest):
        known = {key: getattr(declared, key) for key in DESCRIPTION}
    facts = known | dict(terms) | _of_the_model(subject)
    try:
        weights = Weights(source=f"{HUB}{repo}/{WEIGHTS}", sha256=digest, size=size, **facts)
        config = _config(subject, weights)
        config = Config.parse(config.to_bytes(), CONFIG)  # what is published can be read again
    except (SpecError, WeightsCorrupt, TypeError, ValueError) as wrong:
        raise PublishError(f"{subject.name} cannot be described: {wrong}", hint="nothing was uploaded") from wrong
    (folder / CONFIG).write_bytes(config.to_bytes())
    (folder / README).write_bytes(cards.card(subject.spec, weights, repo=repo).encode())
    for name in (CONFIG, README):
        (folder / name).chmod(MODE)
    return Folder(subject.name, config, weights, {name: folder / name for name in (CONFIG, WEIGHTS, README)})


def _of_the_model(subject: Subject) -> dict[str, Any]:
    """What the network itself knows better than anybody who described it."""
    model = subject.model
    return {
        "labels": tuple(model.labels or ()),
        "num_classes": getattr(model, "num_classes", None),
        "preprocessing": model.preprocessing,
        "kwargs": dict(model.options),
    }


def _config(subject: Subject, weights: Weights) -> Config:
    file = {"file": WEIGHTS, "sha256": weights.sha256, "size": weights.size}
    known = weights.to_dict()
    about = {key: known[key] for key in DESCRIPTION if known[key] not in ("", [], None)}
    return Config(subject.name, file, subject.spec.task, known["kwargs"], subject.plugin, about)
