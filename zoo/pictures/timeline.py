"""The time line: what is shown when as a strip, and under it the score of each label over time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PIL import Image

from zoo.errors import SpecError
from zoo.pictures.curves import Curve, Curves, curves_of, ticks
from zoo.pictures.paint import (
    GROUND,
    LINE,
    PANEL,
    SOFT,
    Canvas,
    Shapes,
    clock,
    file_name,
    fitted,
    rgb,
    score,
    text_width,
)
from zoo.pictures.sheet import said
from zoo.plain import is_count

if TYPE_CHECKING:
    from zoo.tasks.classification import Prediction

MARGIN, SIDE, HEAD, STRIP, ROW, GAP, AXIS = 28, 150, 96, 34, 54, 10, 46
LEAST = 400  # pixels of width
K = Shapes.SCALE


def timeline(prediction: Prediction, *, width: int = 1200) -> Image.Image:
    """See `Prediction.timeline`."""
    if not is_count(width) or width < LEAST:
        raise SpecError(f"width={width!r}", hint=f"it is a number of pixels, at least {LEAST}")
    found = curves_of(prediction, points=width)
    canvas = Canvas(width, HEAD + STRIP + 14 + len(found.curves) * (ROW + GAP) + AXIS)
    canvas.text(MARGIN, 24, fitted(file_name(prediction.video), 22, width - 2 * MARGIN), 22)
    canvas.text(MARGIN, 56, fitted(said(prediction), 14, width - 2 * MARGIN), 14, SOFT)
    left, across = MARGIN + SIDE, width - 2 * MARGIN - SIDE
    _strip(canvas, prediction, found, left, across)
    y = HEAD + STRIP + 14
    for curve in found.curves:
        _row(canvas, curve, found, prediction.duration_s, (left, y, across))
        y += ROW + GAP
    _axis(canvas, prediction.duration_s, left, y, across)
    return canvas.image


def _strip(canvas: Canvas, prediction: Prediction, found: Curves, left: int, across: int) -> None:
    canvas.text(MARGIN, HEAD + STRIP / 2, "top label", 14, anchor="lm")
    duration = prediction.duration_s
    with canvas.shapes(left, HEAD, across, STRIP) as draw:
        for segment in prediction.segments:
            x0, x1 = (t / duration * across for t in (segment.start_s, segment.end_s))
            color = found.colors[segment.label]
            draw.rectangle((x0 * K, 0, max(x1 * K - K, x0 * K + 1), STRIP * K), fill=color)
    for segment in prediction.segments:
        x0, x1 = (t / duration * across for t in (segment.start_s, segment.end_s))
        if text_width(segment.label, 14) + 16 <= x1 - x0:
            canvas.text(left + (x0 + x1) / 2, HEAD + STRIP / 2, fitted(segment.label, 14, x1 - x0), 14, GROUND, "mm")


def _row(canvas: Canvas, curve: Curve, found: Curves, duration: float, place: tuple[int, int, int]) -> None:
    left, top, across = place
    canvas.draw.ellipse((MARGIN, top + ROW / 2 - 14, MARGIN + 10, top + ROW / 2 - 4), fill=curve.color)
    canvas.text(MARGIN + 18, top + ROW / 2 - 9, fitted(curve.label, 14, SIDE - 30), 14, anchor="lm")
    peak = max(value for _, value in curve.points)
    canvas.text(MARGIN + 18, top + ROW / 2 + 10, f"up to {score(peak)}", 12, SOFT, "lm")

    def at(time_s: float, value: float) -> tuple[float, float]:
        part = (value - found.low) / (found.high - found.low)
        return min(time_s / duration, 1.0) * across * K, (ROW - 2 - part * (ROW - 4)) * K

    points = [at(*point) for point in curve.points]
    with canvas.shapes(left, top, across, ROW) as draw:
        draw.rectangle((0, 0, across * K, ROW * K), fill=PANEL)
        draw.line([(0, ROW * K / 2), (across * K, ROW * K / 2)], LINE, 1)
        draw.polygon([(points[0][0], ROW * K), *points, (points[-1][0], ROW * K)], fill=_mixed(curve.color, PANEL, 0.4))
        draw.line(points, curve.color, 2 * K, joint="curve")


def _axis(canvas: Canvas, duration: float, left: int, y: int, across: int) -> None:
    times = ticks(duration, max(across // 90, 2))
    step = times[1] - times[0] if len(times) > 1 else 0.0
    for time_s in times:
        x = left + time_s / duration * across
        canvas.draw.line([(x, y - GAP + 2), (x, y - GAP + 7)], SOFT)
        canvas.text(x, y + 2, clock(time_s, step), 12, SOFT, "ma")


def _mixed(color: str, ground: str, part: float) -> tuple[int, ...]:
    return tuple(round(part * a + (1 - part) * b) for a, b in zip(rgb(color), rgb(ground), strict=True))
