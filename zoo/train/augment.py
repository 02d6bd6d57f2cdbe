"""One clip of a video, cut, mirrored and distorted by chance: torchvision's transforms, drawn once for all its frames.

What is drawn follows from a key, whichever process, worker or order it is drawn in.
"""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from zoo.data import Sample
from zoo.errors import SpecError
from zoo.spec import Preprocessing
from zoo.train.settings import Settings, names_a_side
from zoo.video import sampling
from zoo.video.footage import Pixels, settled
from zoo.video.transforms import crop_boxes, to_clip

LARGER = 1.25  # than the protocol's are the frames that crops of random size are cut from
# What turns a video `[T, C, H, W]` into another one whose label is known.
TURNS: dict[str, Callable[[Tensor], Tensor]] = {
    "flip": lambda video: video.flip(-1),
    "upside_down": lambda video: video.flip(-2),
    "transpose": lambda video: video.transpose(-1, -2),
    "reverse": lambda video: video.flip(0),
}


@dataclass(frozen=True)
class Recipe:
    """How clips for training are made.

    turns: how often each of TURNS is done. renamed: the label that each label becomes by it.
    """

    protocol: Preprocessing
    settings: Settings
    turns: Mapping[str, float]
    renamed: Mapping[str, tuple[int, ...]]

    def label_of(self, label: int, turns: Sequence[str]) -> int:
        """What `label` is after these turns."""
        for turn in turns:
            label = self.renamed[turn][label]
        return label

    def clips(self, sample: Sample, keys: Sequence[int]) -> tuple[Tensor, list[tuple[str, ...]]]:
        """One clip for each key, float32 `[R, C, T, H, W]`, and the turns of each. Raises VideoError."""
        footage = sample.open(keys[0])

        def read() -> tuple[list[list[int]], dict[int, Pixels]]:
            plans = [self._frames(footage.time_s, footage.fps, footage.duration_s, sample.span, key) for key in keys]
            wanted = sorted({i for plan in plans for i in plan})
            return plans, {frame.index: frame.data for frame in footage.frames(wanted, self._decoded)}

        plans, frames = settled(read)
        made = [self._clip(np.stack([frames[i] for i in p]), key) for p, key in zip(plans, keys, strict=True)]
        return torch.stack([clip for clip, _ in made]), [turns for _, turns in made]

    def _frames(
        self, times: Sequence[float], fps: float, duration: float, span: tuple[float, float] | None, key: int
    ) -> list[int]:
        rng = random.Random(key)
        most = math.log1p(self.settings.speed_jitter)
        speed = math.exp(rng.uniform(-most, most)) if most else 1.0
        if self.settings.temporal_jitter or most:
            chance = rng if self.settings.temporal_jitter else _Middle()
            return sampling.random_clip(
                self.protocol, times, chance, fps=fps, duration_s=duration, span=span, speed=speed
            )
        start, end = span or (None, None)
        bounds = {"start_s": start, "end_s": None if end is None else min(end, duration)}
        return sampling.plan(self.protocol, times, fps=fps, duration_s=duration, clips="centre", **bounds)[0]

    def _clip(self, frames: Pixels, key: int) -> tuple[Tensor, tuple[str, ...]]:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(key)  # an accelerator's is not for clips
            turns = tuple(turn for turn, often in self.turns.items() if bool(torch.rand(()) < often))
            video = torch.from_numpy(frames).permute(0, 3, 1, 2)  # [T, C, H, W]
            if self._transform is not None:
                video = self._transform(tv_tensors.Video(video)).as_subclass(Tensor)
            for turn in turns:
                video = TURNS[turn](video)
        return self._normalised(video.permute(0, 2, 3, 1).numpy()), turns

    def _normalised(self, frames: Pixels) -> Tensor:
        height, width = frames.shape[1:3]
        crop = None if self.settings.random_resized_crop else self.protocol.crop
        (box,) = crop_boxes(height, width, crop, 1, self.protocol.crop_rounding)
        return to_clip(frames, self.protocol, box)

    @cached_property
    def _transform(self) -> v2.Transform | None:
        settings, transforms = self.settings, []
        if settings.random_resized_crop:
            mode = v2.InterpolationMode(self.protocol.interpolation)
            size, scale, ratio = input_size(self.protocol), settings.crop_scale, settings.crop_ratio
            transforms.append(v2.RandomResizedCrop(size, scale=scale, ratio=ratio, interpolation=mode, antialias=True))
        if settings.rand_augment:
            transforms.append(v2.RandAugment(settings.rand_augment, magnitude=settings.rand_augment_magnitude))
        return v2.Compose(transforms) if transforms else None

    @cached_property
    def _decoded(self) -> Preprocessing:
        """How large frames are read."""
        size = self.protocol.resize
        if size is None or not self.settings.random_resized_crop:
            return self.protocol
        if isinstance(size, int):
            larger: int | tuple[int, int] = round(size * LARGER)
        else:
            larger = (round(size[0] * LARGER), round(size[1] * LARGER))
        return dataclasses.replace(self.protocol, resize=larger, crop=None, crops=1)


class _Middle(random.Random):
    def random(self) -> float:
        return 0.5


def recipe_of(protocol: Preprocessing, settings: Settings, labels: tuple[str, ...]) -> Recipe:
    """Raises SpecError where turned clips would get wrong labels, and for clips that are of no common size."""
    height, width = input_size(protocol)
    pairs = {turn: _both_ways(turn, getattr(settings, f"{turn}_labels"), labels) for turn in TURNS}
    sided = [label for label in names_a_side(labels) if label not in pairs["flip"]]
    if settings.flip and sided:
        raise SpecError(
            f"flip={settings.flip}, but in a mirror {sided[0]!r} is something else",
            hint="say flip=0, or which labels change places: flip_labels={'turn left': 'turn right'}",
        )
    if pairs["transpose"] and height != width:
        raise SpecError(f"transpose_labels, but clips are of {height}x{width}", hint="only squares can be transposed")
    turns = {turn: 0.5 for turn in TURNS if pairs[turn]}
    turns |= {"flip": settings.flip if settings.flip is not None else 0.0 if sided else 0.5}
    renamed = {turn: tuple(labels.index(both.get(label, label)) for label in labels) for turn, both in pairs.items()}
    return Recipe(protocol, settings, {turn: turns[turn] for turn in TURNS if turns.get(turn)}, renamed)


def _both_ways(turn: str, pairs: Mapping[str, str], labels: tuple[str, ...]) -> dict[str, str]:
    if unknown := sorted({*pairs, *pairs.values()} - set(labels)):
        raise SpecError(f"{turn}_labels: {unknown[0]!r} is no label of the data", hint=f"they are {', '.join(labels)}")
    return dict(pairs) | {new: old for old, new in pairs.items()}


def input_size(protocol: Preprocessing) -> tuple[int, int]:
    """(height, width) of the network's clips. Raises SpecError where it depends on the video."""
    size = protocol.crop or protocol.resize
    if size is None or (protocol.crop is None and isinstance(size, int)):
        raise SpecError(
            f"the protocol gives clips of different sizes ({protocol.describe()})",
            hint="set a crop, such as protocol={'resize': 128, 'crop': 112}",
        )
    return (size, size) if isinstance(size, int) else size
