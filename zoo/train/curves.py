"""The curves of a training as a picture: loss above, accuracy below, over the steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from zoo.train.log import Row

SIZE, PANEL = (900, 720), 330
LEFT, RIGHT, TOP, BOTTOM = 70, 20, 34, 26  # margins of a panel
INK, GRID = (40, 40, 40), (225, 225, 225)
PANELS = (
    ("loss", {"loss": (76, 120, 168), "val_loss": (228, 87, 86)}),
    ("accuracy in percent", {"val_top1": (84, 162, 75), "val_top5": (178, 121, 162)}),
)
Curve = list[tuple[float, float]]


def draw_curves(rows: Sequence[Row], path: Path, title: str = "") -> None:
    """Write a PNG. rows: as in the log."""
    picture = Image.new("RGB", SIZE, "white")
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(14)
    draw.text((LEFT, 6), title, INK, font)
    for i, (name, colours) in enumerate(PANELS):
        curves = {column: [(row["step"], row[column]) for row in rows if column in row] for column in colours}
        _panel(draw, font, 30 + i * (PANEL + 10), name, curves, colours)
    picture.save(path)


def _panel(
    draw: ImageDraw.ImageDraw,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    top: int,
    name: str,
    curves: dict[str, Curve],
    colours: dict[str, tuple[int, int, int]],
) -> None:
    points = [point for curve in curves.values() for point in curve if math.isfinite(point[1])]
    most_x = max((x for x, _ in points), default=1.0) or 1.0
    high = max((y for _, y in points), default=1.0)
    low = min(0.0, *(y for _, y in points)) if points else 0.0
    high = high if high > low else low + 1
    width, height = SIZE[0] - LEFT - RIGHT, PANEL - TOP - BOTTOM

    def place(x: float, y: float) -> tuple[float, float]:
        return LEFT + width * x / most_x, top + TOP + height * (1 - (y - low) / (high - low))

    for value in _ticks(low, high):
        _, y = place(0, value)
        draw.line((LEFT, y, LEFT + width, y), GRID)
        draw.text((LEFT - 8, y), f"{value:g}", INK, font, anchor="rm")
    for value in _ticks(0, most_x):
        x, bottom = place(value, low)
        draw.line((x, bottom, x, bottom + 4), INK)
        draw.text((x, bottom + 6), f"{value:g}", INK, font, anchor="mt")
    draw.line((*place(0, high), *place(0, low), *place(most_x, low)), INK)
    at: float = LEFT
    draw.text((at, top + 8), name, INK, font)
    at += draw.textlength(name, font) + 30
    for column, curve in curves.items():
        line = [place(x, y) for x, y in curve if math.isfinite(y)]
        if len(line) > 1:
            draw.line(line, colours[column], 2)
        for x, y in line if len(line) < 60 else ():
            draw.ellipse((x - 2, y - 2, x + 2, y + 2), colours[column])
        draw.text((at, top + 8), column, colours[column], font)
        at += draw.textlength(column, font) + 24


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers, about five of them."""
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * k for k in (1, 2, 5, 10) if power * k >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(step * k, 10) for k in range(first, math.floor(high / step + 1e-9) + 1)]
