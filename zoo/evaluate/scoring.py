"""Run a network over labelled videos: all views of each, by the protocol, on one process or many with equal results."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from zoo.contract import VideoModel
from zoo.data import Sample
from zoo.errors import VideoError
from zoo.processes import World
from zoo.spec import Preprocessing
from zoo.tasks.classification import aggregate
from zoo.tasks.running import evaluating
from zoo.video.clips import ViewsOption, iter_views
from zoo.video.footage import open_footage

MOST_BYTES = 64 << 20  # of the clips in one forward
TOP = 5


@dataclass(frozen=True)
class Outcome:
    """What the model makes of one video. scores: `[K]`, of the video. views: `[V, K]`, the scores of each of its views.

    error: why it could not be read; then there are no scores.
    """

    sample: int
    target: int
    scores: Tensor | None = None
    views: Tensor | None = None
    error: str = ""


@dataclass(frozen=True)
class Scores:
    """One outcome for each sample, in order. seconds: that it took, of the slowest process."""

    outcomes: tuple[Outcome, ...]
    seconds: float

    @property
    def scored(self) -> list[Outcome]:
        """Those that could be read."""
        return [outcome for outcome in self.outcomes if not outcome.error]

    def accuracy(self, k: int = 1, level: str = "video") -> float:
        """Percent of the videos, or of their clips, whose label is among the k best. 0 if none could be read."""
        right = total = 0
        for outcome in self.scored:
            assert outcome.scores is not None and outcome.views is not None
            rows = outcome.scores.unsqueeze(0) if level == "video" else outcome.views
            best = rows.topk(min(k, rows.shape[1]), dim=1).indices
            right += int((best == outcome.target).any(1).sum())
            total += len(rows)
        return 100.0 * right / max(total, 1)

    def loss(self) -> float:
        """Mean negative logarithm of the label's score; of protocols whose scores are probabilities."""
        likely = [float(o.scores[o.target]) for o in self.scored if o.scores is not None]
        return -float(torch.tensor(likely or [1.0], dtype=torch.float64).clamp(min=1e-12).log().mean())


class _Videos(Dataset[tuple[int, Tensor | str]]):
    def __init__(self, samples: Sequence[Sample], protocol: Preprocessing, views: ViewsOption) -> None:
        self.samples, self.protocol, self.views = samples, protocol, views

    def __getitem__(self, i: int) -> tuple[int, Tensor | str]:
        sample = self.samples[i]
        try:
            footage = open_footage(sample.path)
            span = sample.span
            windows = None if span is None else [(span[0], min(span[1], footage.duration_s))]
            (found,) = iter_views(self.protocol, footage, views=self.views, windows=windows)
            return i, torch.stack([found.clip(v) for v in range(len(found))])
        except VideoError as error:
            return i, str(error)


def score(
    model: VideoModel,
    samples: Sequence[Sample],
    labels: Sequence[str],
    protocol: Preprocessing,
    world: World,
    *,
    views: ViewsOption = "card",
    batch: int = 8,
    workers: int = 0,
    around: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> Scores:
    """What the model makes of each sample, the same in every process.

    labels: in the order of the logits. batch: videos that are read together; blocks of so many are dealt to the
    processes in turn, so that each forward is the same on one process and on many. around: makes what each forward
    runs in.
    """
    number = {label: i for i, label in enumerate(labels)}
    blocks = [range(at, min(at + batch, len(samples))) for at in range(0, len(samples), batch)]
    videos = DataLoader(
        _Videos(samples, protocol, views),
        batch_sampler=[list(block) for block in blocks[world.rank :: world.size]],
        collate_fn=list,
        num_workers=min(workers, len(blocks)),
        worker_init_fn=_single_thread,
        generator=torch.Generator(),
    )
    began = time.perf_counter()
    found: dict[int, Outcome] = {}
    with evaluating(model):
        for block in videos:
            errors = [(i, said) for i, said in block if isinstance(said, str)]
            clips = [(i, said) for i, said in block if isinstance(said, Tensor)]
            found |= {i: Outcome(i, number[samples[i].label], error=said) for i, said in errors}
            logits = _logits(model, [clip for _, clip in clips], world.device, around)
            for (i, _), rows in zip(clips, logits, strict=True):
                seen = torch.stack([aggregate(row.unsqueeze(0), protocol) for row in rows])
                found[i] = Outcome(i, number[samples[i].label], aggregate(rows, protocol), seen)
    everywhere = world.gather((found, time.perf_counter() - began))
    found = {i: outcome for others, _ in everywhere for i, outcome in others.items()}
    return Scores(tuple(found[i] for i in range(len(samples))), max(seconds for _, seconds in everywhere))


def _logits(
    model: VideoModel,
    videos: Sequence[Tensor],
    device: torch.device,
    around: Callable[[], AbstractContextManager[object]],
) -> Iterator[Tensor]:
    """float32 `[V, K]` of each video; views of several videos run together where they are of one size."""
    rows = []
    for clips in _forwards(videos):
        model.check_geometry(clips)
        with torch.no_grad(), around():
            rows.append(model(clips.to(device)).float().cpu())
    return iter(torch.split(torch.cat(rows), [len(video) for video in videos]) if rows else [])


def _forwards(videos: Sequence[Tensor]) -> Iterable[Tensor]:
    groups = [torch.cat(list(videos))] if len({video.shape[1:] for video in videos}) == 1 else list(videos)
    for clips in groups:
        yield from torch.split(clips, max(1, MOST_BYTES // (clips[0].numel() * clips.element_size())))


def _single_thread(_: int) -> None:
    torch.set_num_threads(1)
