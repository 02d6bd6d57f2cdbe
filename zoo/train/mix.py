"""MixUp and CutMix between the two clips of a pair. Pairs are neighbours in a step, so processes do not matter."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision import tv_tensors
from torchvision.transforms import v2

from zoo.train.sampler import key
from zoo.train.settings import Settings


def targets_of(labels: Tensor, classes: int) -> Tensor:
    """One-hot rows `[B, K]`, and a row of zeros for a label of -1."""
    return F.one_hot(labels.clamp(min=0), classes).float() * (labels >= 0).float().unsqueeze(1)


def mix(
    clips: Tensor, targets: Tensor, settings: Settings, *, step: int, first: int, repeats: int = 1
) -> tuple[Tensor, Tensor]:
    """Clips `[B, C, T, H, W]` and targets `[B, K]`, each pair mixed as the seed, the step and its place in it say.

    first: the place of the first of these clips in the step. repeats: neighbours that are of the same video; those of
    every second video are mixed with those of the next.
    """
    kinds = ((v2.MixUp, settings.mixup), (v2.CutMix, settings.cutmix))
    choices = [kind(alpha=alpha) for kind, alpha in kinds if alpha]
    if not choices:
        return clips, targets
    clips, targets = clips.clone(), targets.clone()
    for at in (i for i in range(len(clips)) if i // repeats % 2 == 0):
        pair = [at, at + repeats]
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(key(settings.seed, "mix", step, first + at))
            transform = choices[int(torch.randint(len(choices), ()))]
            mixed, said = transform(tv_tensors.Video(clips[pair]), targets[pair])
        clips[pair], targets[pair] = mixed.as_subclass(Tensor), said
    return clips, targets
