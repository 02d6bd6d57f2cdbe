"""Checks of the clips that a model takes: all that its geometry declares, and an error for the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import NamedTuple

import torch

from zoo.contract import VideoModel
from zoo.cost import protocol_shape
from zoo.errors import GeometryError
from zoo.spec import Geometry, ModelSpec
from zoo.testing.failure import CheckFailed, require
from zoo.testing.subject import protocols_of, run, smallest, whole

Shape = tuple[int, int, int, int]
BATCH = 2


class Tried(NamedTuple):
    """What the whole model makes of BATCH clips on the meta device: the shape of its answer, or an error."""

    what: str
    shape: Shape
    answer: tuple[int, ...]
    error: Exception | None


@lru_cache(maxsize=1)
def tried(spec: ModelSpec) -> tuple[Tried, ...]:
    """The clips of the protocols, and longer, larger, oblong and the smallest clips that the geometry allows."""
    model = whole(spec)
    shapes = {protocol_shape(protocol): "the clip of its protocol" for protocol in protocols_of(spec)}
    shapes |= dict(_allowed(model.geometry)) if model.geometry else {}
    return tuple(_try(model, shape, what) for shape, what in shapes.items())


def _try(model: VideoModel, shape: Shape, what: str) -> Tried:
    try:
        answer = run(model, torch.empty(BATCH, *shape, device="meta"))
    except Exception as error:
        return Tried(what, shape, (), error)
    return Tried(what, shape, tuple(answer.shape), None)


def check_declared_clips_run(spec: ModelSpec) -> None:
    """The clips of the protocols, and longer, larger, oblong and the smallest clips that the geometry allows, run."""
    for one in tried(spec):
        _require_run(one)


def require_answers(spec: ModelSpec, wanted: Callable[[Shape], tuple[int, ...]]) -> None:
    """Every declared clip, and one twice as long, gives an answer of the shape `wanted` for the shape of one clip."""
    if any(one.error for one in tried(spec)):
        return  # check_declared_clips_run says it
    model = whole(spec)
    further = [_try(model, shape, what) for shape, what in _further(model.geometry)] if model.geometry else []
    for one in (*tried(spec), *further):
        _require_run(one)
        what, shape, answer, _ = one
        require(
            answer == wanted(shape),
            expected=f"{wanted(shape)} for {BATCH} clips {shape}, {what}",
            seen=f"{answer}",
            fix="keep dimension 0 for clips: a view(-1, ...) or reshape that puts time into the batch must be undone",
        )


def _require_run(one: Tried) -> None:
    if one.error is not None:
        raise CheckFailed(
            f"{one.what}, [B, C, T, H, W] with {one.shape}, runs",
            f"{type(one.error).__name__}: {one.error}",
            "make the network take it, or declare what it takes: geometry=zoo.Geometry(frames=..., size=...)",
        ) from one.error


def check_other_clips_raise(spec: ModelSpec) -> None:
    """Clips that the geometry rules out raise GeometryError instead of a wrong answer."""
    model = whole(spec)
    for shape, what in _ruled_out(model.geometry) if model.geometry else ():
        seen = "an answer"
        try:
            run(model, torch.empty(1, *shape, device="meta"))
        except GeometryError:
            continue
        except Exception as error:
            seen = f"{type(error).__name__}: {error}"
        require(
            False,
            expected=f"GeometryError for {what}, as the model takes {model.geometry}",
            seen=seen,
            fix="call self.check_geometry(clip) at the start of forward, or leave forward to zoo.VideoModel",
        )


def _allowed(geometry: Geometry) -> Iterator[tuple[Shape, str]]:
    channels, frames, height, width = smallest(geometry)
    least = geometry.frames or _first(geometry.min_frames, geometry.frames_multiple)
    side = _first(geometry.min_size, geometry.size_multiple)
    low, narrow = geometry.size or (side, side)
    yield (channels, least, low, narrow), "the smallest clip of its geometry"
    if geometry.frames is None:
        yield (channels, frames + geometry.frames_multiple, height, width), "a longer clip"
    if geometry.size is None:
        yield (channels, frames, height + geometry.size_multiple, width + geometry.size_multiple), "a larger clip"
        yield (channels, frames, height, width + geometry.size_multiple), "an oblong clip"


def _further(geometry: Geometry) -> Iterator[tuple[Shape, str]]:
    channels, frames, height, width = smallest(geometry)
    if geometry.frames is None:
        yield (channels, 2 * frames, height, width), "a clip twice as long"


def _ruled_out(geometry: Geometry) -> Iterator[tuple[Shape, str]]:
    channels, frames, height, width = smallest(geometry)
    yield (channels + 1, frames, height, width), f"{channels + 1} channels"
    if geometry.frames is not None or geometry.frames_multiple > 1:
        yield (channels, frames + 1, height, width), f"{frames + 1} frames"
    if geometry.frames is None and geometry.min_frames > 1:
        yield (channels, geometry.min_frames - 1, height, width), f"{geometry.min_frames - 1} frames"
    if geometry.size is not None or geometry.size_multiple > 1:
        yield (channels, frames, height, width + 1), f"{height}x{width + 1} pixels"
    if geometry.size is None and geometry.min_size > 1:
        yield (channels, frames, geometry.min_size - 1, width), f"{geometry.min_size - 1}x{width} pixels"


def _first(least: int, multiple: int) -> int:
    return -(-least // multiple) * multiple
