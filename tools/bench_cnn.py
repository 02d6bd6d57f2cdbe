"""Networks of the family `cnn` beside PyTorchVideo's own, on a CPU: time of one clip, and peak memory.

python tools/bench_cnn.py                      the six of the issue, at their test crops
python tools/bench_cnn.py x3d_s --rounds 20    one of them
python tools/bench_cnn.py --memory             peak memory of one forward pass instead, each in a process of its own

Needs `pip install --no-deps` of what `[parity]` names. All variants take turns in one process, each round in another
order, so that a busy machine is as busy for each, and none always finds the memory that another has just given back;
only ratios mean anything then. PyTorchVideo is in twice: as far as its second row is from 1, a ratio may be from 1 by
chance. Where others want the cores too, OMP_WAIT_POLICY=passive keeps threads from waiting for each other in a busy
loop.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import random
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

import zoo
from zoo_cnn.fold import fold_batch_norms

NAMES = ("x3d_s", "x3d_m", "slow_r50", "slowfast_r50", "csn_r101", "r2plus1d_r50")


def reference(name: str) -> nn.Module:
    """PyTorchVideo's network without a softmax, with norms that have something to do."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pytorchvideo.models import hub

        model = getattr(hub, name)()
    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(getattr(module, "activation", None), nn.Softmax):
            module.activation = None
        if isinstance(module, nn.BatchNorm3d):
            nn.init.uniform_(module.weight, 0.2, 0.6)
            nn.init.normal_(module.bias, 0, 0.1)
    return model.eval()


def ask(model: nn.Module, name: str, clip: Tensor) -> Tensor:
    if not name.startswith("slowfast"):
        return model(clip)
    frames = clip.shape[2]
    return model([clip[:, :, torch.linspace(0, frames - 1, frames // 4).long()], clip])


def variants(name: str, only: str = "") -> tuple[dict[str, Callable[[], Tensor]], Tensor]:
    protocol = zoo.info(name).preprocessing
    torch.manual_seed(0)
    clip = torch.randn(1, 3, protocol.num_frames, protocol.crop, protocol.crop)
    theirs = reference(name)
    calls: dict[str, Callable[[], Tensor]] = {}
    if only in ("", "pytorchvideo"):
        calls["pytorchvideo"] = lambda: ask(theirs, name, clip)
        calls["pytorchvideo again"] = calls["pytorchvideo"]
    if only in ("", "zoo", "zoo, folded"):
        ours = zoo.build(name).eval()
        ours.load_state_dict(theirs.state_dict())
        folded = fold_batch_norms(ours)
        calls |= {"zoo": lambda: ours(clip), "zoo, folded": lambda: folded(clip)}
    return {k: v for k, v in calls.items() if not only or k == only}, clip


def race(name: str, rounds: int) -> None:
    calls, clip = variants(name)
    times: dict[str, list[float]] = {label: [] for label in calls}
    with torch.inference_mode():
        wanted = calls["pytorchvideo"]()
        apart = {label: ((call() - wanted).abs().max() / wanted.abs().max()).item() for label, call in calls.items()}
        for i in range(rounds):
            for label, call in random.Random(i).sample(list(calls.items()), len(calls)):
                start = time.perf_counter()
                call()
                times[label].append(time.perf_counter() - start)
    base = statistics.median(times["pytorchvideo"]), min(times["pytorchvideo"])
    print(f"\n{name}, {tuple(clip.shape)}, {rounds} rounds")
    print(f"{'':20s} {'median':>8s} {'fastest':>8s} {'spread':>14s} {'max |d|':>9s}   (times PyTorchVideo's)")
    for label, taken in times.items():
        low, _, high = statistics.quantiles([t / base[0] for t in taken], n=4)
        middle, fastest = statistics.median(taken) / base[0], min(taken) / base[1]
        print(f"{label:20s} {middle:8.2f} {fastest:8.2f} {low:6.2f} - {high:5.2f} {apart[label]:9.0e}", flush=True)


def memory(name: str) -> None:
    print(f"\n{name}")
    for label in ("pytorchvideo", "zoo", "zoo, folded"):
        command = [sys.executable, "-W", "ignore", Path(__file__), name, "--peak", label]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        print(f"{label:20s} {done.stdout.strip()}", flush=True)


def peak(name: str, label: str) -> None:
    """MiB that one forward pass adds to what this process holds after one that showed it everything (Linux)."""
    calls, _ = variants(name, only=label)
    with torch.inference_mode():
        calls[label]()
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
        before = held("VmRSS")
        calls[label]()
    print(f"{held('VmHWM') - before:.0f} MiB for one clip")


def held(field: str) -> float:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=NAMES)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for name in options.names:
        if options.peak:
            peak(name, options.peak)
        elif options.memory:
            memory(name)
        else:
            race(name, options.rounds)


if __name__ == "__main__":
    main()
