"""`config.json` of a model repository in zoo's own format: written by strangers, so nothing in it is taken on trust.

No key names code, a module, a path or another repository. What is not known here is an error, and every value has a
bound.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from zoo.errors import SpecError, WeightsCorrupt
from zoo.spec import NAME, SHA256, Preprocessing, Weights

VERSION = 1
LIBRARY = "video-zoo"
FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}\.safetensors")
MODEL = re.compile(rf"({NAME.pattern}/)?{NAME.pattern}")
PLUGIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
WORD = re.compile(r"[A-Za-z0-9_.+-]{0,100}")  # of an option: cannot be a path or an address

MOST_BYTES = 1 << 20
MOST_LABELS, LONGEST_LABEL = 100_000, 200
MOST_ITEMS, LARGEST_INT, LARGEST_FLOAT = 64, 16_384, 1e9

REQUIRED = {"schema_version", "library", "architecture", "task", "weights"}
# What Weights says about a checkpoint, under the same names.
DESCRIPTION = {"description", "labels", "license", "metrics", "num_classes", "preprocessing", "training_data", "url"}
OPTIONAL = {"kwargs", "plugin", *DESCRIPTION}
WEIGHTS = {"file", "sha256", "size"}


@dataclass(frozen=True)
class Config:
    """A model in a repository: which registered architecture, with which options, and what its weights are.

    plugin: the distribution to install where the architecture is not registered. weights: without their source.
    """

    architecture: str
    weights: Mapping[str, Any]
    task: str = "classification"
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    plugin: str = ""
    about: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: bytes, where: str) -> Config:
        """From the bytes of config.json; `where` names it in errors. Raises WeightsCorrupt."""
        try:
            return cls._parse(text)
        except (_Wrong, SpecError, TypeError) as wrong:
            raise WeightsCorrupt(
                f"{where} is not a model of zoo's own format: {wrong}",
                hint="ask its author, or open its file with zoo.load",
            ) from wrong

    @classmethod
    def _parse(cls, text: bytes) -> Config:
        data = _load(text)
        version = data.get("schema_version")
        _require(type(version) is int and version >= 1, "it has no schema_version")
        _require(version <= VERSION, f"schema_version {version} is newer than {VERSION}: pip install -U {LIBRARY}")
        _keys(data, REQUIRED, OPTIONAL, "it")
        _require(data["library"] == LIBRARY, f"library is not {LIBRARY!r}")
        weights, kwargs, plugin = data["weights"], data.get("kwargs", {}), data.get("plugin", "")
        _require(_matches(MODEL, data["architecture"]), "architecture is not a model's name")
        _require(_matches(NAME, data["task"]), "task is not a word")
        _require(plugin == "" or _matches(PLUGIN, plugin), "plugin is not a distribution's name")
        _require(isinstance(weights, dict), "weights is not an object")
        _keys(weights, WEIGHTS, set(), "weights")
        _require(_matches(FILE, weights["file"]), "weights.file is not a .safetensors file beside it")
        _require(_matches(SHA256, weights["sha256"]), "weights.sha256 is not 64 hexadecimal digits")
        _require(type(weights["size"]) is int and weights["size"] > 0, "weights.size is not a number of bytes")
        _require(isinstance(kwargs, dict) and len(kwargs) <= MOST_ITEMS, "kwargs is not a small object")
        for name, value in kwargs.items():
            _require(_bounded(value), f"kwargs.{name[:80]} is not a bounded number, a word or a short list of them")
        about = {key: data[key] for key in DESCRIPTION & data.keys()}
        _check_about(about)
        config = cls(data["architecture"], weights, data["task"], kwargs, plugin, about)
        config.as_weights("x", "x")
        return config

    def as_weights(self, source: str, tag: str) -> Weights:
        """As if a plugin had declared them."""
        digest, size = self.weights["sha256"], self.weights["size"]
        return Weights(source=source, sha256=digest, size=size, kwargs=self.kwargs, tag=tag, **self.about)

    def to_bytes(self) -> bytes:
        """Canonical JSON: the same config is the same bytes everywhere."""
        data: dict[str, Any] = {"schema_version": VERSION, "library": LIBRARY, "architecture": self.architecture}
        data |= {"task": self.task, "weights": dict(self.weights), **self.about}
        data |= {key: value for key, value in (("kwargs", dict(self.kwargs)), ("plugin", self.plugin)) if value}
        return (json.dumps(data, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n").encode()


def read_object(text: bytes, where: str) -> dict[str, Any]:
    """A JSON object that no parser has to guess about: bounded, no key twice, finite numbers. Raises WeightsCorrupt."""
    try:
        data: dict[str, Any] = _load(text)
    except _Wrong as wrong:
        raise WeightsCorrupt(f"{where}: {wrong}", hint="ask its author") from wrong
    return data


class _Wrong(Exception):
    """What is wrong with a config."""


def _require(condition: bool, otherwise: str) -> None:
    if not condition:
        raise _Wrong(otherwise)


def _load(text: bytes) -> Any:
    _require(len(text) <= MOST_BYTES, f"it has {len(text):,} bytes, more than {MOST_BYTES:,}")
    try:
        data = json.loads(text.decode(), object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite)
    except (ValueError, RecursionError) as broken:
        raise _Wrong(f"it is no JSON: {str(broken)[:200]}") from broken
    _require(isinstance(data, dict), "it is not an object")
    return data


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    _require(len(found) == len(pairs), "a key occurs twice")
    return found


def _no_constant(text: str) -> NoReturn:
    raise _Wrong(f"{text} is not a number")


def _finite(text: str) -> float:
    _require(math.isfinite(value := float(text)), f"{text[:40]} is too large")
    return value


def _keys(data: dict[str, Any], required: set[str], optional: set[str], what: str) -> None:
    missing, unknown = sorted(required - data.keys()), sorted(data.keys() - required - optional)
    _require(not missing, f"{what} lacks {', '.join(missing)}")
    _require(not unknown, f"{what} has the unknown key {unknown[:1][0][:80] if unknown else ''!r}")


def _matches(pattern: re.Pattern[str], value: object) -> bool:
    return isinstance(value, str) and len(value) <= LONGEST_LABEL and pattern.fullmatch(value) is not None


def _bounded(value: object) -> bool:
    if isinstance(value, list):
        return len(value) <= MOST_ITEMS and all(not isinstance(v, list) and _bounded(v) for v in value)
    if isinstance(value, bool) or value is None:
        return True
    if isinstance(value, int):
        return abs(value) <= LARGEST_INT
    if isinstance(value, float):
        return abs(value) <= LARGEST_FLOAT
    return isinstance(value, str) and WORD.fullmatch(value) is not None


def _check_about(about: Mapping[str, Any]) -> None:
    labels = about.get("labels", [])
    _require(isinstance(labels, list) and len(labels) <= MOST_LABELS, f"labels is not a list of at most {MOST_LABELS}")
    _require(all(_is_text(label, LONGEST_LABEL) and label for label in labels), "a label is not a short printable text")
    _require(len(set(labels)) == len(labels), "two labels are the same")
    classes = about.get("num_classes")
    _require(classes is None or (type(classes) is int and 0 <= classes <= MOST_LABELS), "num_classes is not a count")
    for key in ("description", "license", "training_data", "url"):
        _require(_is_text(about.get(key, ""), 2000), f"{key} is not a printable text")
    metrics = about.get("metrics", [])
    _require(isinstance(metrics, list) and len(metrics) <= MOST_ITEMS, "metrics is not a short list")
    for metric in metrics:
        _require(isinstance(metric, dict), "a metric is not an object")
        value = metric.get("value")
        _require(isinstance(value, int | float) and not isinstance(value, bool), "a metric's value is not a number")
        _require(all(key == "value" or _is_text(text, 2000) for key, text in metric.items()), "a metric is not text")
    protocol = about.get("preprocessing")
    _require(protocol is None or isinstance(protocol, dict), "preprocessing is not an object")
    for key, value in (protocol or {}).items():
        _require(_bounded(value), f"preprocessing.{key[:80]} is out of bounds")
    try:
        if protocol is not None:
            Preprocessing.from_dict(protocol)
    except (TypeError, ValueError) as wrong:
        raise _Wrong(f"preprocessing: {wrong}") from wrong


def _is_text(value: object, most: int) -> bool:
    return isinstance(value, str) and len(value) <= most and value.isprintable()
