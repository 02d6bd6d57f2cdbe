"""What came out of a bench: one row for each contestant."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from zoo.errors import DeploymentError

if TYPE_CHECKING:
    from PIL.Image import Image

HEAD = ("model", "way", "clips/s", "min", "max", "latency", "peak", "params", "GMACs", "ratio")
NAMES = 2  # columns that are words
EAGER, CONTROL = "eager", "control"


@dataclass(frozen=True)
class Row:
    """name, way: who; `way` is "eager", a method of `zoo.optimize`, another library, or "control", the first once more.

    seconds: of one forward pass, in each turn. batch: clips in it. clip: `(C, T, H, W)`. peak_mb: the most memory that
    its process had, imports and weights and all; on a GPU, of tensors. params, gmacs: of the architecture.
    accuracy: as its weights say, in percent, and on what. error: why there are no figures.
    """

    name: str
    way: str
    batch: int
    clip: tuple[int, int, int, int]
    seconds: list[float] = field(default_factory=list)
    peak_mb: float = 0.0
    params: int = 0
    gmacs: float = 0.0
    accuracy: tuple[float, str] | None = None
    about: str = ""
    error: str = ""

    @property
    def latency_s(self) -> float:
        """The median over the turns."""
        return statistics.median(self.seconds)

    @property
    def clips_per_s(self) -> float:
        return self.batch / self.latency_s

    def to_dict(self) -> dict[str, Any]:
        figures = {} if self.error else {"latency_s": self.latency_s, "clips_per_s": self.clips_per_s}
        return asdict(self) | figures


@dataclass(frozen=True)
class Bench:
    """rows: in the order in which they took their turns. machine: where, with which libraries."""

    rows: list[Row]
    machine: dict[str, Any]

    def ratio(self, row: Row) -> float | None:
        """How much faster than the eager model of the same name: the median over turns that lay side by side.

        None where it has no figures.
        """
        eager = (other for other in self.rows if other.name == row.name and other.way in (EAGER, CONTROL))
        base = next((other for other in eager if not other.error), None)
        if base is None or row.error:
            return None
        return statistics.median(a / b for a, b in zip(base.seconds, row.seconds, strict=True))

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as the command line prints it with --json."""
        rows = [row.to_dict() | ({} if row.error else {"ratio": self.ratio(row)}) for row in self.rows]
        return {"machine": self.machine, "rows": rows}

    def picture(self) -> Image:
        """Speed against accuracy where all weights were measured on the same videos, else against parameters.

        Raises DeploymentError where there are no figures.
        """
        from zoo.speed.plot import plot

        if all(row.error for row in self.rows):
            reason = self.rows[0].error if self.rows else "there are none"
            raise DeploymentError(f"there is nothing to draw, no model could be measured: {reason}", hint="try another")

        return plot(self)

    def __str__(self) -> str:
        lines = [HEAD] + [self._cells(row) for row in self.rows if not row.error]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        form = "  ".join(f"{{:{'<' if i < NAMES else '>'}{width}}}" for i, width in enumerate(widths))
        table = [form.format(*line).rstrip() for line in lines]
        notes = [f"{row.name}, {row.way}: {row.about}" for row in self.rows if row.about]
        failed = [f"{row.name}, {row.way}: no figures: {row.error}" for row in self.rows if row.error]
        where = ", ".join(f"{key} {value}" for key, value in self.machine.items())
        return "\n".join([where, *table, *notes, *failed])

    def _cells(self, row: Row) -> tuple[str, ...]:
        speeds, ratio = [row.batch / seconds for seconds in row.seconds], self.ratio(row)
        return (
            row.name,
            row.way,
            f"{row.clips_per_s:.2f}",
            f"{min(speeds):.2f}",
            f"{max(speeds):.2f}",
            f"{row.latency_s * 1000:.1f} ms",
            f"{row.peak_mb:.0f} MB",
            f"{row.params / 1e6:.1f} M",
            f"{row.gmacs:.1f}",
            "" if ratio is None else f"{ratio:.2f}",
        )
