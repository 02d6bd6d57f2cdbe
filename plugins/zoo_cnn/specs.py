"""What is known about the bottleneck networks of this family, as data."""

from __future__ import annotations

from typing import Any

import zoo

SLOWFAST = "https://arxiv.org/abs/1812.03982"
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
        params=32_454_096,
        description="SlowFast's slow pathway alone: a ResNet-50 that looks along time in its last two stages.",
        paper=SLOWFAST,
    ),
    _spec(
        "csn_r101",
        "zoo_cnn.csn:csn",
        (32, 2),
        params=22_213_776,
        description="A ResNet-101 whose 3x3x3 convolutions never mix channels: deep, and light for its depth.",
        paper="https://arxiv.org/abs/1904.02811",
    ),
    _spec(
        "r2plus1d_r50",
        "zoo_cnn.r2plus1d:r2plus1d",
        (16, 4),
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
_X3DS = tuple(
    _spec(
        f"x3d_{size}{suffix}",
        "zoo_cnn.x3d:x3d",
        (frames, stride, test_crop),
        kwargs={"frames": frames, "crop": crop, **kwargs, **form},
        params=params[which],
        description=f"A light network grown axis by axis, size {size.upper()}, as {source} has it.",
        paper=X3D,
    )
    for which, (suffix, form, source) in enumerate(
        (("", {}, "PyTorchVideo's hub"), ("_psf", {"shortcut_norm": "always"}, "PySlowFast"))
    )
    for size, frames, stride, crop, test_crop, kwargs, *params in _X3D
)

MODELS = (*_RESNETS, *_SLOWFASTS, *_X3DS)
