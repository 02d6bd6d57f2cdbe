"""Weights and products of an ONNX graph in whole numbers of 8 bits, by ONNX Runtime's own tools."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import Tensor

from zoo.deploy import saturation
from zoo.deploy.exported import ExportedModel
from zoo.deploy.trace import needs, quiet
from zoo.errors import DeploymentError
from zoo.weights.cached import digest_of

KINDS = {"Conv": "convolution", "MatMul": "linear", "Gemm": "linear"}
# What stands in the graph that ONNX Runtime executes where such a product has become one of whole numbers.
WHOLE = {
    "ConvInteger": "convolution",
    "QLinearConv": "convolution",
    "DynamicQuantizeMatMul": "linear",
    "MatMulInteger": "linear",
    "MatMulIntegerToFloat": "linear",
    "QGemm": "linear",
    "QLinearMatMul": "linear",
}


def quantized(model: ExportedModel, calibration: Tensor | None = None) -> ExportedModel:
    """An ONNX model with its products in int8, the weights with a scale for each channel.

    calibration: clips `[N, C, T, H, W]` that show how large the values within get: then the graph is static, and
    convolutions are quantised too. Without them it is dynamic, and linear layers look at their values when they come.
    `changes` counts what runs in whole numbers in the graph that ONNX Runtime makes of the file. `made_with` says how
    many bits the weights have: 8 where the processor has VNNI, else 7.
    Raises DeploymentError where that is nothing.
    """
    needs("onnx", "onnxruntime")
    name = model.facts.model
    with TemporaryDirectory(prefix="zoo-int8-") as folder, quiet():
        before, ready, after, executed = (Path(folder) / f"{step}.onnx" for step in ("a", "b", "c", "d"))
        before.write_bytes(model.data)
        try:
            _prepare(before, ready)
            _quantize(ready, after, calibration)
            _optimize(after, executed)
            of, changed = _products(ready), _whole(executed)
        except Exception as error:
            raise DeploymentError(
                f"{name} cannot be quantised: {type(error).__name__}: {str(error)[:300]}",
                hint="zoo.optimize(model, 'compile') keeps float32",
            ) from error
        if not changed.total():
            raise DeploymentError(
                f"{name}: of its {of.total()} products none would run in int8",
                hint="zoo.optimize(model, 'compile') keeps float32",
            )
        facts = replace(
            model.facts,
            sha256=digest_of(after, like="0" * 64),
            size=after.stat().st_size,
            changes={kind: (changed[kind], of[kind]) for kind in sorted(of)},
            comparison=None,
            made_with={**model.facts.made_with, **saturation.made_here()},
        )
        return ExportedModel(after.read_bytes(), facts)


def _prepare(before: Path, ready: Path) -> None:
    """Batch norms folded into convolutions, and shapes known."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    quant_pre_process(str(before), str(ready), skip_symbolic_shape=True)


def _quantize(ready: Path, after: Path, calibration: Tensor | None) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic, quantize_static

    options: dict[str, Any] = {
        "per_channel": True,
        "weight_type": QuantType.QInt8,
        "reduce_range": not saturation.has_vnni(),  # weights of 7 bits
    }
    if calibration is None:
        quantize_dynamic(str(ready), str(after), op_types_to_quantize=["MatMul", "Gemm"], **options)
    else:
        clips = _Clips(calibration)
        quantize_static(str(ready), str(after), clips, activation_type=QuantType.QUInt8, **options)


class _Clips:
    """What the calibration of ONNX Runtime asks for: one clip after the other."""

    def __init__(self, clips: Tensor) -> None:
        self._clips = iter(clips[:, None])

    def get_next(self) -> dict[str, Any] | None:
        clip = next(self._clips, None)
        return None if clip is None else {"clip": clip.numpy()}


def _optimize(file: Path, executed: Path) -> None:
    """Write down the graph that is executed here."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(executed)
    options.log_severity_level = 3
    onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])


def _products(file: Path) -> Counter[str]:
    """Products with weights, by kind."""
    import onnx

    graph = onnx.load(str(file)).graph
    weights = {tensor.name for tensor in graph.initializer}
    products = [node for node in graph.node if node.op_type in KINDS and weights & set(node.input[:2])]
    return Counter(KINDS[node.op_type] for node in products)


def _whole(file: Path) -> Counter[str]:
    import onnx

    nodes = onnx.load(str(file)).graph.node
    return Counter(WHOLE[node.op_type] for node in nodes if node.op_type in WHOLE)
