"""Which frames a protocol looks at, against the tables of the projects that published it."""

from __future__ import annotations

import math
import random
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from video_clips import VARIABLE, clip

import zoo
from zoo import spec
from zoo.errors import SpecError, VideoError
from zoo.spec import Preprocessing
from zoo.video import probe
from zoo.video.sampling import SAMPLERS, at_times, dense, multi_clip, plan, tsn, uniform


def even(n: int, fps: float | Fraction) -> tuple[float, ...]:
    return tuple(float(k / Fraction(fps)) for k in range(n))


def test_the_samplers_are_those_that_a_preprocessing_can_name():
    assert tuple(SAMPLERS) == spec.SAMPLERS


# N = 300 unless said; computed by the formulas of PySlowFast, PyTorchVideo, MMAction2, transformers, torchvision and
# VideoMAE.
GOLDEN = [
    ("dense_psf", 300, 8, 8, 10, 1.0, 0, [0, 9, 18, 27, 36, 45, 54, 63]),
    ("dense_psf", 300, 8, 8, 10, 1.0, 1, [23, 32, 41, 50, 59, 68, 77, 86]),
    ("dense_psf", 300, 8, 8, 10, 1.0, 9, [212, 221, 230, 239, 248, 257, 266, 275]),
    ("dense_psf", 250, 8, 8, 10, 25 / 30, 9, [177, 184, 191, 199, 206, 214, 221, 229]),
    ("dense_psf", 10, 8, 8, 1, 1.0, 0, [0, 9, 9, 9, 9, 9, 9, 9]),
    # where single precision, torch.linspace(...).long(), falls below a whole number
    (
        "dense_psf",
        231,
        16,
        5,
        3,
        1.0,
        1,
        [50, 55, 60, 66, 71, 76, 81, 87, 92, 97, 102, 108, 113, 118, 124, 129],
    ),
    ("dense_mm", 300, 8, 8, 10, 1.0, 0, [0, 8, 16, 24, 32, 40, 48, 56]),
    ("dense_mm", 300, 8, 8, 10, 1.0, 9, [243, 251, 259, 267, 275, 283, 291, 299]),
    # 243 / 6 = 40.5 and 121.5: to the even neighbour
    ("dense_mm", 300, 8, 8, 7, 1.0, 1, list(range(40, 97, 8))),
    ("dense_mm", 300, 8, 8, 7, 1.0, 3, list(range(122, 179, 8))),
    ("dense_mm", 300, 8, 8, 1, 1.0, 0, [121, 129, 137, 145, 153, 161, 169, 177]),
    ("dense_mm", 300, 32, 2, 1, 1.0, 0, list(range(118, 181, 2))),
    ("segments_mm", 300, 8, 1, 1, 1.0, 0, [18, 56, 93, 131, 168, 206, 243, 281]),
    ("segments_mm", 300, 3, 1, 1, 1.0, 0, [50, 150, 250]),
    ("segments_mm", 300, 25, 1, 1, 1.0, 0, list(range(6, 300, 12))),
    ("segments_mm", 5, 8, 1, 1, 1.0, 0, [0, 0, 1, 2, 2, 3, 4, 4]),
    (
        "uniform_hf",
        300,
        16,
        1,
        1,
        1.0,
        0,
        [0, 18, 37, 56, 75, 93, 112, 131, 150, 168, 187, 206, 225, 243, 262, 281],
    ),
    ("uniform_hf", 300, 8, 1, 1, 1.0, 0, [0, 37, 75, 112, 150, 187, 225, 262]),
    ("dense_psf_offset", 300, 8, 8, 3, 1.0, 1, [118, 127, 136, 145, 154, 163, 172, 181]),
    ("dense_psf_offset", 300, 8, 8, 3, 1.0, 2, [236, 245, 254, 263, 272, 281, 290, 299]),
    ("dense_psf_offset", 300, 8, 8, 1, 1.0, 0, [118, 127, 136, 145, 154, 163, 172, 181]),
    ("subsample_ptv", 300, 8, 8, 1, 1.0, 0, [0, 9, 18, 27, 36, 45, 54, 63]),
    ("subsample_ptv", 300, 8, 38, 1, 1.0, 0, [0, 42, 85, 128, 170, 213, 256, 299]),
    ("subsample_ptv", 300, 8, 8, 10, 1.0, 9, [236, 245, 254, 263, 272, 281, 290, 299]),
    ("subsample_ptv", 5, 8, 8, 1, 1.0, 0, [0, 0, 1, 1, 2, 2, 3, 4]),
    ("subsample_ptv", 600, 8, 8, 1, 2.0, 0, [0, 18, 36, 54, 72, 90, 108, 127]),
    ("segments_mm_twice", 300, 8, 1, 2, 1.0, 0, [18, 56, 93, 131, 168, 206, 243, 281]),
    ("segments_mm_twice", 300, 8, 1, 2, 1.0, 1, [0, 37, 75, 112, 150, 187, 225, 262]),
    ("uniform_mm", 300, 8, 1, 1, 1.0, 0, [18, 55, 93, 130, 168, 205, 242, 280]),
    ("uniform_mm", 300, 8, 1, 3, 1.0, 0, [9, 46, 84, 121, 159, 196, 233, 271]),
    ("uniform_mm", 300, 8, 1, 3, 1.0, 2, [28, 65, 103, 140, 178, 215, 252, 290]),
    ("head_hf", 300, 16, 1, 1, 1.0, 0, list(range(16))),
    ("head_hf", 300, 16, 4, 1, 1.0, 0, [0, 4, 8, 12, 16, 21, 25, 29, 33, 37, 42, 46, 50, 54, 58, 63]),
    # all_index = range(0, n, 4), temporal_step = (75 - 16) / 4, start = int(i * temporal_step)
    ("videomae_k400", 300, 16, 4, 5, 1.0, 0, list(range(0, 64, 4))),
    ("videomae_k400", 300, 16, 4, 5, 1.0, 1, list(range(56, 120, 4))),
    ("videomae_k400", 300, 16, 4, 5, 1.0, 4, list(range(236, 300, 4))),
    ("videomae_k400", 20, 8, 4, 5, 1.0, 3, [0, 4, 8, 12, 16, 16, 16, 16]),
    # tick = n / 16: int(tick * x), then int(tick / 2 + tick * x)
    ("videomae_ssv2", 48, 16, 1, 2, 1.0, 0, list(range(0, 48, 3))),
    ("videomae_ssv2", 48, 16, 1, 2, 1.0, 1, list(range(1, 48, 3))),
    ("videomae_ssv2", 164, 10, 1, 2, 1.0, 1, [8, 24, 41, 57, 73, 90, 106, 122, 139, 155]),
    ("vjepa2_uniform", 300, 8, 1, 1, 1.0, 0, [0, 42, 85, 128, 170, 213, 256, 299]),
    ("uniform", 300, 8, 1, 1, 1.0, 0, [18, 56, 93, 131, 168, 206, 243, 281]),
    ("uniform", 10, 5, 1, 1, 1.0, 0, [1, 3, 5, 7, 9]),
    ("consecutive", 300, 16, 2, 1, 1.0, 0, list(range(134, 165, 2))),
    ("consecutive", 300, 16, 2, 3, 1.0, 2, list(range(269, 300, 2))),
    ("resampled_tv", 300, 16, 1, 1, 1.0, 0, list(range(16))),
    ("resampled_tv", 150, 16, 1, 5, 1.0, 1, list(range(33, 49))),
    ("resampled_tv", 150, 16, 1, 5, 1.0, 4, list(range(134, 150))),
]


@pytest.mark.parametrize(("name", "n", "t", "stride", "clips", "rate", "which", "indices"), GOLDEN)
def test_a_sampler_equals_its_golden_row(name, n, t, stride, clips, rate, which, indices):
    sampled = SAMPLERS[name](n, num_frames=t, stride=stride, clips=clips, rate=rate)
    assert len(sampled) == clips and sampled[which] == indices


@pytest.mark.parametrize("t", [1, 2, 8, 13, 16, 32, 40, 64])
def test_points_are_those_of_torch_in_its_precision(t):
    """As PySlowFast and PyTorchVideo compute them."""
    for n in range(1, 700):
        whole = torch.linspace(0, n - 1, t).clamp(0, n - 1).long().tolist()
        assert SAMPLERS["subsample_ptv"](n, num_frames=t, stride=n)[0] == whole, n
        span, clips = t * 4, 5
        for c, frames in enumerate(SAMPLERS["dense_psf"](n, num_frames=t, stride=4, clips=clips)):
            start = max(n - span, 0) * c / clips
            assert frames == torch.linspace(start, start + span - 1, t).clamp(0, n - 1).long().tolist(), n


def test_five_frames_of_uniform_hf_over_250():
    assert SAMPLERS["uniform_hf"](250, num_frames=16, stride=1, clips=1)[0][:5] == [0, 15, 31, 46, 62]


def test_torchvision_starts_its_clips_by_rounding_down():
    for n, clips in ((150, 5), (87, 7), (1001, 12)):
        sampled = SAMPLERS["resampled_tv"](n, num_frames=16, stride=1, clips=clips)
        assert [c[0] for c in sampled] == [math.floor(Fraction(i * (n - 16), clips - 1)) for i in range(clips)]


@given(
    name=st.sampled_from(spec.SAMPLERS),
    n=st.integers(1, 2000),
    t=st.integers(1, 64),
    stride=st.integers(1, 16),
    clips=st.integers(1, 12),
    rate=st.sampled_from([1.0, 25 / 30, 2.0, 0.1]),
    short=st.sampled_from(["repeat_last", "loop", "spread"]),
)
def test_every_sampler_gives_full_clips_of_frames_that_are_there(name, n, t, stride, clips, rate, short):
    def sample():
        return SAMPLERS[name](n, num_frames=t, stride=stride, clips=clips, rate=rate, short=short)

    sampled = sample()
    assert sampled == sample()
    assert len(sampled) == clips
    for indices in sampled:
        assert len(indices) == t and all(type(i) is int and 0 <= i < n for i in indices)
        assert short == "loop" or indices == sorted(indices)


@given(n=st.integers(1, 500), t=st.integers(1, 40), stride=st.integers(1, 8), clips=st.integers(1, 6))
def test_the_building_blocks_give_frames_that_are_there(n, t, stride, clips):
    for indices in (
        uniform(n, t),
        dense(n, t, stride),
        dense(n, t, stride, start=n - 1),
        *multi_clip(n, t, stride, clips),
    ):
        assert len(indices) == t and 0 <= indices[0] <= indices[-1] < n and indices == sorted(indices)
    for rng in (None, random.Random(n)):
        indices = tsn(n, t, stride, rng=rng)
        assert len(indices) == t * stride and min(indices) >= 0 and max(indices) < n


def test_building_blocks_by_example():
    assert uniform(300, 8) == [18, 56, 93, 131, 168, 206, 243, 281]
    assert dense(10, 3, 2) == [2, 4, 6] and dense(10, 3, 2, start=7) == [7, 9, 9]
    assert multi_clip(10, 2, 1, 3) == [[0, 1], [4, 5], [8, 9]] and multi_clip(10, 2, 1, 1) == [[4, 5]]
    assert tsn(300, 3) == [50, 150, 250] and tsn(12, 2, 3) == [2, 3, 4, 7, 8, 9]
    drawn = [tsn(300, 3, rng=random.Random(seed)) for seed in range(50)]
    assert len({tuple(d) for d in drawn}) > 40
    assert all(0 <= a < 100 <= b < 200 <= c < 300 for a, b, c in drawn)


# --- too short --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sampler", "short", "n", "indices"),
    [
        ("dense_mm", "loop", 10, [0, 8, 6, 4, 2, 0, 8, 6]),
        ("dense_mm", "repeat_last", 10, [0, 8, 9, 9, 9, 9, 9, 9]),
        ("consecutive", "spread", 5, [0, 0, 1, 1, 2, 2, 3, 4]),
        ("uniform", "loop", 5, [0, 0, 1, 2, 2, 3, 4, 4]),
        ("consecutive", "repeat_last", 1, [0] * 8),
    ],
)
def test_a_short_video_follows_the_policy(sampler, short, n, indices):
    p = Preprocessing(num_frames=8, stride=8, sampler=sampler, short=short)
    assert plan(p, even(n, 30)) == [indices]


@pytest.mark.parametrize(("sampler", "needed"), [("consecutive", 57), ("uniform_hf", 8)])
def test_a_short_video_can_be_an_error_that_says_what_is_needed(sampler, needed):
    p = Preprocessing(num_frames=8, stride=8, sampler=sampler, short="error")
    assert len(plan(p, even(needed, 30))[0]) == 8
    with pytest.raises(VideoError, match=f"has {needed - 1} frames .* needs {needed}: .*repeat_last"):
        plan(p, even(needed - 1, 30))


# --- by time ----------------------------------------------------------------------------------------------------------


def test_the_frame_at_a_time_is_the_last_one_not_later():
    times = (0.0, 0.1, 0.2, 0.9)
    assert at_times(times, [-1, 0, 0.05, 0.1, 0.3 - 0.1, 0.5, 0.9, 99]) == [0, 0, 0, 1, 2, 2, 3, 3]
    assert at_times(even(300, 30), [k / 30 for k in range(300)]) == list(range(300))
    assert at_times(np.array(times), np.array([0.15])) == [1]
    assert at_times(probe(clip("variable.mp4")), [0.205]) == [3]


RATES = [(30, 15), (30, 7.5), (25, 15), (25, 7.5), (24, 8), (Fraction(30000, 1001), 15), (60, 15), (15, 30), (30, 30)]


@pytest.mark.parametrize(("native", "target"), RATES)
def test_a_constant_rate_is_resampled_as_torchvision_does(native, target):
    n = 300
    count = math.floor(n * Fraction(target) / native)
    p = Preprocessing(num_frames=count, sampler="consecutive", fps=float(target))
    truth = [math.floor(j * native / Fraction(target)) for j in range(count)]
    for options in ({}, {"fps": float(native)}, {"duration_s": float(n / Fraction(native))}):
        assert plan(p, even(n, native), **options) == [truth]


@pytest.mark.parametrize(
    ("native", "target", "first"),
    [
        (30, 15, [0, 2, 4, 6]),
        (30, 7.5, [0, 4, 8, 12]),
        (25, 15, [0, 1, 3, 5, 6, 8, 10, 11]),
        (25, 7.5, [0, 3, 6, 10, 13, 16, 20, 23]),
    ],
)
def test_resampling_equals_its_golden_row(native, target, first):
    p = Preprocessing(num_frames=len(first), sampler="resampled_tv", fps=target)
    assert plan(p, even(300, native)) == [first]


@pytest.mark.parametrize("name", ["h264.mkv", "no_duration.webm"])
def test_milliseconds_of_matroska_do_not_move_a_frame(name):
    index = probe(clip(name))  # 30 frames per second, stored as 0, 33, 67, 100 ms
    p = Preprocessing(num_frames=20, sampler="consecutive", fps=15)
    assert plan(p, index.time_s, duration_s=index.duration_s) == [list(range(0, 40, 2))]


def test_a_variable_rate_is_resampled_by_time():
    times = (0.0, 0.1, 0.2, 1.0, 1.1, 1.9)
    p = Preprocessing(num_frames=8, sampler="consecutive", fps=4)
    assert plan(p, times, duration_s=2.0) == [[0, 2, 2, 2, 3, 4, 4, 4]]


@pytest.mark.parametrize("name", ["variable.mp4", "variable.mkv"])
def test_a_rate_takes_from_a_file_what_is_shown_at_its_times(name):
    p = Preprocessing(num_frames=7, sampler="resampled_tv", fps=5)
    clips = zoo.load_clips(p, clip(name))
    assert clips.indices == [[max(k for k, t in enumerate(VARIABLE) if t <= 200 * j) for j in range(7)]]


def test_a_still_has_at_least_one_virtual_frame():
    assert plan(Preprocessing(num_frames=2, sampler="consecutive", fps=4), (0.0,), fps=30) == [[0, 0]]
    assert plan(Preprocessing(num_frames=2, sampler="uniform"), (0.0,)) == [[0, 0]]


def test_a_head_is_a_head_however_long_the_video_is():
    p = Preprocessing(num_frames=8, stride=4, sampler="head_hf")
    assert plan(p, even(300, 30), clips="centre") == plan(p, even(3000, 30)) == [[0, 4, 8, 13, 17, 22, 26, 31]]


def test_pytorchvideo_takes_seconds_not_frames():
    p = Preprocessing(num_frames=8, stride=8, sampler="subsample_ptv", fps=30)
    assert plan(p, even(600, 60)) == [[0, 18, 36, 54, 72, 90, 108, 127]]


def test_pyslowfast_scales_its_span_instead_of_resampling():
    p = Preprocessing(num_frames=8, stride=8, sampler="dense_psf", fps=30, clips=10)
    assert plan(p, even(250, 25))[9] == [177, 184, 191, 199, 206, 214, 221, 229]


# --- views and windows ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", [name for name in spec.SAMPLERS if name != "head_hf"])
def test_the_centre_clip_lies_in_the_centre(sampler):
    p = Preprocessing(num_frames=8, stride=4, sampler=sampler, clips=10)
    (centre,) = plan(p, even(300, 30), clips="centre")
    slack = 60 if sampler.startswith("dense_psf") else 20  # whose clips stop short of the end
    assert abs(sum(centre) / 8 - 150) < slack
    assert len(plan(p, even(300, 30))) == 10 and len(plan(p, even(300, 30), clips=4)) == 4


@pytest.mark.parametrize("clips", ["left", 0, 1.5])
def test_a_number_of_clips_that_makes_no_sense_raises(clips):
    with pytest.raises(SpecError):
        plan(Preprocessing(num_frames=8), even(30, 30), clips=clips)


def test_a_window_holds_what_is_shown_in_it():
    p = Preprocessing(num_frames=30, sampler="consecutive")
    assert plan(p, even(300, 30), start_s=2.0, end_s=3.0, clips=2) == [list(range(60, 90))] * 2
    assert plan(p, even(300, 30), start_s=9.0) == [list(range(270, 300))]
    assert plan(p, even(300, 30), end_s=1.0) == [list(range(30))]
    one = Preprocessing(num_frames=1)
    assert plan(one, (0.0, 1.0, 5.0), start_s=3.0, end_s=4.0, duration_s=6.0) == [[1]]


def test_a_window_is_resampled_from_its_own_start():
    p = Preprocessing(num_frames=15, sampler="consecutive", fps=15)
    assert plan(p, even(300, 30), start_s=2.0, end_s=3.0) == [list(range(60, 90, 2))]


@given(
    start=st.floats(0, 9.9),
    length=st.floats(0.01, 12),
    fps=st.sampled_from([None, 7.5, 15.0, 60.0]),
    sampler=st.sampled_from(spec.SAMPLERS),
)
def test_every_frame_of_a_window_is_shown_in_it(start, length, fps, sampler):
    times = even(300, 30)
    p = Preprocessing(num_frames=4, sampler=sampler, fps=fps, clips=2)
    for indices in plan(p, times, start_s=start, end_s=start + length):
        for i in indices:
            assert times[i] <= start + length and times[i] + 1 / 30 >= start - 1e-5


@pytest.mark.parametrize(("start", "end"), [(3.0, 2.0), (10.0, 12.0), (2.0, 2.0)])
def test_an_empty_window_raises_and_says_how_long_the_video_is(start, end):
    with pytest.raises(VideoError, match=r"the video lasts 10\.00 s"):
        plan(Preprocessing(num_frames=4), even(300, 30), start_s=start, end_s=end)


def test_no_frames_raise():
    with pytest.raises(VideoError, match="no frames"):
        plan(Preprocessing(num_frames=4), ())
    with pytest.raises(SpecError):
        uniform(10, 0)


def test_a_gap_of_months_costs_nothing():
    protocol = Preprocessing(num_frames=4, fps=8, sampler="consecutive")
    assert plan(protocol, [0.0, 0.1, 0.2, 5e9], duration_s=5e9 + 1, clips="centre") == [[2, 2, 2, 2]]
