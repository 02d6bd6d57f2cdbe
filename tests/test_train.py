"""A training in one process: it goes on exactly, and what it leaves is a model like any other."""

from __future__ import annotations

import datetime
import json
import math
import os
import shutil
import signal
from pathlib import Path

import pytest
import torch
import training
from click.testing import CliRunner

import zoo
from zoo.cli import commands
from zoo.errors import DataError, GeometryError, SpecError, TrainingError, VideoDecodeError
from zoo.train import loop
from zoo.train.log import read_log
from zoo.train.settings import Settings
from zoo.video.footage import Recounted, open_footage

# Everything that chance or a state has a hand in.
RICH = {
    "ema": 0.9,
    "calibrate": True,
    "rand_augment": 1,
    "mixup": 0.5,
    "speed_jitter": 0.2,
    "repeats": 2,
    "batch_size": 4,
    "steps": 5,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return training.class_folders(tmp_path_factory.mktemp("videos"), each=3)


@pytest.fixture(scope="module")
def whole(folder, tmp_path_factory):
    """A training from its beginning to its end, and what it said."""
    said: list[str] = []
    given = training.settings(folder, tmp_path_factory.mktemp("whole") / "out", **RICH)
    return zoo.train(**given, tell=said.append), "\n".join(said)


def test_the_settings_are_printed_and_kept_and_the_log_is_drawn(whole):
    trained, said = whole
    kept = (trained.out / "settings.toml").read_text()
    assert kept in said
    assert Settings.read(trained.out / "settings.toml").ema == 0.9
    for row, kept in zip(trained.log, read_log(trained.out), strict=True):
        assert kept == pytest.approx(row, rel=1e-5)
    assert {"val_top1", "loss", "lr", "grad_norm"} <= read_log(trained.out)[-1].keys()
    assert (trained.out / "curves.png").read_bytes()[:4] == b"\x89PNG"
    assert (trained.step, trained.steps, trained.stopped) == (5, 5, 0)


def test_the_result_is_created_predicts_and_is_published_as_it_is(whole, folder, hub):
    trained, _ = whole
    model = zoo.create(f"local-dir:{trained.model}")
    assert model.labels == ("blue", "green", "red")
    assert model.preprocessing.temperature != 1
    assert model.preprocessing.num_frames == training.PROTOCOL["num_frames"]
    assert sorted(p.name for p in trained.model.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    card = (trained.model / "README.md").read_text()
    assert f"{trained.metrics['top1']:.4g}"[:4] in card
    assert "measured" in card
    video = str(folder / "red" / "0.mp4")
    done = CliRunner().invoke(commands, ["predict", video, "--model", f"local-dir:{trained.model}", "--json"])
    assert done.exit_code == 0, done.output
    assert {row["label"] for row in json.loads(done.stdout)["top"]} == set(model.labels)
    with zoo.testing.LoopbackHub() as server:
        line = ["publish", str(trained.model), "--repo", "me/colours", "--endpoint", server.url, "--dry-run"]
        done = CliRunner().invoke(commands, line)
    assert done.exit_code == 0, done.output


def test_the_card_of_a_second_training_says_nothing_of_where_the_first_one_lies(whole, folder, tmp_path):
    given = training.settings(folder, tmp_path / "out", model=f"local-dir:{whole[0].model}", model_options={}, steps=1)
    trained = zoo.train(**given, tell=training.quietly)
    card = (trained.model / "README.md").read_text()
    assert "starting from other weights of r2plus1d_tiny" in card
    assert str(whole[0].out) not in card


def test_the_result_has_the_averaged_weights(whole):
    trained, _ = whole
    state = zoo.create(f"local-dir:{trained.model}").state_dict()
    found = training.checkpoint(trained.out, 5)
    for name, tensor in state.items():
        assert torch.equal(tensor, found["average"][name])
    assert any(not torch.equal(found["model"][name], tensor) for name, tensor in state.items())


@pytest.mark.parametrize("stop_after", [1, 3])
def test_a_stopped_training_goes_on_to_the_same_bits(whole, folder, tmp_path, monkeypatch, stop_after):
    given = training.settings(folder, tmp_path / "out", **RICH)
    steps = []
    original = loop._Training._step

    def step(self, number, batches, stop):
        steps.append(number)
        stop.asked = 15 if number + 1 == stop_after and len(steps) == stop_after else stop.asked
        return original(self, number, batches, stop)

    monkeypatch.setattr(loop._Training, "_step", step)
    first = zoo.train(**given, tell=training.quietly)
    assert (first.step, first.stopped, first.model) == (stop_after, 15, None)
    said: list[str] = []
    second = zoo.train(**given, tell=said.append)
    assert steps == list(range(5))
    assert "exactly" in "\n".join(said)
    training.same_bits(whole[0].out, second.out, 5)
    assert [row["loss"] for row in read_log(second.out) if row["step"] == 5] == [
        row["loss"] for row in read_log(whole[0].out) if row["step"] == 5
    ]


def test_a_folder_with_another_training_is_left_alone(whole, folder):
    trained, _ = whole
    given = training.settings(folder, trained.out, **RICH)
    before = {path: path.stat().st_mtime_ns for path in trained.out.rglob("*")}
    with pytest.raises(TrainingError, match=r"lr=0\.5 instead of 0\.01"):
        zoo.train(**given | {"lr": 0.5}, tell=training.quietly)
    assert before == {path: path.stat().st_mtime_ns for path in trained.out.rglob("*")}


def test_files_that_are_no_part_of_the_training_are_left_alone(whole, folder, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "precious.txt").write_text("mine")
    (tmp_path / "log.csv").write_text("mine")
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "val.csv").write_text("mine")
    with pytest.raises(TrainingError, match=r"holds val\.csv"):
        zoo.train(**training.settings(folder, tmp_path / "lists"), tell=training.quietly)
    given = training.settings(folder, tmp_path, **RICH)
    with pytest.raises(TrainingError, match=r"holds model, log\.csv, and no checkpoint"):
        zoo.train(**given, tell=training.quietly)
    assert (tmp_path / "model" / "precious.txt").read_text() == (tmp_path / "log.csv").read_text() == "mine"
    copy = tmp_path / "copy"
    shutil.copytree(whole[0].out, copy, ignore=shutil.ignore_patterns("checkpoints"))
    with pytest.raises(TrainingError, match="no checkpoint"):
        zoo.train(**given | {"out": str(copy)}, tell=training.quietly)
    shutil.rmtree(copy / "model")  # as a training is that was killed before its first checkpoint
    assert zoo.train(**given | {"out": str(copy), "steps": 5}, tell=training.quietly).step == 5
    with pytest.raises(SpecError, match="new folder"):
        zoo.train(**given | {"out": str(tmp_path / "log.csv")}, tell=training.quietly)


def test_a_validation_that_a_stop_left_out_is_made_when_it_goes_on(folder, tmp_path, monkeypatch):
    given = training.settings(folder, tmp_path / "out", **RICH | {"validate_every": 2})
    original = loop._Training._step

    def stop_in_the_second(self, number, batches, stop):
        stop.asked = 15 if number == 1 else 0
        return original(self, number, batches, stop)

    with monkeypatch.context() as patch:
        patch.setattr(loop._Training, "_step", stop_in_the_second)
        zoo.train(**given, tell=training.quietly)
    assert "val_loss" not in read_log(tmp_path / "out")[-1]
    zoo.train(**given, tell=training.quietly)
    straight = training.settings(folder, tmp_path / "straight", **RICH | {"validate_every": 2})
    zoo.train(**straight, tell=training.quietly)
    kept = [
        [{k: v for k, v in row.items() if k.startswith(("val", "step"))} for row in read_log(tmp_path / name)]
        for name in ("out", "straight")
    ]
    assert [row for row in kept[0] if "val_loss" in row] == [row for row in kept[1] if "val_loss" in row]


def test_what_was_validated_on_can_be_evaluated_again(whole):
    trained, _ = whole
    again = zoo.evaluate(f"local-dir:{trained.model}", trained.out / "val.csv", workers=0)
    assert again.accuracy() == trained.metrics["top1"] and again.scores.loss() == pytest.approx(trained.metrics["loss"])


def test_a_temperature_that_nothing_determines_stays(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "best_temperature", lambda scores, protocol: None)
    said: list[str] = []
    trained = zoo.train(**training.settings(folder, tmp_path / "out", calibrate=True, steps=1), tell=said.append)
    assert zoo.create(f"local-dir:{trained.model}").preprocessing.temperature == 1.0
    assert any("no temperature" in text for text in said)


def test_what_rounds_otherwise_is_said_when_a_training_goes_on(whole, folder):
    trained, _ = whole
    given = training.settings(folder, trained.out, **RICH)
    said: list[str] = []
    zoo.train(**given | {"accumulate": 1, "grad_checkpointing": True}, tell=said.append)
    assert "not bit for bit, as these differ: grad_checkpointing False -> True" in "\n".join(said)


def test_parts_of_a_step_add_up_to_the_step_in_any_layout(folder, tmp_path, monkeypatch):
    """Without dropout and with frozen statistics."""
    plain = {"steps": 1, "freeze_bn": True, "model_options": {"widths": [4, 6], "dropout": 0.0}, "clip_grad": 0}
    found = {}
    for name, more in (("whole", {}), ("parts", {"accumulate": 3}), ("innermost", {"channels_last": True})):
        given = training.settings(folder, tmp_path / name, **plain, **more)
        found[name] = training.gradient_of_the_first_step(given, monkeypatch)
    for name, gradient in found["whole"].items():
        for how in ("parts", "innermost"):
            assert torch.allclose(found[how][name], gradient, rtol=1e-5, atol=1e-7), (name, how)
    assert found["innermost"]["stem.0.0.weight"].is_contiguous(memory_format=torch.channels_last_3d)


@pytest.mark.parametrize("broken", ["loss", "gradient"])
def test_a_training_that_diverges_ends_and_its_weights_stay_sound(folder, tmp_path, monkeypatch, broken):
    given = training.settings(folder, tmp_path / "out", checkpoint_every=1)
    original = loop._Training._loss

    def loss(self, batch):
        found = original(self, batch)
        if batch.step < 2:
            return found
        if broken == "loss":
            return found * math.inf
        found.register_hook(lambda gradient: gradient * math.nan)
        return found

    monkeypatch.setattr(loop._Training, "_loss", loss)
    with pytest.raises(TrainingError, match="diverged"):
        zoo.train(**given, tell=training.quietly)
    kept = sorted(path.name for path in (tmp_path / "out" / "checkpoints").iterdir())
    assert kept == ["step_00000001", "step_00000002"]
    assert all(tensor.isfinite().all() for tensor in training.checkpoint(tmp_path / "out", 2)["model"].values())


def test_what_cannot_be_trained_is_refused_before_anything_is_read(folder, tmp_path):
    given = training.settings(folder, tmp_path / "out")
    for wrong, error, said in (
        ({"model": "convlstm_next", "model_options": {}}, SpecError, "next_frame"),
        ({"model": "videomae_tiny", "model_options": {}}, GeometryError, "64x64"),
        ({"accumulate": 4}, SpecError, "4 \\(accumulate\\)"),
        ({"model_options": {"depth": 4}}, SpecError, "model_options"),
        ({"protocol": {"frames": 4}}, SpecError, "its fields are"),
        ({"data": str(tmp_path / "nowhere")}, DataError, "does not exist"),
        ({"device": "cuda:7"}, SpecError, "always works"),
        ({"device": "foo"}, SpecError, "always works"),
        ({"device": "meta"}, SpecError, "always works"),
        ({"seed": 2**63}, SpecError, "less than"),
        ({"flip_labels": {"red": 1}}, SpecError, "from label to label"),
        ({"model_options": {"widths": datetime.date(2026, 1, 1)}}, SpecError, "texts, numbers"),
        ({"license": "a\nb"}, SpecError, "one line"),
    ):
        with pytest.raises(error, match=said):
            zoo.train(**given | wrong, tell=training.quietly)


def test_frames_that_are_recounted_while_a_clip_is_read_are_read_again(folder, monkeypatch):
    """A file whose table lies is no broken file."""
    from zoo.data import read_listing
    from zoo.train.augment import recipe_of
    from zoo.video import footage

    sample = read_listing(folder).samples[0]
    recipe = recipe_of(zoo.Preprocessing(**training.PROTOCOL), Settings(model="m", data="d", out="o"), ("red",))
    wanted, _ = recipe.clips(sample, [1])
    frames, asked = footage._File.frames, []

    def recounted_once(self, indices, protocol):
        asked.append(indices)
        if len(asked) == 1:
            raise Recounted(self.name)
        return frames(self, indices, protocol)

    monkeypatch.setattr(footage._File, "frames", recounted_once)
    again, _ = recipe.clips(sample, [1])
    assert len(asked) == 2
    assert torch.equal(again, wanted)


def test_a_softmax_is_learned_whatever_the_weights_had():
    from zoo.train.network import network_of

    settings = Settings(model="r2plus1d_tiny", data="d", out="o", protocol={"clips": 3})
    assert network_of(("a", "b"), settings, training.quietly).preprocessing.activation == "softmax"
    assert network_of(("a", "b"), settings, training.quietly).preprocessing.clips == 3


def test_a_decoder_that_is_killed_is_no_traceback_of_torch(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(loop.Clips, "__getitem__", lambda self, show: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(TrainingError, match="workers=0"):
        zoo.train(**training.settings(folder, tmp_path / "out", workers=1), tell=training.quietly)


def test_a_temperature_of_the_start_is_not_said_to_be_chosen_here(folder, tmp_path):
    given = training.settings(folder, tmp_path / "out", steps=1)
    given |= {"protocol": {**given["protocol"], "temperature": 0.7}}
    (said,) = {
        metric.dataset
        for metric in zoo.create(f"local-dir:{zoo.train(**given, tell=training.quietly).model}").weights.metrics
    }
    assert "temperature" not in said


def test_what_damage_was_met_before_changes_no_later_clip(tmp_path):
    """Or a training that goes on would see other clips."""
    training.write_clip(tmp_path / "a.mp4", (200, 30, 30), 0)
    training.damage(tmp_path / "a.mp4")
    footage, protocol = open_footage(tmp_path / "a.mp4"), zoo.Preprocessing(num_frames=1)
    with pytest.raises(VideoDecodeError, match="damaged"):
        [*footage.frames([8], protocol)]
    assert [*open_footage(tmp_path / "a.mp4").time_s] == [*footage.time_s]
