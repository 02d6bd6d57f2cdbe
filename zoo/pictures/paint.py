"""What all pictures share: colours, the font, and how times and scores are written."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont

from zoo.cards.markdown import words

if TYPE_CHECKING:
    from zoo.tasks.classification import Prediction

GROUND, PANEL, LINE, SOFT, INK = "#14161b", "#1e222a", "#3a404c", "#9aa3b2", "#eef1f6"
# Told apart by people who see few colours too (after Okabe and Ito), and light enough for a dark ground.
COLORS = ("#56b4e9", "#f0a830", "#2fbf9a", "#f07f4f", "#d58bc4", "#e8dc54", "#7f9cf5", "#b9c0cc")
CROP_COLORS = ("#f0a830", "#56b4e9", "#d58bc4")

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@lru_cache(64)
def font(size: float) -> Font:
    return ImageFont.load_default(size)


def text_width(text: str, size: float) -> float:
    return font(size).getlength(text)


def fitted(value: object, size: float, width: float) -> str:
    """As words in one line, cut where they do not fit."""
    text = words(value)
    if text_width(text, size) <= width:
        return text
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if text_width(text[:middle] + "…", size) <= width else (low, middle - 1)
    return text[:low].rstrip() + "…"


def clock(seconds: float, step: float = 0.0) -> str:
    """0:03.25, 12:03.25 or 1:02:03.25; whole seconds where those are enough for times that lie `step` apart."""
    digits = 0 if step >= 1 else 2
    ticks = round(max(seconds, 0.0) * 10**digits)
    whole, part = divmod(ticks, 10**digits)
    minutes, secs = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    front = f"{hours}:{minutes:02}" if hours else f"{minutes}"
    return f"{front}:{secs:02}" + (f".{part:0{digits}}" if digits else "")


def score(value: float) -> str:
    return "<0.01" if 0 < value < 0.005 else f"{value:.2f}"


def made_by(prediction: Prediction) -> str:
    """The model, and whether its weights mean anything."""
    weights = f".{prediction.weights}" if prediction.weights else ", random weights"
    return words(f"{prediction.model}{weights}")


def file_name(video: str) -> str:
    """A video's name without the folders, which are nobody's business."""
    return words(re.split(r"[\\/]", video)[-1]) or words(video)


def rgb(color: str) -> tuple[int, int, int]:
    red, green, blue = bytes.fromhex(color[1:])
    return red, green, blue


class Canvas:
    """A picture under way. Shapes are drawn twice as large and text as it is, so that both have clean edges."""

    def __init__(self, width: int, height: int) -> None:
        self.image = Image.new("RGB", (width, height), GROUND)
        self.draw = ImageDraw.Draw(self.image)

    def text(self, x: float, y: float, value: str, size: float, color: str = INK, anchor: str = "la") -> None:
        self.draw.text((x, y), value, font=font(size), fill=color, anchor=anchor)

    def shapes(self, left: int, top: int, width: int, height: int) -> Shapes:
        return Shapes(self.image, left, top, width, height)


class Shapes:
    """Smooth shapes in a part of a picture: `with canvas.shapes(...) as draw`, in coordinates of SCALE per pixel."""

    SCALE = 3

    def __init__(self, image: Image.Image, left: int, top: int, width: int, height: int) -> None:
        self.image, self.box = image, (left, top, left + width, top + height)
        self.large = image.crop(self.box).resize((width * self.SCALE, height * self.SCALE), Image.Resampling.NEAREST)

    def __enter__(self) -> ImageDraw.ImageDraw:
        return ImageDraw.Draw(self.large)

    def __exit__(self, *error: object) -> None:
        size = (self.box[2] - self.box[0], self.box[3] - self.box[1])
        self.image.paste(self.large.resize(size, Image.Resampling.LANCZOS), self.box[:2])
