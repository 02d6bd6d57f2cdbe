"""What is to be published, whichever way it was named: a network, its tensors, and what is known about them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from zoo import factory, registry
from zoo.contract import VideoModel
from zoo.errors import PublishError, WeightsNotFound
from zoo.spec import ModelSpec, Weights
from zoo.weights.repository import CONFIG, IN_FOLDER, open_repository
from zoo.weights.safetensors_file import SafetensorsFile
from zoo.weights.source import at_home, is_file

WRITTEN_ANEW = {CONFIG, "README.md"}
BOOKKEEPING = {".cache", ".git", ".gitattributes"}  # what the Hub's own tools leave in a folder


@dataclass(frozen=True)
class Subject:
    """A network and its tensors on the CPU, under its own names.

    declared: what somebody has written down about these weights. certain: they are surely the ones of `model`, which
    might have been trained on since it was created; otherwise the digest has to tell.
    """

    model: VideoModel
    spec: ModelSpec
    tensors: dict[str, Tensor]
    declared: Weights | None
    certain: bool

    @property
    def name(self) -> str:
        return self.spec.full_name

    @property
    def plugin(self) -> str:
        """The distribution that brings the architecture, where that is another than zoo's."""
        record = registry.default.plugin(self.spec.plugin)
        known = record is not None and not record.builtin and record.distribution != registry.THIS_PROCESS
        return record.distribution if known and record else ""


def subject_of(model: VideoModel | str | Path) -> Subject:
    """Raises PublishError for what is not a model of zoo's, or what loading raises."""
    if isinstance(model, VideoModel):
        return _of(model, model.state_dict(), certain=False)
    if not isinstance(model, str | Path):
        raise PublishError(
            f"{type(model).__name__} cannot be published", hint="give a zoo.VideoModel, a name or a folder"
        )
    if (folder := _folder(model)) is not None:
        return _of_folder(folder)
    created = factory.create(str(model), pretrained=True)
    return _of(created, created.state_dict(), certain=True)


def _folder(model: str | Path) -> Path | None:
    if isinstance(model, str) and model.startswith(IN_FOLDER):
        return at_home(model.removeprefix(IN_FOLDER))
    path = at_home(model)
    return path if isinstance(model, Path) or is_file(path / CONFIG) else None


def _of_folder(folder: Path) -> Subject:
    name = f"{IN_FOLDER}{folder}"
    if not folder.is_dir():
        raise WeightsNotFound(f"{folder} is not a folder", hint="give a folder in zoo's own format, or a model's name")
    opened = open_repository(name)
    extra = sorted(
        {path.name for path in folder.iterdir()} - WRITTEN_ANEW - BOOKKEEPING - {opened.config.weights["file"]}
    )
    if extra:
        raise PublishError(
            f"{folder} holds more than a model: {', '.join(extra[:10])}",
            hint="only config.json, the weights and README.md are published; move the rest elsewhere",
        )
    # The file's own tensors: the model's are float32 whatever the file holds.
    file = SafetensorsFile(opened.file().path)
    return _of(factory.create(name), {key: file.tensor(key) for key in file.shapes}, certain=True)


def _of(model: VideoModel, tensors: dict[str, Tensor], *, certain: bool) -> Subject:
    if model.spec is None:
        raise PublishError(
            f"this {type(model).__name__} was not built by zoo, so that nobody could build it again",
            hint="register its architecture, and make it with zoo.build or zoo.create",
        )
    if any(tensor.is_meta for tensor in tensors.values()):
        raise PublishError(f"{model.spec.full_name} is on the meta device and has no values", hint="load its weights")
    own = {key: _alone(tensor) for key, tensor in tensors.items()}
    return Subject(model, model.spec, own, model.weights, certain)


def _alone(tensor: Tensor) -> Tensor:
    """On the CPU, contiguous, and nothing but itself in its memory."""
    tensor = tensor.detach().to("cpu").contiguous()
    whole: bool = tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
    return tensor if whole else tensor.clone(memory_format=torch.contiguous_format)
