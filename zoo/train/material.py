"""What is learned from and what is measured on, checked before anything else happens."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from zoo.data import Sample, check, digest_of, read_listing, split
from zoo.data.listing import COLUMNS
from zoo.errors import DataError
from zoo.train.settings import Settings

HELD_BACK = "val.csv"


@dataclass(frozen=True)
class Material:
    """labels: sorted. digest: of all names and labels, in order. left_out: videos that cannot be read, and why."""

    train: tuple[Sample, ...]
    val: tuple[Sample, ...]
    labels: tuple[str, ...]
    left_out: dict[str, str]
    source: str

    @property
    def digest(self) -> str:
        return digest_of((*self.train, *self.val))

    def describe(self) -> str:
        """For the card; says nothing of where the data lie."""
        without = f", without {len(self.left_out)} that cannot be read" if self.left_out else ""
        return f"{len(self.train)} videos of {len(self.labels)} classes in {self.source!r}{without}"


def material_of(settings: Settings, tell: Callable[[str], object]) -> Material:
    """Raises DataError with all that has to be mended."""
    listing = read_listing(settings.data)
    train, val = split(listing, settings.val, settings.val_fraction, settings.seed)
    tell(f"{len(train)} videos to train on and {len(val)} to validate on, opening all of them")
    report = check(listing, train, val)
    for remark in report.remarks:
        tell(remark)
    report.raise_for(settings.data, skip_unreadable=settings.skip_unreadable)
    if report.broken:
        tell("\n  ".join([f"{len(report.broken)} cannot be read and are left out:", *report.listed()]))
    readable = [tuple(sample for sample in part if sample not in report.broken) for part in (train, val)]
    if not readable[0]:
        raise DataError(f"{settings.data}: no video can be read", hint="do they play elsewhere?")
    labels = tuple(sorted({sample.label for sample in readable[0]}))
    return Material(readable[0], readable[1], labels, report.unreadable, listing.name)


def write_val(out: Path, material: Material) -> None:
    """Write what was validated on as val.csv, which `zoo evaluate` takes; nothing where videos are no files."""
    if any(sample.drawn for sample in material.val):
        return
    with (out / HELD_BACK).open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(COLUMNS[:-1])
        for sample in material.val:
            writer.writerow([sample.path.resolve(), sample.label, sample.start_s, sample.end_s])
