"""What comes out of a model. One module per task owns its result type and how a video becomes one."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterable, Iterator
from importlib import import_module
from typing import TYPE_CHECKING, Any, overload

import torch
from torch import Tensor

from zoo import factory, registry
from zoo.contract import VideoModel
from zoo.errors import GeometryError, SpecError, VideoError
from zoo.tasks.embedding import embed_video
from zoo.tasks.running import no_classifier
from zoo.video.footage import is_several
from zoo.weights.repository import is_repository

if TYPE_CHECKING:
    from zoo.tasks.classification import Prediction
    from zoo.video import Limits
    from zoo.video.clips import ViewsOption

# A task's module has run(model, video, **options) and failed(model, video, error), both giving its result, and may have
# CHECKS = "package.module:CHECKS", its part of the conformance kit.
TASKS = {"classification": "zoo.tasks.classification", "next_frame": "zoo.tasks.next_frame"}


@overload
def predict(
    model_or_name: VideoModel | str,
    video: list[Any] | tuple[Any, ...] | Iterator[Any],
    *,
    top_k: int = 5,
    views: ViewsOption = "card",
    window: float | None = None,
    stride: float | None = None,
    fps: float | None = None,
    limits: Limits | None = None,
    isolate: bool = False,
    device: str | torch.device | None = None,
    **of_task: Any,
) -> Iterator[Prediction]: ...


@overload
def predict(
    model_or_name: VideoModel | str,
    video: Any,
    *,
    top_k: int = 5,
    views: ViewsOption = "card",
    window: float | None = None,
    stride: float | None = None,
    fps: float | None = None,
    limits: Limits | None = None,
    isolate: bool = False,
    device: str | torch.device | None = None,
    **of_task: Any,
) -> Prediction: ...


def predict(
    model_or_name: VideoModel | str,
    video: Any,
    *,
    top_k: int = 5,
    views: ViewsOption = "card",
    window: float | None = None,
    stride: float | None = None,
    fps: float | None = None,
    limits: Limits | None = None,
    isolate: bool = False,
    device: str | torch.device | None = None,
    **of_task: Any,
) -> Prediction | Iterator[Prediction]:
    """What the model says about a video, by the protocol of its weights.

    model_or_name: a model, or a name; a bare name means its default weights, and random ones with a warning if it has
    none.
    video: a path (never a URL), bytes, a binary file object, uint8 frames `[T, H, W, 3]`, or a list of images; the last
    two need `fps`. A list or iterator of videos gives an iterator of results in the same order; one that fails has
    `error` set and `ok` False, and the rest go on. A single video raises.
    top_k: how many of the best labels to report.
    views: "card" runs the published clips and crops, "fast" one centre clip, (clips, crops) what you say.
    window, stride: seconds. Slide over the video, so that `segments` says what happens when; stride defaults to window.
    limits, isolate: for files from strangers, as `zoo.video.read_frames` takes them: isolate=True decodes in a child
    process, so that even a crash of the decoder is a VideoError.
    of_task: options of the model's task; another task than classification may not know those above, and says so.
    Raises VideoError, GeometryError, SpecError; UnknownModel and WeightsError for a name.
    """
    model = as_model(model_or_name, device)
    task = _task_of(model)
    reading = {"fps": fps, "limits": limits, "isolate": isolate}
    options = {"top_k": top_k, "views": views, "window": window, "stride": stride, **reading, **of_task}
    options = _understood(model, task, options)
    if is_several(video):
        return _each(model, task, video, options)
    return task.run(model, video, **options)  # type: ignore[no-any-return]


def embed(
    model_or_name: VideoModel | str,
    video: Any,
    *,
    level: str = "clip",
    views: ViewsOption = "card",
    fps: float | None = None,
    limits: Limits | None = None,
    isolate: bool = False,
    device: str | torch.device | None = None,
) -> Tensor:
    """Features of one video, float32 on the CPU, from before the last layer.

    level: "clip" gives `[D]`, the mean over views; "frame" gives `[T, D]`, one row per time step of the features, crops
    averaged, clips one after the other; "map" gives the features of every view, `[V, ...]`, as `forward_features` does.
    The other arguments are those of `predict`.
    """
    if is_several(video):
        raise SpecError("embed takes one video at a time", hint="loop over them with one model")
    reading = {"fps": fps, "limits": limits, "isolate": isolate}
    return embed_video(as_model(model_or_name, device, features=True), video, level=level, views=views, **reading)


def as_model(
    model_or_name: VideoModel | str, device: str | torch.device | None = None, *, features: bool = False
) -> VideoModel:
    """A model ready to predict: itself, or made from its name with its default weights if it has any.

    features: they are all that is wanted. Else weights without a classifier are refused before they are fetched.
    """
    if not isinstance(model_or_name, (str, VideoModel)):
        raise TypeError(f"a zoo.VideoModel or the name of one is wanted, not {model_or_name!r:.80}")
    if not isinstance(model_or_name, str):
        return factory.place(model_or_name, device)
    if is_repository(model_or_name):
        return factory.create(model_or_name, device=device)
    spec, weights = registry.default.find(model_or_name)
    if weights is not None or spec.default_tag:
        chosen = weights or spec.weights[spec.default_tag or ""]
        if chosen.num_classes == 0 and spec.task == "classification" and not features:
            raise no_classifier(f"{spec.full_name}.{chosen.tag}")
        return factory.create(model_or_name, pretrained=True, device=device)
    warnings.warn(
        f"{spec.full_name} has no published weights: random weights, so the answer means nothing", stacklevel=3
    )
    return factory.create(model_or_name, device=device)


def _task_of(model: VideoModel) -> Any:
    name = model.spec.task if model.spec else "classification"
    if name not in TASKS:
        raise SpecError(f"no task is called {name!r}", hint=f"the tasks are {', '.join(TASKS)}")
    return import_module(TASKS[name])


def _understood(model: VideoModel, task: Any, options: dict[str, Any]) -> dict[str, Any]:
    """The options that the caller has changed. Raises SpecError for one that the task does not have."""
    defaults = {name: parameter.default for name, parameter in inspect.signature(predict).parameters.items()}
    changed = {name: value for name, value in options.items() if name not in defaults or value != defaults[name]}
    known = [p.name for p in inspect.signature(task.run).parameters.values() if p.kind is p.KEYWORD_ONLY]
    if unknown := sorted(changed.keys() - set(known)):
        name = model.spec.full_name if model.spec else type(model).__name__
        raise SpecError(f"{name}: predict has no option {unknown[0]!r} here", hint=f"it has {', '.join(known)}")
    return changed


def _each(model: VideoModel, task: Any, videos: Iterable[Any], options: dict[str, Any]) -> Iterator[Any]:
    for video in videos:
        try:
            result = task.run(model, video, **options)
        except (VideoError, GeometryError) as error:  # what a video can cause; a wrong option raises
            result = task.failed(model, video, error)
        yield result
