"""Unpickling in a child process that has little to do harm with: the one place of zoo where a pickle is opened.

What keeps a file from running code is that tensors only are unpickled (`weights_only=True`). Behind that the child is
a smaller place to be in, not a prison: its memory, its time and the size of what it writes are bounded; it is given no
secrets of the environment; it has no network where the system lets anybody give that up; and Python refuses it to start
processes or open files for writing. Native code is not held by the last, and all code could read what its user may. It
answers with plain JSON, and what it wrote is opened by the parent as a file from a stranger.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn

from zoo import errors
from zoo.errors import WeightsCorrupt, WeightsMismatch, ZooError

CHILD = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from zoo.weights.isolate import child; child()"
KINDS = {kind.__name__: kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, ZooError)}
KEPT = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT", "LANG", "TMPDIR", "TEMP")  # of the environment

MEMORY, MEMORY_PER_BYTE = 1 << 30, 6  # on top of what torch takes: mapped, cloned, serialised, read again, compared
SECONDS, BYTES_PER_SECOND = 60, 4 << 20  # of CPU; three times as many on the clock
NEW_USER, NEW_NETWORK, DIE_WITH_PARENT = 0x10000000, 0x40000000, 1  # Linux: unshare(2), prctl(2)
FORBIDDEN = ("os.", "pty.", "shutil.", "socket.", "subprocess.", "ctypes.dlopen")  # events that Python audits
HARMLESS = ("os.listdir", "os.scandir", "os.walk", "os.fwalk", "socket.__new__")

HINT = "the file is damaged or made to harm; do not use it"


def convert_in_child(source: Path, output: Path, request: dict[str, Any]) -> dict[str, Any]:
    """Have a child write the tensors of `source` to `output`, and return what it says about them.

    request: as `zoo.weights.pickled.convert` takes it. Raises what that raises; WeightsCorrupt if the child crashes or
    reaches a limit.
    """
    size = source.stat().st_size
    seconds = SECONDS + size // BYTES_PER_SECOND
    limits = {"AS": MEMORY + MEMORY_PER_BYTE * size, "CPU": seconds, "FSIZE": 2 * size + MEMORY, "CORE": 0}
    request |= {"source": str(source.absolute()), "output": str(output.absolute()), "limits": limits}
    environment = {name: os.environ[name] for name in KEPT if name in os.environ}
    process = subprocess.Popen(
        [sys.executable, "-P", "-B", "-c", CHILD, json.dumps([str(Path(p).absolute()) for p in sys.path])],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
    )
    with process:
        try:
            out, err = process.communicate(json.dumps(request).encode(), timeout=3 * seconds)
        except subprocess.TimeoutExpired:
            _failed(source, f"reading it takes more than {3 * seconds} s")
        finally:
            process.kill()
    if process.returncode in (-signal.SIGXCPU, -signal.SIGKILL):
        _failed(source, f"reading it takes more than {seconds} s of CPU, or more memory than there is")
    if process.returncode < 0:
        _failed(source, f"reading it crashes (signal {-process.returncode})")
    try:
        said = json.loads(out.rpartition(b"\n")[2])
        if "error" in said:
            raised = KINDS[said["error"]](str(said["message"]), hint=str(said["hint"]))
            if isinstance(raised, WeightsMismatch):
                raised.shapes = {str(name): tuple(map(int, shape)) for name, shape in dict(said["shapes"]).items()}
        else:
            return {"key": str(said["key"]), "layout": str(said["layout"]), "notes": list(map(str, said["notes"]))}
    except (ValueError, KeyError, TypeError):
        last = err.decode(errors="replace").strip().rpartition("\n")[2]
        _failed(source, f"reading it fails: {last[:300]}")
    raise raised


def _failed(source: Path, reason: str) -> NoReturn:
    raise WeightsCorrupt(f"{source}: {reason}", hint=HINT)


# --- in the child -----------------------------------------------------------------------------------------------------


def child() -> None:
    """Answer the one request on stdin."""
    request = json.loads(sys.stdin.buffer.read())
    _leave_the_world()  # while there are no threads yet
    from zoo.weights import pickled
    from zoo.weights.layouts import layout_function

    try:
        for reference in request["layouts"].values():
            layout_function(reference)  # imported while memory is not bounded yet
        _limit_this_process(request["limits"])
        said = pickled.convert(request)
    except ZooError as error:
        said = {"error": type(error).__name__, "message": Exception.__str__(error), "hint": error.hint}
        if isinstance(error, WeightsMismatch):
            said["shapes"] = error.shapes
    except MemoryError:
        message = f"{request['source']}: more memory is needed than {MEMORY_PER_BYTE} times its size"
        said = {"error": WeightsCorrupt.__name__, "message": message, "hint": HINT}
    sys.stdout.write("\n" + json.dumps(said))
    sys.stdout.flush()
    os._exit(0)  # whatever a file left behind is not asked to clean up after itself


def _leave_the_world() -> None:
    """Give up the network, as far as this system lets anybody do so, and do not outlive the parent."""
    try:
        libc = ctypes.CDLL(None)
        libc.prctl(DIE_WITH_PARENT, signal.SIGKILL)
        if libc.unshare(NEW_NETWORK):
            libc.unshare(NEW_USER | NEW_NETWORK)
    except (AttributeError, OSError, TypeError):  # not Linux
        return


def _limit_this_process(limits: dict[str, int]) -> None:
    try:
        import resource
    except ImportError:  # Windows
        return
    pages = Path("/proc/self/statm")  # where torch is already, and its libraries with it
    mapped = int(pages.read_text().split()[0]) * resource.getpagesize() if pages.exists() else 0
    limits = limits | {"AS": limits["AS"] + mapped}
    for name, value in limits.items():
        kind = getattr(resource, f"RLIMIT_{name}")
        hard = resource.getrlimit(kind)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (value, value))
    sys.addaudithook(_refuse)


def _refuse(event: str, arguments: tuple[Any, ...]) -> None:
    """Nothing that only reads and computes does any of this. Python's own functions are held, native ones are not."""
    writes = event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
    if writes or (event.startswith(FORBIDDEN) and event not in HARMLESS):
        raise PermissionError(f"{event} is not allowed while a pickle is read")
