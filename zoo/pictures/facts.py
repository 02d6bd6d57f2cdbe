"""In words and rows: what was run on the video, and what is known about the model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo import registry
from zoo.cost import cost_of
from zoo.errors import ZooError
from zoo.plain import by
from zoo.spec import MEANS, Metric, Preprocessing

if TYPE_CHECKING:
    from zoo.tasks.classification import Executed, Prediction

SHORT = {
    "repeat_last": "the last frame is repeated",
    "loop": "it is played again from the start",
    "spread": "frames are repeated evenly",
    "error": "it is refused",
}
Facts = list[tuple[str, str]]


def executed_facts(prediction: Prediction, executed: Executed) -> Facts:
    """The protocol as it was run, a row for each step."""
    p = executed.protocol
    rate = f"the video resampled to {p.fps:g} frames per second by its timestamps" if p.fps else "the file's own frames"
    apart = f", every {p.stride}th" if p.stride > 1 else ""
    rows = [
        ("video", f"{executed.n_frames:,} frames at {executed.fps:.5g} frames per second on average"),
        ("frames", f"{p.num_frames} in a clip{apart}, of {rate}; sampler {p.sampler}"),
        ("short videos", SHORT[p.short] + ("; so it was here" if prediction.repeated else "")),
        ("resize", _resize(p)),
        ("crop", f"{by(p.crop)} (height x width)" if p.crop else "none"),
        ("normalisation", f"mean {_numbers(p.mean)}, standard deviation {_numbers(p.std)}, of colours in 0..1"),
        ("views", _views(executed)),
        ("scores", MEANS[p.aggregation].format("logits" if p.activation == "none" else p.activation)),
    ]
    if prediction.windows:
        windows = prediction.windows
        apart = f", {windows[1][0] - windows[0][0]:g} s apart" if len(windows) > 1 else ""
        rows.insert(1, ("windows", f"{len(windows):,} of {windows[0][1] - windows[0][0]:g} s{apart}"))
    return rows


def model_facts(prediction: Prediction) -> Facts:
    """What the registry says of the model, and what it costs; nothing for a model that is not registered."""
    name = f"{prediction.model}.{prediction.weights}" if prediction.weights else prediction.model
    try:
        spec, weights = registry.default.find(name)
    except ZooError:
        return []
    rows = [("about", spec.description), ("weights", weights.description if weights else "random")]
    try:
        cost = cost_of(spec, weights)
        rows += [("parameters", f"{cost.params:,}"), ("compute", f"{cost.gflops:.3g} GFLOPs for one clip")]
    except (ZooError, ImportError):
        rows += [("parameters", f"{spec.params:,}" if spec.params else "")]
    if weights:
        rows += [
            ("trained on", weights.training_data),
            ("licence of the weights", weights.license or "not stated"),
            ("file", f"sha256 {weights.sha256}" if weights.pinned else "not pinned"),
            *(("figure", _metric(metric)) for metric in weights.metrics),
        ]
    rows += [("licence of the code", spec.license), ("paper", spec.paper), ("family", spec.family)]
    return [(key, value) for key, value in rows if value]


def _resize(p: Preprocessing) -> str:
    if p.resize is None:
        return "none"
    size = f"short side {p.resize}" if isinstance(p.resize, int) else f"{by(p.resize)} (height x width)"
    return f"{size}, {p.interpolation}{' with antialias' if p.antialias else ''}"


def _views(executed: Executed) -> str:
    p = executed.protocol
    if executed.views == "fast":
        return f"one clip in the middle, one crop, instead of the published {p.clips} x {p.crops}"
    clips, crops = (p.clips, p.crops) if executed.views == "card" else executed.views
    said = f"{clips} clip{'s' * (clips > 1)} x {crops} crop{'s' * (crops > 1)}"
    return f"{said}, {'as published' if (clips, crops) == (p.clips, p.crops) else 'other than published'}"


def _metric(metric: Metric) -> str:
    where = " ".join(filter(None, [metric.dataset, metric.split]))
    return f"{metric.name} {metric.value:g} on {where}, by {metric.level}, {metric.origin} by {metric.by}"


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)
