"""`zoo.export`: a model as a file that runs without zoo."""

from __future__ import annotations

import copy
import itertools
import os
import subprocess
import sys
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zoo.contract import VideoModel
from zoo.deploy import rerun
from zoo.deploy.compare import answers, clips_of, compare, distance
from zoo.deploy.exported import ExportedModel, new_folder
from zoo.deploy.facts import FILES, Comparison, Facts
from zoo.deploy.trace import Shape, needs, write
from zoo.errors import DeploymentError, SpecError
from zoo.tasks import as_model
from zoo.video.clips import protocol_of
from zoo.weights.cached import digest_of

NEAR = 1e-4  # of the logits' scale: how far an exported model may be from the network
BATCHES = (1, 2, 3)
WITH = {"onnx": ("torch", "onnx", "onnxscript", "onnxruntime"), "pt2": ("torch",), "aoti": ("torch",)}
TIMEOUT_S = 1800.0


def export(
    model: VideoModel | str, format: str, out: str | os.PathLike[str], *, videos: Iterable[Any] | None = None
) -> ExportedModel:
    """Write a classifier as a file that runs without zoo, and give the model that the file is.

    model: a VideoModel, or a name as `zoo.predict` takes it. What `zoo.optimize` has made for ONNX Runtime is written
    as it is.
    format: "onnx", for ONNX Runtime and many others (the extra `[onnx]`); "pt2", for `torch.export.load` and what
    comes after it; "aoti", machine code for this kind of processor, for `aoti_load_package` in Python and C++.
    out: a new folder. It gets the file and export.json: labels, preprocessing, the weights' licence and origin, the
    shape of a clip, and versions. The file takes float32 `clip [B, C, T, H, W]` for any B, of the shape that the
    protocol makes, and gives `logits [B, K]` and `embedding [B, D]`.
    videos: to compare on; generated ones if None.
    Before anything is in `out`, the file is run by a new process that has not imported zoo, in batches of 1, 2 and 3;
    its logits and its embedding are each within 1e-4 of the network's, by their scale.
    Raises SpecError; DeploymentError for a network that cannot be one graph, or that says something else then.
    """
    if format not in FILES:
        raise SpecError(f"format={format!r}", hint=f"it is one of {', '.join(FILES)}")
    path = new_folder(out)
    original = as_model(model)
    made = repack(original, format) if isinstance(original, ExportedModel) else exported(original, format, videos)
    made.save(path)
    return made


def exported(
    model: VideoModel,
    format: str,
    videos: Iterable[Any] | None = None,
    clips: Tensor | None = None,
    *,
    fused: bool = False,
) -> ExportedModel:
    """The model as a file of this format, proven. clips: to prove it on, instead of those of videos.

    fused: for ONNX Runtime alone, with operators of its own.
    """
    if model.spec is None or model.spec.task != "classification":
        task = model.spec.task if model.spec else "nothing that is registered"
        raise SpecError(f"a model for {task} cannot be exported", hint="classifiers can")
    if format == "onnx":
        needs("onnx", "onnxscript", "onnxruntime")
    network = copy.deepcopy(model).to("cpu", torch.float32).eval().requires_grad_(False)
    clips = clips_of(network, videos) if clips is None else clips
    wanted = {output: answers(network, clips, output) for output in rerun.OUTPUTS}
    with TemporaryDirectory(prefix="zoo-export-") as folder:
        file = Path(folder) / FILES[format]
        channels, frames, height, width = clips.shape[1:]
        write(network, "onnxruntime" if fused else format, (channels, frames, height, width), file)
        said = prove(file, format, clips, model.spec.full_name)
        for output in rerun.OUTPUTS:
            if (far := distance(said[output], wanted[output])) > NEAR:
                raise DeploymentError(
                    f"{model.spec.full_name} as {format} says something else than the network does: {output} off by "
                    f"{far:.1e} of the scale, and {NEAR:g} is allowed",
                    hint="tell the author of the architecture",
                )
        logits, embedding = ((said[output], wanted[output]) for output in rerun.OUTPUTS)
        comparison = compare(*logits, embeddings=embedding)
        facts = describe(network, format, file, (channels, frames, height, width), comparison)
        return ExportedModel(file.read_bytes(), facts)


def describe(network: VideoModel, format: str, file: Path, clip: Shape, comparison: Comparison) -> Facts:
    assert network.spec is not None
    return Facts(
        model=network.spec.full_name,
        format=format,
        sha256=digest_of(file, like="0" * 64),
        size=file.stat().st_size,
        clip=clip,
        num_classes=network.num_classes,
        num_features=network.num_features,
        preprocessing=protocol_of(network),
        labels=network.labels or (),
        weights=network.weights,
        comparison=comparison,
        made_with={package: version(package) for package in WITH[format]},
    )


def prove(file: Path, format: str, clips: Tensor, name: str) -> dict[str, Tensor]:
    """What a new process, without zoo, makes of the clips, in batches of every size."""
    batches: dict[str, Any] = {}
    left = clips.numpy()
    for size in itertools.cycle(BATCHES):
        batches[str(len(batches))], left = left[:size], left[size:]
        if not len(left):
            break
    given, got = file.with_name("clips.npz"), file.with_name("answers.npz")
    np.savez(given, **batches)
    command = [sys.executable, "-P", rerun.__file__, format, str(file), str(given), str(got)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False, cwd=file.parent
        )
    except subprocess.TimeoutExpired:
        raise DeploymentError(
            f"{name} as {format} does not end in {TIMEOUT_S:.0f} s", hint="try another format, or a smaller model"
        ) from None
    if done.returncode:
        said = done.stderr.strip().rpartition("\n")[2][:300]
        raise DeploymentError(
            f"{name} as {format} was written, and cannot be run: {said}", hint="try another format, or newer versions"
        )
    with np.load(got) as found:
        rows = {output: [torch.from_numpy(found[f"{batch}.{output}"]) for batch in batches] for output in rerun.OUTPUTS}
    return {output: torch.cat(several) for output, several in rows.items()}


def repack(model: ExportedModel, format: str) -> ExportedModel:
    """A file as it is. Raises SpecError for another format."""
    if model.facts.format != format:
        raise SpecError(
            f"{model.facts.model} is {model.facts.format} already", hint=f"export the network itself as {format}"
        )
    return model
