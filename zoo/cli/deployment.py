"""`zoo export` and `zoo bench`: a model as a file, and how fast models are."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import click

import zoo
from zoo.cli.names import model_name
from zoo.cli.videos import device_option

METHODS = click.Choice(["compile", "int8", "int8-dynamic", "int8-static", "bf16"])


@click.command("export", short_help="Write a model as a file that runs without zoo.")
@click.argument("model", shell_complete=model_name)
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="A new folder.")
@click.option("--format", type=click.Choice(["onnx", "pt2", "aoti"]), default="onnx", show_default=True)
@click.option("--int8", is_flag=True, help="Quantise first; onnx only.")
@click.option("--videos", help="Videos to calibrate and compare on: a folder or a list.")
def export_command(model: str, output: Path, format: str, int8: bool, videos: str | None) -> None:
    """Write MODEL as a file that runs without zoo: for ONNX Runtime, torch.export.load, or as machine code.

    OUTPUT gets the file and export.json: labels, preprocessing, licence, the shapes of clips and answers. Before
    it is kept, a new process runs the file, and its answers are compared with the network's. Run an ONNX export by
    `zoo predict --model local-dir:OUTPUT`.
    """
    from zoo.deploy.exported import new_folder

    if int8 and format != "onnx":
        raise click.UsageError("--int8 is for --format onnx")
    new_folder(output)  # before minutes of work
    shown = _videos(videos)
    chosen = zoo.optimize(model, "int8", videos=shown) if int8 else model
    made = zoo.export(chosen, format, output, videos=shown)
    click.echo(f"{output}: {made.facts.size:,} bytes; {made.comparison}")
    for kind, (changed, of) in made.changes.items():
        click.echo(f"{kind}: {changed} of {of} in int8")


@click.command("bench", short_help="Measure how fast models are here.")
@click.argument("names", nargs=-1, required=True, metavar="NAME...", shell_complete=model_name)
@click.option("--way", "ways", multiple=True, type=METHODS, help="Also measure it optimised this way; may be repeated.")
@click.option("--peers", is_flag=True, help="Also measure the same models of other installed libraries.")
@click.option("--rounds", type=click.IntRange(1), default=7, show_default=True, help="How often each is measured.")
@click.option("--batch", type=click.IntRange(1), default=1, show_default=True, help="Clips per forward pass.")
@click.option("--threads", type=click.IntRange(1), help="Threads of torch; one per core if not given.")
@device_option
@click.option("--plot", type=click.Path(dir_okay=False, path_type=Path), help="Write a chart to this .png.")
@click.option("--json", "as_json", is_flag=True, help="Print the whole result as JSON.")
def bench_command(
    names: Sequence[str],
    ways: Sequence[str],
    peers: bool,
    rounds: int,
    batch: int,
    threads: int | None,
    device: str | None,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Measure clips per second, latency and peak memory of each NAME, on the clips that it is made for.

    Weights are random. Each model runs in its own process, and they take turns. The first one runs twice: the ratio
    of the two, the "control", shows how far the other ratios can be trusted.
    """
    if plot is not None and plot.suffix.lower() != ".png":
        raise click.BadParameter(f"{plot} is no .png file", param_hint="--plot")
    if plot is not None and not plot.parent.is_dir():
        raise click.BadParameter(f"{plot.parent} is no folder", param_hint="--plot")
    found = zoo.bench(
        names,
        ways=ways,
        peers=peers,
        rounds=rounds,
        batch=batch,
        threads=threads,
        device=device,
        tell=lambda text: click.echo(text, err=True),
    )
    click.echo(json.dumps(found.to_dict(), indent=2) if as_json else str(found))
    if plot is not None:
        found.picture().save(plot)
    if all(row.error for row in found.rows):
        raise SystemExit(1)


COMMANDS = (export_command, bench_command)


def _videos(source: str | None) -> list[str] | None:
    """The videos that a folder, a list or a path stands for."""
    if source is None:
        return None
    from zoo.bulk.inputs import open_inputs
    from zoo.bulk.predictor import openable

    return [openable(row["path"]) for row in open_inputs(source, "predict").rows()]
