"""The process that one contestant is in: it gets ready, and then runs once for each line on its stdin."""

from __future__ import annotations

import json
import os
import re
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import torch

from zoo.speed.contestant import Absent, contestant, seconds


def child(name: str, way: str, *, batch: int, device: str, threads: int) -> None:
    """Says what it is, or why it cannot be, then the seconds of each turn, and at the end its peak memory."""
    warnings.simplefilter("ignore")
    say = _speaker()
    torch.set_num_threads(threads)
    try:
        one = contestant(name, way, batch=batch, device=device)
        seconds(one, device)  # warms up
    except Absent as absent:
        say({"absent": True, "error": str(absent)})
        return
    except BaseException as error:
        say({"error": f"{type(error).__name__}: {str(error).partition(chr(10))[0][:300]}"})
        return
    say({"params": one.params, "about": one.about})
    for _ in sys.stdin:
        try:
            say({"seconds": seconds(one, device)})
        except Exception as error:
            say({"error": repr(error)[:300]})
            return
    say({"peak_mb": peak_mb(device)})


def peak_mb(device: str) -> float:
    """The most memory so far, in MB: of this process, or on the GPU."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device) / 1e6
    status = Path("/proc/self/status")
    if status.is_file() and (found := re.search(r"VmHWM:\s+(\d+) kB", status.read_text())):
        return int(found[1]) * 1024 / 1e6  # not ru_maxrss, which a process takes over from the one that started it
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def _speaker() -> Callable[[object], None]:
    """What writes a line to stdout as it is now; everybody else's stdout becomes stderr."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return lambda message: print(json.dumps(message), file=out, flush=True)
