"""3D convolutions with a quarter of the multiplications, for graphs that are compiled for a CPU.

Winograd's F(4x4, 3x3): each tile of 4x4 outputs is 36 products of sums of inputs with sums of weights, instead of 144.
The sums over channels, and over the kernel's steps in time, are matrix products. Matrices of sums: Lavin and Gray, Fast
Algorithms for Convolutional Neural Networks, 2016 (arXiv:1509.09308). In float32 the result differs by about 1e-5 of
the largest value.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.fx import GraphModule, Node

INPUT = (
    (4.0, 0.0, -5.0, 0.0, 1.0, 0.0),
    (0.0, -4.0, -4.0, 1.0, 1.0, 0.0),
    (0.0, 4.0, -4.0, -1.0, 1.0, 0.0),
    (0.0, -2.0, -1.0, 2.0, 1.0, 0.0),
    (0.0, 2.0, -1.0, -2.0, 1.0, 0.0),
    (0.0, 4.0, 0.0, -5.0, 0.0, 1.0),
)
WEIGHT = (
    (1 / 4, 0.0, 0.0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0.0, 0.0, 1.0),
)
OUTPUT = (
    (1.0, 1.0, 1.0, 1.0, 1.0, 0.0),
    (0.0, 1.0, -1.0, 2.0, -2.0, 0.0),
    (0.0, 1.0, 1.0, 4.0, 4.0, 0.0),
    (0.0, 1.0, -1.0, 8.0, -8.0, 1.0),
)
# Where it is faster than a direct convolution (tools/bench_winograd.py); kernels of one step in time are not.
LEAST_STEPS, LEAST_CHANNELS, LEAST_TILES = 2, 32, 64
LEAST_FULL = 0.5  # of the tiles, at the right and the lower edge
BLOCK = 2**16  # channels times tiles that are summed at once, so that the sums stay in the processor's cache


def use_winograd(graph: GraphModule) -> tuple[int, int]:
    """Replace, in a graph that torch.compile has traced, what gains by it: (how many, of how many 3D convolutions)."""
    convolutions = [n for n in graph.graph.nodes if n.op == "call_function" and n.target is torch.conv3d]
    chosen = [node for node in convolutions if _gains(node)]
    for node in chosen:
        given = _arguments(node)
        with graph.graph.inserting_before(node):
            arguments = given["input"], given["weight"], given["bias"], given["padding"][0]
            node.replace_all_uses_with(graph.graph.call_function(convolve, arguments))
        graph.graph.erase_node(node)
    graph.recompile()
    return len(chosen), len(convolutions)


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, in_time: int) -> Tensor:
    """`[N, C, T, H, W]` by a kernel of 3x3 pixels and any steps in time, of stride 1.

    Padded by one pixel on each side, and by so many steps of time.
    """
    height, width = x.shape[3:]
    rows, columns = -(-height // 4), -(-width // 4)
    # Channels last, so that what is added up is next to each other; time first, so that a kernel's step is a slice.
    x = x.permute(2, 0, 3, 4, 1)
    x = F.pad(x, (0, 0, 1, 4 * columns + 1 - width, 1, 4 * rows + 1 - height, 0, 0, in_time, in_time))
    matrices = _matrices(weight)
    blocks = min(-(-x.shape[0] * rows * columns * x.shape[4] // BLOCK), rows)
    high = -(-rows // blocks)
    parts = [_block(x[:, :, 4 * top : 4 * min(top + high, rows) + 2], matrices) for top in range(0, rows, high)]
    y = torch.cat(parts, 2)[:, :, :height, :width]
    return (y if bias is None else y + bias).permute(1, 4, 0, 2, 3)


def _block(x: Tensor, matrices: Tensor) -> Tensor:
    """`[T, N, H, W, O]` of `[T, N, H + 2, W + 2, C]`, where H and W are of whole tiles."""
    rows, columns = ((size - 2) // 4 for size in x.shape[2:4])
    x = torch.stack(_sums(INPUT, [x[:, :, i : i + 4 * rows - 3 : 4] for i in range(6)]))
    x = torch.stack(_sums(INPUT, [x[..., i : i + 4 * columns - 3 : 4, :] for i in range(6)]))
    _, _, times, clips, _, _, channels = x.shape
    tiles = clips * rows * columns
    x = x.reshape(36, times * tiles, channels)
    times -= len(matrices) - 1
    y = torch.bmm(x[:, : times * tiles], matrices[0])
    for step, matrix in enumerate(matrices[1:], 1):
        y = torch.baddbmm(y, x[:, step * tiles : (step + times) * tiles], matrix)
    y = y.view(6, 6, times, clips, rows, columns, -1)
    y = torch.stack(_sums(OUTPUT, list(y)), 5)  # [6, T, N, rows, columns, 4, O]
    y = torch.stack(_sums(OUTPUT, list(y)), 3)  # [T, N, rows, 4, columns, 4, O]
    return y.reshape(times, clips, 4 * rows, 4 * columns, -1)


def _matrices(weight: Tensor) -> Tensor:
    """Of each step in time and place in a tile, columns first: `[T, 36, C, O]`."""
    sums = torch.tensor(WEIGHT, dtype=torch.float64)
    found = torch.einsum("ay,bx,octyx->tbaco", sums, sums, weight.double())
    return found.to(weight.dtype).flatten(1, 2)


def _sums(weights: Sequence[Sequence[float]], parts: Sequence[Tensor]) -> list[Tensor]:
    """One for each row of weights, without what counts nothing."""
    found = []
    for row in weights:
        terms = [part if weight == 1 else part * weight for weight, part in zip(row, parts, strict=True) if weight]
        found.append(sum(terms[1:], terms[0]))
    return found


def _gains(node: Node) -> bool:
    """Whether it is one that this can compute, and of a size at which this is faster; for any number of clips."""
    given = _arguments(node)
    if {*given["stride"], *given["dilation"], given["groups"]} != {1} or tuple(given["padding"][1:]) != (1, 1):
        return False
    shown, kernel = (given[name].meta["example_value"] for name in ("input", "weight"))
    if shown.device.type != "cpu" or shown.dtype != torch.float32 or shown.ndim != 5 or kernel.shape[3:] != (3, 3):
        return False
    steps, height, width = shown.shape[2:]
    tiles = -(-height // 4) * -(-width // 4)
    enough = kernel.shape[2] >= LEAST_STEPS and min(kernel.shape[:2]) >= LEAST_CHANNELS and steps * tiles >= LEAST_TILES
    return bool(enough and height * width >= LEAST_FULL * 16 * tiles)


def _arguments(node: Node) -> dict[str, Any]:
    """Those of a 3D convolution, by name; what may be one number for all sides as a tuple."""
    names = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
    given: dict[str, Any] = {"bias": None, "stride": 1, "padding": 0, "dilation": 1, "groups": 1}
    given |= dict(zip(names, node.args, strict=False)) | dict(node.kwargs)
    for name in ("stride", "padding", "dilation"):
        if isinstance(given[name], int):
            given[name] = (given[name],) * 3
    return given
