"""timm's image networks as video models: `timm/<architecture>[.<tag>]` for all of them, and some with their own names.

Only specs here: what timm has is read from `index.json`, and timm itself is imported when a model is built.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import zoo
from zoo_timm import camera_motion

_IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
_HALF = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}


def _protocol(**colours: Any) -> zoo.Preprocessing:
    """The middle frames of eight equal parts of the video, as TSN and TSM are tested on one view."""
    return zoo.Preprocessing(num_frames=8, sampler="segments_mm", resize=256, crop=224, **colours)


def _spec(name: str, about: str, paper: str, params: int, *, of: str, colours: Any = _IMAGENET, **more: Any) -> Any:
    """A video model on timm's `of` ("architecture.tag"), whose image weights it can start from."""
    arch, _, tag = of.partition(".")
    options = {"arch": arch, **more.pop("options", {})}
    weights = zoo.Weights(
        source=f"hf://timm/{of}/model.safetensors@main",
        layout="timm",
        num_classes=0,
        kwargs={"tag": tag},
        license="apache-2.0",
        training_data="images: ImageNet-1k" if "in21k" not in tag else "images: ImageNet-21k, ImageNet-1k",
        description="Image weights to start training from; the classifier is dropped.",
        url=f"https://huggingface.co/timm/{of}",
    )
    facts = {"geometry": zoo.Geometry(min_size=32), "small": {"arch": "test_resnet", "tag": ""}}
    return zoo.ModelSpec(
        name=name,
        builder="zoo_timm.video:frame_model",
        family="timm",
        kwargs=options,
        num_classes=400,
        params=params,
        preprocessing=_protocol(**colours),
        description=about,
        paper=f"https://arxiv.org/abs/{paper}",
        license="Apache-2.0",
        layouts={"timm": "zoo_timm.checkpoints:from_timm"},
        weights={tag: weights},
        **{**facts, **more},
    )


_RESNET = "resnet50.a1_in1k"
_VIT = {
    "of": "vit_small_patch16_224.augreg_in21k_ft_in1k",
    "colours": _HALF,
    "geometry": zoo.Geometry(size=(224, 224)),
    "small": {"arch": "test_vit", "tag": ""},
}

# What a camera does: small pictures, squeezed into a square so that no part is lost. From scratch: no image weights.
_TINY = tuple(
    zoo.ModelSpec(
        name=name,
        builder="zoo_timm.video:frame_model",
        family="timm",
        kwargs={"arch": arch, "num_classes": 9, "drop_rate": 0.1, "least": 32, **options},
        num_classes=9,
        params=params,
        preprocessing=zoo.Preprocessing(
            num_frames=8, fps=8, sampler="consecutive", resize=(64, 64), clips=5, mean=(0.45,) * 3, std=(0.25,) * 3
        ),
        geometry=zoo.Geometry(min_size=32, frames_multiple=options.get("stack", 1)),
        description=f"{about}, for questions about motion, at home on a CPU.",
        paper=paper,
        license="Apache-2.0",
        weights={"camera_motion": camera_motion.WEIGHTS[name]} if name in camera_motion.WEIGHTS else {},
        default_tag="camera_motion" if name in camera_motion.WEIGHTS else None,
    )
    for name, arch, options, params, about, paper in (
        (
            "stacked_tiny",
            "test_resnet",
            {"stack": 8},
            376_585,
            "timm's smallest ResNet, to which eight frames are the channels of one picture",
            "https://cs.stanford.edu/people/karpathy/deepvideo/",
        ),
        (
            "tsm_tiny",
            "mobilenetv2_035",
            {"shift": True},
            407_657,
            "TSM on the narrowest MobileNetV2",
            "https://arxiv.org/abs/1811.08383",
        ),
    )
)

_MODELS = (
    zoo.ModelSpec(
        name="*",
        resolver="zoo_timm.index:resolve",
        lister="zoo_timm.index:names",
        family="timm",
        license="Apache-2.0",
    ),
    _spec(
        "tsn_resnet50",
        "TSN: a ResNet-50 on every frame, whose answers are averaged; the order of frames does not matter.",
        "1608.00859",
        24_327_632,
        of=_RESNET,
    ),
    _spec(
        "tsm_resnet50",
        "TSM: a ResNet-50 whose blocks shift an eighth of their channels to the next frame and an eighth back.",
        "1811.08383",
        24_327_632,
        of=_RESNET,
        options={"shift": True},
    ),
    _spec(
        "tsm_mobilenetv2_100",
        "TSM on MobileNetV2: small, and it sees order.",
        "1811.08383",
        2_736_272,
        of="mobilenetv2_100.ra_in1k",
        options={"shift": True},
        small={"arch": "mobilenetv2_035", "tag": ""},
    ),
    _spec(
        "inflated_resnet50",
        "A ResNet-50 whose convolutions look at three frames each, as in I3D.",
        "1705.07750",
        46_980_944,
        of=_RESNET,
        options={"inflate": 3},
    ),
    _spec(
        "frames_vit_small",
        "A small vision transformer on every frame, and the mean over time.",
        "2010.11929",
        21_819_664,
        **_VIT,
    ),
    _spec(
        "frames_vit_small_transformer",
        "A small vision transformer on every frame, and a transformer over them.",
        "2010.11929",
        25_369_360,
        **_VIT,
        options={"temporal": "transformer"},
    ),
    *_TINY,
)


@zoo.hookimpl
def zoo_models() -> Iterable[zoo.ModelSpec]:
    """The architectures of this family."""
    return _MODELS
