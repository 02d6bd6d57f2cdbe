"""Reads damaged files, one after the other, and says as JSON what came of it: python mutated.py FIRST COUNT."""

from __future__ import annotations

import collections
import ctypes
import io
import json
import random
import resource
import statistics
import sys
import time

from video_clips import MADE, REAL, SHARED, clip

from zoo.errors import VideoError
from zoo.video import Limits, iter_frames, probe, read_frames

trim = ctypes.CDLL(None).malloc_trim
LIMITS = Limits(max_pixels=1920 * 1088, deadline_s=4.0, timeout_s=2.0)
SOURCES = sorted([*MADE, *(name for name in REAL if (SHARED / name).stat().st_size)])


def flip(data: bytearray, rng: random.Random) -> None:
    for _ in range(rng.choice([1, 8, 64, 512])):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def flip_header(data: bytearray, rng: random.Random) -> None:
    """Where a wrong number does most: at the start, or in the table at the end of an mp4."""
    start = rng.choice([0, max(len(data) - 2000, 0), max(data.find(b"moov"), 0)])
    for _ in range(rng.choice([1, 4, 16])):
        data[min(start + rng.randrange(2000), len(data) - 1)] ^= 1 << rng.randrange(8)


def cut(data: bytearray, rng: random.Random) -> None:
    del data[rng.randrange(len(data)) :]


def cut_out(data: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(data))
    del data[at : at + rng.choice([1, 100, 10_000])]


def blank(data: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(data))
    end = min(at + rng.choice([16, 1000, 100_000]), len(data))
    data[at:end] = bytes(end - at)


def splice(data: bytearray, rng: random.Random) -> None:
    """The start of one file and the rest of another."""
    other = clip(rng.choice(SOURCES))
    at = rng.choice([32, 200, 4000, rng.randrange(len(other))])
    data[:at] = other[:at]


MUTATIONS = [flip, flip_header, cut, cut_out, blank, splice]


def mutated(seed: int) -> tuple[str, bytes]:
    rng = random.Random(seed)
    again, which = divmod(seed, len(SOURCES))
    name, mutate = SOURCES[which], MUTATIONS[(which + again) % len(MUTATIONS)]  # few seeds already have some of each
    data = bytearray(clip(name))
    mutate(data, rng)
    return f"{seed} {name} {mutate.__name__}", bytes(data)


def read(data: bytes, rng: random.Random) -> str:
    way = rng.randrange(4)
    if way == 0:
        for frame in iter_frames(io.BytesIO(data), stride=5, limits=LIMITS, on_error=rng.choice(["raise", "skip"])):
            assert frame.data.ndim == 3
        return "frames"
    index = probe(data, exact=way == 1, limits=LIMITS)
    wanted = [rng.randrange(index.n_frames) for _ in range(3)]
    threads = rng.choice([1, 2])
    frames = read_frames(
        data, wanted, index=index, threads=threads, on_error="skip" if way == 1 else "raise", limits=LIMITS
    )
    assert len(frames.data) == 3 and frames.data.shape[3] == 3
    return frames.report.path


def megabytes() -> float:
    """In use, without what the allocator keeps to use again, which goes up and down with the largest file so far."""
    trim(0)
    with open("/proc/self/statm") as file:  # noqa: PTH123
        return int(file.read().split()[1]) * resource.getpagesize() / 1e6


def main(first: int, count: int) -> None:
    outcomes: collections.Counter[str] = collections.Counter()
    slowest, memory = (0.0, ""), []
    for seed in range(first, first + count):
        name, data = mutated(seed)
        print(name, file=sys.stderr, flush=True)  # the last line tells which file crashed
        started = time.monotonic()
        try:
            outcomes[read(data, random.Random(seed))] += 1
        except VideoError as error:
            assert error.hint and str(error)
            outcomes[type(error).__name__] += 1
        slowest = max(slowest, (time.monotonic() - started, name))
        memory.append(megabytes())
    quarter = len(memory) // 4
    growth = statistics.median(memory[-quarter:]) - statistics.median(memory[quarter : 2 * quarter])
    print(json.dumps({"outcomes": outcomes, "slowest": slowest, "growth": growth, "peak": max(memory)}))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
