"""Training works for someone: encoded videos of four camera motions, a tiny network of each family, a few minutes.

Run by name: `pytest -m slow tests/test_finetuning.py -s` prints what each has come to.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest

import zoo

pytestmark = pytest.mark.slow
MOTIONS = ("pan_left", "pan_right", "zoom_in", "zoom_out")
EACH = 60  # videos of each, a quarter of which is held back
LEAST = 90.0  # percent of the videos that were held back
MINUTES = 15.0

FROM_SCRATCH = {
    "r2plus1d_tiny": {"lr": 3e-3, "steps": 300},
    "convgru_tiny": {"lr": 3e-3, "steps": 400},
    "vit_c_tiny": {"lr": 2e-3, "steps": 500},
    "stacked_tiny": {"lr": 3e-3, "steps": 400},
}
FROM_WEIGHTS = {name: {"lr": 1e-3, "steps": 40} for name in zoo.list_models("*.camera_motion", pretrained=True)}


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("videos")
    for c, label in enumerate(MOTIONS):
        (root / label).mkdir()
        for i in range(EACH):
            options = {"seed": 1000 * c + i, "duration_s": 1.5, "fps": 16, "size": (72, 96)}
            clip = zoo.synth.generate(label, distract=False, **options)
            zoo.video.write_video(root / label / f"{i}.mp4", clip.frames.numpy(), fps=16)
    return root


@pytest.mark.parametrize("model", [*FROM_SCRATCH, *FROM_WEIGHTS])
def test_a_tiny_network_of_each_family_learns(videos, tmp_path, model):
    given = {"flip_labels": {"pan_left": "pan_right"}, "crop_scale": (0.6, 1.0), "val_fraction": 0.25, "workers": 1}
    given |= {"license": "apache-2.0", "validate_every": 100, **(FROM_SCRATCH | FROM_WEIGHTS)[model]}
    started = time.monotonic()
    trained = zoo.train(model, videos, tmp_path / "out", threads=1, **given)
    minutes = (time.monotonic() - started) / 60
    print(f"{model}, {given['steps']} steps in {minutes:.1f} minutes: {trained.metrics}")
    assert trained.metrics["top1"] > LEAST and minutes < MINUTES
    again = zoo.evaluate(f"local-dir:{trained.model}", tmp_path / "out" / "val.csv", workers=1)
    assert again.accuracy() == trained.metrics["top1"]
    if model in FROM_WEIGHTS:
        scratch = zoo.train(model.partition(".")[0], videos, tmp_path / "scratch", threads=1, **given)
        print(f"from scratch in as many: {scratch.metrics}")
        assert scratch.metrics["top1"] < trained.metrics["top1"]
