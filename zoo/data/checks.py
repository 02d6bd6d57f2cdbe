"""What is wrong with some videos and labels, all of it at once, before anything is trained or measured on them."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from zoo.data.listing import TEST, Listing, Sample
from zoo.errors import DataError, VideoError

SHOWN = 20
FEW = 10  # videos of a class from which little is learned


@dataclass(frozen=True)
class Report:
    """faults: what has to be mended. remarks: what is worth knowing. broken: what cannot be read, and why."""

    faults: tuple[str, ...]
    remarks: tuple[str, ...]
    broken: Mapping[Sample, str]

    @property
    def unreadable(self) -> dict[str, str]:
        """{name: why}, one for each video."""
        return by_name((sample.name, why) for sample, why in self.broken.items())

    def raise_for(self, source: object, *, skip_unreadable: bool) -> None:
        """Raise DataError if something has to be mended."""
        faults = list(self.faults)
        if self.broken and not skip_unreadable:
            faults += [f"{len(self.broken)} cannot be read:", *self.listed()]
        if faults:
            hint = "mend or remove them; skip_unreadable=True leaves out what cannot be read"
            raise DataError("\n  ".join([f"{source} cannot be used", *faults]), hint=f"\n{hint}")

    def listed(self) -> list[str]:
        """The first of what cannot be read, as text."""
        return some([f"{name}: {why}" for name, why in self.unreadable.items()])


def some(items: Sequence[str]) -> list[str]:
    """The first of them, and how many more there are."""
    more = len(items) - SHOWN
    return [*items[:SHOWN], *([f"and {more} more"] if more > 0 else [])]


def by_name(found: Iterable[tuple[str, str]]) -> dict[str, str]:
    """{name: why}, one for each pair: where several videos have one name, the second is `name (2)`."""
    named: dict[str, str] = {}
    repeats: Counter[str] = Counter()
    for name, why in found:
        key = name
        while key in named:
            repeats[name] += 1
            key = f"{name} ({repeats[name] + 1})"
        named[key] = why
    return named


def check(listing: Listing, train: Sequence[Sample], val: Sequence[Sample]) -> Report:
    """Labels are compared, and every file is opened and its frames are counted; nothing is decoded for it."""
    broken = _broken([*train, *val])
    faults, remarks = [], []
    readable = Counter(sample.label for sample in train if sample not in broken)
    known = {sample.label for sample in train}
    if len(known) < 2:
        faults.append(f"there is one class only, {next(iter(known))!r}: there is nothing to tell apart")
    if strange := sorted({sample.label for sample in val} - known):
        faults.append(f"classes to validate on that are not trained: {', '.join(strange[:SHOWN])}")
    faults += [f"these labels are one, written differently: {pair}" for pair in _alike(sorted(known))]
    faults += _contradictions([*train, *val])
    faults += [f"no video of {label!r} can be read" for label in sorted(known - readable.keys())]
    faults += _unprintable(known)
    if both := _leaks(train, val):
        faults.append(f"to train on and to validate on at once: {', '.join(both[:SHOWN])}")
    if few := [f"{label} ({count})" for label, count in sorted(readable.items()) if count < FEW]:
        remarks.append(f"classes with fewer than {FEW} videos to train on: {', '.join(some(few))}")
    if missing := sorted(known - {sample.label for sample in val}):
        remarks.append(f"classes with no video to validate on: {', '.join(some(missing))}")
    if listing.empty:
        remarks.append(f"class folders without videos, left out: {', '.join(some(listing.empty))}")
    if listing.ignored:
        remarks.append(f"files that are no videos by their names, left out: {', '.join(some(listing.ignored))}")
    held = {sample.file for sample in val}
    if unused := sum(sample.part == TEST and sample.file not in held for sample in listing.samples):
        remarks.append(f"videos of the split {TEST!r}, left out: {unused}")
    return Report(tuple(faults), tuple(remarks), broken)


def _broken(samples: Sequence[Sample]) -> dict[Sample, str]:
    from zoo.video.index import probe

    def why(sample: Sample) -> str:
        if sample.drawn:
            return ""
        try:
            duration = probe(sample.path).duration_s
        except VideoError as error:
            return error.reason
        return "" if sample.start_s is None or sample.start_s < duration else f"it ends at {duration:.2f} s already"

    with ThreadPoolExecutor(4) as pool:
        reasons = list(pool.map(why, samples))
    return {sample: reason for sample, reason in zip(samples, reasons, strict=True) if reason}


def _alike(labels: Sequence[str]) -> list[str]:
    groups = defaultdict(list)
    for label in labels:
        groups[re.sub(r"[\s_-]+", "", label.casefold())].append(label)
    return [", ".join(map(repr, group)) for group in groups.values() if len(group) > 1]


def _contradictions(samples: Sequence[Sample]) -> list[str]:
    labels: dict[object, Sample] = {}
    found = []
    for sample in samples:
        first = labels.setdefault((sample.file, _shown(sample)), sample)
        if first.label != sample.label:
            found.append(f"{sample.name} is both {first.label!r} and {sample.label!r}")
    return some(found)


def _leaks(train: Sequence[Sample], val: Sequence[Sample]) -> list[str]:
    """Names of what is trained on and of which something is validated on."""
    held = defaultdict(set)
    for sample in val:
        held[sample.file].add(_shown(sample))

    def leaks(sample: Sample) -> bool:
        start, end = _shown(sample)
        return any(start < until and since < end for since, until in held.get(sample.file, ()))

    return sorted({sample.name for sample in train if leaks(sample)})


def _shown(sample: Sample) -> tuple[float, float]:
    return sample.span or (0.0, math.inf)


def _unprintable(labels: set[str]) -> list[str]:
    """Labels that the result could not be written with."""
    wrong = sorted(label for label in labels if not label.isprintable() or len(label) > 200 or label != label.strip())
    return [f"a label is short printable text without spaces around it, not {label!r:.80}" for label in wrong]
