"""`zoo.optimize`: the same model, faster."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from zoo.contract import VideoModel
from zoo.deploy.compare import EMBEDDING, answers, check, clips_of, compare
from zoo.deploy.compiled import WINOGRAD, CompiledModel
from zoo.deploy.export import exported
from zoo.deploy.exported import ExportedModel
from zoo.deploy.quantize import quantized
from zoo.deploy.trace import needs
from zoo.errors import DeploymentError, SpecError
from zoo.tasks import as_model

# How far the logits may be from the original's, by their scale.
DISTANCE = {"compile": 1e-3, "bf16": 0.1, "int8": 0.2, "int8-dynamic": 0.2, "int8-static": 0.2}
AGREEMENT = 0.85  # of nine clips one may have another best label
COMPARE, CALIBRATE = 1000, 2000  # seeds of generated videos: never the same ones
CALIBRATION = 18
THIRD = 3  # of videos that were given, every third is for comparison only


def optimize(
    model: VideoModel | str,
    method: str | None = None,
    *,
    videos: Iterable[Any] | None = None,
    max_distance: float | None = None,
    min_agreement: float = AGREEMENT,
) -> CompiledModel | ExportedModel:
    """A faster model that says nearly the same; the model itself is left as it is.

    model: a VideoModel, or a name as `zoo.predict` takes it.
    method: "compile" is float32 as before, as one compiled graph with frozen weights; on a CPU, larger 3D convolutions
    by Winograd's algorithm, which multiplies less, is exact to about 1e-5 and takes four times their weights' memory.
    "int8" runs in ONNX Runtime (the extra `[onnx]`) on the CPU: "int8-static" where convolutions do most of the work,
    whose scales are measured on videos beforehand, else "int8-dynamic", for linear layers only. "bf16" is compiled in
    bfloat16. None chooses "bf16" on a GPU and "compile" on a CPU: numbers of fewer bits are not chosen for you there.
    videos: to measure scales and to compare on, at least three and of the kind that the model is for; generated ones
    if None. Two thirds of them measure, one third compares, where both is needed.
    max_distance: of the logits from the original's, by their largest; None is 1e-3, or 0.1 for bf16, 0.2 for int8,
    whose embedding has the same bound.
    min_agreement: the share of clips that have to keep their best label.

    The result has `changes`, {kind: (how many were changed, of so many)}, and `comparison`: clips, distance, agreement,
    and for int8 embedding.
    Raises SpecError; DeploymentError where nothing was changed, or the result is too far from the original; and for
    "bf16" on a CPU without matrix units for it, where it is slower.
    """
    if method is not None and method not in DISTANCE:
        raise SpecError(f"method={method!r}", hint=f"it is one of {', '.join(DISTANCE)}")
    original = as_model(model)
    if isinstance(original, CompiledModel | ExportedModel):
        raise SpecError("the model is optimised or exported already", hint="optimise the network, from zoo.create")
    method = method or ("bf16" if _device(original).type == "cuda" else "compile")
    if method.startswith("int8"):
        needs("onnx", "onnxscript", "onnxruntime")
    calibration, clips = _clips(original, videos, method)
    return optimized(original, method, clips, calibration, max_distance=max_distance, min_agreement=min_agreement)


def optimized(
    original: VideoModel,
    method: str,
    clips: Tensor,
    calibration: Tensor,
    *,
    max_distance: float | None = None,
    min_agreement: float = AGREEMENT,
) -> CompiledModel | ExportedModel:
    """See `optimize`. clips: to compare on; calibration: to measure scales on."""
    made = _compiled(original, method) if method in ("compile", "bf16") else _int8(original, clips, calibration, method)
    name = original.spec.full_name if original.spec else type(original).__name__
    whole = isinstance(made, ExportedModel)  # a compiled one computes its embeddings only where they are asked for
    embeddings = (answers(made, clips, EMBEDDING), answers(original, clips, EMBEDDING)) if whole else None
    comparison = compare(answers(made, clips), answers(original, clips), embeddings)
    if not any(count for kind, (count, _) in made.changes.items() if kind != WINOGRAD):
        raise DeploymentError(f"{method!r} changes nothing of {name}", hint="leave it as it is")
    limit = DISTANCE[method] if max_distance is None else max_distance
    check(comparison, max_distance=limit, min_agreement=min_agreement, what=f"{name} by {method!r}")
    if isinstance(made, ExportedModel):
        return ExportedModel(made.data, replace(made.facts, comparison=comparison))
    made.comparison = comparison
    return made


def _clips(model: VideoModel, videos: Iterable[Any] | None, method: str) -> tuple[Tensor, Tensor]:
    """Clips to measure scales on, and others to compare on."""
    measures = method in ("int8", "int8-static")
    if videos is None:
        measured = clips_of(model, None, seed=CALIBRATE, count=CALIBRATION) if measures else torch.empty(0)
        return measured, clips_of(model, None, seed=COMPARE)
    clips = clips_of(model, videos)
    if not measures:
        return torch.empty(0), clips
    if len(clips) < THIRD:
        raise SpecError(f"{len(clips)} videos are too few to measure and compare on", hint=f"give {THIRD} or more")
    third = torch.arange(len(clips)) % THIRD == 0
    return clips[~third], clips[third]


def _compiled(model: VideoModel, method: str) -> CompiledModel:
    if method == "compile":
        return CompiledModel(model)
    if _device(model).type == "cpu" and not _has_matrix_units():
        raise DeploymentError(
            "bf16 is slower than float32 on this CPU, which has no matrix units for it",
            hint="use 'compile' or 'int8'; zoo.create(name, dtype=torch.bfloat16) only saves memory",
        )
    return CompiledModel(model, torch.bfloat16)


def _int8(model: VideoModel, clips: Tensor, calibration: Tensor, method: str) -> ExportedModel:
    if method == "int8":
        method = "int8-static" if _convolves(model, clips[:1]) else "int8-dynamic"
    float32 = exported(model, "onnx", clips=clips, fused=True)
    return quantized(float32, calibration if method == "int8-static" else None)


def _convolves(model: VideoModel, clip: Tensor) -> bool:
    """Whether convolutions do most of the multiplying."""
    with FlopCounterMode(display=False) as counter:
        answers(model, clip)
    counts = counter.get_flop_counts()["Global"]
    convolved = sum(count for operation, count in counts.items() if "conv" in str(operation))
    return bool(convolved * 2 > sum(counts.values()))


def _device(model: VideoModel) -> torch.device:
    return next(model.parameters(), torch.empty(0)).device


def _has_matrix_units() -> bool:
    return bool(getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)())
