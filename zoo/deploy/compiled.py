"""A network that torch.compile has turned into code, with its weights as constants."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from zoo.contract import VideoModel
from zoo.deploy.facts import Comparison
from zoo.deploy.trace import quiet
from zoo.errors import DeploymentError


class CompiledModel(VideoModel):
    """A copy of a network in evaluation mode, compiled as one graph whose weights are constants: it cannot be trained.

    Compiled when it is first called, and again for another number of clips, for any number from then on; in a process
    that it was sent to, anew. `predict`, `embed` and all else is as with the network.

    network: the copy. changes: {type of module: (frozen, of so many)}. comparison: with the network, as it was made.
    """

    def __init__(self, model: VideoModel, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.network: VideoModel = copy.deepcopy(model).to(dtype=dtype).eval().requires_grad_(False)
        self._compiled: dict[str, Callable[[Tensor], Tensor]] = {}
        self.num_features, self.num_classes = model.num_features, model.num_classes
        self.spec, self.options, self.weights = model.spec, model.options, model.weights
        self.labels, self.preprocessing, self.geometry = model.labels, model.preprocessing, model.geometry
        self.changes = {kind: (count, count) for kind, count in _with_weights(self.network).items()}
        self.comparison: Comparison | None = None
        self.eval()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_compiled": {}}

    def train(self, mode: bool = True) -> CompiledModel:
        """Nothing changes: what is compiled is the network in evaluation mode."""
        return self

    def stages(self) -> dict[str, nn.Module]:
        return self.network.stages()

    def forward(self, clip: Tensor) -> Tensor:
        self.check_geometry(clip)
        return self._call("forward", clip)

    def forward_features(self, clip: Tensor) -> Tensor:
        return self._call("forward_features", clip)

    def forward_embedding(self, clip: Tensor) -> Tensor:
        return self._call("forward_embedding", clip)

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        return self.network.forward_head(features, pre_logits)

    def frame_features(self, features: Tensor) -> Tensor:
        return self.network.frame_features(features)

    def _call(self, name: str, clip: Tensor) -> Tensor:
        with torch.no_grad():
            if (compiled := self._compiled.get(name)) is not None:
                return compiled(clip)
            made: Callable[[Tensor], Tensor] = torch.compile(
                getattr(self.network, name), fullgraph=True, options={"freezing": True}
            )
            try:
                with quiet():
                    answer: Tensor = made(clip)
            except Exception as error:
                who = self.spec.full_name if self.spec else type(self.network).__name__
                reason = str(error).strip().partition("\n")[0][:300]
                raise DeploymentError(
                    f"{who} cannot be compiled: {type(error).__name__}: {reason}",
                    hint="torch.compile needs a C++ compiler, and a network that is one graph",
                ) from error
            self._compiled[name] = made
            return answer

    def _apply(self, function: Any, recurse: bool = True) -> Any:
        self._compiled = {}  # what was compiled is of the weights as they were
        return super()._apply(function, recurse)  # type: ignore[no-untyped-call]


def _with_weights(network: nn.Module) -> Counter[str]:
    """How many modules of each type hold weights of their own."""
    holders = [m for m in network.modules() if [*m.parameters(recurse=False), *m.buffers(recurse=False)]]
    return Counter(type(module).__name__ for module in holders)
