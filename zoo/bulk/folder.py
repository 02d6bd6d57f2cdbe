"""The folder of a run: what was run, the list of videos, the parts of the table, and its errors once more.

run.json        model, digests, options: what every row depends on
input.parquet   the list as it was when the run began: id, path, and the columns that are kept
parts/          the table; `pyarrow.parquet.read_table("OUT/parts")` reads it
errors.csv      its failed rows
"""

from __future__ import annotations

import csv
import json
import os
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from zoo.bulk.arrow import FAILED, OK, arrow
from zoo.bulk.parts import PARTS, clear, replacing, write
from zoo.errors import BatchError, SpecError

if TYPE_CHECKING:
    import pyarrow as pa

    from zoo.bulk.predictor import VideoPredictor

Keys = NDArray[np.uint64]
ERRORS = ("id", "path", "error_type", "error_message", "attempts")
DIGESTS = ("weights_digest", "preprocessing_digest")


@dataclass(frozen=True)
class Table:
    """What the parts hold.

    keys, failed: of the ids, in order, and of those whose row failed. counts: rows by their type of error, "ok" for
    those without.
    """

    keys: Keys
    failed: Keys
    counts: Counter[str]


class Folder:
    """The folder of a run, whether it is there already or not."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).expanduser().absolute()  # processes elsewhere write into it
        self.parts, self.inputs = self.path / "parts", self.path / "input.parquet"
        self.token = self.path / ".run"
        self._run, self._errors = self.path / "run.json", self.path / "errors.csv"

    @contextmanager
    def ours(self) -> Iterator[None]:
        """Made, and kept from other runs meanwhile. Raises SpecError where one is under way; BatchError on a full disk.

        The token tells workers on other machines that outlived their run from those of this one.
        """
        try:
            self.parts.mkdir(parents=True, exist_ok=True)
            opened = (self.path / ".lock").open("w")
        except OSError as error:
            raise SpecError(f"{self.path} cannot be written: {error.strerror}", hint="give another folder") from error
        with opened as lock, ExitStack() as end:
            try:
                import fcntl

                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except ImportError:  # Windows
                pass
            except OSError as error:
                raise SpecError(f"another run is writing {self.path}", hint="wait for it, or stop it") from error
            for path in (self.parts / PARTS, self.inputs, self._run, self._errors, self.token):
                clear(path.parent, path.name)
            _replace(self.token, uuid.uuid4().hex)
            end.callback(self.token.unlink, missing_ok=True)
            yield

    def begin(self, predictor: VideoPredictor, schema: pa.Schema, *, resume: bool) -> None:
        """Write down what is run; or, where something was, hold this run and its columns to it. Raises SpecError."""
        run = asdict(predictor.identity) | predictor.options()
        if not any(self.parts.glob(PARTS)):
            _replace(self._run, json.dumps(run, indent=2) + "\n")
            return
        if not resume:
            hint = "resume goes on with it (--resume); else give another folder"
            raise SpecError(f"{self.path} holds the results of a run already", hint=hint)
        try:
            before = json.loads(self._run.read_text())
        except (OSError, ValueError) as error:
            raise SpecError(f"{self._run} cannot be read: {error}", hint="give another folder") from error
        changed = [name for name in run if before.get(name) != run[name] and name not in ("model", "weights")]
        if changed:
            was, now = (f"{of.get('model')} with {changed[0]} {of.get(changed[0])!s:.12}" for of in (before, run))
            raise SpecError(f"{self.path} holds results of {was}, this run is {now}", hint="give another folder")
        with sound(self._paths()[0]) as part:
            held = part.schema_arrow
        if not held.equals(schema):
            names = [set(some.names) for some in (held, schema)]
            other = ", ".join(sorted(names[0] ^ names[1])) or "one of another type"
            hint = "one table has the same columns in all rows: give the list that it began with, or another folder"
            raise SpecError(f"{self.path} holds rows with other columns than this list has: {other}", hint=hint)

    def forget(self, rows: Keys) -> Counter[str]:
        """Take failed rows out of the table, so that they are tried again. How many of each type of error."""
        pa, gone = arrow(), Counter[str]()
        for path in self._paths() if len(rows) else ():
            table = self._read(path)
            tried = (table["status"].to_numpy() == FAILED) & np.isin(_keys(table), rows)
            gone.update(table["error_type"].filter(pa.array(tried)).to_pylist())
            if tried.all():
                path.unlink()
            elif tried.any():
                write(table.filter(pa.array(~tried)), path)
        return gone

    def table(self, predictor: VideoPredictor) -> Table:
        """What is in the parts. Raises BatchError for a part that is damaged or of another run."""
        identity, none, counts = predictor.identity, np.empty(0, np.uint64), Counter[str]()
        keys, failed = [none], [none]
        for path in self._paths():
            table = self._read(path, ["id", "status", "error_type", *DIGESTS])
            for name in DIGESTS:
                if set(table[name].unique().to_pylist()) - {getattr(identity, name)}:
                    raise BatchError(f"{path} has rows with another {name}", hint="take it out of the folder")
            keys.append(_keys(table))
            failed.append(keys[-1][table["status"].to_numpy() == FAILED])
            counts.update(kind or OK for kind in table["error_type"].to_pylist())
        return Table(np.sort(np.concatenate(keys)), np.sort(np.concatenate(failed)), counts)

    def write_errors(self) -> None:
        """Write the failed rows of the table, as CSV. Raises BatchError."""
        pa = arrow()
        with replacing(self._errors) as new, new.open("w", newline="", encoding="utf-8") as stream:
            lines = csv.writer(stream)
            lines.writerow(ERRORS)
            for path in self._paths():
                table = self._read(path, [*ERRORS, "status"])
                failed = table.filter(pa.compute.equal(table["status"], FAILED))
                lines.writerows([row[name] for name in ERRORS] for row in failed.to_pylist())

    def _paths(self) -> list[Path]:
        return sorted(self.parts.glob(PARTS))

    def _read(self, path: Path, columns: list[str] | None = None) -> pa.Table:
        with sound(path) as part:
            return part.read(columns)


@contextmanager
def sound(path: Path) -> Iterator[Any]:
    """A file of the folder to read from. Raises BatchError where it is damaged."""
    pa = arrow()
    try:
        with pa.parquet.ParquetFile(path) as part:
            yield part
    except (OSError, pa.ArrowException) as error:
        hint = "remove it and run again with resume: rows that were in a part are then computed again"
        raise BatchError(f"{path} cannot be read: {str(error).partition(chr(10))[0]}", hint=hint) from error


def key(id: str) -> int:
    """64 bits of an id: millions of them are small, and two of a million share one in one of 37 million lists."""
    return int.from_bytes(blake2b(id.encode(), digest_size=8).digest(), "little")


def _keys(table: pa.Table) -> Keys:
    return np.fromiter(map(key, table["id"].to_pylist()), np.uint64, len(table))


def check_rows(wanted: Keys, table: Table, before: Keys) -> None:
    """Raise BatchError unless the table has each wanted row once, and else only what it had before."""
    found, counts = np.unique(table.keys, return_counts=True)
    missing = len(np.setdiff1d(wanted, found, assume_unique=True))
    strange = len(np.setdiff1d(found, np.union1d(wanted, before), assume_unique=True))
    twice = int((counts > 1).sum())
    if missing or strange or twice:
        raise BatchError(
            f"rows do not add up: of {len(wanted)} videos {missing} have no row, {twice} have several, "
            f"and {strange} rows are of no video of the list",
            hint="run again with resume; if it stays so, tell the authors of zoo",
        )


def _replace(path: Path, content: str) -> None:
    with replacing(path) as new:
        new.write_text(content)
