"""Folders as transformers writes them: small ones that are committed, and what transformers makes of a video with them.

Needs the extra `parity`. `python tests/transformers_folders.py` writes the fixtures that the default tests read; their
weights are those of `transformer_references`.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
import transformer_references as refs
from safetensors.torch import load_file, save, save_file
from torch import Tensor, nn
from video_clips import pictures

import zoo

TEXTS, ANSWERS = refs.FIXTURES / "transformers_folders.json", refs.FIXTURES / "transformers_answers.safetensors"
FAMILIES = ("videomae", "timesformer", "vivit", "vjepa2")
CLASSES = {"videomae": "VideoMAE", "timesformer": "Timesformer", "vivit": "Vivit", "vjepa2": "VJEPA2"}
COLOURS = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
SMALL = {
    "videomae": {"size": {"shortest_edge": 14}, "crop_size": {"height": 8, "width": 12}, **COLOURS},
    "timesformer": {"size": {"shortest_edge": 9}, "crop_size": {"height": 8, "width": 8}, **COLOURS},
    "vivit": {"size": {"shortest_edge": 10}, "crop_size": {"height": 8, "width": 8}},
    "vjepa2": {"crop_size": 12},
}


def video(folder: Path, frames: int = 21, height: int = 72, width: int = 96) -> Path:
    """A file without loss, so that every decoder gives the same pixels."""
    path = folder / "video.avi"
    zoo.video.write_video(path, pictures(frames, height, width), fps=25, codec="ffv1", pix_fmt="bgr0")
    return path


def committed(family: str) -> dict[str, bytes]:
    """The files of the small folder of this family."""
    files = {name: text.encode() for name, text in json.loads(TEXTS.read_text())[family].items()}
    tensors = load_file(refs.FIXTURES / f"transformer_{family}.safetensors")
    weights = {name.removeprefix("file."): t.float() for name, t in tensors.items() if name.startswith("file.")}
    return {**files, "model.safetensors": save(weights, {"format": "pt"})}


def answers(family: str) -> tuple[Tensor, Tensor]:
    """Pixels `[1, C, T, H, W]` and logits, as transformers has them for `video` with that folder."""
    found = load_file(ANSWERS)
    return found[f"{family}.pixels"], found[f"{family}.logits"]


def answer(folder: Path, frames: Tensor, processor: Any) -> tuple[Tensor, Tensor]:
    """The same from transformers, here and now, for the frames `[T, C, H, W]` that its own sampling has chosen."""
    import transformers

    model = transformers.AutoModelForVideoClassification.from_pretrained(folder).eval()
    inputs = processor(frames, return_tensors="pt")
    with torch.no_grad():
        logits = model(**inputs).logits
    (pixels,) = inputs.values()
    return pixels.transpose(1, 2), logits


def sampled(path: Path, count: int) -> Tensor:
    """Frames of a file as transformers reads and chooses them."""
    from transformers.video_utils import load_video

    frames, _ = load_video(str(path), num_frames=count, backend="pyav")
    return torch.from_numpy(frames).permute(0, 3, 1, 2)


def write(network: nn.Module, processor: Any, folder: Path) -> None:
    """What an author does before an upload."""
    network.config.id2label = {i: f"motion {i}" for i in range(network.config.num_labels)}
    network.save_pretrained(folder)
    processor.save_pretrained(folder)


def write_fixtures() -> None:
    import transformers

    texts, found = {}, {}
    for family in FAMILIES:
        case = refs.CASES[family]
        network = refs.reference(case)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.copy_(parameter.half().float())
        processor = getattr(transformers, f"{CLASSES[family]}VideoProcessor")(**SMALL[family])
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write(network, processor, folder)
            texts[family] = {path.name: path.read_text() for path in sorted(folder.glob("*.json"))}
            pixels, logits = answer(folder, sampled(video(folder), case.clip[2]), processor)
        found |= {f"{family}.pixels": pixels.contiguous(), f"{family}.logits": logits}
    TEXTS.write_text(json.dumps(texts, indent=1) + "\n")
    save_file(found, ANSWERS)


if __name__ == "__main__":
    sys.exit(write_fixtures())
