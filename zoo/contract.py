"""What every model of the zoo can do, whoever wrote it.

A family writes `stages` and `forward_head`, sets `num_features` and `num_classes`, and has everything else:
features, intermediate maps, layer groups, gradient checkpointing, embedding and prediction. A model that never looks
ahead also writes `init_state` and `step`, and can then follow a stream.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from zoo import registry
from zoo.errors import GeometryError, NotCausal, SpecError
from zoo.spec import Geometry, ModelSpec, Preprocessing, Weights

if TYPE_CHECKING:
    from zoo.tasks.classification import Prediction

State = dict[str, Tensor]


class VideoModel(nn.Module):
    """Base class of every network. A clip is a float32 tensor `[B, C, T, H, W]`; classification gives logits `[B, K]`.

    Set by the network: `num_features`, the channels of `forward_features`; `num_classes`, 0 where there is no head.
    Set by the factory: `spec`, `options` (what its builder was called with on top of the spec's kwargs), `weights`,
    `labels`, `preprocessing`, and `geometry` unless the network knows better.
    Set by a network that takes streams, counted in frames: `delay`, how far before the newest frame lies what it speaks
    of; there is no answer until more than that came. `receptive_field`, how many frames an answer depends on, None for
    all so far. `period`, from one answer to the next; between them `step` repeats the last one.
    """

    num_features: int
    num_classes: int
    delay = 0
    receptive_field: int | None = None
    period = 1

    def __init__(self) -> None:
        super().__init__()
        self.spec: ModelSpec | None = None
        self.options: dict[str, Any] = {}
        self.weights: Weights | None = None
        self.labels: tuple[str, ...] | None = None
        self.preprocessing: Preprocessing | None = None
        self.geometry: Geometry | None = None
        self.grad_checkpointing = False

    # --- what a family writes ----------------------------------------------------------------------------------------

    def stages(self) -> dict[str, nn.Module]:
        """The network without its head: modules in the order in which a clip runs through them."""
        raise NotImplementedError(f"{type(self).__name__} has to define stages(), or forward_features()")

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """Logits `[B, num_classes]` from features; with `pre_logits`, what the last layer sees, `[B, D]`."""
        raise NotImplementedError(f"{type(self).__name__} has to define forward_head()")

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the last layer by a freshly initialised one; 0 removes it, so that logits are the features."""
        raise NotImplementedError(f"{type(self).__name__} has to define reset_classifier()")

    def frame_features(self, features: Tensor) -> Tensor:
        """One row per time step, `[B, T', D]`, from maps `[B, D, T', H', W']` or from rows that are there already."""
        return features.mean((3, 4)).transpose(1, 2) if features.ndim == 5 else features

    # --- what a family writes where `spec.streaming` ------------------------------------------------------------------

    def init_state(self, batch: int, size: tuple[int, int] | None = None) -> State:
        """What is known before the first frame: a flat dict of tensors whose row i belongs to stream i.

        size: (height, width) of the frames. With it every tensor is as large as it will be after the first step;
        without it, parts that are maps may be one pixel wide. Raises NotCausal where the model looks ahead.
        """
        raise self._not_causal()

    def step(self, frames: Tensor, state: State) -> tuple[Tensor, State]:
        """What `forward` says of these frames `[B, C, t, H, W]` and all before them, and the next state.

        Pure: changes neither frames, state nor model. Raises NotCausal where the model looks ahead.
        """
        raise self._not_causal()

    # --- what every model has ----------------------------------------------------------------------------------------

    def forward(self, clip: Tensor) -> Tensor:
        """Logits `[B, num_classes]`. A clip that does not fit the declared geometry raises GeometryError."""
        self.check_geometry(clip)
        return self.forward_head(self.forward_features(clip))

    def forward_features(self, clip: Tensor) -> Tensor:
        """The last features before pooling, for a CNN maps `[B, num_features, T', H', W']`."""
        for stage in self.stages().values():
            clip = self._run(stage, clip)
        return clip

    def forward_embedding(self, clip: Tensor) -> Tensor:
        """What the last layer sees, `[B, D]`."""
        return self.forward_head(self.forward_features(clip), pre_logits=True)

    def forward_intermediates(self, clip: Tensor, indices: Sequence[int] | int | None = None) -> list[Tensor]:
        """The outputs of some stages, in the order of `stages()`.

        indices: positions, negative ones from the end; an int n means the last n; None means all.
        """
        stages = self.stages()
        positions: Sequence[int] = range(len(stages))
        if isinstance(indices, int):
            positions = positions[-indices:] if indices in range(1, len(stages) + 1) else [len(stages)]
        elif indices is not None:
            positions = indices
        if not all(-len(stages) <= i < len(stages) for i in positions):
            raise IndexError(f"{type(self).__name__} has {len(stages)} stages ({', '.join(stages)}), not {indices}")
        wanted = {i % len(stages) for i in positions}
        outputs = []
        for i, stage in enumerate(stages.values()):
            clip = self._run(stage, clip)
            if i in wanted:
                outputs.append(clip)
            if i == max(wanted, default=-1):
                break
        return outputs

    def layer_groups(self) -> dict[str, list[str]]:
        """Names of all parameters, each once, grouped from input to head: what layer-wise learning rates need."""
        groups: dict[str, list[str]] = {name: [] for name in [*self.stages(), "head"]}
        owner = {id(p): name for name, stage in reversed(self.stages().items()) for p in stage.parameters()}
        for name, parameter in self.named_parameters():
            groups[owner.get(id(parameter), "head")].append(name)
        return {name: names for name, names in groups.items() if names}

    def set_grad_checkpointing(self, on: bool = True) -> None:
        """Trade time for memory in training: keep only the inputs of the stages, and run them again in backward."""
        self.grad_checkpointing = on

    def check_geometry(self, clip: Tensor, chunk: bool = False) -> None:
        """Raise GeometryError if the model does not take this clip. Without a declared geometry nothing is checked.

        chunk: it is a part of a stream, which may be as short as one frame.
        """
        geometry = self.geometry
        if geometry is not None and chunk:
            geometry = dataclasses.replace(geometry, frames=None, min_frames=1, frames_multiple=1)
        if geometry is not None and (problem := geometry.problem(tuple(clip.shape))):
            name = self.spec.full_name if self.spec else type(self).__name__
            raise GeometryError(
                f"{name} takes {geometry}, got {tuple(clip.shape)} ({problem})",
                hint="zoo.load_clips(model, video) gives clips that fit",
            )

    def reset_state(self, state: State, streams: Sequence[int] | Tensor) -> State:
        """A new state in which these streams start anew and the others go on.

        streams: their rows, or a boolean mask `[B]`. Raises SpecError for a row that there is not.
        """
        batch = len(next(iter(state.values())))
        device = next(iter(state.values())).device
        chosen = torch.as_tensor(streams, device=device)
        if chosen.dtype == torch.bool:
            right = chosen.shape == (batch,)
        elif not chosen.numel():
            right, chosen = True, torch.zeros(batch, dtype=torch.bool, device=device)
        else:
            whole = not (chosen.is_floating_point() or chosen.is_complex())
            right = whole and bool(((chosen >= 0) & (chosen < batch)).all())
            if right:
                chosen = torch.zeros(batch, dtype=torch.bool, device=device).index_fill(0, chosen.long(), True)
        if not right:
            raise SpecError(f"streams={streams!r:.80}", hint=f"the state holds the streams 0 to {batch - 1}")
        fresh = self.init_state(1)  # maps of one pixel spread over all
        rows = {name: chosen.reshape(-1, *[1] * (value.ndim - 1)) for name, value in state.items()}
        return {name: torch.where(rows[name], fresh[name].to(value), value) for name, value in state.items()}

    def check_step(self, frames: Tensor, state: State) -> None:
        """Raise GeometryError for frames that the model does not take, SpecError for a state that is not theirs."""
        self.check_geometry(frames, chunk=True)
        wanted = self.init_state(1)
        if wanted.keys() != state.keys():
            odd = ", ".join(sorted(wanted.keys() ^ state.keys())[:5])
            raise SpecError(f"the state is of another model: {odd} missing or unknown", hint="start with init_state()")
        if odd := ", ".join(name for name, value in state.items() if len(value) != len(frames)):
            raise SpecError(
                f"{len(frames)} streams of frames with a state for another number ({odd})",
                hint=f"start with init_state({len(frames)})",
            )

    @staticmethod
    def spread(past: Tensor, *shape: int) -> Tensor:
        """A part of a state over maps of this shape, as `expand` has it: one pixel stands for all, before any frame.

        Raises GeometryError for one of frames of another size.
        """
        if any(have not in (1, want) for have, want in zip(past.shape, shape, strict=True) if want != -1):
            raise GeometryError("the state is of frames of another size", hint="start with init_state()")
        return past.expand(*shape)

    def predict(self, video: Any, **options: Any) -> Prediction:
        """The same as `zoo.predict(model, video, **options)`."""
        from zoo.tasks import predict

        prediction: Prediction = predict(self, video, **options)
        return prediction

    def embed(self, video: Any, **options: Any) -> Tensor:
        """The same as `zoo.embed(model, video, **options)`."""
        from zoo.tasks import embed

        return embed(self, video, **options)

    def _not_causal(self) -> NotCausal:
        name = self.spec.full_name if self.spec else type(self).__name__
        task = self.spec.task if self.spec else None
        able = registry.default.list_models(task=task, streaming=True, pretrained=False)
        return NotCausal(
            f"{name} looks ahead, or at whole clips only, and has no step",
            hint=f"models that take streams: {', '.join(able) or 'none is installed'}",
        )

    def _run(self, stage: nn.Module, x: Tensor) -> Tensor:
        if self.grad_checkpointing and torch.is_grad_enabled():
            again = partial(_without_statistics, stage)
            out: Tensor = checkpoint(stage, x, use_reentrant=False, context_fn=lambda: (nullcontext(), again()))
        else:
            out = stage(x)
        return out


@contextmanager
def _without_statistics(stage: nn.Module) -> Iterator[None]:
    """While a checkpointed stage runs for the second time, its batch norms do not count the same clips again."""
    norms = [m for m in stage.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, count
