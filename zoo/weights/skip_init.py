"""Build a network without computing the random weights that a file is about to replace."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

# In-place methods that say how a parameter behaves, not what it holds.
KEPT = frozenset({"requires_grad_", "detach_", "share_memory_", "rename_"})
# trunc_normal_ draws again until no value is out of bounds, and looks at every value to see that.
BOUNDS = frozenset({"lt", "gt", "__lt__", "__gt__"})


class skip_init(TorchFunctionMode):
    """Within this block, in this thread, methods such as `normal_` leave parameters as they are.

    Only right when every parameter is assigned afterwards: what they hold is uninitialised, and comparing it gives
    one False. Buffers, and parameters filled through a view of them, are computed as ever.
    """

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(function, "__name__", "")
        in_place = name.endswith("_") and not name.endswith("__") and name not in KEPT
        target = args[0] if args else kwargs.get("tensor")  # torch.nn.init passes it on by name
        if isinstance(target, nn.Parameter):
            if in_place:
                return target
            if name in BOUNDS:
                return torch.zeros((), dtype=torch.bool)
        return function(*args, **kwargs)
