"""A camera that moves over a picture: paths with a known label, and the frames that such a camera sees.

A path says where the camera is at each moment, so its sign conventions are the meaning of the labels: `x` grows to the
right, `y` grows upwards, `zoom` grows when things get larger, `roll` grows clockwise. Content moves the other way.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

LABELS = (
    "static",
    "pan_left",
    "pan_right",
    "tilt_up",
    "tilt_down",
    "zoom_in",
    "zoom_out",
    "roll_cw",
    "roll_ccw",
)

Array = NDArray[np.float64]

# Label -> (axis of Path, direction).
MOVES = {
    "pan_left": ("x", -1),
    "pan_right": ("x", 1),
    "tilt_up": ("y", 1),
    "tilt_down": ("y", -1),
    "zoom_in": ("zoom", 1),
    "zoom_out": ("zoom", -1),
    "roll_cw": ("roll", 1),
    "roll_ccw": ("roll", -1),
}
# What counts as moving, per second: fractions of the frame's width or height, powers of e, radians.
SPEEDS = {"x": (0.03, 0.9), "y": (0.03, 0.9), "zoom": (0.05, 0.8), "roll": (0.05, 1.0)}
LIMITS = {"x": 3.0, "y": 3.0, "zoom": 1.1, "roll": 2.4}  # over a whole clip, however long it is
FLOW = {"x": 1.0, "y": 1.0, "zoom": 0.4, "roll": 0.4}  # mean displacement in the picture per unit of each axis
STILL = 0.009  # the drift per clip that is still `static`, as a displacement in the picture


@dataclass(frozen=True)
class Path:
    """Where the camera is at each of T moments.

    x, y: right and up, in widths and heights of the frame. zoom: natural logarithm of the magnification.
    roll: clockwise, in radians.
    """

    x: Array
    y: Array
    zoom: Array
    roll: Array

    def __len__(self) -> int:
        return len(self.x)


def draw_path(rng: np.random.Generator, label: str, times: Array) -> Path:
    """A path with this label at these times (seconds): easing, handheld shake, and some drift along other axes."""
    axes = {name: np.zeros(len(times)) for name in SPEEDS}
    duration = max(float(times[-1] - times[0]), 0.2)
    flow = 0.0
    if label in MOVES:
        main, sign = MOVES[label]
        low, high = SPEEDS[main]
        amount = min(low * (high / low) ** rng.random() * duration, LIMITS[main])
        axes[main] += sign * amount * _progress(rng, times)
        flow = amount * FLOW[main]
    if rng.random() < 0.6:
        for name, values in axes.items():
            if label not in MOVES or name != MOVES[label][0]:
                most = max(STILL, 0.25 * flow) * rng.random() ** 2 / FLOW[name]
                values += rng.choice((-1, 1)) * most * _progress(rng, times)
    if rng.random() < 0.6:
        most = min(max(STILL, 0.25 * flow), 0.014) * rng.random()
        for name, values in axes.items():
            values += _shake(rng, times) * most / FLOW[name] * (0.3 if name == "zoom" else 1.0)
    return Path(**axes)


def _progress(rng: np.random.Generator, times: Array) -> Array:
    """From 0 at the first time to 1 at the last: constant speed, easing, part of a longer move, or with a hold."""
    if len(times) < 2 or times[-1] <= times[0]:
        return np.zeros(len(times))
    u = (times - times[0]) / (times[-1] - times[0])
    kind = rng.integers(6)
    if kind == 1:  # eased at both ends
        return np.asarray(u * u * (3 - 2 * u))
    if kind == 2:  # a piece of a longer eased move
        start, stop = np.sort(rng.random(2))
        start, stop = start * (1 - 0.4), min(stop + 0.4, 1.0)
        v = start + (stop - start) * u
        eased = v * v * (3 - 2 * v)
        return np.asarray((eased - eased[0]) / (eased[-1] - eased[0]))
    if kind == 3:  # holds at either end
        start, stop = 0.25 * rng.random(), 1 - 0.25 * rng.random()
        return np.asarray(np.clip((u - start) / (stop - start), 0, 1))
    if kind == 4:  # speeds up or slows down
        power = 0.6 + rng.random()
        return np.asarray(u**power)
    return np.asarray(u)


def _shake(rng: np.random.Generator, times: Array) -> Array:
    """A few oscillations of 1.5 to 8 Hz about zero, of amplitude 1 or less, with no net motion."""
    value = np.zeros(len(times))
    for _ in range(3):
        frequency = rng.uniform(1.5, 8)
        value += rng.uniform(0.1, 0.5) * np.sin(2 * np.pi * (frequency * times + rng.random()))
    trend = np.linspace(value[0], value[-1], len(times)) if len(times) > 1 else 0.0
    return np.asarray(value - trend)


def view_points(
    path: Path, size: tuple[int, int], *, view: float, aspect: float | None = None, angle: float = 0.0
) -> Tensor:
    """Where each pixel of each frame looks: `[T, h, w, 2]` as (x, y) in source pixels from the starting point.

    view: source pixels per side of the frame (root of its area) at magnification 1. angle: of the starting view.
    aspect: width by height of the frame before it was squeezed into `size`; None when pixels are square.
    """
    h, w = size
    aspect = aspect or w / h
    across, down = view * aspect**0.5, view / aspect**0.5
    middle = (path.zoom.max() + path.zoom.min()) / 2
    scale = np.exp(middle - path.zoom)
    cos, sin = np.cos(angle), np.sin(angle)
    dx, dy = path.x * across, -path.y * down
    turn = angle + path.roll
    rows = np.empty((len(path), 2, 3))
    # A camera turned clockwise sees, at screen offset p, the world at p turned clockwise (y points down).
    rows[:, 0] = np.stack([scale * np.cos(turn) * across, -scale * np.sin(turn) * down, cos * dx - sin * dy], 1)
    rows[:, 1] = np.stack([scale * np.sin(turn) * across, scale * np.cos(turn) * down, sin * dx + cos * dy], 1)
    return screen(size) @ torch.from_numpy(rows).float().transpose(1, 2)[:, None]


def screen(size: tuple[int, int]) -> Tensor:
    """Homogeneous offsets of the pixel centres from the middle of the frame, `[h, w, 3]`, sides of length 1."""
    h, w = size
    y = (torch.arange(h) + 0.5) / h - 0.5
    x = (torch.arange(w) + 0.5) / w - 0.5
    return torch.stack([x.expand(h, w), y[:, None].expand(h, w), torch.ones(h, w)], -1)


def sample(source: Tensor, points: Tensor, start: tuple[float, float]) -> Tensor:
    """What is at `points` of `source` (`[C, H, W]`, or `[T, C, H, W]`), mirrored beyond its edges: `[T, C, h, w]`."""
    height, width = source.shape[-2:]
    unit = torch.tensor([width, height], dtype=torch.float32)
    grid = (points + torch.tensor(start, dtype=torch.float32)) * (2 / unit) - 1
    frames = source.expand(len(points), -1, -1, -1) if source.ndim == 3 else source
    return F.grid_sample(frames, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def move_camera(
    source: Tensor, path: Path, size: tuple[int, int], *, view: float = 0.6, supersample: int = 2
) -> Tensor:
    """Frames `[T, h, w, 3]` uint8 of a camera that moves over a still `[H, W, 3]` or over frames `[T, H, W, 3]`.

    view: how much of the largest box of the frame's shape in the source is seen at magnification 1.
    """
    h, w = size
    planes = source.movedim(-1, -3).float()
    height, width = planes.shape[-2:]
    pixels = view * min(width / w, height / h) * (w * h) ** 0.5
    points = view_points(path, (h * supersample, w * supersample), view=pixels)
    frames = sample(planes, points, (width / 2, height / 2))
    return F.avg_pool2d(frames, supersample).movedim(1, -1).round().clamp(0, 255).to(torch.uint8)
