"""Attention as the one operator that ONNX Runtime has for it, whose scores are never in memory as a whole.

The operators of the standard write down all scores, `[B, heads, N, N]`, and read them again for the softmax and for the
sum: with many tokens that takes longer than their arithmetic, and than all linear layers once those are int8.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch.export import ExportedProgram

Translations = dict[Callable[..., Any], Callable[..., Any]]
ATTENTION = torch.ops.aten.scaled_dot_product_attention.default


def fused(program: ExportedProgram) -> Translations:
    """A translation of attention for `torch.onnx.export`; none for a graph where some has a mask or a scale."""
    found = [node for node in program.graph.nodes if node.target is ATTENTION]
    if found and all(len(node.args) == 3 and not node.kwargs and _is_static(node.args) for node in found):
        return {ATTENTION: _attend}
    return {}


def _is_static(nodes: Any) -> bool:
    """Whether all dimensions but the first have one size."""
    return all(isinstance(size, int) for node in nodes for size in node.meta["val"].shape[1:])


def _attend(query: Any, key: Any, value: Any) -> Any:
    """Of `[..., heads, N, d]`, in operators of ONNX. Called when the graph is built, so that shapes are known."""
    from onnxscript import opset18

    standard: Any = opset18  # its own types do not know that operators take each other's results

    def tokens(x: Any) -> Any:  # [-1, N, heads * d]
        heads, count, dim = x.shape[-3:]
        return standard.Reshape(_swapped(standard, x), standard.Constant(value_ints=[-1, count, heads * dim]))

    *outer, heads, count, _ = query.shape
    made = _operator()(tokens(query), tokens(key), tokens(value), num_heads=heads)
    shape = [-1, *outer[1:], count, heads, value.shape[-1]]
    return _swapped(standard, standard.Reshape(made, standard.Constant(value_ints=shape)), rank=len(shape))


@cache
def _operator() -> Any:
    """What to write it with: of the operators of ONNX Runtime, the exporter knows none."""
    from onnx.defs import OpSchema
    from onnxscript.values import Op, Opset

    schema = OpSchema(
        "MultiHeadAttention",
        "com.microsoft",
        1,
        inputs=[OpSchema.FormalParameter(name, "T") for name in ("query", "key", "value")],
        outputs=[OpSchema.FormalParameter("output", "T")],
        attributes=[OpSchema.Attribute("num_heads", OpSchema.AttrType.INT, "", required=True)],
        type_constraints=[("T", ["tensor(float)"], "")],
    )
    return Op(Opset("com.microsoft", 1), "MultiHeadAttention", schema)


def _swapped(standard: Any, x: Any, rank: int = 0) -> Any:
    """With tokens before heads, or the other way round."""
    rank = rank or len(x.shape)
    return standard.Transpose(x, perm=[*range(rank - 3), rank - 2, rank - 3, rank - 1])
