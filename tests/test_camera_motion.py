"""The weights that ship: small, as their spec says, and right about clips and files they have never seen."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch

import zoo
from zoo import synth
from zoo.cli.videos import DEFAULT_MODEL
from zoo.deploy.trace import trace
from zoo.video import write_video

NAMES = zoo.list_models("*.camera_motion", pretrained=True)
PLUGINS, TOOLS = (Path(__file__).parent.parent / part for part in ("plugins", "tools"))


def tool_of(name: str):
    found = importlib.util.spec_from_file_location(name, TOOLS / f"{name}.py")
    tool = importlib.util.module_from_spec(found)
    found.loader.exec_module(tool)
    return tool


@pytest.fixture(scope="module", params=NAMES)
def model(request: pytest.FixtureRequest) -> zoo.VideoModel:
    return zoo.create(request.param)


@pytest.mark.parametrize("name", NAMES)
def test_the_file_is_what_the_spec_says(name: str) -> None:
    weights = zoo.info(name).weights["camera_motion"]
    data = (PLUGINS / weights.source.removeprefix("pkg://")).read_bytes()
    assert (weights.size, weights.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert len(data) < 3_000_000
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    assert header["__metadata__"]["format"] == "pt"
    assert sorted(weights.labels) == sorted(synth.LABELS)


@pytest.mark.parametrize("name", NAMES)
def test_the_figures_of_the_card_are_those_that_were_measured(name: str) -> None:
    """On these bytes, at this temperature."""
    tool = tool_of("eval_camera_motion")
    result = tool.stored()[name]
    weights = zoo.info(name).weights["camera_motion"]
    assert (result["sha256"], result["temperature"]) == (weights.sha256, weights.preprocessing.temperature)
    assert list(weights.metrics) == tool.figures(result)
    assert {"top1", "ece", "confidence", "cpu_ms", "speedup"} <= {figure.name for figure in weights.metrics}
    for way in tool.WAYS:
        assert result["optimised"][way]["lost"] <= tool.WORST_LOSS


def test_the_page_of_figures_says_what_was_measured() -> None:
    tool = tool_of("eval_camera_motion")
    assert tool.RESULTS.with_suffix(".md").read_text() == tool.page(tool.stored())


def test_footage_that_is_cut_or_moves_is_no_footage_of_a_fixed_camera(tmp_path: Path) -> None:
    tool = tool_of("camera_motion_clips")
    rng, still = np.random.default_rng(3), np.zeros(30)
    one, other = (torch.from_numpy(synth.worlds.leaves(rng, 320) * 255).to(torch.uint8) for _ in range(2))
    fixed, moving = (synth.Path(x, still, still, still) for x in (still, np.linspace(0, 0.1, 30)))
    stays, another = (synth.move_camera(picture, fixed, (120, 160)) for picture in (one, other))
    films = {"fixed": stays, "cut": torch.cat([stays[:15], another[15:]])}
    films["moves"] = synth.move_camera(one, moving, (120, 160))
    found = {}
    for name, frames in films.items():
        write_video(tmp_path / f"{name}.mp4", frames, fps=25)
        found[name] = tool.still_edges(tmp_path / f"{name}.mp4", 0.0, 1.2)
    assert found["fixed"] >= tool.LEAST_STILL > max(found["cut"], found["moves"]), found


def test_the_default_of_predict_is_the_best_of_them() -> None:
    results = tool_of("eval_camera_motion").stored()
    right = {name: sum(kind["top1"] for kind in result["clips"].values()) for name, result in results.items()}
    assert right[DEFAULT_MODEL] == max(right.values())


@pytest.mark.parametrize("fps", [10, 24, 60])
def test_it_names_generated_clips_of_an_unseen_seed(model: zoo.VideoModel, fps: float) -> None:
    wrong = []
    for i, label in enumerate(synth.LABELS):
        clip = synth.generate(label, seed=900_000 + i, fps=fps, duration_s=1.2, size=((80, 112), (112, 64))[i % 2])
        found = zoo.predict(model, clip.frames, fps=fps).top[0]
        if found.label != label:
            wrong.append(f"{label} named {found}")
    assert len(wrong) <= 1, wrong


@pytest.mark.parametrize("label", synth.LABELS)
def test_it_names_the_motion_in_a_file(model: zoo.VideoModel, tmp_path: Path, label: str) -> None:
    """One picture, moved in all ways: what decides is the motion and nothing else."""
    still = torch.from_numpy(synth.worlds.leaves(np.random.default_rng(11), 320) * 255).to(torch.uint8)
    axis, sign = synth.MOVES.get(label, ("x", 0))
    amount = sign * {"x": 0.25, "y": 0.25, "zoom": 0.3, "roll": 0.4}[axis]
    route = {name: np.zeros(30) for name in ("x", "y", "zoom", "roll")} | {axis: np.linspace(0, amount, 30)}
    write_video(tmp_path / "clip.mp4", synth.move_camera(still, synth.Path(**route), (120, 160)), fps=25)
    assert zoo.predict(model, tmp_path / "clip.mp4").top[0].label == label


@pytest.mark.parametrize("name", [name for name in NAMES if zoo.info(name).streaming])
def test_live_it_is_right_after_a_second_and_stays_right(name: str) -> None:
    """Four times as long as any clip it was trained on."""
    for i, label in enumerate(synth.LABELS):
        clip = synth.generate(label, seed=700_000 + i, fps=8, duration_s=4.0, size=(64, 64), distract=False)
        live = zoo.Stream(name, rate=2)
        said = [answer for k, frame in enumerate(clip.frames) for answer in live.push(frame.numpy(), k / 8)]
        late = [answer.top[0].label for answer in said if answer.time_s >= 1.0]
        assert len(late) >= 5 and late.count(label) >= len(late) - 1, (label, late)


def test_one_frame_is_not_enough(model: zoo.VideoModel) -> None:
    """Shown a single frame over and over, it says that nothing moves."""
    for i, label in enumerate(("pan_right", "zoom_in", "roll_cw")):
        frames = synth.generate(label, seed=i, fps=10, duration_s=1, size=(64, 64)).frames
        assert zoo.predict(model, frames[:1].expand_as(frames).contiguous(), fps=10).top[0].label == "static"


def test_exported_it_gives_the_same_logits(model: zoo.VideoModel) -> None:
    graph = trace(model, (3, 8, 64, 64)).module()
    for batch in (1, 20):
        clips = torch.randn(batch, 3, 8, 64, 64)
        with torch.no_grad():
            torch.testing.assert_close(graph(clips)[0], model(clips))


@pytest.mark.parametrize("shape", [(1, 3, 1, 8, 8), (2, 3, 5, 40, 72), (1, 3, 16, 64, 64)])
def test_the_convolutional_one_takes_clips_of_any_length_and_size(shape: tuple[int, ...]) -> None:
    model = zoo.create("r2plus1d_tiny.camera_motion")
    assert model(torch.randn(shape)).shape == (shape[0], 9)
    assert model.forward_features(torch.randn(shape)).shape[1] == model.num_features
