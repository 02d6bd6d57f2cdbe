"""Which classes are taken for which: a matrix, one row for what videos show, one column for what was said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from PIL import Image, ImageDraw

from zoo.pictures.paint import COLORS, GROUND, INK, LINE, PANEL, SOFT, fitted, font, text_width

NAMED = 60  # classes whose names are written
NAMES = 220  # pixels, at most
EDGE, TITLE = 16, 30


def draw_confusion(confusion: Mapping[str, Mapping[str, int]], labels: Sequence[str]) -> Image.Image:
    """A Pillow image, RGB. confusion: {label: {what was said: videos}}; only labels that occur are drawn.

    A cell is the brighter the more of its row it has; right answers are on the diagonal, in another colour.
    """
    occur = {*confusion, *(said for row in confusion.values() for said in row)}
    shown = [label for label in labels if label in occur]
    cell = max(2, min(44, 880 // max(len(shown), 1)))
    size, named = (13 if cell >= 20 else max(7.0, cell * 0.8)), 0 < len(shown) <= NAMED
    widest = max((text_width(label, size) for label in shown), default=0.0) if named else 0.0
    margin = EDGE + (round(min(widest, NAMES)) + 8 if named else 0)
    side = max(cell * len(shown), 160)
    picture = Image.new("RGB", (margin + side + EDGE, TITLE + side + margin), GROUND)
    draw = ImageDraw.Draw(picture)
    draw.text((EDGE, 8), "rows: the video's label, columns: the model's answer", SOFT, font(13))
    draw.rectangle((margin, TITLE, margin + side, TITLE + side), PANEL, LINE)
    number = {label: i for i, label in enumerate(shown)}
    for label, row in confusion.items():
        total = sum(row.values())
        for said, count in row.items():
            x, y = margin + number[said] * cell, TITLE + number[label] * cell
            part = count / total
            colour = _between(PANEL, COLORS[2] if said == label else COLORS[3], 0.2 + 0.8 * part)
            draw.rectangle((x, y, x + cell - 1, y + cell - 1), colour)
            if cell >= 22 and text_width(str(count), 11) < cell:
                draw.text((x + cell / 2, y + cell / 2), str(count), INK, font(11), anchor="mm")
    for label, i in number.items() if named else ():
        name = fitted(label, size, NAMES)
        draw.text((margin - 8, TITLE + (i + 0.5) * cell), name, INK, font(size), anchor="rm")
        _write_upwards(picture, name, size, (round(margin + (i + 0.5) * cell), TITLE + side + 6))
    return picture


def _between(low: str, high: str, part: float) -> tuple[int, int, int]:
    mixed = [round(a + (b - a) * part) for a, b in zip(_rgb(low), _rgb(high), strict=True)]
    return mixed[0], mixed[1], mixed[2]


def _rgb(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def _write_upwards(picture: Image.Image, name: str, size: float, top: tuple[int, int]) -> None:
    """A name that reads from below to above and ends at `top`."""
    width, height = round(text_width(name, size)) + 2, round(size * 1.5)
    strip = Image.new("RGB", (width, height), GROUND)
    ImageDraw.Draw(strip).text((width, height / 2), name, INK, font(size), anchor="rm")
    picture.paste(strip.rotate(90, expand=True), (top[0] - height // 2, top[1]))
