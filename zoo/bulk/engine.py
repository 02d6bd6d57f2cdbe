"""What an engine is told, and how many processes and threads this machine has for it.

An engine is a generator function of a predictor and its Work: it writes parts, and yields how many rows it has done by
their type of error (OK for none), again and again, also when there is nothing new. Closing it ends all it has started.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from zoo.bulk.parts import Parts
from zoo.doctor.checks import quota

if TYPE_CHECKING:
    import pyarrow as pa

    from zoo.bulk.predictor import VideoPredictor

MOST_WORKERS = 8  # by default; each has torch and a model in memory


@dataclass(frozen=True)
class Work:
    """rows: what to do; it ends early when the run is `stopping`. count: how many there are. schema: of a part.

    folder: of the parts. token: the file that names this run, and what it says; it is gone when the run ends.
    threads: of `zoo.batch`, else of the predictor. The others are arguments of `zoo.batch`.
    """

    rows: Iterator[dict[str, Any]]
    stopping: Callable[[], bool]
    count: int
    folder: Path
    schema: pa.Schema
    token: tuple[Path, str]
    workers: int | None
    threads: int | None
    timeout_s: float
    part_rows: int
    part_s: float
    address: str | None

    def parts(self, name: str = "part") -> Parts:
        """Where results go."""
        return Parts(self.folder, self.schema, most_rows=self.part_rows, most_s=self.part_s, name=name)


def cpus() -> int:
    """Those that this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, int(quota() or cores)))


def on_gpu(predictor: VideoPredictor) -> bool:
    """Whether the model will run on one, here."""
    return predictor.runs_on(gpu=torch.cuda.is_available()).startswith("cuda")


def default_workers(predictor: VideoPredictor, threads: int | None) -> int:
    """One for each GPU that the model may run on; else as many of so many threads as there are CPUs for, to a bound."""
    if not on_gpu(predictor):
        return max(1, min(cpus() // (threads or 1), MOST_WORKERS))
    return max(1, torch.cuda.device_count()) if predictor.runs_on(gpu=True) == "cuda" else 1


def tuned(predictor: VideoPredictor, threads: int) -> VideoPredictor:
    """The same for a process that has so many threads: a GPU has to be fed, a CPU is to be left to the model."""
    mine = copy.copy(predictor)
    mine.threads = threads
    mine.decoders = max(predictor.decoders, threads if on_gpu(predictor) else threads // 2)
    return mine
