"""Files in timm's format: the tensors of an image network with its classifier, put into a video model's backbone.

timm's own loading renames and resizes what needs it, with the classes that the file has. Where it would only log what
is missing, this raises.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from zoo.errors import UnknownModel, WeightsMismatch
from zoo_timm import images, mixing
from zoo_timm.video import FrameModel

BEHAVIOUR = frozenset({"requires_grad_", "detach_", "share_memory_"})  # in place, but not about what a parameter holds
BOUNDS = frozenset({"lt", "gt", "__lt__", "__gt__"})  # torch draws again until no value is out of them
SHOWN = 5
# What timm's renaming of other people's files says of one that it was not made for.
REFUSALS = (RuntimeError, LookupError, TypeError, ValueError, AttributeError, AssertionError)


def from_timm(tensors: Mapping[str, Tensor], model: FrameModel) -> dict[str, Tensor] | None:
    """All tensors of `model`: the backbone's from timm's file, the others as they are. None for a file of zoo's own.

    Raises WeightsMismatch for a file that lacks a tensor or has one too many.
    """
    if any(name.startswith("backbone.") for name in tensors):
        return None
    network = _read(tensors, model)
    own = model.state_dict()
    found = {name: tensor for name, tensor in own.items() if not name.startswith("backbone.")}
    for name, tensor in images.without_classifier(network).state_dict().items():
        like = own.get(f"backbone.{name}")
        if like is not None and like.ndim == tensor.ndim + 1:
            tensor = mixing.inflated(tensor, like.shape[2])
        found[f"backbone.{name}"] = tensor
    return found


def _read(tensors: Mapping[str, Tensor], model: FrameModel) -> nn.Module:
    """timm's network with the file's tensors, each of which has arrived."""
    options = dict(model.image_options["options"])
    if not model.tag and (classes := _classes(tensors, model)) is not None:
        options["num_classes"] = classes
    with _Arrivals() as arrivals:
        try:
            network = images.image_network(model.arch, model.tag, tensors, **options)
        except UnknownModel:
            raise
        except REFUSALS as refused:
            text = " ".join(str(refused).split())
            raise WeightsMismatch(
                f"the file is not one of timm's {model.arch}: {text[:600]}", hint="is it another variant?"
            ) from refused
    wanted = network.state_dict(keep_vars=True)
    missing = [name for name, tensor in wanted.items() if id(tensor) not in arrivals.into]
    # Where timm itself would let something go unread, a file that has all names may have no others.
    unread = [] if missing or not wanted.keys() <= tensors.keys() else sorted(tensors.keys() - wanted.keys())
    unread = [name for name in unread if id(tensors[name]) not in arrivals.of] if _lenient(network) else []
    if missing or unread:
        kind, names = ("lacks", missing) if missing else ("has no place for", unread)
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        raise WeightsMismatch(
            f"the file is not one of timm's {model.arch}: it {kind} {', '.join(names[:SHOWN])}{more}",
            hint="leave stack and in_chans away: timm cannot widen its first layer"
            if "in_chans" in options
            else "is it another variant, or only a part?",
        )
    return network


def _classes(tensors: Mapping[str, Tensor], model: FrameModel) -> int | None:
    """How many classes the file has, if its classifier is called what timm calls it."""
    stated = images.config(model.arch)
    names = (getattr(stated, "classifier", None) or "") if stated and not stated.label_offset else ""
    first = names if isinstance(names, str) else names[0]
    weight = tensors.get(f"{first}.weight")
    return None if weight is None or not weight.ndim else len(weight)


def _lenient(network: nn.Module) -> bool:
    """Whether timm loads this kind of network without being strict about names."""
    return type(network).__module__ == "timm.models.dla"


class _Arrivals(TorchFunctionMode):
    """While timm builds and fills a network: no random values, no copies, and a record of what was filled."""

    def __init__(self) -> None:
        super().__init__()
        self.into: set[int] = set()
        self.of: set[int] = set()
        self._kept: list[Any] = []  # so that no id is given twice

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(function, "__name__", "")
        target = args[0] if args else kwargs.get("tensor")
        if name == "copy_" and len(args) > 1 and isinstance(args[1], Tensor):
            self._kept += [target, args[1]]
            self.into.add(id(target))
            self.of.add(id(args[1]))
            if isinstance(target, nn.Parameter) and _alike(target, args[1]):
                target.data = args[1].detach()
                return target
        elif isinstance(target, nn.Parameter):
            if name.endswith("_") and not name.endswith("__") and name not in BEHAVIOUR:
                return target
            if name in BOUNDS:
                return torch.zeros((), dtype=torch.bool)
        return function(*args, **kwargs)


def _alike(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and a.device == b.device
