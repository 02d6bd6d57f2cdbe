"""For authors of plugins: `zoo new`, `zoo check`."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path

import click

from zoo import scaffold
from zoo.cli.catalogue import as_json


@click.command("new", short_help="Write a new plugin package.")
@click.argument("name")
@click.option(
    "--family-style",
    "style",
    type=click.Choice(scaffold.STYLES),
    default="cnn",
    show_default=True,
    help="Start from a 3D convolutional network, or from an image network of timm on every frame.",
)
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=".",
    help="Where to write it; here if not given.",
)
def new_command(name: str, style: str, output: Path) -> None:
    """Write a new plugin into the folder zoo_NAME: specs, a network, its test, and packaging."""
    folder = scaffold.new_plugin(name, style=style, output=output)
    click.echo(f"Wrote {folder} with the model {name}/net_s. Now:\n")
    click.echo(f"  pip install -e {shlex.quote(str(folder) if folder.is_absolute() else f'./{folder}')}")
    click.echo(f"  zoo check {name}")
    click.echo(f"  zoo predict YOUR_VIDEO.mp4 --model {name}/net_s")


@click.command("check", short_help="Run the conformance checks on a plugin.")
@click.argument("plugin")
@click.option("--model", "models", multiple=True, metavar="NAME", help="Only this model; may be given several times.")
@click.option("--version", type=int, help="Only the checks up to this set; all if not given.")
@as_json
def check_command(plugin: str, models: Sequence[str], version: int | None, as_json: bool) -> None:
    """Run the conformance checks on the models of PLUGIN. Exits with 1 if one fails.

    Weights on the Hub whose digest nobody has written down yet are marked "unpinned", which is no failure.
    """
    from zoo.testing import report

    outcomes = []
    for outcome in report(plugin, models=models or None, version=version):
        outcomes.append(outcome)
        if not as_json:
            click.echo(f"{outcome.model:<20} {outcome.check:<45} {outcome.mark:<8} {outcome.seconds:6.1f} s")
    failed = [outcome for outcome in outcomes if not outcome.ok]
    unpinned = [outcome for outcome in outcomes if outcome.ok and outcome.failure]
    if as_json:
        click.echo(json.dumps([outcome.to_dict() for outcome in outcomes], indent=2))
    else:
        for outcome in failed:
            click.echo(f"\n{outcome.model} {outcome.check}{outcome.failure}")
        for outcome in unpinned[:1]:
            click.echo(
                f"\n{', '.join(row.model for row in unpinned)}: {outcome.mark}, which is no failure{outcome.failure}"
            )
        passed = len(outcomes) - len(failed) - len(unpinned)
        more = f", {len(unpinned)} unpinned" if unpinned else ""
        click.echo(f"\n{plugin}: {passed} of {len(outcomes)} checks passed{more}")
    if failed:
        raise click.exceptions.Exit(1)


COMMANDS = (new_command, check_command)
