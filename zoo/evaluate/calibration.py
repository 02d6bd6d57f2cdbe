"""Whether a score of 0.8 is right eight times in ten."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

BINS = 15


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
    """Mean distance between score and accuracy, by bins and weighted by their counts; 0 to 1.

    On Calibration of Modern Neural Networks, equation 3, https://arxiv.org/abs/1706.04599
    """
    total = sum(one.answers for one in bins)
    return sum(one.answers * abs(one.accuracy - one.confidence) for one in bins) / max(total, 1)
