"""Checks of what running a network does besides answering: in training mode, and to the process around it."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress

import numpy as np
import torch
from torch import Tensor

from zoo.contract import VideoModel
from zoo.cost import build_on_meta
from zoo.spec import ModelSpec
from zoo.testing.failure import require
from zoo.testing.subject import in_training, subject
from zoo.testing.world import SWITCHES, restored, switches

SHOWN = 5
SEEDS = 90_001, 90_002  # such as nobody writes into a network
GRADIENT_MODE = "gradient mode"


def check_training_mode_works(spec: ModelSpec) -> None:
    """In training mode the answer has the same shape, and the answer, all gradients and all statistics are finite."""
    model, clip, output = subject(spec)
    named = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    with restored():
        torch.manual_seed(0)
        answer, buffers = in_training(model, clip)
    gradients = torch.autograd.grad(answer.square().mean(), list(named.values()), allow_unused=True)
    found = {"the answer": answer, **buffers}
    found |= {f"the gradient of {name}": g for name, g in zip(named, gradients, strict=True) if g is not None}
    odd = [name for name, tensor in found.items() if not tensor.isfinite().all()]
    require(
        not odd and answer.shape == output.shape,
        expected=f"after model.train(), answers {tuple(output.shape)} and finite gradients for a batch of {len(clip)}",
        seen=f"answers {tuple(answer.shape)}; not finite: {', '.join(odd[:SHOWN]) or 'nothing'}",
        fix="look at what self.training switches: batch statistics, 1 - p of a drop rate, an auxiliary head",
    )


def check_global_state_is_untouched(spec: ModelSpec) -> None:
    """Building and running change no global switch, and building seeds no random generator."""
    model, clip, _ = subject(spec)
    by_building = _traces(lambda: build_on_meta(spec))
    by_running = _traces(lambda: model(clip.clone()), gradients=False)
    _require_none(by_building | {name: text for name, text in by_running.items() if _is_switch(name)})


def check_forward_leaves_no_trace(spec: ModelSpec) -> None:
    """Running seeds no random generator and leaves gradient mode as it is; in training it changes no switch either."""
    model, clip, _ = subject(spec)
    by_running = _traces(lambda: model(clip.clone())) | _traces(lambda: model(clip.clone()), gradients=False)
    by_training = _traces(lambda: _trained(model, clip))
    seen_elsewhere = {name for name in by_running if _is_switch(name)}  # by check_global_state_is_untouched
    traces = by_running | by_training
    _require_none({name: text for name, text in traces.items() if name not in seen_elsewhere})


def _trained(model: VideoModel, clip: Tensor) -> None:
    with suppress(Exception, SystemExit):  # that it works is the question of check_training_mode_works
        in_training(model, clip)


def _is_switch(name: str) -> bool:
    return name in SWITCHES and name != GRADIENT_MODE


def _require_none(traces: dict[str, str]) -> None:
    require(
        not traces,
        expected="the process is afterwards as it was before",
        seen="; ".join(traces.values()),
        fix="pass dtype=, device= and generator= to what needs them; seeds and switches belong to the user",
    )


def _traces(go: Callable[[], object], *, gradients: bool = True) -> dict[str, str]:
    """The switches that go() leaves at something else, and the generators that it seeds. It is all taken back."""
    with restored(), torch.set_grad_enabled(gradients):
        before = switches()
        first = _drawn(SEEDS[0], go)
        after = switches()
    with restored():
        fresh = _drawn(SEEDS[0])
    traces = {name: f"{name}: {before[name]} became {value}" for name, value in after.items() if value != before[name]}
    if first != fresh:  # it drew numbers, or seeded
        with restored(), torch.set_grad_enabled(gradients):
            second = _drawn(SEEDS[1], go)
        traces |= {name: f"the generator of {name} is seeded" for name in first if first[name] == second[name]}
    return traces


def _drawn(seed: int, go: Callable[[], object] | None = None) -> dict[str, float]:
    """The next number of each generator after seed and go()."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    if go is not None:
        go()
    return {"random": random.random(), "numpy": float(np.random.random()), "torch": float(torch.rand(()))}
