"""Follow video as it happens: push frames with their times, get predictions.

    live = zoo.Stream("convgru_tiny", rate=2)
    for frame in zoo.video.iter_frames(zoo.video.open_device("/dev/video0", format="v4l2")):
        for prediction in live.push(frame.data, frame.time_s):
            print(prediction.time_s, prediction.top[0])

A model with `step` computes every frame once and keeps a state. For any other the last seconds are kept, and looked at
anew for every prediction, as `zoo.predict` would. Either way memory is bounded, however long a stream is.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from zoo.contract import VideoModel
from zoo.errors import NotCausal, SpecError, VideoError
from zoo.streaming.watched import Held, Watched
from zoo.tasks import as_model
from zoo.tasks.classification import Prediction, Report, aggregate, answer, check_top_k, merge
from zoo.tasks.running import evaluating, over_views
from zoo.video.clips import ViewsOption, iter_views, protocol_of
from zoo.video.footage import Pixels
from zoo.video.sampling import WHOLE
from zoo.video.transforms import crop_boxes, output_size, resize, to_clip

EPSILON = 1e-6  # seconds of rounding
LONGEST = 16  # frames in one step
MOST_HELD = 10_000  # frames of one window

Frames = Any  # uint8 [H, W, 3] or [T, H, W, 3], an array or a tensor


class Stream:
    """Predictions of live video, of one stream or of many.

    model_or_name: as for `zoo.predict`; a classifier. device: such as "cuda".
    rate: predictions per second of video; None is one for every frame that the network looks at.
    smoothing: seconds after which a score counts half (exponential); 0 smooths nothing.
    window: seconds that a model for clips looks at; None is the length of its clips. views: as for `zoo.predict`.
    top_k: how many of the best labels to report. max_gap: after so many seconds without a frame a stream begins anew;
    so it does where its clock goes back as far, and with frames of another size.

    Frames are looked at when the protocol says so (its fps and stride), not when they come. Where none is new by then,
    the one before is shown again, as it would be in a file. What was late or missing is in `Prediction.report`.
    Raises SpecError for an option that cannot be.
    """

    def __init__(
        self,
        model_or_name: VideoModel | str,
        *,
        rate: float | None = 2.0,
        smoothing: float = 0.0,
        window: float | None = None,
        views: ViewsOption = "fast",
        top_k: int = 5,
        max_gap: float = 10.0,
        device: str | torch.device | None = None,
    ) -> None:
        check_top_k(top_k)
        _check("rate", rate, rate is None or (_positive(rate)), "predictions per second, or None for every frame")
        _check("smoothing", smoothing, smoothing == 0 or _positive(smoothing), "seconds, 0 for none")
        _check("window", window, window is None or _positive(window), "seconds")
        _check("max_gap", max_gap, _positive(max_gap), "seconds")
        self.model = as_model(model_or_name, device)
        if self.model.spec is not None and self.model.spec.task != "classification":
            raise SpecError(f"{self.model.spec.full_name} is no classifier", hint="a stream names what it shows")
        self.rate, self.smoothing, self.views, self.top_k, self.max_gap = rate, smoothing, views, top_k, max_gap
        self.protocol = p = protocol_of(self.model)
        self.has_steps = _has_steps(self.model)
        self.spacing = p.stride / p.fps if p.fps else None  # seconds; None is every stride-th frame
        if window is not None and self.has_steps:
            raise SpecError(f"window={window!r}", hint="this model has steps and decides itself what it remembers")
        self.window = p.num_frames * self.spacing if window is None and self.spacing else window
        if window is None and not self.has_steps and p.sampler in WHOLE:
            raise SpecError(
                "the protocol of this model looks at whole videos", hint="pass window=10.0, or how many seconds it gets"
            )
        self._watched: dict[str, Watched] = {}

    @property
    def streams(self) -> tuple[str, ...]:
        """The names of those that are followed."""
        return tuple(self._watched)

    def push(self, frames: Frames, times: Any = None, *, stream: str = "stream") -> list[Prediction]:
        """Give frames of a stream, and get the predictions that are due by then.

        frames: uint8 `[H, W, 3]` or `[T, H, W, 3]`, RGB, an array or a tensor. times: in seconds from any zero, one for
        each; None is now, for one frame. Raises VideoError for what is not a frame or not a time.
        """
        return self.push_all({stream: (frames, times)})

    def push_all(self, frames: Mapping[str, tuple[Frames, Any]]) -> list[Prediction]:
        """The same for many streams, `{name: (frames, times)}`, which run in one batch. A new name is a new stream."""
        given = {name: _given(name, *pair) for name, pair in frames.items()}
        for name, (pictures, _) in given.items():  # before any stream has taken its own
            self._check_size(name, pictures)
        work = {}
        for name, (pictures, times) in given.items():
            self._watched.setdefault(name, Watched())
            work[name] = (self._steps if self.has_steps else self._windows)(name, pictures, times)
        found: list[Prediction] = []
        with evaluating(self.model):
            while work:
                ready = {name: next(jobs, None) for name, jobs in work.items()}
                work = {name: jobs for name, jobs in work.items() if ready[name] is not None}
                groups: dict[Any, dict[str, tuple[list[Tensor], float | None]]] = {}
                for name, job in ready.items():
                    if job is not None:
                        shape = tuple(job[0][0].shape) if job[0] else ()
                        groups.setdefault((len(job[0]), shape), {})[name] = job
                for (length, _), jobs_of in groups.items():
                    if length:
                        self._step({name: torch.cat(pictures, 1) for name, (pictures, _) in jobs_of.items()})
                    found += [self._predict(name, at) for name, (_, at) in jobs_of.items() if at is not None]
        return found

    def finish(self, stream: str | None = None) -> list[Prediction]:
        """What there is to say at the end of a stream, or of all, about frames that came since the last prediction.

        A stream shorter than one window of a model for clips is looked at as it is, and `repeated` says so. Of one that
        a model with a `delay` has not seen for longer there is nothing to say.
        """
        if stream is not None:
            self._known(stream)
        with evaluating(self.model):
            return [
                self._predict(name, watched.last_s)
                for name, watched in self._watched.items()
                if stream in (None, name) and watched.open and (watched.ring or watched.seen > self.model.delay)
            ]

    def reset(self, stream: str | None = None) -> None:
        """Begin a stream anew, or all."""
        for name in self.streams if stream is None else (self._known(stream),):
            self._watched[name] = Watched()

    def remove(self, stream: str) -> None:
        """Follow a stream no longer."""
        del self._watched[self._known(stream)]

    def report(self, stream: str = "stream") -> Report:
        """What came of a stream so far."""
        return self._watched[self._known(stream)].report

    def summary(self, stream: str = "stream") -> Prediction:
        """What happened when, in all of a stream so far: a prediction with windows and segments, and so a `timeline()`.

        Its times are seconds from the first frame. However long a stream is, it has at most 2000 windows: neighbours
        become one, of their mean. Raises SpecError where nothing was said yet.
        """
        watched = self._watched[self._known(stream)]
        windows = watched.history.windows
        if not windows:
            raise SpecError(f"nothing was said of {stream!r} yet", hint="push more frames first")
        start = windows[0][0]
        windows = [(a - start, b - start, scores) for a, b, scores in windows]
        scores = torch.stack([row for *_, row in windows]).mean(0)
        found = answer(self.model, scores, self.top_k, video=stream, time_s=watched.last_s, report=watched.report)
        segments = merge(windows, found.labels, windows[-1][1])
        return replace(found, duration_s=windows[-1][1], windows=windows, segments=segments)

    def save(self, path: str | Path) -> None:
        """Write all that is remembered of all streams to a safetensors file. Raises SpecError where it cannot be."""
        tensors = {f"{i}.{key}": t for i, w in enumerate(self._watched.values()) for key, t in w.tensors().items()}
        facts = {name: watched.facts() for name, watched in self._watched.items()}
        try:
            save_file(tensors, path, metadata={"model": self._name(), "streams": json.dumps(facts)})
        except (OSError, SafetensorError) as error:
            raise SpecError(f"{path} cannot be written: {error}", hint="give a file in a folder that exists") from error

    def restore(self, path: str | Path) -> None:
        """Go on where `save` was called, of a Stream with the same model. Raises SpecError for another file."""
        try:
            with safe_open(path, "pt") as file:
                metadata = file.metadata() or {}
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  no dict
        except (OSError, SafetensorError) as error:
            raise SpecError(f"{path}: {error}", hint="give a file that Stream.save wrote") from error
        if metadata.get("model") != self._name():
            hint = f"this one follows with {self._name()}"
            raise SpecError(f"{path} holds streams of {metadata.get('model', 'nothing')}", hint=hint)
        device = self._like().device
        watched = {}
        for i, (name, facts) in enumerate(json.loads(metadata["streams"]).items()):
            own = {key.partition(".")[2]: t for key, t in tensors.items() if key.startswith(f"{i}.")}
            watched[name] = Watched.of(facts, own, device)
        self._watched = watched

    # --- when to look ------------------------------------------------------------------------------------------------

    def _arrives(self, name: str, time_s: float, picture: Pixels) -> Watched | None:
        """The stream that goes on with a frame of this time, or None where it comes too late."""
        watched = self._watched[name]
        watched.frames += 1
        gap = time_s - watched.last_s
        if -self.max_gap <= gap <= EPSILON:
            watched.late += 1
            return None
        if self._begins_anew(watched, time_s, picture):
            watched.restarts += 1
            watched = self._watched[name] = watched.anew(forget=gap < 0)
        elif not math.isnan(gap):
            if len(watched.intervals) > 2:
                watched.dropped += max(round(gap / watched.usual()) - 1, 0)
            watched.intervals.append(gap)
        if not watched.arrived:
            watched.first_s = time_s
        watched.last_s, watched.size, watched.open = time_s, picture.shape[:2], True
        watched.arrived += 1
        return watched

    def _begins_anew(self, watched: Watched, time_s: float, picture: Pixels) -> bool:
        other = abs(time_s - watched.last_s) > self.max_gap or watched.size != picture.shape[:2]
        return bool(watched.arrived) and other

    def _is_due(self, watched: Watched, at: float) -> bool:
        if self.rate is None:
            return True
        if at < watched.due_s - EPSILON:
            return False
        periods = math.floor((at - watched.first_s + EPSILON) * self.rate)
        watched.due_s = watched.first_s + (periods + 1) / self.rate
        return True

    # --- a model with steps --------------------------------------------------------------------------------------

    def _steps(self, name: str, pictures: Pixels, times: list[float]) -> Iterator[tuple[list[Tensor], float | None]]:
        """Pictures to step through, and when a prediction is due after them, the time."""
        chunk: list[Tensor] = []
        for picture, time_s in zip(pictures, times, strict=True):
            if chunk and self._begins_anew(self._watched[name], time_s, picture):
                yield chunk, None
                chunk = []
            if (watched := self._arrives(name, time_s, picture)) is None:
                continue
            for shown, at in self._looked_at(watched, picture):
                chunk.append(self._see(shown))
                watched.seen += 1
                due = self._is_due(watched, at) and watched.seen > self.model.delay
                if due or len(chunk) == LONGEST:
                    yield chunk, at if due else None
                    chunk = []
        if chunk:
            yield chunk, None

    def _looked_at(self, watched: Watched, picture: Pixels) -> Iterator[tuple[Pixels, float]]:
        """At each moment of the protocol up to now, the frame that is shown then: the last one not later."""
        if self.spacing is None:
            if (watched.arrived - 1) % self.protocol.stride == 0:
                yield picture, watched.last_s
            return
        while (at := watched.first_s + watched.moment * self.spacing) <= watched.last_s + EPSILON:
            watched.moment += 1
            before = watched.picture if at < watched.last_s - EPSILON else None
            yield picture if before is None else before, at
        watched.picture = picture.copy()  # cameras use their memory again

    def _see(self, picture: Pixels) -> Tensor:
        """One frame as the network gets it, `[C, 1, H, W]`."""
        p = self.protocol
        small = resize(picture, p.resize, p.interpolation, p.antialias)
        (box,) = crop_boxes(small.shape[0], small.shape[1], p.crop, 1, p.crop_rounding)
        return to_clip(small[None], p, box)

    def _step(self, chunks: Mapping[str, Tensor]) -> None:
        like = self._like()
        frames = torch.stack(list(chunks.values())).to(like.device, like.dtype)
        height, width = frames.shape[-2:]
        states = [self._watched[name].state or self.model.init_state(1, (height, width)) for name in chunks]
        state = states[0] if len(states) == 1 else {key: torch.cat([s[key] for s in states]) for key in states[0]}
        logits, state = self.model.step(frames, state)
        for i, name in enumerate(chunks):
            watched = self._watched[name]
            watched.state = state if len(states) == 1 else {key: part[i : i + 1].clone() for key, part in state.items()}
            watched.logits = logits[i : i + 1].float().cpu()

    # --- a model for clips -------------------------------------------------------------------------------------------

    def _windows(self, name: str, pictures: Pixels, times: list[float]) -> Iterator[tuple[list[Tensor], float | None]]:
        p = self.protocol
        for picture, time_s in zip(pictures, times, strict=True):
            if (watched := self._arrives(name, time_s, picture)) is None:
                continue
            small = resize(picture, p.resize, p.interpolation, p.antialias)
            ring = watched.ring
            ring.append((time_s, small.copy() if np.shares_memory(small, picture) else small))
            if len(ring) > MOST_HELD:
                raise VideoError(f"{name}: more than {MOST_HELD} frames in a window", hint="pass a shorter window")
            full = len(ring) >= p.num_frames * p.stride
            if self.window is not None:
                full = time_s - watched.first_s + watched.usual() >= self.window - EPSILON
                while ring[0][0] <= time_s - self.window + EPSILON:
                    ring.popleft()
            elif len(ring) > p.num_frames * p.stride:
                ring.popleft()
            if full and self._is_due(watched, time_s):
                yield [], time_s

    # --- what to say -------------------------------------------------------------------------------------------------

    def _predict(self, name: str, at: float) -> Prediction:
        watched = self._watched[name]
        more: dict[str, Any] = {}
        if self.has_steps:
            assert watched.logits is not None
            scores = aggregate(watched.logits, self.protocol)
            start, end = max(watched.scored_s, watched.first_s), at + (watched.usual() or 1.0)
        else:
            held = Held(name, watched)
            (found,) = iter_views(self.protocol, held, views=self.views)
            scores = aggregate(over_views(self.model, found, self.model), self.protocol)
            start = watched.ring[0][0]
            end = start + held.duration_s
            more = {"windows": [(start, end, scores)], "repeated": found.repeated}
        if watched.scores is not None and self.smoothing:
            scores = torch.lerp(scores, watched.scores, 0.5 ** ((at - watched.scored_s) / self.smoothing))
        watched.scores, watched.scored_s, watched.open = scores, at, False
        watched.history.add(start, end, scores)
        lasted = watched.last_s - watched.first_s + watched.usual()
        return answer(
            self.model, scores, self.top_k, video=name, duration_s=lasted, time_s=at, report=watched.report, **more
        )

    def _known(self, stream: str) -> str:
        if stream not in self._watched:
            raise SpecError(f"no stream {stream!r}", hint=f"there are {', '.join(self._watched) or 'none'}")
        return stream

    def _name(self) -> str:
        name = self.model.spec.full_name if self.model.spec else type(self.model).__name__
        return f"{name}.{self.model.weights.tag}" if self.model.weights else name

    def _like(self) -> Tensor:
        return next(self.model.parameters(), torch.empty(0))

    def _check_size(self, name: str, pictures: Pixels) -> None:
        """Raise VideoError where the crop of the protocol does not fit into these frames."""
        height, width = output_size(pictures.shape[1], pictures.shape[2], self.protocol.resize)
        try:
            crop_boxes(height, width, self.protocol.crop)
        except VideoError as error:
            raise VideoError(f"{name}: {error}", hint=error.hint) from error


def _given(name: str, frames: Frames, times: Any) -> tuple[Pixels, list[float]]:
    """uint8 `[T, H, W, 3]` and as many times."""
    wanted = "frames are RGB, uint8 [H, W, 3] or [T, H, W, 3], with values 0..255"
    if isinstance(frames, Tensor):
        if frames.dtype != torch.uint8:
            raise VideoError(f"{name}: frames of {frames.dtype}", hint=wanted)
        frames = frames.detach().cpu()
    pictures = np.asarray(frames)
    one = pictures.ndim == 3
    pictures = pictures[None] if one else pictures
    if pictures.dtype != np.uint8 or pictures.ndim != 4 or pictures.shape[3] != 3 or 0 in pictures.shape[1:]:
        raise VideoError(f"{name}: frames of {pictures.dtype} with shape {pictures.shape}", hint=wanted)
    if times is None and one:
        times = time.monotonic()
    if isinstance(times, Tensor | np.ndarray):
        times = times.tolist()
    given = list(times) if isinstance(times, Iterable) else [times]
    if len(given) != len(pictures) or not all(isinstance(t, Real) and math.isfinite(t) for t in given):
        raise VideoError(f"{name}: times={times!r:.80} of {len(pictures)} frames", hint="a time in seconds for each")
    return pictures, [float(t) for t in given]


def _has_steps(model: VideoModel) -> bool:
    try:
        model.init_state(1)
    except NotCausal:
        return False
    return True


def _positive(value: object) -> bool:
    return isinstance(value, int | float) and 0 < value < math.inf


def _check(name: str, value: object, right: bool, wanted: str) -> None:
    if not right:
        raise SpecError(f"{name}={value!r}", hint=f"it is {wanted}")
