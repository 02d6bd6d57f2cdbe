"""The card of a model: what it is, what it costs, where it comes from, how well it does and by whose word.

Markdown with the Hub's front matter, made from the spec alone. `cards/` has those of our own weights, and the README of
a repository on the Hub is the same text.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import PurePath

from zoo import registry
from zoo.cards.front_matter import front_matter
from zoo.cards.markdown import code, facts, link, table, text, words
from zoo.cost import Cost, cost_of
from zoo.errors import ZooError
from zoo.plain import by
from zoo.registry import THIS_PROCESS
from zoo.spec import Metric, ModelSpec, Preprocessing, Weights
from zoo.weights.config import LIBRARY
from zoo.weights.repository import ON_HUB
from zoo.weights.source import HUB, MAIN, PACKAGED, HubFile

SHOWN = 10  # labels
FILE = "model.safetensors"


def card(spec: ModelSpec, weights: Weights | None = None, *, repo: str | None = None, cost: Cost | None = None) -> str:
    """The card of some weights, or of an architecture: Markdown with YAML front matter. Needs no network.

    weights: of a tag, or others of the same architecture. repo: "owner/name" where the card is to be published; it then
    says how to open that repository, and its file is the one beside it. cost: if it is known; otherwise it is counted.
    Raises SpecError for what cannot be a repository's name.
    """
    name = spec.full_name if weights is None or not weights.tag else f"{spec.full_name}.{weights.tag}"
    if repo is not None:
        HubFile(repo, FILE)
    opened = name if repo is None else f"{ON_HUB}{repo}"
    parts = [
        [f"# {text(name)}"],
        list(_about(spec, weights)),
        facts(_facts(spec, weights, cost)),
        ["## How to use it", *_usage(spec, weights, opened, converted=repo is not None)],
        ["## Results", *_results(weights)] if weights else [],
        ["## What the network sees", *_protocol((weights and weights.preprocessing) or spec.preprocessing)],
        ["## Labels", *_labels(spec, weights)] if weights else [],
        ["## Where the weights come from", *facts(_provenance(weights, repo))] if weights else [],
        ["## Limits", *(f"- {limit}" for limit in _limits(spec, weights, repo))],
    ]
    return front_matter(spec, weights) + "\n" + "\n\n".join("\n".join(part) for part in parts if part) + "\n"


def _about(spec: ModelSpec, weights: Weights | None) -> Iterator[str]:
    if said := [text(s) for s in (spec.description, weights.description if weights else "") if s]:
        yield " ".join(said)
        yield ""
    if weights is None:
        tags = ", ".join(f"`{spec.full_name}.{tag}`" for tag in spec.weights)
        yield "This is the architecture, with random weights." + (f" Published weights: {tags}." if tags else "")
    else:
        yield f"Weights of `{spec.full_name}`" + (", its default." if weights.tag == spec.default_tag else ".")


def _facts(spec: ModelSpec, weights: Weights | None, cost: Cost | None) -> Iterator[tuple[str, str]]:
    yield "task", text(spec.task)
    yield "family", text(spec.family)
    yield "paper", link(spec.paper)
    if cost is None:
        try:
            cost = cost_of(spec, weights)
        except (ZooError, ImportError) as error:
            yield "parameters", f"{spec.params:,} stated" if spec.params else ""
            yield "compute", f"not counted: {text(error)}"
    if cost is not None:
        _, frames, height, width = cost.clip
        clip = f"one clip of {frames} frames of {by((height, width))} (T = {frames}, H = {height}, W = {width})"
        yield "parameters", f"{cost.params:,}"
        yield "compute", f"{_giga(cost)} GFLOPs for {clip}, in multiply-adds: see Limits"
    yield "takes", text(spec.geometry or "")
    yield "streaming", "yes, frame by frame" if spec.streaming else ""
    if weights:
        yield "licence of the weights", text(weights.license) or "not stated"
        yield "trained on", text(weights.training_data)
    yield "licence of the code", text(spec.license)


def _giga(cost: Cost) -> str:
    return f"{cost.gflops:.2f}" if cost.gflops >= 1 else f"{cost.gflops:.3g}"


def _usage(spec: ModelSpec, weights: Weights | None, opened: str, *, converted: bool) -> Iterator[str]:
    record = registry.default.plugin(spec.plugin)
    package = record.distribution if record and record.distribution != THIS_PROCESS else ""
    needed = " and ".join(f"`{name}`" for name in dict.fromkeys((LIBRARY, words(package))) if name)
    encoder = spec.task != "classification" or (weights is not None and weights.num_classes == 0)
    yield f"With {needed} installed, in Python:"
    yield from ("", "```python", "import zoo", "", f'model = zoo.create("{opened}")')
    if encoder:
        yield 'features = model.embed("my_video.mp4")  # [D], before any classifier'
    elif weights is None:
        yield "logits = model(clip)  # a float32 tensor [B, C, T, H, W] gives [B, K]"
    else:
        yield 'print(model.predict("my_video.mp4"))'
    yield "```"
    commands = [f"zoo info {opened}"] if weights is None else []
    if weights:
        if weights.origin and not converted:
            commands.append(f"zoo convert {opened}  # once: the published file is a pickle")
        what, output = ("embed", " -o features.safetensors") if encoder else ("predict", "")
        commands.append(f"zoo {what} my_video.mp4 --model {opened}{output}")
    yield from ("", "On the command line:", "", "```bash", *commands, "```")


def _results(weights: Weights) -> list[str]:
    if not weights.metrics:
        return ["Nobody states a figure that belongs to exactly these weights."]
    head = ("metric", "value", "data", "split", "level", "views", "origin")
    return table(head, [_result(metric) for metric in weights.metrics])


def _result(metric: Metric) -> tuple[str, ...]:
    if metric.origin == "measured":
        origin = f"measured here by {code(metric.by)}"
    else:
        origin = f"published by {link(metric.url, metric.by) if metric.url else text(metric.by)}"
    said = (metric.dataset, metric.split, metric.level, metric.views)
    return (text(metric.name), f"{metric.value:g}", *map(text, said), origin)


def _protocol(protocol: Preprocessing | None) -> Iterator[str]:
    if protocol is None:
        yield "No protocol is stated."
        return
    yield f"{text(protocol.describe())}."
    yield ""
    rows = [(f.name, getattr(protocol, f.name)) for f in dataclasses.fields(protocol)]
    yield from table(("field", "value"), [(code(name), code(value)) for name, value in rows])


def _labels(spec: ModelSpec, weights: Weights) -> Iterator[str]:
    classes = spec.num_classes if weights.num_classes is None else weights.num_classes
    if not weights.labels:
        yield f"{classes:,} classes; their names are not part of these weights." if classes else "None: an encoder."
        return
    shown = ", ".join(text(label) for label in weights.labels[:SHOWN])
    more = len(weights.labels) - SHOWN
    yield f"{len(weights.labels):,}, in the order of the logits: {shown}" + (
        f" and {more:,} more." if more > 0 else "."
    )


def _provenance(weights: Weights, repo: str | None) -> Iterator[tuple[str, str]]:
    pinned = "to its sha256 and its size: other bytes are refused" if weights.pinned and weights.size else ""
    pinned = pinned or ("to its sha256: other bytes are refused" if weights.pinned else "no: the bytes may change")
    if repo is not None:
        yield "file", f"{code(FILE)}, beside this card"
    elif weights.source.startswith(HUB):
        address, _, revision = weights.source.partition("@")
        yield "file", code(address)
        yield "revision", code(revision or MAIN)
    elif weights.source.startswith(PACKAGED):
        yield "file", f"{code(weights.source)}, inside the installed package"
    elif weights.source:
        yield "file", code(PurePath(weights.source).name)
    if weights.origin:
        yield (
            "published as",
            f"{code(weights.origin['url'])}, a pickle in the layout of {text(weights.origin['format'])}",
        )
        digest = weights.origin.get("sha256", "")
        begins = "its sha256" if len(digest) == 64 else "its sha256 begins"
        yield begins, code(digest)
        if not weights.source and repo is None:
            pinned = ""
            yield "to be converted", "once, from there, before it can be used; see above"
    yield "sha256", code(weights.sha256)
    yield "size", f"{weights.size:,} bytes" if weights.size else ""
    yield "pinned", pinned
    yield "names of tensors", text(weights.layout) and f"as in {text(weights.layout)}"
    yield "more", link(weights.url)


def _limits(spec: ModelSpec, weights: Weights | None, repo: str | None) -> Iterator[str]:
    yield (
        "GFLOPs are thousand millions of multiply-adds in convolutions, matrix products and attention, as papers count "
        "them; norms, activations and pooling are left out. Twice as many if additions count."
    )
    if weights is None:
        yield "The weights are random: what it predicts means nothing."
        return
    if "-nc" in weights.license.casefold():
        yield "The licence of the weights forbids commercial use."
    if any(metric.origin == "published" for metric in weights.metrics):
        yield "Published figures are quoted; they were not measured again here, and hold for these views only."
    if not weights.pinned and repo is None:
        yield "The file is not pinned: nobody here has seen its bytes, and the figures may be of others."
    classify = spec.task == "classification" and weights.num_classes != 0
    protocol = weights.preprocessing or spec.preprocessing
    if classify and protocol and protocol.activation == "softmax":
        yield "One of its labels always comes first, also for a video that shows none of them."
    if classify and not weights.labels:
        yield "Without names of the classes, predictions are numbers of classes."
