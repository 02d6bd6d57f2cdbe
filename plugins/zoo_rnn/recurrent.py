"""What the networks of this family share: stages that remember, and a network made of stages.

A stage that remembers has `init_state(batch, size)`, `step(x, state) -> (x, state)` and, from these two, `forward`: a
whole clip is one step from the beginning. The state of a network is those of its stages, under "stage.name".
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

import zoo
from zoo.errors import SpecError

State = dict[str, Tensor]


class Remembers(nn.Module):
    """A stage with a state: a flat dict of tensors with one row per stream, maps `[B, C, h, w]` or rows `[B, C]`."""

    def init_state(self, batch: int, size: tuple[int, int] | None = None) -> State:
        """size: (height, width) of the maps that come in; None makes maps of one pixel, which spread over all."""
        raise NotImplementedError

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        return self.step(x, self.init_state(x.shape[0]))[0]


def per_frame(module: Callable[[Tensor], Tensor], maps: Tensor) -> Tensor:
    """A 2D module on every frame of maps `[B, C, T, H, W]`; it may give maps or rows, `[B, D, T, ...]`."""
    folded = module(maps.transpose(1, 2).flatten(0, 1))  # [B*T, D, ...]
    return folded.unflatten(0, (maps.shape[0], maps.shape[2])).transpose(1, 2)


class RecurrentNet(zoo.VideoModel):
    """Stages, some of which remember, then a linear layer on the features of the last frame, or on the mean of all.

    pool: "last" lets the recurrence decide what to keep; "mean" gives every frame so far the same weight.
    """

    def __init__(self, stages: dict[str, nn.Module], num_features: int, *, pool: str, num_classes: int, dropout: float):
        super().__init__()
        if pool not in ("last", "mean"):
            raise SpecError(f"pool={pool!r}", hint='"last" or "mean"')
        self.names = tuple(stages)
        for name, stage in stages.items():
            self.add_module(name, stage)
        self.num_features, self.pool = num_features, pool
        self.dropout = nn.Dropout(dropout)
        self.reset_classifier(num_classes)

    @property
    def causal(self) -> bool:
        return not any(getattr(stage, "bidirectional", False) for stage in self.stages().values())

    def stages(self) -> dict[str, nn.Module]:
        return {name: self.get_submodule(name) for name in self.names}

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """From maps `[B, D, T, h, w]` or rows `[B, T, D]`."""
        rows = self.frame_features(features)
        if self.pool == "mean":
            pooled = rows.mean(1)
        elif self.causal:
            pooled = rows[:, -1]
        else:  # either direction at the end of its way
            ahead, back = rows.chunk(2, 2)
            pooled = torch.cat([ahead[:, -1], back[:, 0]], 1)
        return pooled if pre_logits else self._classify(pooled)

    def reset_classifier(self, num_classes: int) -> None:
        self.num_classes = num_classes
        like = next(self.parameters())
        self.head: nn.Module = nn.Identity()
        if num_classes:
            self.head = nn.Linear(self.num_features, num_classes, device=like.device, dtype=like.dtype)

    def init_state(self, batch: int, size: tuple[int, int] | None = None) -> State:
        if not self.causal:
            return super().init_state(batch, size)  # which raises
        state = {}
        for name, stage in self.stages().items():
            if isinstance(stage, Remembers):
                state |= {f"{name}.{key}": value for key, value in stage.init_state(batch, size).items()}
            if size is not None and hasattr(stage, "size_of"):
                size = stage.size_of(size)
        if self.pool == "mean":
            like = next(self.parameters())
            state["head.mean"] = like.new_zeros(batch, self.num_features)
            state["head.frames"] = torch.zeros(batch, dtype=torch.long, device=like.device)
        return state

    def step(self, frames: Tensor, state: State) -> tuple[Tensor, State]:
        self.check_step(frames, state)
        x, new = frames, {}
        for name, stage in self.stages().items():
            if isinstance(stage, Remembers):
                prefix = f"{name}."
                own = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
                x, own = stage.step(x, own)
                new |= {f"{name}.{key}": value for key, value in own.items()}
            else:
                x = stage(x)
        rows = self.frame_features(x)  # [B, T, D]
        pooled = rows[:, -1]
        if self.pool == "mean":
            new["head.frames"] = state["head.frames"] + rows.shape[1]
            part = (rows.shape[1] / new["head.frames"][:, None]).to(rows.dtype)
            pooled = new["head.mean"] = state["head.mean"] + (rows.mean(1) - state["head.mean"]) * part
        return self._classify(pooled), new

    def _classify(self, pooled: Tensor) -> Tensor:
        return self.head(self.dropout(pooled)) if self.num_classes else pooled
