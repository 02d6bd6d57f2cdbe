"""Reading and writing video: the frame asked for is the frame returned, from any container, or a clear error.

    from zoo.video import read_frames
    frames = read_frames("my_video.mp4", [0, 30, 60], size=256).data      # uint8 [3, H, W, 3]

Importing this module, or `zoo.video.sampling`, imports neither torch nor av.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoo.video.frames import Frames, Report, iter_frames, read_frames
    from zoo.video.index import VideoIndex, probe
    from zoo.video.picture import Frame
    from zoo.video.source import Limits
    from zoo.video.url import Device, Url, open_device
    from zoo.video.write import write_video

_LAZY = {
    "Device": "zoo.video.url",
    "Frame": "zoo.video.picture",
    "Frames": "zoo.video.frames",
    "Limits": "zoo.video.source",
    "Report": "zoo.video.frames",
    "Url": "zoo.video.url",
    "VideoIndex": "zoo.video.index",
    "iter_frames": "zoo.video.frames",
    "open_device": "zoo.video.url",
    "probe": "zoo.video.index",
    "read_frames": "zoo.video.frames",
    "write_video": "zoo.video.write",
}

__all__ = [
    "Device",
    "Frame",
    "Frames",
    "Limits",
    "Report",
    "Url",
    "VideoIndex",
    "iter_frames",
    "open_device",
    "probe",
    "read_frames",
    "write_video",
]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'zoo.video' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
