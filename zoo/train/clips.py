"""From shows to batches: videos are read and augmented in worker processes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from zoo.data import Sample
from zoo.errors import VideoError
from zoo.processes import leave_signals
from zoo.train.augment import Recipe, input_size
from zoo.train.sampler import Share, Show, key

UNREADABLE = -1  # instead of a label


@dataclass
class Batch:
    """Clips `[B, C, T, H, W]` and labels `[B]` of one forward; `first` is the place of the first clip in the step.

    A clip that could not be read is black, with the label UNREADABLE. errors: why.
    """

    step: int
    first: int
    clips: Tensor
    labels: Tensor
    errors: list[str]

    def pin_memory(self) -> Batch:
        """Asked for by the DataLoader where clips go to a GPU."""
        self.clips, self.labels = self.clips.pin_memory(), self.labels.pin_memory()
        return self


Shown = tuple[Show, Tensor, Tensor, str]


class Clips(Dataset[Shown]):
    """Asked for a show: it, its clips `[R, C, T, H, W]`, their labels `[R]`, and why it could not be read."""

    def __init__(self, samples: Sequence[Sample], labels: Sequence[str], recipe: Recipe) -> None:
        self.samples, self.recipe = samples, recipe
        self.number = {label: i for i, label in enumerate(labels)}

    def __getitem__(self, show: Show) -> Shown:
        sample, recipe = self.samples[show.sample], self.recipe
        label, repeats = self.number[sample.label], recipe.settings.repeats
        keys = [key(recipe.settings.seed, "clip", show.epoch, sample.name, copy) for copy in range(repeats)]
        try:
            clips, turns = recipe.clips(sample, keys)
        except VideoError as error:
            black = torch.zeros(repeats, 3, recipe.protocol.num_frames, *input_size(recipe.protocol))
            return show, black, torch.full((repeats,), UNREADABLE), f"{sample.name}: {error}"
        return show, clips, torch.tensor([recipe.label_of(label, done) for done in turns]), ""


def loader(clips: Clips, share: Share, *, workers: int, pin: bool) -> Iterable[Batch]:
    """The batches of a process, in order."""
    batches: Any = DataLoader(
        clips,
        batch_sampler=share,
        collate_fn=_collate,
        num_workers=workers,
        pin_memory=pin,
        worker_init_fn=leave_signals if workers else None,
        generator=torch.Generator(),  # the global one stays as it is
    )
    return batches  # type: ignore[no-any-return]


def _collate(shown: list[Shown]) -> Batch:
    first = shown[0][0]
    return Batch(
        first.step,
        first.first,
        torch.cat([clips for _, clips, _, _ in shown]),
        torch.cat([labels for _, _, labels, _ in shown]),
        [error for *_, error in shown if error],
    )
