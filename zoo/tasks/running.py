"""Run a network over the views of a video without leaving a trace in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from zoo.contract import VideoModel
from zoo.errors import SpecError
from zoo.video.clips import Views


@contextmanager
def evaluating(model: VideoModel) -> Iterator[None]:
    """Evaluation mode without gradients; every module gets back the mode it was in."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module in training:
            module.training = True


def over_views(model: VideoModel, views: Views, function: Callable[[Tensor], Tensor]) -> Tensor:
    """`function` of every view, `[V, ...]`, float32 on the CPU, in batches of bounded size."""
    like = next(model.parameters(), torch.empty(0))
    outputs = []
    for clips in views.batches():
        model.check_geometry(clips)
        with torch.inference_mode():
            output = function(clips.to(like.device, like.dtype)).float().cpu()
        outputs.append(output.clone())  # an inference tensor could be neither trained on nor changed
    return torch.cat(outputs)


def no_classifier(name: str) -> SpecError:
    """What is raised where a model that only has features is asked for an answer."""
    return SpecError(
        f"{name} has no classifier, so that there is nothing to predict",
        hint="zoo.embed gives its features; num_classes=N makes a new, untrained classifier",
    )
