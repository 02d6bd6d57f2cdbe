"""Weights on this machine: `zoo download` and `zoo convert` get them, `zoo cache` shows and tidies what there is."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table

import zoo
from zoo import ZooError, registry
from zoo.cli.names import model_name
from zoo.cli.videos import SOME_FAILED
from zoo.errors import SpecError, WeightsNotFound

if TYPE_CHECKING:
    from zoo.weights.conversions import Provenance

cache_dir = click.option(
    "--cache-dir",
    type=click.Path(path_type=Path),
    help="The cache folder; that of the Hub client (HF_HOME) if not given.",
)


@click.command("download", short_help="Fetch and verify weights ahead of time.")
@click.argument("names", nargs=-1, required=True, metavar="NAME...", shell_complete=model_name)
@cache_dir
def download_command(names: Sequence[str], cache_dir: Path | None) -> None:
    """Fetch and verify weights, so that they are there without a network.

    NAME is architecture.tag, architecture (its default weights), hf-hub:owner/repo@revision or
    hf://owner/repo/file@revision. Prints where each file is; goes on after one that fails, and exits with 3.
    """
    failed = False
    for name in names:
        try:
            click.echo(_download(name, cache_dir))
        except ZooError as error:
            failed = True
            click.echo(f"{name}: {error}", err=True)
    if failed:
        raise click.exceptions.Exit(SOME_FAILED)


@click.command("convert", short_help="Convert weights published as pickles to safetensors.")
@click.argument("source", metavar="NAME.TAG | FILE")
@click.argument("output", required=False, type=click.Path(path_type=Path), metavar="[OUT.safetensors]")
@click.option("--model", help="For a file: the architecture that it is of, or architecture.tag.")
@click.option("--key", default="", help="For a file: where its tensors are, such as model_ema.")
@click.option("--num-classes", type=click.IntRange(0), help="For a file: its classes, if not the architecture's.")
@click.option("--force", is_flag=True, help="For a tag: download and convert it even if that was done already.")
@cache_dir
def convert_command(
    source: str,
    output: Path | None,
    model: str | None,
    key: str,
    num_classes: int | None,
    force: bool,
    cache_dir: Path | None,
) -> None:
    """Make safetensors of published pickles, in a process of its own that runs no code from them.

    \b
    zoo convert r3d_18.k400                                     download it, once; zoo.create finds it from then on
    zoo convert SLOW_8x8_R50.pyth out.safetensors --model slow_r50    for zoo.load and your own training
    """
    if output is None:
        if model is not None or key or num_classes is not None:
            raise click.UsageError("say where to write it: zoo convert FILE OUT.safetensors --model NAME")
        from zoo.convert import convert_tag

        with _downloading(source) as arrived:
            made = convert_tag(source, cache_dir=cache_dir, arrived=arrived, force=force)
    else:
        if force:
            raise click.UsageError("--force is for tags; a file is never written over")
        if model is None:
            raise click.UsageError("say of which architecture the file is: --model NAME")
        from zoo.convert import convert_file

        made = convert_file(source, output, model=model, key=key, num_classes=num_classes)
    for note in made.notes:
        click.echo(note, err=True)
    click.echo(made.path)


@click.group("cache", invoke_without_command=True, short_help="Show or clean up downloaded weights.")
@click.option("--json", "as_json", is_flag=True, help="Print data for programs.")
@cache_dir
@click.pass_context
def cache_command(context: click.Context, as_json: bool, cache_dir: Path | None) -> None:
    """Show what zoo has fetched from the Hub and converted, and for which models."""
    if context.invoked_subcommand:
        return
    from zoo.weights.conversions import Conversions
    from zoo.weights.hub_cache import revisions

    cache = _cache(cache_dir)
    fields = ("repo", "commit", "size", "refs", "used_by", "path")
    rows = [{f: getattr(r, f) for f in fields} for r in revisions(cache, _users())]
    for made in Conversions(cache_dir).all():
        facts = made.provenance
        known = (facts.source_url, facts.source_sha256, facts.size, (), _used_by(facts), made.path)
        rows.append(dict(zip(fields, known, strict=True)))
    if as_json:
        click.echo(json.dumps(rows, indent=2, default=str))
        return
    table = Table("repository", "revision", "MB", "refs", "models", box=None)
    for r in rows:
        megabytes = f"{r['size'] / 1e6:.1f}"
        table.add_row(r["repo"], r["commit"][:12], megabytes, " ".join(r["refs"]), " ".join(r["used_by"]))
    Console(width=None if sys.stdout.isatty() else 120, markup=False).print(table)
    click.echo(f"{sum(r['size'] for r in rows) / 1e6:.1f} MB in {cache} and {Conversions(cache_dir).folder}", err=True)


@cache_command.command("prune")
@click.option("--yes", is_flag=True, help="Do not ask.")
@cache_dir
def prune_command(yes: bool, cache_dir: Path | None) -> None:
    """Delete remains of broken downloads, and what no model and no branch refers to."""
    from zoo.weights.conversions import Conversions, delete
    from zoo.weights.hub_cache import orphans, remove, revisions

    cache, conversions = _cache(cache_dir), Conversions(cache_dir)
    remains = [*orphans(cache), *conversions.leftovers()]
    unused = [r for r in revisions(cache, _users()) if not r.needed]
    unneeded = [made for made in conversions.all() if not _used_by(made.provenance)]
    for part in remains:
        size = sum(p.stat().st_size for p in [part, *part.rglob("*")] if p.is_file())
        click.echo(f"remains of a download: {part} ({size / 1e6:.1f} MB)")
    for revision in unused:
        click.echo(f"not used any more: {revision.repo}@{revision.commit} ({revision.size / 1e6:.1f} MB)")
    for made in unneeded:
        click.echo(f"not used any more: {made.folder} ({made.provenance.size / 1e6:.1f} MB)")
    if not (remains or unused or unneeded):
        click.echo("nothing to delete")
    elif yes or click.confirm("Delete?"):
        for path in (*remains, *(made.folder for made in unneeded)):
            delete(path)
        for revision in unused:
            remove(revision)


COMMANDS = (download_command, convert_command, cache_command)


def _download(name: str, cache_dir: Path | None) -> Path:
    from zoo.weights.conversions import layouts_of
    from zoo.weights.fetch import fetch
    from zoo.weights.repository import is_repository, open_repository
    from zoo.weights.source import HUB

    if is_repository(name):
        return open_repository(name, cache_dir=cache_dir).file().path
    if name.startswith(HUB):
        return fetch(name, cache_dir=cache_dir).path
    spec, weights = registry.default.find(name)
    if weights is None:
        if spec.default_tag is None:
            raise WeightsNotFound(f"{name} has no default weights", hint=f"its tags are {', '.join(spec.weights)}")
        weights = spec.weights[spec.default_tag]
    return fetch(
        weights, name=f"{spec.full_name}.{weights.tag}", layouts=layouts_of(spec, weights), cache_dir=cache_dir
    ).path


@contextmanager
def _downloading(name: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr, only on a terminal."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TransferSpeedColumn

    columns = (name, BarColumn(), DownloadColumn(), TransferSpeedColumn())
    console = Console(stderr=True, markup=False)
    with Progress(*columns, console=console, transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(name, total=None)
        yield lambda size, total: bar.update(task, completed=size, total=total or None)


def _used_by(facts: Provenance) -> tuple[str, ...]:
    """The model that a converted file is of, if there still is one and it is published as it was."""
    from zoo.weights.conversions import layouts_of

    try:
        spec, weights = registry.default.find(facts.model)
    except ZooError:
        return ()
    origin = weights.origin if weights else None
    same = weights is not None and origin is not None and facts.is_of(origin, layouts_of(spec, weights))
    return (facts.model,) if same else ()


def _cache(cache_dir: Path | None) -> Path:
    from zoo.weights.hub import Hub

    return Hub(cache_dir=cache_dir).cache


def _users() -> dict[tuple[str, str], tuple[str, ...]]:
    """Names of the models whose weights are in a repository, by repository and revision."""
    from zoo.weights.source import HUB, HubFile

    users: dict[tuple[str, str], tuple[str, ...]] = {}
    for name in zoo.list_models(pretrained=True):
        weights = registry.default.find(name)[1]
        if weights and weights.source.startswith(HUB):
            try:
                file = HubFile.parse(weights.source)
            except SpecError:
                continue  # somebody's mistake that must not keep the others from tidying
            users[file.repo, file.revision] = (*users.get((file.repo, file.revision), ()), name)
    return users
