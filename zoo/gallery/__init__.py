"""`zoo gallery build`: every model that is installed here as a static site, which opens from a folder or from a server.

No network, no fonts from elsewhere, no framework. Whatever a plugin calls its models stays text, and a policy in every
page lets only the page's own script and style run.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from zoo import registry
from zoo.cards import card
from zoo.cost import Cost, cost_of
from zoo.errors import SpecError, ZooError
from zoo.gallery.pages import GENERATOR, index_page, model_page
from zoo.gallery.rows import Row, file_of, row_of
from zoo.spec import ModelSpec, Weights


@dataclass(frozen=True)
class Gallery:
    """index: the page to open. n_models: architectures, each with a page. n_rows: those and their weights."""

    index: Path
    n_models: int
    n_rows: int


def build(
    folder: str | os.PathLike[str],
    pattern: str = "*",
    *,
    tell: Callable[[int, int], None] = lambda done, of: None,
) -> Gallery:
    """Write the site into `folder`, which is new, empty, or an earlier gallery, which is replaced once all is written.

    pattern: of names, as `zoo.list_models` takes it. tell: called after each model with how many are done, and of how
    many. What a model costs is counted on the meta device; of the names that a namespace lists, it is not.
    Raises SpecError for another folder, or if no name matches.
    """
    target = Path(folder).absolute()
    _refuse(target)
    names = registry.default.list_models(pattern)
    if not names:
        raise SpecError(f"no model matches {pattern!r}", hint="`zoo list` shows every name")
    architectures = [[*group] for _, group in groupby(names, key=lambda name: name.partition(".")[0])]
    target.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        (part / "models").mkdir()
        rows: list[Row] = []
        for done, group in enumerate(architectures, 1):
            rows += _write(part / "models", group)
            tell(done, len(architectures))
        (part / "index.html").write_text(index_page(rows), encoding="utf-8")
        part.chmod(0o755)  # of a temporary folder it is 0700, and a server has to read this one
        if target.exists():
            shutil.rmtree(target)
        part.rename(target)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return Gallery(target / "index.html", len(architectures), len(rows))


def _refuse(target: Path) -> None:
    """What is no gallery is not replaced."""
    index = target / "index.html"
    try:
        there = target.exists() or target.is_symlink()
        ours = not there or not any(target.iterdir()) or GENERATOR in index.read_text("utf-8", errors="replace")[:2000]
    except OSError:
        ours = False
    if not ours or target.is_symlink():
        raise SpecError(f"{target} is there, and is no gallery", hint="give a new or empty folder")


def _write(folder: Path, names: Sequence[str]) -> list[Row]:
    """The page of one architecture and its weights; a row for each name."""
    known = [*_known(names)]
    if known:
        architecture = known[0][1].full_name
        described = [found for found in known if found[2]] or known
        cards = [
            (name, card(spec, weights, cost=cost, counted=_is_registered(spec)))
            for name, spec, weights, cost in described
        ]
        (folder / file_of(architecture)).write_text(model_page(architecture, cards), encoding="utf-8")
    return [row_of(*found) for found in known]


def _known(names: Sequence[str]) -> Iterator[tuple[str, ModelSpec, Weights | None, Cost | None]]:
    for name in names:
        try:
            spec, weights = registry.default.find(name)
        except ZooError:
            continue  # a namespace lists more than it resolves
        yield name, spec, weights, _cost(spec, weights)


def _is_registered(spec: ModelSpec) -> bool:
    """Whether a plugin describes it by name; a namespace may have thousands, and counting each takes a second."""
    record = registry.default.plugin(spec.plugin)
    return record is not None and spec.name in record.models


def _cost(spec: ModelSpec, weights: Weights | None) -> Cost | None:
    if not _is_registered(spec):
        return None
    try:
        return cost_of(spec, weights)
    except (ZooError, ImportError):
        return None  # its card says why
