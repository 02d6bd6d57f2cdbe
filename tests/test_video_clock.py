"""Times of frames: all at once as one after the other."""

from __future__ import annotations

from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest

from zoo.video.decode import Clock

STREAMS = [
    (Fraction(1, 90000), Fraction(30000, 1001)),
    (Fraction(1, 1000), Fraction(30)),
    (Fraction(1, 15), Fraction(7)),
]


def clock(unit: Fraction, rate: Fraction) -> Clock:
    return Clock(SimpleNamespace(time_base=unit, guessed_rate=rate, average_rate=None), "matroska,webm")


def stamps_of(kind: str, unit: Fraction, rate: Fraction) -> np.ndarray:
    rng = np.random.default_rng(0)
    even = [round(Fraction(k) / rate / unit) + 7 for k in range(50)]
    return np.array(
        {
            "even": even,
            "uneven": np.cumsum(rng.integers(1, 400, 50)).tolist(),
            "crowded": sorted({stamp // 3 for stamp in even}),  # closer than the rate's own rounding
            "one": even[:1],
            "far": [-(2**62), 0, 2**62],
        }[kind],
        np.int64,
    )


@pytest.mark.parametrize("unit, rate", STREAMS)
@pytest.mark.parametrize("kind", ["even", "uneven", "crowded", "one", "far"])
@pytest.mark.parametrize("duration", [None, 3])
def test_all_at_once_is_one_after_the_other(unit, rate, kind, duration):
    stamps = stamps_of(kind, unit, rate)
    one, all_at_once = clock(unit, rate), clock(unit, rate)
    expected = [one.tick(int(stamp), duration) for stamp in stamps]
    assert all_at_once.ticks(stamps, [duration] * len(stamps)) == expected
    assert all_at_once.seconds_after() == one.seconds_after()
