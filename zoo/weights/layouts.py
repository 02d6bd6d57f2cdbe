"""Files that name their tensors in another way than the model: recognised by their keys, and converted.

A layout is a function that takes {name: tensor} as published and returns it in the model's names, or None if the file
is not of its kind. An error of zoo's that it raises is told in full, where no other layout takes the file. One with a
second parameter, `model`, is given the model too, and what it raises of zoo's errors is the last word. What it returns
has to fit to the last key, like any file.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from torch import Tensor, nn

from zoo.errors import PluginError, WeightsMismatch, ZooError


def converted(
    tensors: Mapping[str, Tensor],
    layouts: Mapping[str, str],
    what: str,
    wanted: Mapping[str, Any],
    model: nn.Module | None = None,
) -> tuple[str, dict[str, Tensor]]:
    """The first layout that takes a file's tensors, and these in the model's names. Raises WeightsMismatch.

    Layouts that want the model are left out where there is none.
    """
    refusals, told = [], None
    for layout, reference in layouts.items():
        function = layout_function(reference)
        also = {"model": model} if "model" in inspect.signature(function).parameters else {}
        if also and model is None:
            refusals.append(f"{layout} (not without the model)")
            continue
        try:
            found = function(dict(tensors), **also)
        except (KeyError, ValueError, RuntimeError) as foreign:  # a file of another kind, or one with a piece missing
            if isinstance(foreign, ZooError):
                told = told or type(foreign)(f"{what}: {foreign.args[0]}", hint=foreign.hint)
                if also:
                    raise told from foreign
            refusals.append(f"{layout} ({type(foreign).__name__}: {str(foreign)[:80]})")
            continue
        if found is None:
            refusals.append(layout)
        elif isinstance(found, Mapping) and all(isinstance(t, Tensor) for t in found.values()):
            return layout, dict(found)
        else:
            raise PluginError(
                f"layout {layout!r}: {reference} gave {type(found).__name__}, not {{name: tensor}} or None",
                hint="correct the function, or report it to the authors of the plugin",
            )
    if told is not None:
        raise told
    theirs, ours = sorted(tensors.keys() - wanted.keys()), sorted(wanted.keys() - tensors.keys())
    raise WeightsMismatch(
        f"{what}: its names are neither the model's nor of a known layout ({', '.join(refusals)}); "
        f"it has {_first(theirs)} and lacks {_first(ours)}",
        hint="is it a file of another model?",
    )


def _first(names: list[str]) -> str:
    shown = ", ".join(repr(name)[:120] for name in names[:5]) or "nothing more"
    return f"{shown} and {len(names) - 5} more" if len(names) > 5 else shown


def layout_function(reference: str) -> Any:
    """The function behind "package.module:function". Raises PluginError."""
    module, _, attribute = reference.partition(":")
    try:
        return getattr(import_module(module), attribute)
    except (ModuleNotFoundError, AttributeError) as missing:
        raise PluginError(
            f"the layout function {reference} does not exist", hint='layouts name "package.module:function"'
        ) from missing
