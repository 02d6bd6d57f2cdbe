"""The parts of a training: each says exactly what the settings and its place in the training say."""

from __future__ import annotations

import dataclasses
import math
import random
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import training
from click.testing import CliRunner

import zoo
from zoo.cli import commands
from zoo.data import Sample, read_listing
from zoo.errors import SpecError
from zoo.train.augment import recipe_of
from zoo.train.clips import UNREADABLE, Clips, loader
from zoo.train.mix import mix, targets_of
from zoo.train.network import network_of
from zoo.train.optimise import Average, freeze, optimizer_of, rate, set_rate, to_training
from zoo.train.sampler import Course, Share
from zoo.train.settings import Settings, names_a_side
from zoo.video.clips import load_clips
from zoo.video.sampling import random_clip

LABELS = tuple(sorted(training.COLOURS))
PROTOCOL = zoo.Preprocessing(num_frames=4, fps=8, resize=(20, 20))


def some(**changes) -> Settings:
    return Settings(**{"model": "m", "data": "d", "out": "o", **changes})


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return training.class_folders(tmp_path_factory.mktemp("videos"), each=3)


# --- settings ---------------------------------------------------------------------------------------------------------


def test_settings_survive_a_file_to_the_last_one(tmp_path):
    unusual = some(
        data='a "quoted" ümlaut\\path', flip=0.25, betas=(0.8, 0.9), flip_labels={"turn left": "turn right"}, lr=3e-7,
        model_options={"widths": [4, 8], "deep": {"er": True}}, amp="bf16", repeats=4, val_fraction=0, freeze_bn=True,
    )  # fmt: skip
    for settings in (some(), unusual):
        file = tmp_path / "settings.toml"
        file.write_text(settings.to_toml(), encoding="utf-8")
        assert Settings.read(file) == settings
    assert Settings.read(file, lr=2, betas=[0.1, 0.2]) != unusual
    assert "learning rate" in unusual.to_toml()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"lr": 0}, "lr must be more than 0"),
        ({"lr": "fast"}, "lr must be a number"),
        ({"batch_size": True}, "batch_size must be a whole number"),
        ({"optimizer": "adam"}, "'adamw', 'sgd'"),
        ({"crop_scale": [1, 0.5]}, "the smaller first"),
        ({"mixup": 0.1, "batch_size": 7}, "batch_size must be even"),
        ({"batch_size": 6, "repeats": 4}, "a multiple of repeats=4"),
        ({"protocol": {"crop": None}}, "protocol must be a table"),
        ({"learning_rate": 1}, "no field 'learning_rate'"),
        ({"model": ""}, "model must be given"),
    ],
)
def test_settings_that_cannot_be_say_why(wrong, said):
    with pytest.raises(SpecError) as error:
        Settings.read(None, **({"model": "m", "data": "d", "out": "o"} | wrong))
    assert said in str(error.value)


def test_a_file_of_settings_that_cannot_be_read_says_so(tmp_path):
    (tmp_path / "broken.toml").write_text("lr = ")
    for file in ("broken.toml", "missing.toml"):
        with pytest.raises(SpecError, match=file):
            Settings.read(tmp_path / file)


def test_the_command_line_passes_on_what_is_given_and_nothing_else(monkeypatch, tmp_path):
    got = {}
    monkeypatch.setattr(zoo, "train", lambda **given: got.update(given) or exit_like(tmp_path))
    line = ["train", "m", "d", "o", "--lr", "0.1", "--no-flip-nothing"]
    assert CliRunner().invoke(commands, line).exit_code == 2
    line = "train m d o --lr 0.1 --freeze-bn --betas 0.5,0.6 --model-options dropout=0.5 --protocol sampler=uniform"
    result = CliRunner().invoke(commands, line.split())
    assert result.exit_code == 0, result.output
    del got["tell"], got["config"]
    assert Settings.read(None, **got) == some(
        lr=0.1, freeze_bn=True, betas=(0.5, 0.6), model_options={"dropout": 0.5}, protocol={"sampler": "uniform"}
    )
    help = CliRunner().invoke(commands, ["train", "--help"]).output
    assert all(
        f"--{name.replace('_', '-')}" in help for name in some().to_dict() if name not in ("model", "data", "out")
    )


def exit_like(path):
    from zoo.train.loop import Trained

    return Trained(path, path, 1, 1)


# --- order and learning rate ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("repeats", [1, 2])
def test_the_order_follows_from_seed_and_step_alone_on_any_number_of_processes(repeats):
    course = Course(samples=10, batch_size=8, repeats=repeats, seed=3)
    alone = [list(course.shows(step)) for step in range(20)]
    shown = [show for step in alone for show in step]
    for epoch in range(3):
        assert sorted(show.sample for show in shown if show.epoch == epoch) == list(range(10))
    assert [s.sample for s in shown[:10]] != [s.sample for s in shown[10:20]]
    assert alone != [Course(10, 8, repeats, 4).shows(step) for step in range(20)]
    for world, accumulate in ((1, 2), (2, 1), (2, 2)):
        parts = [
            list(Share(course, range(5, 20), rank=rank, world=world, accumulate=accumulate)) for rank in range(world)
        ]
        together = [show for rounds in zip(*parts, strict=True) for part in rounds for show in part]
        assert together == [show for step in alone[5:] for show in step]


def test_the_learning_rate_rises_falls_and_differs_by_layer():
    settings = some(lr=1.0, min_lr=0.1, warmup=0.1, layer_decay=0.5, weight_decay=0.3)
    rates = [rate(step, 100, settings) for step in range(100)]
    assert rates[:10] == pytest.approx([(i + 1) / 11 for i in range(10)])
    assert rates[10] == 1.0
    assert rates[-1] == pytest.approx(0.1)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[54] == pytest.approx(0.55 + 0.45 * math.cos(math.pi * 44 / 89))
    model = zoo.build("r2plus1d_tiny")
    optimizer = optimizer_of(model, settings)
    set_rate(optimizer, 0.8)
    of = {id(p): (g["lr"], g["weight_decay"]) for g in optimizer.param_groups for p in g["params"]}
    assert len(of) == len(list(model.parameters()))
    assert of[id(model.head.weight)] == (0.8, 0.3)
    assert of[id(model.head.bias)] == (0.8, 0.0)
    assert of[id(model.stem[0][0].weight)] == (pytest.approx(0.8 * 0.5**4), 0.3)


def test_frozen_layers_and_norms_stay_as_they_are():
    model = zoo.build("r2plus1d_tiny")
    freeze(model, 2)
    to_training(model, freeze_bn=False)
    assert not model.stem[0][1].training
    assert model.blocks[2].conv1[1].training
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    optimizer = optimizer_of(model, some(optimizer="sgd", lr=0.1))
    model(torch.rand(2, 3, 4, 16, 16)).sum().backward()
    optimizer.step()
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed
    assert not [name for name in changed if name.startswith(("stem.", "blocks.0."))]
    to_training(model, freeze_bn=True)
    assert not model.blocks[2].conv1[1].training
    with pytest.raises(SpecError, match="freeze=5"):
        freeze(model, 5)


def test_the_average_is_an_exponential_one():
    model = torch.nn.Linear(1, 1, bias=False)
    values, decay = [1.0, 3.0, -2.0], 0.05  # below (1 + t) / (10 + t), so that it is in force from the start
    model.weight.data.fill_(0.5)
    average, expected = Average(model, decay), 0.5
    for step, value in enumerate(values):
        model.weight.data.fill_(value)
        average.update(step)
        expected = decay * expected + (1 - decay) * value
    with average.in_place():
        assert model.weight.item() == pytest.approx(expected)
    assert model.weight.item() == -2.0


# --- clips ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", [
    zoo.Preprocessing(num_frames=4, stride=2, fps=10, sampler="consecutive"),
    zoo.Preprocessing(num_frames=4, stride=3, sampler="dense_mm"),
    zoo.Preprocessing(num_frames=4, stride=2, fps=10, sampler="dense_psf"),
    zoo.Preprocessing(num_frames=8, sampler="uniform"),
])  # fmt: skip
def test_clips_for_training_come_from_everywhere_within_the_span(protocol):
    times = [i / 20 for i in range(200)]
    options = {"fps": 20.0, "duration_s": 10.0}
    drawn = [random_clip(protocol, times, random.Random(i), **options) for i in range(60)]
    assert all(len(clip) == protocol.num_frames and clip == sorted(clip) for clip in drawn)
    assert min(clip[0] for clip in drawn) < 25
    assert max(clip[-1] for clip in drawn) > 175
    assert len({tuple(clip) for clip in drawn}) > 30
    within = [random_clip(protocol, times, random.Random(i), span=(4.0, 6.5), **options) for i in range(60)]
    assert {80 <= i < 130 for clip in within for i in clip} == {True}
    if protocol.sampler != "uniform":
        (step,) = {b - a for clip in drawn for a, b in pairwise(clip)}
        faster = random_clip(protocol, times, random.Random(0), speed=2.0, **options)
        assert faster[-1] - faster[0] == pytest.approx(2 * step * 3, abs=3)


def test_without_augmentation_a_clip_is_that_of_the_protocol(folder):
    for protocol in (PROTOCOL, zoo.Preprocessing(num_frames=4, fps=8, resize=24, crop=20, mean=(0.1, 0.2, 0.3))):
        plain = some(random_resized_crop=False, temporal_jitter=False, flip=0)
        sample = read_listing(folder).samples[0]
        clips, flipped = recipe_of(protocol, plain, LABELS).clips(sample, [1, 2])
        wanted = load_clips(protocol, sample.path, views="fast").data[0]
        assert torch.equal(clips, torch.stack([wanted, wanted]))
        assert flipped == [(), ()]


def test_what_chance_does_to_a_clip_follows_from_its_key_alone(folder):
    sample = read_listing(folder).samples[0]
    wild = some(rand_augment=2, speed_jitter=0.3, flip=0.5)
    recipe = recipe_of(PROTOCOL, wild, LABELS)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first, flips = recipe.clips(sample, range(8))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    for key in (3, 5):
        alone, flip = recipe_of(PROTOCOL, wild, LABELS).clips(sample, [key])
        assert torch.equal(alone[0], first[key])
        assert flip == [flips[key]]
    assert len({clip.sum().item() for clip in first}) == 8
    assert {("flip",), ()} == set(flips)


def test_the_chance_of_an_accelerator_is_left_alone(folder, monkeypatch):
    """It is for the network: whether clips are drawn here or in a worker must not change what dropout does."""
    for accelerator in (torch.cuda, torch.mps, torch.xpu):
        for seeder in ("manual_seed", "manual_seed_all"):
            monkeypatch.setattr(accelerator, seeder, pytest.fail, raising=False)
    recipe_of(PROTOCOL, some(rand_augment=1), LABELS).clips(read_listing(folder).samples[0], [1])
    mix(torch.rand(2, 3, 2, 8, 8), torch.eye(2), some(mixup=1.0, cutmix=1.0), step=0, first=0)


def test_one_crop_is_cut_from_all_frames_of_a_clip(tmp_path):
    still = np.random.default_rng(0).integers(0, 255, (1, 32, 40, 3), dtype=np.uint8).repeat(12, 0)
    zoo.video.write_video(tmp_path / "still.mp4", still, fps=12, codec="libx264", crf=0)
    recipe = recipe_of(PROTOCOL, some(rand_augment=1), LABELS)
    clips, _ = recipe.clips(Sample(tmp_path / "still.mp4", "red", "still"), range(4))
    assert torch.equal(clips, clips[:, :, :1].expand_as(clips))


def test_clips_are_the_same_in_workers_and_on_more_processes(folder):
    samples = read_listing(folder).samples
    clips = Clips(samples, LABELS, recipe_of(PROTOCOL, some(batch_size=4, repeats=2), LABELS))
    course = Course(len(samples), 4, 2, 0)
    wanted = list(loader(clips, Share(course, range(2)), workers=0, pin=False))
    assert [batch.clips.shape for batch in wanted] == [(4, 3, 4, 20, 20)] * 2
    inside = list(loader(clips, Share(course, range(2)), workers=1, pin=False))
    halves = [list(loader(clips, Share(course, range(2), rank=r, world=2), workers=0, pin=False)) for r in (0, 1)]
    for step in range(2):
        assert torch.equal(inside[step].clips, wanted[step].clips)
        assert torch.equal(torch.cat([half[step].clips for half in halves]), wanted[step].clips)
        assert torch.equal(torch.cat([half[step].labels for half in halves]), wanted[step].labels)
        assert [half[step].first for half in halves] == [0, 2]


def test_a_video_that_breaks_in_the_middle_of_a_training_counts_for_nothing(folder, tmp_path):
    (tmp_path / "broken.mp4").write_bytes(b"broken meanwhile")
    samples = [read_listing(folder).samples[0], Sample(tmp_path / "broken.mp4", "red", "broken.mp4")]
    clips = Clips(samples, LABELS, recipe_of(PROTOCOL, some(), LABELS))
    (batch,) = loader(clips, Share(Course(2, 2, 1, 0), range(1)), workers=0, pin=False)
    assert sorted(batch.labels.tolist()) == [UNREADABLE, 0]
    assert "broken.mp4" in batch.errors[0]
    broken = batch.labels.tolist().index(UNREADABLE)
    assert targets_of(batch.labels, 3)[broken].sum() == 0


def test_mirrors_are_refused_where_a_label_names_a_side():
    assert names_a_side(("SwipeLeft", "leftTurn", "RollCW", "CWRoll", "PAN_RIGHT", "Cleft", "CWm")) == [
        *("SwipeLeft", "leftTurn", "RollCW", "CWRoll", "PAN_RIGHT")
    ]
    assert names_a_side(("pan_left", "Roll CW", "turning counter-clockwise", "cleft", "right now", "crow")) == [
        "pan_left",
        "Roll CW",
        "turning counter-clockwise",
        "right now",
    ]
    sides = ("pan_left", "pan_right", "static")
    assert recipe_of(PROTOCOL, some(), LABELS).turns == {"flip": 0.5}
    assert recipe_of(PROTOCOL, some(), sides).turns == {}
    with pytest.raises(SpecError, match="in a mirror 'pan_left' is something else"):
        recipe_of(PROTOCOL, some(flip=0.5), sides)
    swapped = recipe_of(PROTOCOL, some(flip_labels={"pan_left": "pan_right"}), sides)
    assert (swapped.turns, swapped.renamed["flip"]) == ({"flip": 0.5}, (1, 0, 2))
    with pytest.raises(SpecError, match="no label of the data"):
        recipe_of(PROTOCOL, some(flip_labels={"pan_left": "pan_wrong"}), sides)
    with pytest.raises(SpecError, match="different sizes"):
        recipe_of(zoo.Preprocessing(num_frames=4, resize=64), some(), LABELS)


def test_turned_clips_get_the_labels_that_turning_exchanges(folder):
    sample = read_listing(folder).samples[0]
    square = dataclasses.replace(PROTOCOL, resize=(16, 16))
    sides = ("left", "right", "up", "down")
    given = {"upside_down_labels": {"up": "down"}, "transpose_labels": {"left": "up", "right": "down"}}
    given |= {"reverse_labels": {"left": "right", "up": "down"}, "random_resized_crop": False, "temporal_jitter": False}
    recipe = recipe_of(square, some(**given), sides)
    plain = load_clips(square, sample.path, views="fast").data[0]
    clips, turns = recipe.clips(sample, range(16))
    assert {turn for done in turns for turn in done} == {"upside_down", "transpose", "reverse"}
    for clip, done in zip(clips, turns, strict=True):
        for turn in reversed(done):
            clip = {"upside_down": clip.flip(-2), "transpose": clip.mT, "reverse": clip.flip(1)}[turn]
        assert torch.equal(clip, plain)
    assert [recipe.label_of(0, done) for done in ((), ("upside_down",), ("transpose",), ("transpose", "reverse"))] == [
        0,
        0,
        2,
        3,
    ]
    with pytest.raises(SpecError, match="only squares"):
        recipe_of(dataclasses.replace(PROTOCOL, resize=(16, 20)), some(**given), sides)
    with pytest.raises(SpecError, match="reverse_labels: 'in' is no label"):
        recipe_of(square, some(reverse_labels={"in": "out"}), sides)


def test_mixed_clips_and_targets_have_the_same_parts():
    clips = torch.arange(8.0).reshape(8, 1, 1, 1, 1).expand(8, 3, 2, 16, 16).contiguous()
    targets = torch.eye(8)
    settings = some(mixup=1.0, batch_size=8)
    mixed, said = mix(clips, targets, settings, step=4, first=0)
    assert torch.allclose(said.sum(1), torch.ones(8))
    assert torch.allclose(mixed[:, 0, 0, 0, 0], said @ torch.arange(8.0), atol=1e-5)
    assert torch.equal(said[0].nonzero().flatten(), torch.tensor([0, 1]))
    assert said[0, 0] == said[1, 1] != said[2, 2]
    later = [mix(clips[at : at + 4], targets[at : at + 4], settings, step=4, first=at) for at in (0, 4)]
    assert torch.equal(torch.cat([part for part, _ in later]), mixed)
    cut, said = mix(clips, targets, some(cutmix=1.0), step=0, first=0)
    assert torch.equal(cut, cut[:, :, :1].expand_as(cut))
    shares = torch.stack([(cut[:, 0, 0] == i).float().mean((1, 2)) for i in range(8)], 1)
    assert torch.allclose(shares, said, atol=1e-6)
    assert 0 < said[0, 1] < 1 or 0 < said[2, 3] < 1
    _, said = mix(clips, targets, settings, step=0, first=0, repeats=2)
    assert torch.equal(said[0].nonzero().flatten(), torch.tensor([0, 2]))


def test_a_head_is_kept_only_for_the_same_labels():
    shipped = zoo.create("r2plus1d_tiny.camera_motion")
    settings = some(model="r2plus1d_tiny.camera_motion")
    same = network_of(shipped.labels, settings, training.quietly)
    assert torch.equal(same.head.weight, shipped.head.weight)
    other = network_of(tuple(f"label {i}" for i in range(9)), settings, training.quietly)
    assert not torch.equal(other.head.weight, shipped.head.weight)
    assert torch.equal(other.stem[0][0].weight, shipped.stem[0][0].weight)
    again = network_of(other.labels, settings, training.quietly)
    assert torch.equal(other.head.weight, again.head.weight)
