"""What the Hub's client has for files that are not from the Hub: a folder for other libraries, locks, offline."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from zoo.weights.source import at_home

LIBRARY = "video-zoo"


def assets(cache_dir: str | Path | None = None) -> Path:
    """The folder for what zoo makes itself: inside `cache_dir`, or where HF_HOME and HF_ASSETS_CACHE say."""
    from huggingface_hub import constants

    return at_home(cache_dir or constants.HF_ASSETS_CACHE) / LIBRARY


def offline() -> bool:
    """Whether HF_HUB_OFFLINE forbids the network."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def lock(path: Path, seconds: float) -> AbstractContextManager[Any]:
    """Be the only process within this block, wherever the system ends a lock with its process. Raises TimeoutError."""
    from huggingface_hub.utils import WeakFileLock

    return WeakFileLock(path, timeout=seconds)
