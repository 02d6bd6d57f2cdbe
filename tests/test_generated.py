"""Data that are drawn as they are read: always the same to measure on, always new to train on."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import training

import zoo
from zoo.data import check, read_listing, split
from zoo.errors import DataError
from zoo.synth import scene
from zoo.synth.camera import FLOW, MOVES, view_points
from zoo.synth.fixed import FixedFootage
from zoo.synth.footage import GeneratedFootage
from zoo.synth.mixed import MixedFootage
from zoo.train.augment import recipe_of
from zoo.train.clips import Clips, loader
from zoo.train.sampler import Course, Share
from zoo.train.settings import Settings

PROTOCOL = zoo.Preprocessing(num_frames=4, fps=8, resize=(20, 20))


def test_generated_videos_are_new_in_each_epoch_and_the_same_wherever_they_are_drawn():
    listing = read_listing("synth:camera_motion:18")
    assert Counter(sample.label for sample in listing.samples) == dict.fromkeys(zoo.synth.LABELS, 2)
    assert check(listing, *split(listing, "", 0.5, 0)).unreadable == {}
    fixed = {"random_resized_crop": False, "temporal_jitter": False}
    settings = Settings(model="m", data="d", out="o", batch_size=2, **fixed)
    labels = tuple(sorted(zoo.synth.LABELS))
    clips = Clips(listing.samples, labels, recipe_of(PROTOCOL, settings, labels))
    course = Course(18, 2, 1, 0)
    shown = [batch.clips for batch in loader(clips, Share(course, range(0, 18, 9)), workers=0, pin=False)]
    again = [batch.clips for batch in loader(clips, Share(course, range(0, 18, 9)), workers=1, pin=False)]
    assert torch.equal(torch.stack(shown), torch.stack(again))
    pan = next(sample for sample in listing.samples if sample.label == "pan_left")
    first, other = (recipe_of(PROTOCOL, settings, labels).clips(pan, [key])[0] for key in (1, 2))
    assert not torch.equal(first, other)
    assert torch.equal(drawn(pan.open()), drawn(pan.open()))
    assert pan.open().duration_s >= 1


def drawn(footage):
    frames = footage.frames(range(3), zoo.Preprocessing(num_frames=3, resize=24, crop=20))
    return torch.stack([torch.from_numpy(frame.data) for frame in frames])


def test_generated_videos_that_cannot_be_say_how_to_ask():
    for source in ("synth:camera_motion", "synth:dogs:5", "synth:camera_motion:0", "synth:camera_motion:1e9"):
        with pytest.raises(DataError, match="synth:camera_motion:N"):
            read_listing(source)


def test_what_is_nearer_passes_by_faster_and_stands_when_the_camera_does():
    still, end = np.zeros(2), np.array([0.0, 0.1])
    for x, pixels in ((still, 0), (end, -10), (-end, 10)):
        path = zoo.synth.Path(x, still, still, still)
        points = view_points(path, (64, 100), view=100.0, aspect=1.0)
        black, white = torch.zeros(2, 3, 64, 100), torch.ones(3, 300, 300)
        first, last = scene.add_layer(np.random.default_rng(3), black, points, white)[:, 0]
        assert 0.02 < float(first.mean()) < 0.7
        fits = {by: float((first.roll(by, 1) - last)[:, 15:-15].abs().mean()) for by in range(-14, 15)}
        assert min(fits, key=fits.__getitem__) == pixels


@pytest.mark.slow
def test_the_recipe_of_camera_motion_trains_measures_and_calibrates(tmp_path):
    small = {"model_options": {"widths": [4, 6]}, "batch_size": 4, "steps": 2, "workers": 0, "threads": 0}
    small |= {"val": "synth:camera_motion:9", "tell": training.quietly}
    recipe = Path(__file__).parent.parent / "tools" / "camera_motion.toml"
    trained = zoo.train("r2plus1d_tiny", "synth:camera_motion:18", tmp_path, config=recipe, **small)
    model = zoo.create(f"local-dir:{trained.model}")
    assert sorted(model.labels) == sorted(zoo.synth.LABELS)
    assert model.preprocessing.temperature != 1
    again = zoo.evaluate(model, "synth:camera_motion:9", workers=0)
    assert again.accuracy() == pytest.approx(trained.metrics["top1"])
    assert again.scores.loss() == pytest.approx(trained.metrics["loss"], abs=1e-5)


def test_two_motions_of_a_video_show_as_much_and_either_is_its_label():
    kinds = Counter()
    for seed in range(60):
        footage = MixedFootage("pan_left", seed)
        half = len(footage.time_s) // 2
        path = {axis: getattr(footage._path, axis) * FLOW[axis] for axis in FLOW}
        moved = {axis: (way[half] - way[0], way[-1] - way[half]) for axis, way in path.items()}
        (other,) = {*footage.name.split(" of seed")[0].split(" and ")} - {"pan_left"}
        sizes = []
        for axis, sign in (MOVES["pan_left"], MOVES[other]):
            sizes.append(max(abs(part) for part in moved[axis] if np.sign(part) == sign))
        assert sizes[0] == pytest.approx(sizes[1], abs=0.04), footage.name
        assert min(sizes) > 0.02
        in_turn = abs(moved["x"][0] - moved["x"][1]) > 0.5 * sizes[0]
        cut = footage._cut < len(footage.time_s)
        assert in_turn or not cut
        kinds[in_turn, cut, footage.name.startswith("pan_left")] += 1
    assert len(kinds) == 6


def test_a_video_that_is_cut_shows_another_scene_from_then_on():
    footage = next(f for f in (MixedFootage("zoom_in", seed) for seed in range(99)) if f._cut < len(f.time_s))
    protocol = zoo.Preprocessing(num_frames=8, resize=(32, 32))
    near = range(footage._cut - 2, footage._cut + 2)
    frames = [frame.data.astype(float) for frame in footage.frames(near, protocol)]
    steps = [np.abs(a - b).mean() for a, b in pairwise(frames)]
    assert steps[1] > max(steps[0], steps[2])
    again = MixedFootage("zoom_in", footage._seed).frames(near, protocol)
    assert all(np.array_equal(frame.data, wanted) for frame, wanted in zip(again, frames, strict=True))


def test_one_and_two_motions_can_be_learned_together():
    listing = read_listing("synth:camera_motion:18+mixed_motion:8")
    assert listing.samples[:18] == read_listing("synth:camera_motion:18").samples
    assert listing.labels == tuple(sorted(zoo.synth.LABELS))
    mixed = listing.samples[18:]
    assert [sample.label for sample in mixed] == list(MOVES)
    assert {type(sample.open()) for sample in mixed} == {MixedFootage}
    assert check(listing, listing.samples, mixed[:2]).unreadable == {}


def test_large_things_move_before_a_camera_that_stays():
    one, two = read_listing("synth:fixed_camera:30"), read_listing("synth:camera_motion:9+fixed_camera:3")
    assert one.labels == ("static",) and [sample.drawn for sample in two.samples[9:]] == ["fixed_camera"] * 3
    protocol = zoo.Preprocessing(num_frames=2, resize=(48, 48))
    changes = []
    for sample in one.samples:
        busy = sample.open()
        assert type(busy) is FixedFootage
        for footage in (busy, GeneratedFootage("static", busy._seed)):
            first, last = (frame.data.astype(float) for frame in footage.frames((0, len(footage.time_s) - 1), protocol))
            changes.append(np.quantile(np.abs(first - last).mean(-1), 0.95))
    busy, plain = np.median(np.reshape(changes, (-1, 2)), axis=0)
    assert busy > 1.4 * plain


def test_what_passes_is_large_moves_and_leaves_the_rest_alone():
    rng, moving = np.random.default_rng(3), 0
    texture = torch.from_numpy(rng.random((3, 96, 96), dtype=np.float32))
    for _ in range(20):
        plain = torch.full((3, 3, 48, 64), 0.5)  # of which nothing can lose contrast
        clip = scene.add_passers(rng, plain, texture, np.array([0.0, 0.5, 1.0]))
        covered = (clip != 0.5).any(1).float().mean((1, 2))
        assert covered.max() < 0.75
        moving += bool(covered.max() > 0.05 and (clip[0] - clip[2]).abs().mean() > 0.01)
    assert moving >= 18
