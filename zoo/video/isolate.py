"""Reading in a child process with limits, for files from strangers: even a crash of the decoder is a VideoError.

The child sends plain JSON and pixels, nothing that could run code here. It may use `limits.max_memory`, writes no
files, leaves no core dump, and is killed at `limits.deadline_s`. It costs the start of a process.
"""

from __future__ import annotations

import json
import math
import operator
import os
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from functools import partial
from itertools import pairwise
from typing import IO, Any, TypeVar

import numpy as np

from zoo import errors
from zoo.errors import VideoDecodeError, VideoError, VideoLimitError
from zoo.video.index import VideoIndex, index_of
from zoo.video.picture import Frame, Picture, Resize, Shape
from zoo.video.readable import Reader
from zoo.video.select import Selection
from zoo.video.source import Guard, Limits, name_of, resolve, translated
from zoo.video.table import PacketTable
from zoo.video.url import Url

CHILD = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from zoo.video.isolate import child; child()"
KINDS = {k.__name__: k for k in vars(errors).values() if isinstance(k, type) and issubclass(k, VideoError)}
PIECE = 1 << 20
# Of one line of an answer: what is always there, and for each frame of an index.
LINE_BYTES, FRAME_BYTES = 1 << 20, 256
HARM = "the file is damaged or made to harm; do not use it"

Answer = TypeVar("Answer")


def isolated_index(src: Any, exact: bool, limits: Limits, started: float) -> VideoIndex:
    """What `probe` says, found out by a child."""
    with _child(src, {"probe": exact}, limits, started, lambda said, _: _index_from_json(said)) as answers:
        return next(answers)


class IsolatedSelection:
    """A Selection whose decoding is done by a child; the resize is done here."""

    def __init__(
        self,
        src: Any,
        wanted: Sequence[int],
        resize: Resize,
        *,
        index: VideoIndex | None,
        limits: Limits,
        started: float | None = None,
        **options: Any,
    ) -> None:
        self.src, self.wanted, self.resize, self.limits = src, set(wanted), resize, limits
        self.started = time.monotonic() if started is None else started
        known = None if index is None else _index_to_json(index)
        self.request = {"wanted": [int(k) for k in wanted], "index": known, "options": options}
        self.shape: Shape | None = None
        self.path: str = "fast"
        self.why: str | None = None
        self.n_packets = self.n_decoded = 0
        self.errors: tuple[str, ...] = ()
        self.n_errors = 0

    def __iter__(self) -> Iterator[Frame]:
        name, missing = name_of(self.src), set(self.wanted)
        with _child(self.src, self.request, self.limits, self.started, self._parse) as answers:
            for frame, shape in answers:
                self.shape = target = self.resize.target(*shape)
                if frame is None:
                    break
                missing.discard(frame.index)
                yield Frame(self.resize.apply(frame.data, target, frame.index, name), frame.index, frame.time_s)
        if missing:
            raise _nonsense(name, f"{len(missing)} frames are missing")

    def _parse(self, said: dict[str, Any], out: IO[bytes]) -> tuple[Frame | None, Shape]:
        """The next frame, unless it was the last; and the shape of the first one."""
        self.path, self.why = said["path"], said["why"]
        shape = _shape(said["shape"], self.limits)
        if "index" not in said:
            self.n_packets, self.n_decoded = said["n_packets"], said["n_decoded"]
            self.errors, self.n_errors = tuple(said["errors"]), said["n_errors"]
            return None, shape
        index, size = operator.index(said["index"]), _shape(said["size"], self.limits)
        if index not in self.wanted:
            raise ValueError(f"frame {index} was not asked for")
        pixels = bytearray(3 * size[0] * size[1])
        if out.readinto(pixels) < len(pixels):  # type: ignore[attr-defined]
            raise EOFError
        picture: Picture = np.frombuffer(pixels, np.uint8).reshape(*size, 3)
        return Frame(picture, index, float(said["time_s"])), shape


@contextmanager
def _child(
    src: Any,
    request: dict[str, Any],
    limits: Limits,
    started: float,
    parse: Callable[[dict[str, Any], IO[bytes]], Answer],
) -> Iterator[Iterator[Answer]]:
    """What a child answers to a request, each parsed from a JSON object and the stream that it came from."""
    guard = Guard(name_of(src), limits, started)
    header, payload = _source(src, guard)
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, json.dumps(sys.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},  # whose threads would reserve memory
    )
    left = math.inf if limits.deadline_s is None else max(started + limits.deadline_s - time.monotonic(), 0)
    late = threading.Timer(min(left, threading.TIMEOUT_MAX), process.kill)
    late.start()
    try:
        with process:
            assert process.stdin is not None and process.stderr is not None
            # Somebody has to read what it complains about, or it would wait for that for ever.
            complaints: deque[bytes] = deque(maxlen=2)
            lines = iter(partial(process.stderr.read1, 1 << 16), b"")  # type: ignore[attr-defined]
            listener = threading.Thread(target=complaints.extend, args=(lines,), daemon=True)
            listener.start()
            try:
                process.stdin.write(json.dumps(request | header | {"limits": asdict(limits)}).encode() + b"\n")
                process.stdin.write(payload)
                process.stdin.close()
            except BrokenPipeError:
                pass  # it has ended; what it says or its status tells why
            try:
                yield _answers(process, guard, parse, listener, complaints)
            finally:
                process.kill()
                listener.join()
    finally:
        late.cancel()
        late.join()


def _source(src: Any, guard: Guard) -> tuple[dict[str, Any], bytes]:
    if isinstance(src, str | os.PathLike):
        return {"path": os.fsdecode(src)}, b""
    if isinstance(src, Url):
        return {"path": str(src.path())}, b""
    with ExitStack() as stack:
        readable = resolve(src, guard, stack)  # raises for what is no video at all
        if isinstance(readable, Reader):
            stack.enter_context(translated(guard.name, readable))
            data = bytearray()
            while piece := readable.read(PIECE):
                data += piece
            src = data
    return {"bytes": len(src)}, bytes(src)


def _answers(
    process: subprocess.Popen[bytes],
    guard: Guard,
    parse: Callable[[dict[str, Any], IO[bytes]], Answer],
    listener: threading.Thread,
    complaints: deque[bytes],
) -> Iterator[Answer]:
    assert process.stdout is not None
    longest = sys.maxsize if (most := guard.limits.max_frames) is None else LINE_BYTES + FRAME_BYTES * int(most)
    while (line := process.stdout.readline(longest)).endswith(b"\n"):
        try:
            said = json.loads(line)
            error = _error(said) if "error" in said else None
            answer = None if error else parse(said, process.stdout)
        except EOFError:
            break
        except Exception as wrong:  # nothing that a stranger's file made of the child is believed
            raise _nonsense(guard.name, f"{type(wrong).__name__}: {wrong}") from wrong
        if error:
            raise error
        yield answer  # type: ignore[misc]
    if len(line) == longest:
        raise _nonsense(guard.name, "a line without an end")
    guard.check_time()
    status = process.wait()
    listener.join()
    last = b"".join(complaints).decode(errors="replace").strip().rpartition("\n")[2]
    reason = f"the decoder crashed (signal {-status})" if status < 0 else f"the decoder's process failed: {last[:200]}"
    raise VideoDecodeError(f"{guard.name}: {reason}", hint=HARM, source=guard.name, reason=reason)


def _error(said: dict[str, Any]) -> VideoError:
    message, *others = (str(said[key]) for key in ("message", "hint", "source", "reason"))
    return KINDS[said["error"]](message, **dict(zip(("hint", "source", "reason"), others, strict=True)))


def _nonsense(name: str, what: str) -> VideoDecodeError:
    reason = f"the decoder's process does not answer as it should ({what[:200]})"
    return VideoDecodeError(f"{name}: {reason}", hint=HARM, source=name, reason=reason)


def _shape(said: Any, limits: Limits) -> Shape:
    height, width = map(operator.index, said)
    if min(height, width) < 1 or (limits.max_pixels is not None and height * width > limits.max_pixels):
        raise ValueError(f"frames of {width}x{height}")
    return height, width


# --- in the child -----------------------------------------------------------------------------------------------------


class _AsDecoded(Resize):
    def apply(self, picture: Picture, target: Shape, index: int, name: str) -> Picture:
        return picture


def child() -> None:
    """Answer the one request on stdin."""
    request = json.loads(sys.stdin.buffer.readline())
    limits = Limits(**request["limits"])
    _limit_this_process(limits)
    src = request["path"] if "path" in request else sys.stdin.buffer.read(request["bytes"])
    try:
        _answer(src, request, limits, sys.stdout.buffer)
    except VideoError as error:
        said = {"message": Exception.__str__(error), "hint": error.hint, "source": error.source, "reason": error.reason}
        _say(sys.stdout.buffer, {"error": type(error).__name__, **said})
    except MemoryError:
        said = {"message": f"{name_of(src)}: more than max_memory={limits.max_memory} bytes are needed"}
        hint = "if you trust this video, pass limits=Limits(max_memory=...) with a larger value"
        kind = VideoLimitError.__name__
        _say(sys.stdout.buffer, {"error": kind, **said, "hint": hint, "source": name_of(src), "reason": "max_memory"})


def _answer(src: Any, request: dict[str, Any], limits: Limits, out: IO[bytes]) -> None:
    if "probe" in request:
        return _say(out, _index_to_json(index_of(src, request["probe"], limits, time.monotonic())))
    known = _index_from_json(request["index"]) if request["index"] else None
    selection = Selection(src, request["wanted"], _AsDecoded(), index=known, limits=limits, **request["options"])
    for frame in selection:
        said = {"index": frame.index, "time_s": frame.time_s, "size": frame.data.shape[:2]}
        _say(out, {**said, "path": selection.path, "why": selection.why, "shape": selection.shape}, frame.data.data)
    counts = {name: getattr(selection, name) for name in ("n_packets", "n_decoded", "errors", "n_errors")}
    return _say(out, {**counts, "path": selection.path, "why": selection.why, "shape": selection.shape})


def _index_to_json(index: VideoIndex) -> dict[str, Any]:
    fields = {name: getattr(index, name) for name in index.__dataclass_fields__}
    table = fields["_table"]
    if table is not None:
        fields["_table"] = {name: getattr(table, name).tolist() for name in table.__dataclass_fields__}
    return fields


def _index_from_json(fields: dict[str, Any]) -> VideoIndex:
    table = fields["_table"]
    if table is not None:
        table = PacketTable(**{name: np.array(rows, np.int64) for name, rows in table.items()})
    rows = {name: tuple(fields[name]) for name in ("time_s", "keyframe")}
    index = VideoIndex(**(fields | rows | {"_table": table}))
    if not _plausible(index):
        raise ValueError("an index that cannot be")
    return index


def _plausible(index: VideoIndex) -> bool:
    """Whether its numbers fit together, so that what uses them cannot fail."""
    n, times, table = index.n_frames, index.time_s, index._table
    rows = 0 if table is None else len(table.pts)
    return (
        0 < n == len(times) == len(index.keyframe)
        and all(map(math.isfinite, [*times, index.fps_mean, index.duration_s]))
        and all(a <= b for a, b in pairwise(times))
        and min(index.width, index.height, index.fps_mean, index.duration_s) > 0
        and index.trusted == (table is not None)
        and (
            table is None
            or (
                len(table.shown) == n
                and len(table.keys) == len(table.key_pts) > 0
                and all(of.min() >= 0 and of.max() < rows for of in (table.shown, table.keys))
            )
        )
    )


def _say(out: IO[bytes], message: dict[str, Any], pixels: Any = b"") -> None:
    out.write(json.dumps(message).encode() + b"\n")
    out.write(pixels)
    out.flush()


def _limit_this_process(limits: Limits) -> None:
    try:
        import resource
    except ImportError:  # Windows
        return
    wanted = {resource.RLIMIT_CORE: 0, resource.RLIMIT_FSIZE: 0, resource.RLIMIT_AS: limits.max_memory}
    for kind, value in wanted.items():
        if value is not None:
            hard = resource.getrlimit(kind)[1]
            value = int(value) if hard == resource.RLIM_INFINITY else min(int(value), hard)
            resource.setrlimit(kind, (value, value))
