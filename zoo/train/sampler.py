"""Which clips a step is made of: a function of the seed and of the step's number alone.

A training is one endless row of shows; in epoch e every video is shown once, in the order that the seed and e give.
Step s takes the next `batch_size` clips of it. Nothing has to be remembered: who knows the number of the next step goes
on exactly, on however many processes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b

import torch


@dataclass(frozen=True)
class Show:
    """One reading of a video. sample: its number. first: the place of its first clip in the step, counted in clips."""

    step: int
    first: int
    epoch: int
    sample: int


@dataclass(frozen=True)
class Course:
    """samples: how many there are. batch_size: clips in a step. repeats: clips that one show gives."""

    samples: int
    batch_size: int
    repeats: int
    seed: int

    @property
    def shows_per_step(self) -> int:
        return self.batch_size // self.repeats

    @property
    def steps_per_epoch(self) -> int:
        return math.ceil(self.samples / self.shows_per_step)

    def steps_of(self, epochs: float) -> int:
        """Enough for every video to be shown so many times."""
        return max(1, math.ceil(epochs * self.samples / self.shows_per_step))

    def shows(self, step: int) -> list[Show]:
        """All that step `step` shows."""
        positions = range(step * self.shows_per_step, (step + 1) * self.shows_per_step)
        return [
            Show(step, k * self.repeats, at // self.samples, self._order(at // self.samples)[at % self.samples])
            for k, at in enumerate(positions)
        ]

    def _order(self, epoch: int) -> list[int]:
        return _order(self.samples, self.seed, epoch)


class Share:
    """The shows of one process, in parts of which each is one forward: for a DataLoader, as its batch sampler.

    The parts of a step are dealt out in turn, so that together the processes always compute the same step.
    """

    def __init__(self, course: Course, steps: range, *, rank: int = 0, world: int = 1, accumulate: int = 1) -> None:
        self.course, self.steps, self.rank, self.world, self.accumulate = course, steps, rank, world, accumulate

    def __len__(self) -> int:
        return len(self.steps) * self.accumulate

    def __iter__(self) -> Iterator[list[Show]]:
        size = self.course.shows_per_step // (self.world * self.accumulate)
        for step in self.steps:
            shows = self.course.shows(step)
            for part in range(self.accumulate):
                at = (part * self.world + self.rank) * size
                yield shows[at : at + size]


def key(*what: object) -> int:
    """A seed of 63 bits that only these give."""
    text = "/".join(map(str, what))
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


@lru_cache(maxsize=4)
def _order(samples: int, seed: int, epoch: int) -> list[int]:
    generator = torch.Generator().manual_seed(key(seed, "order", epoch))
    order: list[int] = torch.randperm(samples, generator=generator).tolist()
    return order
