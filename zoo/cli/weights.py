"""Weights on this machine: `zoo download` fetches them beforehand, `zoo cache` shows and tidies what was fetched."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

import zoo
from zoo import ZooError, registry
from zoo.cli.videos import SOME_FAILED
from zoo.errors import SpecError, WeightsNotFound

cache_dir = click.option(
    "--cache-dir", type=click.Path(path_type=Path), help="Another folder than the Hub client's, which HF_HOME sets."
)


@click.command("download")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
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


@click.group("cache", invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="Print data for programs.")
@cache_dir
@click.pass_context
def cache_command(context: click.Context, as_json: bool, cache_dir: Path | None) -> None:
    """Show what zoo has fetched from the Hub, and for which models."""
    if context.invoked_subcommand:
        return
    from zoo.weights.hub_cache import revisions

    cache = _cache(cache_dir)
    found = revisions(cache, _users())
    if as_json:
        fields = ("repo", "commit", "size", "refs", "used_by", "path")
        rows = [{f: getattr(r, f) for f in fields} for r in found]
        click.echo(json.dumps(rows, indent=2, default=str))
        return
    table = Table("repository", "revision", "MB", "refs", "models", box=None)
    for r in found:
        table.add_row(r.repo, r.commit[:12], f"{r.size / 1e6:.1f}", " ".join(r.refs), " ".join(r.used_by))
    Console(width=None if sys.stdout.isatty() else 120, markup=False).print(table)
    click.echo(f"{sum(r.size for r in found) / 1e6:.1f} MB in {cache}", err=True)


@cache_command.command("prune")
@click.option("--yes", is_flag=True, help="Do not ask.")
@cache_dir
def prune_command(yes: bool, cache_dir: Path | None) -> None:
    """Delete remains of broken downloads, and revisions that no model and no branch refers to."""
    from zoo.weights.hub_cache import orphans, remove, revisions

    cache = _cache(cache_dir)
    remains, unused = orphans(cache), [r for r in revisions(cache, _users()) if not r.needed]
    for part in remains:
        click.echo(f"remains of a download: {part} ({part.stat().st_size / 1e6:.1f} MB)")
    for revision in unused:
        click.echo(f"not used any more: {revision.repo}@{revision.commit} ({revision.size / 1e6:.1f} MB)")
    if not remains and not unused:
        click.echo("nothing to delete")
    elif yes or click.confirm("Delete?"):
        for part in remains:
            part.unlink(missing_ok=True)
        for revision in unused:
            remove(revision)


COMMANDS = (download_command, cache_command)


def _download(name: str, cache_dir: Path | None) -> Path:
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
    return fetch(weights, name=f"{spec.full_name}.{weights.tag}", cache_dir=cache_dir).path


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
