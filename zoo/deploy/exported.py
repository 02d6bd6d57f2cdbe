"""A file of another runtime, behind the face of a model."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoo import registry
from zoo.contract import VideoModel
from zoo.deploy.facts import FILES, NEEDS_TRUST, Comparison, Facts, read_facts
from zoo.deploy.rerun import OPENERS, Run
from zoo.deploy.saturation import can_saturate
from zoo.deploy.trace import needs
from zoo.errors import DeploymentError, SpecError, UnknownModel
from zoo.spec import Geometry, ModelSpec, Weights


class ExportedModel(VideoModel):
    """A model without parameters, whose network a file holds and another runtime executes, on the CPU.

    `predict`, `embed`, `zoo.VideoPredictor` and all that reads a protocol take it as any other. The network runs as a
    whole: it has logits and the embedding of a clip, but no maps and no stages, and cannot be trained. It takes any
    number of clips of one shape. ONNX Runtime uses as many threads as torch has when the model is first called.

    facts, data: what stands in export.json, and the bytes of the file, which are pickled with the model.
    """

    digest: Tensor

    def __init__(self, data: bytes, facts: Facts) -> None:
        super().__init__()
        self.facts, self.data = facts, data
        self._runner: Run | None = None
        self.register_buffer("digest", torch.frombuffer(bytearray.fromhex(facts.sha256), dtype=torch.uint8))
        channels, frames, *size = facts.clip
        self.num_features, self.num_classes = facts.num_features, facts.num_classes
        self.spec, self.weights = _spec(facts), _weights(facts)
        self.labels, self.preprocessing = facts.labels or None, facts.preprocessing
        self.geometry = Geometry(channels=channels, frames=frames, size=(size[0], size[1]))
        self.eval()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_runner": None}

    def extra_repr(self) -> str:
        changed = [f"{kind}: {count} of {of} in int8" for kind, (count, of) in self.changes.items()]
        return ", ".join([self.facts.model, self.facts.format, f"{self.facts.size:,} bytes", *changed])

    @property
    def changes(self) -> Mapping[str, tuple[int, int]]:
        """{kind of layer: (changed, of so many)} where the network is no longer the one that was exported."""
        return self.facts.changes

    @property
    def comparison(self) -> Comparison | None:
        """With the network that was exported or optimised."""
        return self.facts.comparison

    def forward(self, clip: Tensor) -> Tensor:
        return self._call(clip, "logits")

    def forward_embedding(self, clip: Tensor) -> Tensor:
        return self._call(clip, "embedding")

    def forward_features(self, clip: Tensor) -> Tensor:
        raise SpecError(
            f"{self.facts.model} was exported as a whole: it has no features within",
            hint='level="clip" gives its embedding; the network itself, from zoo.create, has the rest',
        )

    def reset_classifier(self, num_classes: int) -> None:
        raise SpecError(
            f"{self.facts.model} was exported as one whole, with its classifier",
            hint=f"zoo.create(name, num_classes={num_classes}) makes a network with another, to train and to export",
        )

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write the file and its export.json into a new folder, for `zoo.load_exported`; gives the folder."""
        path = new_folder(folder)
        path.mkdir(parents=True, exist_ok=True)
        (path / FILES[self.facts.format]).write_bytes(self.data)
        self.facts.write(path)
        return path

    def _call(self, clip: Tensor, output: str) -> Tensor:
        self.check_geometry(clip)
        if self._runner is None:
            if self.facts.format == "onnx":
                needs("onnxruntime")
            try:
                self._runner = OPENERS[self.facts.format](io.BytesIO(self.data), torch.get_num_threads())
            except Exception as error:
                raise DeploymentError(
                    f"{self.facts.model}: its {self.facts.format} file cannot be run here: {error!r:.300}",
                    hint=f"it was made with {', '.join(' '.join(pair) for pair in self.facts.made_with.items())}",
                ) from error
        clips = clip.detach().to("cpu", torch.float32).contiguous()
        (said,) = self._runner(clips.numpy(), output)
        return torch.from_numpy(said)

    def _apply(self, function: Any, recurse: bool = True) -> Any:
        moved = function(torch.empty(0))
        if moved.device.type != "cpu" or moved.dtype != torch.float32:
            raise SpecError(
                f"{self.facts.model} was exported to run on the CPU in float32", hint="move the network, and export it"
            )
        return super()._apply(function, recurse)  # type: ignore[no-untyped-call]


def new_folder(name: str | os.PathLike[str]) -> Path:
    """A folder to write into: one that is not there, or empty. Raises SpecError for another."""
    path = Path(name)
    nearest = next(place for place in (path, *path.absolute().parents) if place.exists())
    if not nearest.is_dir() or (nearest == path and any(path.iterdir())):
        raise SpecError(f"{nearest} is there already", hint="give the name of a new folder")
    return path


def load_exported(folder: str | os.PathLike[str], *, trust: bool = False) -> ExportedModel:
    """The model that `zoo.export` or `save` has written into a folder; the plugin that it came from is not needed.

    trust: pt2 and aoti files can hold code, which opening them runs: True says that you know where they come from.
    Warns of an int8 file that was made for processors with VNNI, where this one has none.
    Raises WeightsNotFound, WeightsCorrupt; SpecError for a file that has to be trusted and is not.
    """
    path = Path(folder)
    facts = read_facts(path)
    if facts.format in NEEDS_TRUST and trust is not True:
        raise SpecError(
            f"{path} is {facts.format}, and such a file can run any code",
            hint="trust=True if you know where it comes from; onnx is safe to open",
        )
    if facts.changes and can_saturate(facts.made_with):
        warnings.warn(
            f"{path}: its int8 weights may be of 8 bits, for processors with VNNI. This one has none, and sums in ONNX "
            "Runtime can saturate, which makes answers wrong: quantise again here, by zoo.optimize(model, 'int8')",
            stacklevel=2,
        )
    return ExportedModel((path / FILES[facts.format]).read_bytes(), facts)


def _spec(facts: Facts) -> ModelSpec:
    """That of the architecture where it is registered. An exported model has no steps."""
    try:
        return replace(registry.default.info(facts.model), streaming=False)
    except UnknownModel:
        name = facts.model.rpartition("/")[2]
        return ModelSpec(name=name, builder=f"{__name__}:load_exported", preprocessing=facts.preprocessing)


def _weights(facts: Facts) -> Weights | None:
    """What is known about the weights, of this file."""
    if facts.weights is None:
        return None
    known = replace(facts.weights, source=FILES[facts.format], origin=None, layout="", kwargs={})
    return replace(known, sha256=facts.sha256, size=facts.size)
