"""Features of a video, at the level that is asked for."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from zoo.contract import VideoModel
from zoo.errors import SpecError
from zoo.tasks.running import evaluating, over_views
from zoo.video.clips import Views, ViewsOption, iter_views, protocol_of
from zoo.video.footage import open_footage, settled

LEVELS = ("clip", "frame", "map")


def embed_video(model: VideoModel, video: Any, *, level: str, views: ViewsOption, **reading: Any) -> Tensor:
    """See `zoo.embed`."""
    if level not in LEVELS:
        raise SpecError(f"level={level!r}", hint=f"it is one of {', '.join(LEVELS)}")
    protocol, footage = protocol_of(model), open_footage(video, **reading)
    (found,) = settled(lambda: [*iter_views(protocol, footage, views=views)])
    with evaluating(model):
        if level == "map":
            return over_views(model, found, model.forward_features)
        if level == "clip":
            return clip_features(model, found)
        rows = over_views(model, found, lambda x: model.frame_features(model.forward_features(x)))
    # [V, T, D] to [clips * T, D]: the crops of a clip averaged, the clips one after the other
    return rows.reshape(-1, found.crops, *rows.shape[1:]).mean(1).flatten(0, 1)


def clip_features(model: VideoModel, views: Views) -> Tensor:
    """One row `[D]`: what the last layer sees, the mean over views."""
    return over_views(model, views, model.forward_embedding).mean(0)
