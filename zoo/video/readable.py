"""File objects and pipes as av wants them, and what they raised, which av would hide."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from zoo.errors import VideoError, VideoOpenError

if TYPE_CHECKING:
    from zoo.video.source import Guard


class _Remembering:
    """Remembers what a file object raised, which av would hide. An interrupt among it must not be lost."""

    error: BaseException | None = None

    def _call(self, failed: Any, function: Callable[..., Any], *args: Any) -> Any:
        if self.error:
            return failed  # FFmpeg tries again, and av would print a second exception
        try:
            return function(*args)
        except BaseException as error:
            self.error = error
            raise OSError("the file object failed") from error


class Reader(_Remembering):
    """A file object as av wants it. Limits are kept here too, as FFmpeg may read on without giving a packet."""

    def __init__(self, file: Any, guard: Guard) -> None:
        self.file, self.guard, name = file, guard, guard.name
        try:
            self.position = file.tell()
            file.seek(0)
            binary = isinstance(file.read(0), bytes | bytearray | memoryview)
        except Exception as error:
            raise VideoOpenError(
                f"{name} cannot be read from its start: {error}",
                hint="pass what its read() gives, or a file on disk; iter_frames reads a pipe",
                source=name,
                reason="not seekable",
            ) from error
        if not binary:
            raise VideoOpenError(
                f"{name} gives text", hint="open it in binary mode, 'rb'", source=name, reason="text mode"
            )

    def read(self, size: int) -> bytes:
        return self._call(b"", self._read, size)  # type: ignore[no-any-return]

    def _read(self, size: int) -> bytes:
        self.guard.check_time()
        data = _bytes_of(self.file.read, size)
        if self.guard.limits.max_bytes is not None:
            self.guard.check_size(self.file.tell())
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._call(-1, self.file.seek, offset, whence)  # type: ignore[no-any-return]

    def tell(self) -> int:
        return self._call(-1, self.file.tell)  # type: ignore[no-any-return]

    def restore(self) -> None:
        if self.error is None or isinstance(self.error, VideoError):
            self.file.seek(self.position)


class Pipe(_Remembering):
    """What can be read only once. Without `seek`, av does not try to."""

    def __init__(self, file: Any, guard: Guard) -> None:
        # A buffered read waits until all is there; `read1` gives what has come.
        self.get, self.guard, self.taken = getattr(file, "read1", file.read), guard, 0
        raw = getattr(file, "raw", file)
        # Only the system's own files can be waited for: others may hold data back, as connections with TLS do.
        self.descriptor = raw.fileno() if isinstance(raw, io.FileIO) and sys.platform != "win32" else None

    def read(self, size: int) -> bytes:
        return self._call(b"", self._read, size)  # type: ignore[no-any-return]

    def _read(self, size: int) -> bytes:
        self.guard.check_time()
        if self.descriptor is not None:
            self.guard.wait_for(self.descriptor)
        data = _bytes_of(self.get, size)
        self.taken += len(data)
        self.guard.check_size(self.taken)
        return data


def _bytes_of(read: Callable[[int], Any], size: int) -> bytes:
    data = read(size)
    if not isinstance(data, bytes | bytearray | memoryview):
        raise TypeError(f"read() gave {type(data).__name__} and not bytes")
    if len(data) > size:
        raise ValueError(f"read({size}) gave {len(data)} bytes")
    return bytes(data)
