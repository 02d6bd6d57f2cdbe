"""The picture of a bench: the further right the faster, the higher the better, or the larger."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from PIL import Image

from zoo.pictures.paint import COLORS, INK, LINE, PANEL, SOFT, Canvas, fitted, text_width

if TYPE_CHECKING:
    from zoo.speed.result import Bench, Row

WIDTH, HEIGHT = 960, 600
LEFT, TOP, RIGHT, BOTTOM = 76, 48, 24, 56
RADIUS = 6
SIZE = 12


def plot(bench: Bench) -> Image.Image:
    """A Pillow image, RGB. Both axes are logarithmic but for accuracies."""
    rows = [row for row in bench.rows if not row.error]
    sets = {row.accuracy[1] if row.accuracy else "" for row in rows}
    measured = len(sets) == 1 and "" not in sets
    height = _accuracy if measured else _parameters
    what = f"top-1 of the published weights on {sets.pop()}, %" if measured else "million parameters"
    canvas = Canvas(WIDTH, HEIGHT)
    device = bench.machine["device"]
    canvas.text(LEFT, 16, fitted(f"{what}, against clips per second on {device}", 14, WIDTH - LEFT - RIGHT), 14)
    width_in, height_in = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    across = _Axis([row.clips_per_s for row in rows], True)
    upwards = _Axis([height(row) for row in rows], not measured)
    points = [
        (LEFT + across(row.clips_per_s) * width_in, HEIGHT - BOTTOM - upwards(height(row)) * height_in) for row in rows
    ]
    ways = list(dict.fromkeys(row.way for row in rows))
    with canvas.shapes(0, 0, WIDTH, HEIGHT) as draw:
        scale = canvas.shapes(0, 0, 1, 1).SCALE
        draw.rectangle([scale * v for v in (LEFT, TOP, WIDTH - RIGHT, HEIGHT - BOTTOM)], fill=PANEL, outline=LINE)
        for row, (x, y) in zip(rows, points, strict=True):
            circle = [scale * v for v in (x - RADIUS, y - RADIUS, x + RADIUS, y + RADIUS)]
            draw.ellipse(circle, fill=COLORS[ways.index(row.way) % len(COLORS)])
    for tick in across.ticks:
        canvas.text(LEFT + across(tick) * width_in, HEIGHT - BOTTOM + 8, f"{tick:g}", SIZE, SOFT, "ma")
    for tick in upwards.ticks:
        canvas.text(LEFT - 8, HEIGHT - BOTTOM - upwards(tick) * height_in, f"{tick:g}", SIZE, SOFT, "rm")
    for row, (x, y) in zip(rows, points, strict=True):
        name = f"{row.name}, {row.way}"
        left = x + RADIUS + 4 + text_width(name, SIZE) > WIDTH - RIGHT
        canvas.text(x - RADIUS - 4 if left else x + RADIUS + 4, y, name, SIZE, INK, "rm" if left else "lm")
    canvas.text(WIDTH / 2, HEIGHT - 16, "clips per second", SIZE, SOFT, "ms")
    return canvas.image


def _accuracy(row: Row) -> float:
    assert row.accuracy is not None
    return row.accuracy[0]


def _parameters(row: Row) -> float:
    return row.params / 1e6


class _Axis:
    """From a value to 0..1, with some room at both ends; `ticks` are round values between."""

    def __init__(self, values: list[float], logarithmic: bool) -> None:
        self._scale = math.log10 if logarithmic else float
        low, high = (self._scale(end(values)) for end in (min, max))
        room = max(0.1 * (high - low), 0.15 if logarithmic else 1.0)
        self._low, self._high = low - room, high + room
        steps = [s * 10.0**e for e in range(-4, 7) for s in (1, 2, 5)] if logarithmic else _round(self._low, self._high)
        self.ticks = [step for step in steps if 0 <= self(step) <= 1]

    def __call__(self, value: float) -> float:
        return (self._scale(value) - self._low) / (self._high - self._low)


def _round(low: float, high: float) -> list[float]:
    step = next(s for s in (0.5, 1, 2, 5, 10, 20, 50, 100) if (high - low) / s <= 10 or s == 100)
    return [i * step for i in range(math.floor(low / step), math.ceil(high / step) + 1)]
