"""Trainings as processes of their own: killed, stopped, on two processes, sharded."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import training

import zoo
from zoo.train.log import read_log
from zoo.train.settings import Settings

pytestmark = pytest.mark.slow
STEPS = 20
# The tiny network of each family, and how it has no dropout, which each process draws for itself.
FAMILIES = {
    "r2plus1d_tiny": {"widths": [4, 6], "dropout": 0.0},
    "convgru_tiny": {"dropout": 0.0},
    "vit_c_tiny": {},
    "stacked_tiny": {"drop_rate": 0.0},
}
# What two processes can agree on: norms with fixed statistics, and no dropout.
EQUAL = {"freeze_bn": True, "model_options": FAMILIES["r2plus1d_tiny"], "steps": STEPS, "threads": 1}
OWN_SIZE = {"model_options": {}, "protocol": {"clips": 2}}
CHANCE = {"mixup": 0.4, "cutmix": 0.4, "speed_jitter": 0.2, "repeats": 2, "batch_size": 8, "rand_augment": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return training.class_folders(tmp_path_factory.mktemp("videos"))


def written(data: Path, root: Path, **changes: Any) -> Path:
    """A file of settings of a training into `root`/out."""
    root.mkdir(parents=True, exist_ok=True)
    file = root / "settings.toml"
    file.write_text(Settings(**training.settings(data, root / "out", **changes)).to_toml())
    return file


def finish(process: subprocess.Popen[str]) -> str:
    said, _ = process.communicate(timeout=1200)
    assert process.returncode == 0, said
    return said


def trained(data: Path, root: Path, processes: int, **changes: Any) -> str:
    """Run a watched training to its end; gives what it said."""
    return finish(training.start(written(data, root, **changes), processes=processes, watched=root))


def wait_for_step(root: Path, step: int, process: subprocess.Popen[str]) -> None:
    while not any(row["step"] >= step for row in read_log(root / "out")):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.02)


def seen(root: Path) -> dict[int, tuple[Any, ...]]:
    """{step: (learning rate, clips, labels)} over all processes, in the order of the step."""
    rows = [json.loads(line) for file in root.glob("steps-*.jsonl") for line in file.read_text().splitlines()]
    steps: dict[int, tuple[Any, ...]] = {}
    for step in sorted({row["step"] for row in rows}):
        parts = {row["first"]: row for row in rows if row["step"] == step}
        (rate,) = {row["lr"] for row in parts.values()}
        together = [parts[first] for first in sorted(parts)]
        clips = [clip for part in together for clip in part["clips"]]
        steps[step] = rate, clips, [label for part in together for label in part["labels"]]
    return steps


def result(root: Path) -> zoo.VideoModel:
    return zoo.create(f"local-dir:{root / 'out' / 'model'}")


def kill_all(process: subprocess.Popen[str]) -> None:
    """A launcher and all that it has started, with no time to say anything."""
    doomed = [process.pid]
    for pid in doomed:
        tasks = Path(f"/proc/{pid}/task").iterdir()
        doomed += [int(child) for task in tasks for child in (task / "children").read_text().split()]
    for pid in doomed:
        os.kill(pid, signal.SIGKILL)
    process.communicate()


@pytest.fixture(scope="module")
def alone(folder, tmp_path_factory) -> Path:
    """One process, from beginning to end."""
    root = tmp_path_factory.mktemp("alone")
    trained(folder, root, 0, **EQUAL, **CHANCE)
    return root


@pytest.fixture(scope="module")
def both(folder, tmp_path_factory) -> Path:
    """The same on two processes."""
    root = tmp_path_factory.mktemp("both")
    trained(folder, root, 2, **EQUAL, **CHANCE)
    return root


@pytest.mark.parametrize("model", FAMILIES)
def test_killed_at_any_step_it_goes_on_to_the_same_bits(folder, tmp_path, model):
    """With dropout, moving statistics, an average and workers that decode."""
    moving = {"ema": 0.9, "workers": 1, "checkpoint_every": 3, "log_every": 1, "threads": 1, "steps": 16, **CHANCE}
    if model != "r2plus1d_tiny":
        moving |= OWN_SIZE | {"model": model}
    finish(training.start(written(folder, tmp_path / "whole", **moving)))
    file = written(folder, tmp_path / "killed", **moving)
    chance = random.SystemRandom()
    for least in (1, 7):
        step = chance.randrange(least, least + 6)
        process = training.start(file)
        wait_for_step(tmp_path / "killed", step, process)
        time.sleep(chance.random() * 0.1)
        process.kill()
        process.communicate()
        print(f"killed after step {step}")
    said = finish(training.start(file))
    assert "exactly" in said
    training.same_bits(tmp_path / "whole" / "out", tmp_path / "killed" / "out", 16)
    results = [(tmp_path / name / "out" / "model" / "model.safetensors").read_bytes() for name in ("whole", "killed")]
    assert results[0] == results[1]


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_killed_on_two_processes_it_goes_on_to_the_same_bits(folder, tmp_path, parallel):
    """Each process has running statistics, and an average of them, of its own; those of the first are kept."""
    moving = {"ema": 0.9, "checkpoint_every": 2, "log_every": 1, "threads": 1, "steps": 12, **CHANCE}
    moving["parallel"] = parallel
    finish(training.start(written(folder, tmp_path / "whole", **moving), processes=2))
    file = written(folder, tmp_path / "killed", **moving)
    process = training.start(file, processes=2)
    wait_for_step(tmp_path / "killed", random.SystemRandom().randrange(3, 9), process)
    kill_all(process)
    said = finish(training.start(file, processes=2))
    assert "goes on from" in said and "exactly" in said
    training.same_bits(tmp_path / "whole" / "out", tmp_path / "killed" / "out", 12)
    states = [result(tmp_path / name).state_dict() for name in ("whole", "killed")]
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())


@pytest.mark.parametrize("model", [name for name in FAMILIES if name != "r2plus1d_tiny"])
def test_two_processes_learn_the_same_in_every_family(folder, tmp_path, model):
    given = {**EQUAL, **CHANCE, **OWN_SIZE, "model": model, "model_options": FAMILIES[model]}
    given |= {"optimizer": "sgd"}  # AdamW divides what is rounding only by its size
    for processes in (1, 2):
        trained(folder, tmp_path / str(processes), processes if processes > 1 else 0, **given)
    agree(tmp_path / "1", tmp_path / "2")


def test_two_processes_see_the_same_clips_and_learn_the_same(alone, both):
    agree(alone, both)


def agree(alone: Path, both: Path) -> None:
    assert seen(alone) == seen(both)
    assert len(seen(alone)) == STEPS
    assert all((both / f"steps-{rank}.jsonl").stat().st_size for rank in (0, 1))
    one, two = (torch.load(root / "gradient.pt", weights_only=True) for root in (alone, both))
    assert one.keys() == two.keys()
    first, second = (torch.cat([gradient.double().flatten() for gradient in found.values()]) for found in (one, two))
    assert float((first - second).norm() / first.norm()) <= 1e-6
    state = result(both).state_dict()
    worst = max(float((tensor - state[name]).abs().max()) for name, tensor in result(alone).state_dict().items())
    assert worst <= 1e-5
    tops = [json.loads((root / "out" / "evaluation.json").read_text())["video"]["top1"] for root in (alone, both)]
    assert abs(tops[0] - tops[1]) <= 1


def test_one_and_two_processes_end_within_a_point(tmp_path):
    """With a new head, on 200 encoded videos that are held back: what is not learned is far from the bar."""
    motions = ("pan_left", "pan_right", "zoom_in", "zoom_out")
    for c, label in enumerate(motions):
        for i in range(75):
            clip = zoo.synth.generate(label, seed=1000 * c + i, duration_s=1.2, fps=12, size=(72, 96), distract=False)
            file = tmp_path / "videos" / ("train" if i < 25 else "val") / label / f"{i}.mp4"
            file.parent.mkdir(parents=True, exist_ok=True)
            zoo.video.write_video(file, clip.frames.numpy(), fps=12)
    tuned = {"model": "stacked_tiny.camera_motion", "model_options": FAMILIES["stacked_tiny"], "protocol": {}}
    tuned |= {"freeze_bn": True, "steps": 2 * STEPS, "lr": 2e-3, "batch_size": 16, "threads": 1}
    tuned |= {"flip_labels": {"pan_left": "pan_right"}, "random_resized_crop": False}
    tops = []
    for processes in (0, 2):
        said = trained(tmp_path / "videos", tmp_path / f"on {processes}", processes, **tuned)
        assert "the head is new" in said
        found = json.loads((tmp_path / f"on {processes}" / "out" / "evaluation.json").read_text())
        assert len(found["results"]) == 200
        tops.append(found["video"]["top1"])
    assert min(tops) > 80, tops
    assert abs(tops[0] - tops[1]) < 1.01, tops


def test_batch_norms_of_several_processes_are_spoken_of(folder, tmp_path):
    said = trained(folder, tmp_path, 2, steps=1)
    assert "batch norms count the clips of each process alone" in said


def test_videos_that_any_process_cannot_read_are_spoken_of(tmp_path):
    """Their heads can be read, and most of their frames cannot."""
    data = training.class_folders(tmp_path / "videos")
    for name in ("red/1.mp4", "green/2.mp4", "blue/3.mp4"):
        training.damage(data / name)
    held = training.class_folders(tmp_path / "held", each=1)
    said = [trained(data, tmp_path / str(n), n, **EQUAL, val=str(held)) for n in (0, 2)]
    lost = [sorted(line for line in text.splitlines() if "goes on without" in line) for text in said]
    assert lost[0] == lost[1] and len(lost[0]) > 5


def test_sharded_weights_learn_what_whole_ones_do(folder, alone, tmp_path):
    file = {**EQUAL, **CHANCE, "parallel": "fsdp", "ema": 0.5, "steps": STEPS}
    trained(folder, tmp_path / "fsdp", 2, **file)
    trained(folder, tmp_path / "ddp", 2, **file | {"parallel": "ddp"})
    assert seen(tmp_path / "fsdp") == seen(alone)
    state = result(tmp_path / "fsdp").state_dict()
    for name, tensor in result(tmp_path / "ddp").state_dict().items():
        assert torch.allclose(tensor, state[name], rtol=0, atol=1e-5), name


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_stopped_on_two_processes_it_goes_on_with_one(folder, alone, tmp_path, parallel):
    file = written(folder, tmp_path, **EQUAL, **CHANCE, log_every=1, parallel=parallel)
    process = training.start(file, processes=2, watched=tmp_path)
    wait_for_step(tmp_path, random.SystemRandom().randrange(2, 10), process)
    os.kill(process.pid, signal.SIGTERM)
    process.communicate(timeout=120)
    before = max(seen(tmp_path))
    assert before < STEPS - 1
    said = finish(training.start(file, watched=tmp_path))
    assert "not bit for bit, as these differ: world 2 -> 1" in said
    assert f"step {before + 1} of {STEPS}" in said
    assert seen(tmp_path) == seen(alone)
    state = result(tmp_path).state_dict()
    for name, tensor in result(alone).state_dict().items():
        assert torch.allclose(tensor, state[name], rtol=0, atol=1e-5), name


def test_sigterm_ends_one_process_after_its_step_with_all_saved(folder, tmp_path):
    file = written(folder, tmp_path, steps=200, log_every=1, workers=1)
    process = training.start(file)
    wait_for_step(tmp_path, 3, process)
    process.terminate()
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM, said
    step = int(said.partition("stopped after step ")[2].partition(";")[0])
    assert (tmp_path / "out" / "checkpoints" / f"step_{step:08d}" / "training.json").is_file()
    assert not (tmp_path / "out" / "model").exists()
