"""`zoo.bench`: models take turns, each in a process of its own."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from zoo import registry
from zoo.cost import cost_of
from zoo.deploy.optimize import DISTANCE
from zoo.errors import SpecError
from zoo.factory import check_device
from zoo.spec import Weights
from zoo.speed.contestant import PEERS
from zoo.speed.result import CONTROL, EAGER, Bench, Row

START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from zoo.speed.child import child; child(**json.loads(sys.argv[2]))"
)


def bench(
    names: str | Sequence[str],
    *,
    ways: Sequence[str] = (),
    peers: bool = False,
    rounds: int = 7,
    batch: int = 1,
    threads: int | None = None,
    device: str | None = None,
    tell: Callable[[str], object] = lambda text: None,
) -> Bench:
    """Clips per second, latency and peak memory of forward passes, on clips of the models' protocols.

    names: from `zoo.list_models()`; the weights are random, as those are no slower. ways: methods of `zoo.optimize`, as
    further rows of each. peers: torchvision, pytorchvideo, timm and transformers where they are installed and have a
    model of that name. rounds: turns of each; the order turns round each time. batch: clips in a forward pass.
    threads: of torch, None is one for each core. device: None is cuda where there is one.
    The first row runs twice, as "control": how far its ratio is from 1 is what the other ratios are worth. What cannot
    be run gets a row with its `error`. Raises UnknownModel, SpecError.
    """
    names = [names] if isinstance(names, str) else list(names)
    if not names or rounds < 1 or batch < 1 or (threads is not None and threads < 1):
        raise SpecError(
            f"names={names}, rounds={rounds}, batch={batch}, threads={threads}", hint="at least one of each"
        )
    if unknown := [way for way in ways if way not in DISTANCE]:
        raise SpecError(f"ways={unknown[0]!r}", hint=f"they are {', '.join(DISTANCE)}")
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    check_device(device)
    threads = threads or os.cpu_count() or 1
    all_ways = [EAGER, *ways, *(PEERS if peers else ())]
    rows = [replace(row, way=way) for row in [_row(name, batch) for name in names] for way in all_ways]
    rows.insert(1, replace(rows[0], way=CONTROL))
    machine = {
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else processor(),
        "threads": threads,
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "rounds": rounds,
        "batch": batch,
    }
    with ExitStack() as processes:
        running = []
        for row in rows:
            tell(f"{row.name}, {row.way}")
            process = _Process(row, device, threads)
            if process.absent:
                process.close()
            else:
                running.append(process)
                processes.callback(process.close)
        for turn in range(rounds):
            tell(f"round {turn + 1} of {rounds}")
            for process in running if turn % 2 else reversed(running):
                process.take_turn()
        return Bench([process.end() for process in running], machine)


class _Process:
    """One contestant in a process of its own, and what is known of it so far."""

    def __init__(self, row: Row, device: str, threads: int) -> None:
        way = EAGER if row.way == CONTROL else row.way
        asked = {"name": row.name, "way": way, "batch": row.batch, "device": device, "threads": threads}
        command = [sys.executable, "-c", START, json.dumps(sys.path), json.dumps(asked)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        found = self._hear()
        self.absent = bool(found.pop("absent", False))
        self._row = replace(row, **found)

    def close(self) -> None:
        self._process.kill()
        with self._process:  # closes its pipes, and waits
            pass

    def take_turn(self) -> None:
        if not self._row.error:
            found = self._hear("go")
            if "error" in found:
                self._row = replace(self._row, **found)
            else:
                self._row = replace(self._row, seconds=[*self._row.seconds, found["seconds"]])

    def end(self) -> Row:
        return self._row if self._row.error else replace(self._row, **self._hear(None))

    def _hear(self, line: str | None = "") -> dict[str, Any]:
        """What it says, after it was told a line, or that there are no more."""
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            if line is None:
                self._process.stdin.close()
            elif line:
                print(line, file=self._process.stdin, flush=True)
            said: dict[str, Any] = json.loads(self._process.stdout.readline())
            return said
        except (OSError, ValueError):
            return {"error": f"its process ended with {self._process.wait()}"}


def _row(name: str, batch: int) -> Row:
    spec, weights = registry.default.find(name)
    cost, figures = cost_of(spec, weights), weights or spec.weights.get(spec.default_tag or "")
    return Row(name, EAGER, batch, cost.clip, [], params=cost.params, gmacs=cost.gflops, accuracy=_accuracy(figures))


def _accuracy(weights: Weights | None) -> tuple[float, str] | None:
    """The first figure that is an accuracy of videos."""
    for metric in weights.metrics if weights else ():
        if metric.name in ("top1", "acc@1") and metric.level == "video":
            return metric.value, metric.dataset
    return None


def processor() -> str:
    """The processor's name, where the system says it."""
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.*)", info.read_text()) if info.is_file() else None
    return found[1] if found else platform.processor() or platform.machine()
