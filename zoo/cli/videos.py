"""What runs on videos: `zoo predict`, `zoo embed`, `zoo frames`, `zoo demo`."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import zoo
from zoo.cli.live import follow, live_options
from zoo.cli.names import model_name
from zoo.cli.pictures import Pictures, picture_options
from zoo.errors import GeometryError, VideoError

if TYPE_CHECKING:
    from zoo.tasks.classification import Prediction
    from zoo.video import Frame

DEFAULT_MODEL = "stacked_tiny.camera_motion"
SOME_FAILED = 3
MOST_PICTURES = 1_000_000

videos_argument = click.argument("videos", nargs=-1, required=True, metavar="VIDEO...")
model_option = click.option(
    "--model", default=DEFAULT_MODEL, show_default=True, shell_complete=model_name, help="A name from `zoo list`."
)
views_option = click.option(
    "--views",
    default="card",
    show_default=True,
    help="card (as published), fast (one centre clip) or CLIPSxCROPS (10x3).",
)
isolate_option = click.option("--isolate", is_flag=True, help="Decode in a child process, for files from strangers.")
device_option = click.option("--device", help="Where to run, such as cpu or cuda:1.")


@click.command("predict", short_help="Name what videos show, such as the camera's motion.")
@videos_argument
@model_option
@click.option("--top-k", default=5, show_default=True, help="How many labels to show.")
@views_option
@click.option("--window", type=float, help="Seconds: slide over the video, and say what happens when.")
@click.option("--stride", type=float, help="Seconds between windows; the window's length if not given.")
@isolate_option
@device_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per video and line.")
@picture_options
@live_options
def predict_command(
    videos: Sequence[str],
    model: str,
    top_k: int,
    views: str,
    window: float | None,
    stride: float | None,
    isolate: bool,
    device: str | None,
    as_json: bool,
    stream: bool,
    report: Path | None,
    overlay: Path | None,
    sheet: Path | None,
    timeline: Path | None,
    attribution: Path | None,
    **live: Any,
) -> None:
    """Name what each VIDEO shows; by default, how the camera moves.

    With --stream, one VIDEO is followed as it happens: a file, a pipe (-) or a device.
    """
    from zoo.tasks import as_model

    wanted = {"report": report, "overlay": overlay, "sheet": sheet, "attribution": attribution}
    if stream:
        if stride is not None:
            raise click.UsageError("with --stream it is --rate that says how often")
        if unfit := [name for name, value in {**wanted, "isolate": isolate}.items() if value]:
            raise click.UsageError(f"--{unfit[0]} does not go with --stream")
        view = "fast" if views == "card" else views_of(views)
        follow(videos, model, device, as_json, top_k=top_k, window=window, views=view, timeline=timeline, **live)
        return
    if set_options := [name for name, value in live.items() if value not in (None, ())]:
        raise click.UsageError(f"--{set_options[0].replace('_', '-')} goes with --stream")
    if timeline is not None and window is None and stride is None:
        raise click.UsageError("--timeline goes with --stream or --window")
    pictures = Pictures(videos, {**wanted, "timeline": timeline})
    options = {"top_k": top_k, "views": views_of(views), "window": window, "stride": stride, "isolate": isolate}
    network = as_model(model, device)
    failed = 0
    with _progress(len(videos), "predicting") as step:
        for position, result in enumerate(zoo.predict(network, list(videos), **options)):
            step(lambda result=result: _show(result, as_json))
            failed += not (result.ok and pictures.write(position, result, network))
    _finish(failed)


@click.command("embed", short_help="Write the features of videos to a file.")
@videos_argument
@click.option(
    "-o", "--output", required=True, type=click.Path(dir_okay=False, path_type=Path), help="A .safetensors file."
)
@model_option
@click.option("--level", type=click.Choice(["clip", "frame", "map"]), default="clip", show_default=True)
@views_option
@isolate_option
@device_option
def embed_command(
    videos: Sequence[str], output: Path, model: str, level: str, views: str, isolate: bool, device: str | None
) -> None:
    """Write the features of each VIDEO to a safetensors file, under the video's path as given."""
    from safetensors.torch import save

    from zoo.tasks import as_model

    if not output.parent.is_dir():
        raise click.BadParameter(f"the folder {str(output.parent)!r} does not exist", param_hint="--output")
    network = as_model(model, device, features=True)
    features = {}
    failed = 0
    with _progress(len(videos), "embedding") as step:
        for video in videos:
            try:
                found = zoo.embed(network, video, level=level, views=views_of(views), isolate=isolate)
                features[video] = found.contiguous()
            except (VideoError, GeometryError) as error:
                failed += 1
                step(lambda error=error: click.echo(f"Error: {error}", err=True))
            else:
                step(lambda: None)
    if features:
        output.write_bytes(save(features, metadata={"format": "pt"}))
        shapes = {tuple(f.shape) for f in features.values()}
        click.echo(f"{output}: {len(features)} videos, {', '.join(map(str, sorted(shapes)))}")
    _finish(failed)


@click.command("frames", short_help="Save frames of a video as pictures.")
@click.argument("video")
@click.option("-o", "--output", required=True, type=click.Path(file_okay=False, path_type=Path), help="A folder.")
@click.option("-n", "count", type=click.IntRange(1), help="This many, evenly spread (the default is 8).")
@click.option("--every", type=click.FloatRange(0, min_open=True), metavar="SECONDS", help="One every so many seconds.")
@click.option("--at", metavar="T,T", help="At these times, in seconds.")
@click.option("--size", type=click.IntRange(1, 8192), help="Short side in pixels; the video's own size if not given.")
@click.option("--format", "suffix", type=click.Choice(["png", "jpg"]), default="png", show_default=True)
def frames_command(
    video: str, output: Path, count: int | None, every: float | None, at: str | None, size: int | None, suffix: str
) -> None:
    """Save frames of VIDEO as pictures named by frame number and time."""
    from zoo.video import probe
    from zoo.video.sampling import at_times, uniform
    from zoo.video.select import select_frames

    if sum(option is not None for option in (count, every, at)) > 1:
        raise click.UsageError("-n, --every and --at exclude one another")
    index = probe(video)
    if every is not None:
        if index.duration_s / every > MOST_PICTURES:
            raise click.BadParameter(f"more than {MOST_PICTURES} pictures", param_hint="--every")
        seconds = [i * every for i in range(int(index.duration_s / every) + 1) if i * every < index.duration_s]
        wanted = at_times(index.time_s, seconds)
    elif at is not None:
        wanted = at_times(index.time_s, _times(at, index.duration_s))
    else:
        wanted = uniform(index.n_frames, min(count or 8, index.n_frames))
    numbers = sorted(set(wanted))
    output.mkdir(parents=True, exist_ok=True)
    with _progress(len(numbers), "saving") as step:
        for frame in select_frames(video, numbers, size=size):
            path = output / f"frame_{frame.index:06d}_{frame.time_s:08.3f}s.{suffix}"
            _save(frame, path)
            step(lambda path=path: click.echo(path))


@click.command("demo", short_help="Make a video and name its camera motion.")
@click.option("--motion", help="The motion to make, such as zoom_in; if not given, the seed draws one.")
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Another number makes another video."
)
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="Where to put the video.")
@device_option
def demo_command(motion: str | None, seed: int, output: Path | None, device: str | None) -> None:
    """Make a video with a moving camera, write it as mp4, and name its motion from the file."""
    from zoo import synth
    from zoo.video import write_video

    if motion not in (None, *synth.LABELS):
        raise click.BadParameter(f"{motion!r} is none of {', '.join(synth.LABELS)}", param_hint="--motion")
    clip = synth.generate(motion, seed=seed, duration_s=3.0, fps=30, size=(240, 320))
    output = output or Path(tempfile.mkdtemp(prefix="zoo-demo-")) / f"{clip.label}.mp4"
    write_video(output, clip.frames, fps=clip.fps)
    click.echo(f"Made a video in which the camera moves like this: {clip.label}\n")
    click.echo(zoo.predict(DEFAULT_MODEL, str(output), device=device))
    click.echo("\nNow your own: zoo predict YOUR_VIDEO.mp4")


COMMANDS = (predict_command, embed_command, frames_command, demo_command)


def _show(result: Prediction, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(result.to_dict()))
    else:
        click.echo(str(result), err=not result.ok)


def _finish(failed: int) -> None:
    if failed:
        raise click.exceptions.Exit(SOME_FAILED)


def views_of(text: str) -> Any:
    """What `--views` says, as `predict` takes it."""
    if text in ("card", "fast"):
        return text
    clips, times, crops = text.partition("x")
    if not (times and clips.isdecimal() and crops.isdecimal()):
        raise click.BadParameter(f"{text!r} is not card, fast or CLIPSxCROPS such as 10x3", param_hint="--views")
    return int(clips), int(crops)


def _times(text: str, duration_s: float) -> list[float]:
    try:
        times = [float(part) for part in text.split(",")]
    except ValueError:
        raise click.BadParameter(f"{text!r} is not seconds with commas between", param_hint="--at") from None
    if outside := [t for t in times if not 0 <= t <= duration_s]:
        raise click.BadParameter(f"{outside[0]:g} s is outside of the video's {duration_s:.3f} s", param_hint="--at")
    return times


def _save(frame: Frame, path: Path) -> None:
    from PIL import Image

    Image.fromarray(frame.data).save(path, quality=95)


@contextmanager
def _progress(total: int, what: str) -> Iterator[Any]:
    """A bar on stderr, only on a terminal. The block gets `step(show)`, called once per finished item."""
    from rich.console import Console
    from rich.progress import Progress

    if not sys.stderr.isatty():
        yield lambda show: show()
        return
    with Progress(console=Console(stderr=True), transient=True, redirect_stdout=False) as progress:
        task = progress.add_task(what, total=total if total > 1 else None)  # None: a bar that only moves

        def step(show: Any) -> None:
            progress.stop()  # what is shown may go to the same terminal
            show()
            progress.advance(task)
            progress.start()

        yield step
