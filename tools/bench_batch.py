"""What workers gain in bulk work on this machine: rows per second once all workers have started, taking turns.

python tools/bench_batch.py                      one worker of one thread, two of one, one of two; and two of one that
                                                 give memory back to the kernel, as processes do by default
python tools/bench_batch.py --engine ray         also Ray beside the local engine
python tools/bench_batch.py --check              exit with 1 where workers gain too little, or memory grows

The videos are made here; the model is r2plus1d_tiny.camera_motion. Every run is a process of its own. The steady part
begins when a fifth of the rows is done: Ray measures with the first ones. Memory is that of the run and all its
workers, at a quarter of the rows and at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import zoo
from zoo.bulk import worker

MODEL = "r2plus1d_tiny.camera_motion"
WAYS = {
    "1 worker x 1 thread": {"workers": 1, "threads": 1},
    "2 workers x 1 thread": {"workers": 2, "threads": 1},
    "1 worker x all threads": {"workers": 1, "threads": os.cpu_count()},
    "2 x 1, memory given back": {"workers": 2, "threads": 1, "keep": False},
}
RAY = "1 worker x 1 thread, Ray"
LEAST = (  # a way, another, and how fast the one has to be by the other
    ("2 workers x 1 thread", "1 worker x 1 thread", 1.7),
    ("2 workers x 1 thread", "1 worker x all threads", 0.95),
    (RAY, "1 worker x 1 thread", 0.9),
)
GROWTH = 1.1  # of memory between the two marks, at most


def archive(folder: Path, count: int) -> None:
    """So many files, of a few different videos."""
    for i in range(4):
        clip = zoo.synth.generate(seed=i, duration_s=2.0, fps=15, size=(64, 80))
        zoo.video.write_video(folder / f"{i:06d}.mp4", clip.frames, fps=15)
    for i in range(4, count):
        (folder / f"{i:06d}.mp4").write_bytes((folder / f"{i % 4:06d}.mp4").read_bytes())


def memory() -> float:
    """MB of this process and of all below it, shared pages counted once (proportional set size)."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    ours, kilobytes = {os.getpid()}, 0
    while more := {pid for pid, parent in parents.items() if parent in ours} - ours:
        ours |= more
    for pid in ours:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            kilobytes += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
        except OSError:
            continue
    return kilobytes / 1024


def one(folder: str, options: dict[str, Any]) -> None:
    """In a fresh process: run it once, and print rows per second and two marks of memory."""
    marks: list[tuple[float, int]] = []
    held: list[float] = []

    def watch(standing: Any) -> None:
        if standing.done > standing.total * 0.2 and (not marks or standing.done > marks[-1][1]):
            marks.append((time.perf_counter(), standing.done))
        if standing.done > standing.total * (0.25, 0.95)[min(len(held), 1)] and len(held) < 2:
            held.append(memory())

    if not options.pop("keep", True):
        worker.KEPT_MEMORY = {}
    with tempfile.TemporaryDirectory() as out:
        summary = zoo.batch(folder, out, model=MODEL, watch=watch, tell=lambda text: None, **options)
    assert summary.failed == 0 and summary.left == 0, summary
    # A worker that is done early leaves the last rows to the others: the steady part of several ends before that.
    steady = [mark for mark in marks if mark[1] <= summary.rows * (0.95 if options["workers"] > 1 else 1)]
    (begin, first), (end, last) = steady[0], steady[-1]
    print(json.dumps([(last - first) / (end - begin), *held]))


def missed(rows: dict[str, list[list[float]]]) -> list[str]:
    """What is not as it should be; speeds are compared within a round."""
    found = []
    for way, other, least in LEAST:
        if way not in rows or other not in rows:
            continue
        ratio = statistics.median(one[0] / two[0] for one, two in zip(rows[way], rows[other], strict=True))
        if ratio < least:
            found.append(f"{way} is {ratio:.2f} times as fast as {other}, wanted {least}")
    for way, figures in rows.items():
        if (growth := statistics.median(late / early for _, early, late in figures)) > GROWTH:
            found.append(f"{way}: memory grows by {growth - 1:.0%}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--engine", choices=["local", "ray"], default="local")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        one(arguments.one[0], json.loads(arguments.one[1]))
        return
    ways = dict(WAYS)
    if arguments.engine == "ray":
        ways = {name: ways[name] for name in ["1 worker x 1 thread"]}
        ways[RAY] = {"workers": 1, "threads": 1, "engine": "ray"}
    rows: dict[str, list[list[float]]] = {name: [] for name in ways}
    environment = {k: v for k, v in os.environ.items() if k not in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    with tempfile.TemporaryDirectory() as folder:
        archive(Path(folder), arguments.count)
        for _ in range(arguments.rounds):
            for name, options in ways.items():
                command = [sys.executable, __file__, "--one", folder, json.dumps(options)]
                done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
                rows[name].append(json.loads(done.stdout.splitlines()[-1]))
                print(f"{name}: {rows[name][-1][0]:.2f}/s", file=sys.stderr)
    base = next(iter(rows.values()))
    print(f"{arguments.count} videos, {arguments.rounds} rounds, load {os.getloadavg()[0]:.1f}, {os.cpu_count()} CPUs")
    print(f"{'way':<28}{'rows/s':>8}{'min':>8}{'max':>8}{'ratio':>8}{'MB at 25 %':>12}{'at 95 %':>9}")
    for name, found in rows.items():
        rate = [row[0] for row in found]
        ratio = statistics.median(row[0] / one[0] for row, one in zip(found, base, strict=True))
        early, late = (statistics.median(row[i] for row in found) for i in (1, 2))
        middle = statistics.median(rate)
        print(f"{name:<28}{middle:>8.2f}{min(rate):>8.2f}{max(rate):>8.2f}{ratio:>8.2f}{early:>12.0f}{late:>9.0f}")
    if arguments.check and (short := missed(rows)):
        sys.exit("\n".join(short))


if __name__ == "__main__":
    main()
