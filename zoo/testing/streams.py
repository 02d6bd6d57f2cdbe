"""Checks of streaming: `init_state(batch)` and the pure `step(frames, state) -> (logits, state)`."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from zoo.spec import ModelSpec
from zoo.testing.failure import CheckFailed, require
from zoo.testing.networks import CLOSE
from zoo.testing.subject import difference, subject

State = dict[str, Tensor]


def check_chunks_make_no_difference(spec: ModelSpec) -> None:
    """Frames one by one, two by two or all at once end in the logits of the whole clip."""
    for size in sorted({1, 2, subject(spec).clip.shape[2]}):
        _require_chunks_of(size, spec)


def check_uneven_chunks_make_no_difference(spec: ModelSpec) -> None:
    """Frames in threes, or fives, of which the last are fewer, end in the logits of the whole clip."""
    frames = subject(spec).clip.shape[2]
    _require_chunks_of(3 if frames % 3 else 5, spec)


def _require_chunks_of(size: int, spec: ModelSpec) -> None:
    model, clip, output = subject(spec)
    away = difference(follow(model, clip, size)[0], output)
    require(
        away <= CLOSE,
        expected=f"after {clip.shape[2]} frames in chunks of {size}, the logits of forward(clip)",
        seen=f"a relative difference of {away:.2g}",
        fix="carry in the state everything that the next chunk needs: past frames of causal convolutions, hidden "
        "states, sums and counts of pooling",
    )


def follow(model: Any, frames: Tensor, size: int, state: State | None = None) -> tuple[Tensor, State]:
    """The answer after frames `[B, C, T, H, W]` that come in chunks of this size, and the state."""
    if state is None:
        fresh: State = model.init_state(len(frames))
        state = {name: value.to(frames.dtype) if value.is_floating_point() else value for name, value in fresh.items()}
    with torch.no_grad():
        for at in range(0, frames.shape[2], size):
            logits, state = model.step(frames[:, :, at : at + size].clone(), state)
    return logits, state


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


def check_state_survives_a_file(spec: ModelSpec) -> None:
    """A stream can be put aside: its state goes through safetensors, and the next frames get the same answer."""
    model, clip, _ = subject(spec)
    stream: Any = model
    with torch.no_grad():
        _, state = stream.step(clip.clone(), stream.init_state(len(clip)))
        try:
            stored = save(state)
        except (RuntimeError, ValueError) as error:
            raise CheckFailed(
                "every tensor of the state is contiguous and has memory of its own",
                " ".join(str(error).split()),
                "end the parts of the state that are views with .clone() or .contiguous()",
            ) from error
        restored, _ = stream.step(clip.clone(), load(stored))
        straight, _ = stream.step(clip.clone(), state)
    away = difference(restored, straight)
    require(
        away <= CLOSE,
        expected="the same answer from a state that was written to a file and read again",
        seen=f"a relative difference of {away:.2g}",
        fix="keep all of the past in the state, and nothing on self",
    )


def check_one_stream_starts_anew(spec: ModelSpec) -> None:
    """`reset_state(state, [1])` starts stream 1 anew, and stream 0 goes on as if nothing had been."""
    model, clip, output = subject(spec)
    stream: Any = model
    with torch.no_grad():
        _, before = stream.step(clip.clone(), stream.init_state(len(clip)))
        after, _ = stream.step(clip.clone(), model.reset_state(before, [1]))
        goes_on, _ = stream.step(clip.clone(), before)
    away = max(difference(after[:1], goes_on[:1]), difference(after[1:], output[1:]))
    require(
        away <= CLOSE,
        expected="the logits of forward(clip) for the stream that starts anew, and for the other what it would say",
        seen=f"a relative difference of {away:.2g}",
        fix="give every tensor of the state one row per stream, and let no stream look at another's",
    )


def check_step_exports(spec: ModelSpec) -> None:
    """`torch.export` takes `step`, and the exported program says and keeps the same."""
    model, clip, _ = subject(spec)
    stream: Any = model
    first, rest = clip[:, :, :1].clone(), clip[:, :, -1:].clone()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.export talks about its own deprecations
        _, state = stream.step(first, stream.init_state(len(clip)))
        copies = [{name: value.clone() for name, value in state.items()} for _ in range(2)]
        logits, after = stream.step(rest, state)
        try:
            program = torch.export.export(_Step(model), (rest, copies[0])).module()
            said, kept = program(rest, copies[1])
        except Exception as error:
            reason = next((line for line in str(error).splitlines() if line.strip()), "")
            raise CheckFailed(
                "torch.export.export of model.step(frames, state) works",
                f"{type(error).__name__}: {reason}",
                "no branch and no shape may depend on the values of frames or state",
            ) from error
    away = max(difference(a, b) for a, b in [(said, logits), *((kept[name], after[name]) for name in after)])
    require(
        away <= CLOSE,
        expected="the exported step gives the same logits and state",
        seen=f"a relative difference of {away:.2g}",
        fix="look for Python state or numbers that step computes from the values of its input",
    )


class _Step(nn.Module):
    """`step` as a forward, which is what torch.export takes."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, frames: Tensor, state: State) -> tuple[Tensor, State]:
        answer: tuple[Tensor, State] = self.model.step(frames, state)
        return answer


def _same(a: Tensor, b: Tensor | None) -> bool:
    return b is not None and torch.equal(a, b)
