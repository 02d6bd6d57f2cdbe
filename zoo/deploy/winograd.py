"""3D convolutions with a quarter of the multiplications, for graphs that are compiled for a CPU.

Winograd's F(4x4, 3x3): each tile of 4x4 outputs is 36 products of sums of inputs with sums of weights, instead of 144.
The sums over channels, and over the kernel's steps in time, are matrix products. Matrices of sums: Lavin and Gray, Fast
Algorithms for Convolutional Neural Networks, 2016 (arXiv:1509.09308). In float32 the result differs by about 1e-5 of
the largest value.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.fx import GraphModule, Node

from zoo.deploy.trace import own_code

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
LEAST_STEPS, LEAST_TILES = 2, 64
LEAST_PRODUCTS = 2**20  # tiles times channels times outputs: below, what each call costs decides
LEAST_FULL = 0.5  # of the tiles, at the right and the lower edge
BLOCK = 2**16  # tiles times channels at once, so that their sums stay in the processor's cache


def use_winograd(graph: GraphModule) -> tuple[int, int]:
    """Replace, in a graph that torch.compile has traced, what gains by it: (how many, of how many 3D convolutions)."""
    convolutions = [n for n in graph.graph.nodes if n.op == "call_function" and n.target is torch.conv3d]
    chosen = [node for node in convolutions if _gains(node)]
    for node in chosen:
        given = _arguments(node)
        with graph.graph.inserting_before(node):
            last = node.meta["example_value"].is_contiguous(memory_format=torch.channels_last_3d)
            layout = torch.channels_last_3d if last else torch.contiguous_format
            arguments = given["input"], given["weight"], given["bias"], given["padding"][0], layout
            node.replace_all_uses_with(graph.graph.call_function(convolve, arguments))
        graph.graph.erase_node(node)
    graph.recompile()
    return len(chosen), len(convolutions)


def convolve(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    in_time: int,
    layout: torch.memory_format = torch.contiguous_format,
) -> Tensor:
    """`[N, C, T, H, W]` by a kernel of 3x3 pixels and any steps in time, of stride 1.

    Padded by one pixel on each side, and by so many steps of time. layout: of the result in memory.
    """
    height, width = x.shape[3:]
    below, right = -height % 4 + 1, -width % 4 + 1
    x = F.pad(x.permute(0, 2, 3, 4, 1), (0, 0, 1, right, 1, below, in_time, in_time)).contiguous()
    y: Tensor = in_blocks(x, _matrices(weight))[:, :, :height, :width]
    return (y if bias is None else y + bias).permute(0, 4, 1, 2, 3).contiguous(memory_format=layout)


@torch.library.custom_op("zoo::winograd", mutates_args=())
def in_blocks(x: Tensor, matrices: Tensor) -> Tensor:
    """`[N, T, H, W, O]` of `[N, T + K - 1, H + 2, W + 2, C]`, where H and W are of whole tiles.

    An operation of its own, as a compiler would undo the blocks, and make code for each of them.
    """
    y = _empty(x, matrices)
    clips, times, height, width, _ = y.shape
    rows, columns = height // 4, width // 4
    most = min(max(BLOCK // (x.shape[1] * columns * x.shape[4]), 1), rows)
    high = max(size for size in range(1, most + 1) if rows % size == 0)
    tiles = high * columns
    spread = _compiled(_spread, high, *x.shape[1:])
    gather = _compiled(_gather, high, *y.shape[1:])
    for clip in range(clips):
        for top in range(0, height, 4 * high):
            sums = spread(x[clip, :, top : top + 4 * high + 2])
            found = torch.bmm(sums[:, : times * tiles], matrices[0])
            for step in range(1, len(matrices)):
                found.baddbmm_(sums[:, step * tiles : (step + times) * tiles], matrices[step])
            gather(found, y[clip, :, top : top + 4 * high])
    return y


def _empty(x: Tensor, matrices: Tensor) -> Tensor:
    """What the result is written into."""
    steps, _, _, outputs = matrices.shape
    clips, times, height, width, _ = x.shape
    return x.new_empty(clips, times - steps + 1, height - 2, width - 2, outputs)


in_blocks.register_fake(_empty)


def _spread(x: Tensor) -> Tensor:
    """The sums of the inputs of each tile, `[36, T * tiles, C]`, of `[T, H + 2, W + 2, C]`."""
    high, wide = (size - 2 for size in x.shape[1:3])
    x = torch.stack(_sums(INPUT, [x[:, i : i + high - 3 : 4] for i in range(6)]))
    x = torch.stack(_sums(INPUT, [x[..., i : i + wide - 3 : 4, :] for i in range(6)]))
    return x.reshape(36, -1, x.shape[-1])


def _gather(products: Tensor, y: Tensor) -> None:
    """The sums of the products of each tile, `[36, T * tiles, O]`, into `[T, H, W, O]`."""
    times, high, wide, _ = y.shape
    products = products.view(6, 6, times, high // 4, wide // 4, -1)
    products = torch.stack(_sums(OUTPUT, list(products)), 4)  # [6, T, rows, columns, 4, O]
    products = torch.stack(_sums(OUTPUT, list(products)), 2)  # [T, rows, 4, columns, 4, O]
    y.copy_(products.reshape(y.shape))


@lru_cache(64)
def _compiled(function: Any, *sizes: int) -> Any:
    """For blocks so high of tensors of these sizes."""
    return torch.compile(own_code(function), fullgraph=True, dynamic=False)


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
    dtypes = {shown.dtype, node.meta["example_value"].dtype}  # not so under autocast
    if shown.device.type != "cpu" or dtypes != {torch.float32} or shown.ndim != 5 or kernel.shape[3:] != (3, 3):
        return False
    steps, height, width = shown.shape[2:]
    tiles = -(-height // 4) * -(-width // 4)
    products = steps * tiles * kernel.shape[0] * kernel.shape[1]
    enough = kernel.shape[2] >= LEAST_STEPS and steps * tiles >= LEAST_TILES and products >= LEAST_PRODUCTS
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
