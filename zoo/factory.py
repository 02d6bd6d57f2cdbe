"""From a name to a model: `build` gives random weights, `create` published ones, `load` puts weights into a model."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch

from zoo import registry
from zoo.contract import VideoModel
from zoo.errors import PluginError, SpecError, UnknownModel, WeightsNotFound, ZooError
from zoo.spec import ModelSpec, Weights
from zoo.weights import SafetensorsFile, load_into, locate, skip_init


def build(name: str, *, num_classes: int | None = None, **kwargs: Any) -> VideoModel:
    """An architecture with random weights, in training mode.

    name: an architecture, such as "r3d_18". kwargs: options of its builder.
    Raises UnknownModel, TypeError for an option that the builder does not take, PluginError.
    """
    spec, weights = registry.default.find(name)
    if weights is not None:
        raise SpecError(
            f"build({name!r}) asks for weights", hint=f"use zoo.create({name!r}), or build {spec.full_name!r}"
        )
    return _instantiate(spec, num_classes, kwargs)


def create(
    name: str,
    *,
    pretrained: bool | str | None = None,
    num_classes: int | None = None,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    **kwargs: Any,
) -> VideoModel:
    """A model by name, in evaluation mode.

    name: "architecture.tag" gives these weights, "architecture" random ones unless `pretrained` is True (the default
    tag) or a tag.
    num_classes: another number than the weights' replaces the last layer by a new, random one; `labels` is then None.
    dtype: of parameters and buffers; None is float32 whatever the file holds. kwargs: options of the builder.
    Raises UnknownModel, WeightsError, TypeError for an option that the builder does not take, PluginError.
    """
    spec, weights = registry.default.find(name)
    weights = _choose(spec, weights, pretrained)
    if weights is None:
        model = _instantiate(spec, num_classes, kwargs)
    else:
        model = _with_weights(spec, weights, num_classes, kwargs)
    return place(model, device, dtype).eval()


def place(model: VideoModel, device: str | torch.device | None = None, dtype: torch.dtype | None = None) -> VideoModel:
    """The model itself, moved. Raises SpecError for a device that does not exist here."""
    try:
        return model.to(device=device, dtype=dtype)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise SpecError(
            f"the model cannot be put on device {str(device)!r}: {reason}", hint='"cpu" always works'
        ) from error


def load(model: VideoModel, source: str | Path) -> VideoModel:
    """Put weights into a model, and give it back. Every tensor has to fit, else WeightsMismatch and nothing is changed.

    source: a tag of the model's spec, a path of a .safetensors file, or "pkg://package/path".
    A tag brings its labels and preprocessing; with a file the model keeps its preprocessing and has no labels.
    """
    spec = model.spec
    name = spec.full_name if spec else type(model).__name__
    if isinstance(source, str) and spec is not None and source in spec.weights:
        weights = spec.weights[source]
        load_into(model, _open(spec, weights), name=name)
        _adopt(model, weights)
        return model
    path_like = isinstance(source, Path) or any(mark in source for mark in ("/", "\\", "."))
    if not path_like:
        tags = ", ".join(spec.weights) if spec else ""
        raise UnknownModel(
            f"{name} has no weights {source!r}", hint=f"its tags are {tags}" if tags else "give a file's path"
        )
    load_into(model, SafetensorsFile(locate(source)), name=name)
    model.weights = model.labels = None
    return model


def _choose(spec: ModelSpec, weights: Weights | None, pretrained: bool | str | None) -> Weights | None:
    if weights is not None:
        if pretrained in (None, True, weights.tag):
            return weights
        raise SpecError(
            f"{spec.full_name}.{weights.tag} with pretrained={pretrained!r}",
            hint=f"leave pretrained away, or use the name {spec.full_name!r}",
        )
    if not pretrained:
        return None
    tag = spec.default_tag if pretrained is True else pretrained
    if tag is None:
        raise WeightsNotFound(f"{spec.full_name} has no default weights", hint=f"its tags are {_tags(spec)}")
    if tag not in spec.weights:
        raise UnknownModel(f"{spec.full_name} has no weights {tag!r}", hint=f"its tags are {_tags(spec)}")
    return spec.weights[tag]


def _tags(spec: ModelSpec) -> str:
    return ", ".join(spec.weights) or "none yet"


def _with_weights(spec: ModelSpec, weights: Weights, num_classes: int | None, kwargs: dict[str, Any]) -> VideoModel:
    file = _open(spec, weights)
    options = {**weights.kwargs, **kwargs}
    model = _instantiate(spec, weights.num_classes, options, initialise=False)
    load_into(model, file, name=spec.full_name)
    _adopt(model, weights)
    if num_classes is not None and num_classes != model.num_classes:
        model.reset_classifier(num_classes)
        model.labels = None
    return model


def _open(spec: ModelSpec, weights: Weights) -> SafetensorsFile:
    if not weights.source:
        raise WeightsNotFound(
            f"{spec.full_name}.{weights.tag} is published as a pickle only",
            hint=f"run `zoo convert {spec.full_name}.{weights.tag}` once",
        )
    return SafetensorsFile(locate(weights.source), sha256=weights.sha256, size=weights.size)


def _adopt(model: VideoModel, weights: Weights) -> None:
    model.weights = weights
    model.labels = weights.labels or None
    model.preprocessing = weights.preprocessing or (model.spec.preprocessing if model.spec else None)


def _instantiate(
    spec: ModelSpec, num_classes: int | None, kwargs: dict[str, Any], *, initialise: bool = True
) -> VideoModel:
    """Call the builder. Without `initialise` the parameters hold nothing yet, and every one has to be assigned."""
    with _plugin_code(spec):
        builder: Any = registry.import_function(spec.builder) if isinstance(spec.builder, str) else spec.builder
        signature = inspect.signature(builder)
    options = {**spec.kwargs, **kwargs}
    if num_classes is not None:
        options["num_classes"] = num_classes
    try:
        signature.bind(**options)
    except TypeError as wrong:
        raise TypeError(f"{spec.full_name}: {wrong}; its options are {', '.join(signature.parameters)}") from None
    with _plugin_code(spec), nullcontext() if initialise else skip_init():
        model = builder(**options)
    if not isinstance(model, VideoModel):
        raise PluginError(
            f"{spec.full_name}: {spec.builder} gave {type(model).__name__}",
            hint="a builder has to return a zoo.VideoModel",
        )
    model.spec = spec
    model.preprocessing = spec.preprocessing
    if model.geometry is None:
        model.geometry = spec.geometry
    return model


@contextmanager
def _plugin_code(spec: ModelSpec) -> Iterator[None]:
    """What goes wrong in a plugin's code is said to be the plugin's, and a missing package names the pip line."""
    try:
        yield
    except ZooError:
        raise
    except ModuleNotFoundError as missing:
        package = (missing.name or "").partition(".")[0]
        if str(spec.builder).startswith((f"{package}.", f"{package}:")):
            raise PluginError(f"{spec.full_name}: its builder {spec.builder} does not exist") from missing
        raise ImportError(
            f"{spec.full_name} needs the package {package!r}, which is not installed: pip install {package}",
            name=package,
        ) from missing
    except ImportError:
        raise
    except Exception as error:
        raise PluginError(f"{spec.full_name}: its builder {spec.builder} failed: {error!r}") from error
