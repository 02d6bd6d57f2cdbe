"""`zoo evaluate`: a model measured on labelled videos."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import click

from zoo.cli.names import model_name
from zoo.cli.videos import SOME_FAILED, device_option, views_of, views_option


@click.command("evaluate", short_help="Measure a model on labelled videos.")
@click.argument("model", shell_complete=model_name)
@click.argument("data")
@click.option("-o", "--out", type=click.Path(file_okay=False, path_type=Path), help="A folder for JSON and picture.")
@views_option
@click.option(
    "--split",
    type=click.Choice(["train", "val", "test"]),
    help="Which split, if the data have one; val if not given, else test.",
)
@click.option("--workers", type=click.IntRange(0), default=2, show_default=True, help="Processes that decode.")
@device_option
@click.option("--json", "as_json", is_flag=True, help="Print the whole result as JSON.")
def evaluate_command(
    model: str,
    data: str,
    out: Path | None,
    views: str,
    split: str | None,
    workers: int,
    device: str | None,
    as_json: bool,
) -> None:
    """Measure MODEL on the videos of DATA by the protocol of its weights, all views of it.

    MODEL is architecture.tag, hf-hub:owner/repo or local-dir:path. DATA is a folder of class folders, or a .csv or
    .jsonl of path, label and, if need be, start_s, end_s, split. OUT gets evaluation.json, with all that is needed to
    measure again, and confusion.png. Ends with 3 if videos could not be read. For many processes: torchrun
    --nproc-per-node N -m zoo.evaluate MODEL DATA, which ends with 0 then, too.
    """
    import zoo

    options = {"views": views_of(views), "split": split or "", "workers": workers, "device": device}
    found = zoo.evaluate(model, data, out=out, **options)
    launched = "RANK" in os.environ  # by torchrun, for which only 0 is no failure
    if os.environ.get("RANK", "0") == "0":
        click.echo(json.dumps(found.to_dict(), indent=2) if as_json else str(found))
    if found.unreadable and not launched:
        sys.exit(SOME_FAILED)


COMMANDS = (evaluate_command,)
