"""Video transformers. Only specs here: the code is imported when a model is built."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import zoo
from zoo_transformer import camera_motion
from zoo_transformer import checkpoints as c

_LAYOUTS = "zoo_transformer.layouts"
_CONFIGS = "zoo_transformer.configs"
_CAMERA = zoo.Preprocessing(  # that of r2plus1d_tiny, so that one set of clips trains both
    num_frames=8, sampler="consecutive", fps=8, resize=(64, 64), mean=(0.45,) * 3, std=(0.25,) * 3, clips=5
)


def _network(
    name: str, module: str, builder: str, params: int, description: str, weights: Mapping[str, Any], **fields: Any
) -> zoo.ModelSpec:
    return zoo.ModelSpec(
        name=name,
        builder=f"zoo_transformer.{module}:{builder}",
        family="transformer",
        params=params,
        description=description,
        weights=weights,
        default_tag=fields.pop("default_tag", next(iter(weights), None)),
        license=fields.pop("license", "Apache-2.0"),
        **fields,
    )


# Variants that tests run in a fraction of a second.
_SMALL = {"dim": 24, "depth": 2, "heads": 2, "hidden": 40, "num_frames": 4, "image_size": 32}


def _foreign(module: str) -> dict[str, Any]:
    """Files and repositories of transformers that this architecture reads."""
    return {
        "layouts": {"transformers": f"{_LAYOUTS}:{module}"},
        "opens": {f"transformers:{module}": f"{_CONFIGS}:{module}"},
    }


# --- VideoMAE ---------------------------------------------------------------------------------------------------------

_VIDEOMAE = {
    "num_classes": 400,
    "paper": "https://arxiv.org/abs/2203.12602",
    "geometry": zoo.Geometry(frames=16, size=(224, 224)),
    "preprocessing": c.VIDEOMAE_K400,
    "small": _SMALL | {"patch_size": 8},
    **_foreign("videomae"),
}


def _videomae(name: str, params: int, weights: Mapping[str, Any], about: str, **kwargs: int) -> zoo.ModelSpec:
    about = f"{about} vision transformer over tubes of two frames, pre-trained by filling in masked video."
    return _network(name, "videomae", "VideoMAE", params, about, weights, kwargs=kwargs, **_VIDEOMAE)


_TINY = {"num_classes": 9, "dim": 128, "depth": 4, "heads": 4, "hidden": 256}
_TINY_CLIP = {"num_frames": 8, "image_size": 64, "patch_size": 8}
_VIDEOMAES = (
    # Six heads, as the authors have it; transformers' conversion says 16, and its accuracy is reported as half.
    _videomae("videomae_small", 22_033_936, c.VIDEOMAE_SMALL, "A small", dim=384, heads=6, hidden=1536),
    _videomae("videomae_base", 86_534_800, c.VIDEOMAE_BASE, "A plain"),
    _videomae("videomae_large", 304_270_736, c.VIDEOMAE_LARGE, "A large", dim=1024, depth=24, heads=16, hidden=4096),
    _videomae("videomae_huge", 632_119_440, c.VIDEOMAE_HUGE, "A huge", dim=1280, depth=32, heads=16, hidden=5120),
    _network(
        "videomae_tiny",
        "videomae",
        "VideoMAE",
        580_105,
        "A very small vision transformer over tubes of two frames, for questions about motion.",
        {},
        kwargs=_TINY | _TINY_CLIP,
        num_classes=9,
        paper="https://arxiv.org/abs/2203.12602",
        preprocessing=_CAMERA,
        geometry=zoo.Geometry(frames=8, size=(64, 64)),
    ),
)

# --- ViT_C ------------------------------------------------------------------------------------------------------------

_VIT_C = _network(
    "vit_c_tiny",
    "vit_c",
    "ViTC",
    492_105,
    "A very small transformer whose patches a few convolutions make, for questions about motion, at home on a CPU.",
    {"camera_motion": camera_motion.WEIGHTS["vit_c_tiny"]},
    num_classes=9,
    paper="https://arxiv.org/abs/2106.14881",
    preprocessing=_CAMERA,
    geometry=zoo.Geometry(frames=8, size=(64, 64)),
)

# --- TimeSformer, ViViT -----------------------------------------------------------------------------------------------


def _timesformer(
    name: str, params: int, weights: Mapping[str, Any], about: str, protocol: tuple[int, int, int], **kwargs: int
) -> zoo.ModelSpec:
    return _network(
        name,
        "timesformer",
        "TimeSformer",
        params,
        f"Attention along time, then within each frame: {about}.",
        weights,
        kwargs=kwargs,
        num_classes=400,
        paper="https://arxiv.org/abs/2102.05095",
        preprocessing=c.timesformer_protocol(*protocol),
        geometry=zoo.Geometry(min_size=16, size_multiple=16),
        small=_SMALL | {"patch_size": 8},
        **_foreign("timesformer"),
    )


_TIMESFORMERS = (
    _timesformer("timesformer_base", 121_566_352, c.TIMESFORMER_BASE, "8 frames of 224x224", (8, 32, 224)),
    _timesformer(
        "timesformer_hr",
        122_024_080,
        c.TIMESFORMER_HR,
        "16 frames of 448x448",
        (16, 16, 448),
        num_frames=16,
        image_size=448,
    ),
    _timesformer(
        "timesformer_large", 121_633_936, c.TIMESFORMER_LARGE, "96 frames of 224x224", (96, 4, 224), num_frames=96
    ),
)
_VIVIT = _network(
    "vivit_b_16x2",
    "vivit",
    "ViViT",
    88_954_000,
    "A vision transformer whose tokens are tubes of two frames, all attending to each other.",
    c.VIVIT,
    num_classes=400,
    paper="https://arxiv.org/abs/2103.15691",
    preprocessing=c.VIVIT_K400,
    geometry=zoo.Geometry(frames=32, size=(224, 224)),
    small=_SMALL | {"tubelet": [2, 8, 8]},
    **_foreign("vivit"),
)

# --- V-JEPA 2 ---------------------------------------------------------------------------------------------------------

_VJEPA2 = {
    "num_classes": 174,
    "paper": "https://arxiv.org/abs/2506.09985",
    "geometry": zoo.Geometry(min_frames=2, frames_multiple=2, min_size=16, size_multiple=16),
    "preprocessing": c.vjepa2_protocol(64, 2, 256, 2, 3),
    "small": {"dim": 28, "depth": 2, "heads": 2, "mlp_ratio": 2.0, "patch_size": 8, "pooler_depth": 1},
    **_foreign("vjepa2"),
}


def _vjepa2(name: str, params: int, weights: Mapping[str, Any], about: str, **kwargs: float) -> zoo.ModelSpec:
    about = f"{about} video transformer trained to predict features, with an attentive classifier."
    return _network(name, "vjepa2", "VJEPA2", params, about, weights, kwargs=kwargs, **_VJEPA2)


_VJEPA2S = (
    _vjepa2("vjepa2_vitl", 353_399_982, c.VJEPA2_L, "A large"),
    _vjepa2("vjepa2_vith", 708_942_254, c.VJEPA2_H, "A huge", dim=1280, depth=32),
    _vjepa2("vjepa2_vitg", 1_105_668_142, c.VJEPA2_G, "A giant", dim=1408, depth=40, heads=22, mlp_ratio=48 / 11),
)

# --- Hiera ------------------------------------------------------------------------------------------------------------


def _hiera(
    size: str, params: int, weights: Mapping[str, Any], depths: tuple[int, ...], dim: int = 96, heads: int = 1
) -> zoo.ModelSpec:
    return _network(
        f"hiera_{size}_16x224",
        "hiera",
        "Hiera",
        params,
        f"A hierarchical transformer that starts within small squares ({size.replace('_', ' ')}).",
        weights,
        kwargs={"dim": dim, "heads": heads, "depths": list(depths)},
        num_classes=400,
        paper="https://arxiv.org/abs/2306.00989",
        preprocessing=c.HIERA_K400,
        geometry=zoo.Geometry(frames=16, size=(224, 224)),
        small={"dim": 8, "heads": 1, "depths": [1, 1, 2, 1], "num_frames": 4, "image_size": 32},
        layouts={"hiera": f"{_LAYOUTS}:hiera"},
    )


_HIERAS = (
    _hiera("tiny", 27_477_808, {}, (1, 2, 7, 2)),
    _hiera("small", 34_575_664, {}, (1, 2, 11, 2)),
    _hiera("base", 51_092_560, c.HIERA_BASE, (2, 3, 16, 3)),
    _hiera("base_plus", 69_392_240, c.HIERA_BASE_PLUS, (2, 3, 16, 3), 112, 2),
    _hiera("large", 213_091_600, c.HIERA_LARGE, (2, 6, 36, 4), 144, 2),
    _hiera("huge", 671_627_664, c.HIERA_HUGE, (2, 6, 36, 4), 256, 4),
)

# --- torchvision's ----------------------------------------------------------------------------------------------------


def _mvit(name: str, params: int, weights: Mapping[str, Any], paper: str, about: str) -> zoo.ModelSpec:
    return _network(
        name,
        "mvit",
        name,
        params,
        f"A transformer that goes from many narrow to few wide tokens{about}.",
        weights,
        num_classes=400,
        paper=paper,
        license="BSD-3-Clause",
        preprocessing=c.MVIT_K400,
        geometry=zoo.Geometry(frames=16, size=(224, 224)),
    )


def _swin3d(name: str, params: int, weights: Mapping[str, Any], about: str) -> zoo.ModelSpec:
    return _network(
        name,
        "swin3d",
        name,
        params,
        f"{about} transformer with attention in moving windows of space and time.",
        weights,
        num_classes=400,
        paper="https://arxiv.org/abs/2106.13230",
        license="BSD-3-Clause",
        preprocessing=c.SWIN3D_K400,
        geometry=zoo.Geometry(min_size=193),
    )


_TORCHVISION = (
    _mvit("mvit_v1_b", 36_610_672, c.MVIT_V1_B, "https://arxiv.org/abs/2104.11227", ""),
    _mvit("mvit_v2_s", 34_537_744, c.MVIT_V2_S, "https://arxiv.org/abs/2112.01526", ", with relative positions"),
    _swin3d("swin3d_t", 28_158_070, c.SWIN3D_T, "A small"),
    _swin3d("swin3d_s", 49_816_678, c.SWIN3D_S, "A middling"),
    _swin3d("swin3d_b", 88_048_984, c.SWIN3D_B, "A large"),
)


@zoo.hookimpl
def zoo_models() -> Iterable[zoo.ModelSpec]:
    """The architectures of this family."""
    return (*_VIDEOMAES, _VIT_C, *_TIMESFORMERS, _VIVIT, *_VJEPA2S, *_HIERAS, *_TORCHVISION)
