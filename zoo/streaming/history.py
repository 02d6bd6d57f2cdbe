"""What was said of a stream, for ever: the longer it is, the longer is what one entry tells of."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

MOST_WINDOWS = 2000  # even, so that all have a neighbour

Window = tuple[float, float, Tensor]  # start_s, end_s, scores [K]


class History:
    """Windows in order of time: means of `per` predictions each, but for the last, of `last` until it has as many."""

    def __init__(self) -> None:
        self.windows: list[Window] = []
        self.per = self.last = 1

    def add(self, start_s: float, end_s: float, scores: Tensor) -> None:
        if self.windows and self.last < self.per:
            first_s, _, mean = self.windows[-1]
            self.last += 1
            self.windows[-1] = (first_s, end_s, torch.lerp(mean, scores, 1 / self.last))
            return
        if len(self.windows) == MOST_WINDOWS:
            pairs = list(pairwise(self.windows))[::2]
            self.windows = [(a, b, torch.lerp(one, other, 0.5)) for (a, _, one), (_, b, other) in pairs]
            self.per *= 2
        self.windows.append((start_s, end_s, scores))
        self.last = 1

    def facts(self) -> dict[str, Any]:
        """All but scores, for a file."""
        return {"per": self.per, "last": self.last, "times": [(a, b) for a, b, _ in self.windows]}

    @classmethod
    def of(cls, facts: dict[str, Any], scores: Tensor | None) -> History:
        """What `facts` gave, and the scores `[W, K]`."""
        history = cls()
        history.per, history.last = facts["per"], facts["last"]
        rows = () if scores is None else scores.unbind()
        history.windows = [(a, b, row) for (a, b), row in zip(facts["times"], rows, strict=True)]
        return history
