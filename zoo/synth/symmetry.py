"""Mirrored, turned and reversed clips are clips of another label: sixteen for the price of one."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from zoo.synth.camera import LABELS

# What each bit does to (pan, tilt, zoom, roll): pan and tilt change places when rows and columns do.
_FLIPS = {
    "mirror": {"pan_left": "pan_right", "roll_cw": "roll_ccw"},
    "upside_down": {"tilt_up": "tilt_down", "roll_cw": "roll_ccw"},
    "transpose": {"pan_left": "tilt_up", "pan_right": "tilt_down", "roll_cw": "roll_ccw"},
    "backwards": {
        "pan_left": "pan_right",
        "tilt_up": "tilt_down",
        "zoom_in": "zoom_out",
        "roll_cw": "roll_ccw",
    },
}


def _table(pairs: dict[str, str]) -> list[int]:
    both = pairs | {new: old for old, new in pairs.items()}
    return [LABELS.index(both.get(label, label)) for label in LABELS]


_TABLES = [_table(pairs) for pairs in _FLIPS.values()]
SYMMETRIES = 2 ** len(_TABLES)


def transform(clip: Tensor, label: int, which: int) -> tuple[Tensor, int]:
    """A square clip `[T, C, S, S]` and its label under symmetry `which`, 0 (nothing) to SYMMETRIES - 1."""
    if which & 1:
        clip = clip.flip(-1)
    if which & 2:
        clip = clip.flip(-2)
    if which & 4:
        clip = clip.transpose(-1, -2)
    if which & 8:
        clip = clip.flip(0)
    for bit, table in enumerate(_TABLES):
        if which >> bit & 1:
            label = table[label]
    return clip, label


def draw(rng: np.random.Generator, clip: Tensor, label: int) -> tuple[Tensor, int]:
    """The clip and its label under a random symmetry."""
    return transform(clip, label, int(rng.integers(SYMMETRIES)))
