"""What the checks look at: the small variant of a model, what it says of a clip, and how far two answers are apart."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.func import functional_call

from zoo import factory
from zoo.contract import VideoModel
from zoo.cost import build_on_meta, protocol_shape
from zoo.spec import Geometry, ModelSpec, Preprocessing
from zoo.testing.shaking import perturb
from zoo.testing.world import restored

SMALL_FRAMES, SMALL_SIDE = 8, 32


class Subject(NamedTuple):
    """A model in evaluation mode, a batch of two clips, and what it says of them. Checks share it: read only."""

    model: VideoModel
    clip: Tensor
    output: Tensor


@lru_cache(maxsize=1)  # checks come grouped by spec
def subject(spec: ModelSpec) -> Subject:
    """The small variant of a spec with perturbed weights."""
    model = build_small(spec)
    clip = small_clip(model)
    return Subject(model, clip, run(model, clip))


@lru_cache(maxsize=1)
def whole(spec: ModelSpec) -> VideoModel:
    """The model with its default options, on the meta device. Checks share it: read only."""
    return build_on_meta(spec)


def build_small(spec: ModelSpec, *, num_classes: int | None = None, seed: int = 0) -> VideoModel:
    """A new small variant, perturbed, in evaluation mode; the global random state stays as it is."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = factory.build(spec.full_name, num_classes=num_classes, **spec.small)
    perturb(model, seed=seed)
    return model.eval()


def run(model: VideoModel, clip: Tensor) -> Tensor:
    """What the model says of a copy of the clip; whatever else it does to the process is taken back."""
    with restored(), torch.no_grad():
        output: Tensor = model(clip.clone())
    return output


def in_training(model: VideoModel, clip: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """What the model says in training mode, and its buffers afterwards; its own stay as they are."""
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    model.train()
    try:
        return functional_call(model, buffers, (clip.clone(),)), buffers
    finally:
        model.eval()


def small_clip(model: VideoModel, *, batch: int = 2, seed: int = 0) -> Tensor:
    """Noise, as few frames and pixels as the model takes; the clip of its protocol where it declares no geometry."""
    shape = smallest(model.geometry) if model.geometry else whole_shape(model)
    return torch.randn(batch, *shape, generator=torch.Generator().manual_seed(seed))


def smallest(geometry: Geometry) -> tuple[int, int, int, int]:
    """A clip `(C, T, H, W)` that fits; small, but more than one frame and one pixel where that is allowed."""
    frames = geometry.frames or _up(max(geometry.min_frames, SMALL_FRAMES), geometry.frames_multiple)
    side = _up(max(geometry.min_size, SMALL_SIDE), geometry.size_multiple)
    height, width = geometry.size or (side, side)
    return geometry.channels, frames, height, width


def whole_shape(model: VideoModel) -> tuple[int, int, int, int]:
    """The clip `(C, T, H, W)` of the model's protocol, or of its weights'; without any, the smallest it takes."""
    protocols = protocols_of(model.spec) if model.spec else []
    if not protocols and model.geometry:
        return smallest(model.geometry)
    return protocol_shape(protocols[0] if protocols else Preprocessing(num_frames=16))


def protocols_of(spec: ModelSpec) -> list[Preprocessing]:
    """The spec's protocol and those of its weights."""
    return [p for p in (spec.preprocessing, *(w.preprocessing for w in spec.weights.values())) if p]


def difference(a: Tensor, b: Tensor) -> float:
    """The largest difference of two outputs relative to the largest value; infinite if they cannot be compared."""
    if a.shape != b.shape or not (a.isfinite().all() and b.isfinite().all()):
        return float("inf")
    scale = max(float(a.abs().max()), float(b.abs().max()), 1e-30)
    return float((a.double() - b.double()).abs().max()) / scale


def _up(least: int, multiple: int) -> int:
    return -(-least // multiple) * multiple
