"""`export.json`: what stands beside an exported file, for people, for programs, and for `zoo.load_exported`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zoo.deploy.rerun import OPENERS
from zoo.errors import SpecError, WeightsCorrupt, WeightsNotFound
from zoo.plain import Data, frozen, is_count, is_number
from zoo.spec import SHA256, Preprocessing, Weights
from zoo.weights.cached import digest_of
from zoo.weights.config import LIBRARY, MOST_BYTES, read_object
from zoo.weights.repository import EXPORT

VERSION = 1
FILES = {"onnx": "model.onnx", "pt2": "model.pt2", "aoti": "model.aoti.pt2"}
NEEDS_TRUST = ("pt2", "aoti")  # torch reads the one with pickle in places, and the other is machine code


@dataclass(frozen=True)
class Comparison(Data):
    """Of a model with the one that it was made of.

    clips: how many both were asked about. distance: the largest difference of their logits, by the largest logit.
    agreement: the share of clips that both give the same best label. embedding: as distance, of their embeddings; None
    where these were not compared.
    """

    clips: int
    distance: float
    agreement: float
    embedding: float | None = None

    def __post_init__(self) -> None:
        self._require(is_count(self.clips), "clips", "a number of clips")
        self._require(isinstance(self.distance, float | int), "distance", "a number")
        self._require(is_number(self.agreement), "agreement", "a number")
        self._require(isinstance(self.embedding, float | int | None), "embedding", "a number or None")

    def __str__(self) -> str:
        same = f"{self.agreement:.0%} keep their best label"
        embeddings = "" if self.embedding is None else f", embeddings by {self.embedding:.1e}"
        return f"{self.clips} clips: logits differ by {self.distance:.1e} of their scale{embeddings}, {same}"


@dataclass(frozen=True)
class Facts(Data):
    """About an exported model.

    model: its name. format, sha256, size: of the file. clip: `(C, T, H, W)`, what it takes any number of.
    changes: {kind of layer: [changed, of so many]} where it is no longer the network that it was.
    comparison: with the original. made_with: versions of libraries, and of int8 weights how many bits they have.
    """

    model: str
    format: str
    sha256: str
    size: int
    clip: tuple[int, int, int, int]
    num_classes: int
    num_features: int
    preprocessing: Preprocessing
    labels: tuple[str, ...] = ()
    weights: Weights | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)
    comparison: Comparison | None = None
    made_with: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("clip", "labels", "changes", "made_with"):
            self._set(name, frozen(getattr(self, name)))
        self._require_type(str, "text", "model", "format", "sha256")
        self._require_type(int, "a whole number", "num_classes", "num_features", "size")
        self._require(self.format in OPENERS, "format", f"one of {', '.join(OPENERS)}")
        self._require(bool(SHA256.fullmatch(self.sha256)), "sha256", "64 hexadecimal digits")
        clip = isinstance(self.clip, tuple) and len(self.clip) == 4 and all(map(is_count, self.clip))
        self._require(clip, "clip", "(C, T, H, W)")
        pairs = isinstance(self.changes, Mapping) and all(_is_pair(pair) for pair in self.changes.values())
        self._require(pairs, "changes", "{kind: (changed, of so many)}")
        labels = isinstance(self.labels, tuple) and all(isinstance(label, str) for label in self.labels)
        self._require(
            labels and len(self.labels) in (0, self.num_classes), "labels", "one text for each class, or none"
        )
        self._nest("weights", Weights)
        self._nest("comparison", Comparison)
        self._nest("preprocessing", Preprocessing)
        self._require(self.preprocessing is not None, "preprocessing", "a zoo.Preprocessing")

    def write(self, folder: Path) -> None:
        file = FILES[self.format]
        about = {"schema_version": VERSION, "library": LIBRARY, "file": file, "inputs": ["clip"]}
        data = about | {"outputs": ["logits", "embedding"]} | self.to_dict()
        (folder / EXPORT).write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_facts(folder: Path) -> Facts:
    """Of an exported folder whose file is the one that was written.

    Raises WeightsNotFound where it is none, WeightsCorrupt where it is damaged.
    """
    path = folder / EXPORT
    if not path.is_file():
        raise WeightsNotFound(f"{folder} has no {EXPORT}", hint="give a folder that zoo.export has written")
    with path.open("rb") as stream:
        data = read_object(stream.read(MOST_BYTES + 1), str(path))
    version = data.pop("schema_version", None)
    if version != VERSION:
        hint = f"pip install -U {LIBRARY}" if isinstance(version, int) and version > VERSION else "export it again"
        raise WeightsCorrupt(f"{path}: schema_version is {version!r:.20}, not {VERSION}", hint=hint)
    for known in ("library", "file", "inputs", "outputs"):
        data.pop(known, None)
    try:
        facts = Facts.from_dict(data)
    except (SpecError, TypeError, ValueError) as wrong:
        raise WeightsCorrupt(f"{path}: {wrong}", hint="export it again") from wrong
    file = folder / FILES[facts.format]
    if not file.is_file():
        raise WeightsNotFound(f"{folder} has no {file.name}", hint="export it again")
    if file.stat().st_size != facts.size or digest_of(file, like=facts.sha256) != facts.sha256:
        raise WeightsCorrupt(f"{file} is not the file that was exported", hint="export it again")
    return facts


def _is_pair(value: object) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and all(isinstance(count, int) for count in value)
