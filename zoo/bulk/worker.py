"""A worker process that videos may kill: it is started again, and only the video that killed it twice is marked."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from zoo.bulk import child
from zoo.bulk.predictor import failure
from zoo.errors import BatchError

if TYPE_CHECKING:
    from zoo.bulk.predictor import Row, VideoPredictor

START = (
    "import json, signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN); sys.path[:] = json.loads(sys.argv[1]); "
    "from zoo.bulk.child import child; child()"
)
TRIES = 3  # to start a process, before the run is given up
KEPT = "what was done is kept; mend it and run the same again with resume"
START_S = 600.0  # for a process to import torch and build the model
STEP = 0.5  # seconds between looks at the clock
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
# What a forward pass frees, glibc gives back to the kernel, and each page of the next one is a fault. A worker keeps up
# to so many bytes; tools/bench_batch.py shows what it gains. 32 MiB is the most that every glibc takes for the second.
KEPT_MEMORY = {"MALLOC_TRIM_THRESHOLD_": str(1 << 30), "MALLOC_MMAP_THRESHOLD_": str(1 << 25)}


class Crash(Exception):
    """The process is gone."""


class Closed(Exception):
    """The process is gone because nobody wants it any more."""


class Worker:
    """Runs a predictor in a process of its own.

    timeout_s: without any answer for so long, the process is killed, as if the video had killed it.
    environment: variables of the process on top of this one's.
    """

    def __init__(
        self, predictor: VideoPredictor, *, timeout_s: float, environment: dict[str, str] | None = None
    ) -> None:
        self._predictor, self._timeout = predictor, timeout_s
        threads = dict.fromkeys(THREADS, str(predictor.threads)) if predictor.threads else {}
        self._environment = KEPT_MEMORY | dict(os.environ) | threads | (environment or {})
        self._process: subprocess.Popen[bytes] | None = None
        self._complaints: deque[bytes] = deque(maxlen=2)
        self._deadline: float | None = None  # while we wait for the process
        self._late = False
        self._closed = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def work(self, rows: Iterator[Row]) -> Iterator[tuple[Row, dict[str, Any]]]:
        """Each row with its result, as they come; ends when it is stopped. Raises BatchError if no process starts."""
        with suppress(Closed):
            yield from self._work(rows)

    def stop(self) -> None:
        """End the process and the work, from any thread."""
        self._closed.set()
        if (process := self._process) is not None:
            process.kill()

    def close(self) -> None:
        """Stop, and wait until the process is gone; where the work was done."""
        self.stop()
        if self._process is not None:
            with suppress(Closed):
                self._obituary()

    def _work(self, rows: Iterator[Row]) -> Iterator[tuple[Row, dict[str, Any]]]:
        sent: dict[int, Row] = {}
        begun: set[int] = set()
        again: deque[Row] = deque()
        number = deaths = 0
        while True:
            try:
                while len(sent) < self._predictor.decoders + 2:
                    row = again.popleft() if again else next(rows, None)
                    if row is None:
                        break
                    number += 1
                    sent[number] = row
                    self._send(number, row)
                if not sent:
                    return
                said = self._receive()
            except Crash as crash:
                suspects = [row for n, row in sent.items() if n in begun]
                again.extendleft(reversed([row for n, row in sent.items() if n not in begun]))
                sent.clear()
                begun.clear()
                deaths = 0 if suspects else deaths + 1
                if deaths == TRIES:
                    raise BatchError(f"workers die before they begin: {crash}", hint=KEPT) from None
                for row in suspects:
                    yield row, self._alone(row)
                continue
            if said["said"] == child.BEGUN:
                begun.add(said["row"])
            else:
                begun.discard(said["row"])
                yield sent.pop(said["row"]), said["result"]

    def _alone(self, row: Row) -> dict[str, Any]:
        """The result of a row that was in the hands of a process which died: this time nothing else is."""
        try:
            self._send(0, row)
            while (said := self._receive())["said"] != child.DONE:
                pass
            result: dict[str, Any] = said["result"]
        except Crash as crash:
            kind = "WorkerTimeout" if self._late else "WorkerCrashed"
            result = self._predictor.about(row) | failure(kind, str(crash))
        return result | {"attempts": 2}

    def _send(self, number: int, row: Row) -> None:
        process = self._running()
        with self._patience(self._timeout):
            self._write(process, (number, dict(row)))

    def _write(self, process: subprocess.Popen[bytes], thing: Any) -> None:
        assert process.stdin is not None
        try:
            pickle.dump(thing, process.stdin)
            process.stdin.flush()
        except OSError:
            raise Crash(self._obituary()) from None

    def _receive(self, patience: float | None = None) -> dict[str, Any]:
        process = self._process
        assert process is not None and process.stdout is not None
        with self._patience(self._timeout if patience is None else patience):
            line = process.stdout.readline()
        if not line.endswith(b"\n"):
            raise Crash(self._obituary())
        said: dict[str, Any] = json.loads(line)
        return said

    def _running(self) -> subprocess.Popen[bytes]:
        """The process; a new one if there is none."""
        for left in reversed(range(TRIES)):
            if self._process is not None:
                break
            try:
                self._start()
            except Crash as crash:
                if not left:
                    raise BatchError(f"a worker cannot be started: {crash}", hint=KEPT) from None
        assert self._process is not None
        return self._process

    def _start(self) -> None:
        if self._closed.is_set():
            raise Closed
        command = [sys.executable, "-c", START, json.dumps(sys.path)]
        pipe = subprocess.PIPE
        self._process = process = subprocess.Popen(command, env=self._environment, stdin=pipe, stdout=pipe, stderr=pipe)
        if self._closed.is_set():  # meanwhile
            process.kill()
        self._late = False
        self._complaints.clear()
        lines = iter(partial(process.stderr.read1, 1 << 16), b"")  # type: ignore[union-attr]
        self._listener = threading.Thread(target=self._complaints.extend, args=(lines,), daemon=True)
        self._listener.start()
        patience = max(self._timeout, START_S)
        with self._patience(patience):
            self._write(process, self._predictor)
        said = self._receive(patience)
        if said["said"] == child.BROKEN:
            self._obituary()
            unknown = said["type"] == "UnknownModel"
            hint = "what is registered in one process only is unknown to others: pass the model itself"
            raise BatchError(f"a worker cannot be started: {said['error']}", hint=hint if unknown else "")

    def _obituary(self) -> str:
        """How the process died; nothing is left of it. Raises Closed if that was wanted."""
        process, self._process = self._process, None
        assert process is not None
        try:
            status = process.wait(5)
        except subprocess.TimeoutExpired:  # it has closed its output, and goes on
            process.kill()
            status = process.wait()
        self._listener.join()
        for pipe in (process.stdin, process.stdout, process.stderr):
            with suppress(OSError):
                pipe.close()  # type: ignore[union-attr]
        if self._closed.is_set():
            raise Closed
        if self._late:
            return f"no answer for {self._timeout:g} s"
        words = b"".join(self._complaints).decode(errors="replace").strip().rpartition("\n")[2][:200]
        how = f"was killed by {_signal(-status)}" if status < 0 else f"ended with {status}"
        return f"the worker process {how}{f': {words}' if words else ''}"

    @contextmanager
    def _patience(self, seconds: float) -> Iterator[None]:
        self._deadline = time.monotonic() + seconds
        try:
            yield
        finally:
            self._deadline = None

    def _watch(self) -> None:
        while not self._closed.wait(STEP):
            deadline, process = self._deadline, self._process
            if deadline is not None and process is not None and time.monotonic() > deadline:
                self._late = True
                process.kill()


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
