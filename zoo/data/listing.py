"""Which videos there are, and what each shows: a folder with one folder per class, or a table of paths and labels."""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from zoo.errors import DataError

if TYPE_CHECKING:
    from zoo.video.footage import Footage

VIDEOS = frozenset(
    (
        *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".m2ts", ".wmv", ".flv"),
        *(".gif", ".3gp", ".ogv"),
    )
)
TABLES = (".csv", ".jsonl")
COLUMNS = ("path", "label", "start_s", "end_s", "split")
TRAIN, VAL, TEST = SPLITS = ("train", "val", "test")
PARTS = {**{name: name for name in SPLITS}, "valid": VAL, "validation": VAL}  # by the names of their folders
DRAWN, MOST_DRAWN = "synth:", 1_000_000
PURE, MIXED, FIXED = "camera_motion", "mixed_motion", "fixed_camera"


@dataclass(frozen=True)
class Sample:
    """A video, or what is shown of it from `start_s` to `end_s`, and its label.

    name: the path as the listing has it, with the span; the same wherever the data lie.
    part: "train", "val", "test", or "" where the listing does not say. drawn: the kind of what is no file, but made
    when it is read. line: of the table that lists it, as a table may list one video several times; 0 without a table.
    """

    path: Path
    label: str
    name: str
    start_s: float | None = None
    end_s: float | None = None
    part: str = ""
    drawn: str = ""
    line: int = 0

    def open(self, show: int | None = None) -> Footage:
        """The video, to be read. show: a generated video is another one for each of these. Raises VideoError."""
        if self.drawn:
            from zoo.synth.fixed import FixedFootage
            from zoo.synth.footage import GeneratedFootage
            from zoo.synth.mixed import MixedFootage

            seed = show if show is not None else int(sha256(self.name.encode()).hexdigest()[:15], 16)
            kinds = {PURE: GeneratedFootage, MIXED: MixedFootage, FIXED: FixedFootage}
            return kinds[self.drawn](self.label, seed)
        from zoo.video.footage import open_footage

        return open_footage(self.path)

    @cached_property
    def file(self) -> str:
        """Where the video lies: one for all ways to write its path, and for all links to it."""
        return str(self.path) if self.drawn else os.path.realpath(self.path)

    @property
    def span(self) -> tuple[float, float] | None:
        """(start_s, end_s), or None for the whole video."""
        if self.start_s is None and self.end_s is None:
            return None
        return self.start_s or 0.0, math.inf if self.end_s is None else self.end_s


@dataclass(frozen=True)
class Listing:
    """source: what was read. samples: in an order that is the same everywhere. empty: classes without a video.

    ignored: files between the videos that are none by their names.
    """

    source: Path
    samples: tuple[Sample, ...]
    empty: tuple[str, ...] = ()
    ignored: tuple[str, ...] = field(default=(), repr=False)

    @property
    def name(self) -> str:
        """What to call these data; says nothing of where they lie."""
        return self.source.stem or self.source.resolve().name

    @property
    def labels(self) -> tuple[str, ...]:
        """All of them, sorted."""
        return tuple(sorted({sample.label for sample in self.samples}))


def digest_of(samples: Iterable[Sample]) -> str:
    """Of all names and labels, in order; the same data have the same wherever they lie."""
    return sha256("\n".join(f"{sample.name}\t{sample.label}" for sample in samples).encode()).hexdigest()


def read_listing(source: str | Path) -> Listing:
    """What a folder or a table lists.

    source: a folder of class folders; a folder of `train` and `val` (or `valid`, `validation`) or `test`, or all, that
    hold class folders; or a .csv with a header, or a .jsonl, with `path` (relative to the table) and `label`, and if
    need be `start_s`, `end_s` and `split` (train, val or test); or
    synth:camera_motion:N, N videos of known camera motion that are drawn as they are read, in training always new ones;
    synth:mixed_motion:N, N of two motions and of either's label; synth:fixed_camera:N, N of a fixed camera before which
    large things move, all `static`; or several of these, as synth:camera_motion:N+mixed_motion:M.
    Raises DataError.
    """
    if str(source).startswith(DRAWN):
        return _drawn(str(source))
    path = _path(str(source))
    try:
        if path.is_dir():
            return _folder(path)
        if path.is_file():
            return _table(path)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise DataError(f"{path} cannot be read: {reason}", hint="check the path and its permissions") from error
    raise DataError(f"{source} does not exist", hint="give a folder of class folders, or a .csv or .jsonl file")


def _path(text: str, where: str = "") -> Path:
    """With the home folder for ~ or ~user."""
    try:
        return Path(text).expanduser()
    except (RuntimeError, ValueError) as error:
        hint = "write the whole path"
        raise DataError(f"{where}no home folder is known for {text!r:.80}", hint=hint) from error


def _drawn(source: str) -> Listing:
    from zoo.synth import LABELS, MOVES

    labels = {PURE: LABELS, MIXED: tuple(MOVES), FIXED: ("static",)}
    samples: list[Sample] = []
    kinds = []
    for part in source.removeprefix(DRAWN).split("+"):
        kind, _, count = part.partition(":")
        if kind not in labels or not (count.isascii() and count.isdecimal() and 0 < int(count) <= MOST_DRAWN):
            one = " or ".join(f"{DRAWN}{known}:N" for known in labels)
            hint = f"it is {one}, or several, as {DRAWN}{PURE}:N+{MIXED}:N; N up to {MOST_DRAWN}"
            raise DataError(f"{source} cannot be drawn", hint=hint)
        names = [f"{kind}-{count}/{i:07}" for i in range(int(count))]  # other videos than those of another N
        known = labels[kind]
        samples += [Sample(Path(name), known[i % len(known)], name, drawn=kind) for i, name in enumerate(names)]
        kinds.append(kind)
    return Listing(Path(f"generated {' and '.join(kinds)}"), tuple(samples))


def _folder(root: Path) -> Listing:
    parts = _parts(root)
    samples: list[Sample] = []
    empty: list[str] = []
    ignored: list[str] = []
    for holder, part in parts.items() if parts else [(root, "")]:
        for folder in _folders(holder):
            files = sorted(p for p in folder.rglob("*") if p.is_file() and not _hidden(p, folder))
            names = {file: file.relative_to(root).as_posix() for file in files}
            if wrong := [name for name in (folder.name, *names.values()) if not _is_text(name)]:
                raise DataError(f"{root}: {wrong[0]!r:.80} is no name in UTF-8", hint="rename it")
            videos = [file for file in files if file.suffix.lower() in VIDEOS]
            ignored += [names[file] for file in files if file.suffix.lower() not in VIDEOS]
            empty += [] if videos else [folder.name]
            samples += [Sample(file, folder.name, names[file], part=part) for file in videos]
    if not samples:
        raise DataError(f"{root} holds no class folders with videos in them", hint="put them as CLASS/video.mp4")
    return Listing(root, tuple(samples), tuple(empty), tuple(ignored))


def _parts(root: Path) -> dict[Path, str]:
    """{folder: part} where the folders are the parts of a split, {} where they are classes."""
    folders = {folder: folder.name.casefold() for folder in _folders(root)}
    names = set(folders.values())
    if TRAIN not in names or len(names) < 2 or not names <= PARTS.keys():
        return {}
    if names != {TRAIN, VAL} and not any(_folders(folder) for folder in folders):  # classes that are called so
        return {}
    return {folder: PARTS[name] for folder, name in folders.items()}


def _folders(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))


def _hidden(path: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(root).parts)


def _table(path: Path) -> Listing:
    if path.suffix.lower() not in TABLES:
        raise DataError(f"{path} is no listing of videos", hint=f"it is a folder, or a file in {' or '.join(TABLES)}")
    samples = tuple(_sample(row, path, number) for number, row in _rows(path))
    if not samples:
        raise DataError(f"{path} lists no videos", hint=f"its columns are {', '.join(COLUMNS)}")
    return Listing(path, samples)


def _rows(table: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Rows with the numbers of their lines."""
    try:
        with table.open(newline="", encoding="utf-8-sig") as stream:
            if table.suffix.lower() == ".csv":
                reader = csv.DictReader(stream)
                for row in reader:
                    yield reader.line_num, row
                return
            for number, line in enumerate(stream, 1):
                if line.strip():
                    yield number, _object(line, table, number)
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{table} cannot be read: {error}", hint="it has to be text in UTF-8") from error


def _object(line: str, table: Path, number: int) -> Mapping[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{table}, line {number} is no JSON: {error}", hint="one object per line") from error
    if not isinstance(row, dict):
        raise DataError(f"{table}, line {number} is no JSON object", hint='such as {"path": "a.mp4", "label": "run"}')
    return row


def _sample(row: Mapping[str, Any], table: Path, number: int) -> Sample:
    where = f"{table}, line {number}"
    columns = ", ".join(COLUMNS)
    if unknown := [str(key) for key in row if key not in COLUMNS]:
        raise DataError(f"{where}: there is no column {unknown[0]!r}", hint=f"the columns are {columns}")
    path, label = row.get("path"), row.get("label")
    if isinstance(label, int) and not isinstance(label, bool):
        label = str(label)
    if not (_is_text(path) and _is_text(label)):
        raise DataError(
            f"{where}: path={path!r:.80}, label={label!r:.80}", hint="every row needs both, as text in UTF-8"
        )
    start, end = (_seconds(row.get(key), f"{where}: {key}") for key in ("start_s", "end_s"))
    if (start or 0.0) >= (math.inf if end is None else end):
        raise DataError(f"{where}: from {start} s to {end} s", hint="start_s has to be less than end_s")
    part = row.get("split") or ""
    if part not in ("", *SPLITS):
        raise DataError(f"{where}: split={part!r:.80}", hint=f"it is {' or '.join(SPLITS)}, or left out everywhere")
    span = "" if start is None and end is None else f" {start or 0:g}-{'' if end is None else f'{end:g}'}"
    file = table.parent / _path(path, f"{where}: ")
    return Sample(file, label, f"{path}{span}", start, end, part, line=number)


def _is_text(value: object) -> TypeGuard[str]:
    """Whether it says something, and can be written as UTF-8 and be a path."""
    try:
        return isinstance(value, str) and bool(value.strip()) and b"\0" not in value.encode()
    except UnicodeEncodeError:
        return False


def _seconds(value: Any, where: str) -> float | None:
    if value is None or value == "":
        return None
    try:
        seconds = float(value)
    except (TypeError, ValueError, OverflowError):
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise DataError(f"{where}={value!r:.80}", hint="it is seconds from the start of the video, or empty")
    return seconds
