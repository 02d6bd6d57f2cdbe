"""One clip of a video, cut, mirrored and distorted by chance: torchvision's transforms, drawn once for all its frames.

What is drawn follows from a key, whichever process, worker or order it is drawn in.
"""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Sequence
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


@dataclass(frozen=True)
class Recipe:
    """How clips for training are made. mirrored: the label that each label becomes in a mirror."""

    protocol: Preprocessing
    settings: Settings
    flip: float
    mirrored: tuple[int, ...]

    def clips(self, sample: Sample, keys: Sequence[int]) -> tuple[Tensor, list[bool]]:
        """One clip for each key, float32 `[R, C, T, H, W]`, and which of them are mirrored. Raises VideoError."""
        footage = sample.open(keys[0])

        def read() -> tuple[list[list[int]], dict[int, Pixels]]:
            plans = [self._frames(footage.time_s, footage.fps, footage.duration_s, sample.span, key) for key in keys]
            wanted = sorted({i for plan in plans for i in plan})
            return plans, {frame.index: frame.data for frame in footage.frames(wanted, self._decoded)}

        plans, frames = settled(read)
        made = [self._clip(np.stack([frames[i] for i in p]), key) for p, key in zip(plans, keys, strict=True)]
        return torch.stack([clip for clip, _ in made]), [flipped for _, flipped in made]

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

    def _clip(self, frames: Pixels, key: int) -> tuple[Tensor, bool]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(key)
            flipped = bool(torch.rand(()) < self.flip)
            if self._transform is None and not flipped:
                return self._normalised(frames), False
            video = tv_tensors.Video(torch.from_numpy(frames).permute(0, 3, 1, 2))  # [T, C, H, W]
            if self._transform is not None:
                video = self._transform(video)
            if flipped:
                video = v2.functional.horizontal_flip(video)
        return self._normalised(video.permute(0, 2, 3, 1).numpy()), flipped

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
    """Raises SpecError where mirrored clips would get wrong labels, and for clips that are of no common size."""
    input_size(protocol)
    if unknown := sorted({*settings.flip_labels, *settings.flip_labels.values()} - set(labels)):
        raise SpecError(f"flip_labels: {unknown[0]!r} is no label of the data", hint=f"they are {', '.join(labels)}")
    pairs = dict(settings.flip_labels) | {new: old for old, new in settings.flip_labels.items()}
    sided = [label for label in names_a_side(labels) if label not in pairs]
    if settings.flip and sided:
        raise SpecError(
            f"flip={settings.flip}, but in a mirror {sided[0]!r} is something else",
            hint="say flip=0, or which labels change places: flip_labels={'turn left': 'turn right'}",
        )
    flip = settings.flip if settings.flip is not None else 0.0 if sided else 0.5
    return Recipe(protocol, settings, flip, tuple(labels.index(pairs.get(label, label)) for label in labels))


def input_size(protocol: Preprocessing) -> tuple[int, int]:
    """(height, width) of the network's clips. Raises SpecError where it depends on the video."""
    size = protocol.crop or protocol.resize
    if size is None or (protocol.crop is None and isinstance(size, int)):
        raise SpecError(
            f"the protocol gives clips of different sizes ({protocol.describe()})",
            hint="set a crop, such as protocol={'resize': 128, 'crop': 112}",
        )
    return (size, size) if isinstance(size, int) else size
