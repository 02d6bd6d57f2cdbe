"""The YAML at the head of a card, by which the Hub files, filters and ranks models."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import groupby
from typing import Any

import yaml

from zoo.cards.markdown import words
from zoo.spec import NAME, Metric, ModelSpec, Weights
from zoo.weights.config import LIBRARY

PIPELINES = {"classification": "video-classification"}
ENCODER = "feature-extraction"  # what the Hub calls weights without a classifier
ACCURACIES = re.compile(r"(top|acc@?)[15]|accuracy")
OTHER = "other"

# Licences that the Hub knows by these names; any other is "other", with its own name beside.
LICENSES = frozenset(
    (
        *("apache-2.0", "mit", "openrail", "bigscience-openrail-m", "creativeml-openrail-m", "afl-3.0"),
        *("artistic-2.0", "bsl-1.0", "bsd", "bsd-2-clause", "bsd-3-clause", "bsd-3-clause-clear", "c-uda"),
        *("cc", "cc0-1.0", "cc-by-2.0", "cc-by-2.5", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0"),
        *("cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nd-4.0", "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0"),
        *("cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0", "cdla-sharing-1.0", "cdla-permissive-1.0"),
        *("cdla-permissive-2.0", "wtfpl", "ecl-2.0", "epl-1.0", "epl-2.0", "eupl-1.1", "agpl-3.0", "gfdl"),
        *("gpl", "gpl-2.0", "gpl-3.0", "lgpl", "lgpl-2.1", "lgpl-3.0", "isc", "lppl-1.3c", "ms-pl", "mpl-2.0"),
        *("odc-by", "odbl", "openrail++", "osl-3.0", "postgresql", "ofl-1.1", "ncsa", "unlicense", "zlib"),
        *("pddl", "unknown"),
    )
)

# Data sets by the names they go by, found in what a spec says of its training data.
DATASETS = {
    "kinetics-400": r"kinetics[- ]?400",
    "kinetics-600": r"kinetics[- ]?600",
    "kinetics-700": r"kinetics[- ]?700",
    "something-something-v2": r"something[- ]something[- ]v2",
    "diving48": r"diving[- ]?48",
    "videomix22m": r"videomix22m",
    "imagenet-1k": r"imagenet[- ]1k",
    "imagenet-21k": r"imagenet[- ]2[12]k",
    "sports-1m": r"sports[- ]?1m",
    "ucf101": r"ucf[- ]?101",
    "hmdb51": r"hmdb[- ]?51",
    "charades": r"charades",
    "moments-in-time": r"moments in time",
}


def front_matter(spec: ModelSpec, weights: Weights | None = None) -> str:
    """From "---" to "---", with a line break at the end. Data of the spec only, written by a safe dumper."""
    data: dict[str, Any] = _license(weights.license if weights else spec.license)
    data["library_name"] = LIBRARY
    pipeline = ENCODER if weights and weights.num_classes == 0 else PIPELINES.get(spec.task)
    if pipeline:
        data["pipeline_tag"] = pipeline
    data["tags"] = list(dict.fromkeys(filter(None, ("video", "pytorch", slug(spec.family), spec.name))))
    if weights:
        trained_on = weights.training_data.casefold()
        if found := [name for name, pattern in DATASETS.items() if re.search(rf"\b(?:{pattern})\b", trained_on)]:
            data["datasets"] = found
        if weights.metrics:
            data["metrics"] = list(dict.fromkeys(_kind(metric) for metric in weights.metrics))
            data["model-index"] = [
                {"name": name_of(spec, weights), "results": list(_results(pipeline or spec.task, weights.metrics))}
            ]
    body: str = yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=float("inf"))
    return f"---\n{body}---\n"


def name_of(spec: ModelSpec, weights: Weights | None = None) -> str:
    """architecture.tag; the architecture alone for weights whose tag is none, such as a repository's."""
    return f"{spec.full_name}.{weights.tag}" if weights and NAME.fullmatch(weights.tag) else spec.full_name


def slug(value: str) -> str:
    """Lower case letters, digits, points and hyphens."""
    return re.sub(r"[^a-z0-9.]+", "-", value.casefold()).strip("-.")


def _license(terms: str) -> dict[str, Any]:
    name = words(terms).casefold()
    name = name if name in LICENSES else slug(terms) or "unknown"
    return {"license": name} if name in LICENSES else {"license": OTHER, "license_name": name}


def _results(task: str, metrics: Iterable[Metric]) -> Iterable[dict[str, Any]]:
    """One result for each data set, split and source."""

    def source(metric: Metric) -> tuple[str, ...]:
        return metric.dataset, metric.split, metric.origin, metric.by, metric.url

    for (dataset, split, origin, by, url), group in groupby(sorted(metrics, key=source), key=source):
        result: dict[str, Any] = {
            "task": {"type": task},
            "dataset": {"type": slug(dataset) or "unknown", "name": words(dataset)},
            "metrics": [
                {"type": _kind(m), "value": m.value, "name": words(f"{m.name}, {m.level} level, {m.origin}")}
                for m in group
            ],
        }
        if split:
            result["dataset"]["split"] = words(split)
        if url:  # the Hub takes no source without an address
            result["source"] = {"name": words(f"{origin} by {by}"), "url": words(url)}
        yield result


def _kind(metric: Metric) -> str:
    """The Hub's name of a metric."""
    return "accuracy" if ACCURACIES.fullmatch(metric.name.casefold()) else slug(metric.name) or "unknown"
