"""Checks of what a model says about its streams: whether it takes them, and its `delay`, `receptive_field`, `period`.

Nothing is taken on trust: each figure is the spec's and the model's, and what frames do to answers shows it.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from zoo.contract import VideoModel
from zoo.errors import NotCausal
from zoo.spec import ModelSpec
from zoo.testing.failure import require
from zoo.testing.streams import follow
from zoo.testing.subject import build_small, difference, small_clip, subject, whole

SAME = 1e-6  # of the largest output: answers that differ by less are one answer
EXACT = 1e-12  # the same in float64
CHUNK = 16  # frames at once, where it makes no difference
LONG = 24  # frames that must all count where no receptive field is declared


def check_streaming_is_declared(spec: ModelSpec) -> None:
    """`streaming` is True where the model has `init_state` and `step`, and nowhere else."""
    model = subject(spec).model
    base = {"init_state": VideoModel.init_state, "step": VideoModel.step}
    written = [name for name, function in base.items() if getattr(type(model), name) is not function]
    able = len(written) == len(base)
    if able:
        try:
            model.init_state(1)
        except NotCausal:
            written, able = [], False
    require(
        spec.streaming == able and (able or not written),
        expected=f"streaming={spec.streaming} of a model {'with' if spec.streaming else 'without'} init_state and step",
        seen=f"it has {' and '.join(written) or 'none of them'}",
        fix="set streaming=True and define both, or neither; a variant that looks ahead raises zoo.errors.NotCausal",
    )


def check_delay(spec: ModelSpec) -> None:
    """Answers begin when more than `delay` frames came: until then the frames make no difference."""
    _require_agreement(spec, "delay")
    model = subject(spec).model
    frames = _noise(model, model.delay + model.period)
    for count, due in ((model.delay, False), (model.delay + model.period, True)):
        if count:
            rows, _ = follow(model, frames[:, :, :count], CHUNK)
            there = not _same(rows[:1], rows[1:])
            require(
                there == due,
                expected=f"{'an' if due else 'no'} answer after {count} frames, as delay={model.delay}",
                seen=f"{'another' if there else 'the same'} output for other frames",
                fix="set delay to how many frames lie between the newest and the one that an answer speaks of",
            )


def check_receptive_field(spec: ModelSpec) -> None:
    """The oldest frame of the receptive field counts and the one before it does not; where it is None, all count."""
    _require_agreement(spec, "receptive_field")
    model = build_small(spec).double()
    field = model.receptive_field
    count = _moment(model, LONG if field is None else field + 2)
    asked = {count: True} if field is None else {field: True, field + 1: False}
    frames = _noise(model, count)[:1].repeat(1 + len(asked), 1, 1, 1, 1)
    for row, oldest in enumerate(asked, 1):
        frames[row, :, -oldest] *= -30
    answers = follow(model, frames, CHUNK)[0]
    counts = {oldest: difference(answers[row : row + 1], answers[:1]) for row, oldest in enumerate(asked, 1)}
    wrong = [at for at, should in asked.items() if (counts[at] > (0 if should else EXACT)) != should]
    require(
        not wrong,
        expected=f"answers that depend on {'all frames so far' if field is None else f'the last {field} frames'}",
        seen="; ".join(f"frame {at} from the end makes a relative difference of {counts[at]:.2g}" for at in wrong),
        fix="count the frames that an answer is made from, in the model and in the spec; None means all so far",
    )


def check_period(spec: ModelSpec) -> None:
    """There is another answer every `period` frames, and between them the last one is repeated."""
    _require_agreement(spec, "period")
    model = subject(spec).model
    moments = _moments(model)
    gaps = {later - earlier for earlier, later in pairwise(moments)}
    require(
        gaps == {model.period},
        expected=f"answers that change every period={model.period} frames",
        seen=f"answers that change after {', '.join(map(str, moments)) or 'no number of'} frames",
        fix="set period to the frames between two answers, in the model and in the spec; 1 where every frame counts",
    )


def _require_agreement(spec: ModelSpec, name: str) -> None:
    said, known = getattr(spec, name), getattr(whole(spec), name)
    require(
        said == known,
        expected=f"spec.{name} is that of the model, {known!r}",
        seen=f"{said!r}",
        fix=f"write {name}={known!r} into the spec, or set it on the model",
    )


def _noise(model: VideoModel, frames: int) -> Tensor:
    """Two different streams of so many frames, as small as the model takes."""
    batch, channels, _, height, width = small_clip(model).shape
    frames_of_both = torch.randn(batch, channels, frames, height, width, generator=torch.Generator().manual_seed(1))
    return frames_of_both.to(next(model.parameters()).dtype)


def _answers(model: VideoModel, frames: Tensor, *, least: int) -> dict[int, Tensor]:
    """The answers after `least` frames, if there are any, and after each one more."""
    answers, state = {}, None
    if least:
        answers[least], state = follow(model, frames[:, :, :least], CHUNK)
    for count in range(least + 1, frames.shape[2] + 1):
        answers[count], state = follow(model, frames[:, :, count - 1 : count], 1, state)
    return answers


def _moments(model: VideoModel) -> list[int]:
    """After how many frames the answer is another one than a frame before; enough of them to see a rhythm."""
    answers = _answers(model, _noise(model, model.delay + 3 * model.period + 1), least=model.delay)
    return [count for count, rows in answers.items() if count - 1 in answers and not _same(rows, answers[count - 1])]


def _moment(model: VideoModel, least: int) -> int:
    """The first number of frames, `least` or more, after which there is a new answer."""
    moments = _moments(model) if model.period > 1 else []
    return least + (moments[0] - least) % model.period if moments else least


def _same(a: Tensor, b: Tensor) -> bool:
    return difference(a, b) <= SAME
