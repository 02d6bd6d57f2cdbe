"""Whether a score of 0.8 is right eight times in ten, and the temperature that makes it so.

On Calibration of Modern Neural Networks, Guo et al. 2017, https://arxiv.org/abs/1706.04599
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from zoo.evaluate.scoring import Scores
from zoo.spec import Preprocessing

BINS = 15
COLDEST, HOTTEST, GOLDEN = 0.05, 20.0, (math.sqrt(5) - 1) / 2


class Bin(NamedTuple):
    """Answers whose score is more than `low`, at most `high`: how many, their mean score, the part that is right."""

    low: float
    high: float
    answers: int
    confidence: float
    accuracy: float


def reliability(confidences: Sequence[float], right: Sequence[bool], bins: int = BINS) -> list[Bin]:
    """Answers by their scores, in bins of equal width; empty bins are left out."""
    members: list[list[int]] = [[] for _ in range(bins)]
    for i, confidence in enumerate(confidences):
        at = next((k for k in range(bins) if confidence <= (k + 1) / bins), bins - 1)
        members[at].append(i)
    return [
        Bin(
            k / bins,
            (k + 1) / bins,
            len(those),
            sum(confidences[i] for i in those) / len(those),
            sum(right[i] for i in those) / len(those),
        )
        for k, those in enumerate(members)
        if those
    ]


def expected_calibration_error(bins: Sequence[Bin]) -> float:
    """Mean distance between score and accuracy, by bins and weighted by their counts; 0 to 1. Equation 3."""
    total = sum(one.answers for one in bins)
    return sum(one.answers * abs(one.accuracy - one.confidence) for one in bins) / max(total, 1)


def best_temperature(scores: Scores, protocol: Preprocessing) -> float | None:
    """The temperature at which the labels of these videos are likeliest, by golden section over its logarithm.

    None where there is none: all answers are right, and the colder the likelier, or none is better than chance.
    """
    if all(outcome.best == outcome.target for outcome in scores.scored):
        return None

    def loss(logarithm: float) -> float:
        return scores.under(replace(protocol, temperature=math.exp(logarithm))).loss()

    low, high = math.log(COLDEST), math.log(HOTTEST)
    while high - low > 1e-3:
        third = GOLDEN * (high - low)
        if loss(high - third) < loss(low + third):
            high = low + third
        else:
            low = high - third
    found = math.exp((low + high) / 2)
    return round(found, 4) if COLDEST * 1.01 < found < HOTTEST / 1.01 else None
