"""The engine that needs nothing else: worker processes on this machine."""

from __future__ import annotations

import os
import queue
import threading
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import torch

from zoo.bulk.arrow import OK
from zoo.bulk.engine import Work, cpus, default_workers, on_gpu, tuned
from zoo.bulk.predictor import VIDEO
from zoo.bulk.worker import Worker

if TYPE_CHECKING:
    from zoo.bulk.predictor import Row, VideoPredictor

TICK = 0.5  # seconds


def run_local(predictor: VideoPredictor, work: Work) -> Generator[Counter[str], None, None]:
    """See `zoo.bulk.engine`."""
    count = min(work.workers or default_workers(predictor, work.threads), work.count)
    predictor = tuned(predictor, work.threads or max(1, cpus() // count))
    results: queue.Queue[Any] = queue.Queue(4 * count)
    shared, ended, parts = _Shared(work.rows), threading.Event(), work.parts()
    pool = [Worker(predictor, timeout_s=work.timeout_s, environment=_device(predictor, i)) for i in range(count)]

    def put(item: Any) -> None:
        while not ended.is_set():
            try:
                return results.put(item, timeout=TICK)
            except queue.Full:
                continue

    def serve(worker: Worker) -> None:
        try:
            for pair in worker.work(shared):
                put(pair)
            put(None)
        except BaseException as error:
            put(error)
        finally:
            worker.close()

    threads = [threading.Thread(target=serve, args=(worker,), daemon=True) for worker in pool]
    with ExitStack() as end:
        end.callback(parts.commit)
        for thread, worker in zip(threads, pool, strict=True):
            end.callback(thread.join)
            thread.start()
            end.callback(worker.stop)
        end.callback(ended.set)
        running = count
        while running:
            news = Counter[str]()
            try:
                item = results.get(timeout=TICK)
                if isinstance(item, BaseException):
                    raise item
                if item is None:
                    running -= 1
                else:
                    row, result = item
                    parts.add({k: v for k, v in row.items() if k not in VIDEO} | result)
                    news[result["error_type"] or OK] += 1
            except queue.Empty:
                pass
            parts.commit(whether_due=True)
            yield news


class _Shared(Iterator[Any]):
    """An iterator that several threads take from."""

    def __init__(self, rows: Iterator[Row]) -> None:
        self._rows, self._turn = rows, threading.Lock()

    def __next__(self) -> Row:
        with self._turn:
            return next(self._rows)


def _device(predictor: VideoPredictor, worker: int) -> dict[str, str]:
    """Workers take turns with the GPUs."""
    count = torch.cuda.device_count()
    if count < 2 or not on_gpu(predictor) or predictor.runs_on(gpu=True) != "cuda":
        return {}
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(count)))).split(",")
    return {"CUDA_VISIBLE_DEVICES": visible[worker % count]}
