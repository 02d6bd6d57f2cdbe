"""How far two models are apart, on clips of videos."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from zoo import synth
from zoo.contract import VideoModel
from zoo.deploy.facts import Comparison
from zoo.deploy.rerun import OUTPUTS
from zoo.errors import DeploymentError, SpecError
from zoo.tasks.running import evaluating
from zoo.video.clips import load_clips, protocol_of

LOGITS, EMBEDDING = OUTPUTS
SIZE = 160  # of generated videos, which are square, as the clips of most protocols


def clips_of(model: VideoModel, videos: Iterable[Any] | None, *, seed: int = 0, count: int = 9) -> Tensor:
    """One clip of each video, `[N, C, T, H, W]`, by the model's protocol; of `count` generated ones if None is given.

    Raises VideoError; SpecError without any video, or for clips of several shapes.
    """
    protocol = protocol_of(model)
    if videos is None:
        labels = [synth.LABELS[i % len(synth.LABELS)] for i in range(count)]
        drawn = (synth.generate(label, seed=seed + i, fps=15, size=(SIZE, SIZE)) for i, label in enumerate(labels))
        found = [load_clips(protocol, clip.frames, fps=clip.fps, views="fast").data for clip in drawn]
    else:
        if isinstance(videos, str | bytes):
            raise SpecError(f"videos={videos!r:.80} is one video", hint="give a list of videos")
        found = [load_clips(protocol, video, views="fast").data for video in videos]
    if len({clips.shape for clips in found}) != 1:
        shapes = ", ".join(sorted({str(tuple(clips.shape[1:])) for clips in found}))
        raise SpecError(f"videos give clips of {shapes or 'no shape'}", hint="give videos whose clips have one shape")
    return torch.cat(found)


def answers(model: VideoModel, clips: Tensor, output: str = LOGITS) -> Tensor:
    """What the model says of each clip, `[N, K]`, float32 on the CPU; features where it has no classifier.

    output: of those that an exported file has.
    """
    say = model if output == LOGITS else model.forward_embedding
    like = next(model.parameters(), torch.empty(0))
    with evaluating(model), torch.no_grad():
        return torch.cat([say(clip.to(like.device, like.dtype)).float().cpu() for clip in clips[:, None]])


def distance(said: Tensor, wanted: Tensor) -> float:
    """The largest difference by the largest value. Not a number is as far away as can be."""
    far = float((said - wanted).abs().max() / wanted.abs().max().clamp_min(1e-30))
    return far if far == far else float("inf")


def compare(said: Tensor, wanted: Tensor, embeddings: tuple[Tensor, Tensor] | None = None) -> Comparison:
    """What one model said, and what the original says, of the same clips. embeddings: of the one and of the other."""
    same = (said.argmax(-1) == wanted.argmax(-1)).float().mean()
    apart = None if embeddings is None else distance(*embeddings)
    return Comparison(len(wanted), distance(said, wanted), float(same), apart)


def check(comparison: Comparison, *, max_distance: float, min_agreement: float, what: str) -> None:
    """Raise DeploymentError where they are too far apart."""
    distances = [far for far in (comparison.distance, comparison.embedding) if far is not None]
    near = all(math.isfinite(far) and far <= max_distance for far in distances)
    if not near or comparison.agreement < min_agreement:
        raise DeploymentError(
            f"{what} says something else than the original ({comparison})",
            hint=f"at most {max_distance:g} and at least {min_agreement:.0%} are allowed, by max_distance= and "
            "min_agreement=; videos= of the kind that it is for may tell more",
        )
