"""Where compiled 3D convolutions are faster by Winograd's algorithm on this machine, and whether the rule knows it.

    python tools/bench_winograd.py [--rounds 9] [--kernel 3] [--channels 32 64 256]

For each size a direct convolution, the same again as control, and Winograd's, compiled with constant weights, in turns;
about half a minute for each size. Prints medians, how many times faster Winograd's is, with the control beside it, and
what `zoo.deploy.winograd` chooses.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch._inductor import config as inductor
from torch._inductor.compile_fx import compile_fx
from torch.fx import GraphModule

from zoo.deploy import winograd

SIZES = ((16, 56), (8, 28), (8, 14), (4, 14), (4, 7), (2, 7))  # steps in time, and height and width

Call = Callable[[Tensor], Tensor]


def compiled(convolution: nn.Module, x: Tensor, *, change: Callable[[GraphModule], Any]) -> Call:
    """After this change of its graph."""

    def backend(graph: GraphModule, inputs: Any) -> Any:
        change(graph)
        return compile_fx(graph, inputs)

    found = torch.compile(convolution, fullgraph=True, backend=backend)
    found(x)
    return found


def leave(graph: GraphModule) -> None:
    pass


def always(graph: GraphModule) -> None:
    """Whatever the rule says."""
    with patch.multiple(winograd, LEAST_STEPS=0, LEAST_PRODUCTS=0, LEAST_TILES=0, LEAST_FULL=0.0):
        winograd.use_winograd(graph)


def measured(calls: dict[str, Call], x: Tensor, rounds: int) -> dict[str, float]:
    """Medians in milliseconds."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            call(x)
            times[name].append((time.perf_counter() - start) * 1e3)
    return {name: statistics.median(found) for name, found in times.items()}


def row(kernel: int, channels: int, steps: int, side: int, rounds: int) -> str:
    convolution = nn.Conv3d(channels, channels, (kernel, 3, 3), padding=(kernel // 2, 1, 1)).eval()
    convolution = convolution.to(memory_format=torch.channels_last_3d).requires_grad_(False)
    x = torch.randn(1, channels, steps, side, side).contiguous(memory_format=torch.channels_last_3d)
    chosen: list[tuple[int, int]] = []
    torch._dynamo.reset()  # it keeps only so many graphs of one forward
    with torch.no_grad(), inductor.patch(freezing=True):
        compiled(convolution, x, change=lambda graph: chosen.append(winograd.use_winograd(graph)))
        ways = {"direct": leave, "again": leave, "winograd": always}
        found = measured({name: compiled(convolution, x, change=way) for name, way in ways.items()}, x, rounds)
    clip, tiles = f"{steps}x{side}", steps * (-(-side // 4)) ** 2
    faster, control = found["direct"] / found["winograd"], found["direct"] / found["again"]
    figures = f"{tiles:>6}{found['direct']:>11.2f}{faster:>8.2f}{control:>9.2f}"
    return f"{kernel:>6}{channels:>9}{clip:>9}{figures}  {'yes' if chosen[0][0] else 'no'}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--kernel", type=int, nargs="+", default=[3], help="its steps in time")
    parser.add_argument("--channels", type=int, nargs="+", default=[32, 64, 256])
    options = parser.parse_args()
    print(f"{torch.get_num_threads()} threads")
    print(f"{'kernel':>6}{'channels':>9}{'clip':>9}{'tiles':>6}{'direct ms':>11}{'faster':>8}{'control':>9}  chosen")
    for kernel in options.kernel:
        for channels in options.channels:
            for steps, side in SIZES:
                print(row(kernel, channels, steps, side, options.rounds), flush=True)


if __name__ == "__main__":
    main()
