"""Published pickles become safetensors: those of a tag into the cache, any other into a file. Never at load time."""

from __future__ import annotations

import contextlib
import tempfile
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from zoo import registry
from zoo.errors import SpecError, WeightsCorrupt, WeightsError, WeightsMismatch, WeightsNotFound, WeightsOffline
from zoo.factory import build, say_whose
from zoo.spec import ModelSpec, Weights
from zoo.weights import hub_folder
from zoo.weights.assign import compare, must_be_finite
from zoo.weights.cached import digest_of
from zoo.weights.conversions import Conversions, Provenance, layouts_of
from zoo.weights.fetch import max_download
from zoo.weights.isolate import convert_in_child
from zoo.weights.safetensors_file import SafetensorsFile
from zoo.weights.skip_init import skip_init
from zoo.weights.source import at_home
from zoo.weights.web import download

OUTPUT = "model.safetensors"
SHA256_LIKE = "0" * 64

Wanted = dict[str, tuple[list[int], str, bool]]  # shape, dtype, whether it holds numbers only


@dataclass(frozen=True)
class Converted:
    """A file that was made of a pickle. key, layout: where its tensors were, and how they were named ("" for as ours).

    notes: sentences about what was chosen and what was left out.
    """

    path: Path
    sha256: str
    size: int
    key: str = ""
    layout: str = ""
    notes: tuple[str, ...] = ()


def convert_tag(
    name: str,
    *,
    cache_dir: str | Path | None = None,
    arrived: Callable[[int, int], None] | None = None,
    force: bool = False,
) -> Converted:
    """Download the pickle of "architecture.tag", verify it, convert it, and keep the result where `create` finds it.

    cache_dir: None is the Hub client's folder for other libraries. arrived: told how many bytes came, and of how many.
    What is there already, sound and made as it would be made now, is kept, unless `force` says to make it again.
    Raises UnknownModel, SpecError, WeightsError: not found, offline, download failed, corrupt, does not fit.
    """
    spec, weights = registry.default.find(name)
    if weights is None or weights.origin is None:
        needing = [f"{spec.full_name}.{tag}" for tag, each in spec.weights.items() if each.origin is not None]
        why = "names no weights" if weights is None else "needs no conversion"
        raise SpecError(f"{name} {why}", hint=f"convert {' or '.join(needing)}" if needing else f"zoo.create({name!r})")
    name, wanted = f"{spec.full_name}.{weights.tag}", _wanted(spec, weights)
    conversions, layouts = Conversions(cache_dir), layouts_of(spec, weights)
    if not force and (found := _usable(conversions, name, weights.origin, layouts, wanted)) is not None:
        return found
    if hub_folder.offline():
        raise WeightsOffline(
            f"{name} has to be downloaded from {weights.origin['url']}, and HF_HUB_OFFLINE forbids the network",
            hint=f"unset it once and run `zoo convert {name}`",
        )
    with conversions.turn(name) as work:
        if not force and (found := _usable(conversions, name, weights.origin, layouts, wanted)) is not None:
            return found  # another process was faster
        source = work / "source"
        with source.open("wb") as stream:
            source_sha256 = download(weights.origin["url"], stream, limit=max_download(), arrived=arrived)
        _check_digest(name, weights.origin, source_sha256)
        made = _convert(source, work, name, wanted, layouts)
        kept = conversions.keep(made.path, _provenance(name, weights.origin, layouts, source_sha256, made))
        return replace(made, path=kept.path)


def convert_file(
    source: str | Path, output: str | Path, *, model: str, key: str = "", num_classes: int | None = None
) -> Converted:
    """Convert a published .pth, .pyth, .pt, .bin or .ckpt file, in any layout that the model's spec knows.

    source: of it tensors are read only, in a bounded child process. output: a .safetensors file that does not exist.
    model: "architecture", or "architecture.tag" for its options. key: where in the file the tensors are, such as
    "model_ema". num_classes: of the file, where it is not the architecture's.
    Raises UnknownModel, SpecError, WeightsError: not found, corrupt, does not fit.
    """
    source, output = at_home(source), at_home(output)
    spec, weights = registry.default.find(model)
    _check_paths(source, output)
    wanted = _wanted(spec, weights, num_classes)
    try:
        with tempfile.TemporaryDirectory(dir=output.parent, prefix=".zoo-convert-") as work:
            made = _convert(source, Path(work), spec.full_name, wanted, spec.layouts, key)
            made.path.replace(output)
    except WeightsMismatch as wrong:
        say_whose(wrong, spec)
        raise
    except OSError as error:
        raise WeightsError(
            f"{output} cannot be written: {error.strerror or error}", hint="choose another place"
        ) from error
    return replace(made, path=output)


def _check_paths(source: Path, output: Path) -> None:
    try:
        source.open("rb").close()
    except OSError as error:
        raise WeightsNotFound(f"{source} cannot be read: {error.strerror}", hint="give the path of a file") from error
    if output.suffix != ".safetensors":
        raise SpecError(f"{output} is not a .safetensors file", hint="zoo loads no other kind")
    if output.exists():
        raise SpecError(f"{output} is there already", hint="choose another name, or delete it")


def _wanted(spec: ModelSpec, weights: Weights | None, num_classes: int | None = None) -> Wanted:
    """Names, shapes and types of the model's tensors."""
    if num_classes is None and weights is not None:
        num_classes = weights.num_classes
    with skip_init():
        model = build(spec.full_name, num_classes=num_classes, **(weights.kwargs if weights else {}))
    finite = must_be_finite(model)
    return {
        key: (list(tensor.shape), str(tensor.dtype).removeprefix("torch."), key in finite)
        for key, tensor in model.state_dict().items()
    }


def _convert(
    source: Path, work: Path, name: str, wanted: Wanted, layouts: Mapping[str, str], key: str = ""
) -> Converted:
    """Have a child convert the file, and look at what it wrote as at any stranger's file."""
    output = work / OUTPUT
    request = {"name": name, "key": key, "layouts": dict(layouts), "wanted": wanted}
    said = convert_in_child(source, output, request)
    _check_fit(output, wanted, name)
    (plain := work / "plain").touch()
    output.chmod(plain.stat().st_mode & 0o777)  # safetensors writes files that only their owner can read
    sha256 = digest_of(output, like=SHA256_LIKE)
    return Converted(output, sha256, output.stat().st_size, said["key"], said["layout"], tuple(said["notes"]))


def _check_fit(file: Path, wanted: Wanted, name: str) -> None:
    shapes = {key: tuple(shape) for key, (shape, _, _) in wanted.items()}
    compare(shapes, SafetensorsFile(file).shapes, f"{file} does not fit {name}")


def _usable(
    conversions: Conversions, name: str, origin: Mapping[str, str], layouts: Mapping[str, str], wanted: Wanted
) -> Converted | None:
    """What is there already, unless it is damaged or the model has changed since."""
    found = conversions.find(name, origin, layouts)
    if found is None or found.problem():
        return None
    with contextlib.suppress(WeightsError):
        _check_fit(found.path, wanted, name)
        return Converted(found.path, found.provenance.sha256, found.provenance.size, layout=found.provenance.layout)
    return None


def _check_digest(name: str, origin: Mapping[str, str], sha256: str) -> None:
    published = origin.get("sha256", "")
    if not published:
        warnings.warn(
            f"{name}: nobody has written down the sha256 of {origin['url']}; what came has {sha256}", stacklevel=3
        )
    if not sha256.startswith(published):
        raise WeightsCorrupt(
            f"{name}: {origin['url']} is not the published file: its sha256 is {sha256}, not {published}",
            hint="nothing of it was kept, and nothing of it was opened; try again later or from another network, then "
            "tell the author",
        )


def _provenance(
    name: str, origin: Mapping[str, str], layouts: Mapping[str, str], source_sha256: str, made: Converted
) -> Provenance:
    version = torch.__version__
    return Provenance(name, origin["url"], source_sha256, made.sha256, made.size, made.layout, version, layouts)
