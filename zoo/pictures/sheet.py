"""The contact sheet: every clip as a strip of its frames, what the network is given of them outlined."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageDraw

from zoo.errors import ZooError
from zoo.pictures.paint import CROP_COLORS, GROUND, INK, LINE, SOFT, Canvas, clock, file_name, fitted, made_by, score
from zoo.pictures.seen import Fraction4, Row, Seen, drawable, look_again
from zoo.plain import by

if TYPE_CHECKING:
    from zoo.tasks.classification import Prediction

MARGIN, GAP, SIDE, CAPTION = 28, 8, 148, 30
HEAD, FOOT = 96, 44


def contact_sheet(prediction: Prediction, video: Any = None, *, rows: int = 8, columns: int = 8) -> Image.Image:
    """See `Prediction.contact_sheet`."""
    executed = drawable(prediction)
    seen = look_again(prediction, video, rows=rows, columns=columns)
    width, height = seen.rows[0].looks[0].picture.size
    across = len(seen.rows[0].looks)
    total = max(MARGIN * 2 + SIDE + across * (width + GAP) - GAP, 760)
    canvas = Canvas(total, HEAD + len(seen.rows) * (height + CAPTION + GAP) + FOOT)
    inner = total - 2 * MARGIN
    canvas.text(MARGIN, 24, fitted(file_name(prediction.video), 22, inner), 22)
    canvas.text(MARGIN, 56, fitted(said(prediction), 14, inner), 14, SOFT)
    y = HEAD
    for row in seen.rows:
        _heading(canvas, prediction, seen, row, y)
        x = MARGIN + SIDE
        for look in row.looks:
            canvas.image.paste(cropped(look.picture, seen.crops), (x, y))
            canvas.text(x, y + height + 5, clock(look.time_s), 12, INK)
            if width >= 100:
                canvas.text(x + width, y + height + 6, f"frame {look.index}", 11, SOFT, "ra")
            x += width + GAP
        y += height + CAPTION + GAP
    canvas.draw.line([(MARGIN, y), (total - MARGIN, y)], LINE)
    canvas.text(MARGIN, y + 12, fitted(legend(seen, executed.protocol.crop), 12, inner), 12, SOFT)
    return canvas.image


def png(prediction: Prediction) -> bytes | None:
    """The sheet as a file, or None where there is none to be had."""
    try:
        sheet = contact_sheet(prediction, rows=4)
    except (ZooError, OSError):
        return None
    out = io.BytesIO()
    sheet.save(out, "png")
    return out.getvalue()


def said(prediction: Prediction) -> str:
    """The answer in one line."""
    top = ", ".join(f"{label} {score(value)}" for label, value in prediction.top[:3])
    return f"{clock(prediction.duration_s)}  ·  {made_by(prediction)}  ·  {top}"


def title(seen: Seen, row: Row) -> list[str]:
    """Which window and clip a row is."""
    span = [] if row.window is None else [f"{clock(row.span[0])} - {clock(row.span[1])}"]
    return [*span, f"clip {row.clip + 1} of {seen.clips}"] if seen.clips > 1 or not span else span


def answer(prediction: Prediction, row: Row) -> str:
    """What the model says of a row's window."""
    if row.window is None or not prediction.labels:
        return ""
    scores = prediction.windows[row.window][2]
    best = int(scores.argmax())
    return f"{prediction.labels[best]} {score(float(scores[best]))}"


def legend(seen: Seen, crop: object) -> str:
    """How to read the frames, and what is left out."""
    width, height = seen.size
    shape = f"Frames as resized, {width}x{height} (width x height)"
    cut = "" if whole(seen.crops) else f"; outlined, what the network is given: {_cut(seen, crop)}"
    return f"{shape}{cut}. {seen.partly()}"


def whole(crops: list[Fraction4]) -> bool:
    return set(crops) == {(0.0, 0.0, 1.0, 1.0)}


def _cut(seen: Seen, crop: Any) -> str:
    height, width = (crop, crop) if isinstance(crop, int) else crop
    return f"{len(seen.crops)} crop{'s' * (len(seen.crops) > 1)} of {by((width, height))}"


def _heading(canvas: Canvas, prediction: Prediction, seen: Seen, row: Row, y: int) -> None:
    first, *rest = title(seen, row)
    canvas.text(MARGIN, y + 2, fitted(first, 14, SIDE - 16), 14)
    for line in filter(None, [answer(prediction, row), *rest]):
        y += 20
        canvas.text(MARGIN, y + 2, fitted(line, 13, SIDE - 16), 13, SOFT)


def cropped(picture: Image.Image, crops: list[Fraction4]) -> Image.Image:
    """The picture with what no crop has made dark, and each crop outlined."""
    if whole(crops):
        return picture
    width, height = picture.size
    boxes = [
        (round(left * width), round(top * height), round(right * width), round(bottom * height))
        for left, top, right, bottom in crops
    ]
    shown = Image.blend(picture, Image.new("RGB", picture.size, GROUND), 0.62)
    for box in boxes:
        shown.paste(picture.crop(box), box[:2])
    draw = ImageDraw.Draw(shown)
    for (left, top, right, bottom), color in zip(boxes, CROP_COLORS, strict=False):
        draw.rectangle((left, top, right - 1, bottom - 1), outline=color, width=2)
    return shown
