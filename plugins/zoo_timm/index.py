"""What is known about timm's architectures and weights without importing timm: `index.json`.

The file is written by `tools/timm_index.py` from an installed timm, whose version it states. It has

    configs         distinct facts about weights: [fixed, channels, height, width, classes, licence, protocol]
    architectures   name: [parameters and width without a classifier, least side, step of sides, config, {tag: weights}]
                    where weights are the number of a config, or [number, repository] if it is not timm/<name>.<tag>
    pins            name.tag: [commit, sha256, size] where somebody could ask the Hub; others are held to the digest
                    that the Hub declares
"""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import zoo

FILE = Path(__file__).with_name("index.json")
FRAMES, CLASSES = 8, 400  # of a clip, and of a new classifier: Kinetics-400
TIMM = "https://github.com/huggingface/pytorch-image-models"
LAYOUTS = {"timm": "zoo_timm.checkpoints:from_timm"}

# What timm's tags say of the images that weights have seen.
SEEN = {
    "in1k": "ImageNet-1k",
    "in12k": "ImageNet-12k",
    "in21k": "ImageNet-21k",
    "in22k": "ImageNet-22k",
    "goog": "ImageNet-21k",
    "jft": "JFT-300M",
    "laion2b": "LAION-2B",
    "laion400m": "LAION-400M",
    "openai": "OpenAI's image-text pairs",
    "webli": "WebLI",
    "lvd142m": "LVD-142M",
    "lvd1689m": "LVD-1689M",
    "datacompxl": "DataComp-XL",
    "metaclip": "MetaCLIP",
}


@cache
def read() -> dict[str, Any]:
    """The file, read once."""
    found: dict[str, Any] = json.loads(FILE.read_bytes())
    return found


def names() -> dict[str, dict[str, str]]:
    """{architecture: {tag: licence}} of all that timm has."""
    index = read()
    licences = [config[5] for config in index["configs"]]
    return {
        name: {tag: licences[w if isinstance(w, int) else w[0]] for tag, w in row[5].items()}
        for name, row in index["architectures"].items()
    }


def numbers(version: str) -> tuple[int, ...]:
    """A version to compare by: (1, 0, 27) of "1.0.27.dev0"."""
    return tuple(map(int, re.findall(r"\d+", version)[:3]))


@cache
def resolve(arch: str) -> zoo.ModelSpec | None:
    """The spec of one architecture. One that is newer than the index is looked up in the installed timm."""
    index = read()
    row, configs = index["architectures"].get(arch), index["configs"]
    if row is None:
        from importlib.metadata import PackageNotFoundError, version

        try:
            if numbers(version("timm")) <= numbers(index["timm"]):
                return None
        except PackageNotFoundError:
            return None
        from zoo_timm.survey import surveyed  # imports timm

        if (found := surveyed(arch)) is None:
            return None
        row, configs = found
    params, width, least, step, number, tags = row
    fixed, channels, height, width_px, _, _, protocol = configs[number]
    size = {"size": (height, width_px)} if fixed else {"min_size": least, "size_multiple": step}
    weights = {
        tag: _weights(arch, tag, [w] if isinstance(w, int) else w, configs, index["pins"]) for tag, w in tags.items()
    }
    return zoo.ModelSpec(
        name=arch,
        builder="zoo_timm.video:frame_model",
        family="timm",
        kwargs={"arch": arch, "in_chans": channels} | ({} if fixed else {"least": least, "multiple": step}),
        num_classes=CLASSES,
        params=params + (width + 1) * CLASSES,
        preprocessing=zoo.Preprocessing(num_frames=FRAMES, **protocol),
        geometry=zoo.Geometry(channels=channels, **size),
        description=f"timm's {arch} on every frame, and the mean over time.",
        paper=TIMM,
        license="Apache-2.0",
        layouts=LAYOUTS,
        weights=weights,
        default_tag=next(iter(weights), None),
    )


def _weights(arch: str, tag: str, row: list[Any], configs: list[Any], pins: dict[str, Any]) -> zoo.Weights:
    """An image network's weights: the rows of its frames are what it is for, its classifier is dropped."""
    _, _, _, _, classes, licence, protocol = configs[row[0]]
    repo = row[1] if len(row) > 1 else f"timm/{arch}.{tag}"
    commit, sha256, size = pins.get(f"{arch}.{tag}", ("main", "", None))
    seen = [name for mark, name in SEEN.items() if mark in tag]
    return zoo.Weights(
        source=f"hf://{repo}/model.safetensors@{commit}",
        sha256=sha256,
        size=size,
        layout="timm",
        num_classes=0,
        kwargs={"tag": tag},
        preprocessing=zoo.Preprocessing(num_frames=FRAMES, **protocol),
        license=licence,
        training_data=f"images: {', '.join(seen)}" if seen else "images, see the url",
        description=f"Image weights; {f'a classifier of {classes} classes is dropped' if classes else 'an encoder'}.",
        url=f"https://huggingface.co/{repo}",
    )
