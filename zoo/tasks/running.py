"""Run a network over the views of a video without leaving a trace in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from zoo.contract import VideoModel
from zoo.video.clips import Views


@contextmanager
def evaluating(model: VideoModel) -> Iterator[None]:
    """Evaluation mode without gradients; the mode it was in comes back."""
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        model.train(was_training)


def over_views(model: VideoModel, views: Views, function: Callable[[Tensor], Tensor]) -> Tensor:
    """`function` of every view, `[V, ...]`, float32 on the CPU, in batches of bounded size."""
    like = next(model.parameters(), torch.empty(0))
    outputs = []
    for clips in views.batches():
        model.check_geometry(clips)
        outputs.append(function(clips.to(like.device, like.dtype)).float().cpu())
    return torch.cat(outputs)
