"""`zoo doctor`: what is here, what is slow or broken, and how to mend it."""

from __future__ import annotations

import json
import sys

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from zoo.cli.catalogue import PLAIN, as_json

MARKS = {"ok": ("ok", "green"), "slow": ("slow", "yellow"), "broken": ("broken", "red")}


@click.command("doctor", short_help="Find what is slow or broken, and how to fix it.")
@as_json
def doctor_command(as_json: bool) -> None:
    """Show versions, devices, decoder, cache and plugins; what is slow or broken, and how to fix it.

    Exits with 1 if something is broken.
    """
    from zoo.doctor import BROKEN, examine

    findings = list(examine())
    broken = any(finding.status == BROKEN for finding in findings)
    if as_json:
        click.echo(json.dumps({"ok": not broken, "findings": [f.to_dict() for f in findings]}, indent=2))
    else:
        table = Table(box=None, show_header=False, pad_edge=False)
        area = ""
        for finding in findings:
            mark, color = MARKS[finding.status]
            first = "" if finding.area == area else finding.area
            table.add_row(Text(first, "bold"), Text(mark, color), finding.name, finding.value)
            area = finding.area
        Console(width=None if sys.stdout.isatty() else 160, **PLAIN).print(table)
        for finding in findings:
            if finding.fix:
                click.echo(f"\n{finding.area}: {finding.name} {finding.value}\n  -> {finding.fix}")
        if not broken:
            click.echo("\nNothing is broken.")
    if broken:
        raise click.exceptions.Exit(1)


COMMANDS = (doctor_command,)
