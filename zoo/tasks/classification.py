"""Name what a video shows: logits `[B, K]` in, scored labels out."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from itertools import pairwise
from numbers import Integral
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from zoo.contract import VideoModel
from zoo.errors import SpecError, WeightsMismatch, ZooError
from zoo.spec import Preprocessing
from zoo.tasks.running import evaluating, no_classifier, over_views
from zoo.video.clips import ViewsOption, iter_views, protocol_of
from zoo.video.footage import Footage, name_of, open_footage, settled

if TYPE_CHECKING:
    from PIL.Image import Image

    from zoo.video import Limits

CHECKS = "zoo.testing.logits:CHECKS"  # what the conformance kit asks of every model of this task


MOST_WINDOWS = 100_000


class Score(NamedTuple):
    """A label and its score; between 0 and 1 unless the protocol has no activation."""

    label: str
    score: float


class Segment(NamedTuple):
    """A stretch of the video, in seconds, and the best label of it."""

    start_s: float
    end_s: float
    label: str
    score: float


@dataclass(frozen=True)
class Executed:
    """What was run, as plain data: enough to find the frames again that the model saw.

    source: the file, whole path; None where the video was not one on disk, which a prediction does not keep.
    n_frames, fps: of the video then. views: as they were asked for. isolate: a child process decoded it, and does so
    again for pictures; overlays, which cannot be made that way, are refused.
    """

    source: str | None
    n_frames: int
    fps: float
    protocol: Preprocessing
    views: ViewsOption = "card"
    isolate: bool = False


class Report(NamedTuple):
    """What came of a stream so far, in frames.

    frames: that were pushed. late: not later than one before them, and left out. dropped: missing, by the usual time
    between frames. restarts: how often the stream began anew, as nothing had come for long.
    """

    frames: int
    late: int
    dropped: int
    restarts: int


@dataclass(frozen=True, repr=False, eq=False)
class Prediction:
    """What a model says about one video. Plain data: pictures read the video again, from where it was.

    video: its name, a path as it was given. model, weights: names; weights is None where they are random.
    top: the best labels, best first. segments: with `window`, what happens when. scores: of all labels, `[K]`.
    windows: with `window`, (start_s, end_s, scores) of each. repeated: the video, or a window, is shorter than a clip,
    so that frames were repeated as the protocol says. error: why there is no answer; then `ok` is False.
    labels: of `scores`, in their order. executed: what was run.
    time_s, report: of a stream, the time of the newest frame that this is about, and what came so far.

    Pictures need `video=` again where it was bytes, a file object, a Url, an array or images. They raise VideoError
    for a video that is gone or is another one by now, and SpecError where there is nothing to draw.
    """

    video: str
    model: str
    weights: str | None
    duration_s: float = 0.0
    top: list[Score] = field(default_factory=list)
    segments: list[Segment] = field(default_factory=list)
    scores: Tensor | None = None
    windows: list[tuple[float, float, Tensor]] = field(default_factory=list)
    repeated: bool = False
    error: ZooError | None = None
    labels: tuple[str, ...] = field(default=(), repr=False)
    executed: Executed | None = None
    time_s: float | None = None
    report: Report | None = None

    @property
    def ok(self) -> bool:
        return self.error is None

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as the command line prints it with --json."""
        if self.error is not None:
            return {"video": self.video, "error": {"type": type(self.error).__name__, "message": str(self.error)}}
        of_stream = {} if self.report is None else {"time_s": self.time_s, **self.report._asdict()}
        return {
            "video": self.video,
            "model": self.model,
            "weights": self.weights,
            "duration_s": self.duration_s,
            **of_stream,
            "top": [score._asdict() for score in self.top],
            "segments": [segment._asdict() for segment in self.segments],
        }

    def __str__(self) -> str:
        title = f"{self.video} · {self._made_by()}"
        if self.error is not None:
            return f"{title}\n  {type(self.error).__name__}: {self.error}"
        lines = [f"{self.video} · {self.duration_s:.1f} s · {self._made_by()}"]
        if self.repeated:
            lines.append("  (shorter than a clip of this model: frames are repeated, do not trust the scores too much)")
        width = max(len(score.label) for score in self.top)
        lines += [f"  {label:<{width}}  {score:6.3f}  {'█' * round(20 * score)}".rstrip() for label, score in self.top]
        lines += [f"  {s.start_s:7.1f} - {s.end_s:5.1f} s  {s.label}  {s.score:.3f}" for s in self.segments]
        return "\n".join(lines)

    __repr__ = __str__

    def contact_sheet(self, *, video: Any = None, rows: int = 8, columns: int = 8) -> Image:
        """The frames that the model saw, with their times and the crops: a row for each clip, or for each window.

        Of more than `rows` rows or `columns` frames in a row evenly spread ones are shown. A Pillow image, RGB.
        """
        from zoo.pictures.sheet import contact_sheet

        return contact_sheet(self, video, rows=rows, columns=columns)

    def timeline(self, *, width: int = 1200) -> Image:
        """The scores of the best labels over time, of a prediction with windows. A Pillow image, RGB."""
        from zoo.pictures.timeline import timeline

        return timeline(self, width=width)

    def overlay(self, dst: Any, *, video: Any = None) -> None:
        """Write the video with its labels in the picture, to a path whose suffix chooses the container.

        Every frame at its time, audio packets unchanged. One frame after the other: long videos take no more memory.
        """
        from zoo.pictures.overlay import overlay

        overlay(self, dst, video)

    def save(self, path: str | os.PathLike[str], *, video: Any = None) -> None:
        """Write one HTML page that needs nothing else: scores, timeline, frames, what was run, facts of the model."""
        from zoo.pictures.report import save

        save(self, path, video)

    def _repr_html_(self) -> str:
        """Shown by notebooks."""
        from zoo.pictures.report import inline

        return inline(self)

    def _repr_png_(self) -> bytes | None:
        """Shown by notebooks that show no HTML; None where the frames cannot be read again."""
        from zoo.pictures.sheet import png

        return png(self)

    def _made_by(self) -> str:
        return f"{self.model}.{self.weights}" if self.weights else f"{self.model} (random weights)"


def run(
    model: VideoModel,
    video: Any,
    *,
    top_k: int = 5,
    views: ViewsOption = "card",
    window: float | None = None,
    stride: float | None = None,
    fps: float | None = None,
    limits: Limits | None = None,
    isolate: bool = False,
) -> Prediction:
    """See `zoo.predict`."""
    check_top_k(top_k)
    refuse_without_classifier(model)
    protocol = protocol_of(model)
    footage = open_footage(video, fps=fps, limits=limits, isolate=isolate)
    slides = window is not None or stride is not None

    def score() -> tuple[list[tuple[float, float, Tensor]], bool]:
        scored, repeated = [], False
        spans = sliding(footage.duration_s, window, stride) if slides else None
        for found in iter_views(protocol, footage, views=views, windows=spans):
            scored.append((found.start_s, found.end_s, aggregate(over_views(model, found, model), protocol)))
            repeated |= found.repeated
        return scored, repeated

    with evaluating(model):
        scored, repeated = settled(score)
    scores = torch.stack([window_scores for _, _, window_scores in scored]).mean(0)
    return answer(
        model,
        scores,
        top_k,
        video=name_of(video),
        duration_s=footage.duration_s,
        segments=merge(scored, _labels(model, len(scores)), footage.duration_s) if slides else [],
        windows=scored if slides else [],
        repeated=repeated,
        executed=executed(video, footage, protocol, views, isolate),
    )


def executed(
    video: Any, footage: Footage, protocol: Preprocessing, views: ViewsOption, isolate: bool = False
) -> Executed:
    """What was run on a video."""
    return Executed(
        source=os.path.abspath(video) if isinstance(video, (str, os.PathLike)) else None,  # noqa: PTH100
        n_frames=len(footage.time_s),
        fps=footage.fps,
        protocol=protocol,
        views=views,
        isolate=isolate,
    )


def refuse_without_classifier(model: VideoModel) -> None:
    if getattr(model, "num_classes", None) == 0:
        raise no_classifier(_who(model)["model"])


def answer(model: VideoModel, scores: Tensor, top_k: int, **facts: Any) -> Prediction:
    """The Prediction that these scores `[K]` make; `facts` are its other fields."""
    labels = _labels(model, len(scores))
    best = scores.topk(min(int(top_k), len(scores)))
    top = [Score(labels[i], float(s)) for s, i in zip(best.values, best.indices, strict=True)]
    return Prediction(**_who(model), top=top, scores=scores, labels=labels, **facts)


def check_top_k(top_k: int) -> None:
    if not isinstance(top_k, Integral) or top_k < 1:
        raise SpecError(f"top_k={top_k!r}", hint="it is a whole number of at least 1")


def failed(model: VideoModel, video: Any, error: ZooError) -> Prediction:
    """The result of a video that could not be predicted."""
    return Prediction(video=name_of(video), **_who(model), error=error)


def aggregate(logits: Tensor, preprocessing: Preprocessing) -> Tensor:
    """One row of scores `[K]` from the logits of all views `[V, K]`."""
    if preprocessing.temperature != 1:
        logits = logits / preprocessing.temperature
    if preprocessing.aggregation == "logit_mean":
        logits = logits.mean(0, keepdim=True)
    match preprocessing.activation:
        case "softmax":
            scores = logits.softmax(-1)
        case "sigmoid":
            scores = logits.sigmoid()
        case _:
            scores = logits
    return scores.mean(0)


def sliding(duration_s: float, window: float | None, stride: float | None) -> list[tuple[float, float]]:
    """Windows of `window` seconds, `stride` apart, that cover the whole video; the last one ends where it ends."""
    window = stride if window is None else window
    stride = window if stride is None else stride
    numbers = isinstance(window, (int, float)) and isinstance(stride, (int, float))
    if window is None or stride is None or not numbers or not 0 < stride <= window < math.inf:
        hint = "both are seconds, more than 0; stride is at most window, so that nothing is left out"
        raise SpecError(f"window={window!r}, stride={stride!r}", hint=hint)
    if duration_s / stride > MOST_WINDOWS:
        raise SpecError(
            f"stride={stride!r} makes more than {MOST_WINDOWS} windows of {duration_s:.0f} s", hint="take a longer one"
        )
    if duration_s <= window:
        return [(0.0, duration_s)]
    starts = [i * stride for i in range(math.floor((duration_s - window) / stride + 1e-9) + 1)]
    if starts[-1] + window < duration_s - 1e-6:
        starts.append(duration_s - window)
    return [(start, start + window) for start in starts]


def merge(scored: list[tuple[float, float, Tensor]], labels: tuple[str, ...], duration_s: float) -> list[Segment]:
    """Neighbouring windows with the same best label as one segment.

    Windows may overlap; segments do not: each window speaks for the time that is nearest to its middle.
    """
    middles = [(start + end) / 2 for start, end, _ in scored]
    cuts = [0.0, *((a + b) / 2 for a, b in pairwise(middles)), duration_s]
    best = [int(scores.argmax()) for _, _, scores in scored]
    segments: list[Segment] = []
    first = 0
    for i in range(1, len(scored) + 1):
        if i == len(scored) or best[i] != best[first]:
            score = torch.stack([scores[best[first]] for _, _, scores in scored[first:i]]).mean()
            segments.append(Segment(cuts[first], cuts[i], labels[best[first]], float(score)))
            first = i
    return segments


def _labels(model: VideoModel, count: int) -> tuple[str, ...]:
    if model.labels is None:
        return tuple(f"class_{i}" for i in range(count))
    if len(model.labels) != count:
        raise WeightsMismatch(
            f"the model gives {count} scores but has {len(model.labels)} labels", hint="set model.labels, or to None"
        )
    return model.labels


def _who(model: VideoModel) -> dict[str, Any]:
    return {
        "model": model.spec.full_name if model.spec else type(model).__name__,
        "weights": model.weights.tag if model.weights else None,
    }
