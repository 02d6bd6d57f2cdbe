"""The generator: labels mean what they say, measured on the pixels; the same seed is the same clip; nothing leaks."""

from __future__ import annotations

import subprocess
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch

from zoo import synth
from zoo.errors import SpecError
from zoo.spec import Preprocessing
from zoo.train.augment import TURNS, recipe_of
from zoo.train.settings import Settings

RECIPE = Path(__file__).parent.parent / "tools" / "camera_motion.toml"

TURNED = {"x": 0.0, "y": 0.0, "zoom": 0.0, "roll": 0.0}


def shift_between(before: np.ndarray, after: np.ndarray) -> tuple[float, float]:
    """By how many pixels the content moved right and down: phase correlation."""
    window = np.hanning(before.shape[0])[:, None] * np.hanning(before.shape[1])[None]
    a = np.fft.fft2((before - before.mean()) * window)
    b = np.fft.fft2((after - after.mean()) * window)
    cross = b * np.conj(a)
    peak = np.fft.ifft2(cross / (np.abs(cross) + 1e-3 * np.abs(cross).max())).real
    y, x = np.unravel_index(peak.argmax(), peak.shape)
    h, w = peak.shape
    return float((x + w // 2) % w - w // 2), float((y + h // 2) % h - h // 2)


def polar(picture: np.ndarray) -> np.ndarray:
    """Rows: the angle, growing clockwise on the screen. Columns: the logarithm of the radius."""
    h, w = picture.shape
    angle = np.linspace(0, 2 * np.pi, 360, endpoint=False)[:, None]
    radius = np.exp(np.linspace(np.log(6), np.log(min(h, w) / 2 - 1), 200))[None]
    y = np.round(h / 2 + radius * np.sin(angle)).astype(int)
    x = np.round(w / 2 + radius * np.cos(angle)).astype(int)
    return picture[y, x]


def motion(frames: torch.Tensor) -> dict[str, float]:
    """What the content does from the first to the last frame: right, down, larger, clockwise."""
    first, last = (f.float().mean(-1).numpy() for f in (frames[0], frames[-1]))
    right, down = shift_between(first, last)
    larger, clockwise = shift_between(polar(first), polar(last))
    return {"right": right, "down": down, "larger": larger, "clockwise": clockwise}


def path(**ends: float) -> synth.Path:
    """From 0 to these values in five frames."""
    return synth.Path(**{axis: np.linspace(0, end, 5) for axis, end in (TURNED | ends).items()})


# The camera's move, and what its content is seen to do: the opposite.
CONTENT = {
    "pan_right": ("right", -1),
    "pan_left": ("right", 1),
    "tilt_up": ("down", 1),
    "tilt_down": ("down", -1),
    "zoom_in": ("larger", 1),
    "zoom_out": ("larger", -1),
    "roll_cw": ("clockwise", -1),
    "roll_ccw": ("clockwise", 1),
}
AMOUNT = {"pan": 0.1, "tilt": 0.1, "zoom": 0.25, "roll": 0.25}


@pytest.fixture(scope="module")
def still() -> torch.Tensor:
    """Occluding shapes, wider than tall."""
    return torch.from_numpy(synth.worlds.leaves(np.random.default_rng(5), 400)[:300] * 255).round().to(torch.uint8)


@pytest.mark.parametrize("label", CONTENT)
def test_a_virtual_camera_moves_the_content_the_other_way(still: torch.Tensor, label: str) -> None:
    axis, sign = synth.MOVES[label]
    frames = synth.move_camera(still, path(**{axis: sign * AMOUNT[label.split("_")[0]]}), (120, 160))
    assert frames.shape == (5, 120, 160, 3) and frames.dtype == torch.uint8
    seen = motion(frames)
    expected = {"pan": 0.1 * 160, "tilt": 0.1 * 120, "zoom": 0.25 * 199 / np.log(59 / 6), "roll": np.degrees(0.25)}
    content, direction = CONTENT[label]
    assert seen[content] == pytest.approx(direction * expected[label.split("_")[0]], abs=2), seen


def test_a_still_camera_gives_the_same_frame(still: torch.Tensor) -> None:
    frames = synth.move_camera(still, path(), (64, 96))
    assert all(torch.equal(frame, frames[0]) for frame in frames)


def test_a_camera_moves_over_frames_as_over_a_still(still: torch.Tensor) -> None:
    route = path(x=0.2)
    film = still.expand(5, *still.shape)
    assert torch.equal(synth.move_camera(film, route, (60, 80)), synth.move_camera(still, route, (60, 80)))


@pytest.mark.parametrize("label", CONTENT)
def test_generated_clips_move_as_their_label_says(label: str) -> None:
    content, direction = CONTENT[label]
    signs = []
    for seed in range(8):
        clip = synth.generate(label, seed=seed, duration_s=0.8, fps=5, size=(128, 128), distract=False)
        signs.append(np.sign(motion(clip.frames)[content]) * direction)
    assert signs.count(1) >= 6  # the slowest moves are about a pixel, and some worlds repeat themselves


def test_the_path_of_a_clip_says_its_label() -> None:
    for seed in range(40):
        clip = synth.generate(seed=seed, duration_s=1, fps=10, size=(16, 16), distract=False)
        net = {axis: getattr(clip.path, axis)[-1] - getattr(clip.path, axis)[0] for axis in synth.FLOW}
        flow = {axis: abs(value) * synth.FLOW[axis] for axis, value in net.items()}
        if clip.label == "static":
            assert max(flow.values()) <= 0.0101
        else:
            axis, sign = synth.MOVES[clip.label]
            assert np.sign(net[axis]) == sign
            assert flow[axis] > 1.5 * max(value for other, value in flow.items() if other != axis)


def test_every_label_is_drawn_and_none_is_rare() -> None:
    drawn = [synth.generate(seed=s, duration_s=0.2, fps=5, size=(8, 8), distract=False).label for s in range(90)]
    assert set(drawn) == set(synth.LABELS)
    assert min(drawn.count(label) for label in synth.LABELS) >= 3


def test_a_seed_is_a_clip_and_touches_no_global_state() -> None:
    torch.manual_seed(0)
    np.random.seed(0)
    before = torch.random.get_rng_state(), np.random.get_state()[1].copy()
    one, same, other = (synth.generate(seed=s, duration_s=0.5, fps=10, size=(48, 80)) for s in (4, 4, 5))
    assert torch.equal(one.frames, same.frames) and one.label == same.label
    assert not torch.equal(one.frames, other.frames)
    assert torch.equal(before[0], torch.random.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])


@pytest.mark.parametrize(
    ("size", "fps", "duration_s"), [((48, 80), 10, 1.0), ((90, 50), 60, 0.5), ((33, 47), 24, 0.25), ((8, 8), 10, 0.1)]
)
def test_any_size_and_rate(size: tuple[int, int], fps: float, duration_s: float) -> None:
    for seed in range(8):  # each distractor has its turn
        clip = synth.generate(seed=seed, size=size, fps=fps, duration_s=duration_s)
        assert clip.frames.shape == (round(duration_s * fps), *size, 3) and clip.frames.dtype == torch.uint8
        assert clip.fps == fps and len(clip.path) == len(clip.frames)


def test_a_wrong_label_is_refused_with_those_there_are() -> None:
    with pytest.raises(SpecError, match=r"no camera motion is called 'dolly'[\s\S]*static, pan_left"):
        synth.generate("dolly", seed=0)


@pytest.mark.parametrize("turns", [turns for n in range(5) for turns in combinations(TURNS, n)], ids="+".join)
@pytest.mark.parametrize("label", ["static", *CONTENT])
def test_turning_a_clip_changes_the_label_as_the_recipe_has_it(
    still: torch.Tensor, label: str, turns: tuple[str, ...]
) -> None:
    settings = Settings.read(RECIPE, model="r2plus1d_tiny", data="synth:camera_motion:18", out="nowhere")
    recipe = recipe_of(Preprocessing(num_frames=5, resize=(120, 120)), settings, synth.LABELS)
    axis, sign = synth.MOVES.get(label, ("x", 0))
    route = path(**{axis: sign * AMOUNT.get(label.split("_")[0], 0)})
    turned = synth.move_camera(still[:300, :300], route, (120, 120)).movedim(-1, 1)
    for turn in turns:
        turned = TURNS[turn](turned)
    new = synth.LABELS[recipe.label_of(synth.LABELS.index(label), turns)]
    seen = motion(turned.movedim(1, -1))
    if new == "static":
        assert label == "static" and max(map(abs, seen.values())) == 0
    else:
        content, direction = CONTENT[new]
        assert seen[content] * direction > 8


@pytest.mark.parametrize("offset", [0.0, 0.98])
def test_a_world_that_is_black_or_white_is_exposed_until_it_shows(offset: float) -> None:
    world = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0))
    times = np.arange(4) / 8

    def seen(picture: torch.Tensor) -> torch.Tensor:
        rng = np.random.default_rng(1)
        path = synth.draw_path(np.random.default_rng(2), "pan_left", times)
        return synth.render(rng, picture, path, times, size=(32, 32), aspect=1, distract=False)

    faint = seen(world * 0.02 + offset)
    assert faint.std() > 0.05 and 0.3 < faint.mean() < 0.6
    normed = [(clip - clip.mean()) / clip.std() for clip in (faint, seen(world))]
    assert torch.allclose(*normed, atol=0.05)  # the same picture, but for its light
    assert seen(world * 0.2).std() < 0.05, "others stay as they are"
    assert torch.isfinite(seen(torch.full_like(world, offset))).all()


def test_importing_it_imports_neither_av_nor_torchvision() -> None:
    code = "import sys, zoo.synth; print([m for m in ('av', 'torchvision', 'PIL', 'timm') if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


@pytest.mark.parametrize("distractor", ["add_overlay", "light", "blur", "compress", "sensor"])
def test_distractors_keep_the_content_where_it_is(still: torch.Tensor, distractor: str) -> None:
    clip = (still[:128, :128].float() / 255).permute(2, 0, 1).expand(6, 3, 128, 128)
    for seed in range(5):
        changed = getattr(synth.scene, distractor)(np.random.default_rng(seed), clip)
        assert changed.shape == clip.shape
        seen = motion(changed.clamp(0, 1).movedim(1, -1))
        assert max(abs(v) for v in seen.values()) <= 1, seen
