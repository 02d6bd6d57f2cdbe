"""What happens during a training, said to the user and written to log.csv, and for TensorBoard if that is wished."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from zoo.errors import SpecError

FILE = "log.csv"
COLUMNS = ("step", "epoch", "lr", "loss", "grad_norm", "clips_per_s", "val_loss", "val_top1", "val_top5")
Row = dict[str, float]


class Log:
    """Rows by step; those after the step at which a training goes on are forgotten. Written by the first process."""

    def __init__(self, out: Path, *, step: int, first: bool, tensorboard: bool) -> None:
        self.rows = [row for row in read_log(out) if row["step"] <= step]
        self._path, self._first = out / FILE, first
        self._board: Any = _board(out, step) if tensorboard and first else None
        if first:
            self._rewrite()

    def add(self, **values: float) -> None:
        """A row, on disk at once."""
        self.rows.append(values)
        if not self._first:
            return
        with self._path.open("a", newline="") as stream:
            csv.DictWriter(stream, COLUMNS).writerow(_rounded(values))
        self._draw(values, int(values["step"]))

    def lacks(self, step: int, column: str) -> bool:
        """Whether the last row is of that step, without this column."""
        return any(row["step"] == step and column not in row for row in self.rows[-1:])

    def complete(self, **values: float) -> None:
        """Add columns to the last row."""
        self.rows[-1] |= values
        if self._first:
            self._rewrite()
            self._draw(values, int(self.rows[-1]["step"]))

    def close(self) -> None:
        """Write what TensorBoard has not written yet."""
        if self._board is not None:
            self._board.close()

    def _draw(self, values: Row, step: int) -> None:
        if self._board is not None:
            for name, value in values.items():
                if name != "step":
                    self._board.add_scalar(name, value, step)

    def _rewrite(self) -> None:
        new = self._path.with_suffix(".new")
        with new.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, COLUMNS)
            writer.writeheader()
            writer.writerows(_rounded(row) for row in self.rows)
        new.replace(self._path)


def read_log(out: Path) -> list[Row]:
    """The rows of a training's log.csv: {column: number}, without the columns that are empty."""
    path = out / FILE
    if not path.is_file():
        return []
    rows = []
    with path.open(newline="") as stream:
        for row in csv.DictReader(stream):
            try:
                rows.append({name: float(text) for name, text in row.items() if name and text})
            except ValueError:
                break  # the end of a file whose writer was killed
    return [row for row in rows if "step" in row]


def _rounded(row: Row) -> dict[str, str]:
    return {name: f"{value:.6g}" if name not in ("step", "lr") else repr(value) for name, value in row.items()}


def _board(out: Path, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as missing:
        raise SpecError("tensorboard=True, but it is not installed", hint="pip install tensorboard") from missing
    return SummaryWriter(str(out / "tensorboard"), purge_step=step + 1)


@contextmanager
def progress(total: int, done: int, *, shown: bool) -> Iterator[Callable[[int, str], object]]:
    """A bar on a terminal. The block gets `show(step, text)`."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not (shown and console.is_terminal):
        yield lambda step, text: None
        return
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.fields[said]}"))
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=total, completed=done, said="")
        yield lambda step, text: bar.update(task, completed=step, said=text)
