"""How weights move: groups of parameters, the learning rate of each step, and the average of where they have been."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from zoo.contract import VideoModel
from zoo.errors import SpecError
from zoo.train.settings import Settings

INNERMOST = {4: torch.channels_last, 5: torch.channels_last_3d}  # by the dimensions of a kernel or of a batch


def freeze(model: VideoModel, groups: int) -> None:
    """Keep the first groups of layers as they are. Raises SpecError where that leaves nothing to train."""
    names = list(model.layer_groups().values())
    if groups >= len(names):
        raise SpecError(f"freeze={groups}", hint=f"the model has {len(names)} groups of layers, the head among them")
    parameters = dict(model.named_parameters())
    for name in (name for group in names[:groups] for name in group):
        parameters[name].requires_grad_(False)


def to_training(model: nn.Module, *, freeze_bn: bool) -> None:
    """Training mode, except for batch norms whose weights are frozen, or all of them."""
    model.train()
    for module in model.modules():
        frozen = not any(p.requires_grad for p in module.parameters(recurse=False))
        if isinstance(module, _BatchNorm) and (freeze_bn or (module.affine and frozen)):
            module.eval()


def channels_innermost(model: nn.Module) -> None:
    """Lay out the kernels of convolutions so that the channels of one place stand together."""
    for parameter in model.parameters():
        if parameter.ndim in INNERMOST:
            parameter.data = parameter.data.contiguous(memory_format=INNERMOST[parameter.ndim])


def optimizer_of(model: VideoModel, settings: Settings) -> torch.optim.Optimizer:
    """One group of parameters for each group of layers and kind; `scale` is its part of the learning rate."""
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    layers = list(model.layer_groups().values())
    groups: list[dict[str, Any]] = []
    for i, names in enumerate(layers):
        scale = settings.layer_decay ** (len(layers) - 1 - i)
        trained = [parameters[name] for name in names if name in parameters]
        for chosen, decay in (
            ([p for p in trained if p.ndim > 1], settings.weight_decay),
            ([p for p in trained if p.ndim <= 1], 0.0),
        ):
            if chosen:
                groups.append({"params": chosen, "weight_decay": decay, "scale": scale, "lr": settings.lr * scale})
    if settings.optimizer == "sgd":
        nesterov = settings.momentum > 0
        return torch.optim.SGD(groups, lr=settings.lr, momentum=settings.momentum, nesterov=nesterov)
    return torch.optim.AdamW(groups, lr=settings.lr, betas=(settings.betas[0], settings.betas[1]))


def rate(step: int, steps: int, settings: Settings) -> float:
    """The learning rate of a step: a straight rise from almost 0, then half a cosine down to `min_lr`."""
    rising = round(settings.warmup * steps)
    if step < rising:
        return settings.lr * (step + 1) / (rising + 1)
    done = (step - rising) / max(steps - 1 - rising, 1)
    low = min(settings.min_lr, settings.lr)
    return low + (settings.lr - low) * (0.5 + 0.5 * math.cos(math.pi * done))


def set_rate(optimizer: torch.optim.Optimizer, value: float) -> None:
    """Give each group its part of the learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = value * group["scale"]


class Average:
    """A moving average of all parameters and running statistics; early on it forgets faster.

    Its tensors are sharded as the model's are.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self._model = model
        self.tensors = {name: tensor.detach().clone() for name, tensor in self._current().items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move towards what the model is after step `step`, counted from 0."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, now in self._current().items():
            if now.is_floating_point():
                self.tensors[name].lerp_(now, 1 - decay)
            else:
                self.tensors[name].copy_(now)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Inside, the model has the averages."""
        kept = {name: tensor.detach().clone() for name, tensor in self._current().items()}
        self._put(self.tensors)
        try:
            yield
        finally:
            self._put(kept)

    @torch.no_grad()
    def _put(self, tensors: dict[str, Tensor]) -> None:
        for name, tensor in self._current().items():
            tensor.copy_(tensors[name])

    def _current(self) -> dict[str, Tensor]:
        state: dict[str, Tensor] = self._model.state_dict()
        return state
