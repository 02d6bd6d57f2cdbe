"""Optimised models beside eager float32 on this machine, in turns, with the eager one a second time as control.

python tools/bench_optimized.py                  r3d_18 and videomae_base, compiled and in int8
python tools/bench_optimized.py --check          exit with 1 where the best is not as much faster as it should be

The same as `zoo bench r3d_18 --way compile --way int8`, for one model after the other. Needs the extra `onnx`.
"""

from __future__ import annotations

import argparse
import sys
import time

import zoo

FASTER = {"r3d_18": 1.8, "videomae_base": 2.5}  # than eager float32, at least


def say(text: str) -> None:
    print(f"{time.perf_counter():.0f} s: {text}", file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(FASTER), metavar="NAME")
    parser.add_argument("--way", nargs="+", default=["compile", "int8"])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    slow = []
    for name in options.names:
        found = zoo.bench(name, ways=options.way, rounds=options.rounds, batch=options.batch, tell=say)
        print(found, flush=True)
        best = max(found.ratio(row) or 0.0 for row in found.rows)
        if best < FASTER.get(name, 1.0):
            slow.append(f"{name}: {best:.2f}, wanted {FASTER.get(name, 1.0)}")
    if options.check and slow:
        sys.exit("\n".join(slow))


if __name__ == "__main__":
    main()
