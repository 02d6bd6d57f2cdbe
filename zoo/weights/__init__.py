"""From a source to a verified file to a state dict to a model. Nothing here unpickles anything."""

from __future__ import annotations

from zoo.weights.assign import load_into
from zoo.weights.fetch import Fetched, fetch
from zoo.weights.repository import Repository, is_repository, open_repository
from zoo.weights.safetensors_file import SafetensorsFile
from zoo.weights.skip_init import skip_init

__all__ = [
    "Fetched",
    "Repository",
    "SafetensorsFile",
    "fetch",
    "is_repository",
    "load_into",
    "open_repository",
    "skip_init",
]
