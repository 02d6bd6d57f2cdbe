"""What there is to do: a folder, a glob, a text list, a table, or paths at hand. Rows come one by one."""

from __future__ import annotations

import csv
import glob
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.bulk.arrow import arrow, check_bytes, schema_of
from zoo.bulk.predictor import id_of, text
from zoo.data.listing import VIDEOS
from zoo.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

Source = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]
KINDS = "a folder, a glob, a .txt of paths, a .csv or .parquet with a column path, or a list of paths"
SOME = 16  # rows at once of a table that holds whole videos
MANY = 1024


@dataclass(frozen=True)
class Inputs:
    """name: what to call it. others: the columns that are kept. whole: rows hold videos, not their paths only.

    rows: makes an iterator of {"id", "path", "bytes" where `whole`, and the others}; twice gives the same.
    """

    name: str
    others: pa.Schema
    rows: Callable[[], Iterator[dict[str, Any]]]
    whole: bool = False


def open_inputs(source: Source, task: str) -> Inputs:
    """Raises DataError for what is none of these, and for a column that the output of the task has too."""
    if not isinstance(source, str | os.PathLike):
        if not isinstance(source, Iterable):
            raise DataError(f"{source!r:.80} is no list of videos", hint=f"give {KINDS}")
        paths = [*map(_path, source)]
        return Inputs(f"{len(paths)} paths", arrow().schema([]), lambda: _paths(paths))
    path = Path(os.path.expanduser(source))  # noqa: PTH111  Path's own refuses the ~ of nobody
    name = str(path)
    if path.is_dir():
        found = Inputs(name, arrow().schema([]), lambda: (_row(video, str(path / video)) for video in _walk(name)))
    elif not path.exists() and glob.has_magic(name):
        found = Inputs(name, arrow().schema([]), lambda: _paths(sorted(glob.glob(name, recursive=True))))  # noqa: PTH207
    elif not path.exists():
        raise DataError(f"{name} does not exist", hint=f"give {KINDS}")
    elif path.suffix.lower() in OPENERS:
        found = OPENERS[path.suffix.lower()](path)
    elif path.suffix.lower() in VIDEOS:
        found = Inputs(name, arrow().schema([]), lambda: _paths([name]))
    else:
        raise DataError(f"{name} is no list of videos", hint=f"give {KINDS}")
    schema_of(task, found.others)
    return found


def _row(id: str, path: str) -> dict[str, Any]:
    return {"id": text(id), "path": text(os.path.abspath(path))}  # noqa: PTH100  links stay links


def _path(given: object) -> str:
    if not isinstance(given, str | os.PathLike):
        raise DataError(f"{given!r:.80} is no path", hint="give a list of paths, as text or pathlib.Path")
    path = os.fspath(given)
    if os.path.splitext(path)[1].lower() in OPENERS:  # noqa: PTH122
        raise DataError(f"{path} is a list, and stands in a list", hint="give a list alone, or join them to one")
    return path


def _paths(paths: Iterable[str]) -> Iterator[dict[str, Any]]:
    """Paths as they are, and instead of a folder the videos in it."""
    for path in paths:
        folder = not _is_video(path) and os.path.isdir(path)  # noqa: PTH112
        for name in [os.path.join(path, video) for video in _walk(path)] if folder else [path]:  # noqa: PTH118
            yield _row(name, name)


def _is_video(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in VIDEOS  # noqa: PTH122


def _walk(folder: str, above: tuple[str, ...] = ()) -> Iterator[str]:
    """Videos by their names from there, hidden ones left out, in an order that is the same everywhere.

    Links are followed, but not to a folder that they are in. Raises DataError for a folder that cannot be listed.
    """
    above = (*above, os.path.realpath(folder))
    try:
        with os.scandir(folder) as found:
            entries = sorted((entry.name, entry.is_dir()) for entry in found if not entry.name.startswith("."))
    except OSError as error:
        what = error.filename or folder
        raise DataError(f"{what} cannot be listed: {error.strerror}", hint="allow it, or move it away") from error
    yield from (name for name, is_folder in entries if not is_folder and _is_video(name))
    for name, is_folder in entries:
        within = os.path.join(folder, name)  # noqa: PTH118
        if is_folder and os.path.realpath(within) not in above:
            yield from (f"{name}/{video}" for video in _walk(within, above))


def _text(path: Path) -> Inputs:
    def rows() -> Iterator[dict[str, Any]]:
        with _readable(path), path.open(encoding="utf-8-sig") as lines:
            for line in map(str.strip, lines):
                if line:
                    yield _row(line, _beside(path, line))

    return Inputs(str(path), arrow().schema([]), rows)


def _csv(path: Path) -> Inputs:
    pa = arrow()
    with _readable(path), path.open(newline="", encoding="utf-8-sig") as stream:
        columns = [name.strip() for name in next(csv.reader(stream), [])]
    _check_columns(path, columns, ["path"])
    check_bytes(str(path), pa.schema([(name, pa.string()) for name in columns]))
    others = [name for name in columns if name not in ("id", "path")]

    def rows() -> Iterator[dict[str, Any]]:
        with _readable(path), path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream, fieldnames=columns)
            next(reader, None)
            for row in reader:
                where = f"{path}, line {reader.line_num}"
                if None in row:
                    raise DataError(f"{where} has more than {len(columns)} values", hint="quote values with commas")
                if not (said := (row["path"] or "").strip()):
                    raise DataError(f"{where} has no path", hint="give every row one")
                yield _row(row.get("id") or said, _beside(path, said)) | {name: row[name] for name in others}

    return Inputs(str(path), pa.schema([(name, pa.string()) for name in others]), rows)


def _parquet(path: Path) -> Inputs:
    pa = arrow()
    with _readable(path), pa.parquet.ParquetFile(path) as table:
        schema = table.schema_arrow
    _check_columns(path, schema.names, ["path", "bytes"])
    check_bytes(str(path), schema)
    others = pa.schema([field for field in schema if field.name not in ("id", "path", "bytes")])
    whole = "bytes" in schema.names

    def rows() -> Iterator[dict[str, Any]]:
        number = 0
        with _readable(path), pa.parquet.ParquetFile(path) as table:
            for batch in table.iter_batches(SOME if whole else MANY):
                for row in batch.to_pylist():
                    number += 1
                    said, data = row.get("path"), row.get("bytes")
                    if not (isinstance(said, str) and said) and not isinstance(data, bytes):
                        raise DataError(f"{path}, row {number} has neither path nor bytes", hint="give every row one")
                    known = {"bytes": data} if whole else {}
                    known |= {"id": id_of(row), "path": text(_beside(path, said)) if said else None}
                    yield known | {field.name: row[field.name] for field in others}

    return Inputs(str(path), others, rows, whole)


OPENERS = {".txt": _text, ".csv": _csv, ".parquet": _parquet}


def _beside(table: Path, said: str) -> str:
    """A path of a list is relative to the list."""
    return os.path.join(os.path.abspath(table.parent), os.path.expanduser(said))  # noqa: PTH100, PTH111, PTH118


def _check_columns(path: Path, columns: Sequence[str], wanted: Sequence[str]) -> None:
    if not set(wanted) & set(columns):
        hint = f"it needs a column {' or '.join(wanted)}"
        raise DataError(f"{path} has the columns {', '.join(columns) or '(none)'}", hint=hint)
    if twice := sorted({name for name in columns if columns.count(name) > 1}):
        raise DataError(f"{path} has the column {twice[0]!r} twice", hint="rename one")


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Whatever is wrong with a table is a DataError that names it."""
    try:
        yield
    except (UnicodeDecodeError, csv.Error, OSError, arrow().ArrowException) as error:
        said = str(error).partition("\n")[0]
        raise DataError(f"{path} cannot be read: {said}", hint="is it whole, and in UTF-8?") from error
