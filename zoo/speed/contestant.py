"""One model that takes part: ours as it is, ours optimised, or another library's of the same name."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from zoo import factory, registry
from zoo.contract import VideoModel
from zoo.cost import clip_of
from zoo.deploy.optimize import optimized
from zoo.spec import ModelSpec, Weights
from zoo.speed.result import EAGER


class Absent(Exception):
    """A library that is not installed, or has no such model."""


FEW = 3  # clips of noise to compare on, and to measure the scales of int8
LEAST_S = 0.3  # of a turn: a shorter one is repeated


@dataclass(frozen=True)
class Contestant:
    """run: one forward pass. params: numbers that it has. about: what else is to know."""

    run: Callable[[], object]
    params: int
    about: str = ""


def contestant(name: str, way: str, *, batch: int, device: str) -> Contestant:
    """Random weights: they are as fast as others. Raises what building and optimising raise; Absent for a peer
    that there is not."""
    spec, weights = registry.default.find(name)
    clips = torch.randn(batch, *clip_of(spec, weights), device=device)
    if way in PEERS:
        try:
            peer, adapted = PEERS[way](spec, clips)
        except ModuleNotFoundError as missing:
            raise Absent(str(missing)) from missing
        network = peer.to(device).eval()
        return _ready(network, adapted)
    model = _model(spec, weights).to(device).eval()
    if way == EAGER:
        return _ready(model, clips)
    few = torch.randn(FEW, *clips.shape[1:])
    faster = optimized(model, way, few, few, min_agreement=0.0)  # random weights have no favourites
    params = sum(p.numel() for p in model.parameters())
    changes = ", ".join(f"{changed} of {of} {kind}" for kind, (changed, of) in faster.changes.items())
    like = next(faster.parameters(), torch.empty(0))
    clips = clips.to(like.device, like.dtype)
    return Contestant(lambda: _forward(faster, clips), params, f"{changes}; {faster.comparison}")


def seconds(one: Contestant, device: str) -> float:
    """Of one forward pass: the mean over a turn."""
    wait: Callable[[], object] = torch.cuda.synchronize if device.startswith("cuda") else lambda: None
    passes, started = 0, time.perf_counter()
    while True:
        one.run()
        wait()
        passes += 1
        if (spent := time.perf_counter() - started) >= LEAST_S:
            return spent / passes


def _model(spec: ModelSpec, weights: Weights | None) -> VideoModel:
    if weights is None:
        return factory.build(spec.full_name)
    return factory.build(spec.full_name, num_classes=weights.num_classes, **weights.kwargs)


def _ready(network: torch.nn.Module, clips: Tensor) -> Contestant:
    return Contestant(lambda: _forward(network, clips), sum(p.numel() for p in network.parameters()))


def _forward(network: torch.nn.Module, clips: Tensor) -> Any:
    with torch.inference_mode():
        return network(clips)


Peer = tuple[torch.nn.Module, Tensor]


def _torchvision(spec: ModelSpec, clips: Tensor) -> Peer:
    from torchvision import models

    if spec.namespace or spec.name not in models.list_models(module=models.video):
        raise _none("torchvision", spec)
    return models.get_model(spec.name), clips


def _pytorchvideo(spec: ModelSpec, clips: Tensor) -> Peer:
    from pytorchvideo.models import hub

    if spec.namespace or not callable(getattr(hub, spec.name, None)):
        raise _none("pytorchvideo", spec)
    return getattr(hub, spec.name)(pretrained=False), clips


def _timm(spec: ModelSpec, clips: Tensor) -> Peer:
    import timm

    if spec.namespace != "timm" or not timm.is_model(spec.name):
        raise _none("timm", spec)
    return timm.create_model(spec.name), clips.transpose(1, 2).flatten(0, 1).contiguous()  # every frame a picture


def _transformers(spec: ModelSpec, clips: Tensor) -> Peer:
    import transformers

    from zoo.weights.foreign import LIBRARY, translated

    for kind in spec.opens:
        library, _, model_type = kind.partition(":")
        if library != LIBRARY:
            continue
        config = transformers.AutoConfig.for_model(model_type)  # of one size only
        if translated(kind, config.to_dict(), None, kind).architecture == spec.full_name:
            network = transformers.AutoModelForVideoClassification.from_config(config)
            return network, clips.transpose(1, 2).contiguous()
    raise _none("transformers", spec)


def _none(library: str, spec: ModelSpec) -> Absent:
    return Absent(f"{library} has no {spec.full_name}")


PEERS: dict[str, Callable[[ModelSpec, Tensor], Peer]] = {
    "torchvision": _torchvision,
    "pytorchvideo": _pytorchvideo,
    "timm": _timm,
    "transformers": _transformers,
}
