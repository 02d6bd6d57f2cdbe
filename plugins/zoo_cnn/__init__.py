"""Three-dimensional convolutional networks. Only specs here: the code is imported when a model is built."""

from __future__ import annotations

from collections.abc import Iterable

import zoo
from zoo_cnn import camera_motion
from zoo_cnn.specs import MODELS

# The protocols by which torchvision measured its weights: the `transforms` and the frame rate, clip length and number
# of clips of its `*_Weights`, and its reference script, which adds up the softmax of the clips of a video.
_TORCHVISION = {
    "sampler": "resampled_tv",
    "fps": 15,
    "antialias": False,
    "crop_rounding": "round",
    "mean": (0.43216, 0.394666, 0.37645),
    "std": (0.22803, 0.22145, 0.216989),
}
_RESNET_PROTOCOL = zoo.Preprocessing(num_frames=16, resize=(128, 171), crop=112, clips=5, **_TORCHVISION)
_S3D_PROTOCOL = zoo.Preprocessing(num_frames=128, resize=(256, 256), crop=224, clips=1, **_TORCHVISION)

# Ours: what a camera does, from an eighth of a second between frames. The whole picture is squeezed into a square, so
# that no part of it is lost whatever its shape; a pan is then measured in widths and a tilt in heights of the frame.
_CAMERA_PROTOCOL = zoo.Preprocessing(
    num_frames=8,
    sampler="consecutive",
    fps=8,
    resize=(64, 64),
    clips=5,
    mean=(0.45, 0.45, 0.45),
    std=(0.25, 0.25, 0.25),
)

_RESNET = {
    "family": "cnn",
    "num_classes": 400,
    "paper": "https://arxiv.org/abs/1711.11248",
    "license": "BSD-3-Clause",
    "preprocessing": _RESNET_PROTOCOL,
    "geometry": zoo.Geometry(),  # padded convolutions and global pooling: one pixel of one frame will do
}


def _published(file: str, top1: float, top5: float, protocol: zoo.Preprocessing, level: str = "video") -> zoo.Weights:
    """As torchvision's own enumeration has it; the file's name ends in the first digits of its digest."""
    by = {"dataset": "Kinetics-400", "split": "val", "origin": "published", "by": "torchvision's documentation"}
    url = "https://github.com/pytorch/vision"
    figures = (("acc@1", top1), ("acc@5", top5))
    return zoo.Weights(
        origin={
            "url": f"https://download.pytorch.org/models/{file}",
            "sha256": file.removesuffix(".pth").rpartition("-")[2],
            "format": "torchvision",
        },
        num_classes=400,
        preprocessing=protocol,
        license="BSD-3-Clause",
        training_data="Kinetics-400",
        metrics=tuple(zoo.Metric(name=name, value=value, level=level, url=url, **by) for name, value in figures),
        url=url,
    )


_MODELS = (
    zoo.ModelSpec(
        name="r3d_18",
        builder="zoo_cnn.video_resnet:r3d_18",
        params=33_371_472,
        description="The 18-layer ResNet with every convolution extended over time to 3x3x3.",
        weights={"k400": _published("r3d_18-b3b3357e.pth", 63.2, 83.479, _RESNET_PROTOCOL)},
        default_tag="k400",
        **_RESNET,
    ),
    zoo.ModelSpec(
        name="mc3_18",
        builder="zoo_cnn.video_resnet:mc3_18",
        params=11_695_440,
        description="A ResNet that looks along time in its first layers only and keeps every frame to the end.",
        weights={"k400": _published("mc3_18-a90a0ba3.pth", 63.96, 84.13, _RESNET_PROTOCOL)},
        default_tag="k400",
        **_RESNET,
    ),
    zoo.ModelSpec(
        name="r2plus1d_18",
        builder="zoo_cnn.video_resnet:r2plus1d_18",
        params=31_505_325,
        description="R3D with each convolution split into one over space and one over time, easier to train.",
        weights={"k400": _published("r2plus1d_18-91a641e6.pth", 67.463, 86.175, _RESNET_PROTOCOL)},
        default_tag="k400",
        **_RESNET,
    ),
    zoo.ModelSpec(
        name="s3d",
        builder="zoo_cnn.s3d:s3d",
        family="cnn",
        num_classes=400,
        params=8_320_048,
        description="A light Inception network for long clips, its convolutions split into space and time.",
        paper="https://arxiv.org/abs/1712.04851",
        license="BSD-3-Clause",
        preprocessing=_S3D_PROTOCOL,
        weights={"k400": _published("s3d-d76dad2f.pth", 68.368, 88.05, _S3D_PROTOCOL, level="clip")},
        default_tag="k400",
        small={"window": (1, 1, 1)},
        # The least that leaves one 2x7x7 window to the head; torchvision writes 14 frames and 224 pixels.
        geometry=zoo.Geometry(min_frames=13, min_size=209),
    ),
    zoo.ModelSpec(
        name="r2plus1d_tiny",
        builder="zoo_cnn.r2plus1d_tiny:r2plus1d_tiny",
        family="cnn",
        num_classes=9,
        params=435_513,
        description="A small (2+1)D residual network for questions about motion, at home on a CPU.",
        paper="https://arxiv.org/abs/1711.11248",
        license="Apache-2.0",
        preprocessing=_CAMERA_PROTOCOL,
        geometry=zoo.Geometry(),
        weights={"camera_motion": camera_motion.WEIGHTS["r2plus1d_tiny"]},
        default_tag="camera_motion",
    ),
)


@zoo.hookimpl
def zoo_models() -> Iterable[zoo.ModelSpec]:
    """The architectures of this family."""
    return (*_MODELS, *MODELS)
