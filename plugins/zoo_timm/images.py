"""timm's image networks: made by the installed timm, without their classifier, and measured instead of guessed at.

https://github.com/huggingface/pytorch-image-models
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from zoo.errors import SpecError, UnknownModel
from zoo_timm.index import numbers

OLDEST = (1, 0, 20)


@cache
def library() -> Any:
    """The installed timm. Raises ImportError with the line that installs one, if it is missing or too old."""
    import timm

    if numbers(timm.__version__) < OLDEST:
        wanted = ".".join(map(str, OLDEST))
        raise ImportError(f"timm {timm.__version__} is too old: pip install -U 'timm>={wanted}'", name="timm")
    return timm


def config(arch: str, tag: str = "") -> Any:
    """What timm says of an architecture's weights: its PretrainedCfg. Without a tag, of those it would take itself."""
    timm = library()
    if not timm.is_model(arch):
        raise UnknownModel(f"timm {timm.__version__} has no {arch!r}", hint="pip install -U timm, or another name")
    try:
        found = timm.models.get_pretrained_cfg(f"{arch}.{tag}" if tag else arch)
    except RuntimeError:  # what timm says of a tag that it does not have
        found = None
    if found is None and tag:
        raise UnknownModel(f"timm {timm.__version__} has no weights {arch}.{tag}", hint="pip install -U timm")
    return found


def image_network(arch: str, tag: str = "", tensors: Mapping[str, Tensor] | None = None, **options: Any) -> nn.Module:
    """timm's network for `[N, C, H, W]`, its classifier removed; with `tensors`, those of a file for it.

    Built with the classes of its own weights first, so that a file fits strictly or raises RuntimeError.
    options: those of timm's networks; None stands for timm's own choice.
    """
    timm, stated = library(), config(arch, tag)
    options = {key: value for key, value in options.items() if value is not None}
    # Classes that are not those of timm's own weights are the file's: timm would else drop its classifier unread.
    classes = {"num_classes": options["num_classes"]} if "num_classes" in options else {}
    overlay = {"state_dict": dict(tensors), **classes} if tensors else {}
    pretrained = {"pretrained": True, "pretrained_cfg_overlay": overlay} if tensors else {}
    try:
        network: nn.Module = timm.create_model(f"{arch}.{tag}" if tag else arch, **pretrained, **options)
    except (TypeError, ValueError, AssertionError) as refused:
        if tensors or not options:
            raise
        said = str(refused).partition("\n")[0] or type(refused).__name__
        raise SpecError(f"timm's {arch} cannot be built with {options}: {said}", hint=advice(stated)) from refused
    return network


def advice(stated: Any) -> str:
    """What to do when timm refuses an option."""
    height, width = input_size(stated)
    others = " and takes other sizes as it is" if stated and not stated.fixed_input_size else ""
    return f"leave the option away; it is made for {height}x{width} pixels{others}"


def without_classifier(network: nn.Module) -> nn.Module:
    """The same network, giving what its classifier saw."""
    known = {id(parameter) for parameter in network.parameters()}
    if getattr(network, "num_classes", 0):
        network.reset_classifier(0)
    made_up = [name for name, parameter in network.named_parameters() if id(parameter) not in known]
    if made_up:
        raise SpecError(
            f"timm's {type(network).__name__} makes {made_up[0]} anew when its classifier is removed",
            hint="take another architecture",
        )
    return network


def input_size(stated: Any, img_size: int | tuple[int, int] | None = None) -> tuple[int, int]:
    """The frames (height, width) that a network is made for."""
    if img_size is None:
        _, height, width = stated.input_size if stated else (3, 224, 224)
        return height, width
    return (img_size, img_size) if isinstance(img_size, int) else (img_size[0], img_size[1])


def probed_width(network: nn.Module, channels: int, size: tuple[int, int], frames: int = 2) -> int:
    """How many features a frame gets, by running a copy of the network that has shapes only."""
    dtype = next(network.parameters()).dtype
    with torch.no_grad():
        rows = pooled(_shadow(network).eval()(torch.empty(frames, channels, *size, device="meta", dtype=dtype)))
    return int(rows.shape[1])


def refusal(network: nn.Module, channels: int, size: tuple[int, int], frames: int = 2) -> str:
    """Why the network does not take frames of that size, in timm's words; empty if it does."""
    try:
        probed_width(network, channels, size, frames)
    except (AssertionError, RuntimeError, ValueError) as refused:
        return str(refused).partition("\n")[0] or type(refused).__name__
    embed = getattr(network, "patch_embed", None)
    if isinstance(embed, library().layers.PatchEmbed) and not embed.dynamic_img_pad:
        high, wide = embed.patch_size
        if size[0] % high or size[1] % wide:  # timm would leave the rest of the frame unseen
            return f"patches of {high}x{wide} do not cover it"
    return ""


def _shadow(network: nn.Module) -> nn.Module:
    """A copy without memory for its tensors. Some networks keep what they compute, so the original cannot be run."""
    memo: dict[int, Any] = {}
    for module in network.modules():
        for tensor in (*module._parameters.values(), *module._buffers.values(), *vars(module).values()):
            if isinstance(tensor, Tensor):
                empty = tensor.detach().to("meta")
                memo[id(tensor)] = nn.Parameter(empty, False) if isinstance(tensor, nn.Parameter) else empty
    return copy.deepcopy(network, memo)


def pooled(output: Tensor) -> Tensor:
    """One row per frame, `[N, D]`. A few of timm's networks give tokens `[N, L, D]` or maps `[N, D, H, W]`."""
    if output.ndim == 4:
        return output.mean((2, 3))
    return output.mean(1) if output.ndim == 3 else output


def batch_norms(network: nn.Module) -> list[nn.Module]:
    """Layers whose statistics are those of the batch in training."""
    return [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]


def protocol(stated: Any) -> dict[str, Any]:
    """How timm prepares images for these weights, in the words of zoo.Preprocessing.

    As `timm.data.create_transform` does for testing: "center" scales the short side, "squash" both sides, by
    1 / crop_pct, and crops the middle. "border" scales the long side and pads, which zoo cannot: it is squashed.
    """
    height, width = input_size(stated)
    scaled = math.floor(height / stated.crop_pct), math.floor(width / stated.crop_pct)
    keeps_shape = stated.crop_mode == "center" and height == width
    return {
        "resize": scaled[0] if keeps_shape else scaled,
        "crop": height if height == width else (height, width),
        "crop_rounding": "round",
        "interpolation": stated.interpolation,
        "mean": tuple(stated.mean),
        "std": tuple(stated.std),
    }
