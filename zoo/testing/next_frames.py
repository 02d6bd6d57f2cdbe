"""Checks of next-frame prediction: frames in the units of the clip, as many as are asked for."""

from __future__ import annotations

from typing import Any

import torch

from zoo.spec import ModelSpec
from zoo.testing.failure import Check, require
from zoo.testing.geometry import require_answers
from zoo.testing.networks import CLOSE
from zoo.testing.subject import difference, subject, whole, whole_shape


def check_forecast_shape(spec: ModelSpec) -> None:
    """A clip of the protocol gives `horizon` frames of its own size, or as many as are asked for."""
    model: Any = whole(spec)
    channels, frames, height, width = whole_shape(model)
    horizon = getattr(model, "horizon", 0)
    for asked, wanted in ((None, horizon), (1, 1), (horizon + 1, horizon + 1)):
        with torch.no_grad():
            shape = tuple(model(torch.empty(2, channels, frames, height, width, device="meta"), frames=asked).shape)
        require(
            shape == (2, channels, wanted, height, width) and wanted > 0,
            expected=f"{(2, channels, wanted, height, width)} with frames={asked} and model.horizon {horizon}",
            seen=f"{shape}",
            fix="set self.horizon, and let forward(clip, frames=None) give that many frames as large as the clip's",
        )


def check_longer_forecast_starts_with_the_shorter(spec: ModelSpec) -> None:
    """The first of many foreseen frames are those foreseen when few are asked for."""
    model, clip, output = subject(spec)
    few: Any = model
    with torch.no_grad():
        longer = few(clip.clone(), frames=output.shape[2] + 2)
    away = difference(longer[:, :, : output.shape[2]], output)
    require(
        away <= CLOSE,
        expected="the same first frames, however many are asked for",
        seen=f"a relative difference of {away:.2g}",
        fix="foresee one frame after the other, each from what was seen and foreseen before",
    )


def check_every_frame_counts(spec: ModelSpec) -> None:
    """The first and the last frame of a clip both change what is foreseen."""
    model, clip, output = subject(spec)
    for at in (0, -1):
        other = clip.clone()
        other[:, :, at] = -other[:, :, at]
        with torch.no_grad():
            away = difference(model(other), output)
        require(
            away > 0,
            expected=f"another forecast for a clip with another {'last' if at else 'first'} frame",
            seen="the same forecast",
            fix="let the whole clip reach the forecast",
        )


def check_every_clip_gets_its_frames(spec: ModelSpec) -> None:
    """Every clip that the spec declares, be it longer or larger, gives `horizon` frames of its own size."""
    horizon = getattr(whole(spec), "horizon", 0)
    require_answers(spec, lambda shape: (2, shape[0], horizon, *shape[2:]))


CHECKS: dict[int, tuple[Check, ...]] = {
    1: (check_forecast_shape, check_longer_forecast_starts_with_the_shorter, check_every_frame_counts),
    3: (check_every_clip_gets_its_frames,),
}
