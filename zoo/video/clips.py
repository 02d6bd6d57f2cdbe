"""Execute a protocol up to the network's door: which frames, resized and cropped how, as which tensor."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from zoo.errors import SpecError
from zoo.spec import Preprocessing
from zoo.video import sampling
from zoo.video.footage import Footage, Pixels, open_footage, settled
from zoo.video.transforms import Box, crop_boxes, to_clip

if TYPE_CHECKING:
    from zoo.video.source import Limits

MOST_CLIPS = 1000  # of one video; published protocols take up to 15
ViewsOption = Literal["card", "fast"] | tuple[int, int]


@dataclass(frozen=True)
class Clips:
    """What the network sees of one video, one row per view; a view is one clip seen through one crop.

    data: float32 `[V, C, T, H, W]`. indices: the frame numbers of each view. times_s: their times in seconds.
    crops: (top, left, height, width) of each view, in pixels of the resized frame.
    report: n_frames, duration_s and fps of the video, and `repeated`, whether it was too short for its clips.
    """

    data: Tensor
    indices: list[list[int]]
    times_s: list[list[float]]
    crops: list[Box]
    report: dict[str, Any]

    def __len__(self) -> int:
        return len(self.data)


class Views:
    """The views of one video or of one window of it: each needed frame is held once, a clip is made when asked for."""

    def __init__(
        self,
        preprocessing: Preprocessing,
        frames: dict[int, Pixels],
        plan: list[list[int]],
        crops: int,
        span_s: tuple[float, float],
    ) -> None:
        self.size = height, width = next(iter(frames.values())).shape[:2]  # of whole frames, as resized
        boxes = crop_boxes(height, width, preprocessing.crop, crops, preprocessing.crop_rounding)
        self._preprocessing, self._frames = preprocessing, frames
        self.start_s, self.end_s = span_s
        self.views = [(indices, box) for indices in plan for box in boxes]
        self.crops = crops
        self.repeated = any(len(set(indices)) < len(indices) for indices in plan)

    def __len__(self) -> int:
        return len(self.views)

    def clip(self, i: int) -> Tensor:
        """View i as float32 `[C, T, H, W]`."""
        indices, box = self.views[i]
        return to_clip(np.stack([self._frames[k] for k in indices]), self._preprocessing, box)

    def batches(self, limit_bytes: int = 64 << 20) -> Iterator[Tensor]:
        """All views in order, as clips `[B, C, T, H, W]` of at most `limit_bytes`, or of one view."""
        pending = [self.clip(0)]
        per_batch = max(1, limit_bytes // (pending[0].numel() * 4))
        for i in range(1, len(self)):
            if len(pending) == per_batch:
                yield torch.stack(pending)
                pending = []
            pending.append(self.clip(i))
        yield torch.stack(pending)


def load_clips(
    model_or_preprocessing: Any,
    video: Any,
    *,
    views: ViewsOption = "card",
    fps: float | None = None,
    limits: Limits | None = None,
    isolate: bool = False,
) -> Clips:
    """The tensor that `predict` gives to the network, for people with a loop of their own.

    model_or_preprocessing: a VideoModel, its name, a ModelSpec, or a Preprocessing.
    video: a path, bytes, a binary file object, uint8 frames `[T, H, W, 3]` or a list of images; the last
    two need `fps`.
    views: "card" as published, "fast" one centre clip, or (clips, crops).
    limits, isolate: for files from strangers, as `read_frames` takes them.
    Raises VideoError, and SpecError for views that cannot be.
    """
    preprocessing = protocol_of(model_or_preprocessing)
    footage = open_footage(video, fps=fps, limits=limits, isolate=isolate)
    (found,) = settled(lambda: [*iter_views(preprocessing, footage, views=views)])
    indices = [list(frames) for frames, _ in found.views]
    report = {
        "n_frames": len(footage.time_s),
        "duration_s": footage.duration_s,
        "fps": footage.fps,
        "repeated": found.repeated,
    }
    return Clips(
        data=torch.stack([found.clip(i) for i in range(len(found))]),
        indices=indices,
        times_s=[[footage.time_s[i] for i in frames] for frames in indices],
        crops=[box for _, box in found.views],
        report=report,
    )


def iter_views(
    preprocessing: Preprocessing,
    footage: Footage,
    *,
    views: ViewsOption = "card",
    windows: Sequence[tuple[float, float]] | None = None,
) -> Iterator[Views]:
    """The views of the video, or of each window (start_s, end_s), in one pass over the file.

    Windows are sorted by start. Frames are dropped as soon as no window to come needs them. Raises Recounted.
    """
    spans = [(0.0, footage.duration_s)] if windows is None else list(windows)
    plans, crops = plan_views(preprocessing, footage, views=views, windows=windows)
    last_use = {i: w for w, plan in enumerate(plans) for indices in plan for i in indices}
    held: dict[int, Pixels] = {}
    arriving = footage.frames(sorted(last_use), preprocessing)
    for w, (plan, span) in enumerate(zip(plans, spans, strict=True)):
        needed = {i for indices in plan for i in indices}
        while not needed <= held.keys():
            frame = next(arriving)
            held[frame.index] = frame.data
        yield Views(preprocessing, {i: held[i] for i in needed}, plan, crops, span)
        held = {i: frame for i, frame in held.items() if last_use[i] > w}


def plan_views(
    preprocessing: Preprocessing,
    footage: Footage,
    *,
    views: ViewsOption = "card",
    windows: Sequence[tuple[float, float]] | None = None,
) -> tuple[list[list[list[int]]], int]:
    """(the frame numbers of each clip of the video, or of each window of it; crops of each clip). Decodes nothing."""
    clips, crops = view_counts(preprocessing, views)
    spans = [(None, None)] if windows is None else windows
    plans = [
        sampling.plan(
            preprocessing,
            footage.time_s,
            fps=footage.fps,
            duration_s=footage.duration_s,
            clips=clips,
            start_s=start,
            end_s=end,
        )
        for start, end in spans
    ]
    return plans, crops


def protocol_of(thing: Any) -> Preprocessing:
    """The Preprocessing of a model, a name, a spec, or itself."""
    if isinstance(thing, str):
        from zoo import registry

        spec, weights = registry.default.find(thing)
        if weights is None and spec.default_tag:
            weights = spec.weights[spec.default_tag]
        thing = spec if weights is None or weights.preprocessing is None else weights
    found = thing if isinstance(thing, Preprocessing) else getattr(thing, "preprocessing", None)
    if not isinstance(found, Preprocessing):
        raise SpecError(
            f"{getattr(thing, 'name', None) or type(thing).__name__} says nothing about its preprocessing",
            hint="pass a zoo.Preprocessing(...), or set model.preprocessing",
        )
    return found


def view_counts(preprocessing: Preprocessing, views: ViewsOption) -> tuple[int | Literal["centre"], int]:
    """(clips of a video, crops of each clip). Raises SpecError for views that cannot be."""
    if views == "card":
        return preprocessing.clips, preprocessing.crops
    if views == "fast":
        return "centre", 1
    if isinstance(views, tuple) and len(views) == 2 and all(isinstance(n, Integral) and n > 0 for n in views):
        clips, crops = int(views[0]), int(views[1])
        if crops not in (1, 3) or (crops == 3 and preprocessing.crop is None):
            raise SpecError(f"views={views!r}", hint="there can be 1 crop, or 3 where the protocol crops at all")
        if clips > MOST_CLIPS:
            raise SpecError(f"views={views!r}", hint=f"at most {MOST_CLIPS} clips; use a window for what happens when")
        return clips, crops
    raise SpecError(f"views={views!r}", hint='it is "card", "fast" or (clips, crops)')
