"""From a source to a verified file to a state dict to a model. Nothing here unpickles anything."""

from __future__ import annotations

from zoo.weights.assign import load_into
from zoo.weights.locate import locate
from zoo.weights.safetensors_file import SafetensorsFile
from zoo.weights.skip_init import skip_init

__all__ = ["SafetensorsFile", "load_into", "locate", "skip_init"]
