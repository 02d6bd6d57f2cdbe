"""The card of a model: what it is, what it costs, where it comes from, how well it does and by whose word.

Markdown with the Hub's front matter, made from the spec alone. `cards/` has those of our own weights. The README of a
repository on the Hub is the same, but for how to open it: from that repository, whose file is the one beside it.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator
from pathlib import PurePath

from zoo import registry
from zoo.cards.front_matter import ACCURACIES, front_matter, name_of
from zoo.cards.markdown import code, facts, link, table, text, words
from zoo.cost import Cost, clip_of, cost_of
from zoo.errors import ZooError
from zoo.plain import by
from zoo.registry import THIS_PROCESS
from zoo.spec import Metric, ModelSpec, Preprocessing, Weights
from zoo.weights.config import LIBRARY
from zoo.weights.repository import ON_HUB
from zoo.weights.source import HUB, MAIN, PACKAGED, HubFile

SHOWN = 10  # labels
FILE = "model.safetensors"


def card(
    spec: ModelSpec,
    weights: Weights | None = None,
    *,
    repo: str | None = None,
    cost: Cost | None = None,
    counted: bool = True,
) -> str:
    """The card of some weights, or of an architecture: Markdown with YAML front matter. Needs no network.

    weights: of a tag, or others of the same architecture. repo: "owner/name" where the card is to be published; it then
    says how to open that repository, and its file is the one beside it. cost: if it is known; otherwise it is counted.
    Raises SpecError for what cannot be a repository's name.
    """
    if repo is not None:
        HubFile(repo, FILE)
    name = name_of(spec, weights)
    opened = name if repo is None else f"{ON_HUB}{repo}"
    usage = _usage(spec, weights, opened, here=repo is not None) if weights else _usage_of_architecture(spec)
    sections = [
        [f"# {name}"],
        *([paragraph] for paragraph in _about(spec, weights)),
        facts(_facts(spec, weights, cost, counted)),
        _section("How to use it", usage),
        _section("Results", _results(weights) if weights else ()),
        _section("What the network sees", _protocol((weights and weights.preprocessing) or spec.preprocessing)),
        _section("Labels", _labels(spec, weights) if weights else ()),
        _section("Where the weights come from", facts(_provenance(weights, repo)) if weights else ()),
        _section("Limits", (f"- {limit}" for limit in _limits(spec, weights, repo))),
    ]
    return f"{front_matter(spec, weights)}\n" + "\n\n".join("\n".join(lines) for lines in sections if lines) + "\n"


def _section(title: str, lines: Iterable[str]) -> list[str]:
    said = list(lines)
    return [f"## {title}", "", *said] if said else []


def _about(spec: ModelSpec, weights: Weights | None) -> Iterator[str]:
    if said := [text(s) for s in (spec.description, weights.description if weights else "") if s]:
        yield " ".join(said)
    if weights:
        yield f"Weights of `{spec.full_name}`{', its default' if weights.tag == spec.default_tag else ''}."
    else:
        tags = ", ".join(f"`{spec.full_name}.{tag}`" for tag in spec.weights)
        yield "This is the architecture, with random weights." + (f" Published weights: {tags}." if tags else "")


def _facts(spec: ModelSpec, weights: Weights | None, cost: Cost | None, counted: bool) -> Iterator[tuple[str, str]]:
    yield "task", text(spec.task)
    yield "family", text(spec.family)
    yield "paper", link(spec.paper)
    why = ""
    try:
        cost = cost or (cost_of(spec, weights) if counted else None)
    except (ZooError, ImportError) as error:
        why = f"not counted: {text(error)}"
    if cost is None:
        yield "parameters", f"{spec.params:,}, as stated" if spec.params and weights is None else ""
        yield "compute", why
    else:
        _, frames, height, width = cost.clip
        giga = f"{cost.gflops:.2f}" if cost.gflops >= 1 else f"{cost.gflops:.3g}"
        clip = f"one clip of {frames} frames of {by((height, width))} (T = {frames}, H = {height}, W = {width})"
        yield "parameters", f"{cost.params:,}"
        yield "compute", f"{giga} GFLOPs for {clip}, in multiply-adds: see Limits"
    yield "takes", text(spec.geometry or "")
    yield "streaming", "yes, frame by frame" if spec.streaming else ""
    if weights:
        yield "licence of the weights", text(weights.license) or "not stated"
        yield "trained on", text(weights.training_data)
    yield "licence of the code", text(spec.license)


def _needs(spec: ModelSpec) -> str:
    record = registry.default.plugin(spec.plugin)
    package = words(record.distribution) if record and record.distribution != THIS_PROCESS else LIBRARY
    return " and ".join(f"`{name}`" for name in dict.fromkeys((LIBRARY, package)))


def _usage_of_architecture(spec: ModelSpec) -> Iterator[str]:
    shape = ", ".join(map(str, (1, *clip_of(spec))))
    yield f"With {_needs(spec)} installed:"
    yield from ("", "```python", "import torch", "import zoo", "")
    yield f'model = zoo.create("{spec.full_name}")'
    yield f"logits = model(torch.rand({shape}))  # [B, C, T, H, W]"
    yield "```"


def _usage(spec: ModelSpec, weights: Weights, opened: str, *, here: bool) -> Iterator[str]:
    """here: whether the file is in the repository that has the card."""
    predicts = spec.task == "classification" and weights.num_classes != 0
    if weights.origin and not weights.source and not here:
        yield "The published file is a pickle. Once, to make safetensors of it:"
        yield from ("", "```bash", f"zoo convert {opened}", "```", "")
    yield f"With {_needs(spec)} installed, in Python:"
    yield from ("", "```python", "import zoo", "", f'model = zoo.create("{opened}")')
    yield 'print(model.predict("my_video.mp4"))' if predicts else 'features = model.embed("my_video.mp4")  # [D]'
    yield "```"
    command, output = ("predict", "") if predicts else ("embed", " -o features.safetensors")
    yield from ("", "On the command line:", "", "```bash")
    yield f"zoo {command} my_video.mp4 --model {opened}{output}"
    yield "```"


def _results(weights: Weights) -> list[str]:
    if not weights.metrics:
        return ["No figure is stated for exactly these weights."]
    head = ("metric", "value", "data", "split", "level", "views", "origin")
    return table(head, [_result(metric) for metric in weights.metrics])


def _result(metric: Metric) -> tuple[str, ...]:
    if metric.origin == "measured":
        origin = f"measured here by {code(metric.by)}"
    else:
        origin = f"published by {link(metric.url, metric.by) if metric.url else text(metric.by)}"
    percent = " %" if ACCURACIES.fullmatch(metric.name.casefold()) else ""
    said = (metric.dataset, metric.split, metric.level, metric.views)
    return (text(metric.name), f"{metric.value:g}{percent}", *map(text, said), origin)


def _protocol(protocol: Preprocessing | None) -> Iterator[str]:
    if protocol is None:
        yield "No protocol is stated."
        return
    yield f"{text(protocol.describe())}."
    yield ""
    rows = [(f.name, getattr(protocol, f.name)) for f in dataclasses.fields(protocol)]
    rows = [row for row in rows if row != ("temperature", 1.0)]
    yield from table(("field", "value"), [(code(name), code(value)) for name, value in rows])


def _labels(spec: ModelSpec, weights: Weights) -> list[str]:
    classes = spec.num_classes if weights.num_classes is None else weights.num_classes
    if not weights.labels:
        if not classes:
            return ["None: an encoder, for features." if classes == 0 else "Not stated."]
        return [f"{classes:,} classes; their names are not part of these weights."]
    shown = ", ".join(text(label) for label in weights.labels[:SHOWN])
    more = len(weights.labels) - SHOWN
    return [f"{len(weights.labels):,}, in the order of the logits: {shown}{f' and {more:,} more' if more > 0 else ''}."]


def _provenance(weights: Weights, repo: str | None) -> Iterator[tuple[str, str]]:
    if repo is not None:
        yield "file", f"{code(FILE)}, beside this card"
    elif weights.source.startswith(HUB):
        address, _, revision = weights.source.partition("@")
        yield "file", code(address)
        yield "revision", code(revision or MAIN)
    elif weights.source.startswith(PACKAGED):
        yield "file", f"{code(weights.source)}, inside the installed package"
    elif weights.source:
        yield "file", code(PurePath(weights.source).name)  # the rest of the path is nobody's business
    if weights.origin:
        yield "published as", f"{code(weights.origin['url'])}, a pickle: has to be converted before it can be used"
        digest = weights.origin.get("sha256", "")
        yield "its sha256" if len(digest) == 64 else "its sha256 begins", code(digest)
        yield "its layout", text(weights.origin["format"])
    yield "sha256", code(weights.sha256)
    yield "size", f"{weights.size:,} bytes" if weights.size else ""
    yield "pinned", _pinned(weights)
    yield "layout", text(weights.layout)
    yield "more", link(weights.url)


def _pinned(weights: Weights) -> str:
    if weights.pinned:
        return "yes: other bytes are refused"
    digits = len(weights.origin.get("sha256", "")) if weights.origin else 0
    known = {
        0: "no sha256 of the file is known here",
        64: "other bytes of what is published are refused; the converted file is made on your machine",
    }
    part = f"only the first {digits} digits of the sha256 of what is published are known, and are checked"
    return f"no: {known.get(digits, part)}"


def _limits(spec: ModelSpec, weights: Weights | None, repo: str | None) -> Iterator[str]:
    yield (
        "GFLOPs are billions (10^9) of multiply-adds in convolutions, matrix products and attention, as papers count "
        "them; norms, activations and pooling are left out. In operations it is twice as much."
    )
    if weights is None:
        yield "The weights are random: what it predicts means nothing."
        return
    if re.search(r"\bnc\b|non-?commercial", weights.license.casefold()):
        yield "The licence of the weights forbids commercial use."
    if any(metric.origin == "published" for metric in weights.metrics):
        yield "Published figures are quoted. They were not measured again here, and hold for all views of the protocol."
    if not weights.pinned and repo is None:
        figures = "the published figures are of" if weights.metrics else "is described here"
        yield f"The file is not pinned, so it may not be the one that {figures}."
    if spec.task != "classification" or weights.num_classes == 0:
        return
    protocol = weights.preprocessing or spec.preprocessing
    if protocol and protocol.activation == "softmax":
        yield "One of its classes always comes first, also for a video that shows none of them."
    if not weights.labels:
        yield "Names of the classes are missing: a prediction says `class_0`, `class_1` and so on."
