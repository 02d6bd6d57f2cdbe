"""`zoo predict --stream`: one line per prediction of a file, a pipe or a device, as it happens."""

from __future__ import annotations

import json
import queue
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

import zoo

if TYPE_CHECKING:
    from zoo.tasks.classification import Prediction, Report
    from zoo.video import Frame

BEHIND_S = 1.0  # how far behind real time is worth a word
PATIENCE_S = 5.0  # between two words about the same
WAITING = 64  # frames of a device
RATE = 2.0
RAW = re.compile(r"(\d+)x(\d+)@(\d+(?:\.\d+)?)")


def live_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options that belong to --stream."""
    options = (
        click.option("--stream", is_flag=True, help="Follow one VIDEO (- is a pipe), one line per prediction."),
        click.option("--rate", type=click.FloatRange(0, min_open=True), help=f"Predictions per second; {RATE:g}."),
        click.option("--smoothing", type=click.FloatRange(0), help="Seconds after which a score counts half; 0."),
        click.option("--raw", metavar="WxH@FPS", help="The pipe holds bare RGB frames (ffmpeg's rgb24), 320x240@30."),
        click.option("--input-format", metavar="NAME", help="VIDEO is a device of FFmpeg's, such as v4l2."),
        click.option("--input-option", multiple=True, metavar="KEY=VALUE", help="Of that device; framerate=30."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def follow(
    videos: Sequence[str],
    model: str,
    device: str | None,
    as_json: bool,
    *,
    rate: float | None,
    smoothing: float | None,
    raw: str | None,
    input_format: str | None,
    input_option: Sequence[str],
    **options: Any,
) -> None:
    """Print predictions until the video ends or the user does."""
    if len(videos) != 1:
        raise click.UsageError("--stream follows one video")
    (name,) = videos
    if raw and name != "-":
        raise click.UsageError("--raw is about a pipe, -")
    stream = zoo.Stream(model, device=device, rate=rate or RATE, smoothing=smoothing or 0.0, **options)
    watch = _Watch(live=name == "-" or bool(input_format))
    frames = _frames(name, raw, input_format, input_option, watch)
    try:
        for frame in frames:
            watch.sees(frame)
            for prediction in stream.push(frame.data, frame.time_s, stream=name):
                _show(prediction, watch, as_json)
    except KeyboardInterrupt:
        pass  # the way to end a device
    finally:
        frames.close()
    for prediction in stream.finish():
        _show(prediction, watch, as_json)
    if name in stream.streams:
        watch.say_what_came(stream.report(name), always=True)


class _Watch:
    """How far behind real time we are, and what was lost: said on stderr, now and then."""

    def __init__(self, *, live: bool) -> None:
        self.live, self.lost = live, 0
        self.began: float | None = None
        self.behind_s = 0.0
        self.said_at = -PATIENCE_S
        self.said: tuple[int, ...] = (0, 0, 0, 0)

    def sees(self, frame: Frame) -> None:
        now = time.monotonic()
        if self.began is None:
            self.began = now - frame.time_s
        self.behind_s = max(now - self.began - frame.time_s, 0.0) if self.live else 0.0

    def say_what_came(self, report: Report, *, always: bool = False) -> None:
        counts = (report.late, report.dropped, report.restarts, self.lost)
        late = self.behind_s > BEHIND_S and not always
        if not (late or counts != self.said) or (time.monotonic() - self.said_at < PATIENCE_S and not always):
            return
        kinds = ("late", "missing", "new beginnings", "left out as the model is too slow")
        words = [f"{count} {kind}" for count, kind in zip(counts, kinds, strict=True) if count]
        words += [f"{self.behind_s:.1f} s behind"] if late else []
        click.echo(f"of {report.frames} frames: {', '.join(words)}", err=True)
        self.said, self.said_at = counts, time.monotonic()


def _show(prediction: Prediction, watch: _Watch, as_json: bool) -> None:
    assert prediction.report is not None
    if as_json:
        line = json.dumps({**prediction.to_dict(), "behind_s": round(watch.behind_s, 3), "lost": watch.lost})
    else:
        best = prediction.top[0]
        line = f"{prediction.time_s:9.2f} s  {best.label}  {best.score:.3f}"
    click.echo(line)
    sys.stdout.flush()
    watch.say_what_came(prediction.report)


def _frames(name: str, raw: str | None, input_format: str | None, input_option: Sequence[str], watch: _Watch) -> Any:
    from zoo.video import Limits, iter_frames, open_device

    endless = Limits(max_frames=sys.maxsize)
    if raw:
        return _bare(raw)
    if name == "-":
        return iter_frames(sys.stdin.buffer, on_error="skip", limits=endless)
    if input_format is None:
        return iter_frames(name, on_error="skip", limits=endless)
    if odd := [text for text in input_option if "=" not in text]:
        raise click.BadParameter(f"{odd[0]!r} is not KEY=VALUE", param_hint="--input-option")
    options = dict(text.split("=", 1) for text in input_option)
    found = open_device(name, format=input_format, **options)
    return _newest(iter_frames(found, on_error="skip", limits=endless), watch)


def _bare(raw: str) -> Iterator[Frame]:
    """Frames of a pipe that holds nothing else. A cut one at the end is no frame."""
    import numpy as np

    from zoo.video import Frame

    match = RAW.fullmatch(raw)
    if match is None or not all(float(part) > 0 for part in match.groups()):
        raise click.BadParameter(f"{raw!r} is not WIDTHxHEIGHT@FPS such as 320x240@30", param_hint="--raw")
    width, height, fps = int(match[1]), int(match[2]), float(match[3])
    return (
        Frame(np.frombuffer(pixels, np.uint8).reshape(height, width, 3), i, i / fps)
        for i, pixels in enumerate(iter(lambda: sys.stdin.buffer.read(height * width * 3), b""))
        if len(pixels) == height * width * 3
    )


def _newest(frames: Iterator[Frame], watch: _Watch) -> Iterator[Frame]:
    """A device does not wait: what it gives while the model is busy is kept, up to a number, and then left out."""
    waiting: queue.Queue[Frame | BaseException | None] = queue.Queue(WAITING)

    def read() -> None:
        end: BaseException | None = None
        try:
            for frame in frames:
                try:
                    waiting.put_nowait(frame)
                except queue.Full:
                    watch.lost += 1
        except Exception as error:
            end = error
        waiting.put(end)

    threading.Thread(target=read, daemon=True).start()
    while isinstance(item := waiting.get(), zoo.video.Frame):
        yield item
    if item is not None:
        raise item
