"""zoo: video models by name.

    import zoo
    model = zoo.create("r2plus1d_tiny.camera_motion")
    print(model.predict("my_video.mp4"))

Importing this module, listing and asking imports no torch. What needs it is imported when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zoo.errors import ZooError
from zoo.hooks import hookimpl
from zoo.spec import Geometry, Metric, ModelSpec, Preprocessing, Weights

if TYPE_CHECKING:
    from zoo.contract import VideoModel

__version__ = "0.1.0"

_LAZY = {
    "VideoModel": "zoo.contract",
}

__all__ = [
    "Geometry",
    "Metric",
    "ModelSpec",
    "Preprocessing",
    "VideoModel",
    "Weights",
    "ZooError",
    "hookimpl",
]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'zoo' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
