"""zoo: video models by name.

    import zoo
    model = zoo.create("r2plus1d_tiny.camera_motion")
    print(model.predict("my_video.mp4"))

Importing this module, listing and asking imports no torch. What needs it is imported when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zoo.errors import ZooError
from zoo.evaluate import evaluate
from zoo.hooks import hookimpl
from zoo.registry import default
from zoo.spec import Geometry, Metric, ModelSpec, Preprocessing, Weights
from zoo.train import train

if TYPE_CHECKING:
    from zoo import synth, testing, video
    from zoo.attribution import Attribution, attribute
    from zoo.bulk.predictor import VideoPredictor
    from zoo.bulk.run import batch
    from zoo.contract import VideoModel
    from zoo.deploy.export import export
    from zoo.deploy.exported import load_exported
    from zoo.deploy.optimize import optimize
    from zoo.factory import build, create, load
    from zoo.publishing import publish
    from zoo.speed.bench import bench
    from zoo.streaming import Stream
    from zoo.tasks import embed, predict
    from zoo.tasks.classification import Prediction
    from zoo.video.clips import Clips, load_clips
    from zoo.video.dataset import VideoDataset

__version__ = "0.1.0"

list_models = default.list_models
info = default.info
plugins = default.plugins
register = default.register
model = default.model

# What imports torch, av or numpy: name -> module, and the modules themselves.
_LAZY = {
    "Attribution": "zoo.attribution",
    "Clips": "zoo.video.clips",
    "Prediction": "zoo.tasks.classification",
    "Stream": "zoo.streaming",
    "VideoDataset": "zoo.video.dataset",
    "VideoModel": "zoo.contract",
    "VideoPredictor": "zoo.bulk.predictor",
    "attribute": "zoo.attribution",
    "batch": "zoo.bulk.run",
    "bench": "zoo.speed.bench",
    "build": "zoo.factory",
    "create": "zoo.factory",
    "embed": "zoo.tasks",
    "export": "zoo.deploy.export",
    "load": "zoo.factory",
    "load_clips": "zoo.video.clips",
    "load_exported": "zoo.deploy.exported",
    "optimize": "zoo.deploy.optimize",
    "predict": "zoo.tasks",
    "publish": "zoo.publishing",
}
_MODULES = ("synth", "testing", "video")

__all__ = [
    "Attribution",
    "Clips",
    "Geometry",
    "Metric",
    "ModelSpec",
    "Prediction",
    "Preprocessing",
    "Stream",
    "VideoDataset",
    "VideoModel",
    "VideoPredictor",
    "Weights",
    "ZooError",
    "attribute",
    "batch",
    "bench",
    "build",
    "create",
    "embed",
    "evaluate",
    "export",
    "hookimpl",
    "info",
    "list_models",
    "load",
    "load_clips",
    "load_exported",
    "model",
    "optimize",
    "plugins",
    "predict",
    "publish",
    "register",
    "synth",
    "testing",
    "train",
    "video",
]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    if name in _MODULES:
        return import_module(f"zoo.{name}")
    raise AttributeError(f"module 'zoo' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
