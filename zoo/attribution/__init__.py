"""Where and when a model looked: for each frame of its clips, how much each place speaks for a label."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo.attribution.methods import METHODS, automatic
from zoo.contract import VideoModel
from zoo.errors import SpecError
from zoo.tasks import as_model
from zoo.tasks.classification import Prediction, aggregate, answer, executed, refuse_without_classifier
from zoo.tasks.running import evaluating, over_views
from zoo.video.clips import Views, ViewsOption, iter_views, protocol_of
from zoo.video.footage import is_several, name_of, open_footage, settled

if TYPE_CHECKING:
    from PIL.Image import Image

    from zoo.video import Limits


@dataclass(frozen=True, eq=False)
class Attribution:
    """Maps of one video for one label, as data; pictures read the video again, as those of a prediction do.

    prediction: what the model says. label: what the maps speak for. method: how they were made.
    indices, times_s: the frames that the network was given, in order, and their times in seconds.
    heat: float32 `[N, H, W]` in 0..1 for these frames, H and W those of the protocol's resize. 1 is the strongest place
    of all frames; what no crop has, and what speaks against the label, is 0.
    """

    prediction: Prediction
    label: str
    method: str
    indices: list[int]
    times_s: list[float]
    heat: Tensor

    def sheet(self, *, video: Any = None, frames: int = 16) -> Image:
        """Frames with their heat, evenly spread if there are more, and a bar of how much each has. A Pillow image."""
        from zoo.pictures.heat import heat_sheet

        return heat_sheet(self, video, frames=frames)

    def overlay(self, dst: Any, *, video: Any = None) -> None:
        """Write the video with the heat in it: every frame at its time, the sound as it was.

        Between frames that the network was given heat goes over from one to the next; far from them there is none.
        """
        from zoo.pictures.heat import heat_overlay

        heat_overlay(self, dst, video)


def attribute(
    model_or_name: VideoModel | str,
    video: Any,
    *,
    label: str | None = None,
    method: str = "auto",
    views: ViewsOption = "card",
    fps: float | None = None,
    limits: Limits | None = None,
    isolate: bool = False,
    device: str | torch.device | None = None,
) -> Attribution:
    """Where and when a model that classifies looked.

    label: to explain; the best one if not given.
    method: "gradcam" weighs the last features by the gradient of the label's logit (Selvaraju et al. 2017, "Grad-CAM",
    https://arxiv.org/abs/1610.02391): as coarse as those features. "integrated_gradients" says what each patch of 8x8
    pixels adds to it, compared with a clip of the mean colour (Sundararajan et al. 2017,
    https://arxiv.org/abs/1703.01365): for every network, and 20 to 180 times slower. "rollout" multiplies the attention
    of all blocks (Abnar and Zuidema 2020, https://arxiv.org/abs/2005.00928), and is the same for every label. "auto"
    takes Grad-CAM where the last features have places on which the label depends, else integrated gradients.
    The other arguments are those of `predict`; a place that several clips or crops have seen gets their mean.
    Such maps say what the answer depends on, not that it is right, nor why.
    Raises SpecError for a label or method that there is not, or that this network does not allow, and what `predict`
    raises.
    """
    if is_several(video):
        raise SpecError("attribute takes one video at a time", hint="loop over them with one model")
    if method not in ("auto", *METHODS):
        raise SpecError(f"method={method!r}", hint=f"it is one of auto, {', '.join(METHODS)}")
    model = as_model(model_or_name, device)
    name = model.spec.full_name if model.spec else type(model).__name__
    if model.spec and model.spec.task != "classification":
        raise SpecError(f"{name} does not classify: its task is {model.spec.task}", hint="take a model that does")
    refuse_without_classifier(model)
    protocol, footage = protocol_of(model), open_footage(video, fps=fps, limits=limits, isolate=isolate)
    (found,) = settled(lambda: [*iter_views(protocol, footage, views=views)])
    with evaluating(model):
        prediction = answer(
            model,
            aggregate(over_views(model, found, model), protocol),
            5,
            video=name_of(video),
            duration_s=footage.duration_s,
            repeated=found.repeated,
            executed=executed(video, footage, protocol, views, isolate),
        )
        label = prediction.top[0].label if label is None else label
        index = _index(label, prediction.labels)
        if method == "auto":
            method = automatic(model, _clip(model, found, 0), index)
        indices, heat = _merged(model, found, index, method)
    return Attribution(prediction, label, method, indices, [footage.time_s[i] for i in indices], heat)


def _index(label: str, labels: tuple[str, ...]) -> int:
    if label not in labels:
        close = difflib.get_close_matches(label, labels, n=3) or labels[:3]
        raise SpecError(f"no label {label!r}", hint=f"there are {len(labels)}, such as {', '.join(close)}")
    return labels.index(label)


def _clip(model: VideoModel, found: Views, i: int) -> Tensor:
    like = next(model.parameters(), torch.empty(0))
    clip = found.clip(i)[None].to(like.device, like.dtype)
    model.check_geometry(clip)
    return clip


def _merged(model: VideoModel, found: Views, index: int, method: str) -> tuple[list[int], Tensor]:
    """The frames of all views, and the mean of the maps of each place, the strongest 1."""
    indices = sorted({i for frames, _ in found.views for i in frames})
    row = {i: n for n, i in enumerate(indices)}
    total = torch.zeros(len(indices), *found.size)
    times = torch.zeros_like(total)
    for i, (frames, (top, left, height, width)) in enumerate(found.views):
        with torch.enable_grad():
            coarse = METHODS[method](model, _clip(model, found, i), index).detach().float().cpu()
        shape = (len(frames), height, width)
        fine = F.interpolate(coarse[None, None], shape, mode="trilinear", align_corners=False)[0, 0]
        for frame, heat in zip(frames, fine, strict=True):
            place = (row[frame], slice(top, top + height), slice(left, left + width))
            total[place] += heat
            times[place] += 1
    mean = total / times.clamp(min=1)
    return indices, mean / mean.max().clamp(min=torch.finfo(torch.float32).tiny)
