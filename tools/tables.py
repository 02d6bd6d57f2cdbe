"""The generated parts of the documentation: the README's table of models, the author's guide's reference, the errors.

python tools/tables.py            write them
python tools/tables.py --check    say whether they are what they would be, exit with 1 if not
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import zoo
from zoo import hooks

ROOT = Path(__file__).parent.parent


def model_table() -> str:
    """Our own architectures and weights."""
    lines = ["| name | parameters | about | code | weights |", "|---|---:|---|---|---|"]
    for name in zoo.list_models():
        if "/" in name:
            continue
        spec = zoo.info(name)
        weights = spec.weights.get(name.partition(".")[2])
        params = f"{spec.params:,}" if spec.params and not weights else ""
        about = _about(weights) if weights else spec.description
        licence = f"{weights.license} ({_where(weights)})" if weights else ""
        lines.append(f"| `{name}` | {params} | {about} | {'' if weights else spec.license} | {licence} |")
    return "\n".join(lines)


def _about(weights: zoo.Weights) -> str:
    """What it was trained on, what somebody says it reaches, and what there is to know besides."""
    stated = [f"{m.value:g} {m.name} stated" for m in weights.metrics if m.origin == "published"]
    text = f"{', '.join([weights.training_data, *stated])}." if stated else ""
    return f"{text} {weights.description}".strip()


def _where(weights: zoo.Weights) -> str:
    if weights.origin:
        return "a pickle, to be converted"
    return "in the wheel" if weights.source.startswith("pkg://") else "on the Hub"


def check_table() -> str:
    """Every conformance check and what it shows."""
    from zoo.tasks import TASKS
    from zoo.testing import sets

    asked_of = (
        ("the plugin", sets.OF_PLUGINS),
        ("every model", sets.OF_MODELS),
        *((task.replace("_", " "), sets.of_task(task)) for task in TASKS),
        ("streaming", sets.OF_STREAMS),
        ("packaged weights", sets.OF_PACKAGED),
    )
    lines = ["| check | asked of | set | what it shows |", "|---|---|---:|---|"]
    for whom, numbered in asked_of:
        for number, checks in sorted(numbered.items()):
            for check in checks:
                shows = inspect.getdoc(check).partition("\n")[0]
                lines.append(f"| `{check.__name__}` | {whom} | {number} | {shows} |")
    return "\n".join(lines)


def error_table() -> str:
    """Every error, what it means, and what it says when it is provoked."""
    written: str = runpy.run_path(str(ROOT / "tools" / "errors.py"))["table"]()
    return written


def hook_reference() -> str:
    """Every hook: its signature and its docstring."""
    specified = [f for _, f in inspect.getmembers(hooks, inspect.isfunction) if hasattr(f, f"{hooks.GROUP}_spec")]
    parts = []
    for hook in specified:
        signature = str(inspect.signature(hook)).replace("'", "")
        parts.append(f"### `{hook.__name__}{signature}`\n\n{inspect.getdoc(hook)}")
    return "\n\n".join(parts)


def spec_reference() -> str:
    """Every class of spec data, its fields and their defaults."""
    parts = []
    for kind in (zoo.ModelSpec, zoo.Weights, zoo.Preprocessing, zoo.Geometry, zoo.Metric):
        about, meanings = _meanings(kind)
        lines = [f"### `zoo.{kind.__name__}`", "", about, "", "| field | default | meaning |", "|---|---|---|"]
        for field in dataclasses.fields(kind):
            lines.append(f"| `{field.name}` | {_default(field)} | {meanings[field.name].replace('|', chr(92) + '|')} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _meanings(kind: type) -> tuple[str, dict[str, str]]:
    """The first paragraph of a docstring, and what it says of each field after "field: " or "field, field: "."""
    names = {field.name for field in dataclasses.fields(kind)}
    text = " ".join(inspect.getdoc(kind).split())
    starts = [m for m in re.finditer(r"\b(\w+(?:, \w+)*): ", text) if set(m[1].split(", ")) <= names]
    ends = [m.start() for m in starts[1:]] + [len(text)]
    said = {name: text[m.end() : end].strip() for m, end in zip(starts, ends, strict=True) for name in m[1].split(", ")}
    return text[: starts[0].start()].strip(), {name: said.get(name, "") for name in names}


def _default(field: dataclasses.Field) -> str:
    if field.default_factory is not dataclasses.MISSING:
        return f"`{field.default_factory()!r}`"
    return "required" if field.default is dataclasses.MISSING else f"`{field.default!r}`"


# File -> the parts of it that are written here, each between <!-- NAME: ... --> and <!-- /NAME -->.
PARTS: dict[str, dict[str, Callable[[], str]]] = {
    "README.md": {"models": model_table},
    "zoo/ERRORS.md": {"errors": error_table},
    "plugins/README.md": {"checks": check_table, "hook": hook_reference, "specs": spec_reference},
}


def generated(file: str) -> str:
    """The text of a file as it should be."""
    text = (ROOT / file).read_text()
    for name, write in PARTS[file].items():
        start, end = f"<!-- {name}: written by tools/tables.py -->\n", f"<!-- /{name} -->"
        before, rest = text.split(start)
        _, after = rest.split(end)
        text = f"{before}{start}\n{write()}\n\n{end}{after}"
    return text


def main() -> None:
    old = [file for file in PARTS if generated(file) != (ROOT / file).read_text()]
    if sys.argv[1:] == ["--check"]:
        if old:
            sys.exit(f"out of date: {', '.join(old)}; run python tools/tables.py")
        return
    for file in old:
        (ROOT / file).write_text(generated(file))


if __name__ == "__main__":
    main()
