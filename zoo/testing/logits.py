"""Checks of classification: logits, features before them, and a head that can be replaced."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from zoo.cost import build_on_meta
from zoo.spec import ModelSpec
from zoo.testing.failure import Check, require
from zoo.testing.geometry import require_answers
from zoo.testing.networks import CLOSE
from zoo.testing.subject import build_small, difference, run, small_clip, subject, whole, whole_shape
from zoo.testing.world import restored

# Of what the logits of clips differ by: sums that differ by less are the same. And of the logits' scale, what they have
# to differ by: a deep network with random weights may answer every clip alike, which tells nothing.
TIED, TELLING = 1e-3, 1e-5


def check_output_shape(spec: ModelSpec) -> None:
    """A clip of the protocol gives one row of logits, for the stated number of classes and for another one."""
    for asked in (None, 3):
        model = whole(spec) if asked is None else build_on_meta(spec, num_classes=asked)
        wanted = (2, spec.num_classes if asked is None else asked)
        shape = tuple(run(model, torch.empty(2, *whole_shape(model), device="meta")).shape)
        require(
            shape == wanted and model.num_classes == wanted[1],
            expected=f"logits {wanted} and model.num_classes {wanted[1]} with "
            + ("the default options" if asked is None else f"num_classes={asked}"),
            seen=f"logits {shape}, model.num_classes {model.num_classes}",
            fix="state num_classes in the spec, and let the builder pass its num_classes on to the last layer",
        )


def check_every_clip_gets_one_row(spec: ModelSpec) -> None:
    """Every clip that the spec declares, be it longer or larger, gives one row of logits."""
    require_answers(spec, lambda shape: (2, whole(spec).num_classes))


def check_logits_are_not_probabilities(spec: ModelSpec) -> None:
    """What comes out is before any softmax or sigmoid: the activation belongs to the protocol."""
    output = _of_many_classes(spec)
    require(
        bool((output < 0).any() or (output > 1).any()),
        expected="some logits below 0 or above 1",
        seen=f"all values between {float(output.min()):.3g} and {float(output.max()):.3g}, "
        f"rows that sum to {float(output.sum(1).mean()):.3g}",
        fix="remove the softmax or sigmoid from the network; preprocessing.activation names it",
    )


def check_logits_are_free(spec: ModelSpec) -> None:
    """No rule ties the logits of a clip together, as softmax and sigmoid do, also scaled or as a logarithm."""
    rows = _of_many_classes(spec).double()
    if bool(((rows >= 0) & (rows <= 1)).all()):
        return  # check_logits_are_not_probabilities says it
    spread = float(rows.std(0).max())
    telling = spread > TELLING * float(rows.abs().max())
    rules = {
        "every row has the same sum": telling and float(rows.sum(1).std()) <= TIED * spread,
        "the exponentials of every row have the same sum": telling and float(rows.logsumexp(1).std()) <= TIED * spread,
        "no logit is negative": bool((rows >= 0).all()),
    }
    require(
        not any(rules.values()),
        expected="logits as a linear layer gives them",
        seen="; ".join(text for text, holds in rules.items() if holds),
        fix="remove the softmax, log_softmax or sigmoid from the network; preprocessing.activation names it",
    )


@lru_cache(maxsize=1)
def _of_many_classes(spec: ModelSpec) -> Tensor:
    """Logits of four clips, of so many classes that some are certain to be negative."""
    model = build_small(spec, num_classes=32)
    return run(model, small_clip(model, batch=4))


def check_forward_is_the_head_of_the_features(spec: ModelSpec) -> None:
    """`forward(clip)` equals `forward_head(forward_features(clip))`."""
    model, clip, output = subject(spec)
    with torch.no_grad():
        away = difference(model.forward_head(model.forward_features(clip.clone())), output)
    require(
        away <= CLOSE,
        expected="features that lead to the same logits",
        seen=f"a relative difference of {away:.2g}",
        fix="leave forward to zoo.VideoModel, and do all work in forward_features and forward_head",
    )


def check_features_come_before_the_head(spec: ModelSpec) -> None:
    """`num_features` is the width of the features, and the head can stop before the last layer."""
    model, clip, _ = subject(spec)
    with torch.no_grad():
        features = model.forward_features(clip.clone())
        rows = model.forward_head(features, pre_logits=True)
    channels = features.shape[1] if features.ndim == 5 else features.shape[-1]
    width = model.num_features
    require(
        channels == width and rows.ndim == 2 and len(rows) == len(clip),
        expected=f"features [B, {width}, T, H, W] or [B, ..., {width}] (num_features), rows [B, D] before the head",
        seen=f"features {tuple(features.shape)}, forward_head(features, pre_logits=True) {tuple(rows.shape)}",
        fix="set num_features to the channels of forward_features, and return before the last layer if pre_logits",
    )


def check_reset_classifier(spec: ModelSpec) -> None:
    """`reset_classifier(n)` gives n logits, `reset_classifier(0)` the features that the last layer saw."""
    model = build_small(spec)
    with restored(), torch.no_grad():
        features = model.forward_features(small_clip(model))
    with torch.no_grad():
        rows = model.forward_head(features, pre_logits=True)
        model.reset_classifier(7)
        seven = tuple(model.forward_head(features).shape), model.num_classes
        model.reset_classifier(0)
        bare = model.forward_head(features)
        none = difference(bare, rows), model.num_classes
    require(
        seven == ((2, 7), 7) and none[0] <= CLOSE and none[1] == 0,
        expected="logits (2, 7) after reset_classifier(7), and after reset_classifier(0) the rows before the head",
        seen=f"logits {seven[0]} with num_classes {seven[1]}, then {tuple(bare.shape)} with num_classes {none[1]}, "
        f"a relative difference of {none[0]:.2g}",
        fix="make a new last layer, nn.Identity() for 0, and set self.num_classes",
    )


CHECKS: dict[int, tuple[Check, ...]] = {
    1: (
        check_output_shape,
        check_logits_are_not_probabilities,
        check_forward_is_the_head_of_the_features,
        check_features_come_before_the_head,
        check_reset_classifier,
    ),
    3: (check_every_clip_gets_one_row, check_logits_are_free),
}
