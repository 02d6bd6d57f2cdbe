"""`zoo.batch`: a list of videos in, a table of results out, whatever is in the list and whatever happens meanwhile."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import takewhile
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np

from zoo.bulk.arrow import OK, arrow, schema_of
from zoo.bulk.engine import Work
from zoo.bulk.folder import Folder, check_rows
from zoo.bulk.inputs import Source, open_inputs
from zoo.bulk.local import run_local
from zoo.bulk.plan import plan
from zoo.bulk.predictor import VideoPredictor
from zoo.contract import VideoModel
from zoo.errors import BatchError, SpecError
from zoo.train.stopping import stoppable

Engine = Callable[[VideoPredictor, Work], Generator[Counter[str], None, None]]
ENGINES = ("local", "ray")
PART_ROWS, PART_S = 4096, 30.0
TIMEOUT_S = 1800.0
FIRST = 100  # rows before a rate of errors means anything
EVERY_S = 30.0  # between lines of progress
SHOWN = 5


@dataclass(frozen=True)
class Standing:
    """How far a run is. rate: rows per second of this run, 0 until it is known. left_s: None until it is known."""

    done: int
    total: int
    failed: int
    rate: float
    left_s: float | None

    def __str__(self) -> str:
        left = "" if self.left_s is None else f", {self.rate:.3g}/s, {_duration(self.left_s)} left"
        return f"{self.done:,} of {self.total:,}, {self.failed:,} failed{left}"


@dataclass(frozen=True)
class Summary:
    """What has come of a run: ok + failed + skipped + left are the rows of the list.

    skipped: were done by an earlier run, or repeat an id. left: not done, as the run was stopped. errors: {type: how
    many} of the whole table, also of earlier runs. stopped: the signal that ended the run, or 0.
    """

    out: Path
    rows: int
    ok: int
    failed: int
    skipped: int
    seconds: float
    errors: dict[str, int] = field(default_factory=dict)
    stopped: int = 0

    @property
    def left(self) -> int:
        return self.rows - self.ok - self.failed - self.skipped

    def __str__(self) -> str:
        left = f", {self.left:,} left" if self.left else ""
        line = f"{self.ok:,} ok, {self.failed:,} failed, {self.skipped:,} skipped{left}"
        lines = [f"{line}, of {self.rows:,} rows in {_duration(self.seconds)}"]
        if self.errors:
            most = Counter(self.errors).most_common(SHOWN)
            lines.append(f"failed in the table: {', '.join(f'{n:,} {kind}' for kind, n in most)}")
            lines.append(f"which, and why: {self.out / 'errors.csv'}")
        return "\n".join([*lines, f"the table: {self.out / 'parts'}"])


def batch(
    source: Source,
    out: str | os.PathLike[str],
    *,
    model: str | VideoModel | VideoPredictor,
    engine: str = "local",
    workers: int | None = None,
    threads: int | None = None,
    resume: bool = False,
    retry_failed: bool = False,
    max_error_rate: float = 1.0,
    timeout_s: float = TIMEOUT_S,
    part_rows: int = PART_ROWS,
    part_s: float = PART_S,
    address: str | None = None,
    tell: Callable[[str], object] = print,
    watch: Callable[[Standing], object] | None = None,
    **options: Any,
) -> Summary:
    """Run a model over a list of videos of any length; every row of the list becomes one row of the table in `out`.

    source: a folder, a glob, a .txt of paths, a .csv or .parquet with a column `path` (Parquet also `bytes`) and any
    others, which are kept; or paths. A folder, also one that a glob or paths name, stands for the videos within and
    below, links followed, hidden ones left out. `id` names a row where it is there, else its path as listed; rows that
    repeat an id are left out.
    out: the folder of the result: parts/ (Parquet), errors.csv, input.parquet, run.json.
    model, options: of `zoo.VideoPredictor`, such as task="embed", top_k=3, views="fast", device="cuda"; or one itself.
    engine: "local" starts worker processes on this machine; "ray" uses Ray, at `address` or started here.
    workers, threads: processes, and torch's threads in each; None is what this machine, or cluster, has, and for
    threads first what a VideoPredictor says.
    resume: go on with what is in `out`: nothing that is there is computed again; an empty folder is begun.
    retry_failed: when resuming, try those of the list again that failed.
    max_error_rate: of this run, above which it stops.
    timeout_s: a worker without any answer for so long is killed, as if its video had killed it.
    part_rows, part_s: results become a part of the table when there are so many, or the first one is so old.
    tell: called with what happens, as text. watch: called with the Standing about twice a second.

    A video that kills its worker is tried once more alone, and then marked; others are not concerned. A run that is
    killed in any way loses no part that was written. SIGTERM and Ctrl-C end it with everything done.
    Raises SpecError, DataError and what `zoo.create` raises before anything is run; BatchError when the run cannot go
    on, exceeds its error rate, or has rows that do not add up.
    """
    arrow()
    _check(engine, max_error_rate, timeout_s=timeout_s, part_s=part_s)
    _check_whole(workers=workers, threads=threads, part_rows=part_rows)
    if isinstance(model, VideoPredictor) and options:
        raise SpecError(f"{next(iter(options))} beside a VideoPredictor", hint="give it to the VideoPredictor")
    predictor = model if isinstance(model, VideoPredictor) else VideoPredictor(model, **options)
    if address and engine != "ray":
        raise SpecError(f"address={address!r} with engine={engine!r}", hint="engine='ray' has one")
    run = _engine(engine)
    inputs, folder = open_inputs(source, predictor.task), Folder(out)
    schema = schema_of(predictor.task, inputs.others)
    who = predictor.identity  # raises here, and not in every worker, for a model that cannot be had
    started, counts = time.monotonic(), Counter[str]()
    broken: Exception | None = None
    crossed = ""  # what the counts were when too many had failed: rows that were under way may still end well
    with folder.ours(), stoppable() as stop:
        folder.begin(predictor, schema, resume=resume)
        before = folder.table(predictor)
        again = before.failed if retry_failed else before.failed[:0]
        todo = plan(inputs, folder, np.setdiff1d(before.keys, again))
        for remark in todo.remarks:
            tell(remark)
        forgotten = folder.forget(np.intersect1d(again, todo.keys))
        if forgotten:
            tell(f"{forgotten.total():,} failed rows are tried again")

        def stopping() -> bool:
            nonlocal crossed
            crossed = crossed or _too_many(counts, max_error_rate, FIRST)
            return bool(stop.asked or crossed)

        work = Work(
            rows=takewhile(lambda row: not stopping(), todo.each()),
            stopping=stopping,
            count=todo.todo,
            folder=folder.parts,
            schema=schema,
            token=(folder.token, folder.token.read_text()),
            workers=workers,
            threads=threads or predictor.threads,
            timeout_s=timeout_s,
            part_rows=part_rows,
            part_s=part_s,
            address=address,
        )
        if work.count:
            tell(f"{who.model}: {work.count:,} videos to do")
            progress = _Progress(work.count, watch or _Lines(tell))
            try:
                with closing(run(predictor, work)) as news:
                    for some in news:
                        counts += some
                        progress(counts)
            except KeyboardInterrupt:  # asked to stop twice
                pass
            except Exception as error:  # is raised when what was done is told
                broken = error
        after = folder.table(predictor)
        try:
            folder.write_errors()
        except BatchError as error:
            broken = broken or error
    done = after.counts - (before.counts - forgotten)
    summary = Summary(
        out=folder.path,
        rows=todo.rows,
        ok=done[OK],
        failed=done.total() - done[OK],
        skipped=todo.done + todo.duplicates,
        seconds=time.monotonic() - started,
        errors={kind: n for kind, n in after.counts.items() if kind != OK},
        stopped=stop.asked,
    )
    tell(str(summary))
    if broken:
        raise broken
    if too_many := crossed if summary.left else _too_many(done, max_error_rate, 0):
        rate = f"{too_many} failed, more than max_error_rate={max_error_rate:g} allows"
        raise BatchError(rate, hint="errors.csv says why; resume goes on")
    if not stop.asked:
        check_rows(todo.keys, after, before.keys)
    return summary


def _engine(name: str) -> Engine:
    if name == "local":
        return run_local
    from zoo.bulk.ray import run_ray

    return run_ray


def _check(engine: str, max_error_rate: float, **seconds: float) -> None:
    if engine not in ENGINES:
        raise SpecError(f"engine={engine!r}", hint=f"it is {' or '.join(ENGINES)}")
    if not (isinstance(max_error_rate, Real) and 0 <= max_error_rate <= 1):
        raise SpecError(f"max_error_rate={max_error_rate!r}", hint="a share of the rows, from 0 to 1")
    for name, value in seconds.items():
        if not (isinstance(value, Real) and value > 0):
            raise SpecError(f"{name}={value!r}", hint="a number of seconds, more than 0")


def _check_whole(**numbers: int | None) -> None:
    for name, value in numbers.items():
        if value is not None and not (isinstance(value, Integral) and value > 0):
            raise SpecError(f"{name}={value!r}", hint="a whole number of at least 1")


def _too_many(counts: Counter[str], rate: float, first: int) -> str:
    """How many failed of how many where that is more than may, once there are `first` rows; else nothing."""
    total = counts.total()
    failed = total - counts[OK]
    return f"{failed} of {total}" if total >= first and failed > rate * total else ""


class _Progress:
    """Tells the Standing. The rate is that since the first rows came: workers have to start first."""

    def __init__(self, total: int, watch: Callable[[Standing], object]) -> None:
        self._total, self._watch = total, watch
        self._first: tuple[float, int] | None = None

    def __call__(self, counts: Counter[str]) -> None:
        now, done = time.monotonic(), counts.total()
        if self._first is None and done:
            self._first = now, done
        since, before = self._first or (now, 0)
        rate = (done - before) / (now - since) if done > before else 0.0
        left = (self._total - done) / rate if rate else None
        self._watch(Standing(done, self._total, done - counts[OK], rate, left))


class _Lines:
    """Says how far a run is every now and then."""

    def __init__(self, tell: Callable[[str], object]) -> None:
        self._tell, self._said = tell, time.monotonic()

    def __call__(self, standing: Standing) -> None:
        if time.monotonic() - self._said >= EVERY_S:
            self._tell(str(standing))
            self._said = time.monotonic()


def _duration(seconds: float) -> str:
    """In the two largest units."""
    whole = round(seconds)
    for unit, size, smaller, part in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // part} {smaller}"
    return f"{seconds:.1f} s"
