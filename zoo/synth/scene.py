"""What happens between the world and the file: things that move, captions, light, lens, sensor and compression.

Everything here is a distractor: nothing changes what the camera does, so nothing may change the label.
Clips are float tensors `[T, 3, h, w]` in 0..1.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from zoo.synth.camera import Array, sample, screen
from zoo.synth.worlds import fractal

Rng = np.random.Generator


def add_objects(rng: Rng, clip: Tensor, points: Tensor, texture: Tensor, times: Array, view: float) -> Tensor:
    """Things that move on their own, at most about a third of the picture: some pass by, some are followed.

    points: `[T, h, w, 2]`, where each pixel looks in the world. texture: `[3, H, W]`, what the things are made of.
    """
    h, w = clip.shape[-2:]
    room = rng.uniform(0.02, 0.4)
    flat = screen((h, w))[..., :2]
    seconds = torch.from_numpy(times - times.mean()).float()[:, None, None]
    for _ in range(rng.integers(1, 5)):
        area = room * rng.uniform(0.2, 0.8)
        room -= area
        radius = (area / np.pi) ** 0.5
        stretch = np.exp(rng.normal(0, 0.3))
        at, speed = rng.uniform(-0.5, 0.5, 2), rng.normal(0, rng.choice((0.15, 0.4, 0.8)), 2)
        wave, pace = rng.normal(0, 0.05, 2), rng.uniform(0.5, 3)
        moved = [at[i] + speed[i] * seconds + wave[i] * torch.sin(seconds * pace * 6.28) for i in range(2)]
        if rng.random() < 0.5:  # part of the world: moves on top of the world's motion
            offset = (points - points[len(points) // 2].mean((0, 1))) / view
            x, y = offset[..., 0] - moved[0], offset[..., 1] - moved[1]
        else:  # followed by the camera, or passing before it
            x, y = flat[..., 0] - moved[0], flat[..., 1] - moved[1]
        grow = torch.exp(seconds * rng.normal(0, 0.25)) * radius
        x, y = x / (grow * stretch), y / (grow / stretch)
        mask = _covered(x, y, float(radius * min(h, w)), box=rng.random() < 0.4)
        skin = torch.from_numpy(rng.uniform(0, 1, 3)).float()[:, None, None]
        if rng.random() < 0.7:
            pattern = torch.stack([x, y], -1) * (radius * view)
            skin = sample(texture, pattern, tuple(rng.uniform(0, texture.shape[-1], 2))) * 0.8 + 0.2 * skin
        clip = clip + mask * (skin - clip)
    return clip


def add_passers(rng: Rng, clip: Tensor, texture: Tensor, times: Array) -> Tensor:
    """One or two things that cross the picture, or stay in it and show what slides by.

    As boxes they are a twelfth to a third of it, and they move 0.1 to 0.9 of its sides a second. What is behind them
    loses contrast, down to a tenth. clip: `[T, 3, h, w]`. texture: `[3, H, W]`, what the things are made of. times: of
    the frames, in seconds.
    """
    h, w = clip.shape[-2:]
    mean = clip.mean((0, 2, 3))[:, None, None]
    clip = mean + (clip - mean) * float(rng.uniform(0.1, 1))
    flat = screen((h, w))[..., :2]
    seconds = torch.from_numpy(times - times.mean()).float()[:, None, None]
    skin = texture.flip(-1) if rng.random() < 0.5 else 1 - texture.flip(-2)
    for _ in range(rng.integers(1, 3)):
        area = rng.uniform(1 / 12, 1 / 3)
        stretch = float(np.exp(rng.normal(0, 0.5)))
        wide, high = np.sqrt(area) * stretch / 2, np.sqrt(area) / stretch / 2
        angle = rng.uniform(0, 2 * np.pi) if rng.random() < 0.6 else rng.integers(4) * np.pi / 2
        speed = rng.uniform(0.1, 0.9) * np.array([np.cos(angle), np.sin(angle)])
        at = rng.uniform(-0.3, 0.3, 2)
        moved = [at[i] + speed[i] * seconds for i in range(2)]
        stays = rng.random() < 0.3
        where = [at[i] + 0 * seconds if stays else moved[i] for i in range(2)]
        x, y = (flat[..., 0] - where[0]) / wide, (flat[..., 1] - where[1]) / high
        mask = _covered(x, y, float(min(wide * w, high * h)), box=stays or rng.random() < 0.4)
        fine = float(rng.uniform(0.3, 1.2)) * texture.shape[-1]
        within = torch.stack([flat[..., 0] - moved[0], flat[..., 1] - moved[1]], -1) * fine
        paint = sample(skin, within, tuple(rng.uniform(0, texture.shape[-1], 2)))
        clip = clip + mask * (paint - clip)
    return clip


def _covered(x: Tensor, y: Tensor, pixels: float, *, box: bool) -> Tensor:
    """How much of each pixel a thing that reaches from -1 to 1, over so many pixels, hides: `[T, 1, h, w]` in 0..1."""
    away = torch.maximum(x.abs(), y.abs()) if box else (x.square() + y.square()).sqrt()
    return ((1 - away) * pixels).clamp(0, 1)[:, None]


def add_layer(rng: Rng, clip: Tensor, points: Tensor, texture: Tensor) -> Tensor:
    """Things on a plane before the rest, such as leaves or pillars, over at most about a third of the picture.

    points: `[T, h, w, 2]`, where each pixel looks on that plane. texture: `[3, H, W]`, what the things are made of.
    """
    side = texture.shape[-1]
    field = torch.from_numpy(fractal(rng, side, rng.uniform(1.6, 2.4)))[None]
    least = float(torch.quantile(field.flatten()[::7], float(rng.uniform(0.65, 0.95))))
    mask = ((field - least) * float(rng.uniform(10, 40))).clamp(0, 1)
    start = (side / 2, side / 2)
    covered = sample(mask, points, start)
    return clip + covered * (sample(texture.flip(-1, -2), points, start) - clip)


def shutter(rng: Rng, clip: Tensor, points: Tensor, source: Tensor, start: tuple[float, float]) -> Tensor:
    """Motion blur: each frame also holds what the camera saw a moment before and after."""
    if len(points) == 1:
        return clip
    step = points.diff(dim=0, prepend=2 * points[:1] - points[1:2]) * float(rng.uniform(0.05, 0.25))
    return (clip + sample(source, points - step, start) + sample(source, points + step, start)) / 3


def add_overlay(rng: Rng, clip: Tensor) -> Tensor:
    """What does not move with the picture: captions, a logo, or the black bars of another aspect."""
    h, w = clip.shape[-2:]
    clip = clip.clone()
    if rng.random() < 0.5:
        bar = int(rng.uniform(0.04, 0.14) * h)
        if rng.random() < 0.7:
            clip[..., :bar, :] = clip[..., h - bar :, :] = 0
        else:
            clip[..., :bar] = clip[..., w - bar :] = 0
    else:
        rows, columns = min(int(rng.integers(4, 14)), h - 5), min(int(rng.integers(10, 80)), w - 1)
        strokes = torch.from_numpy(rng.random((rows, columns)) < 0.5)
        top, left = int(rng.choice((int(rng.integers(0, h // 6)), h - 4 - rows))), int(rng.integers(0, w - columns))
        area = clip[..., top : top + rows, left : left + columns]
        area[...] = torch.where(strokes[: area.shape[-2]], float(rng.random() < 0.8), area)
    return clip


def light(rng: Rng, clip: Tensor) -> Tensor:
    """Exposure that flickers, ramps or jumps a little, contrast, and a darker rim."""
    steps, _, h, w = clip.shape
    u = torch.linspace(-1, 1, steps)
    change = u * rng.normal(0, 0.12) + torch.sin(u * rng.uniform(1, 9)) * rng.normal(0, 0.05)
    change = change + torch.from_numpy(rng.normal(0, rng.choice((0.0, 0.02, 0.05)), steps)).float()
    gain = torch.exp(change)[:, None, None, None] * float(np.exp(rng.normal(0, 0.15)))
    contrast = float(np.exp(rng.normal(0, 0.2)))
    if rng.random() < 0.25:  # haze
        contrast *= float(rng.uniform(0.2, 0.7))
    grey = float(rng.uniform(0.3, 0.7))
    clip = ((clip - grey) * contrast + grey) * gain + float(rng.normal(0, 0.04))
    if rng.random() < 0.3:
        distance = screen((h, w))[..., :2].square().sum(-1)
        clip = clip * (1 - float(rng.uniform(0.2, 1.2)) * distance)
    return clip


def blur(rng: Rng, clip: Tensor) -> Tensor:
    """A lens slightly out of focus."""
    weight = float(rng.uniform(0.1, 0.33))
    kernel = torch.tensor([weight, 1 - 2 * weight, weight])
    kernel = (kernel[:, None] * kernel).expand(3, 1, 3, 3)
    for _ in range(rng.integers(1, 4)):
        clip = F.conv2d(F.pad(clip, (1, 1, 1, 1), mode="replicate"), kernel, groups=3)
    return clip


def _dct() -> Tensor:
    k, n = torch.arange(8.0)[:, None], torch.arange(8.0)[None]
    basis = torch.cos(torch.pi * (n + 0.5) * k / 8) * 0.5
    basis[0] *= 0.5**0.5
    return basis


DCT = _dct()
FALLOFF = 1 + (torch.arange(8.0)[:, None] + torch.arange(8.0)) * 0.35  # high frequencies are rounded more


def quantise(picture: Tensor, step: float, dead: float = 0.5) -> Tensor:
    """Round 8x8 blocks in frequency; `dead` above one half drops what is small, as video encoders do."""
    h, w = picture.shape[-2:]
    blocks = picture.reshape(*picture.shape[:-2], h // 8, 8, w // 8, 8).movedim(-3, -2)  # (.., h/8, w/8, 8, 8)
    waves = DCT @ blocks @ DCT.T / (step * FALLOFF)
    waves = torch.sign(waves) * torch.floor(waves.abs() + 1 - dead)
    blocks = DCT.T @ (waves * (step * FALLOFF)) @ DCT
    return blocks.movedim(-2, -3).reshape(picture.shape)


def compress(rng: Rng, clip: Tensor) -> Tensor:
    """Coarse blocks: each frame alone as in JPEG, or each frame's change as in video, where weak changes vanish."""
    step = float(0.03 * (10 ** rng.uniform(0, 0.9)))
    if rng.random() < 0.5:
        return quantise(clip, step)
    frames = [quantise(clip[0], step)]
    for frame in clip[1:]:
        frames.append(frames[-1] + quantise(frame - frames[-1], step * 0.7, dead=0.65))
    return torch.stack(frames)


def sensor(rng: Rng, clip: Tensor) -> Tensor:
    """Noise that is new in each frame."""
    spread = float(rng.uniform(0.0, 0.04))
    noise = torch.from_numpy(rng.standard_normal(clip.shape, dtype=np.float32))
    return clip + spread * noise
