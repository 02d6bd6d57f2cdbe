"""Which videos there are, and what each shows: a folder with one folder per class, or a table of paths and labels."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
TRAIN, VAL = "train", "val"
DRAWN, MOST_DRAWN = "synth:", 1_000_000
PURE, MIXED, FIXED = "camera_motion", "mixed_motion", "fixed_camera"


@dataclass(frozen=True)
class Sample:
    """A video, or what is shown of it from `start_s` to `end_s`, and its label.

    name: the path as the listing has it, with the span; the same wherever the data lie.
    part: "train", "val", or "" where the listing does not say. drawn: the kind of what is no file, but made when it is
    read.
    """

    path: Path
    label: str
    name: str
    start_s: float | None = None
    end_s: float | None = None
    part: str = ""
    drawn: str = ""

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

    source: a folder of class folders; a folder with such a `train` and a `val`; or a .csv with a header, or a .jsonl,
    with `path` (relative to the table) and `label`, and if need be `start_s`, `end_s` and `split` (train or val); or
    synth:camera_motion:N, N videos of known camera motion that are drawn as they are read, in training always new ones;
    synth:mixed_motion:N, N of two motions and of either's label; synth:fixed_camera:N, N of a fixed camera before which
    large things move, all `static`; or several of these, as synth:camera_motion:N+mixed_motion:M.
    Raises DataError.
    """
    if str(source).startswith(DRAWN):
        return _drawn(str(source))
    path = Path(source).expanduser()
    if path.is_dir():
        return _folder(path)
    if not path.is_file():
        raise DataError(f"{source} does not exist", hint="give a folder of class folders, or a .csv or .jsonl file")
    if path.suffix.lower() not in TABLES:
        raise DataError(f"{source} is no listing of videos", hint=f"it is a folder, or a file in {' or '.join(TABLES)}")
    samples = tuple(_sample(row, path, number) for number, row in _rows(path))
    if not samples:
        raise DataError(f"{source} lists no videos", hint=f"its columns are {', '.join(COLUMNS)}")
    return Listing(path, samples)


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
    parts = [root / TRAIN, root / VAL]
    split = all(part.is_dir() for part in parts) and {p.name for p in _folders(root)} == {TRAIN, VAL}
    samples: list[Sample] = []
    empty: list[str] = []
    ignored: list[str] = []
    for part in parts if split else [root]:
        for folder in _folders(part):
            files = sorted(p for p in folder.rglob("*") if p.is_file() and not _hidden(p, folder))
            videos = [file for file in files if file.suffix.lower() in VIDEOS]
            ignored += [str(file.relative_to(root)) for file in files if file.suffix.lower() not in VIDEOS]
            empty += [] if videos else [folder.name]
            names = ((file, file.relative_to(root).as_posix()) for file in videos)
            samples += [Sample(file, folder.name, name, part=part.name if split else "") for file, name in names]
    if not samples:
        raise DataError(f"{root} holds no class folders with videos in them", hint="put them as CLASS/video.mp4")
    return Listing(root, tuple(samples), tuple(empty), tuple(ignored))


def _folders(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))


def _hidden(path: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(root).parts)


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
    if not (isinstance(path, str) and path.strip() and isinstance(label, str) and label.strip()):
        raise DataError(f"{where}: path={path!r:.80}, label={label!r:.80}", hint="every row needs both, as text")
    start, end = (_seconds(row.get(key), f"{where}: {key}") for key in ("start_s", "end_s"))
    if (start or 0.0) >= (math.inf if end is None else end):
        raise DataError(f"{where}: from {start} s to {end} s", hint="start_s has to be less than end_s")
    part = row.get("split") or ""
    if part not in ("", TRAIN, VAL):
        raise DataError(f"{where}: split={part!r:.80}", hint=f"it is {TRAIN} or {VAL}, or left out everywhere")
    span = "" if start is None and end is None else f" {start or 0:g}-{'' if end is None else f'{end:g}'}"
    return Sample(table.parent / Path(path).expanduser(), label, f"{path}{span}", start, end, part)


def _seconds(value: Any, where: str) -> float | None:
    if value is None or value == "":
        return None
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise DataError(f"{where}={value!r:.80}", hint="it is seconds from the start of the video, or empty")
    return seconds
