"""Options of a training do what they say: precision, optimizers, memory, and data with spans or nothing held back."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import torch
import training

import zoo
from zoo.train import loop
from zoo.train.settings import Settings

PRECISIONS = {"bf16": torch.bfloat16, "fp16": torch.float16}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return training.class_folders(tmp_path_factory.mktemp("videos"), each=2)


def stopped_after(step: int, given: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train until SIGTERM comes in that step."""
    original = loop._Training._step

    def stop_in(self, number, batches, stop):
        stop.asked = 15 if number + 1 == step else 0
        return original(self, number, batches, stop)

    with monkeypatch.context() as patch:
        patch.setattr(loop._Training, "_step", stop_in)
        assert zoo.train(**given, tell=training.quietly).step == step


@pytest.mark.parametrize("amp", PRECISIONS)
def test_mixed_precision_computes_in_it_and_keeps_weights_in_float32(folder, tmp_path, monkeypatch, amp):
    seen = set()
    head = zoo.VideoModel.forward

    def forward(self, clip):
        logits = head(self, clip)
        seen.add((torch.is_grad_enabled(), logits.dtype))
        return logits

    monkeypatch.setattr(zoo.VideoModel, "forward", forward)
    held = training.class_folders(tmp_path / "held", each=1)
    given = training.settings(folder, tmp_path / "out", amp=amp, steps=2, val=str(held))
    trained = zoo.train(**given, tell=training.quietly)
    assert {(True, PRECISIONS[amp]), (False, PRECISIONS[amp])} <= seen
    assert (True, torch.float32) not in seen
    again = zoo.evaluate(f"local-dir:{trained.model}", held, workers=0)
    assert again.scores.loss() == pytest.approx(trained.metrics["loss"], rel=1e-5)
    assert {p.dtype for p in zoo.create(f"local-dir:{trained.model}").parameters()} == {torch.float32}


def test_a_gradient_that_overflows_in_fp16_moves_nothing_and_the_scale_goes_on(folder, tmp_path, monkeypatch):
    given = training.settings(folder, tmp_path / "out", amp="fp16", steps=3, checkpoint_every=1, keep=3, freeze_bn=True)
    original = loop._Training._loss

    def loss(self, batch):
        found = original(self, batch)
        if batch.step == 1:
            found.register_hook(lambda gradient: gradient * torch.inf)
        return found

    monkeypatch.setattr(loop._Training, "_loss", loss)
    stopped_after(2, given, monkeypatch)
    zoo.train(**given, tell=training.quietly)
    states = [training.checkpoint(tmp_path / "out", step) for step in (1, 2, 3)]
    scales = [state["extra"]["scaler"]["scale"] for state in states]
    assert scales[1] == scales[2] == scales[0] / 2
    changes = pairwise(state["model"] for state in states)
    moved = [{name for name, tensor in old.items() if not torch.equal(tensor, new[name])} for old, new in changes]
    assert moved[0] == set()
    assert moved[1]


@pytest.mark.parametrize("momentum", [0.9, 0.0])
def test_sgd_goes_on_to_the_same_bits(folder, tmp_path, monkeypatch, momentum):
    options = {"optimizer": "sgd", "momentum": momentum, "steps": 3}
    zoo.train(**training.settings(folder, tmp_path / "whole", **options), tell=training.quietly)
    given = training.settings(folder, tmp_path / "parts", **options)
    stopped_after(2, given, monkeypatch)
    zoo.train(**given, tell=training.quietly)
    training.same_bits(tmp_path / "whole", tmp_path / "parts", 3)


def test_computing_stages_again_gives_the_same_gradient(folder, tmp_path, monkeypatch):
    found = []
    for on in (False, True):
        given = training.settings(folder, tmp_path / str(on), grad_checkpointing=on, steps=1)
        found.append(training.gradient_of_the_first_step(given, monkeypatch))
    for name, gradient in found[0].items():
        assert torch.allclose(found[1][name], gradient, rtol=1e-5, atol=1e-7), name


def test_spans_of_a_table_are_trained_on_without_anything_held_back(folder, tmp_path):
    rows = [
        f"{folder / label / '0.mp4'},{label},{start},{start + 0.5}" for label in training.COLOURS for start in (0, 0.5)
    ]
    (tmp_path / "spans.csv").write_text("\n".join(["path,label,start_s,end_s", *rows]))
    said: list[str] = []
    given = training.settings(tmp_path / "spans.csv", tmp_path / "out", val_fraction=0.0, steps=2)
    trained = zoo.train(**given, tell=said.append)
    assert trained.metrics == {}
    assert "there is nothing to validate on: the result has no figures" in said
    assert "6 videos of 3 classes in 'spans'" in (trained.model / "README.md").read_text()
    assert Settings.read(trained.out / "settings.toml") == Settings(**given)
