"""Pixels: bit for bit what torchvision gives, from frames as they lie in memory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as v1
from torchvision.transforms.v2 import functional as v2

from zoo.errors import SpecError, VideoError
from zoo.spec import INTERPOLATIONS, Preprocessing
from zoo.video.transforms import crop_boxes, output_size, resize, to_clip


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).integers(0, 256, shape, dtype=np.uint8)


def theirs(frames: np.ndarray, size, mode: str, antialias: bool) -> np.ndarray:
    planes = torch.from_numpy(frames).permute(0, 3, 1, 2).contiguous()
    size = [size] if isinstance(size, int) else list(size)
    return v2.resize(planes, size, InterpolationMode(mode), antialias=antialias).permute(0, 2, 3, 1).numpy()


@pytest.mark.parametrize("mode", INTERPOLATIONS)
@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("size", [(128, 171), 112, 256, (37, 301), (2, 1), 90])
@pytest.mark.parametrize("shape", [(3, 240, 320), (1, 241, 319), (2, 100, 57), (1, 90, 90), (2, 1, 5)])
def test_a_resize_is_bit_equal_to_torchvision(mode, antialias, size, shape):
    frames = noise(*shape, 3)
    ours = resize(frames, size, mode, antialias)
    assert ours.flags.c_contiguous and ours.dtype == np.uint8
    assert np.array_equal(ours, theirs(frames, size, mode, antialias))


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 120),
    width=st.integers(1, 120),
    target=st.tuples(st.integers(1, 150), st.integers(2, 150)),
    mode=st.sampled_from(INTERPOLATIONS),
    antialias=st.booleans(),
)
def test_a_resize_is_bit_equal_for_any_size(height, width, target, mode, antialias):
    frames = noise(2, height, width, 3)
    assert np.array_equal(resize(frames, target, mode, antialias), theirs(frames, target, mode, antialias))


def test_a_resize_is_bit_equal_on_a_processor_without_vector_instructions():
    code = (
        "import torch, sys; assert torch.backends.cpu.get_cpu_capability() == 'DEFAULT';"
        "sys.path.insert(0, sys.argv[1]); import test_video_transforms as t;"
        "[t.test_a_resize_is_bit_equal_to_torchvision(m, a, s, (2, 70, 93))"
        " for m in t.INTERPOLATIONS for a in (True, False) for s in ((128, 171), 32, (37, 301))]"
    )
    environment = os.environ | {"ATEN_CPU_CAPABILITY": "default"}
    done = subprocess.run(
        [sys.executable, "-c", code, str(Path(__file__).parent)], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("mode", INTERPOLATIONS)
def test_a_single_pixel_can_be_wanted_although_torch_fails_for_planes(mode):
    frames = torch.full((2, 3, 5, 7), 200, dtype=torch.uint8).permute(0, 2, 3, 1)
    assert resize(frames, (1, 1), mode).tolist() == [[[[200] * 3]]] * 2


@pytest.mark.parametrize("mode", INTERPOLATIONS)
def test_however_frames_come_the_pixels_are_the_same(mode):
    frames = noise(2, 50, 70, 3)
    truth = resize(frames, 33, mode)
    frozen = frames.copy()
    frozen.flags.writeable = False
    planes = torch.from_numpy(frames).permute(0, 3, 1, 2).contiguous()
    for source in (torch.from_numpy(frames), planes.permute(0, 2, 3, 1), frozen, np.asfortranarray(frames)):
        assert np.array_equal(resize(source, 33, mode), truth)
    assert np.array_equal(resize(frames[0], 33, mode), truth[0])
    assert np.array_equal(resize(frames[:, ::-1], 33, mode), resize(frames[:, ::-1].copy(), 33, mode))


def test_the_size_that_is_there_changes_nothing():
    frames = noise(2, 50, 70, 3)
    assert np.array_equal(resize(frames, 50), frames) and np.array_equal(resize(frames, None), frames)
    assert resize(frames[:0], 20).shape == (0, 20, 28, 3)


@pytest.mark.parametrize(
    ("height", "width", "size", "target"),
    [
        (360, 640, 224, (224, 398)),
        (240, 320, 256, (256, 341)),
        (320, 240, 256, (341, 256)),
        (256, 340, 256, (256, 340)),
        (72, 96, (128, 171), (128, 171)),
        (72, 96, None, (72, 96)),
    ],
)
def test_the_long_side_is_rounded_down(height, width, size, target):
    assert output_size(height, width, size) == target


@pytest.mark.parametrize("size", [0, -3, (0, 5)])
def test_a_size_without_pixels_raises(size):
    with pytest.raises(SpecError, match="short side"):
        output_size(72, 96, size)


@pytest.mark.parametrize("frames", [noise(2, 8, 8, 3) / 255, noise(8, 8), noise(2, 3, 8, 8)[None]])
def test_what_is_not_uint8_frames_raises(frames):
    with pytest.raises(VideoError, match="uint8"):
        resize(frames, 4)


# --- crops ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("height", "width", "crop", "crops", "rounding", "corners"),
    [
        (256, 341, 256, 3, "ceil", [(0, 0), (0, 43), (0, 85)]),
        (256, 341, 256, 3, "floor", [(0, 0), (0, 42), (0, 85)]),
        (341, 256, 256, 3, "ceil", [(0, 0), (43, 0), (85, 0)]),
        (256, 256, 224, 3, "ceil", [(16, 0), (16, 16), (16, 32)]),
        (128, 171, 112, 1, "floor", [(8, 29)]),
        (128, 171, 112, 1, "round", [(8, 30)]),
        (128, 173, 112, 1, "round", [(8, 30)]),
        (128, 171, 112, 1, "ceil", [(8, 30)]),
        (10, 20, (4, 20), 1, "floor", [(3, 0)]),
    ],
)
def test_crops_lie_where_the_protocols_put_them(height, width, crop, crops, rounding, corners):
    size = crop if isinstance(crop, tuple) else (crop, crop)
    assert crop_boxes(height, width, crop, crops, rounding) == [(*corner, *size) for corner in corners]


@given(height=st.integers(8, 99), width=st.integers(8, 99), crop=st.integers(1, 8))
def test_round_is_the_rule_of_torchvision(height, width, crop):
    picture = torch.from_numpy(noise(1, height, width, 3)).permute(0, 3, 1, 2)
    ((top, left, h, w),) = crop_boxes(height, width, crop, rounding="round")
    assert torch.equal(picture[..., top : top + h, left : left + w], v2.center_crop(picture, [crop, crop]))


def test_no_crop_keeps_everything():
    assert crop_boxes(10, 20, None) == [(0, 0, 10, 20)]


def test_a_crop_larger_than_the_frame_says_so():
    with pytest.raises(VideoError, match=r"a crop of 112x112 .* does not fit into frames of 100x200: resize"):
        crop_boxes(100, 200, 112)


@pytest.mark.parametrize("options", [{"crops": 2}, {"rounding": "up"}])
def test_other_crops_and_roundings_raise(options):
    with pytest.raises(SpecError):
        crop_boxes(100, 200, 50, **options)


# --- clips ------------------------------------------------------------------------------------------------------------


def test_a_clip_is_bit_equal_to_torchvisions_operations():
    frames = noise(4, 128, 171, 3)
    p = Preprocessing(num_frames=4, mean=(0.43216, 0.394666, 0.37645), std=(0.22803, 0.22145, 0.216989))
    (box,) = crop_boxes(128, 171, 112, rounding="round")
    planes = torch.from_numpy(frames).permute(0, 3, 1, 2).contiguous()
    truth = v1.normalize(v1.convert_image_dtype(v1.center_crop(planes, [112, 112]), torch.float), p.mean, p.std)
    before = frames.copy()
    clip = to_clip(frames, p, box)
    assert clip.shape == (3, 4, 112, 112) and clip.is_contiguous() and clip.dtype == torch.float32
    assert torch.equal(clip, truth.permute(1, 0, 2, 3))
    assert torch.equal(to_clip(torch.from_numpy(frames), p, box), clip)
    assert np.array_equal(frames, before)
