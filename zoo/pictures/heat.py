"""Heat in pictures: the frames that a network was given with what counted in them, and the whole video."""

from __future__ import annotations

from bisect import bisect_left
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from zoo.errors import SpecError
from zoo.pictures.overlay import writable
from zoo.pictures.paint import COLORS, LINE, SOFT, Canvas, Shapes, clock, file_name, fitted, made_by, score
from zoo.pictures.seen import drawable, found_again, pictures_of, spread
from zoo.plain import is_count
from zoo.video import write_video
from zoo.video.footage import is_file
from zoo.video.redraw import redraw_video

if TYPE_CHECKING:
    from zoo.attribution import Attribution

Pixels = NDArray[np.uint8]
Heat = NDArray[np.float32]
# From what shows the picture to what covers it: colours that get lighter evenly, so that print and few colours do too.
STOPS = (0.0, 0.25, 0.5, 0.75, 1.0)
RAMP = ((20, 11, 53), (101, 21, 110), (188, 55, 84), (246, 141, 40), (252, 240, 150))
COVER = 0.75  # of the picture, where heat is 1
MARGIN, GAP, HEAD, CAPTION, FOOT, ACROSS = 28, 12, 96, 44, 40, 4
TILE = 260
K = Shapes.SCALE


def heated(picture: Pixels, heat: Heat) -> Pixels:
    """A picture `[H, W, 3]` under heat in 0..1 of any size, which is stretched over it."""
    color = np.stack([np.interp(heat, STOPS, channel) for channel in zip(*RAMP, strict=True)], -1)
    shown, size = Image.fromarray(picture), (picture.shape[1], picture.shape[0])
    above, cover = (
        Image.fromarray(part.round().astype(np.uint8)).resize(size, Image.Resampling.BILINEAR)
        for part in (color, 255 * COVER * np.sqrt(heat.clip(0, 1)))
    )
    return np.asarray(Image.composite(above, shown, cover))


def heat_sheet(attribution: Attribution, video: Any = None, *, frames: int = 16) -> Image.Image:
    """See `Attribution.sheet`."""
    if not is_count(frames):
        raise SpecError(f"frames={frames!r}", hint="it is a whole number of at least 1")
    prediction = attribution.prediction
    _, footage = found_again(prediction, video)
    shown = spread(len(attribution.indices), frames)
    pictures = pictures_of(footage, drawable(prediction), [attribution.indices[n] for n in shown])
    tiles = [_tile(frame.data, attribution.heat[n].numpy()) for n, frame in zip(shown, pictures, strict=True)]
    width, height = tiles[0].size
    across = min(ACROSS, len(shown))
    canvas = Canvas(
        max(2 * MARGIN + across * (width + GAP) - GAP, 760),
        HEAD + -(-len(shown) // across) * (height + CAPTION) + FOOT,
    )
    inner = canvas.image.width - 2 * MARGIN
    canvas.text(MARGIN, 24, fitted(file_name(prediction.video), 22, inner), 22)
    canvas.text(MARGIN, 56, fitted(_said(attribution), 14, inner), 14, SOFT)
    shares = attribution.heat.mean((1, 2))
    most = float(shares.max()) or 1.0
    for place, (n, tile) in enumerate(zip(shown, tiles, strict=True)):
        x, y = MARGIN + place % across * (width + GAP), HEAD + place // across * (height + CAPTION)
        canvas.image.paste(tile, (x, y))
        with canvas.shapes(x, y + height + 5, width, 4) as draw:
            draw.rectangle((0, 0, width * K, 4 * K), fill=LINE)
            draw.rectangle((0, 0, width * K * float(shares[n]) / most, 4 * K), fill=COLORS[1])
        canvas.text(x, y + height + 14, clock(attribution.times_s[n]), 12)
        canvas.text(x + width, y + height + 15, f"frame {attribution.indices[n]}", 11, SOFT, "ra")
    of = f"{len(shown)} of {len(attribution.indices)} frames. " if len(shown) < len(attribution.indices) else ""
    legend = f"{of}Bright: what the answer depends on; the bar says how much of it a frame has, of the strongest."
    canvas.text(MARGIN, canvas.image.height - FOOT + 4, fitted(legend, 12, inner), 12, SOFT)
    return canvas.image


def _tile(picture: Pixels, heat: Heat) -> Image.Image:
    """A picture under its heat, made as wide as all."""
    height, width = picture.shape[:2]
    small = Image.fromarray(picture).resize((TILE, max(1, round(TILE * height / width))), Image.Resampling.LANCZOS)
    return Image.fromarray(heated(np.asarray(small), heat))


def heat_overlay(attribution: Attribution, dst: Any, video: Any = None) -> None:
    """See `Attribution.overlay`."""
    source, footage = writable(attribution.prediction, dst, video)
    between = Between(attribution)

    def draw(picture: Pixels, time_s: float) -> None:
        heat = between.at(time_s)
        if heat is not None:
            picture[...] = heated(picture, heat)

    if is_file(source):
        redraw_video(source, dst, draw)
        return
    frames = pictures_of(footage, drawable(attribution.prediction))

    def drawn(frame: Any) -> Pixels:
        copy: Pixels = frame.data.copy()
        draw(copy, frame.time_s)
        return copy

    write_video(dst, map(drawn, frames), fps=footage.fps)


class Between:
    """Heat at any time: between two frames that were seen it goes over from one to the other, unless they lie far apart
    for frames of one clip; a frame speaks for no more than half of the usual time between two.
    """

    def __init__(self, attribution: Attribution) -> None:
        self.times, self.heat = attribution.times_s, attribution.heat.numpy()
        self.usual = median(b - a for a, b in pairwise(self.times)) if len(self.times) > 1 else 1.0

    def at(self, time_s: float) -> Heat | None:
        after = bisect_left(self.times, time_s)
        near = [n for n in (after - 1, after) if 0 <= n < len(self.times)]
        first, last = near[0], near[-1]
        gap = self.times[last] - self.times[first]
        if 0 < gap <= 2 * self.usual:
            part = (time_s - self.times[first]) / gap
            mixed: Heat = ((1 - part) * self.heat[first] + part * self.heat[last]).astype(np.float32)
            return mixed
        nearest = min(near, key=lambda n: abs(self.times[n] - time_s))
        close = abs(self.times[nearest] - time_s) <= self.usual / 2 + 1e-9
        return self.heat[nearest] if close else None


def _said(attribution: Attribution) -> str:
    prediction = attribution.prediction
    assert prediction.scores is not None
    value = float(prediction.scores[prediction.labels.index(attribution.label)])
    what = f"what speaks for {attribution.label} ({score(value)})"
    return f"{made_by(prediction)}  ·  {what}  ·  {attribution.method}"
