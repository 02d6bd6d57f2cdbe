"""Videos whose camera makes two motions at once or one after the other, so that nobody can name the one.

Each has the label of either, as likely as the other: who learns from them learns to be half sure, and whose scores are
calibrated says both with a half.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from zoo.spec import Preprocessing
from zoo.synth.camera import FLOW, MOVES, Array, Path, draw_path
from zoo.synth.footage import GeneratedFootage
from zoo.video.picture import Frame

FLOWS = (0.06, 0.4)  # of each motion, as a mean displacement in the picture


class MixedFootage(GeneratedFootage):
    """A generated video of the motion `label` and of another one that shows as much; some are cut between the two."""

    def __init__(self, label: str, seed: int) -> None:
        super().__init__(label, seed)
        rng = np.random.default_rng([seed, 2])
        others = [other for other in MOVES if other != label]
        pair = [label, others[rng.integers(len(others))]]
        if rng.random() < 0.5:
            pair.reverse()
        self.name = f"{pair[0]} and {pair[1]} of seed {seed}"
        times = np.asarray(self.time_s)
        at_once = MOVES[pair[0]][0] != MOVES[pair[1]][0] and rng.random() < 0.5
        self._path = _both(rng, pair, times, at_once=at_once)
        self._cut = len(times) // 2 if not at_once and rng.random() < 0.4 else len(times)

    def frames(self, wanted: Sequence[int], preprocessing: Preprocessing) -> Iterator[Frame]:
        """The wanted frames; uint8 `[H, W, 3]`."""
        for scene, part in enumerate(([i for i in wanted if i < self._cut], [i for i in wanted if i >= self._cut])):
            if part:
                yield from self._drawn(part, preprocessing, [self._seed, 3 + scene])


def _both(rng: np.random.Generator, pair: Sequence[str], times: Array, *, at_once: bool) -> Path:
    """Motions of one size, on top of what is still `static`."""
    still = draw_path(rng, "static", times)
    axes = {name: getattr(still, name) for name in FLOW}
    low, high = FLOWS
    flow = low * (high / low) ** rng.random()
    u = np.linspace(0, 1, len(times))
    progress = (u, u) if at_once else (np.minimum(2 * u, 1), np.maximum(2 * u - 1, 0))
    for label, done in zip(pair, progress, strict=True):
        axis, sign = MOVES[label]
        axes[axis] = axes[axis] + sign * flow / FLOW[axis] * done
    return Path(**axes)
