"""Repositories in the format of another library, such as transformers, as if their config were of zoo's own format.

The core knows no model: a spec says in `opens` which function reads the configs of "library:model_type". It is called
with the contents of config.json and of the preprocessor's file, or None where there is none, and gives what `Weights`
has fields for: kwargs, num_classes, labels, preprocessing. It names what it cannot build by SpecError.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from zoo import registry
from zoo.errors import PluginError, SpecError, UnknownModel, WeightsCorrupt, WeightsMismatch, ZooError
from zoo.spec import ModelSpec
from zoo.weights.config import Config

LIBRARY = "transformers"
FILE = "model.safetensors"
INDEX = "model.safetensors.index.json"
PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json")
PROCESSORS = ("video_preprocessor_config.json", "preprocessor_config.json")  # the first is the newer name

MODEL_TYPE = re.compile(r"[A-Za-z0-9_.-]{1,64}")
FIELDS = {"kwargs", "labels", "num_classes", "preprocessing"}


def kind_of(data: Mapping[str, Any], where: str) -> str:
    """ "transformers:videomae" for a config that transformers wrote, "" for one of zoo's own. Raises WeightsCorrupt."""
    if "model_type" not in data or data.keys() & {"library", "schema_version"}:
        return ""
    model_type = data["model_type"]
    if not (isinstance(model_type, str) and MODEL_TYPE.fullmatch(model_type)):
        raise WeightsCorrupt(f"{where}: model_type={model_type!r:.80} is not a word", hint="ask its author")
    return f"{LIBRARY}:{model_type}"


def translated(kind: str, data: Mapping[str, Any], processor: Mapping[str, Any] | None, where: str) -> Config:
    """The config in zoo's own terms, by the spec that opens this kind. Raises UnknownModel, WeightsMismatch."""
    specs = [spec for spec in _specs() if kind in spec.opens]
    if not specs:
        raise _unknown(kind, where)
    reader = specs[0].opens[kind]
    try:
        found = dict(registry.import_function(reader)(data, processor))
    except SpecError as refused:
        raise WeightsMismatch(
            f"{where}: {refused.args[0]}", hint=refused.hint or f"no {specs[0].full_name} can be built equal to it"
        ) from refused
    except ZooError:
        raise
    except Exception as error:
        raise PluginError(
            f"{where}: {reader}, which reads {kind}, failed: {error!r:.300}",
            hint="is its config.json complete? If so, report it to the authors of the plugin",
        ) from error
    if unknown := sorted(found.keys() - FIELDS):
        raise PluginError(f"{reader} gave {unknown[0]!r:.80}", hint=f"what is known is {', '.join(sorted(FIELDS))}")
    kwargs = found.pop("kwargs", {})
    spec = _nearest([spec for spec in specs if spec.opens[kind] == reader], kwargs)
    return Config(spec.full_name, {"file": FILE, "sha256": "", "size": None}, spec.task, kwargs, about=found)


def _specs() -> list[ModelSpec]:
    """All specs, those of zoo's own families first: nobody else decides how their repositories are opened."""
    records = sorted(registry.default.plugins(), key=lambda record: not record.builtin)
    return [spec for record in records for spec in record.models.values()]


def _nearest(specs: list[ModelSpec], kwargs: Mapping[str, Any]) -> ModelSpec:
    """The variant whose options are those of the config; of several the one that has most to say."""
    fitting = [s for s in specs if all(kwargs.get(name) == value for name, value in s.kwargs.items())]
    return max(fitting, key=lambda spec: len(spec.kwargs), default=specs[0])


def _unknown(kind: str, where: str) -> UnknownModel:
    known = sorted({key.partition(":")[2] for spec in _specs() for key in spec.opens if key.startswith(f"{LIBRARY}:")})
    return UnknownModel(
        f"{where}: no installed plugin opens {kind!r}",
        hint=f"of {LIBRARY} zoo opens {', '.join(known) or 'nothing here'}; others come with a plugin that you trust, "
        "and `zoo plugins` says which are installed and whether they work",
    )
