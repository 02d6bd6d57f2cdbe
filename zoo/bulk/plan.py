"""What is left to do: the list as it is now, less what is in the table already, with a few bytes for each row."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import compress, islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.bulk.arrow import arrow
from zoo.bulk.folder import Folder, Keys, key, sound
from zoo.bulk.inputs import MANY, Inputs
from zoo.bulk.parts import replacing
from zoo.errors import BatchError, DataError

SHOWN = 3


@dataclass(frozen=True)
class Plan:
    """rows: of the list. duplicates: rows whose id came before, left out. done: in the table already.

    keys: of the different ids, in order. new, gone: ids that the list of the last run did not have, or had alone.
    """

    rows: int
    duplicates: int
    done: int
    keys: Keys
    new: int
    gone: int
    remarks: tuple[str, ...]
    _inputs: Inputs = field(repr=False)
    _folder: Folder = field(repr=False)
    _todo: NDArray[np.bool_] = field(repr=False)

    @property
    def todo(self) -> int:
        return int(self._todo.sum())

    def each(self) -> Iterator[dict[str, Any]]:
        """The rows to be done, in the order of the list. Raises BatchError if the list changes meanwhile."""
        listed = _read(self._folder)
        if self._inputs.whole:
            listed = _with_videos(listed, self._inputs)
        return compress(listed, self._todo)


def plan(inputs: Inputs, folder: Folder, done: Keys) -> Plan:
    """Write down the list, and what of it is left to do.

    Raises DataError for a list that is empty or wrong, which leaves the folder as it was; BatchError where the list of
    the last run is damaged, or this one cannot be written.
    """
    before = None
    if folder.inputs.is_file():
        before = np.unique(np.fromiter((key(row["id"]) for row in _read(folder, ["id"])), np.uint64))
    keys = _write(inputs, folder)
    unique, first = np.unique(keys, return_index=True)
    todo = np.zeros(len(keys), bool)
    todo[first] = True
    duplicates, remarks = len(keys) - len(unique), []
    if duplicates:
        some = islice(compress((row["id"] for row in _read(folder, ["id"])), ~todo), SHOWN)
        remarks.append(f"{duplicates} rows repeat an id and are left out, such as {', '.join(some)}")
    todo &= ~np.isin(keys, done)
    new = gone = 0
    if before is not None:
        new, gone = (len(np.setdiff1d(a, b, assume_unique=True)) for a, b in ((unique, before), (before, unique)))
        if new or gone:
            remarks.append(f"the list has changed: {new} videos are new, {gone} are gone and keep the rows they have")
    finished = int(np.isin(unique, done).sum())
    return Plan(len(keys), duplicates, finished, unique, new, gone, tuple(remarks), inputs, folder, todo)


def _write(inputs: Inputs, folder: Folder) -> Keys:
    """The list into the folder; the keys of its rows."""
    pa, keys = arrow(), array("Q")
    schema = pa.schema([("id", pa.string()), ("path", pa.string()), *inputs.others])
    rows = iter(inputs.rows())
    with replacing(folder.inputs) as new:
        with pa.parquet.ParquetWriter(new, schema, compression="zstd") as writer:
            while some := [*islice(_bare(rows), MANY)]:
                keys.extend(key(row["id"]) for row in some)
                writer.write_table(pa.Table.from_pylist(some, schema=schema))
        if not keys:
            raise DataError(f"{inputs.name} lists no videos", hint="check the path or the pattern")
    return np.array(keys, np.uint64)


def _bare(rows: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for row in rows:
        row.pop("bytes", None)
        yield row


def _read(folder: Folder, columns: list[str] | None = None) -> Iterator[dict[str, Any]]:
    with sound(folder.inputs) as table:
        for batch in table.iter_batches(MANY, columns=columns):
            yield from batch.to_pylist()


def _with_videos(listed: Iterator[dict[str, Any]], inputs: Inputs) -> Iterator[dict[str, Any]]:
    again = inputs.rows()
    for row in listed:
        found = next(again, None)
        if found is None or found["id"] != row["id"]:
            raise BatchError(f"{inputs.name} has changed while it was read", hint="run again with resume")
        yield row | {"bytes": found["bytes"]}
