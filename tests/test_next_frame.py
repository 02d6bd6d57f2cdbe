"""The next-frame task: what a video shows next, what the answer says of itself, and what the kit asks of its models."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import Tensor, nn

import zoo
from zoo.cli import commands
from zoo.errors import GeometryError, SpecError, VideoError
from zoo.tasks.next_frame import Forecast

ROOT = Path(__file__).parent.parent
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
PROTOCOL = zoo.Preprocessing(num_frames=4, fps=10, sampler="consecutive", resize=(16, 24), mean=MEAN, std=STD)


class GoesOn(zoo.VideoModel):
    """Every pixel changes as it did between the last two frames. It has a parameter, as all models of the kit do."""

    def __init__(self, *, horizon: int = 3) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(3, 1, 1, 1))
        self.num_features, self.num_classes, self.horizon = 3, 0, horizon

    def stages(self) -> dict[str, nn.Module]:
        return {}

    def forward(self, clip: Tensor, frames: int | None = None) -> Tensor:
        self.check_geometry(clip)
        last, change = clip[:, :, -1:], clip[:, :, -1:] - clip[:, :, -2:-1]
        steps = torch.arange(1, (frames or self.horizon) + 1, device=clip.device, dtype=clip.dtype)
        return last + self.gain * change * steps[:, None, None] + 0 * clip.mean((2, 3, 4), keepdim=True)


class Reads(GoesOn):
    """Looks at all frames."""

    def forward(self, clip: Tensor, frames: int | None = None) -> Tensor:
        return super().forward(clip, frames) + 0.1 * clip.mean(2, keepdim=True)


class WrongNumber(Reads):
    def forward(self, clip: Tensor, frames: int | None = None) -> Tensor:
        return super().forward(clip)


class NotAlike(Reads):
    """Foresees another way when asked for more."""

    def forward(self, clip: Tensor, frames: int | None = None) -> Tensor:
        return super().forward(clip, frames) * (1 + 0.1 * (frames or self.horizon))


class OneSize(Reads):
    """Its frames are never higher than those of its protocol."""

    def forward(self, clip: Tensor, frames: int | None = None) -> Tensor:
        return super().forward(clip, frames)[:, :, :, :16]


class Half(Reads):
    """Of a longer clip it foresees the first frames only."""

    def forward(self, clip: Tensor, frames: int | None = None) -> Tensor:
        return super().forward(clip, frames if clip.shape[2] < 10 else 1)


SPEC = zoo.ModelSpec(
    name="goes_on",
    builder="test_next_frame:Reads",
    task="next_frame",
    family="test",
    params=3,
    description="Goes on.",
    paper="https://example.org/paper",
    license="MIT",
    preprocessing=PROTOCOL,
    geometry=zoo.Geometry(min_frames=2),
)


@pytest.fixture
def model() -> zoo.VideoModel:
    network = GoesOn()
    network.preprocessing = PROTOCOL
    network.spec = SPEC
    return network


def ramp(frames: int, *, slope: int = 4) -> np.ndarray:
    """Pictures that grow evenly lighter, each pixel at a level of its own."""
    base = np.random.default_rng(0).integers(0, 60, (16, 24, 3))
    return (base + slope * np.arange(frames)[:, None, None, None]).astype(np.uint8)


def test_the_frames_after_the_end_of_a_video(model):
    video = ramp(12)
    found = zoo.predict(model, video, fps=10)
    assert isinstance(found, Forecast) and found.ok
    assert found.pixels.shape == (3, 16, 24, 3) and found.pixels.dtype == np.uint8
    assert np.array_equal(found.pixels, ramp(15)[12:])
    assert [round(frame.time_s, 6) for frame in found.frames] == [1.2, 1.3, 1.4]
    assert all(frame.mse is None for frame in found.frames)
    assert (found.start_s, found.fps, found.duration_s) == (1.2, 10, 1.2)


def test_frames_that_the_video_shows_are_compared(model):
    video = ramp(12)
    video[9] = video[9] + np.uint8(51)  # two tenths off what was foreseen
    found = zoo.predict(model, video, fps=10, start_s=0.8, frames=6)
    assert np.array_equal(found.pixels, ramp(14)[8:])
    assert [frame.mse is None for frame in found.frames] == [False] * 4 + [True] * 2
    errors = [frame.mse for frame in found.frames[:4]]
    assert errors[1] == pytest.approx(0.2**2, rel=1e-4)
    assert max(errors[0], errors[2], errors[3]) < 1e-12
    assert found.frames[1].psnr_db == pytest.approx(20 * np.log10(5), rel=1e-4)


def test_frames_are_those_at_the_protocols_rate(model):
    """Twice as many frames per second, of which every other one is seen."""
    found = zoo.predict(model, ramp(24, slope=2), fps=20, start_s=1.0)
    assert np.array_equal(found.pixels, ramp(13)[10:])
    assert max(frame.mse for frame in found.frames[:2]) < 1e-12


def test_a_video_shorter_than_a_clip_says_so(model):
    assert zoo.predict(model, ramp(3), fps=10).repeated
    assert zoo.predict(model, ramp(12), fps=10, start_s=0.2).repeated
    assert not zoo.predict(model, ramp(4), fps=10).repeated


def test_the_answer_as_data_and_as_text(model):
    found = zoo.predict(model, ramp(12), fps=10, start_s=1.1, frames=2)
    data = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert list(data) == ["video", "model", "weights", "duration_s", "fps", "start_s", "frames"]
    assert (data["model"], data["weights"]) == ("goes_on", None)
    assert [set(frame) for frame in data["frames"]] == [{"time_s", "mse", "psnr_db"}] * 2
    assert "goes_on (random weights)" in str(found) and "1.20 s" in str(found) and "dB" in str(found)


def test_in_a_list_a_broken_video_does_not_stop_the_rest(model, tmp_path):
    (tmp_path / "broken.mp4").write_bytes(b"not a video")
    zoo.video.write_video(tmp_path / "right.mp4", ramp(12), fps=10)
    broken, right = zoo.predict(model, [str(tmp_path / "broken.mp4"), str(tmp_path / "right.mp4")], frames=1)
    assert not broken.ok and broken.to_dict()["error"]["type"] == "VideoOpenError" and "VideoOpenError" in str(broken)
    assert right.ok and right.pixels.shape[0] == 1
    with pytest.raises(VideoError):
        zoo.predict(model, str(tmp_path / "broken.mp4"))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"frames": 0}, "frames=0"),
        ({"frames": 2.5}, "frames=2.5"),
        ({"start_s": 0}, "start_s=0"),
        ({"start_s": 9.0}, "up to the end of the video at 1.20"),
        ({"start_s": "now"}, "start_s='now'"),
        ({"top_k": 3}, "goes_on: predict has no option 'top_k' here: it has frames, start_s, fps"),
        ({"window": 1.0}, "no option 'window'"),
        ({"speed": 1.0}, "no option 'speed'"),
    ],
)
def test_options_that_cannot_be_say_so(model, options, text):
    with pytest.raises(SpecError) as wrong:
        zoo.predict(model, ramp(12), fps=10, **options)
    assert text in str(wrong.value)


def test_classification_does_not_take_the_options_of_another_task():
    network = zoo.create("convgru_tiny")
    with pytest.raises(SpecError, match="convgru_tiny: predict has no option 'frames' here: it has top_k"):
        zoo.predict(network, ramp(12), fps=10, frames=3)


def test_a_model_leaves_training_as_it_was(model):
    model.train()
    zoo.predict(model, ramp(12), fps=10)
    assert model.training


def test_the_command_line_prints_what_comes_next(tmp_path):
    zoo.video.write_video(tmp_path / "right.mp4", ramp(12), fps=10)
    with zoo.testing.isolated():
        zoo.register(SPEC, name="acme")
        with pytest.warns(UserWarning, match="random weights"):
            arguments = ["predict", str(tmp_path / "right.mp4"), "--model", "acme/goes_on", "--json"]
            done = CliRunner().invoke(commands, arguments)
    assert done.exit_code == 0, done.output
    assert len(json.loads(done.stdout.splitlines()[-1])["frames"]) == 3


# --- networks of the family -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["predrnn", "convlstm_next"])
def test_a_network_reads_its_own_answers(name):
    """More frames are the next of a clip that the foreseen ones are part of."""
    model = zoo.testing.perturb(zoo.build(name, **zoo.info(name).small)).eval()
    clip = torch.randn(2, 3, 5, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        four = model(clip, frames=4)
        after_one = model(torch.cat([clip, four[:, :, :1]], 2), frames=3)
        each = model.forward_head(model.forward_features(clip))
    torch.testing.assert_close(four[:, :, 1:], after_one, rtol=0, atol=1e-5)
    torch.testing.assert_close(each[:, :, -1], four[:, :, 0], rtol=0, atol=1e-6)
    assert each.shape == clip.shape
    with pytest.raises(GeometryError, match="18x16 pixels"):
        model(torch.zeros(1, 3, 5, 18, 16))


def test_squares_of_pixels_go_there_and_back():
    from zoo_rnn.next_frames import Patches

    clip = torch.arange(2 * 3 * 2 * 8 * 12.0).reshape(2, 3, 2, 8, 12)
    patches = Patches(4)(clip)
    assert patches.shape == (2, 48, 2, 2, 3)
    assert torch.equal(patches[1, 16:32, 1, 1, 2].reshape(4, 4), clip[1, 1, 1, 4:8, 8:12])
    assert torch.equal(Patches(4).back(patches), clip)


@pytest.mark.slow
def test_a_network_learns_a_picture_that_slides():
    """Better than the last frame once more, which is what a network that has learnt nothing about motion can reach."""
    torch.manual_seed(0)
    model = zoo.build("predrnn", hidden=16, layers=2, kernel=3, patch=2, horizon=1)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    column = torch.arange(16)

    def bars(generator: torch.Generator) -> Tensor:
        start = torch.randint(0, 16, (8,), generator=generator)
        lit = (column[None, None] - start[:, None, None] - torch.arange(6)[None, :, None]) % 16 < 3  # [B, T, W]
        return lit.float()[:, None, :, None].expand(-1, 3, -1, 4, -1)

    generator = torch.Generator().manual_seed(0)
    for _ in range(40):
        clip = bars(generator)
        loss = (model.forward_head(model.forward_features(clip[:, :, :-1])) - clip[:, :, 1:]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    clip = bars(generator)
    with torch.no_grad():
        error = (model(clip[:, :, :-1]) - clip[:, :, -1:]).square().mean()
    assert error < 0.25 * (clip[:, :, -2] - clip[:, :, -1]).square().mean()


# --- the kit --------------------------------------------------------------------------------------------------------


def failures(**fields: object) -> dict[str, zoo.testing.CheckFailed]:
    with zoo.testing.isolated():
        zoo.register(zoo.ModelSpec.from_dict({**SPEC.to_dict(), **fields}), name="acme")
        return {row.check: row.failure for row in zoo.testing.report("acme") if not row.ok}


def test_a_right_model_passes_and_is_asked_nothing_about_classes():
    assert failures() == {}
    with zoo.testing.isolated():
        zoo.register(SPEC, name="acme")
        asked = {check.__name__ for _, check in zoo.testing.checks("acme")}
    assert "check_forecast_shape" in asked and "check_output_shape" not in asked


# A network that breaks one rule, and the check that says so.
WRONG = {
    "GoesOn": "check_every_frame_counts",
    "WrongNumber": "check_forecast_shape",
    "NotAlike": "check_longer_forecast_starts_with_the_shorter",
    "OneSize": "check_every_clip_gets_its_frames",
    "Half": "check_every_clip_gets_its_frames",
}


@pytest.mark.parametrize(("builder", "check"), WRONG.items())
def test_a_wrong_model_fails_the_check_that_it_breaks_and_no_other(builder, check):
    found = failures(builder=f"test_next_frame:{builder}")
    assert list(found) == [check], found
    assert found[check].expected and found[check].seen and found[check].fix


def test_every_check_of_the_task_has_a_wrong_model():
    from zoo.testing.next_frames import CHECKS

    assert {check.__name__ for group in CHECKS.values() for check in group} == set(WRONG.values())


def test_the_task_is_named_where_it_is_registered_and_nowhere_else_in_the_core():
    """No branch outside of its own module: the rest of the core asks the table of tasks."""
    naming = []
    for path in sorted((ROOT / "zoo").rglob("*.py")):
        names = {n.value for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Constant)}
        if any(isinstance(name, str) and "next_frame" in name for name in names):
            naming.append(path.relative_to(ROOT).as_posix())
    assert naming == ["zoo/tasks/__init__.py", "zoo/tasks/next_frame.py"]
