"""The network that a training begins with: from weights or from a seed, with a head for the labels of the data."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch

from zoo import factory, registry
from zoo.contract import VideoModel
from zoo.errors import SpecError
from zoo.spec import Preprocessing
from zoo.train.settings import Settings
from zoo.video.clips import protocol_of
from zoo.weights.repository import is_repository


def order_of(labels: tuple[str, ...], settings: Settings) -> tuple[str, ...]:
    """The labels of the data in the order of the logits: that of the weights where these have the same labels."""
    if is_repository(settings.model):
        from zoo.weights.repository import open_repository

        known = open_repository(settings.model).weights.labels
    else:
        _, weights = registry.default.find(settings.model)
        known = weights.labels if weights else ()
    return tuple(known) if sorted(known) == sorted(labels) else labels


def network_of(labels: tuple[str, ...], settings: Settings, tell: Callable[[str], object]) -> VideoModel:
    """On the CPU, with labels and protocol. The head is kept where the weights have these labels, else it is new."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        try:
            model = factory.create(settings.model, **settings.model_options)
        except TypeError as wrong:
            raise SpecError(
                f"model_options: {wrong}", hint=f"they are the keyword arguments of the builder of {settings.model}"
            ) from wrong
        if model.spec is not None and model.spec.task != "classification":
            raise SpecError(f"{settings.model} is of the task {model.spec.task}", hint="zoo trains classifiers")
        if model.weights is None:
            tell(f"{settings.model}: random weights")
        if model.labels != labels:
            model.reset_classifier(len(labels))
            tell(f"the head is new, for {len(labels)} classes")
        else:
            tell("the head is that of the weights, which have the same labels")
    model.labels, model.weights = labels, None
    model.preprocessing = _protocol(model, settings)
    model.set_grad_checkpointing(settings.grad_checkpointing)
    return model


def _protocol(model: VideoModel, settings: Settings) -> Preprocessing:
    """Its own, but what is learned with one label for each video is a softmax, unless the settings say otherwise."""
    try:
        return dataclasses.replace(
            protocol_of(model), **{"activation": "softmax", "temperature": 1.0, **settings.protocol}
        )
    except TypeError as wrong:
        fields = ", ".join(field.name for field in dataclasses.fields(Preprocessing))
        raise SpecError(f"protocol: {wrong}", hint=f"its fields are {fields}") from wrong
