"""Checks of streaming: `init_state(batch)` and the pure `step(frames, state) -> (logits, state)`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from zoo.spec import ModelSpec
from zoo.testing.failure import require
from zoo.testing.networks import CLOSE
from zoo.testing.subject import difference, subject

State = dict[str, Tensor]


def check_chunks_make_no_difference(spec: ModelSpec) -> None:
    """Frames one by one, two by two or all at once end in the logits of the whole clip."""
    model, clip, output = subject(spec)
    stream: Any = model
    frames = clip.shape[2]
    for size in sorted({1, 2, frames}):
        state: State = stream.init_state(len(clip))
        with torch.no_grad():
            for at in range(0, frames, size):
                logits, state = stream.step(clip[:, :, at : at + size].clone(), state)
        away = difference(logits, output)
        require(
            away <= CLOSE,
            expected=f"after {frames} frames in chunks of {size}, the logits of forward(clip)",
            seen=f"a relative difference of {away:.2g}",
            fix="carry in the state everything that the next chunk needs: past frames of causal convolutions, hidden "
            "states, sums and counts of pooling",
        )


def check_steps_are_pure(spec: ModelSpec) -> None:
    """`step` changes neither its state nor its frames nor the model; the state is a flat dict of tensors."""
    model, clip, _ = subject(spec)
    stream: Any = model
    state: State = stream.init_state(len(clip))
    require(
        isinstance(state, dict) and all(isinstance(v, Tensor) for v in state.values()),
        expected="init_state(batch) gives a flat dict of tensors",
        seen=f"{state!r:.120}",
        fix='return {"name": tensor, ...}; lists and nested dicts become several names',
    )
    first, rest = clip[:, :, :1], clip[:, :, 1:] if clip.shape[2] > 1 else clip
    with torch.no_grad():
        _, state = stream.step(first, state)
        kept = {name: value.clone() for name, value in state.items()}
        weights = {name: value.clone() for name, value in model.state_dict().items()}
        frames = rest.clone()
        once, after = stream.step(frames, state)
        touched = [name for name in kept if not _same(kept[name], state.get(name))]
        touched += ["the frames"] if not torch.equal(frames, rest) else []
        touched += [name for name, value in model.state_dict().items() if not _same(weights[name], value)]
        twice, _ = stream.step(rest.clone(), kept)
    require(
        not touched and torch.equal(once, twice) and after.keys() == kept.keys(),
        expected="the same frames and state give the same answer again, and a new state with the same names",
        seen=f"changed in place: {', '.join(touched) or 'nothing'}; a relative difference of "
        f"{difference(once, twice):.2g} the second time; names {', '.join(after)}",
        fix="build a new dict of new tensors, and keep nothing on self",
    )


def _same(a: Tensor, b: Tensor | None) -> bool:
    return b is not None and torch.equal(a, b)
