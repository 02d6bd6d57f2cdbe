"""Hold some videos back, so that what is measured was not learned from."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

from zoo.data.listing import TRAIN, VAL, Listing, Sample, read_listing
from zoo.errors import DataError


def split(listing: Listing, val: str, fraction: float, seed: int) -> tuple[tuple[Sample, ...], tuple[Sample, ...]]:
    """(train, val): as the listing says, from another listing `val`, or a `fraction` of each class's files.

    The fraction is drawn by the hash of the seed and of each file's name, and at least one file where there are two.
    All spans of one file are on one side. Raises DataError where that leaves nothing on one of the sides.
    """
    samples = listing.samples
    if val:
        train, held = samples, read_listing(val).samples
    elif any(sample.part for sample in samples):
        if unsaid := [sample.name for sample in samples if not sample.part]:
            raise DataError(f"{listing.source}: no split is given for {unsaid[0]}", hint="give it for all rows or none")
        train = tuple(sample for sample in samples if sample.part == TRAIN)
        held = tuple(sample for sample in samples if sample.part == VAL)
    else:
        chosen = _drawn(samples, fraction, seed)
        train = tuple(sample for sample in samples if sample.path not in chosen)
        held = tuple(sample for sample in samples if sample.path in chosen)
    if not train:
        raise DataError(f"{listing.source}: nothing is left to train on", hint="give more videos or a smaller part")
    return train, held


def _drawn(samples: Sequence[Sample], fraction: float, seed: int) -> set[object]:
    classes: dict[str, dict[object, bytes]] = {}
    seen: set[object] = set()
    for sample in samples:
        if sample.path not in seen:  # a file of several classes counts for the first
            seen.add(sample.path)
            name = sample.name.rpartition(" ")[0] if sample.span else sample.name
            key = blake2b(f"{seed}/{name}".encode(), digest_size=8).digest()
            classes.setdefault(sample.label, {})[sample.path] = key
    chosen: set[object] = set()
    for files in classes.values():
        count = min(max(round(fraction * len(files)), 1 if fraction else 0), len(files) - 1)
        chosen |= set(sorted(files, key=lambda path: files[path])[:count])
    return chosen
