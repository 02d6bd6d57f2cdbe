"""Pictures to move a camera over: procedural stills with the statistics that make natural images hard.

Power-law textures, occluding shapes of all sizes, horizons under a smooth sky, a few things before nothing, rows of
text, tiles and keys, and pictures that are mostly dark. No picture is read from anywhere.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.float32]  # [H, W, 3] in 0..1
Rng = np.random.Generator


def draw_world(rng: Rng, size: int = 320) -> Picture:
    """One still of size x size pixels; it always has some structure to hold on to."""
    kinds: tuple[tuple[Callable[[Rng, int], Picture], float], ...] = (
        (leaves, 0.28),
        (noise, 0.12),
        (landscape, 0.22),
        (sparse, 0.14),
        (text, 0.1),
        (tiles, 0.14),
    )
    draw = kinds[rng.choice(len(kinds), p=[share for _, share in kinds])][0]
    picture = draw(rng, size)
    if rng.random() < 0.12:
        picture = spotlight(rng, picture)
    return grade(rng, picture)


def fractal(rng: Rng, size: int, slope: float) -> Picture:
    """Noise whose amplitude falls as 1/f^slope, `[size, size]`, mean 0 and deviation 1."""
    fy = np.fft.fftfreq(size)[:, None]
    fx = np.fft.rfftfreq(size)[None]
    amplitude = np.maximum(np.hypot(fx, fy), 1 / size) ** -slope
    spectrum = amplitude * (rng.standard_normal(amplitude.shape) + 1j * rng.standard_normal(amplitude.shape))
    spectrum[0, 0] = 0
    field = np.fft.irfft2(spectrum, s=(size, size))
    return np.asarray((field - field.mean()) / (field.std() + 1e-9), dtype=np.float32)


def colours(rng: Rng, count: int) -> Picture:
    """A palette: brightness varies much, hue less."""
    base = rng.uniform(0.05, 0.95, (count, 1))
    tint = rng.normal(0, rng.uniform(0.02, 0.25), (1, 3)) + rng.normal(0, rng.uniform(0.02, 0.2), (count, 3))
    return np.clip(base + tint, 0, 1).astype(np.float32)


def gradient(rng: Rng, size: int) -> Picture:
    """A smooth change between two colours in some direction."""
    angle = rng.uniform(0, 2 * np.pi)
    ramp = np.linspace(-0.5, 0.5, size, dtype=np.float32)
    t = np.clip(0.5 + ramp[None] * np.cos(angle) + ramp[:, None] * np.sin(angle), 0, 1)[..., None].astype(np.float32)
    a, b = colours(rng, 2)
    return np.asarray(a + (b - a) * t)


def noise(rng: Rng, size: int) -> Picture:
    """Clouds, grass, rock: power-law noise in two correlated colour directions."""
    slope = rng.uniform(0.8, 2.1)
    light = fractal(rng, size, slope)[..., None] * rng.uniform(0.08, 0.25)
    hue = fractal(rng, size, rng.uniform(1.0, 2.0))[..., None] * rng.normal(0, 0.07, 3).astype(np.float32)
    return np.clip(gradient(rng, size) * 0.5 + 0.25 + light + hue, 0, 1).astype(np.float32)


def shape_mask(rng: Rng, radius: float, *, upright: bool = False) -> Picture:
    """Coverage in 0..1 of a random ellipse, box or polygon that fits its radius."""
    side = int(2 * radius + 3)
    grid = np.arange(side, dtype=np.float32) - (side - 1) / 2
    angle = rng.normal(0, 0.05) if upright else rng.uniform(0, np.pi)
    cos, sin = np.cos(angle), np.sin(angle)
    x, y = grid[None] * cos + grid[:, None] * sin, grid[:, None] * cos - grid[None] * sin
    flat = rng.uniform(0.25, 1) if not upright else rng.uniform(0.15, 0.9)
    kind = rng.integers(4)
    if upright or kind == 0:
        distance = np.maximum(np.abs(x) - radius * 0.7 * flat, np.abs(y) - radius * 0.7)
    elif kind == 1:  # a polygon: what several half planes leave
        turns = rng.uniform(0, 2 * np.pi, rng.integers(3, 7))
        sides = [x * np.cos(t) + y * np.sin(t) - radius * rng.uniform(0.3, 0.8) for t in turns]
        distance = np.maximum(np.max(sides, axis=0), np.hypot(x, y) - radius)
    else:
        distance = (np.hypot(x / flat, y) - radius) * flat
    return np.asarray(np.clip(0.5 - distance, 0, 1), dtype=np.float32)


def paste(picture: Picture, mask: Picture, paint: Picture, top: int, left: int) -> None:
    """Cover the picture with paint (`[3]` or as large as the mask) where the mask is; outside parts are cut."""
    h, w = mask.shape
    y0, x0, y1, x1 = max(top, 0), max(left, 0), min(top + h, picture.shape[0]), min(left + w, picture.shape[1])
    if y0 >= y1 or x0 >= x1:
        return
    part = mask[y0 - top : y1 - top, x0 - left : x1 - left, None]
    if paint.ndim == 3:
        paint = paint[y0 - top : y1 - top, x0 - left : x1 - left]
    area = picture[y0:y1, x0:x1]
    area += part * (paint - area)


def scatter(
    rng: Rng,
    picture: Picture,
    count: int,
    radii: tuple[float, float],
    *,
    band: tuple[float, float] = (0, 1),
    upright: bool = False,
) -> None:
    """Drop shapes of power-law size onto the picture, plain, shaded or textured, within a band of its height."""
    size = picture.shape[0]
    palette = colours(rng, int(rng.integers(3, 8)))
    grain = fractal(rng, size, rng.uniform(0.6, 1.6))[..., None]
    small, large = radii
    for u in rng.random(count):
        # Areas fall as r^-3, which makes the picture look alike at every scale.
        radius = (small**-1.5 + u * (large**-1.5 - small**-1.5)) ** (-1 / 1.5)
        mask = shape_mask(rng, radius, upright=upright)
        h = mask.shape[0]
        paint = palette[rng.integers(len(palette))] + rng.normal(0, 0.05, 3).astype(np.float32)
        if rng.random() < 0.7 and h < size:
            y, x = rng.integers(size - h, size=2)
            paint = paint + grain[y : y + h, x : x + h] * np.float32(rng.uniform(0, 0.12))
            if rng.random() < 0.5:
                ramp = np.linspace(-0.5, 0.5, h, dtype=np.float32)[:, None, None]
                paint = paint + ramp * np.float32(rng.uniform(-0.4, 0.4))
        top = int(rng.uniform(band[0], band[1]) * size - h / 2)
        paste(picture, mask, np.clip(paint, 0, 1).astype(np.float32), top, int(rng.uniform(0, size) - h / 2))


def leaves(rng: Rng, size: int) -> Picture:
    """Dead leaves: shapes of all sizes that hide each other, the best simple model of natural images."""
    picture = noise(rng, size)
    scatter(rng, picture, int(rng.integers(60, 220)), (rng.uniform(3, 8), size * rng.uniform(0.12, 0.3)))
    return picture


def landscape(rng: Rng, size: int) -> Picture:
    """A smooth sky above a textured ground, with things along the horizon."""
    horizon = rng.uniform(0.25, 0.7)
    sky, ground = gradient(rng, size), noise(rng, size)
    sky += fractal(rng, size, rng.uniform(1.6, 2.4))[..., None] * np.float32(rng.uniform(0, 0.08))
    line = horizon * size + np.cumsum(rng.normal(0, rng.uniform(0, 0.6), size))
    part = np.clip(np.arange(size)[:, None] - line[None] + 0.5, 0, 1)[..., None].astype(np.float32)
    picture = sky + (ground - sky) * part
    here = (horizon - 0.12, horizon + 0.15)
    scatter(rng, picture, int(rng.integers(10, 60)), (4, size * 0.16), band=here, upright=bool(rng.random() < 0.5))
    if rng.random() < 0.5:
        scatter(rng, picture, int(rng.integers(5, 50)), (3, size * 0.1), band=(horizon, 1))
    return np.asarray(np.clip(picture, 0, 1))


def sparse(rng: Rng, size: int) -> Picture:
    """A few things before a background with almost nothing in it."""
    picture = gradient(rng, size)
    picture += fractal(rng, size, 1.8)[..., None] * np.float32(rng.uniform(0, 0.05))
    scatter(rng, picture, int(rng.integers(14, 36)), (size * 0.03, size * 0.16))
    return np.asarray(np.clip(picture, 0, 1))


def glyphs(rng: Rng, count: int, height: int) -> list[Picture]:
    """Letters of no alphabet: a few strokes on a small grid, enlarged to the height."""
    marks = []
    for _ in range(count):
        cells = (rng.random((5, 4)) < 0.5).astype(np.float32)
        cells[:, rng.integers(4)] = 1
        scale = max(height // 5, 1)
        marks.append(np.kron(cells, np.ones((scale, scale), np.float32)))
    return marks


def text(rng: Rng, size: int) -> Picture:
    """Rows of words in two sizes on paper or on a screen, with pictures between them."""
    paper, ink = colours(rng, 2)
    ink = np.where(np.abs(ink - paper).mean() > 0.35, ink, 1 - paper.round()).astype(np.float32)
    picture = np.broadcast_to(paper, (size, size, 3)).copy()
    picture += (gradient(rng, size) - 0.5) * np.float32(rng.uniform(0, 0.3))
    top = 2
    while top < size:
        height = int(rng.choice((5, 10, 15, 20)))
        letters = glyphs(rng, 12, height)
        left = int(rng.integers(0, 30))
        while left < size:
            for _ in range(rng.integers(1, 9)):
                mark = letters[rng.integers(12)]
                paste(picture, mark, ink, top, left)
                left += mark.shape[1] + max(height // 5, 1)
            left += height if rng.random() < 0.9 else int(rng.integers(20, 120))
        top += int(height * rng.uniform(1.4, 2.5))
    scatter(rng, picture, int(rng.integers(0, 14)), (10, size * 0.14))
    return np.asarray(np.clip(picture, 0, 1))


def tiles(rng: Rng, size: int) -> Picture:
    """Keys, bricks, windows: a grid of boxes that differ a little, some with a letter, under uneven light."""
    picture = noise(rng, size) if rng.random() < 0.5 else gradient(rng, size)
    h, w = rng.uniform(14, 60, 2)
    gap = rng.uniform(0.05, 0.4)
    palette = colours(rng, int(rng.integers(1, 5)))
    letters = glyphs(rng, 12, int(max(h * 0.4, 5)))
    shift = rng.choice((0.0, 0.5)) if rng.random() < 0.7 else rng.random()
    for row in range(int(size / h) + 1):
        for column in range(-1, int(size / w) + 1):
            box = np.ones(
                (max(int(h * (1 - gap)), 2), max(int(w * (1 - gap) * rng.choice((1, 1, 1, 0.6))), 2)), np.float32
            )
            colour = palette[rng.integers(len(palette))] + rng.normal(0, 0.06)
            top, left = int(row * h), int((column + shift * (row % 2)) * w)
            paste(picture, box, colour.astype(np.float32), top, left)
            if rng.random() < 0.5:
                mark = letters[rng.integers(12)]
                paste(picture, mark, 1 - colour.round().astype(np.float32), top + int(h * 0.2), left + int(w * 0.2))
    scatter(rng, picture, int(rng.integers(2, 16)), (6, size * 0.15))
    return np.asarray(np.clip(picture * (0.6 + 0.8 * gradient(rng, size).mean(-1, keepdims=True)), 0, 1))


def spotlight(rng: Rng, picture: Picture) -> Picture:
    """The same at night: dark but for one or two lit places."""
    size = picture.shape[0]
    grid = np.linspace(0, 1, size, dtype=np.float32)
    light = np.full((size, size), rng.uniform(0.02, 0.15), np.float32)
    for _ in range(rng.integers(2, 6)):
        x, y = rng.uniform(0.1, 0.9, 2)
        light += np.exp(-((grid[None] - x) ** 2 + (grid[:, None] - y) ** 2) / (2 * rng.uniform(0.06, 0.2) ** 2))
    return np.asarray(picture * np.minimum(light, 1)[..., None], dtype=np.float32)


def grade(rng: Rng, picture: Picture) -> Picture:
    """Exposure and saturation of a camera, sometimes black and white."""
    grey = picture.mean(-1, keepdims=True)
    saturation = 0.0 if rng.random() < 0.15 else rng.uniform(0.4, 1.6)
    picture = np.clip(grey + (picture - grey) * np.float32(saturation), 0, 1)
    return np.asarray(picture ** np.float32(np.exp(rng.normal(0, 0.3))), dtype=np.float32)
