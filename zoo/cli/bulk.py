"""`zoo batch`: a model over an archive."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import zoo
from zoo.cli.names import model_name
from zoo.cli.videos import DEFAULT_MODEL, SOME_FAILED, device_option, isolate_option, views_of, views_option
from zoo.errors import BatchError

if TYPE_CHECKING:
    from zoo.bulk.run import Standing

STOPPED = 128  # and the number of the signal, as the shell has it


class _Broken(click.ClickException):
    exit_code = 1


@click.command("batch", short_help="Run a model over an archive of videos.")
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The folder for the table.")
@click.option("--model", default=DEFAULT_MODEL, show_default=True, shell_complete=model_name, help="From `zoo list`.")
@click.option("--task", type=click.Choice(["predict", "embed"]), default="predict", show_default=True)
@click.option("--top-k", type=click.IntRange(1), default=5, show_default=True, help="How many labels to keep.")
@views_option
@click.option("--engine", type=click.Choice(["local", "ray"]), default="local", show_default=True)
@click.option("--address", help="Address of a Ray cluster; without it Ray starts here.")
@click.option(
    "--workers", type=click.IntRange(1), help="Processes, each with its own model; as many as fit if not given."
)
@click.option("--threads", type=click.IntRange(1), help="Threads per worker; as many as fit if not given.")
@click.option("--resume", is_flag=True, help="Continue the run in this folder, or start one.")
@click.option("--retry-failed", is_flag=True, help="With --resume: also try failed rows again.")
@click.option(
    "--max-error-rate", type=click.FloatRange(0, 1), default=1.0, show_default=True, help="Stop when more rows fail."
)
@click.option("--timeout", "timeout_s", type=click.FloatRange(0, min_open=True), help="Seconds per video.")
@isolate_option
@device_option
def batch_command(inputs: Sequence[str], output: Path, views: str, timeout_s: float | None, **options: Any) -> None:
    """Run a model over all videos of INPUT, and write a table with a row for each.

    INPUT is a folder, a glob, a .txt of paths, a .csv or .parquet with a column path; or several videos and folders.
    The output gets parts/ (Parquet), errors.csv, input.parquet and run.json. A bad video affects only its own row, even
    if it kills a worker. Ctrl-C keeps everything done so far, and --resume continues.

    Exit code 0 if all rows are ok, 3 if some failed, 1 if the run broke or too many failed.
    """
    options |= {"views": views_of(views)} | ({} if timeout_s is None else {"timeout_s": timeout_s})
    if options["task"] == "embed":
        del options["top_k"]
    source = inputs[0] if len(inputs) == 1 else inputs
    with _progress() as (tell, watch):
        try:
            summary = zoo.batch(source, output, **options, tell=tell, watch=watch)
        except BatchError as error:
            raise _Broken(str(error)) from error
    if summary.stopped:
        sys.exit(STOPPED + summary.stopped)
    if summary.errors:
        sys.exit(SOME_FAILED)


@contextmanager
def _progress() -> Iterator[tuple[Callable[[str], object], Callable[[Standing], object] | None]]:
    """What tells, and what shows a bar on a terminal."""
    if not sys.stderr.isatty():
        yield lambda text: click.echo(text, err=True), None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    with Progress(BarColumn(), TextColumn("{task.description}"), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting")

        def watch(standing: Standing) -> None:
            bar.update(task, completed=standing.done, total=standing.total, description=str(standing))

        yield lambda text: bar.console.print(text, markup=False, highlight=False), watch


COMMANDS = (batch_command,)
