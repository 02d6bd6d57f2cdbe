"""Installed plugins by their entry points, before any of them is imported."""

from __future__ import annotations

import functools
import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from zoo import hooks

if TYPE_CHECKING:
    from importlib.metadata import Distribution, EntryPoint

HOME = "video-zoo"  # the distribution whose plugins own the bare names


@dataclass
class Entry:
    """An entry point that has not been loaded."""

    point: EntryPoint
    distribution: str
    version: str
    notes: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.point.name

    @property
    def origin(self) -> str:
        return f"{self.distribution} {self.version}".strip()

    @property
    def builtin(self) -> bool:
        return re.sub(r"[-_.]+", "-", self.distribution).lower() == HOME


def discover() -> tuple[dict[str, Entry], list[str]]:
    """Entry points by name, and what is odd about them."""
    from importlib.metadata import entry_points  # slow to import, so only when asked

    entries: dict[str, Entry] = {}
    complaints: list[str] = []
    origin = functools.cache(_origin)  # a distribution parses its whole metadata, README and all, for each question
    found = [
        Entry(point, *(origin(point.dist) if point.dist else (point.value, "")))
        for point in entry_points(group=hooks.GROUP)
    ]
    for entry in sorted(found, key=lambda e: (not e.builtin, e.origin, e.point.value)):  # the same winner everywhere
        winner = entries.setdefault(entry.name, entry)
        if winner is not entry and (winner.origin, winner.point.value) != (entry.origin, entry.point.value):
            winner.notes.append(f"{entry.origin} wants this name too")
            complaints.append(f"plugin name {entry.name!r}: {winner.origin} keeps it, {entry.origin} is ignored")
    if (selection := os.environ.get("ZOO_PLUGINS")) is not None:
        entries, unknown = _select(entries, selection)
        complaints += [f"ZOO_PLUGINS names {name!r}, which is not installed" for name in unknown]
    return entries, complaints


def _origin(distribution: Distribution) -> tuple[str, str]:
    """Name and version."""
    metadata = distribution.metadata
    return metadata["Name"], metadata["Version"]


def _select(entries: dict[str, Entry], selection: str) -> tuple[dict[str, Entry], list[str]]:
    """Keep `a,b`, or all but `-a`. Decided before import: a plugin that is off costs nothing and can break nothing."""
    names = [name.strip() for name in selection.split(",") if name.strip()]
    dropped = {name[1:] for name in names if name.startswith("-")}
    kept = {name for name in names if not name.startswith("-")}
    wanted = (kept if kept or not dropped else set(entries)) - dropped
    return {n: e for n, e in entries.items() if n in wanted}, sorted((kept | dropped) - set(entries))
