"""The published checkpoints of this family, each with its own protocol, terms and figures. Data only.

Revisions that name no commit, and missing digests, are what could not be looked up offline: tools/pin.py fills them in.
Labels are in the config.json beside the weights and nowhere else here: `zoo.create("hf-hub:owner/repo")` brings them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import zoo
from zoo_transformer.pins import PINS

NON_COMMERCIAL = "cc-by-nc-4.0"
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
DATASETS = {
    "k400": ("Kinetics-400", 400),
    "k600": ("Kinetics-600", 600),
    "ssv2": ("Something-Something v2", 174),
    "diving48": ("Diving48", 48),
}


def _top1(value: float, dataset: str, by: str, url: str) -> zoo.Metric:
    return zoo.Metric(name="acc@1", value=value, dataset=dataset, origin="published", by=by, split="val", url=url)


def _file(repo: str, revision: str) -> dict[str, Any]:
    """Source, digest and size of a repository's safetensors file."""
    source = f"hf://{repo}/model.safetensors@{revision}"
    if source not in PINS:
        return {"source": source}
    commit, sha256, size = PINS[source]
    return {"source": f"hf://{repo}/model.safetensors@{commit}", "sha256": sha256, "size": size}


def _hub(repo: str, data: str, revision: str = "main", *, tuned: bool = True, **fields: Any) -> zoo.Weights:
    """A repository of transformers' format with a safetensors file."""
    dataset, classes = DATASETS[data]
    return zoo.Weights(
        **{"layout": "transformers", "training_data": dataset, **fields},
        **_file(repo, revision),
        num_classes=classes if tuned else 0,
        url=f"https://huggingface.co/{repo}",
    )


def _pickled(repo: str, data: str, **fields: Any) -> zoo.Weights:
    """A repository in which only a pickle has been seen."""
    url = f"https://huggingface.co/{repo}"
    origin = {"url": f"{url}/resolve/main/pytorch_model.bin", "format": "transformers"}
    whole = _hub(repo, data, **fields)
    return replace(whole, source="", sha256="", size=None, origin=origin)


# --- VideoMAE: the authors' README; clips of every fourth frame, five along time and three across for Kinetics,
# two and three for Something-Something. Their OpenCV resize does not antialias.

_VIDEOMAE = {"num_frames": 16, "resize": 224, "crop": 224, "antialias": False, "crops": 3, **IMAGENET}
VIDEOMAE_K400 = zoo.Preprocessing(sampler="dense_mm", stride=4, clips=5, **_VIDEOMAE)
VIDEOMAE_SSV2 = zoo.Preprocessing(sampler="uniform", clips=2, **_VIDEOMAE)


def _videomae(name: str, data: str, top1: float | None, revision: str | None = "main", **fields: Any) -> zoo.Weights:
    fields |= {"license": NON_COMMERCIAL, "preprocessing": VIDEOMAE_K400 if data == "k400" else VIDEOMAE_SSV2}
    if top1 is not None:
        url = "https://github.com/MCG-NJU/VideoMAE"
        fields["metrics"] = (_top1(top1, DATASETS[data][0], "the authors' README", url),)
    if revision is None:
        return _pickled(f"MCG-NJU/videomae-{name}", data, **fields)
    return _hub(f"MCG-NJU/videomae-{name}", data, revision, **fields)


_ENCODER = {"tuned": False, "kwargs": {"final_norm": "token"}, "description": "The pre-trained encoder, for features."}
_SHORT = "Pre-trained for half as long."

VIDEOMAE_SMALL = {
    "k400": _videomae("small-finetuned-kinetics", "k400", 79.0, None),
    "ssv2": _videomae("small-finetuned-ssv2", "ssv2", 66.8, None),
}
VIDEOMAE_BASE = {
    "k400": _videomae("base-finetuned-kinetics", "k400", 81.5),
    "ssv2": _videomae("base-finetuned-ssv2", "ssv2", 70.8, None),
    "k400_short": _videomae("base-short-finetuned-kinetics", "k400", None, None, description=_SHORT),
    "ssv2_short": _videomae("base-short-finetuned-ssv2", "ssv2", None, None, description=_SHORT),
    "mae_k400": _videomae("base", "k400", None, **_ENCODER),
    "mae_ssv2": _videomae("base-ssv2", "ssv2", None, None, **_ENCODER),
    "mae_k400_short": _videomae("base-short", "k400", None, None, **_ENCODER),
    "mae_ssv2_short": _videomae("base-short-ssv2", "ssv2", None, None, **_ENCODER),
}
VIDEOMAE_LARGE = {
    "k400": _videomae("large-finetuned-kinetics", "k400", 85.2),
    "mae_k400": _videomae("large", "k400", None, None, **_ENCODER),
}
VIDEOMAE_HUGE = {"k400": _videomae("huge-finetuned-kinetics", "k400", 86.6, "refs/pr/1")}

# --- TimeSformer: the authors' README and configs; one clip, three crops. fcakyon's are copies in safetensors.

_TIMESFORMER = {"clips": 1, "crops": 3, "antialias": False, "mean": (0.45,) * 3, "std": (0.225,) * 3}


def timesformer_protocol(frames: int, stride: int, side: int, data: str = "k400") -> zoo.Preprocessing:
    """Kinetics: `frames` frames `stride` apart; Something-Something: spread over the whole video."""
    sampling: dict[str, Any] = {"sampler": "uniform"} if data == "ssv2" else {"sampler": "dense_psf", "stride": stride}
    return zoo.Preprocessing(num_frames=frames, resize=side, crop=side, **sampling, **_TIMESFORMER)


def _timesformer(
    size: str, data: str, top1: float, frames: int, stride: int, side: int, source: str = "", **fields: Any
) -> zoo.Weights:
    repo, _, revision = source.partition("@")
    url = "https://github.com/facebookresearch/TimeSformer"
    return _hub(
        repo or f"fcakyon/timesformer-{size}-finetuned-{data}",
        data,
        revision or "main",
        license=NON_COMMERCIAL,
        training_data=f"ImageNet-21k, then {DATASETS[data][0]}",
        preprocessing=timesformer_protocol(frames, stride, side, data),
        metrics=(_top1(top1, DATASETS[data][0], "the authors' README", url),),
        **fields,
    )


TIMESFORMER_BASE = {
    "k400": _timesformer("base", "k400", 77.9, 8, 32, 224, "facebook/timesformer-base-finetuned-k400@refs/pr/5"),
    "k600": _timesformer("base", "k600", 79.1, 8, 32, 224),
    "ssv2": _timesformer("base", "ssv2", 59.1, 8, 1, 224),
}
TIMESFORMER_HR = {
    "k400": _timesformer("hr", "k400", 79.6, 16, 16, 448),
    "k600": _timesformer("hr", "k600", 81.8, 16, 16, 448),
    "ssv2": _timesformer("hr", "ssv2", 61.8, 16, 1, 448),
}
TIMESFORMER_LARGE = {
    "k400": _timesformer("large", "k400", 80.6, 96, 4, 224),
    "k600": _timesformer("large", "k600", 82.2, 96, 4, 224),
    "ssv2": _timesformer("large", "ssv2", 62.0, 64, 1, 224, kwargs={"num_frames": 64}),
}

# --- ViViT

VIVIT_K400 = zoo.Preprocessing(
    num_frames=32, sampler="dense_mm", stride=2, resize=224, crop=224, mean=(0.5,) * 3, std=(0.5,) * 3, clips=4, crops=3
)
VIVIT = {
    "k400": _hub(
        "google/vivit-b-16x2-kinetics400",
        "k400",
        "refs/pr/3",
        license="mit",
        training_data="ImageNet-21k, then Kinetics-400",
        preprocessing=VIVIT_K400,
        description="Pixels in -1..1, as in training. transformers' processor scales twice, to -3..1.",
    )
}

# --- V-JEPA 2: inference configs of the authors' repository; the short side is 256 / 224 of the crop.

PROBE = "An attentive probe on the frozen encoder."
# configs/inference/vitg-384/{ssv2,diving48}.yaml of the authors' repository say `num_heads: 16`. The shapes in the file
# fit both. `pooler_heads=22` gives what transformers does, and so does opening the repository by "hf-hub:".
SIXTEEN = (
    "With 16 heads, as its authors' config says; transformers runs the same file with the encoder's 22. "
    "Which of the two is right could not be measured offline."
)


def vjepa2_protocol(frames: int, stride: int, crop: int, clips: int, crops: int) -> zoo.Preprocessing:
    return zoo.Preprocessing(
        num_frames=frames,
        sampler="dense_mm",
        stride=stride,
        resize=int(crop * 256 / 224),
        crop=crop,
        clips=clips,
        crops=crops,
        **IMAGENET,
    )


def _vjepa2_encoder(name: str, crop: int, license: str, **kwargs: Any) -> zoo.Weights:
    return zoo.Weights(
        **_file(f"facebook/vjepa2-{name}", "main"),
        layout="transformers",
        num_classes=0,
        kwargs={"pooler_depth": None, **kwargs},
        preprocessing=replace(vjepa2_protocol(64, 1, crop, 1, 1), sampler="uniform", stride=1),
        license=license,
        training_data="VideoMix22M",
        description="The pre-trained encoder, for features.",
        url=f"https://huggingface.co/facebook/vjepa2-{name}",
    )


def _vjepa2_probe(name: str, data: str, protocol: zoo.Preprocessing, top1: float | None, **kwargs: Any) -> zoo.Weights:
    url, dataset = "https://github.com/facebookresearch/vjepa2", DATASETS[data][0]
    return _hub(
        f"facebook/vjepa2-{name}-{data}",
        data,
        kwargs={"num_frames": protocol.num_frames, **kwargs},
        preprocessing=protocol,
        license="mit",
        training_data=f"VideoMix22M; the probe {dataset}",
        metrics=() if top1 is None else (_top1(top1, dataset, "the authors' README", url),),
        description=PROBE if "pooler_heads" not in kwargs else f"{PROBE} {SIXTEEN}",
    )


# The published Diving48 figures are of probes on four layers at once (`out_layers` in the authors' configs, with 48
# classes and 4 x 3 views of 32 frames); these files see the last layer only, so they have no figure.
VJEPA2_L = {
    "ssv2": _vjepa2_probe("vitl-fpc16-256", "ssv2", vjepa2_protocol(16, 4, 256, 2, 3), 73.7),
    "diving48": _vjepa2_probe("vitl-fpc32-256", "diving48", vjepa2_protocol(32, 2, 256, 4, 3), None),
    "encoder": _vjepa2_encoder("vitl-fpc64-256", 256, "mit"),
}
VJEPA2_H = {"encoder": _vjepa2_encoder("vith-fpc64-256", 256, "mit")}
VJEPA2_G = {
    "ssv2": _vjepa2_probe(
        "vitg-fpc64-384", "ssv2", vjepa2_protocol(64, 2, 384, 2, 3), 77.3, image_size=384, pooler_heads=16
    ),
    "diving48": _vjepa2_probe(
        "vitg-fpc32-384", "diving48", vjepa2_protocol(32, 2, 384, 4, 3), None, image_size=384, pooler_heads=16
    ),
    "encoder": _vjepa2_encoder("vitg-fpc64-256", 256, "apache-2.0"),
    "encoder_384": _vjepa2_encoder("vitg-fpc64-384", 384, "apache-2.0", image_size=384),
}

# --- Hiera: fine-tuned files only; what the masked pre-training leaves has no pooled features to speak of.

HIERA_K400 = VIDEOMAE_K400


def _hiera(size: str, top1: float) -> dict[str, zoo.Weights]:
    return {
        "k400": _hub(
            f"facebook/hiera_{size}_16x224.mae_k400_ft_k400",
            "k400",
            layout="hiera",
            license=NON_COMMERCIAL,
            preprocessing=HIERA_K400,
            metrics=(_top1(top1, "Kinetics-400", "the authors' README", "https://github.com/facebookresearch/hiera"),),
        )
    }


HIERA_BASE, HIERA_BASE_PLUS = _hiera("base", 84.0), _hiera("base_plus", 85.0)
HIERA_LARGE, HIERA_HUGE = _hiera("large", 87.3), _hiera("huge", 87.8)

# --- torchvision: pickles, of which the name gives the first digits of the digest.

_TORCHVISION = {"sampler": "resampled_tv", "resize": 256, "crop": 224, "antialias": False, "crop_rounding": "round"}
MVIT_K400 = zoo.Preprocessing(num_frames=16, fps=7.5, clips=5, mean=(0.45,) * 3, std=(0.225,) * 3, **_TORCHVISION)
SWIN3D_K400 = zoo.Preprocessing(num_frames=32, fps=15, clips=12, **IMAGENET, **_TORCHVISION)


def torchvision(file: str, top1: float, protocol: zoo.Preprocessing, before: str = "") -> zoo.Weights:
    """`before`: what it was trained on before Kinetics."""
    digest = file.removesuffix(".pth").rpartition("-")[2]
    url = "https://github.com/pytorch/vision"
    return zoo.Weights(
        origin={"url": f"https://download.pytorch.org/models/{file}", "sha256": digest, "format": "torchvision"},
        num_classes=400,
        preprocessing=protocol,
        license="BSD-3-Clause",
        training_data=f"{before}Kinetics-400",
        metrics=(_top1(top1, "Kinetics-400", "torchvision's documentation", url),),
        url=url,
    )


MVIT_V1_B = {"k400": torchvision("mvit_v1_b-dbeb1030.pth", 78.477, MVIT_K400)}
MVIT_V2_S = {"k400": torchvision("mvit_v2_s-ae3be167.pth", 80.757, MVIT_K400)}
SWIN3D_T = {"k400": torchvision("swin3d_t-7615ae03.pth", 77.715, SWIN3D_K400)}
SWIN3D_S = {"k400": torchvision("swin3d_s-da41c237.pth", 79.521, SWIN3D_K400)}
SWIN3D_B = {
    "k400": torchvision("swin3d_b_1k-24f7c7c6.pth", 79.427, SWIN3D_K400),
    "k400_in22k": torchvision("swin3d_b_22k-7c6ae6fa.pth", 81.643, SWIN3D_K400, "ImageNet-22k, then "),
}
