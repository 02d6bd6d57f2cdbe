"""Time and memory of 64 frames through timm networks: a loop over frames, one batch of all, and zoo's chunks.

    python tools/bench_timm.py [--rounds 5] [--frames 64] [--model resnet50 ...] [--check]

Each way runs in a process of its own, interleaved, on frames of the model's own size; the network and the clip are
there before the measuring starts. Time is the median of `--rounds` processes, each the best of three runs after a warm
one. Memory is the most that the process grew by during its first run. `--check` fails unless zoo has at least 0.95 of
the speed of the faster other way, and at most half of the memory that the batch of all takes.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

MODELS = ("resnet50", "vit_small_patch16_224", "mobilenetv3_small_100", "convnext_tiny")
WAYS = ("loop", "fold", "zoo", "zoo again")


def peak() -> int:
    """The most bytes that this process ever had, since `reset_peak` where Linux can forget."""
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) << 10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def reset_peak() -> None:
    if (clear := Path("/proc/self/clear_refs")).is_file():
        clear.write_text("5")


def measure(way: str, name: str, frames: int) -> None:
    """Print seconds and bytes of one way, as JSON."""
    import torch

    import zoo

    torch.manual_seed(0)
    model = zoo.create(f"timm/{name}")
    side = model.preprocessing.crop
    clip = torch.randn(1, 3, frames, side, side)

    def run() -> torch.Tensor:
        if way == "loop":
            return torch.stack([model.backbone(frame) for frame in clip.unbind(2)], 1)
        if way == "fold":
            return model.backbone(clip.transpose(1, 2).flatten(0, 1)).unflatten(0, (1, frames))
        return model.forward_features(clip)

    with torch.inference_mode():
        reset_peak()
        before = peak()
        run()
        memory = peak() - before
        seconds = []
        for _ in range(3):
            start = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - start)
    print(json.dumps([min(seconds), memory]))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--frames", type=int, default=64)
    parser.add_argument("--model", action="append", help=f"instead of {', '.join(MODELS)}")
    parser.add_argument("--check", action="store_true", help="fail unless the targets are met")
    parser.add_argument("--way", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        measure(options.way, options.model[0], options.frames)
        return 0
    missed = 0
    print(f"{'model':<26}{'way':<12}{'median s':>10}{'min':>8}{'max':>8}{'memory MB':>11}")
    for name in options.model or MODELS:
        results: dict[str, list[list[float]]] = {way: [] for way in WAYS}
        for _ in range(options.rounds):
            for way in WAYS:
                command = [sys.executable, __file__, "--way", way, "--model", name, "--frames", str(options.frames)]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                results[way].append(json.loads(done.stdout.splitlines()[-1]))
        seconds = {way: statistics.median(s for s, _ in rows) for way, rows in results.items()}
        memory = {way: statistics.median(m for _, m in rows) for way, rows in results.items()}
        for way, rows in results.items():
            times = [s for s, _ in rows]
            spread = f"{seconds[way]:>10.3f}{min(times):>8.3f}{max(times):>8.3f}"
            print(f"{name:<26}{way:<12}{spread}{memory[way] / 1e6:>11.1f}")
        speed = min(seconds["loop"], seconds["fold"]) / seconds["zoo"]
        share = memory["zoo"] / memory["fold"]
        missed += speed < 0.95 or share > 0.5
        print(f"{name:<26}zoo has {speed:.2f} of the better speed, and {share:.2f} of the fold's memory")
    return 1 if options.check and missed else 0


if __name__ == "__main__":
    sys.exit(main())
