"""`zoo predict --stream`: one line per prediction of a file, a pipe or a device, as it happens."""

from __future__ import annotations

import json
import re
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import zoo
from zoo.cli.pictures import check_picture
from zoo.errors import VideoError

if TYPE_CHECKING:
    from zoo.tasks.classification import Prediction, Report
    from zoo.video import Frame

BEHIND_S = 1.0  # how far behind real time is worth a word
PATIENCE_S = 5.0  # between two words about the same
WAITING, ROOM = 32, 256 << 20  # frames of a device, and bytes
RATE = 2.0
MOST_PIXELS = 8192 * 4320
RAW = re.compile(r"(\d+)x(\d+)@(\d+(?:\.\d+)?)")


def live_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options that belong to --stream."""
    options = (
        click.option("--stream", is_flag=True, help="Follow one VIDEO (- is a pipe), one line per prediction."),
        click.option("--rate", type=click.FloatRange(0, min_open=True), help=f"Predictions per second [{RATE:g}]."),
        click.option("--smoothing", type=click.FloatRange(0), help="Half-life of earlier scores, in seconds [0]."),
        click.option(
            "--raw", metavar="WxH@FPS", help="The pipe holds raw RGB frames (ffmpeg's rgb24), such as 320x240@30."
        ),
        click.option("--input-format", metavar="NAME", help="VIDEO is a device; its FFmpeg format, such as v4l2."),
        click.option(
            "--input-option", multiple=True, metavar="KEY=VALUE", help="An option of that device, such as framerate=30."
        ),
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
    timeline: Path | None,
    **options: Any,
) -> None:
    """Print predictions until the video ends or the user does."""
    if len(videos) != 1:
        raise click.UsageError("--stream follows one video")
    (name,) = videos
    if raw and name != "-":
        raise click.UsageError("--raw is about a pipe, -")
    check_picture("timeline", timeline)
    watch = _Watch(live=name == "-" or bool(input_format))
    frames = _frames(name, raw, input_format, input_option, watch)
    stream = zoo.Stream(model, device=device, rate=rate or RATE, smoothing=smoothing or 0.0, **options)
    end: BaseException | None = None
    try:
        with watch.speaks_of_silence():
            for frame in frames:
                watch.sees(frame)
                for prediction in stream.push(frame.data, frame.time_s, stream=name):
                    _show(prediction, watch, as_json)
                watch.waits()
    except (KeyboardInterrupt, VideoError) as error:  # an interrupt is the way to end a device
        end = error
    finally:
        frames.close()
    for prediction in stream.finish():
        _show(prediction, watch, as_json)
    if name in stream.streams:
        watch.say_what_came(stream.report(name), always=True)
        if timeline is not None and watch.shown:
            stream.summary(name).timeline().save(timeline)
            click.echo(f"timeline: {timeline}", err=True)
    if isinstance(end, VideoError):
        raise end
    if end is None and not watch.shown:
        raise _no_answer(name, stream)


def _no_answer(name: str, stream: zoo.Stream) -> VideoError:
    needed = f"{stream.model.delay + 1} of its frames"
    if stream.spacing:
        needed += f", {stream.model.delay * stream.spacing:.1f} s"
    return VideoError(
        f"{name}: it ended before there was an answer, for which this model needs {needed}",
        hint="take a model that answers sooner, or `zoo predict` without --stream",
    )


class _Watch:
    """How far behind real time we are, and what was lost: said on stderr, now and then."""

    def __init__(self, *, live: bool) -> None:
        self.live, self.lost, self.cut, self.shown = live, 0, 0, 0
        self.least: float | None = None  # of the time since a frame was due, the least so far
        self.newest_s = 0.0
        self.waiting_since: float | None = None
        self.said_at = -PATIENCE_S
        self.said: tuple[int, ...] = (0, 0, 0, 0, 0)

    def sees(self, frame: Frame) -> None:
        self.waiting_since, self.newest_s = None, frame.time_s
        age = time.monotonic() - frame.time_s
        self.least = age if self.least is None else min(age, self.least)

    def waits(self) -> None:
        self.waiting_since = time.monotonic()

    @property
    def behind_s(self) -> float:
        """By how much what is shown now is later than what was shown soonest after its frame."""
        if not self.live or self.least is None:
            return 0.0
        return max(time.monotonic() - self.newest_s - self.least, 0.0)

    @contextmanager
    def speaks_of_silence(self) -> Generator[None]:
        """Within, a word when nothing has come for long: a pipe may be meant to wait, or have been forgotten."""
        over = threading.Event()

        def look() -> None:
            spoken = 0.0
            while not over.wait(PATIENCE_S / 5):
                since = self.waiting_since
                if since not in (None, spoken) and time.monotonic() - since > PATIENCE_S:
                    spoken = since
                    click.echo(f"nothing came for {PATIENCE_S:.0f} s; waiting, Ctrl-C ends", err=True)

        self.waits()
        if self.live:
            threading.Thread(target=look, daemon=True).start()
        try:
            yield
        finally:
            over.set()

    def say_what_came(self, report: Report, *, always: bool = False) -> None:
        missing = max(report.dropped - self.lost, 0)  # what is left out is missing too
        counts = (report.late, missing, report.restarts, self.lost, self.cut)
        behind_s = self.behind_s
        late = behind_s > BEHIND_S and not always
        if not (late or counts != self.said) or (time.monotonic() - self.said_at < PATIENCE_S and not always):
            return
        kinds = ("late", "missing", "new beginnings", "left out as the model is too slow", "cut short at the end")
        words = [f"{count} {kind}" for count, kind in zip(counts, kinds, strict=True) if count]
        words += [f"{behind_s:.1f} s behind"] if late else []
        click.echo(f"of {report.frames} frames: {', '.join(words)}", err=True)
        self.said, self.said_at = counts, time.monotonic()


def _show(prediction: Prediction, watch: _Watch, as_json: bool) -> None:
    assert prediction.report is not None
    watch.shown += 1
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

    endless = Limits(max_frames=sys.maxsize, timeout_s=None if name == "-" else Limits.timeout_s)
    if raw:
        return _bare(*_shape_of(raw), watch)
    if name == "-":
        return iter_frames(sys.stdin.buffer, on_error="skip", limits=endless)
    if input_format is None:
        return iter_frames(name, on_error="skip", limits=endless)
    if odd := [text for text in input_option if "=" not in text]:
        raise click.BadParameter(f"{odd[0]!r} is not KEY=VALUE", param_hint="--input-option")
    options = dict(text.split("=", 1) for text in input_option)
    found = open_device(name, format=input_format, **options)
    return _newest(iter_frames(found, on_error="skip", limits=endless), watch)


def _shape_of(raw: str) -> tuple[int, int, float]:
    match = RAW.fullmatch(raw)
    if match is None or not all(float(part) > 0 for part in match.groups()):
        raise click.BadParameter(f"{raw!r} is not WIDTHxHEIGHT@FPS such as 320x240@30", param_hint="--raw")
    width, height, fps = int(match[1]), int(match[2]), float(match[3])
    if width * height > MOST_PIXELS:
        raise click.BadParameter(f"{raw!r}: frames have at most {MOST_PIXELS} pixels", param_hint="--raw")
    return width, height, fps


def _bare(width: int, height: int, fps: float, watch: _Watch) -> Generator[Frame]:
    """Frames of a pipe that holds nothing else. A cut one at the end is no frame."""
    import numpy as np

    from zoo.video import Frame

    size = height * width * 3
    for i in count():
        pixels = sys.stdin.buffer.read(size)
        if len(pixels) < size:
            watch.cut = int(len(pixels) > 0)
            if not i:
                reason = f"it ended after {len(pixels)} bytes, and a frame has {size}"
                raise VideoError(f"-: {reason}", hint="--raw says the size of its frames", source="-", reason=reason)
            return
        yield Frame(np.frombuffer(pixels, np.uint8).reshape(height, width, 3), i, i / fps)


def _newest(frames: Generator[Frame], watch: _Watch) -> Generator[Frame]:
    """A device does not wait. Of what it gives while the model is busy the newest is kept, and the oldest left out."""
    waiting: deque[Frame] = deque()
    ends: list[Exception | None] = []
    some, stopped = threading.Condition(), threading.Event()

    def read() -> None:
        end: Exception | None = None
        try:
            for frame in frames:
                with some:
                    waiting.append(frame)
                    while len(waiting) > max(1, min(WAITING, ROOM // frame.data.nbytes)):
                        waiting.popleft()
                        watch.lost += 1
                    some.notify()
                if stopped.is_set():
                    break
            frames.close()
        except Exception as error:
            end = error
        with some:
            ends.append(end)
            some.notify()

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        while True:
            with some:
                some.wait_for(lambda: waiting or ends)
                if not waiting:
                    break
                frame = waiting.popleft()
            yield frame
        if ends[0] is not None:
            raise ends[0]
    finally:
        stopped.set()
        reader.join(PATIENCE_S)  # it closes the device
