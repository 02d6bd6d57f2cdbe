"""What a repository written by transformers says, as what zoo needs to build the model and to feed it.

Each function takes the contents of config.json, and of the preprocessor's file where there is one, and gives fields of
`zoo.Weights`: kwargs, num_classes, labels, preprocessing. Strangers write these files: only the keys named here are
looked at, every number has a bound, no value names code. What cannot be built equal to transformers raises SpecError.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import zoo
from zoo.errors import SpecError

Config = Mapping[str, Any]
Fields = dict[str, Any]

ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
}
KINDS = ("divided_space_time", "space_only", "joint_space_time")
ACTIVATION_OF = {
    None: "softmax",
    "single_label_classification": "softmax",
    "multi_label_classification": "sigmoid",
}
RESAMPLE = {0: "nearest", 2: "bilinear", 3: "bicubic"}  # the numbers of Pillow
MOST_CLASSES, LONGEST_LABEL = 100_000, 500
MOST_WEIGHTS = 20e9
MOST_TOKENS = 1 << 20


def videomae(config: Config, processor: Config | None = None) -> Fields:
    """ "transformers:videomae" """
    head = _head(config, "videomae", "VideoMAEForVideoClassification", ("VideoMAEModel", "VideoMAEForPreTraining"))
    kwargs = _vit(config, eps=1e-12)
    kwargs |= {
        "num_frames": _int(config, "num_frames", 16, 4096),
        "image_size": _pair(config, "image_size", 224),
        "patch_size": _pair(config, "patch_size", 16),
        "tubelet": _int(config, "tubelet_size", 2, 256),
        "bias": _flag(config, "qkv_bias" if "qkv_bias" in config else "qv_bias", True),
    }
    pooled = _flag(config, "use_mean_pooling", True)
    if head["num_classes"]:
        kwargs |= {"pool": "mean", "final_norm": "pooled"} if pooled else {"pool": "first", "final_norm": "token"}
    else:
        kwargs |= {"pool": "mean", "final_norm": "none" if pooled else "token"}
    _check_grid(kwargs["num_frames"], kwargs["image_size"], (kwargs["tubelet"], *kwargs["patch_size"]))
    return {"kwargs": kwargs, **head, "preprocessing": _protocol(config, processor, kwargs["num_frames"])}


def timesformer(config: Config, processor: Config | None = None) -> Fields:
    """ "transformers:timesformer" """
    head = _head(config, "timesformer", "TimesformerForVideoClassification", ("TimesformerModel",))
    kwargs = _vit(config, eps=1e-6)
    kwargs |= {
        "num_frames": _int(config, "num_frames", 8, 4096),
        "image_size": _square(config, "image_size", 224),
        "patch_size": _square(config, "patch_size", 16),
        "bias": _flag(config, "qkv_bias", True),
        "attention": _one_of(config, "attention_type", "divided_space_time", KINDS),
    }
    _check_grid(kwargs["num_frames"], (kwargs["image_size"],) * 2, (1, kwargs["patch_size"], kwargs["patch_size"]))
    return {"kwargs": kwargs, **head, "preprocessing": _protocol(config, processor, kwargs["num_frames"])}


def vivit(config: Config, processor: Config | None = None) -> Fields:
    """ "transformers:vivit": its processor subtracts 1 besides what it says, unless it says `offset: false`."""
    head = _head(config, "vivit", "VivitForVideoClassification", ("VivitModel",))
    kwargs = _vit(config, eps=1e-6, activation="gelu_fast")
    kwargs |= {
        "num_frames": _int(config, "num_frames", 32, 4096),
        "image_size": _pair(config, "image_size", 224),
        "tubelet": _ints(config, "tubelet_size", (2, 16, 16), 256),
        "bias": _flag(config, "qkv_bias", True),
    }
    _check_grid(kwargs["num_frames"], kwargs["image_size"], kwargs["tubelet"])
    protocol = _protocol(config, processor, kwargs["num_frames"], rescale=1 / 127.5, offset=True)
    return {"kwargs": kwargs, **head, "preprocessing": protocol}


def vjepa2(config: Config, processor: Config | None = None) -> Fields:
    """ "transformers:vjepa2": the short side follows from the crop, whatever the processor's file says of it.

    The pooler has as many heads as the encoder, as in transformers; the config has no number of its own for it.
    """
    head = _head(config, "vjepa2", "VJEPA2ForVideoClassification", ("VJEPA2Model",))
    dim, heads = _int(config, "hidden_size", 1024, 16_384), _int(config, "num_attention_heads", 16, 1024)
    kwargs = {
        "dim": dim,
        "depth": _int(config, "num_hidden_layers", 24, 256),
        "heads": heads,
        "mlp_ratio": _float(config, "mlp_ratio", 4.0, 1 / 64, 64),
        "num_frames": _int(config, "frames_per_clip", 64, 4096),
        "image_size": _int(config, "crop_size", 256, 8192),
        "patch_size": _square(config, "patch_size", 16),
        "tubelet": _int(config, "tubelet_size", 2, 256),
        "channels": _int(config, "in_chans", 3, 64),
        "eps": _float(config, "layer_norm_eps", 1e-6, 0, 1),
        "activation": _activation(config, "gelu"),
        "bias": _flag(config, "qkv_bias", True),
        "pooler_depth": _int(config, "num_pooler_layers", 3, 64, least=0) if head["num_classes"] else None,
    }
    if dim % heads or dim // heads % 2:
        raise SpecError(
            f"hidden_size={dim}, num_attention_heads={heads}", hint="a head needs an even number of channels"
        )
    _check_weights(dim, kwargs["depth"], int(dim * kwargs["mlp_ratio"]))
    patch = (kwargs["tubelet"], kwargs["patch_size"], kwargs["patch_size"])
    _check_grid(kwargs["num_frames"], (kwargs["image_size"],) * 2, patch)
    protocol = _protocol(config, processor, kwargs["num_frames"], short_of_crop=256 / 224)
    return {"kwargs": kwargs, **head, "preprocessing": protocol}


# --- the network ------------------------------------------------------------------------------------------------------


def _vit(config: Config, *, eps: float, activation: str = "gelu") -> Fields:
    dim, heads = _int(config, "hidden_size", 768, 16_384), _int(config, "num_attention_heads", 12, 1024)
    depth, hidden = _int(config, "num_hidden_layers", 12, 256), _int(config, "intermediate_size", 3072, 131_072)
    if dim % heads:
        raise SpecError(f"hidden_size={dim}, num_attention_heads={heads}", hint="heads have to divide the channels")
    _check_weights(dim, depth, hidden)
    return {
        "dim": dim,
        "depth": depth,
        "heads": heads,
        "hidden": hidden,
        "channels": _int(config, "num_channels", 3, 64),
        "eps": _float(config, "layer_norm_eps", eps, 0, 1),
        "activation": _activation(config, activation),
    }


def _check_weights(dim: int, depth: int, hidden: int) -> None:
    if (count := depth * (8 * dim * dim + 2 * dim * hidden)) > MOST_WEIGHTS:
        raise SpecError(f"about {count:.1e} parameters", hint=f"at most {MOST_WEIGHTS:.0e} are opened by a config")


def _check_grid(frames: int, size: tuple[int, int], patch: tuple[int, int, int]) -> None:
    grid = [whole // part for whole, part in zip((frames, *size), patch, strict=True)]
    if not 1 <= math.prod(grid) <= MOST_TOKENS:
        raise SpecError(f"clips of {frames} frames of {size} in patches of {patch}", hint="that is no grid of tokens")


def _head(config: Config, model_type: str, classifier: str, encoders: tuple[str, ...]) -> Fields:
    """num_classes and labels. The class that wrote the file says whether there is a classifier."""
    if config.get("model_type") != model_type:
        raise SpecError(f"model_type={config.get('model_type')!r:.80}", hint=f"this opens {model_type}")
    written_by = config.get("architectures")
    written_by = written_by[0] if isinstance(written_by, list) and len(written_by) == 1 else written_by
    if written_by in encoders:
        return {"num_classes": 0, "labels": ()}
    if written_by != classifier:
        known = ", ".join((classifier, *encoders))
        raise SpecError(f"architectures={written_by!r:.80}", hint=f"zoo opens files written by {known}")
    names = config.get("id2label")
    if names is None:
        return {"num_classes": _int(config, "num_labels", 2, MOST_CLASSES), "labels": ()}
    if not isinstance(names, Mapping) or not 1 <= len(names) <= MOST_CLASSES:
        raise SpecError(f"id2label={names!r:.80}", hint="{number: label} is wanted")
    try:
        labels = tuple(names[str(i)] for i in range(len(names)))
    except KeyError as gap:
        raise SpecError(f"id2label has no number {gap}", hint="classes are numbered from 0 without gaps") from gap
    if not all(isinstance(label, str) and label.isprintable() and len(label) <= LONGEST_LABEL for label in labels):
        raise SpecError(
            "id2label has a label that is no short printable text", hint=f"up to {LONGEST_LABEL} printable characters"
        )
    placeholders = all(label == f"LABEL_{i}" for i, label in enumerate(labels))
    return {"num_classes": len(labels), "labels": () if placeholders else labels}


# --- the preprocessor -------------------------------------------------------------------------------------------------


def _protocol(
    config: Config,
    processor: Config | None,
    frames: int,
    *,
    rescale: float = 1 / 255,
    offset: bool = False,
    short_of_crop: float | None = None,
) -> zoo.Preprocessing | None:
    """Frames over the whole video, resize, crop, normalise: what transformers' video processors do. None for no file.

    mean and std have no default: those of the classes are not those of the published files.
    """
    if processor is None:
        return None
    sides: Fields = {"resize": None, "crop": None}
    if _flag(processor, "do_center_crop", True):
        sides["crop"] = _size(processor, "crop_size")
    if _flag(processor, "do_resize", True):
        sides["resize"] = _size(processor, "size")
        if short_of_crop is not None and sides["crop"] is not None:
            crop = sides["crop"]
            sides["resize"] = int((crop if isinstance(crop, int) else crop[0]) * short_of_crop)
    factor, shift = 255.0, 0.0
    if _flag(processor, "do_rescale", True):
        factor *= _float(processor, "rescale_factor", rescale, 1e-6, 1e3)
        shift = 1.0 if offset and _flag(processor, "offset", True) else 0.0
    mean, std = (0.0,) * 3, (1.0,) * 3
    if _flag(processor, "do_normalize", True):
        mean, std = _colours(processor, "image_mean"), _colours(processor, "image_std")
    problem = config.get("problem_type")
    if problem not in tuple(ACTIVATION_OF):  # which also takes what a dictionary could not look up
        raise SpecError(f"problem_type={problem!r:.80}", hint="scores of classes are what zoo gives")
    number = processor.get("resample", 2)
    if isinstance(number, bool) or number not in tuple(RESAMPLE):
        raise SpecError(f"resample={number!r:.80}", hint=f"one of {', '.join(map(str, RESAMPLE))}")
    return zoo.Preprocessing(
        num_frames=frames,
        sampler="uniform_hf",
        interpolation=RESAMPLE[number],
        # ((255 factor x - shift) - mean) / std, in the terms of x in 0..1
        mean=tuple((m + shift) / factor for m in mean),
        std=tuple(s / factor for s in std),
        activation=ACTIVATION_OF[problem],
        **sides,
    )


def _size(processor: Config, key: str) -> int | tuple[int, int]:
    value = processor.get(key)
    if isinstance(value, Mapping):
        if set(value) == {"shortest_edge"}:
            return _int(value, "shortest_edge", 0, 8192)
        if set(value) == {"height", "width"}:
            height, width = _int(value, "height", 0, 8192), _int(value, "width", 0, 8192)
            return height if key == "crop_size" and height == width else (height, width)
    elif value is not None:
        return _int(processor, key, 0, 8192)
    raise SpecError(f"{key}={value!r:.80}", hint="a number, {'shortest_edge': n} or {'height': n, 'width': n}")


def _colours(processor: Config, key: str) -> tuple[float, ...]:
    value = processor.get(key)
    if not isinstance(value, list) or len(value) != 3 or not all(_is_number(v) and abs(v) <= 1e3 for v in value):
        raise SpecError(f"{key}={value!r:.80}", hint="three numbers")
    return tuple(float(v) for v in value)


# --- values -----------------------------------------------------------------------------------------------------------


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _int(config: Config, key: str, default: int, most: int, *, least: int = 1) -> int:
    value = config.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise SpecError(f"{key}={value!r:.80}", hint=f"a whole number from {least} to {most}")
    return value


def _float(config: Config, key: str, default: float, least: float, most: float) -> float:
    value = config.get(key, default)
    if not _is_number(value) or not least <= value <= most:
        raise SpecError(f"{key}={value!r:.80}", hint=f"a number from {least:g} to {most:g}")
    return float(value)


def _flag(config: Config, key: str, default: bool) -> bool:
    value = config.get(key, default)
    if not isinstance(value, bool):
        raise SpecError(f"{key}={value!r:.80}", hint="true or false")
    return value


def _one_of(config: Config, key: str, default: str, known: tuple[str, ...]) -> str:
    value = config.get(key, default)
    if value not in known:
        raise SpecError(f"{key}={value!r:.80}", hint=f"one of {', '.join(known)}")
    return str(value)


def _activation(config: Config, default: str) -> str:
    return ACTIVATIONS[_one_of(config, "hidden_act", default, tuple(ACTIVATIONS))]


def _ints(config: Config, key: str, default: tuple[int, ...], most: int) -> tuple[int, ...]:
    value = config.get(key, default)
    if not isinstance(value, list | tuple) or len(value) != len(default):
        raise SpecError(f"{key}={value!r:.80}", hint=f"{len(default)} whole numbers")
    return tuple(_int({key: item}, key, 0, most) for item in value)


def _pair(config: Config, key: str, default: int) -> tuple[int, ...]:
    if isinstance(config.get(key, default), list):
        return _ints(config, key, (0, 0), 8192)
    return (_int(config, key, default, 8192),) * 2


def _square(config: Config, key: str, default: int) -> int:
    height, width = _pair(config, key, default)
    if height != width:
        raise SpecError(f"{key}={config[key]!r:.80}", hint="this architecture takes squares")
    return height
