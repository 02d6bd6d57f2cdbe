"""From a name to a model: `build` gives random weights, `create` published ones, `load` puts weights into a model."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from zoo import registry
from zoo.contract import VideoModel
from zoo.errors import PluginError, SpecError, UnknownModel, WeightsMismatch, WeightsNotFound, ZooError
from zoo.recognise import named
from zoo.spec import ModelSpec, Preprocessing, Weights
from zoo.weights.assign import compare, load_into
from zoo.weights.conversions import layouts_of
from zoo.weights.fetch import Fetched, fetch
from zoo.weights.repository import Repository, exported_folder, is_repository, open_repository
from zoo.weights.safetensors_file import open_weights
from zoo.weights.skip_init import skip_init

# Bytes of a network from a repository, by those of its file: which may hold halves, and not what is computed.
LARGEST_GROWTH, SPARE = 4, 64 << 20


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
    endpoint: str | None = None,
    cache_dir: str | Path | None = None,
    **kwargs: Any,
) -> VideoModel:
    """A model by name, in evaluation mode.

    name: "architecture.tag" gives these weights, "architecture" random ones unless `pretrained` is True (the default
    tag) or a tag. "hf-hub:owner/repo@revision" and "local-dir:path" give what a repository holds, in zoo's own format
    or in that of transformers where a spec `opens` its model type; labels and preprocessing are the repository's.
    "local-dir:path" of what `zoo.export` has written as ONNX gives that.
    num_classes: another number than the weights' replaces the last layer by a new, random one; `labels` is then None.
    dtype: of parameters and buffers; None is float32 whatever the file holds. kwargs: options of the builder.
    endpoint, cache_dir: of the Hub; None is what its client is set to (HF_ENDPOINT, HF_HOME).
    Raises UnknownModel, WeightsError, TypeError for an option that the builder does not take, PluginError.
    """
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise SpecError(f"dtype={dtype!r}", hint="a floating-point type, such as torch.bfloat16")
    check_device(device)
    opened = None
    if (folder := exported_folder(name)) is not None:
        from zoo.deploy.exported import load_exported

        if pretrained not in (None, True) or num_classes is not None or kwargs:
            raise SpecError(f"{name} is an exported file, which has no options", hint="create its architecture")
        return place(load_exported(folder), device, dtype)
    if is_repository(name):
        if pretrained not in (None, True):
            raise SpecError(f"{name} with pretrained={pretrained!r}", hint="leave pretrained away")
        opened = open_repository(name, endpoint=endpoint, cache_dir=cache_dir)
        spec, weights = _registered(opened), opened.weights
        file = opened.file()
    else:
        spec, chosen = registry.default.find(name)
        if (found := _choose(spec, chosen, pretrained)) is None:
            return place(_instantiate(spec, num_classes, kwargs), device, dtype).eval()
        weights = found
        file = _fetched(spec, weights, endpoint, cache_dir)
    if opened is not None:
        _check_size(spec, weights, kwargs, file)
    model = _with_weights(spec, weights, file, kwargs, device, dtype)
    _adopt(model, weights, opened)
    if num_classes is not None and num_classes != model.num_classes:
        model.reset_classifier(num_classes)
        model.weights = model.labels = None  # what comes out is no longer what was published
    return place(model, device, dtype).eval()  # what the file does not hold: computed buffers, a new head


def place(model: VideoModel, device: str | torch.device | None = None, dtype: torch.dtype | None = None) -> VideoModel:
    """The model itself, moved. Raises SpecError for a device that does not exist here."""
    check_device(device)
    return model.to(device=device, dtype=dtype)


def load(
    model: VideoModel, source: str | Path, *, endpoint: str | None = None, cache_dir: str | Path | None = None
) -> VideoModel:
    """Put weights into a model, and give it back. Every tensor has to fit, else WeightsMismatch and nothing is changed.

    source: a tag of the model's spec, a path of a .safetensors file, "hf://owner/repo/file@revision",
    "pkg://package/path", "hf-hub:owner/repo@revision" or "local-dir:path". The file may name its tensors as the model
    does, or in one of the spec's layouts. The model keeps its device and its floating-point type.
    A tag and a repository bring labels and preprocessing; with a file the model keeps its preprocessing and has no
    labels.
    endpoint, cache_dir: of the Hub, as in `create`.
    """
    spec = model.spec
    name = spec.full_name if spec else type(model).__name__
    if isinstance(source, str) and spec is not None and source in spec.weights:
        weights = spec.weights[source]
        file = _fetched(spec, weights, endpoint, cache_dir)
        _assign(model, file, weights.layout)
        _adopt(model, weights)
        return model
    if isinstance(source, str) and is_repository(source):
        opened = open_repository(source, endpoint=endpoint, cache_dir=cache_dir)
        of_its_kind = opened.kind in spec.opens if opened.kind and spec else opened.config.architecture == name
        if not of_its_kind:
            raise WeightsMismatch(
                f"{source} is a {opened.kind or opened.config.architecture}, not a {name}",
                hint=f"use zoo.create({source!r})",
            )
        _assign(model, opened.file())
        _adopt(model, opened.weights, opened)
        return model
    if not isinstance(source, str | Path):
        raise SpecError(f"load(model, {source!r:.80})", hint="a tag, a path, or text that says where the weights are")
    path_like = isinstance(source, Path) or any(mark in source for mark in ("/", "\\", "."))
    if not path_like:
        tags = ", ".join(spec.weights) if spec else ""
        raise UnknownModel(
            f"{name} has no weights {source!r}", hint=f"its tags are {tags}" if tags else "give a file's path"
        )
    _assign(model, fetch(source, name=name, endpoint=endpoint, cache_dir=cache_dir))
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


def _registered(opened: Repository) -> ModelSpec:
    """The spec of a repository's architecture, which has to be installed: code never comes from a repository."""
    config = opened.config
    try:
        spec = registry.default.info(config.architecture)
    except UnknownModel as unknown:
        brings = f"{config.plugin!r} is said to bring it: " if config.plugin else "it comes with a plugin: "
        raise UnknownModel(
            f"{opened.name} is a {config.architecture!r}, which is not registered",
            hint=f"{brings}if you trust it, run `pip install {config.plugin or 'PLUGIN'}`",
        ) from unknown
    parameters = _builder(spec)[1].parameters.values()
    options = {p.name for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)}
    if unknown_options := sorted(config.kwargs.keys() - options):
        raise WeightsMismatch(
            f"{opened.name}: {config.architecture} has no option {unknown_options[0]!r:.80}",
            hint=f"its options are {', '.join(sorted(options))}",
        )
    return spec


def _fetched(spec: ModelSpec, weights: Weights, endpoint: str | None, cache_dir: str | Path | None) -> Fetched:
    name, layouts = f"{spec.full_name}.{weights.tag}", layouts_of(spec, weights)
    return fetch(weights, name=name, layouts=layouts, endpoint=endpoint, cache_dir=cache_dir)


def _check_size(spec: ModelSpec, weights: Weights, kwargs: dict[str, Any], file: Fetched) -> None:
    """Refuse options that make a network which the file cannot be of, before that network takes any memory."""
    try:
        with torch.device("meta"):
            model = _instantiate(spec, weights.num_classes, {**weights.kwargs, **kwargs}, initialise=False)
    except Exception:
        return  # the same comes out below and is told there, unless it is only that nobody has tried meta
    opened = open_weights(file.path)
    found, size = opened.shapes, sum(path.stat().st_size for path in opened.files)
    if not spec.layouts:
        wanted = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
        compare(wanted, found, f"{file.path} does not fit {spec.full_name}")
    needed = sum(tensor.nbytes for tensor in [*model.parameters(), *model.buffers()])
    if needed > LARGEST_GROWTH * size + SPARE:
        raise WeightsMismatch(
            f"{spec.full_name} built as {weights.tag} says takes {needed:,} bytes, and {file.path} has {size:,}",
            hint="tell the author of the weights",
        )


def _with_weights(
    spec: ModelSpec,
    weights: Weights,
    file: Fetched,
    kwargs: dict[str, Any],
    device: str | torch.device | None,
    dtype: torch.dtype | None,
) -> VideoModel:
    options = {**weights.kwargs, **kwargs}
    try:
        model = _instantiate(spec, weights.num_classes, options, initialise=False)
    except (PluginError, TypeError) as refused:
        if weights.tag in spec.weights or kwargs:
            raise
        raise WeightsMismatch(  # the options are those of a repository
            f"{spec.full_name} cannot be built as {weights.tag} says: {refused}", hint="tell the author of the weights"
        ) from refused
    _assign(model, file, weights.layout, device, dtype, fresh=True)
    return model


def _assign(
    model: VideoModel,
    file: Fetched,
    layout: str = "",
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    *,
    fresh: bool = False,
) -> None:
    spec = model.spec
    name, layouts = (spec.full_name, spec.layouts) if spec else (type(model).__name__, {})
    if layout:
        if layout not in layouts:
            raise PluginError(f"{name}: no layout {layout!r}", hint=f"its layouts are {', '.join(layouts) or 'none'}")
        layouts = {layout: layouts[layout]}
    opened = open_weights(file.path, mapped=file.lasting)
    try:
        load_into(
            model,
            opened,
            name=name,
            layouts=layouts,
            device=device,
            dtype=dtype,
            finite=not file.reviewed,
            stamps=file.stamps,
            fresh=fresh,
        )
    except WeightsMismatch as wrong:
        wrong.shapes = opened.shapes
        if spec is not None:
            say_whose(wrong, spec)
        raise


def say_whose(wrong: WeightsMismatch, spec: ModelSpec) -> None:
    """Have the error of a file that does not fit say which model of the same plugin it fits, if there is one."""
    if (record := registry.default.plugin(spec.plugin)) is not None:
        named(wrong, spec, record.models.values(), build)


def check_device(device: str | torch.device | None) -> None:
    """Raise SpecError where nothing can be put on it."""
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise SpecError(
            f"the model cannot be put on device {str(device)!r}: {reason}", hint='"cpu" always works'
        ) from error


def _adopt(model: VideoModel, weights: Weights, opened: Repository | None = None) -> None:
    model.weights = weights
    model.labels = weights.labels or None
    # What another library wrote was not trained by the spec's protocol: without its own there is none.
    foreign = opened is not None and opened.kind
    protocol = weights.preprocessing or (model.spec.preprocessing if model.spec and not foreign else None)
    model.preprocessing = _fitting(protocol, model)


def _fitting(protocol: Preprocessing | None, model: VideoModel) -> Preprocessing | None:
    """The protocol with as many frames, of such a size, as the network takes, which an option may have changed."""
    geometry = model.geometry
    if protocol is None or geometry is None:
        return protocol
    if geometry.size:
        protocol = protocol.for_size(geometry.size)
    return replace(protocol, num_frames=geometry.frames_for(protocol.num_frames))


def _instantiate(
    spec: ModelSpec, num_classes: int | None, kwargs: dict[str, Any], *, initialise: bool = True
) -> VideoModel:
    """Call the builder. Without `initialise` the parameters hold nothing yet, and every one has to be assigned."""
    if num_classes is not None and not (isinstance(num_classes, int) and num_classes >= 0):
        raise SpecError(f"num_classes={num_classes!r}", hint="a number of classes, or 0 for features without a head")
    builder, signature = _builder(spec)
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
    model.options = dict(kwargs)
    if model.geometry is None:
        model.geometry = spec.geometry
    model.preprocessing = _fitting(spec.preprocessing, model)
    return model


def _builder(spec: ModelSpec) -> tuple[Any, inspect.Signature]:
    with _plugin_code(spec):
        builder: Any = registry.import_function(spec.builder) if isinstance(spec.builder, str) else spec.builder
        return builder, inspect.signature(builder)


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
            raise PluginError(
                f"{spec.full_name}: its builder {spec.builder} does not exist",
                hint='the spec wants "package.module:function" of an installed package',
            ) from missing
        raise ImportError(
            f"{spec.full_name} needs the package {package!r}, which is not installed: pip install {package}",
            name=package,
        ) from missing
    except ImportError:
        raise
    except Exception as error:
        raise PluginError(
            f"{spec.full_name}: its builder {spec.builder} failed: {error!r}",
            hint="check the options, or report it to the authors of the plugin",
        ) from error
