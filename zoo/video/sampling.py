"""Which frames a protocol looks at: integers from integers, equal to the projects whose weights we run.

A sampler of the table gives `clips` lists of `num_frames` indices into n frames. `plan` runs a whole protocol on the
frame times of a file: it resamples by time where the protocol asks for a rate, samples, and maps back.
"""

from __future__ import annotations

import dataclasses
import math
import random
import struct
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from zoo.errors import SpecError, VideoError
from zoo.spec import SHORT_POLICIES, Preprocessing

Clip = list[int]

# Times are sums of rationals rounded to floats; frames of real video are further apart than this.
EPSILON = 1e-6


# --- building blocks --------------------------------------------------------------------------------------------------


def uniform(n: int, t: int) -> Clip:
    """The centres of t equal parts."""
    _check(n, t)
    return [(2 * i + 1) * n // (2 * t) for i in range(t)]


def dense(n: int, t: int, stride: int = 1, start: int | None = None) -> Clip:
    """t frames, `stride` apart; start None puts them in the centre. Past the end, the last frame repeats."""
    _check(n, t, stride)
    if start is None:
        start = _free(n, t, stride) // 2
    return [min(max(start + j * stride, 0), n - 1) for j in range(t)]


def tsn(n: int, segments: int, per_segment: int = 1, *, rng: random.Random | None = None) -> Clip:
    """`per_segment` consecutive frames from each of `segments` equal parts: the centre, or with `rng` anywhere."""
    _check(n, segments, per_segment)
    average = max(n - per_segment + 1, 0) / segments
    starts = [int(i * average + (average / 2 if rng is None else rng.random() * average)) for i in range(segments)]
    return [min(start + j, n - 1) for start in starts for j in range(per_segment)]


def multi_clip(n: int, t: int, stride: int, clips: int) -> list[Clip]:
    """Several `dense` clips, the first at the start and the last at the end; a single one in the centre."""
    _check(n, t, stride, clips)
    return [fit(clip, n, "repeat_last") for clip in _consecutive(n, t, stride, clips, 1.0)]


def at_times(index: Any, seconds: Iterable[float]) -> Clip:
    """For each time, the frame that is shown then: the last one not later. Before the first it is the first.

    index: a VideoIndex, or the times of the frames, never decreasing.
    """
    times: Sequence[float] = getattr(index, "time_s", index)
    _check(len(times))
    return [max(bisect_right(times, s + EPSILON) - 1, 0) for s in seconds]


def fit(clip: Clip, n: int, short: str) -> Clip:
    """A clip that may run past the end of n frames, brought inside by the protocol's policy for short videos."""
    if short not in SHORT_POLICIES:
        raise SpecError(f"short={short!r}", hint="choose one of " + ", ".join(SHORT_POLICIES))
    needed = max(max(clip) + 1, len(clip))
    if short == "error" and n < needed:
        raise VideoError(
            f"the video has {n} frames at the protocol's rate, and a clip needs {needed}",
            hint="give a longer video, or set short='repeat_last' in the preprocessing",
            reason="too short",
        )
    if max(clip) < n:
        return clip
    if short == "loop":
        return [i % n for i in clip]
    if short == "spread":
        return [j * (n - 1) // max(len(clip) - 1, 1) for j in range(len(clip))]
    return [min(i, n - 1) for i in clip]


# --- the samplers of published protocols ------------------------------------------------------------------------------
# f(n, t, stride, clips, rate), running past the end where the video is too short.


def _uniform(n: int, t: int, stride: int, clips: int, rate: float) -> list[Clip]:
    """Ours: the centres of t parts; several clips interleave."""
    return [[(2 * i * clips + 2 * c + 1) * n // (2 * t * clips) for i in range(t)] for c in range(clips)]


def _consecutive(n: int, t: int, stride: int, clips: int, rate: float) -> list[Clip]:
    """Ours: clips spread evenly from the start to the end; a single one in the centre."""
    free = _free(n, t, stride)
    starts = [free // 2] if clips == 1 else [c * free // (clips - 1) for c in range(clips)]
    return [[start + j * stride for j in range(t)] for start in starts]


def _resampled_tv(n: int, t: int, stride: int, clips: int, rate: float) -> list[Clip]:
    """torchvision's UniformClipSampler: the same, except that a single clip is the first one."""
    return [[j * stride for j in range(t)]] if clips == 1 else _consecutive(n, t, stride, clips, rate)


def _dense_psf(n: int, t: int, stride: int, clips: int, rate: float) -> list[Clip]:
    """PySlowFast: t points on a span of t * stride frames at the target rate; the last clip stops short of the end."""
    free = max(n - t * stride * rate, 0.0)
    return [_points(free * c / clips, t, t * stride * rate) for c in range(clips)]


def _dense_psf_offset(n: int, t: int, stride: int, clips: int, rate: float) -> list[Clip]:
    """PySlowFast with USE_OFFSET_SAMPLING: whole steps, the last clip at the end, a single one in the centre."""
    free = max(n - t * stride * rate, 0.0)
    starts = [free // 2] if clips == 1 else [c * (free // (clips - 1)) for c in range(clips)]
    return [_points(start, t, t * stride * rate) for start in starts]


def _points(start: float, t: int, span: float) -> Clip:
    return [math.floor(x) for x in _linspace(start, start + max(span - 1, 0.0), t)]


def _linspace(start: float, end: float, t: int) -> list[float]:
    """torch.linspace(start, end, t) in its single precision, from both ends to the middle, on which floors depend."""
    start, end = _single(start), _single(end)
    step = _single(_single(end - start) / max(t - 1, 1))
    return [_single(start + i * step if i < max(t // 2, 1) else end - (t - 1 - i) * step) for i in range(t)]


def _single(x: float) -> float:
    return float(struct.unpack("f", struct.pack("f", x))[0])


def _subsample_ptv(n: int, t: int, stride: int, clips: int, rate: float) -> list[Clip]:
    """PyTorchVideo: of the frames within t * stride at the target rate, t from the first to the last.

    Clips are spread evenly from the start to the end, a single one is the first. A short video gives what it has.
    """
    span = min(t * stride * rate, float(n))
    starts = [(n - span) * c / max(clips - 1, 1) for c in range(clips)]
    bounds = [(math.ceil(s - EPSILON), math.ceil(s + span - EPSILON)) for s in starts]
    return [[first + k for k in _points(0, t, end - first)] for first, end in bounds]


def _ends(n: int, t: int) -> Clip:
    """From the first to the last of n frames, rounded down."""
    return [j * (n - 1) // max(t - 1, 1) for j in range(t)]


def _dense_mm(n: int, t: int, stride: int, clips: int, rate: float) -> list[Clip]:
    """MMAction2's SampleFrames in test mode: starts rounded half to even, a single clip in the centre."""
    free = _free(n, t, stride)
    starts = [free // 2] if clips == 1 else [round(c * (free / (clips - 1))) for c in range(clips)]
    return [[start + j * stride for j in range(t)] for start in starts]


def _segments_mm(n: int, t: int, stride: int, clips: int, rate: float) -> list[Clip]:
    """MMAction2's TSN and TSM: centres of t segments, in its floats; several clips interleave."""
    average = n / t
    return [[int(i * average + average * (2 * c + 1) / (2 * clips)) for i in range(t)] for c in range(clips)]


def _uniform_hf(n: int, t: int, stride: int, clips: int, rate: float) -> list[Clip]:
    """transformers' video processors: the starts of t segments, never the end; several clips interleave."""
    return [[(i * clips + c) * n // (t * clips) for i in range(t)] for c in range(clips)]


def _segments_mm_twice(n: int, t: int, stride: int, clips: int, rate: float) -> list[Clip]:
    """MMAction2's twice_sample: first the centres of t segments, then their starts."""
    average, steps = n / t, max(clips - 1, 1)
    return [[int(i * average + average * (steps - c) / (2 * steps)) for i in range(t)] for c in range(clips)]


def _uniform_mm(n: int, t: int, stride: int, clips: int, rate: float) -> list[Clip]:
    """MMAction2's UniformSample: t steps that leave room at the end, clips moved within a step."""
    step = (n - 1) / t
    return [[round(step * j) + int(step / (clips + 1) * (c + 1)) for j in range(t)] for c in range(clips)]


def _head_hf(n: int, t: int, stride: int, clips: int, rate: float) -> list[Clip]:
    """transformers' older pipeline: t points on the first t * stride frames, whatever comes after; then the next."""
    return [[c * t * stride + k for k in _ends(t * stride, t)] for c in range(clips)]


def _videomae_k400(n: int, t: int, stride: int, clips: int, rate: float) -> list[Clip]:
    """VideoMAE's test views: windows over every stride-th frame of the whole video; a single one in the centre."""
    kept = -(-n // stride)
    free = max(kept - t, 0)
    starts = [free // 2] if clips == 1 else [int(c * (free / (clips - 1))) for c in range(clips)]
    return [[min(start + j, kept - 1) * stride for j in range(t)] for start in starts]


def _videomae_ssv2(n: int, t: int, stride: int, clips: int, rate: float) -> list[Clip]:
    """VideoMAE: the starts of t segments, in its floats; several clips interleave."""
    tick = n / t
    return [[int(tick * c / clips + tick * i) for i in range(t)] for c in range(clips)]


def _vjepa2_uniform(n: int, t: int, stride: int, clips: int, rate: float) -> list[Clip]:
    """V-JEPA 2's probes, as reported and not compared with their code: t frames from the first to the last.

    Several clips divide the video among them.
    """
    bounds = [(c * n // clips, (c + 1) * n // clips) for c in range(clips)]
    return [[min(first, n - 1) + k for k in _ends(max(end - first, 1), t)] for first, end in bounds]


_RAW: dict[str, Callable[[int, int, int, int, float], list[Clip]]] = {
    "uniform": _uniform,
    "consecutive": _consecutive,
    "resampled_tv": _resampled_tv,
    "dense_psf": _dense_psf,
    "dense_psf_offset": _dense_psf_offset,
    "subsample_ptv": _subsample_ptv,
    "dense_mm": _dense_mm,
    "segments_mm": _segments_mm,
    "segments_mm_twice": _segments_mm_twice,
    "uniform_mm": _uniform_mm,
    "uniform_hf": _uniform_hf,
    "head_hf": _head_hf,
    "videomae_k400": _videomae_k400,
    "videomae_ssv2": _videomae_ssv2,
    "vjepa2_uniform": _vjepa2_uniform,
}
# A single clip of these covers all that the protocol looks at; for the others the middle one of three is the centre.
WHOLE = (
    *("uniform", "segments_mm", "segments_mm_twice", "uniform_mm", "uniform_hf", "head_hf"),
    *("videomae_ssv2", "vjepa2_uniform"),
)
# Those that stretch their span by the file's own rate instead of resampling it.
_STRETCHED = ("dense_psf", "dense_psf_offset", "subsample_ptv")
# One clip of these is spread over the whole video.
_SPREAD = frozenset(WHOLE) - {"head_hf"}


class Sampler(Protocol):
    """`clips` lists of `num_frames` indices, each in 0..n-1.

    rate: frames per second of the file over those of the protocol; some scale their span by it.
    """

    def __call__(
        self, n: int, *, num_frames: int, stride: int = 1, clips: int = 1, rate: float = 1.0, short: str = "repeat_last"
    ) -> list[Clip]: ...


def _sampler(name: str) -> Sampler:
    def sample(
        n: int, *, num_frames: int, stride: int = 1, clips: int = 1, rate: float = 1.0, short: str = "repeat_last"
    ) -> list[Clip]:
        _check(n, num_frames, stride, clips)
        return [fit(clip, n, short) for clip in _RAW[name](n, num_frames, stride, clips, rate)]

    return sample


SAMPLERS: dict[str, Sampler] = {name: _sampler(name) for name in _RAW}


# --- the whole protocol -----------------------------------------------------------------------------------------------


def plan(
    preprocessing: Preprocessing,
    time_s: Sequence[float],
    *,
    fps: float | None = None,
    duration_s: float | None = None,
    clips: int | str | None = None,
    start_s: float | None = None,
    end_s: float | None = None,
) -> list[Clip]:
    """The frames of the file that each clip of the protocol takes.

    time_s: when each frame is shown. fps, duration_s: of the whole file; None derives them from the times.
    clips: None is the protocol's number, "centre" one clip in the middle. start_s, end_s: only what is shown then.
    """
    p = preprocessing
    _check(len(time_s))
    fps = fps or _rate(time_s, duration_s, p.fps)
    end = duration_s if duration_s is not None else time_s[-1] + 1 / fps
    first, last = 0, len(time_s) - 1
    start = time_s[0]
    if start_s is not None or end_s is not None:
        start, end = max(start_s or 0.0, start), min(end if end_s is None else end_s, max(end, time_s[-1]))
        if start >= end:
            raise _empty(start_s, end_s, duration_s or time_s[-1] + 1 / fps)
        first = at_times(time_s, [start])[0]
        last = max(bisect_left(time_s, end - EPSILON) - 1, first)
    # Only the number of frames at the protocol's rate is computed here, never all of their times: it can be far larger
    # than the number of frames in the file.
    resampled_to = p.fps if p.sampler not in _STRETCHED else None
    count = last - first + 1 if resampled_to is None else max(math.floor((end - start) * resampled_to + EPSILON), 1)
    rate = fps / p.fps if p.fps and resampled_to is None else 1.0
    centre = clips == "centre"
    number = (1 if p.sampler in WHOLE else 3) if centre else p.clips if clips is None else clips
    if not isinstance(number, int):
        raise SpecError(f"clips={clips!r}", hint="clips is a number, 'centre', or None for the protocol's own")
    sampled = SAMPLERS[p.sampler](
        count, num_frames=p.num_frames, stride=p.stride, clips=number, rate=rate, short=p.short
    )
    if centre:
        sampled = [sampled[number // 2]]
    if resampled_to is None:
        return [[first + i for i in clip] for clip in sampled]
    return [at_times(time_s, (start + i / resampled_to for i in clip)) for clip in sampled]


def random_clip(
    preprocessing: Preprocessing,
    time_s: Sequence[float],
    rng: random.Random,
    *,
    fps: float,
    duration_s: float,
    span: tuple[float, float] | None = None,
    speed: float = 1.0,
) -> Clip:
    """The frames of one clip for training: as the protocol takes them, but from a place that `rng` draws.

    Protocols that spread a clip over the whole video take a frame anywhere in each of its parts, as TSN does.
    span: (start_s, end_s) to stay within. speed: the clip runs so many times as fast.
    """
    p = preprocessing
    start, end = (0.0, duration_s) if span is None else (max(span[0], 0.0), min(span[1], duration_s))
    if start >= end:
        raise _empty(start, end, duration_s)
    if p.sampler in _SPREAD:
        first = at_times(time_s, [start])[0]
        last = max(bisect_left(time_s, end - EPSILON) - 1, first)
        return [first + i for i in tsn(last - first + 1, p.num_frames, rng=rng)]
    rate = (p.fps or fps) / speed
    length = p.num_frames * p.stride / rate
    if end - start > length:
        start += rng.random() * (end - start - length)
        end = start + length
    if speed != 1.0:
        p = dataclasses.replace(p, fps=rate)
    return plan(p, time_s, fps=fps, duration_s=duration_s, clips=1, start_s=start, end_s=end)[0]


def _empty(start_s: float | None, end_s: float | None, duration_s: float) -> VideoError:
    return VideoError(
        f"nothing is shown from {start_s} s to {end_s} s",
        hint=f"the video lasts {duration_s:.2f} s",
        reason="empty window",
    )


def _rate(time_s: Sequence[float], duration_s: float | None, fallback: float | None) -> float:
    if duration_s:
        return len(time_s) / duration_s
    span = time_s[-1] - time_s[0]
    return (len(time_s) - 1) / span if span > 0 else fallback or 1.0


def _free(n: int, t: int, stride: int) -> int:
    """How far a clip of t frames can be moved."""
    return max(n - (t - 1) * stride - 1, 0)


def _check(n: int, *counts: int) -> None:
    if n < 1:
        raise VideoError("there are no frames to sample from", hint="the video is empty", reason="no frames")
    if min(counts, default=1) < 1:
        raise SpecError(f"cannot sample with {counts}", hint="numbers of frames, clips and strides are at least 1")
