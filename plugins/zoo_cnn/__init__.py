"""Three-dimensional convolutional networks. Only specs here: the code is imported when a model is built."""

from __future__ import annotations

from collections.abc import Iterable

import zoo


@zoo.hookimpl
def zoo_models() -> Iterable[zoo.ModelSpec]:
    """The architectures of this family."""
    return ()
