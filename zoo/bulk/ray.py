"""The engine for more than one machine: the same workers, as an actor pool of Ray Data.

What is known to go wrong there, and what is done about it:

- Actors that take every CPU slot leave none for reading, and all waits in silence (ray#44687): refused beforehand, as
  are actors that are larger than a machine of the cluster, which wait in the same way.
- A row that crashes a process is tried for ever: each actor keeps the model in a process of its own, which may die.
- A part whose task failed is left out, with success reported (`max_errored_blocks`): it is 0, and rows are counted.
- A short list becomes one block, so that one actor does it all and nothing is kept before the end: blocks are made as
  long as `BLOCK_S` of work, by a measurement, and actors write parts while they are at it.
- A task that is tried again has written rows already: their parts are named after the block, and are not made again.
- Actors outlive a driver that was killed: they write only while the folder names their run.

All machines see the videos and the folder of the run under the same paths.
"""

from __future__ import annotations

import copy
import logging
import os
import queue
import re
import shutil
import signal
import threading
import time
import warnings
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from hashlib import sha256
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.bulk.arrow import OK, arrow
from zoo.bulk.engine import Work, cpus, tuned
from zoo.bulk.parts import Parts, write
from zoo.bulk.predictor import VIDEO
from zoo.bulk.worker import KEPT, Worker
from zoo.errors import BatchError, SpecError, ZooError

if TYPE_CHECKING:
    import pyarrow as pa

    from zoo.bulk.predictor import VideoPredictor

BLOCK_S = 45.0  # of work, which a task is made of
MEASURED, MEASURED_S = 32, 20.0  # rows and seconds that the measurement takes at most
RESTARTS, RETRIES = 3, 2  # of an actor, and of a task
MOST_FEEDERS = 4  # CPUs for a GPU, by default
TICK = 0.5
TODO = ".todo"
RAISED = re.compile(r"(?!ray\.)[\w.]*(?:Error|Exception|Exit|Interrupt)\b")  # as the last line of a trace begins


def run_ray(predictor: VideoPredictor, work: Work) -> Generator[Counter[str], None, None]:
    """See `zoo.bulk.engine`."""
    ray = _ray()
    with ExitStack() as end:
        if not ray.is_initialized():
            _connect(ray, work)
            end.callback(ray.shutdown)
        workers, threads, gpus = _shares(_machines(ray), predictor, work)
        mine = copy.copy(predictor)
        mine.device = "cuda" if gpus else predictor.runs_on(gpu=False)
        mine = tuned(mine, threads)
        home = work.folder.parent / TODO
        resources = {"num_cpus": threads, "num_gpus": gpus}
        told = {"predictor": mine, "work": replace(work, rows=iter(()), stopping=bool)}
        rows = iter(work.rows)
        first = [*islice(rows, max(1, min(MEASURED, work.count // (4 * workers))))]
        bounds = {"max_restarts": RESTARTS, "max_task_retries": RETRIES}
        measuring = ray.remote(**resources, **bounds)(Blocks).remote(**told)
        results: queue.Queue[Any] = queue.Queue()
        seconds, done = yield from _waiting(_ask(ray, measuring, first, results), results, work)
        ray.kill(measuring)
        rest = chain(first[done:], rows)
        shutil.rmtree(home, ignore_errors=True)
        end.callback(shutil.rmtree, home, ignore_errors=True)
        left = _write(rest, home, work)
        if not left:
            return
        block = max(1, min(int(BLOCK_S / max(seconds, 1e-6)), -(-left // (2 * workers))))
        yield from _waiting(_stream(ray, home, block, workers, resources, told, results), results, work)


class Blocks:
    """An actor: a block of rows in, parts on disk and how many rows there are of each type of error out."""

    def __init__(self, predictor: VideoPredictor, work: Work) -> None:
        self._work = work
        self._worker = Worker(predictor, timeout_s=work.timeout_s)

    def __call__(self, table: pa.Table) -> pa.Table:
        counts, _ = self._run(table.to_pylist(), float("inf"))
        return arrow().table({"kind": [*counts], "count": [*counts.values()]})

    def measure(self, rows: list[dict[str, Any]], limit_s: float) -> tuple[Counter[str], list[float]]:
        """The first rows, as far as the time allows: their counts, and the seconds that each took."""
        return self._run(rows, limit_s)

    def _run(self, rows: list[dict[str, Any]], limit_s: float) -> tuple[Counter[str], list[float]]:
        name = f"part-{sha256(chr(10).join(row['id'] for row in rows).encode()).hexdigest()[:16]}"
        counts, have = self._found(name)
        parts, started, seconds = self._work.parts(name), time.monotonic(), list[float]()

        def todo() -> Iterator[dict[str, Any]]:
            for row in rows:
                if not self._wanted() or time.monotonic() - started > limit_s:
                    return
                if row["id"] not in have:
                    yield row

        for row, result in self._worker.work(todo()):
            parts.add({k: v for k, v in row.items() if k not in VIDEO} | result)
            counts[result["error_type"] or OK] += 1
            seconds.append(result.get("elapsed_s", 0.0))
            self._commit(parts, whether_due=True)
        self._commit(parts)
        return counts, seconds

    def _commit(self, parts: Parts, *, whether_due: bool = False) -> None:
        if not self._orphaned():
            parts.commit(whether_due=whether_due)

    def _found(self, name: str) -> tuple[Counter[str], set[str]]:
        """What an earlier try of this block has written."""
        counts, ids = Counter[str](), set[str]()
        for path in self._work.folder.glob(f"{name}-*.parquet"):
            table = arrow().parquet.ParquetFile(path).read(["id", "error_type"])
            counts.update(kind or OK for kind in table["error_type"].to_pylist())
            ids.update(table["id"].to_pylist())
        return counts, ids

    def _wanted(self) -> bool:
        path, token = self._work.token
        with suppress(OSError):
            return path.read_text() == token
        return False

    def _orphaned(self) -> bool:
        """Whether another run writes here now. A run that only wants to stop gets what was done."""
        return self._work.token[0].exists() and not self._wanted()


def _ray() -> Any:
    try:
        import ray
        import ray.data
    except ImportError as missing:
        raise ZooError(
            f"engine='ray' needs Ray, which cannot be imported ({missing})", hint="pip install 'video-zoo[ray]'"
        ) from missing
    return ray


def _connect(ray: Any, work: Work) -> None:
    """To the cluster, or to one that is started here with a slot more than the workers take."""
    address = work.address or os.environ.get("RAY_ADDRESS") or "local"
    here = {
        "num_cpus": max(cpus(), (work.workers or 1) * (work.threads or 1)) + 1,
        "include_dashboard": False,
    }
    handler = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR", **(here if address == "local" else {}))
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise SpecError(f"Ray at {address!r} cannot be reached: {error}", hint="is the address right?") from error
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)  # Ray has put its own there, which ends the process


def _machines(ray: Any) -> list[dict[str, float]]:
    """The resources of each machine of the cluster."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _shares(machines: list[dict[str, float]], predictor: VideoPredictor, work: Work) -> tuple[int, int, int]:
    """(workers, CPUs of each, GPUs of each). Raises SpecError where that leaves nothing for Ray's own tasks."""
    has = [(int(machine.get("CPU", 0)), int(machine.get("GPU", 0))) for machine in machines]
    slots, gpus = sum(cpus for cpus, _ in has), sum(gpus for _, gpus in has)
    each = int(predictor.runs_on(gpu=gpus > 0).startswith("cuda"))
    threads = work.threads or (_feeders(has) if each else 1)
    fit = sum(min(cpus // threads, gpus if each else cpus) for cpus, gpus in has)
    most = min(fit, (slots - 1) // threads)
    workers = work.workers or max(most, 1)
    if workers > most:
        said = f"{workers} workers of {threads} CPUs" + (" and a GPU" if each else "")
        there = f"{slots} CPUs" + (f" and {gpus} GPUs" if each else "")
        where = f", on {len(has)} machines" if len(has) > 1 else ""
        hint = f"Ray's own tasks need one CPU, or all waits for ever; at most {max(most, 0)} workers fit"
        raise SpecError(f"{said} do not fit the {there} of this cluster{where}", hint=hint)
    return min(workers, work.count), threads, each


def _feeders(machines: list[tuple[int, int]]) -> int:
    """CPUs for each GPU, which decode for it: as many as the worst machine has, less one for Ray."""
    return max(1, min([MOST_FEEDERS, *((cpus - 1) // gpus for cpus, gpus in machines if gpus)]))


def _write(rows: Iterator[dict[str, Any]], home: Path, work: Work) -> int:
    """What is left to do, as a folder of Parquet for Ray to read. How many rows."""
    pa = arrow()
    first = next(rows, None)
    if first is None:
        return 0
    home.mkdir()
    others = [field for field in work.schema if field.name in first and field.name not in VIDEO]
    fields = [("id", pa.string()), ("path", pa.string()), *([("bytes", pa.binary())] if "bytes" in first else [])]
    schema, count, all_rows = pa.schema([*fields, *others]), 0, chain([first], rows)
    size = 64 if "bytes" in first else work.part_rows
    while some := [*islice(all_rows, size)]:
        write(pa.Table.from_pylist(some, schema=schema), home / f"{count:012d}.parquet")
        count += len(some)
    return count


def _ask(ray: Any, actor: Any, rows: list[dict[str, Any]], results: queue.Queue[Any]) -> Any:
    """What measures, in a thread: (mean seconds of a row, rows done)."""

    def ask() -> tuple[float, int]:
        counts, seconds = ray.get(actor.measure.remote(rows, MEASURED_S))
        results.put(counts)
        return sum(seconds) / max(len(seconds), 1), counts.total()

    return ask


def _stream(
    ray: Any,
    home: Path,
    block: int,
    workers: int,
    resources: dict[str, int],
    told: dict[str, Any],
    results: queue.Queue[Any],
) -> Any:
    """What runs all blocks, in a thread."""

    def stream() -> None:
        context = ray.data.DataContext.get_current()
        context.max_errored_blocks = 0
        context.enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        listed = ray.data.read_parquet(str(home)).repartition(target_num_rows_per_block=block)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # its successors of these bounds are not there yet
            done = listed.map_batches(
                Blocks,
                fn_constructor_kwargs=told,
                compute=ray.data.ActorPoolStrategy(size=workers),
                batch_size=block,
                batch_format="pyarrow",
                max_restarts=RESTARTS,
                max_task_retries=RETRIES,
                **resources,
            )
        for table in done.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
            results.put(Counter({row["kind"]: row["count"] for row in table.to_pylist()}))

    return stream


def _reason(error: BaseException) -> str:
    """What went wrong in an actor, without the traces, errors and advice that Ray puts around it: zoo's own first."""
    lines = str(error).strip().splitlines() or [repr(error)]
    ours = [line.partition(": ")[2] for line in lines if line.startswith("zoo.errors.")]
    raised = [line for line in lines if RAISED.match(line)]
    return (ours or raised or lines)[-1][:300]


def _waiting(job: Any, results: queue.Queue[Any], work: Work) -> Generator[Counter[str], None, Any]:
    """What `job` gives, run in a thread; meanwhile what comes. Raises BatchError."""
    ended: list[Any] = []

    def run() -> None:
        try:
            ended.append(job())
        except BaseException as error:
            ended.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    while thread.is_alive() or not results.empty():
        with suppress(queue.Empty):
            yield results.get(timeout=TICK)
            continue
        if work.stopping():
            work.token[0].unlink(missing_ok=True)  # the actors see it, and give what they have
        yield Counter[str]()
    if isinstance(ended[0], BaseException):
        raise BatchError(f"Ray gave up: {_reason(ended[0])}", hint=KEPT) from ended[0]
    return ended[0]
