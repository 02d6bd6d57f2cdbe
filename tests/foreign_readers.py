"""Readers of foreign configs, sound and otherwise, as plugins may have them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import zoo


def sound(config: Mapping[str, Any], processor: Mapping[str, Any] | None) -> dict[str, Any]:
    if config["wide"] < 1:
        raise zoo.errors.SpecError(f"wide={config['wide']}", hint="a width")
    protocol = zoo.Preprocessing.from_dict(processor) if processor else None
    return {"kwargs": {"width": config["wide"]}, "labels": config["names"], "preprocessing": protocol}


def broken(config: Mapping[str, Any], processor: Mapping[str, Any] | None) -> dict[str, Any]:
    return {"kwargs": config["no such key"]}


def talkative(config: Mapping[str, Any], processor: Mapping[str, Any] | None) -> dict[str, Any]:
    return {"source": "hf://evil/repo/model.safetensors"}


def of_nothing(config: Mapping[str, Any], processor: Mapping[str, Any] | None) -> None:
    return None
