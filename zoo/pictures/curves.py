"""The scores that are worth a line: of which labels, and how they go over time."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from zoo.errors import SpecError
from zoo.pictures.paint import COLORS
from zoo.pictures.seen import answered

if TYPE_CHECKING:
    from zoo.tasks.classification import Prediction

MOST = 6


@dataclass(frozen=True)
class Curve:
    """points: (seconds, score), few enough to be drawn; steps at the ends, so that it covers the whole video."""

    label: str
    color: str
    points: list[tuple[float, float]]


@dataclass(frozen=True)
class Curves:
    """low, high: of the axis of scores. colors: of every label that has a segment."""

    curves: list[Curve]
    colors: dict[str, str]
    low: float
    high: float


def curves_of(prediction: Prediction, *, points: int = 400) -> Curves:
    """The labels that are best for longest, then those with the highest scores. Raises SpecError without windows."""
    answered(prediction)
    if not prediction.windows:
        raise SpecError(
            f"{prediction.video}: there is no time line of one answer for the whole video",
            hint="predict with window=..., in seconds",
        )
    scores = torch.stack([row for *_, row in prediction.windows])  # [W, K]
    best = Counter(scores.argmax(1).tolist())
    mean = scores.mean(0)
    labels = prediction.labels or tuple(f"class_{i}" for i in range(len(mean)))
    leading = sorted([i for i, _ in best.most_common(MOST)], key=list(best).index)  # in order of time
    rest = [i for i in mean.argsort(descending=True).tolist() if i not in leading]
    chosen = (leading + rest)[:MOST]
    middles = [(start + end) / 2 for start, end, _ in prediction.windows]
    bounds = (0.0, prediction.duration_s)
    shown = scores[:, chosen]
    inside = bool((shown >= 0).all() and (shown <= 1).all())
    low, high = (0.0, 1.0) if inside else (float(shown.min()), float(shown.max()))
    colors = {labels[i]: COLORS[k % len(COLORS)] for k, i in enumerate(leading + rest)}
    return Curves(
        [Curve(labels[i], colors[labels[i]], thinned(middles, scores[:, i].tolist(), bounds, points)) for i in chosen],
        {segment.label: colors[segment.label] for segment in prediction.segments},
        low,
        high if high > low else low + 1.0,
    )


def thinned(
    times: list[float], values: list[float], bounds: tuple[float, float], points: int
) -> list[tuple[float, float]]:
    """At most about so many points; of those that share a place, the highest stays."""
    per = -(-len(times) // points)
    kept = []
    for first in range(0, len(times), per):
        peak = max(range(first, min(first + per, len(times))), key=values.__getitem__)
        kept.append((times[peak], values[peak]))
    return [(bounds[0], values[0]), *kept, (bounds[1], values[-1])]


def ticks(duration_s: float, most: int) -> list[float]:
    """Round times from 0, at most so many, as people divide hours and minutes."""
    steps = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200]
    step = next((s for s in steps if duration_s / s <= most), max(duration_s, 0.1))
    return [i * step for i in range(int(duration_s / step + 1e-9) + 1)]
