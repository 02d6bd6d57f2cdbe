"""Jobs on a few threads, results in the order of the jobs, with little in memory."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import Any, TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")


def in_lanes(
    jobs: Sequence[Job],
    worker: Callable[[], AbstractContextManager[Callable[[Job], Iterator[Result]]]],
    threads: int,
    capacity: int,
) -> Iterator[Result]:
    """What each job gives, job after job. Each thread opens one `worker` and calls it for one job after the other.

    At most threads + 1 jobs are under way, each with at most `capacity` results that nobody took yet.
    """
    if threads == 1:
        with worker() as work:
            for job in jobs:
                yield from work(job)
        return
    lanes: list[queue.Queue[Any]] = [queue.Queue(capacity) for _ in jobs]
    todo: queue.SimpleQueue[tuple[Job, queue.Queue[Any]]] = queue.SimpleQueue()
    for pair in zip(jobs, lanes, strict=True):
        todo.put(pair)
    under_way, stopped = threading.Semaphore(threads + 1), threading.Event()
    pool = [
        threading.Thread(target=_work, args=(todo, worker, under_way, stopped), daemon=True) for _ in range(threads)
    ]
    for thread in pool:
        thread.start()
    try:
        for lane in lanes:
            while (item := lane.get()) is not _END:
                if isinstance(item, BaseException):
                    raise item
                yield item
            under_way.release()
    finally:
        stopped.set()
        under_way.release(threads)
        for thread in pool:
            thread.join()


_END = object()


def _work(
    todo: queue.SimpleQueue[tuple[Job, queue.Queue[Any]]],
    worker: Callable[[], AbstractContextManager[Callable[[Job], Iterator[Result]]]],
    under_way: threading.Semaphore,
    stopped: threading.Event,
) -> None:
    with ExitStack() as stack:
        work: Callable[[Job], Iterator[Result]] | None = None
        while True:
            under_way.acquire()
            if stopped.is_set():
                return
            try:
                job, lane = todo.get_nowait()
            except queue.Empty:
                return
            try:
                work = work or stack.enter_context(worker())
                for result in work(job):
                    if not _put(lane, result, stopped):
                        return
                _put(lane, _END, stopped)
            except BaseException as error:
                _put(lane, error, stopped)
                return


def _put(lane: queue.Queue[Any], item: Any, stopped: threading.Event) -> bool:
    """Whether anybody still wants it."""
    while not stopped.is_set():
        try:
            lane.put(item, timeout=0.05)
            return True
        except queue.Full:
            continue
    return False
