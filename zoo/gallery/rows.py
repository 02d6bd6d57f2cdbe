"""What the table and the plot know of a model: plain data for the page's script."""

from __future__ import annotations

from typing import Any, TypedDict

from zoo.cards.markdown import words
from zoo.cost import Cost
from zoo.licenses import COMMERCIAL, matches
from zoo.spec import ModelSpec, Weights

TOP1 = ("acc@1", "top1", "top-1", "accuracy")  # what projects call the share of videos whose first label is right


class Row(TypedDict):
    """One line of the table. results: of the top-1 accuracies, [data set, percent, level, origin]."""

    name: str
    page: str
    about: str
    family: str
    task: str
    plugin: str
    license: str
    commercial: bool
    streaming: bool
    pretrained: bool
    params: int | None
    gflops: float | None
    results: list[list[Any]]


def row_of(name: str, spec: ModelSpec, weights: Weights | None, cost: Cost | None) -> Row:
    terms = weights.license if weights else spec.license
    anchor = f"#{weights.tag}" if weights else ""
    return {
        "name": name,
        "page": f"models/{file_of(spec.full_name)}{anchor}",
        "about": words((weights and weights.description) or spec.description),
        "family": words(spec.family) or "other",
        "task": words(spec.task),
        "plugin": spec.plugin,
        "license": words(terms) or "not stated",
        "commercial": matches(terms, COMMERCIAL),
        "streaming": spec.streaming,
        "pretrained": weights is not None,
        "params": cost.params if cost else spec.params,
        "gflops": round(cost.gflops, 4) if cost else None,
        "results": [_result(metric) for metric in weights.metrics if metric.name.casefold() in TOP1] if weights else [],
    }


def _result(metric: Any) -> list[Any]:
    return [words(metric.dataset), metric.value, words(metric.level), metric.origin]


def file_of(architecture: str) -> str:
    """The page of `acme/x3d_s` is acme--x3d_s.html; a name has neither a hyphen nor a point."""
    return f"{architecture.replace('/', '--')}.html"
