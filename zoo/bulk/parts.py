"""Results on disk: files of Parquet that appear whole or not at all."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.bulk.arrow import arrow
from zoo.errors import BatchError

if TYPE_CHECKING:
    import pyarrow as pa

PARTS = "*.parquet"


class Parts:
    """Rows are added one by one, and become a part when there are `most_rows` or the first one is `most_s` old."""

    def __init__(self, folder: Path, schema: pa.Schema, *, most_rows: int, most_s: float, name: str = "part") -> None:
        self._folder, self._schema, self._name = folder, schema, name
        self._most_rows, self._most_s = most_rows, most_s
        ours = re.compile(rf"{re.escape(name)}-(\d+)\.parquet")
        numbers = [int(found[1]) for path in folder.glob(PARTS) if (found := ours.fullmatch(path.name))]
        self._number = max(numbers, default=-1) + 1
        self._rows: list[Mapping[str, Any]] = []
        self._since = 0.0

    def add(self, row: Mapping[str, Any]) -> None:
        self._since = self._since if self._rows else time.monotonic()
        self._rows.append(row)

    def commit(self, *, whether_due: bool = False) -> None:
        """Write what was added; with `whether_due` only if it is time. Raises BatchError if that cannot be."""
        due = len(self._rows) >= self._most_rows or time.monotonic() - self._since >= self._most_s
        if not self._rows or (whether_due and not due):
            return
        path = self._folder / f"{self._name}-{self._number:06d}.parquet"
        write(arrow().Table.from_pylist(self._rows, schema=self._schema), path)
        self._rows, self._number = [], self._number + 1


def write(table: pa.Table, path: Path) -> None:
    """A table to a file that is there when it is complete. Raises BatchError."""
    with replacing(path) as new, new.open("wb") as stream:
        arrow().parquet.write_table(table, stream, compression="zstd")
        stream.flush()
        os.fsync(stream.fileno())


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Where to write what becomes the file when it is complete, else nothing. Raises BatchError if that cannot be."""
    new = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield new
        new.replace(path)
        _sync(path.parent)
    except OSError as error:
        hint = "what came before is kept; make room and run the same again with resume"
        raise BatchError(f"{path} cannot be written: {error.strerror or error}", hint=hint) from error
    finally:
        new.unlink(missing_ok=True)


def clear(folder: Path, names: str) -> None:
    """Remove what a process that was killed has not finished."""
    for path in folder.glob(f".{names}.*"):
        path.unlink(missing_ok=True)


def _sync(folder: Path) -> None:
    """So that a power cut does not undo the renaming."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
