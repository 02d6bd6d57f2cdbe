"""What `index.json` says of an architecture, found out from the installed timm without any memory for weights."""

from __future__ import annotations

from typing import Any

import torch

from zoo_timm import images
from zoo_timm.video import FrameModel, frame_model

# (least side, step) that an architecture without a fixed size may ask for, the most generous first.
SIDES = (
    *((32, 1), (64, 1), (32, 32), (64, 32), (64, 64), (96, 32), (128, 1), (128, 32), (128, 128), (192, 64)),
    *((96, 48), (126, 14)),  # patches of 16 in cells of three by three, and patches of 14
)

Config = tuple[bool, int, int, int, int, str, dict[str, Any]]


def surveyed(arch: str) -> tuple[list[Any], list[Config]] | None:
    """A row and the configs that it counts from 0, or None if timm has no such architecture."""
    timm = images.library()
    if not timm.is_model(arch):
        return None
    stated = images.config(arch)
    configs: list[Config] = [config_of(stated)]
    weights: dict[str, Any] = {}
    for name in timm.list_models(f"{arch}.*", pretrained=True):
        tag = name.partition(".")[2]
        found = images.config(arch, tag)
        if not found.hf_hub_id:
            continue  # a pickle somewhere else
        number = number_of(config_of(found), configs)
        own = found.hf_hub_id == f"timm/{name}"
        weights[tag] = number if own else [number, found.hf_hub_id]
    first = stated.tag if stated and stated.tag in weights else None
    ordered = {tag: weights[tag] for tag in sorted(weights, key=lambda tag: tag != first)}
    return [*measured(arch), 0, ordered], configs


def measured(arch: str) -> tuple[int, int, int, int]:
    """Parameters and width without a classifier, and the sides that it takes. Raises whatever stands in the way."""
    with torch.device("meta"), torch.no_grad():
        model = frame_model(arch=arch, num_classes=0).to("meta").eval()
        size = model.image_options["size"]
        rows = model.forward_features(_clip(model, size))
        if tuple(rows.shape) != (1, 2, model.num_features):
            raise ValueError(f"its features of two frames are {tuple(rows.shape)}")
        params = sum(parameter.numel() for parameter in model.parameters())
        fixed = model.geometry is not None and model.geometry.size is not None
        return params, model.num_features, *((1, 1) if fixed else _sides(model, size))


def config_of(stated: Any) -> Config:
    """The facts about weights that several share."""
    channels, height, width = stated.input_size
    licence = stated.license if stated.license and stated.license != "unknown" else "not stated by timm"
    protocol = images.protocol(stated)
    return (bool(stated.fixed_input_size), channels, height, width, stated.num_classes, licence, protocol)


def _sides(model: FrameModel, size: tuple[int, int]) -> tuple[int, int]:
    for least, step in SIDES:
        if size[0] % step == 0 and size[1] % step == 0 and _takes(model, least, step):
            return least, step
    return min(size), min(size)


def _takes(model: FrameModel, least: int, step: int) -> bool:
    """Whether the smallest frames run, somewhat larger ones, and those that are not square."""
    model.geometry = None
    try:
        for clip in ((least, least), (least + step, least + step), (least, least + 2 * step)):
            if model.forward_features(_clip(model, clip)).shape[-1] != model.num_features:
                return False
    except Exception:
        return False
    return True


def _clip(model: FrameModel, size: tuple[int, int]) -> torch.Tensor:
    channels = model.geometry.channels if model.geometry else 3
    return torch.empty(1, channels, 2, *size, device="meta")


def number_of(config: Config, configs: list[Config]) -> int:
    if config not in configs:
        configs.append(config)
    return configs.index(config)
