"""What a user may ask for, checked before any network is built, so that each error names the option."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from zoo.errors import SpecError


def is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def is_fraction(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1


def is_side(value: Any) -> bool:
    """One number of pixels, or (height, width)."""
    pair = isinstance(value, Sequence) and not isinstance(value, str) and len(value) == 2
    return is_count(value) or (pair and all(map(is_count, value)))


RULES = {
    "temporal_options": (lambda value: isinstance(value, Mapping), 'of the head over time, such as {"hidden": 256}'),
    "shift": (lambda value: isinstance(value, bool), "True or False"),
    "inflate": (lambda value: value == 0 or (is_count(value) and value % 2 == 1), "an odd number of frames, such as 3"),
    "stack": (is_count, "a number of frames of at least 1"),
    "img_size": (is_side, "a number of pixels, or (height, width)"),
    "in_chans": (is_count, "a number of channels of at least 1"),
    "frame_chunk": (is_count, "a number of frames of at least 1"),
    "freeze_bn": (lambda value: isinstance(value, bool), "True or False"),
    "drop_rate": (is_fraction, "at least 0 and less than 1"),
    "drop_path_rate": (is_fraction, "at least 0 and less than 1"),
}

OPTIONAL = ("temporal_options", "img_size", "frame_chunk", "drop_path_rate")


def check(**options: Any) -> None:
    """Raise SpecError for an option that is not what its rule says; None, where it is a default, is one left away."""
    for name, value in options.items():
        right, wanted = RULES[name]
        if not right(value) and not (value is None and name in OPTIONAL):
            raise SpecError(f"{name}={value!r:.80}", hint=wanted)
