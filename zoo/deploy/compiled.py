"""A network that torch.compile has turned into code, with its weights as constants."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from zoo.contract import State, VideoModel
from zoo.deploy.facts import Comparison
from zoo.deploy.trace import own_code, quiet
from zoo.deploy.winograd import use_winograd
from zoo.errors import DeploymentError, SpecError, ZooError

WINOGRAD = "convolutions by Winograd"  # among what was changed


class CompiledModel(VideoModel):
    """A copy of a network in evaluation mode, compiled as one graph whose weights are constants: it cannot be trained.

    Compiled when it is first called, and again for another number of clips, for any number from then on; in a process
    that it was sent to, anew. `predict`, `embed` and all else is as with the network. It follows streams where that
    does: right, but no faster, as `step` is not compiled.

    network: the copy. changes: {type of module: (frozen, of so many)}, of what was compiled last, and how many of the
    convolutions are done by Winograd's algorithm. comparison: with the network that it was made of.
    """

    def __init__(self, model: VideoModel, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.network: VideoModel = copy.deepcopy(model).to(dtype=dtype).eval().requires_grad_(False)
        self._compiled: dict[str, Callable[[Tensor], Tensor]] = {}
        self.num_features, self.num_classes = model.num_features, model.num_classes
        self.spec, self.options, self.weights = model.spec, model.options, model.weights
        self.labels, self.preprocessing, self.geometry = model.labels, model.preprocessing, model.geometry
        self.delay, self.receptive_field, self.period = model.delay, model.receptive_field, model.period
        self.changes: dict[str, tuple[int, int]] = {}
        self.comparison: Comparison | None = None
        self.eval()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_compiled": {}}

    def train(self, mode: bool = True) -> CompiledModel:
        """Stays in evaluation mode, in which it was compiled."""
        return super().train(False)

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

    def reset_classifier(self, num_classes: int) -> None:
        raise SpecError(
            f"{self._name()} is compiled, with its classifier as constants",
            hint="change the network that it was made of, and optimise that again",
        )

    def init_state(self, batch: int, size: tuple[int, int] | None = None) -> State:
        return self.network.init_state(batch, size)

    def step(self, frames: Tensor, state: State) -> tuple[Tensor, State]:
        """That of the network, uncompiled."""
        return self.network.step(frames, state)

    def _name(self) -> str:
        return self.spec.full_name if self.spec else type(self.network).__name__

    def _call(self, name: str, clip: Tensor) -> Tensor:
        if name not in self._compiled:
            method = _with_code_of_its_own(getattr(self.network, name))
            self._compiled[name] = torch.compile(method, fullgraph=True, backend=self._backend)
        from torch._inductor import config as inductor  # takes a second, which only who compiles should wait

        try:
            # Asked of the configuration by what traces, and not only by the backend, on every call.
            with torch.no_grad(), inductor.patch(freezing=True):
                return self._compiled[name](clip)
        except ZooError:
            raise
        except Exception as error:
            reason = str(error).strip().partition("\n")[0][:300]
            raise DeploymentError(
                f"{self._name()} cannot be compiled: {type(error).__name__}: {reason}",
                hint="torch.compile needs a C++ compiler, and a network that is one graph",
            ) from error

    def _backend(self, graph: GraphModule, inputs: Any) -> Any:
        """Inductor, after a look at which weights it gets as constants."""
        from torch._inductor.compile_fx import compile_fx

        held = {id(tensor) for tensor in (*graph.parameters(), *graph.buffers())}
        total, frozen = Counter[str](), Counter[str]()
        for module in self.network.modules():
            if own := [*module.parameters(recurse=False), *module.buffers(recurse=False)]:
                total[type(module).__name__] += 1
                frozen[type(module).__name__] += any(id(tensor) in held for tensor in own)
        self.changes = {kind: (frozen[kind], count) for kind, count in total.items()}
        replaced, convolutions = use_winograd(graph)
        if convolutions:
            self.changes[WINOGRAD] = replaced, convolutions
        with quiet():
            return compile_fx(graph, inputs)

    def _apply(self, function: Any, recurse: bool = True) -> Any:
        where = self._addresses()
        super()._apply(function, recurse)  # type: ignore[no-untyped-call]
        if self._addresses() != where:  # what was compiled is of the weights as they were
            self._compiled = {}
        return self

    def _addresses(self) -> list[int]:
        return [tensor.data_ptr() for tensor in (*self.parameters(), *self.buffers())]


def _with_code_of_its_own(method: Any) -> Any:
    """The same method; networks share its code."""
    return MethodType(own_code(method.__func__), method.__self__) if isinstance(method, MethodType) else method
