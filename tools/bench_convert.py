"""What it takes to convert a decoded frame to RGB on one thread, as zoo does, and on as many as av takes by default.

    python tools/bench_convert.py [--rounds 9]

Milliseconds of a frame, in turns: median, least and most. The control is the one thread once more.
"""

from __future__ import annotations

import argparse
import statistics
import time

import av
import numpy as np
from av.video.reformatter import VideoReformatter

SIZES = {"64x80": (64, 80), "240p": (240, 320), "360p": (360, 640), "1080p": (1080, 1920), "2160p": (2160, 3840)}
WAYS = {"one thread": 1, "av's default": 0, "control": 1}


def measured(height: int, width: int, rounds: int) -> dict[str, list[float]]:
    """Milliseconds of a frame in each round, for each way."""
    planes = np.random.default_rng(0).integers(0, 256, (height * 3 // 2, width), np.uint8)
    frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
    converters = {way: VideoReformatter() for way in WAYS}
    times: dict[str, list[float]] = {way: [] for way in WAYS}
    count = max(3, 4_000_000 // (height * width))
    pictures = [
        converters[way].reformat(frame, format="rgb24", threads=threads).to_ndarray() for way, threads in WAYS.items()
    ]
    assert all(np.array_equal(picture, pictures[0]) for picture in pictures), "not the same pictures"
    for _ in range(rounds):
        for way, threads in WAYS.items():
            started = time.perf_counter()
            for _ in range(count):
                converters[way].reformat(frame, format="rgb24", threads=threads)
            times[way].append(1000 * (time.perf_counter() - started) / count)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    print(f"{'frame':<8}{'way':<14}{'ms':>8}{'least':>8}{'most':>8}{'ratio':>8}")
    for name, (height, width) in SIZES.items():
        times = measured(height, width, rounds)
        for way, found in times.items():
            ratio = statistics.median(a / b for a, b in zip(found, times["one thread"], strict=True))
            spread = f"{statistics.median(found):>8.3f}{min(found):>8.3f}{max(found):>8.3f}"
            print(f"{name:<8}{way:<14}{spread}{ratio:>8.2f}")


if __name__ == "__main__":
    main()
