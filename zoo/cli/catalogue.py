"""What is there: `zoo list`, `zoo info`, `zoo plugins`, which import no torch, and `zoo card`, which counts with it."""

from __future__ import annotations

import json
import sys
from typing import Any

import click
from rich.console import Console
from rich.markdown import Markdown
from rich.table import Table

import zoo
from zoo import registry
from zoo.cli.names import model_name
from zoo.spec import Metric, ModelSpec, Weights

PLAIN: dict[str, Any] = {"markup": False, "emoji": False}  # what plugins write is text, not markup

as_json = click.option("--json", "as_json", is_flag=True, help="Print data for programs.")


@click.command("list", short_help="List models and weights.")
@click.argument("pattern", default="*")
@click.option("--family", help="Only this family, such as cnn.")
@click.option("--task", help="Only this task, such as classification.")
@click.option("--plugin", help="Only models of this plugin.")
@click.option("--pretrained/--no-pretrained", default=None, help="Only weights, or only architectures.")
@click.option("--license", help="Only this licence, such as apache-2.0; or commercial: all that allow commercial use.")
@click.option("--streaming/--no-streaming", default=None, help="Only models that can, or cannot, run on a live stream.")
@as_json
def list_command(pattern: str, as_json: bool, **filters: Any) -> None:
    """List models whose name matches PATTERN ("*18*"): architectures, and weights as architecture.tag.

    Without a terminal it prints one name per line.
    """
    names = zoo.list_models(pattern, **filters)
    if as_json:
        click.echo(json.dumps([_row(name) for name in names], indent=2))
    elif not sys.stdout.isatty():
        click.echo("".join(f"{name}\n" for name in names), nl=False)
    else:
        table = Table("name", "task", "family", "plugin", "parameters", "licence", "weights", "about", box=None)
        for row in map(_row, names):
            row["params"] = f"{row['params']:,}" if row["params"] else ""
            table.add_row(*row.values())
        Console(**PLAIN).print(table)
    if not names:
        click.echo("no model matches; `zoo list` shows all of them", err=True)


@click.command("info", short_help="Show the facts about a model.")
@click.argument("name", shell_complete=model_name)
@as_json
def info_command(name: str, as_json: bool) -> None:
    """Show the facts about NAME: an architecture, or weights as architecture.tag."""
    spec, chosen = registry.default.find(name)
    if as_json:
        click.echo(json.dumps({"full_name": spec.full_name, **spec.to_dict()}, indent=2))
        return
    console = Console(highlight=False, **PLAIN)
    facts = _facts(spec)
    for weights in [chosen] if chosen else spec.weights.values():
        facts += [("", ""), ("weights", _title(spec, weights)), *_weights_facts(weights)]
    table = Table.grid(padding=(0, 2))
    for key, value in facts:
        table.add_row(key, value, style="bold" if key == "weights" else "")
    console.print(spec.full_name, style="bold")
    console.print(table)


@click.command("card", short_help="Print the card of a model.")
@click.argument("name", shell_complete=model_name)
def card_command(name: str) -> None:
    """Print the card of NAME: an architecture, or weights as architecture.tag.

    Without a terminal it prints the Markdown itself, which on the Hub is a README.md.
    """
    from zoo.cards import card

    written = card(*registry.default.find(name))
    if not sys.stdout.isatty():
        click.echo(written.encode(), nl=False)
        return
    Console().print(Markdown(written.split("\n---\n", 1)[1]))  # the front matter is for the Hub


@click.command("plugins", short_help="Show the installed plugins, and which are broken.")
@click.option("-v", "--verbose", is_flag=True, help="Show whole tracebacks.")
@as_json
def plugins_command(verbose: bool, as_json: bool) -> None:
    """Show the installed plugins, and which are broken. Exits with 1 if one is."""
    records = zoo.plugins()
    if as_json:
        fields = ("name", "distribution", "version", "status", "n_models", "import_ms", "error", "notes")
        click.echo(json.dumps([{f: getattr(record, f) for f in fields} for record in records], indent=2))
    else:
        table = Table("plugin", "from", "status", "models", "import ms", "notes", box=None)
        for r in records:
            table.add_row(r.name, r.origin, r.status, str(r.n_models), f"{r.import_ms:.1f}", "; ".join(r.notes))
        Console(width=None if sys.stdout.isatty() else 120, **PLAIN).print(table)
        for record in records:
            if record.error:
                click.echo(f"\n{record.name} ({record.origin}) is switched off:\n{_traceback(record.error, verbose)}")
    if any(record.error for record in records):
        raise click.exceptions.Exit(1)


COMMANDS = (list_command, info_command, card_command, plugins_command)


def _row(name: str) -> dict[str, Any]:
    spec, weights = registry.default.find(name)
    return {
        "name": name,
        "task": spec.task,
        "family": spec.family,
        "plugin": spec.plugin,
        "params": spec.params,
        "license": weights.license if weights else spec.license,
        "weights": _state(weights) if weights else "",
        "about": weights.description if weights else spec.description,
    }


def _facts(spec: ModelSpec) -> list[tuple[str, str]]:
    facts = [
        ("about", spec.description),
        ("task", spec.task),
        ("family", spec.family),
        ("plugin", spec.plugin),
        ("parameters", f"{spec.params:,}" if spec.params else ""),
        ("classes", str(spec.num_classes or "")),
        ("takes", str(spec.geometry or "")),
        ("protocol", spec.preprocessing.describe() if spec.preprocessing else ""),
        ("streaming", _streaming(spec) if spec.streaming else ""),
        ("paper", spec.paper),
        ("code licence", spec.license),
    ]
    return [(key, value) for key, value in facts if value]


def _streaming(spec: ModelSpec) -> str:
    reach = f"of the last {spec.receptive_field} frames" if spec.receptive_field else "of all frames so far"
    late = f", {spec.delay} frames late" if spec.delay else ""
    return f"an answer {'every frame' if spec.period == 1 else f'every {spec.period} frames'}, {reach}{late}"


def _title(spec: ModelSpec, weights: Weights) -> str:
    name, state = f"{spec.full_name}.{weights.tag}", _state(weights)
    if weights.origin is not None:
        state += f": published as a pickle only, run `zoo convert {name}` once"
    default = ", default" if weights.tag == spec.default_tag else ""
    return f"{name} ({state}{default})"


def _state(weights: Weights) -> str:
    if weights.origin is not None:
        return "needs conversion"
    return "pinned" if weights.pinned else "not pinned"


def _weights_facts(weights: Weights) -> list[tuple[str, str]]:
    labels = ", ".join(weights.labels[:10]) + (f" and {len(weights.labels) - 10} more" if weights.labels[10:] else "")
    facts = [
        ("about", weights.description),
        ("source", weights.source or str((weights.origin or {}).get("url", ""))),
        ("sha256", weights.sha256),
        ("size", f"{weights.size:,} bytes" if weights.size else ""),
        ("labels", labels),
        ("protocol", weights.preprocessing.describe() if weights.preprocessing else ""),
        ("trained on", weights.training_data),
        ("licence", weights.license),
        *(("metric", _metric(metric)) for metric in weights.metrics),
    ]
    return [(key, value) for key, value in facts if value]


def _metric(metric: Metric) -> str:
    source = f"{metric.origin} by {metric.by}" + (f", {metric.url}" if metric.url else "")
    return f"{metric.name} {metric.value:g} on {metric.dataset}, {metric.level} level, {metric.views} views ({source})"


def _traceback(text: str, verbose: bool) -> str:
    """All of it, or from the first frame inside the plugin."""
    lines = text.splitlines()
    ours = ("/zoo/registry.py", "/pluggy/", "/importlib/", "<frozen importlib")
    frames = [i for i, line in enumerate(lines) if line.startswith('  File "')]
    theirs = [i for i in frames if not any(mark in lines[i].replace("\\", "/") for mark in ours)]
    return text if verbose or not theirs else "\n".join(lines[theirs[0] :])
