"""What is known about the bottleneck networks of this family, as data."""

from __future__ import annotations

import dataclasses
from typing import Any

import zoo

SLOWFAST = "https://arxiv.org/abs/1812.03982"
CONTINUAL = "https://arxiv.org/abs/2106.00050"
X3D = "https://arxiv.org/abs/2004.04730"
ANY_CLIP = zoo.Geometry()  # padded convolutions, windows that shrink with the maps: one pixel of one frame will do


def _protocol(frames: int, stride: int, crop: int = 256) -> zoo.Preprocessing:
    """How PySlowFast and PyTorchVideo test: ten clips of three crops; lengths and strides count frames at 30 fps."""
    return zoo.Preprocessing(
        num_frames=frames,
        stride=stride,
        fps=30,
        sampler="dense_psf",
        resize=crop,
        crop=crop,
        crop_rounding="ceil",
        antialias=False,
        mean=(0.45, 0.45, 0.45),
        std=(0.225, 0.225, 0.225),
        clips=10,
        crops=3,
    )


def _layouts(**functions: str) -> dict[str, str]:
    return {layout: f"zoo_cnn.layouts:{function}" for layout, function in functions.items()}


def _spec(name: str, builder: str, protocol: tuple[int, ...], **more: Any) -> zoo.ModelSpec:
    defaults = {"family": "cnn", "num_classes": 400, "license": "Apache-2.0", "geometry": ANY_CLIP}
    preprocessing = _protocol(*protocol)
    return zoo.ModelSpec(name=name, builder=builder, preprocessing=preprocessing, **{**defaults, **more})


_RESNETS = (
    _spec(
        "c2d_r50",
        "zoo_cnn.resnet3d:resnet3d",
        (8, 8),
        kwargs={"variant": "c2d_r50"},
        small={"depth": 10},
        layouts=_layouts(pytorchvideo="as_published", pyslowfast="pyslowfast_pooled"),
        params=24_327_632,
        geometry=zoo.Geometry(min_frames=2),
        description="A ResNet-50 on single frames, which meet in its pooling only: how far looks alone go.",
        paper="https://arxiv.org/abs/1711.07971",
    ),
    _spec(
        "i3d_r50",
        "zoo_cnn.resnet3d:resnet3d",
        (8, 8),
        kwargs={"variant": "i3d_r50"},
        small={"depth": 10},
        layouts=_layouts(pytorchvideo="as_published", pyslowfast="pyslowfast_pooled"),
        params=28_043_472,
        geometry=zoo.Geometry(min_frames=2),
        description="A ResNet-50 with every other block inflated to look at three frames.",
        paper="https://arxiv.org/abs/1705.07750",
    ),
    _spec(
        "slow_r50",
        "zoo_cnn.resnet3d:resnet3d",
        (8, 8),
        kwargs={"variant": "slow_r50"},
        small={"depth": 10},
        layouts=_layouts(pytorchvideo="as_published", pyslowfast="pyslowfast"),
        params=32_454_096,
        description="SlowFast's slow pathway alone: a ResNet-50 that looks along time in its last two stages.",
        paper=SLOWFAST,
    ),
    _spec(
        "csn_r101",
        "zoo_cnn.csn:csn",
        (32, 2),
        small={"depth": 10},
        layouts=_layouts(pytorchvideo="as_published"),
        params=22_213_776,
        description="A ResNet-101 whose 3x3x3 convolutions never mix channels: deep, and light for its depth.",
        paper="https://arxiv.org/abs/1904.02811",
    ),
    _spec(
        "r2plus1d_r50",
        "zoo_cnn.r2plus1d:r2plus1d",
        (16, 4),
        small={"depth": 10},
        layouts=_layouts(pytorchvideo="as_published"),
        params=28_107_600,
        description="A ResNet-50 with each convolution split into one over time and one over space.",
        paper="https://arxiv.org/abs/1711.11248",
    ),
)

_SLOWFASTS = tuple(
    _spec(
        name,
        "zoo_cnn.slowfast:slowfast",
        (frames, 2),
        kwargs={"variant": name},
        small={"depth": 10},
        layouts=_layouts(pytorchvideo="as_published", pyslowfast="pyslowfast_two_pathways"),
        params=params,
        geometry=zoo.Geometry(min_frames=4, frames_multiple=4),  # every fourth frame goes to the slow pathway
        description=description,
        paper=SLOWFAST,
    )
    for name, frames, params, description in (
        ("slowfast_r50", 32, 34_566_488, "Few frames through a wide ResNet-50 beside many through a narrow one."),
        ("slowfast_r101", 32, 62_826_968, "SlowFast with 101 layers in both pathways."),
        ("slowfast_16x8_r101_50_50", 64, 53_774_808, "SlowFast with 101 layers on clips twice as long."),
    )
)

# name, frames, stride, crops of training and of testing, more kwargs, parameters of the two published forms
_X3D = (
    ("xs", 4, 12, 160, 182, {}, 3_794_274, 3_794_322),
    ("s", 13, 6, 160, 182, {}, 3_794_274, 3_794_322),
    ("m", 16, 5, 224, 256, {}, 3_794_274, 3_794_322),
    ("l", 16, 5, 312, 356, {"depth_factor": 5.0}, 6_153_384, 6_153_432),
)
_ALIKE = dict.fromkeys(("xs", "s", "m"), " A file fits XS, S and M alike.")
_X3D_FORMS = (
    ("", {}, "PyTorchVideo's hub"),
    ("_psf", {"shortcut_norm": "always"}, "PySlowFast"),
)
_X3DS = tuple(
    _spec(
        f"x3d_{size}{suffix}",
        "zoo_cnn.x3d:x3d",
        (frames, stride, test_crop),
        kwargs={"frames": frames, "crop": crop, **kwargs, **form},
        small={"depth_factor": 0.2},
        layouts=_layouts(pytorchvideo="as_published", pyslowfast="pyslowfast_x3d"),
        params=params[which],
        description=f"A light network grown axis by axis, size {size.upper()}, as {source} has it."
        + _ALIKE.get(size, ""),
        paper=X3D,
    )
    for which, (suffix, form, source) in enumerate(_X3D_FORMS)
    for size, frames, stride, crop, test_crop, kwargs, *params in _X3D
)

# size, frames, frames per second, crop, parameters of the base and of the stream form
_MOVINET = (
    ("a0", 50, 5, 172, 3_111_799, 3_748_031),
    ("a1", 50, 5, 172, 4_690_296, 6_447_352),
    ("a2", 50, 5, 224, 5_249_562, 7_326_962),
    ("a3", 120, 12, 256, 7_397_545, None),
    ("a4", 80, 8, 290, 11_349_463, None),
    ("a5", 120, 12, 320, 18_650_523, None),
)
_MOVINETS = tuple(
    zoo.ModelSpec(
        name=f"movinet_{size}_{form}",
        builder="zoo_cnn.movinet:movinet",
        family="cnn",
        num_classes=600,
        kwargs={"variant": size, "causal": form == "stream"},
        params=params,
        streaming=form == "stream",
        description=description.format(size.upper()),
        paper="https://arxiv.org/abs/2103.11511",
        license="Apache-2.0",
        geometry=ANY_CLIP,
        # Ten seconds as one view of pixels in 0..1, as the paper has it; the resize is not stated there.
        preprocessing=zoo.Preprocessing(num_frames=frames, fps=fps, sampler="consecutive", resize=crop, crop=crop),
        small={"longest": 1},
        layouts=_layouts(movinet_pytorch="as_published"),
    )
    for form, description in (
        ("base", "A searched mobile network for whole clips, size {}."),
        ("stream", "A searched mobile network that takes a stream frame by frame and never looks ahead, size {}."),
    )
    for size, frames, fps, crop, *counts in _MOVINET
    if (params := counts[form == "stream"])
)

_C3D = zoo.ModelSpec(
    name="c3d",
    builder="zoo_cnn.c3d:c3d",
    family="cnn",
    num_classes=487,
    params=79_991_015,  # 77,995,776 without the last layer
    description="Eight 3x3x3 convolutions and three linear layers: the first 3D network whose features everybody used.",
    paper="https://arxiv.org/abs/1412.0767",
    license="Apache-2.0",
    geometry=zoo.Geometry(frames=16, size=(112, 112)),
    # As MMAction2 tests it: the mean of Sports-1M is in grey levels, and nothing is divided.
    preprocessing=zoo.Preprocessing(
        num_frames=16,
        sampler="dense_mm",
        resize=(128, 171),
        crop=112,
        antialias=False,
        mean=(104 / 255, 117 / 255, 128 / 255),
        std=(1 / 255,) * 3,
        clips=10,
    ),
    small={"thinner": 32},
    layouts=_layouts(mmaction2="mmaction2_c3d"),
)

# How many frames late the answers of the continual form are, and how many frames each depends on.
_ON_STREAMS = {
    "c2d_r50": (1, 8),
    "i3d_r50": (18, 42),
    "slow_r50": (9, 26),
    "csn_r101": (121, 267),
    "r2plus1d_r50": (28, 69),
    "x3d_xs": (28, 105),
    "x3d_s": (28, 249),
    "x3d_m": (28, 297),
    "x3d_l": (57, 565),
    "x3d_xs_psf": (28, 105),
    "x3d_s_psf": (28, 249),
    "x3d_m_psf": (28, 297),
    "x3d_l_psf": (57, 565),
}

# A stream has no zeros around its clips. This is the median distance of the logits then, in their spread over classes,
# with random weights over 5 to 30 real clips, by tools/compare_continual.py (csn_r101, which needs long ones, with
# --step 1). Clips of x3d_xs have four frames, so that zeros are most of what it sees.
_AWAY = {
    "c2d_r50": 0.13,
    "i3d_r50": 0.27,
    "slow_r50": 0.16,
    "csn_r101": 0.31,
    "r2plus1d_r50": 0.21,
    "x3d_xs": 100,
    "x3d_s": 0.41,
    "x3d_m": 0.23,
    "x3d_l": 0.63,
    "x3d_xs_psf": 36,
    "x3d_s_psf": 0.16,
    "x3d_m_psf": 0.20,
    "x3d_l_psf": 0.33,
}


def _continual(spec: zoo.ModelSpec, delay: int, receptive_field: int) -> zoo.ModelSpec:
    """The same network, every frame computed once. A clip of it is longer by what its end does not say yet."""
    assert isinstance(spec.builder, str) and spec.preprocessing is not None
    frames = spec.preprocessing.num_frames
    away = _AWAY.get(spec.name)
    difference = f" Without zeros in time logits differ by {away:g} of their spread (random weights)." if away else ""
    return dataclasses.replace(
        spec,
        name=f"co_{spec.name}",
        builder="zoo_cnn.continual:co",
        kwargs={"network": spec.builder.partition(":")[2], "clip_frames": frames, **spec.kwargs},
        preprocessing=dataclasses.replace(spec.preprocessing, num_frames=frames + delay),
        geometry=zoo.Geometry(min_frames=delay + 1),
        streaming=True,
        delay=delay,
        receptive_field=receptive_field,
        description=f"{spec.name} on a stream: with its weights, every frame computed once.{difference}",
        paper=CONTINUAL,
    )


_CONTINUALS = tuple(_continual(spec, *_ON_STREAMS[spec.name]) for spec in (*_RESNETS, *_X3DS))

MODELS = (*_RESNETS, *_SLOWFASTS, *_X3DS, *_MOVINETS, _C3D, *_CONTINUALS)
