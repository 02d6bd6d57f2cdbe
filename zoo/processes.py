"""One process, or those that torchrun has started, behind one face. Nothing here starts a process."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from zoo.errors import SpecError, ZooError

Result = TypeVar("Result")
PATIENCE = timedelta(minutes=30)  # of processes that wait for one another


@dataclass(frozen=True)
class World:
    """rank: the number of this process, of `size`. device: its own."""

    device: torch.device
    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that speaks and writes for all."""
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """Added up over all processes; on the CPU and in float64, so that counts are exact."""
        total = values.double().cpu()
        if self.size > 1:
            total = total.to(self._device_of_messages)
            dist.all_reduce(total)
        return total.cpu()

    def gather(self, thing: Any) -> list[Any]:
        """What each process has, in every process."""
        found: list[Any] = [thing] * self.size
        if self.size > 1:
            dist.all_gather_object(found, thing)
        return found

    def barrier(self) -> None:
        """Wait for all."""
        if self.size > 1:
            dist.barrier()

    def by_first(self, work: Callable[[], Result]) -> Result:
        """What `work` gives in the first process, in every process; what it raises is raised in every process."""
        if self.size == 1:
            return work()
        said: list[Any] = [None, None]
        if self.first:
            try:
                said[0] = work()
            except Exception as error:
                said[1] = error
        dist.broadcast_object_list(said, src=0)
        if said[1] is not None:
            raise said[1]
        return said[0]  # type: ignore[no-any-return]

    @property
    def _device_of_messages(self) -> torch.device:
        return self.device if self.device.type == "cuda" else torch.device("cpu")


def leave_signals(_: int) -> None:
    """In a worker: who stops a training by a signal to all its processes stops it after a step, not in the middle."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    torch.set_num_threads(1)


def decoded(batches: Iterable[Result], error: type[ZooError]) -> Iterator[Result]:
    """What a DataLoader gives; raises `error` where one of its processes has died."""
    try:
        yield from batches
    except RuntimeError as lost:
        if "DataLoader worker" not in str(lost):
            raise
        raise error(
            f"a process that decodes was lost: {str(lost).partition(chr(10))[0]}",
            hint="where memory was short fewer workers help; workers=0 shows which video it was",
        ) from lost


@contextmanager
def processes(device: str = "", *, group: bool = False) -> Iterator[World]:
    """The processes that torchrun has started; without torchrun this one alone.

    device: such as "cpu" or "cuda"; empty for cuda where there is one. group: make a process group even for one.
    A group that is there already is used and left. Raises SpecError for a device that does not exist.
    """
    local = int(os.environ.get("LOCAL_RANK", 0))
    launched = "RANK" in os.environ and "WORLD_SIZE" in os.environ
    kind = device or ("cuda" if torch.cuda.is_available() else "cpu")
    kind = f"cuda:{local}" if kind == "cuda" and launched else kind
    try:
        chosen = torch.device(kind)
        torch.zeros(1, device=chosen).tolist()  # one that computes: "meta" does not
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).partition("\n")[0]
        raise SpecError(f"device={kind!r}: {reason}", hint='"cpu" always works') from error
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    ours = not dist.is_initialized() and (group or launched)
    if ours:
        backend = "cpu:gloo,cuda:nccl" if chosen.type == "cuda" else "gloo"
        where: dict[str, Any] = {}
        if not launched:
            where = {"store": dist.HashStore(), "rank": 0, "world_size": 1}  # type: ignore[attr-defined]
        dist.init_process_group(backend, timeout=PATIENCE, **where)
    try:
        there = dist.is_initialized()
        yield World(chosen, dist.get_rank() if there else 0, dist.get_world_size() if there else 1)
    finally:
        if ours:
            dist.destroy_process_group()
