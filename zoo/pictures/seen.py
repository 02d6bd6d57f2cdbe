"""The frames that a model saw, read once more: a row for each clip, small, with their numbers, times and crops."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from PIL import Image

from zoo.errors import SpecError, VideoError
from zoo.plain import is_count
from zoo.video.clips import plan_views
from zoo.video.footage import Footage, is_file, open_footage
from zoo.video.transforms import crop_boxes

if TYPE_CHECKING:
    from zoo.tasks.classification import Executed, Prediction
    from zoo.video import Frame

Fraction4 = tuple[float, float, float, float]  # left, top, right, bottom, as parts of the picture


@dataclass(frozen=True)
class Look:
    """A frame: its number in the video, when it is shown, and the picture before its crop, made small."""

    index: int
    time_s: float
    picture: Image.Image


@dataclass(frozen=True)
class Row:
    """One clip. span: of its window, in seconds. clip: its number among those of the window, from 0."""

    span: tuple[float, float]
    clip: int
    window: int | None
    looks: list[Look]


@dataclass(frozen=True)
class Seen:
    """rows: some of `n_rows` clips, with some of the `n_looks` frames of each. crops: what of a frame is looked at.

    size: (width, height) that frames were resized to. clips: of the video, or of each window.
    """

    rows: list[Row]
    n_rows: int
    n_looks: int
    clips: int
    size: tuple[int, int]
    crops: list[Fraction4]

    def partly(self) -> str:
        """What is left out, in words."""
        said = []
        if self.rows and len(self.rows[0].looks) < self.n_looks:
            said.append(f"{len(self.rows[0].looks)} of {self.n_looks} frames of each clip")
        if len(self.rows) < self.n_rows:
            said.append(f"{len(self.rows)} of {self.n_rows:,} clips")
        return f"Shown: {', '.join(said)}, evenly spread." if said else ""


def drawable(prediction: Prediction) -> Executed:
    """What was run. Raises SpecError if there is no answer, or not one of `zoo.predict`."""
    answered(prediction)
    if prediction.executed is None:
        raise SpecError(f"{prediction.video}: the prediction does not say what was run", hint="take one of zoo.predict")
    return prediction.executed


def answered(prediction: Prediction) -> None:
    """Raise SpecError if there is no answer."""
    if prediction.error is not None:
        raise SpecError(
            f"{prediction.video}: there is nothing to draw, as it could not be predicted", hint=str(prediction.error)
        )


def found_again(prediction: Prediction, video: Any = None) -> tuple[Any, Footage]:
    """The video, and its frames, by `video` or from where it was. Raises VideoError if it is not the same."""
    executed = drawable(prediction)
    if video is None:
        video = executed.source
    if video is None:
        raise VideoError(
            f"{prediction.video}: a prediction keeps no video but the path of one",
            hint="pass it again: video=...",
            source=prediction.video,
            reason="not kept",
        )
    footage = open_footage(video, fps=None if is_file(video) else executed.fps, isolate=executed.isolate)
    if len(footage.time_s) != executed.n_frames:
        raise VideoError(
            f"{footage.name} has {len(footage.time_s)} frames, and {executed.n_frames} when it was predicted",
            hint="pass that video as video=..., or predict this one again",
            source=footage.name,
            reason="another video",
        )
    return video, footage


def look_again(
    prediction: Prediction,
    video: Any = None,
    *,
    rows: int = 8,
    columns: int = 8,
    fit: tuple[int, int] = (168, 112),
) -> Seen:
    """Up to `rows` clips with up to `columns` frames each, evenly spread, made to fit into (width, height)."""
    if not (is_count(rows) and is_count(columns)):
        raise SpecError(f"rows={rows!r}, columns={columns!r}", hint="both are whole numbers of at least 1")
    executed = drawable(prediction)
    _, footage = found_again(prediction, video)
    protocol, views = executed.protocol, executed.views
    spans = [(start, end) for start, end, _ in prediction.windows]
    plans, crops = plan_views(protocol, footage, views=views, windows=spans[:1] or None)
    clips = len(plans[0])
    n_rows = clips * max(len(spans), 1)
    chosen = [divmod(i, clips) for i in spread(n_rows, rows)]  # window, clip
    if spans:
        windows = sorted({window for window, _ in chosen})
        found, _ = plan_views(protocol, footage, views=views, windows=[spans[w] for w in windows])
        planned = dict(zip(windows, found, strict=True))
    else:
        planned = {0: plans[0]}
    shown = [[planned[w][c][i] for i in spread(protocol.num_frames, columns)] for w, c in chosen]
    pictures: dict[int, Image.Image] = {}
    size = (0, 0)
    for frame in footage.frames(sorted({i for row in shown for i in row}), protocol):
        height, width = frame.data.shape[:2]
        size = (width, height)
        scale = min(fit[0] / width, fit[1] / height)
        small = (max(1, round(width * scale)), max(1, round(height * scale)))
        pictures[frame.index] = Image.fromarray(frame.data).resize(small, Image.Resampling.LANCZOS)
    boxes = crop_boxes(size[1], size[0], protocol.crop, crops, protocol.crop_rounding)
    return Seen(
        rows=[
            Row(
                span=spans[w] if spans else (0.0, footage.duration_s),
                clip=c,
                window=w if spans else None,
                looks=[Look(i, footage.time_s[i], pictures[i]) for i in indices],
            )
            for (w, c), indices in zip(chosen, shown, strict=True)
        ],
        n_rows=n_rows,
        n_looks=protocol.num_frames,
        clips=clips,
        size=size,
        crops=[_parts(box, size) for box in boxes],
    )


def pictures_of(footage: Footage, executed: Executed, indices: Sequence[int] | None = None) -> Iterator[Frame]:
    """Frames in their own size, one after the other; all if no indices are given."""
    whole = dataclasses.replace(executed.protocol, resize=None)
    return footage.frames(range(len(footage.time_s)) if indices is None else indices, whole)


def spread(n: int, most: int) -> list[int]:
    """At most so many of 0 .. n-1, evenly, the first and the last among them."""
    if n <= most:
        return list(range(n))
    return [round(i * (n - 1) / (most - 1)) for i in range(most)] if most > 1 else [n // 2]


def _parts(box: tuple[int, int, int, int], size: tuple[int, int]) -> Fraction4:
    top, left, height, width = box
    return left / size[0], top / size[1], (left + width) / size[0], (top + height) / size[1]
