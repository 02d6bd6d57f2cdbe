"""The video with what the model says of it in the picture: a panel of the best labels, and a strip of the segments."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from zoo.errors import SpecError, VideoError
from zoo.pictures.curves import curves_of
from zoo.pictures.paint import COLORS, GROUND, INK, LINE, fitted, font, rgb, score, text_width
from zoo.pictures.seen import drawable, found_again, pictures_of
from zoo.video import write_video
from zoo.video.footage import Footage, is_file
from zoo.video.redraw import redraw_video

if TYPE_CHECKING:
    from zoo.tasks.classification import Prediction

Pixels = NDArray[np.uint8]
SHOWN = 3  # labels
QUIET = "#c3cad6"


def overlay(prediction: Prediction, dst: Any, video: Any = None) -> None:
    """See `Prediction.overlay`."""
    source, footage = writable(prediction, dst, video)
    labels = Labels(prediction)
    if is_file(source):
        redraw_video(source, dst, labels)
        return
    assert prediction.executed is not None
    frames = pictures_of(footage, prediction.executed)
    write_video(dst, (labels.drawn(frame.data, frame.time_s) for frame in frames), fps=footage.fps)


class Labels:
    """Draws into one frame after the other. The panel is made anew only where what it says changes."""

    def __init__(self, prediction: Prediction) -> None:
        self.prediction = prediction
        self.middles = [(start + end) / 2 for start, end, _ in prediction.windows]
        self.starts = [segment.start_s for segment in prediction.segments]
        self.colors = curves_of(prediction, points=2).colors if prediction.windows else {}
        self.made: tuple[Any, Panel | None, Pixels | None] = (None, None, None)

    def __call__(self, picture: Pixels, time_s: float) -> None:
        """Draw into a picture, uint8 [H, W, 3]."""
        window = self._window(time_s)
        height, width = picture.shape[:2]
        if self.made[0] != (window, height, width):
            strip = self.made[2] if self.made[0] and self.made[0][1:] == (height, width) else self._strip(width)
            self.made = (window, height, width), Panel(self._best(window), self._color(time_s), height, width), strip
        _, panel, strip = self.made
        assert panel is not None
        panel.blend(picture)
        if strip is not None:
            tall = max(4, height // 72)
            picture[-tall:] = strip
            x = min(int(time_s / self.prediction.duration_s * width), width - 1)
            wide = max(1, width // 480)
            picture[-2 * tall :, max(x - wide, 0) : x + wide + 1] = rgb(INK)

    def drawn(self, picture: Pixels, time_s: float) -> Pixels:
        """A copy of the picture with the labels."""
        copy = picture.copy()
        self(copy, time_s)
        return copy

    def _window(self, time_s: float) -> int | None:
        """The window whose middle is nearest, as segments have it."""
        if not self.middles:
            return None
        after = bisect_left(self.middles, time_s)
        near = [i for i in (after - 1, after) if 0 <= i < len(self.middles)]
        return min(near, key=lambda i: abs(self.middles[i] - time_s))

    def _best(self, window: int | None) -> list[tuple[str, float]]:
        if window is None or not self.prediction.labels:
            return [(label, value) for label, value in self.prediction.top[:SHOWN]]
        best = self.prediction.windows[window][2].topk(min(SHOWN, len(self.prediction.labels)))
        return [(self.prediction.labels[i], float(v)) for v, i in zip(best.values, best.indices, strict=True)]

    def _color(self, time_s: float) -> str:
        if not self.starts:
            return COLORS[0]
        segment = self.prediction.segments[max(bisect_right(self.starts, time_s) - 1, 0)]
        return self.colors[segment.label]

    def _strip(self, width: int) -> Pixels | None:
        if not self.starts:
            return None
        row = np.zeros((1, width, 3), np.uint8)
        for start, end, label, _ in self.prediction.segments:
            first, last = (round(t / self.prediction.duration_s * width) for t in (start, end))
            row[0, first : max(last, first + 1)] = rgb(self.colors[label])
        return row


class Panel:
    """The best labels with bars, half see-through, for the lower left of frames of one size."""

    def __init__(self, best: list[tuple[str, float]], color: str, height: int, width: int) -> None:
        unit = min(max(height * 0.042, 8.0), 64.0)  # the size of the smaller text
        inset, pad = round(unit * 0.8), unit * 0.8
        sizes = [unit * 1.5, *[unit] * (len(best) - 1)]
        beside = [text_width(score(value), size) + size for (_, value), size in zip(best, sizes, strict=True)]
        room = width * (1.0 if width < 400 else 0.5) - 2 * (inset + pad)
        texts = [fitted(best[k][0], sizes[k], room - beside[k]) for k in range(len(best))]
        inner = max(min(9 * unit, room), *(text_width(texts[k], sizes[k]) + beside[k] for k in range(len(best))))
        line = [size * 1.75 for size in sizes]
        image = Image.new("RGBA", (round(inner + 2 * pad), round(sum(line) + 2 * pad)))
        draw = ImageDraw.Draw(image)
        draw.rounded_rectangle((0, 0, image.width - 1, image.height - 1), unit * 0.5, fill=(*rgb(GROUND), 184))
        y = pad
        for k, (_, value) in enumerate(best):
            size, ink = sizes[k], INK if k == 0 else QUIET
            draw.text((pad, y), texts[k], font=font(size), fill=ink)
            draw.text((pad + inner, y), score(value), font=font(size), fill=ink, anchor="ra")
            top, thick = y + size * 1.3, max(unit * 0.14, 1)
            draw.rectangle((pad, top, pad + inner, top + thick), fill=(*rgb(LINE), 220))
            if value > 0:
                draw.rectangle((pad, top, pad + inner * min(value, 1.0), top + thick), fill=color if k == 0 else QUIET)
            y += line[k]
        pixels = np.asarray(image).astype(np.uint16)
        self.top, self.left = max(height - image.height - inset - height // 36, 0), inset
        pixels = pixels[: height - self.top, : width - self.left]
        self.alpha = pixels[..., 3:]
        self.color = pixels[..., :3] * self.alpha

    def blend(self, picture: Pixels) -> None:
        tall, wide = self.alpha.shape[:2]
        place = picture[self.top : self.top + tall, self.left : self.left + wide]
        place[...] = (place * (255 - self.alpha) + self.color + 127) // 255


def writable(prediction: Prediction, dst: Any, video: Any) -> tuple[Any, Footage]:
    """The video and its frames, unless `dst` is the video itself, or it may be decoded in a child process only."""
    source, footage = found_again(prediction, video)
    if drawable(prediction).isolate and is_file(source):
        raise SpecError(
            f"{prediction.video} was decoded in a child process, and its overlay is made in this one",
            hint="if you trust the file, predict it without isolate",
        )
    try:
        same = Path(dst).samefile(source)
    except (OSError, TypeError, ValueError):
        same = False
    if same:
        raise VideoError(f"{dst} is the video itself", hint="write to another path", source=str(dst))
    return source, footage
