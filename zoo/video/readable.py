"""File objects and pipes as av wants them, and what they raised, which av would hide."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from zoo.errors import VideoOpenError

if TYPE_CHECKING:
    from zoo.video.source import Guard


class _Remembering:
    """Remembers what a file object raised, which av would hide. An interrupt among it must not be lost."""

    error: BaseException | None = None

    def _call(self, function: Callable[..., Any], *args: Any) -> Any:
        try:
            return function(*args)
        except BaseException as error:
            self.error = error
            raise OSError("the file object failed") from error


class Reader(_Remembering):
    """A file object as av wants it."""

    def __init__(self, file: Any, name: str) -> None:
        self.file, self.name = file, name
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
        return self._call(_bytes_of, self.file.read, size)  # type: ignore[no-any-return]

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._call(self.file.seek, offset, whence)  # type: ignore[no-any-return]

    def tell(self) -> int:
        return self._call(self.file.tell)  # type: ignore[no-any-return]

    def restore(self) -> None:
        if self.error is None:
            self.file.seek(self.position)


class Pipe(_Remembering):
    """What can be read only once. Without `seek`, av does not try to."""

    def __init__(self, file: Any, guard: Guard) -> None:
        # A buffered read waits until all is there; `read1` gives what has come.
        self.get, self.guard = getattr(file, "read1", file.read), guard
        raw = getattr(file, "raw", file)
        # Only the system's own files can be waited for: others may hold data back, as connections with TLS do.
        self.descriptor = raw.fileno() if isinstance(raw, io.FileIO) and sys.platform != "win32" else None

    def read(self, size: int) -> bytes:
        return self._call(self._read, size)  # type: ignore[no-any-return]

    def _read(self, size: int) -> bytes:
        if self.descriptor is not None:
            self.guard.wait_for(self.descriptor)
        return _bytes_of(self.get, size)


def _bytes_of(read: Callable[[int], Any], size: int) -> bytes:
    data = read(size)
    if not isinstance(data, bytes | bytearray | memoryview):
        raise TypeError(f"read() gave {type(data).__name__} and not bytes")
    if len(data) > size:
        raise ValueError(f"read({size}) gave {len(data)} bytes")
    return bytes(data)
