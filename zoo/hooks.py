"""The one hook. Building, loading and predicting are ordinary functions, not hooks."""

from __future__ import annotations

from collections.abc import Iterable

import pluggy

from zoo.spec import ModelSpec

GROUP = "zoo"  # also the entry-point group; a breaking change of the plugin interface gets a new one

hookspec = pluggy.HookspecMarker(GROUP)
hookimpl = pluggy.HookimplMarker(GROUP)


@hookspec
def zoo_models() -> Iterable[ModelSpec]:
    """Describe the models of this plugin as data. Must import nothing heavier than zoo and the standard library."""
    return ()
