"""Checks of the clips that a model takes: all that its geometry declares, and an error for the rest."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from zoo.cost import build_on_meta, protocol_shape
from zoo.errors import GeometryError
from zoo.spec import Geometry, ModelSpec
from zoo.testing.failure import CheckFailed, require
from zoo.testing.subject import protocols_of, smallest

Shape = tuple[int, int, int, int]


def check_declared_clips_run(spec: ModelSpec) -> None:
    """The clips of the protocols, and longer, larger, oblong and the smallest clips that the geometry allows, run."""
    model = build_on_meta(spec)
    shapes = {protocol_shape(protocol): "the clip of its protocol" for protocol in protocols_of(spec)}
    shapes |= dict(_allowed(model.geometry)) if model.geometry else {}
    for shape, what in shapes.items():
        try:
            with torch.no_grad():
                model(torch.empty(1, *shape, device="meta"))
        except Exception as error:
            raise CheckFailed(
                f"{what}, [B, C, T, H, W] with {shape}, runs",
                f"{type(error).__name__}: {error}",
                "make the network take it, or declare what it takes: geometry=zoo.Geometry(frames=..., size=...)",
            ) from error


def check_other_clips_raise(spec: ModelSpec) -> None:
    """Clips that the geometry rules out raise GeometryError instead of a wrong answer."""
    model = build_on_meta(spec)
    for shape, what in _ruled_out(model.geometry) if model.geometry else ():
        seen = "an answer"
        try:
            with torch.no_grad():
                model(torch.empty(1, *shape, device="meta"))
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
