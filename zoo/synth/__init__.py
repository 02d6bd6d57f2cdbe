"""Clips with a known camera motion, made from nothing but a seed: for the demo, the tests and the training.

    clip = synth.generate("pan_right", seed=0)     # 3 s at 30 fps, 256x256

Needs torch and numpy only. The same arguments give the same clip, and no global random state is read or changed.
`camera` moves a camera over any picture, `worlds` draws pictures, `scene` adds what may not change the label.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from zoo.errors import SpecError
from zoo.synth import scene, worlds
from zoo.synth.camera import FLOW, LABELS, MOVES, Array, Path, draw_path, move_camera, sample, view_points
from zoo.synth.worlds import draw_world

__all__ = [
    "FLOW",
    "LABELS",
    "MOVES",
    "Clip",
    "Path",
    "draw_path",
    "draw_world",
    "generate",
    "move_camera",
    "render",
    "scene",
    "worlds",
]

LEAST_CONTRAST = 0.015  # standard deviation of all values; of 1,450 clips one was below, and none other below 0.027


@dataclass(frozen=True)
class Clip:
    """frames `[T, h, w, 3]` uint8 shown at `fps`; the label of its camera motion, and the path that it took."""

    frames: Tensor
    label: str
    fps: float
    path: Path


def generate(
    label: str | None = None,
    *,
    seed: int,
    duration_s: float = 3.0,
    fps: float = 30.0,
    size: tuple[int, int] = (256, 256),
    distract: bool = True,
) -> Clip:
    """A clip of this length, frame rate and (height, width); without a label the seed draws one.

    distract: moving things, captions, flicker, blur, noise and compression, each on some clips; drift and shake stay.
    """
    if label is not None and label not in LABELS:
        raise SpecError(f"no camera motion is called {label!r}", hint=f"choose one of {', '.join(LABELS)}")
    rng = np.random.default_rng(seed)
    drawn = LABELS[rng.integers(len(LABELS))]
    times = np.arange(max(round(duration_s * fps), 1)) / fps
    path = draw_path(rng, label or drawn, times)
    detail = max(size) * 2
    world = _planes(draw_world(rng, min(max(detail, 320), 1024)))
    frames = render(rng, world, path, times, size=size, aspect=size[1] / size[0], distract=distract)
    return Clip((frames.movedim(1, -1) * 255).round().to(torch.uint8), label or drawn, fps, path)


def render(
    rng: np.random.Generator,
    world: Tensor,
    path: Path,
    times: Array,
    *,
    size: tuple[int, int],
    aspect: float,
    distract: bool = True,
    deep: bool = False,
    busy: bool = False,
) -> Tensor:
    """What a camera on this path sees of a world `[3, H, W]`, squeezed into `size`: `[T, 3, h, w]` in 0..1.

    deep: some clips have things that are nearer than the rest, and that pass by faster. busy: large things move before
    a picture of any contrast.
    """
    side = world.shape[-1]
    view = side * rng.uniform(0.38, 0.75)
    fine = 16 if max(size) <= 128 else 8  # small pictures are made twice as fine, all in whole blocks of 8
    inner = (-(-size[0] // 8) * fine, -(-size[1] // 8) * fine)
    how = {"view": view, "aspect": aspect, "angle": rng.normal(0, 0.15)}
    points = view_points(path, inner, **how)
    start = _somewhere(rng, world, view)
    near = _nearer(rng, path, inner, how) if deep and rng.random() < 0.4 else []
    coarse = view > 1.6 * (inner[0] * inner[1]) ** 0.5
    source = F.avg_pool2d(world, 2) if coarse else world
    if coarse:
        points, view, start = points / 2, view / 2, (start[0] / 2, start[1] / 2)
        near = [layer / 2 for layer in near]
    clip = sample(source, points, start)
    if float(clip.std()) < LEAST_CONTRAST:  # a camera exposes for what it sees: no clip is black all over
        source = (source - clip.mean()) / clip.std().clamp(min=1e-4) * 0.1 + 0.45
        clip = sample(source, points, start)
    for layer in near:
        clip = scene.add_layer(rng, clip, layer, source)
    if busy:
        clip = scene.add_passers(rng, clip, source, times)
    if not distract:
        return F.interpolate(clip, size, mode="bilinear", antialias=True).clamp(0, 1)
    if rng.random() < 0.12:
        clip = scene.shutter(rng, clip, points, source, start)
    if rng.random() < 0.45:
        clip = scene.add_objects(rng, clip, points, source, times, view)
    if rng.random() < 0.15:
        clip = scene.blur(rng, clip)
    if rng.random() < 0.15:
        clip = scene.add_overlay(rng, clip)
    if rng.random() < 0.35:
        clip = scene.compress(rng, clip)
    clip = F.interpolate(clip, size, mode="bilinear", antialias=True)
    if rng.random() < 0.7:
        clip = scene.light(rng, clip)
    if rng.random() < 0.6:
        clip = scene.sensor(rng, clip)
    return clip.clamp(0, 1)


def _nearer(rng: np.random.Generator, path: Path, size: tuple[int, int], how: dict[str, float]) -> list[Tensor]:
    """Where the pixels look on planes that are nearer than the world; the nearest comes last."""
    speeds = np.cumprod(rng.uniform(1.2, 1.8, rng.integers(1, 3)))
    paths = [Path(path.x * speed, path.y * speed, path.zoom, path.roll) for speed in speeds]
    return [view_points(moved, size, **how) for moved in paths]


def _somewhere(rng: np.random.Generator, world: Tensor, view: float) -> tuple[float, float]:
    """A place in the world with something to see around it: the best of a few, so that no clip is a plain wall."""
    side, half = world.shape[-1], int(view / 2)
    places = rng.uniform(0.2 * side, 0.8 * side, (3, 2))
    spread = []
    for x, y in places.astype(int):
        around = world[:, max(y - half, 0) : y + half : 4, max(x - half, 0) : x + half : 4]
        spread.append(float(around.diff(dim=-1).abs().mean() + around.diff(dim=-2).abs().mean()))
    x, y = places[int(np.argmax(spread))]
    return float(x), float(y)


def _planes(picture: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))
