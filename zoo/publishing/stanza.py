"""Specs as the Python that makes them: what an author pastes into a plugin."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from typing import Any

from zoo.plain import Data

WIDTH = 112


def as_python(value: Any, indent: int = 0) -> str:
    """An expression that evaluates to `value` where `zoo` is imported; what has its default is left away."""
    if isinstance(value, Data):
        fields = dataclasses.fields(value)  # type: ignore[arg-type]
        given = [(f.name, getattr(value, f.name)) for f in fields if getattr(value, f.name) != _default(f)]
        if getattr(value, "labels", ()):
            given = [(name, item) for name, item in given if name != "num_classes"]  # follows from the labels
        items = [f"{name}={as_python(item, indent + 4)}" for name, item in given]
        return _laid_out(f"zoo.{type(value).__name__}(", items, ")", indent)
    if isinstance(value, Mapping):
        items = [f"{as_python(key)}: {as_python(item, indent + 4)}" for key, item in value.items()]
        return _laid_out("{", items, "}", indent)
    if isinstance(value, tuple | list):
        items = [as_python(item, indent + 4) for item in value]
        return _laid_out("(", items, ",)" if len(items) == 1 else ")", indent)
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)


def _default(field: dataclasses.Field[Any]) -> Any:
    return field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default


def _laid_out(opening: str, items: list[str], closing: str, indent: int) -> str:
    line = opening + ", ".join(items) + closing
    if indent + len(line) <= WIDTH and "\n" not in line:
        return line
    inner, outer = " " * (indent + 4), " " * indent
    return f"{opening}\n{''.join(f'{inner}{item},{chr(10)}' for item in _packed(items, indent))}{outer}{closing[-1]}"


def _packed(items: Iterable[str], indent: int) -> list[str]:
    """Short items share a line, as many as fit."""
    lines: list[str] = []
    for item in items:
        short = "=" not in item and "\n" not in item
        if lines and short and "=" not in lines[-1] and indent + 6 + len(lines[-1]) + len(item) <= WIDTH:
            lines[-1] += f", {item}"
        else:
            lines.append(item)
    return lines
