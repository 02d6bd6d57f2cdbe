"""Hold some videos back, so that what is measured was not learned from."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

from zoo.data.listing import TEST, TRAIN, VAL, Listing, Sample, read_listing
from zoo.errors import DataError


def split(listing: Listing, val: str, fraction: float, seed: int) -> tuple[tuple[Sample, ...], tuple[Sample, ...]]:
    """(train, val): as the listing says, from another listing `val`, or a `fraction` of each class's files.

    Videos to test on are in neither. The fraction is drawn by the hash of the seed and of each file's name, and at
    least one file where there are two. All spans of one file are on one side. Raises DataError where nothing is left
    to train on, and where `val` is given and a listing marks rows for the other side.
    """
    samples = [sample for sample in listing.samples if sample.part != TEST]
    unsaid = [sample.name for sample in samples if not sample.part]
    if val:
        train, given = tuple(samples), read_listing(val).samples
        held = tuple(sample for sample in given if sample.part != TEST) or given
        _refuse(VAL, listing.source, train)
        _refuse(TRAIN, val, held)
    elif unsaid and len(unsaid) < len(listing.samples):
        raise DataError(f"{listing.source}: no split is given for {unsaid[0]}", hint="give it for all rows or none")
    elif any(sample.part == VAL for sample in samples):
        train = tuple(sample for sample in samples if sample.part == TRAIN)
        held = tuple(sample for sample in samples if sample.part == VAL)
    else:
        chosen = _drawn(samples, fraction, seed)
        train = tuple(sample for sample in samples if sample.file not in chosen)
        held = tuple(sample for sample in samples if sample.file in chosen)
    if not train:
        raise DataError(f"{listing.source}: nothing is left to train on", hint="give more videos or a smaller part")
    return train, held


def _refuse(part: str, source: object, samples: Sequence[Sample]) -> None:
    """Raise DataError for the first that is marked as this part."""
    if marked := [sample.name for sample in samples if sample.part == part]:
        hint = "remove such rows, name the folder of one part, or leave out val to go by the split of the data"
        raise DataError(f"{source}: {marked[0]} has split={part!r}, but val says what to validate on", hint=hint)


def _drawn(samples: Sequence[Sample], fraction: float, seed: int) -> set[str]:
    """The files to hold back."""
    classes: dict[str, dict[str, bytes]] = {}
    seen: set[str] = set()
    for sample in samples:
        if sample.file not in seen:  # a file of several classes counts for the first
            seen.add(sample.file)
            name = sample.name.rpartition(" ")[0] if sample.span else sample.name
            key = blake2b(f"{seed}/{name}".encode(), digest_size=8).digest()
            classes.setdefault(sample.label, {})[sample.file] = key
    chosen: set[str] = set()
    for files in classes.values():
        count = min(max(round(fraction * len(files)), 1 if fraction else 0), len(files) - 1)
        chosen |= set(sorted(files, key=lambda file: files[file])[:count])
    return chosen
