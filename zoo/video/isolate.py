"""Reading in a child process with limits, for files from strangers: even a crash of the decoder is a VideoError.

The child sends plain JSON and pixels, nothing that could run code here. It may use `limits.max_memory`, writes no
files, leaves no core dump, and is killed at `limits.deadline_s`. It costs the start of a process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from typing import IO, Any

import numpy as np

from zoo import errors
from zoo.errors import VideoDecodeError, VideoError, VideoLimitError, VideoOpenError
from zoo.video.index import VideoIndex, probe
from zoo.video.picture import Frame, Picture, Resize, Shape
from zoo.video.select import Selection
from zoo.video.source import Guard, Limits, name_of, resolve
from zoo.video.table import PacketTable
from zoo.video.url import Url

CHILD = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from zoo.video.isolate import child; child()"
KINDS = {kind.__name__: kind for kind in vars(errors).values() if isinstance(kind, type)}


def isolated_probe(src: Any, exact: bool, limits: Limits) -> VideoIndex:
    """What `probe` says, found out by a child."""
    with _child(src, {"probe": exact}, limits) as messages:
        return _index_from_json(next(messages)[0])


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
        **options: Any,
    ) -> None:
        self.src, self.resize, self.limits = src, resize, limits
        known = None if index is None else _index_to_json(index)
        self.request = {"wanted": list(wanted), "index": known, "options": options}
        self.shape: Shape | None = None
        self.path, self.why = "fast", None
        self.n_packets = self.n_decoded = 0
        self.errors: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[Frame]:
        name = name_of(self.src)
        with _child(self.src, self.request, self.limits) as messages:
            for said, pixels in messages:
                self.path, self.why = said["path"], said["why"]
                self.shape = target = self.resize.target(*said["shape"])
                if "index" not in said:
                    self.n_packets, self.n_decoded = said["n_packets"], said["n_decoded"]
                    self.errors = tuple(said["errors"])
                    return
                picture: Picture = np.frombuffer(pixels, np.uint8).reshape(*said["size"], 3)
                yield Frame(self.resize.apply(picture, target, said["index"], name), said["index"], said["time_s"])


@contextmanager
def _child(src: Any, request: dict[str, Any], limits: Limits) -> Iterator[Iterator[tuple[Any, bytearray]]]:
    """What a child answers: (message, pixels), until the child has nothing more to say."""
    name = name_of(src)
    header, payload = _source(src, limits)
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, json.dumps(sys.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},  # whose threads would reserve memory
    )
    late = threading.Timer(limits.deadline_s or 0, process.kill)
    if limits.deadline_s is not None:
        late.start()
    started = time.monotonic()
    try:
        with process:
            try:
                assert process.stdin is not None and process.stdout is not None
                process.stdin.write(json.dumps(request | header | {"limits": asdict(limits)}).encode() + b"\n")
                process.stdin.write(payload)
                process.stdin.close()
            except BrokenPipeError:
                pass  # it has ended; what it says or its status tells why
            try:
                yield _answers(process, name, limits, started)
            finally:
                process.kill()
    finally:
        late.cancel()


def _source(src: Any, limits: Limits) -> tuple[dict[str, Any], bytes]:
    if isinstance(src, str | os.PathLike):
        return {"path": os.fsdecode(src)}, b""
    if isinstance(src, Url):
        return {"path": str(src.path())}, b""
    if callable(getattr(src, "read", None)):
        try:
            position = src.tell()
            src.seek(0)
            data = src.read()
            src.seek(position)
        except Exception as error:
            raise VideoOpenError(
                f"{name_of(src)} cannot be read from its start: {error}",
                hint="pass what its read() gives, or a file on disk",
                source=name_of(src),
                reason="not seekable",
            ) from error
        src = data
    with ExitStack() as stack:
        resolve(src, limits, stack)  # raises for what is no video at all
    return {"bytes": len(src)}, bytes(src)


def _answers(
    process: subprocess.Popen[bytes], name: str, limits: Limits, started: float
) -> Iterator[tuple[Any, bytearray]]:
    assert process.stdout is not None and process.stderr is not None
    while line := process.stdout.readline():
        said = json.loads(line)
        if "error" in said:
            kind = KINDS[said.pop("error")]
            raise kind(said["message"], hint=said["hint"], source=said["source"], reason=said["reason"])
        size = said.get("bytes", 0)
        pixels = bytearray(size)
        if process.stdout.readinto(pixels) < size:  # type: ignore[attr-defined]
            break
        yield said, pixels
        if "index" not in said:
            return
    if limits.deadline_s is not None and time.monotonic() - started >= limits.deadline_s:
        Guard(name, limits, started).check_time()
    status = process.wait()
    last = process.stderr.read().decode(errors="replace").strip().rpartition("\n")[2]
    reason = f"the decoder crashed (signal {-status})" if status < 0 else f"the decoder's process failed: {last[:200]}"
    raise VideoDecodeError(
        f"{name}: {reason}", hint="the file is damaged or made to harm; do not use it", source=name, reason=reason
    )


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
        return _say(out, _index_to_json(probe(src, exact=request["probe"], limits=limits)))
    known = _index_from_json(request["index"]) if request["index"] else None
    selection = Selection(src, request["wanted"], _AsDecoded(), index=known, limits=limits, **request["options"])
    for frame in selection:
        said = {"index": frame.index, "time_s": frame.time_s, "size": frame.data.shape[:2], "bytes": frame.data.nbytes}
        _say(out, {**said, "path": selection.path, "why": selection.why, "shape": selection.shape}, frame.data.data)
    counts = {"n_packets": selection.n_packets, "n_decoded": selection.n_decoded, "errors": selection.errors}
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
    return VideoIndex(**(fields | rows | {"_table": table}))


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
            value = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(kind, (value, value))
