"""Generated clips as videos that are drawn when they are read: a data set that takes no room and never ends."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from zoo.spec import Preprocessing
from zoo.synth import render
from zoo.synth.camera import Path, draw_path
from zoo.synth.worlds import draw_world
from zoo.video.picture import Frame

FRAME_RATES = (10.0, 12.0, 15.0, 24000 / 1001, 24.0, 25.0, 30000 / 1001, 30.0, 48.0, 50.0, 60.0)
SECONDS = (1.0, 1.5)  # a camera may hold at either end of its move, so that a part of a longer video may show none
ASPECT = 0.85  # natural logarithm of the widest width by height
SHORT_SIDE = 256  # where the protocol asks for none


class GeneratedFootage:
    """A video whose camera makes the motion `label`, as any other footage; the same seed is the same video.

    Frames are drawn in the size that the protocol asks for, and only those that it asks for: what moves on its own is
    placed by the times of these, and so differs from clip to clip.
    """

    busy = False  # whether large things move before it, and then nothing is nearer than the rest

    def __init__(self, label: str, seed: int) -> None:
        self._seed = seed
        rng = np.random.default_rng(seed)
        self.fps = float(rng.choice(FRAME_RATES))
        times = np.arange(max(round(rng.uniform(*SECONDS) * self.fps), 1)) / self.fps
        self.name = f"{label} of seed {seed}"
        self.time_s: Sequence[float] = times.tolist()
        self.duration_s = len(times) / self.fps
        self._path = draw_path(rng, label, times)
        self._aspect = float(np.exp(rng.uniform(-ASPECT, ASPECT)))

    def frames(self, wanted: Sequence[int], preprocessing: Preprocessing) -> Iterator[Frame]:
        """The wanted frames; uint8 `[H, W, 3]`."""
        yield from self._drawn(wanted, preprocessing, [self._seed, 1])

    def _drawn(self, wanted: Sequence[int], preprocessing: Preprocessing, seed: list[int]) -> Iterator[Frame]:
        """Of the scene of this seed."""
        rng, size = np.random.default_rng(seed), self._size(preprocessing)
        picture = draw_world(rng, min(max(2 * max(size), 320), 1024))
        world = torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))
        chosen, path = np.asarray(wanted), self._path
        part = Path(path.x[chosen], path.y[chosen], path.zoom[chosen], path.roll[chosen])
        times = np.asarray(self.time_s)[chosen]
        clip = render(rng, world, part, times, size=size, aspect=self._aspect, deep=not self.busy, busy=self.busy)
        pixels = (clip.movedim(1, -1) * 255).round().to(torch.uint8).numpy()
        for i, frame in zip(wanted, pixels, strict=True):
            yield Frame(frame, i, self.time_s[i])

    def _size(self, preprocessing: Preprocessing) -> tuple[int, int]:
        size = preprocessing.resize or SHORT_SIDE
        if not isinstance(size, int):
            return size
        long = round(size * max(self._aspect, 1 / self._aspect))
        return (size, long) if self._aspect > 1 else (long, size)
