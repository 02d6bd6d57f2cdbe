"""What the tests of training share: a folder of small encoded videos whose classes a tiny network can tell apart."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import zoo

ROOT = Path(__file__).parent.parent
COLOURS = {"red": (200, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 200)}
PROTOCOL = {"num_frames": 4, "fps": 8, "resize": [20, 20], "mean": [0.4, 0.4, 0.4], "std": [0.3, 0.3, 0.3], "clips": 2}


def write_clip(path: Path, colour: tuple[int, int, int], seed: int, frames: int = 12) -> None:
    """A square of that colour that moves over noise."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 90, (frames, 32, 40, 3), dtype=np.uint8)
    y, x = rng.integers(0, 12, 2)
    for t in range(frames):
        pixels[t, y : y + 16, x + t : x + t + 16] = colour
    path.parent.mkdir(parents=True, exist_ok=True)
    zoo.video.write_video(path, pixels, fps=12)


def documented_files(folder: Path) -> Path:
    """The videos that the README and the recipes speak of: one of a camera, and one that is none."""
    clip = zoo.synth.generate("pan_right", seed=1, duration_s=3, fps=25, size=(96, 128))
    zoo.video.write_video(folder / "my_video.mp4", clip.frames, fps=25)
    (folder / "broken.mp4").write_bytes(b"not a video")
    return folder


def class_folders(root: Path, each: int = 6) -> Path:
    """One folder for each colour, with `each` videos."""
    for c, (name, colour) in enumerate(COLOURS.items()):
        for i in range(each):
            write_clip(root / name / f"{i}.mp4", colour, 100 * c + i)
    return root


def damage(path: Path) -> None:
    """Spoil most of the frames of an mp4, whose head can still be read."""
    content = path.read_bytes()
    frames, end = content.find(b"mdat") + 4, content.find(b"moov") - 4
    begin = frames + (end - frames) // 3
    path.write_bytes(content[:begin] + bytes(end - begin) + content[end:])


def settings(data: Path, out: Path, **changes: Any) -> dict[str, Any]:
    """A training of r2plus1d_tiny, made still smaller, that takes a second."""
    small = {
        "model": "r2plus1d_tiny",
        "data": str(data),
        "out": str(out),
        "model_options": {"widths": [4, 6], "dropout": 0.1},
        "protocol": PROTOCOL,
        "batch_size": 6,
        "steps": 6,
        "lr": 0.01,
        "workers": 0,
        "val_fraction": 0.34,
        "license": "apache-2.0",
    }
    return small | changes


def quietly(text: str) -> None:
    pass


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "tests"), *sys.path]), "OMP_NUM_THREADS": "1"}


def start(config: Path, *, processes: int = 0, watched: Path | None = None) -> subprocess.Popen[str]:
    """`python -m zoo.train --config ...`, or the same under torchrun; `watched` as `watched_training` has it."""
    launch = [sys.executable, "-m"]
    if processes:
        launch += ["torch.distributed.run", "--nproc-per-node", str(processes), "--standalone", "-m"]
    module = ["zoo.train"] if watched is None else ["watched_training", str(watched)]
    command = [*launch, *module, "--config", str(config)]
    return subprocess.Popen(command, env=environment(), text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def checkpoint(out: Path, step: int) -> dict[str, dict[str, torch.Tensor]]:
    """What a checkpoint holds: {"model", "optimizer", "average": {name: tensor}}, as another reader has it."""
    from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

    with tempfile.TemporaryDirectory() as folder:
        dcp_to_torch_save(out / "checkpoints" / f"step_{step:08d}", f"{folder}/all.pt")
        return torch.load(f"{folder}/all.pt", weights_only=True)


def same_bits(one: Path, other: Path, step: int) -> None:
    """Weights, moments of the optimizer and averages of two trainings are equal to the last bit."""
    first, second = (dict(_leaves(checkpoint(out, step))) for out in (one, other))
    assert first.keys() == second.keys()
    assert len(first) > 20
    for name, value in first.items():
        same = torch.equal(value, second[name]) if isinstance(value, torch.Tensor) else value == second[name]
        assert same, name


def _leaves(tree: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list | tuple) else ()
    if not isinstance(tree, dict | list | tuple):
        yield name, tree
    for key, value in items:
        yield from _leaves(value, f"{name}/{key}")


def gradient_of_the_first_step(given: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.Tensor]:
    """The gradient that the optimizer gets, {name: tensor}."""
    from zoo.train import loop

    found: dict[str, torch.Tensor] = {}

    original = loop._Training._sound

    def sound(self: Any, loss: float, norm: float) -> bool:
        if not found:
            found.update({n: p.grad.clone() for n, p in self.model.named_parameters() if p.grad is not None})
        return original(self, loss, norm)

    with monkeypatch.context() as patch:
        patch.setattr(loop._Training, "_sound", sound)
        zoo.train(**given, tell=quietly)
    return found
