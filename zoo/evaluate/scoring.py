"""Run a network over labelled videos: all views of each, by the protocol, on one process or many with equal results."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from zoo.contract import VideoModel
from zoo.data import Sample
from zoo.errors import DataError, GeometryError, VideoError
from zoo.processes import World, decoded, leave_signals
from zoo.spec import Preprocessing
from zoo.tasks.classification import aggregate
from zoo.tasks.running import evaluating
from zoo.video.clips import ViewsOption, iter_views, view_counts
from zoo.video.footage import settled

MOST_BYTES = 64 << 20  # of the clips in one forward
MOST_VIDEOS = 8  # that are read together


@dataclass(frozen=True)
class Outcome:
    """What the model makes of one video. sample: its number. target: that of its label.

    scores: `[K]`, of the video. clips: `[N, K]`, of each of its clips, whose crops are aggregated. logits: `[V, K]`, of
    all views. error: why it could not be read; then there are no scores.
    """

    sample: int
    target: int
    scores: Tensor | None = None
    clips: Tensor | None = None
    logits: Tensor | None = None
    error: str = ""

    @classmethod
    def of(cls, sample: int, target: int, logits: Tensor, protocol: Preprocessing, crops: int) -> Outcome:
        """From the logits of a video's views, clip by clip."""
        clips = torch.stack([aggregate(clip, protocol) for clip in torch.split(logits, crops)])
        return cls(sample, target, aggregate(logits, protocol), clips, logits)

    @property
    def best(self) -> int:
        """The class with the highest score; -1 without scores."""
        return -1 if self.scores is None else int(self.scores.argmax())


@dataclass(frozen=True)
class Scores:
    """One outcome for each sample, in order.

    seconds: that it took, of the slowest process. views: of each video. crops: views of one clip.
    """

    outcomes: tuple[Outcome, ...]
    seconds: float
    views: int
    crops: int

    def under(self, protocol: Preprocessing) -> Scores:
        """What another activation, aggregation or temperature makes of the same logits."""
        changed = (
            one if one.logits is None else Outcome.of(one.sample, one.target, one.logits, protocol, self.crops)
            for one in self.outcomes
        )
        return replace(self, outcomes=tuple(changed))

    @property
    def scored(self) -> list[Outcome]:
        """Those that could be read."""
        return [outcome for outcome in self.outcomes if not outcome.error]

    def accuracy(self, k: int = 1, level: str = "video") -> float:
        """Percent of the videos, or of their clips, whose label is among the k best. 0 if none could be read."""
        right = total = 0
        for outcome in self.scored:
            assert outcome.scores is not None and outcome.clips is not None
            rows = outcome.scores.unsqueeze(0) if level == "video" else outcome.clips
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
            footage = sample.open()

            def read() -> Tensor:
                windows = None
                if sample.span is not None:
                    windows = [(sample.span[0], min(sample.span[1], footage.duration_s))]
                (found,) = iter_views(self.protocol, footage, views=self.views, windows=windows)
                return torch.stack([found.clip(v) for v in range(len(found))])

            return i, settled(read)
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
    workers: int = 0,
    around: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> Scores:
    """What the model makes of each sample, the same in every process.

    labels: in the order of the logits. workers: processes that decode, for each that computes. around: makes what each
    forward runs in. Blocks of videos are dealt to the processes in turn, so that each forward is the same on one
    process and on many.
    """
    number = {label: i for i, label in enumerate(labels)}
    clips, crops = view_counts(protocol, views)
    each = (1 if clips == "centre" else clips) * crops
    batch = _videos_at_once(protocol, each)
    blocks = [range(at, min(at + batch, len(samples))) for at in range(0, len(samples), batch)]
    videos = DataLoader(
        _Videos(samples, protocol, views),
        batch_sampler=[list(block) for block in blocks[world.rank :: world.size]],
        collate_fn=list,
        num_workers=min(workers, len(blocks)),
        worker_init_fn=leave_signals if workers else None,
        generator=torch.Generator(),
    )
    began = time.perf_counter()
    found: dict[int, Outcome] = {}
    with evaluating(model):
        for block in decoded(videos, DataError):
            fitting = [(i, said if isinstance(said, str) else _fitting(model, said)) for i, said in block]
            errors = [(i, said) for i, said in fitting if isinstance(said, str)]
            read = [(i, said) for i, said in fitting if isinstance(said, Tensor)]
            found |= {i: Outcome(i, number[samples[i].label], error=said) for i, said in errors}
            logits = _logits(model, [video for _, video in read], world.device, around)
            for (i, _), rows in zip(read, logits, strict=True):
                found[i] = Outcome.of(i, number[samples[i].label], rows.clone(), protocol, crops)
    everywhere = world.gather((found, time.perf_counter() - began))
    found = {i: outcome for others, _ in everywhere for i, outcome in others.items()}
    slowest = max(seconds for _, seconds in everywhere)
    return Scores(tuple(found[i] for i in range(len(samples))), slowest, each, crops)


def _fitting(model: VideoModel, clips: Tensor) -> Tensor | str:
    """The clips, or why the model does not take them: a protocol may leave the size to the video."""
    try:
        model.check_geometry(clips)
    except GeometryError as error:
        return str(error)
    return clips


def _logits(
    model: VideoModel,
    videos: Sequence[Tensor],
    device: torch.device,
    around: Callable[[], AbstractContextManager[object]],
) -> Iterator[Tensor]:
    """float32 `[V, K]` of each video; views of several videos run together where they are of one size."""
    like = next(model.parameters(), torch.empty(0))
    rows = []
    for clips in _forwards(videos):
        with torch.no_grad(), around():
            rows.append(model(clips.to(device, like.dtype)).float().cpu())
    return iter(torch.split(torch.cat(rows), [len(video) for video in videos]) if rows else [])


def _forwards(videos: Sequence[Tensor]) -> Iterable[Tensor]:
    groups = [torch.cat(list(videos))] if len({video.shape[1:] for video in videos}) == 1 else list(videos)
    for clips in groups:
        yield from torch.split(clips, max(1, MOST_BYTES // (clips[0].numel() * clips.element_size())))


def _videos_at_once(protocol: Preprocessing, views: int) -> int:
    """As many as fill one forward; never by what the files are, so that blocks are the same everywhere."""
    size = protocol.crop or protocol.resize or 0
    height, width = (size, size) if isinstance(size, int) else size
    video = max(1, views * protocol.num_frames * 3 * height * width * 4)
    return min(max(1, MOST_BYTES // video), MOST_VIDEOS)
