"""Batch norms of checkpointed blocks: those run again in backward, and must not count the same frames twice."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn


class FirstRun:
    """`with first_run:` a network runs forward. Batch norms that it watches count nothing at any other time."""

    def __init__(self) -> None:
        self._going = False
        self._hooks: list[Any] = []
        self._kept: dict[nn.Module, Any] = {}

    def watch(self, norms: Iterable[nn.Module]) -> None:
        """These norms, and no others any more."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []
        for norm in norms:
            # always_call: the second run ends by an exception as soon as backward has what it needs
            after = norm.register_forward_hook(self._after, always_call=True)
            self._hooks += norm.register_forward_pre_hook(self._before), after

    def __enter__(self) -> None:
        self._going = True

    def __exit__(self, *_: object) -> None:
        self._going = False

    def _before(self, norm: Any, _: Any) -> None:
        if norm.training and norm.track_running_stats and not self._going:
            self._kept[norm] = norm.momentum, norm.num_batches_tracked
            norm.momentum, norm.num_batches_tracked = 0.0, None

    def _after(self, norm: Any, *_: Any) -> None:
        if norm in self._kept:
            norm.momentum, norm.num_batches_tracked = self._kept.pop(norm)
