"""MoViNet says what MoViNet-pytorch says with the same weights, and a stream in chunks what it says of the whole."""

from __future__ import annotations

import copy
import functools

import cnn_reference as reference
import pytest
import torch
from cnn_reference import MOVINET_CLIP, MOVINETS, SPECS, build, clip
from safetensors.torch import load_file
from torch import Tensor

import zoo
from zoo_cnn.movinet import SamePool, running_mean, same

STREAMS = tuple(name for name in MOVINETS if name.endswith("stream"))
DEEP = ("movinet_a3_base", "movinet_a4_base", "movinet_a5_base")
# Parameters that MoViNet-pytorch counts, and tensors in its files.
COUNTS = {
    "movinet_a0_base": (3_111_799, 385),
    "movinet_a1_base": (4_690_296, 592),
    "movinet_a2_base": (5_249_562, 638),
    "movinet_a3_base": (7_397_545, 805),
    "movinet_a4_base": (11_349_463, 1121),
    "movinet_a5_base": (18_650_523, 1403),
    "movinet_a0_stream": (3_748_031, 451),
    "movinet_a1_stream": (6_447_352, 694),
    "movinet_a2_stream": (7_326_962, 752),
}
every_model = pytest.mark.parametrize("name", MOVINETS)


def on_meta(name: str, **overrides: object) -> zoo.VideoModel:
    with torch.device("meta"):
        return build(name, **overrides)


@functools.cache
def model_of(name: str) -> zoo.VideoModel:
    """Seeded weights. Read only."""
    model = build(name)
    model.load_state_dict(reference.seeded(model.state_dict()), strict=True)
    return model.eval()


def assert_close(got: Tensor, wanted: Tensor, tolerance: float = 1e-5) -> None:
    assert got.shape == wanted.shape and wanted.isfinite().all() and wanted.std() > 0
    assert (got - wanted).abs().max() <= tolerance * wanted.abs().max()


def run(model: zoo.VideoModel, frames: Tensor, chunks: list[int], state: dict | None = None) -> tuple[Tensor, dict]:
    state = model.init_state(len(frames)) if state is None else state
    with torch.no_grad():
        for chunk in frames.split(chunks, 2):
            logits, state = model.step(chunk, state)
    return logits, state


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in DEEP else ()) for name in MOVINETS]
)
def test_seeded_weights_give_the_logits_of_movinet_pytorch(name: str) -> None:
    x = clip(*MOVINET_CLIP)
    kept = x.clone()
    with torch.no_grad():
        assert_close(model_of(name)(x)[0], load_file(reference.FILE)[name])
    assert torch.equal(x, kept)


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("side", [64, 172])
@every_model
def test_movinet_pytorch_says_the_same_now(name: str, side: int) -> None:
    pytest.importorskip("movinets", reason="a checkout of Atze00/MoViNet-pytorch on the PYTHONPATH")
    theirs, ours = reference.movinet_reference(name), build(name).eval()
    assert set(ours.state_dict()) == set(theirs.state_dict())
    theirs.load_state_dict(reference.seeded(theirs.state_dict(), seed=1))
    ours.load_state_dict(theirs.state_dict())
    x = clip(8, side)
    with torch.no_grad():
        got, wanted = ours(x), theirs(x.clone())
    print(f"{name} 8x{side}: {((got - wanted).abs().max() / wanted.abs().max()).item():.1e}")
    assert_close(got, wanted)


@every_model
def test_parameters_and_tensors_are_as_many_as_published(name: str) -> None:
    model = on_meta(name)
    assert (sum(p.numel() for p in model.parameters()), len(model.state_dict())) == COUNTS[name]
    assert SPECS[name].params == COUNTS[name][0]
    assert SPECS[name].streaming == (name in STREAMS) == model.causal


# --- streams --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", STREAMS)
def test_sixteen_frames_in_any_chunks_say_what_one_pass_says(name: str) -> None:
    model, frames = model_of(name), clip(16, 32)
    with torch.no_grad():
        whole = model(frames)
    for size in (1, 2, 4, 8, 16):
        assert_close(run(model, frames, [size] * (16 // size))[0], whole)
    assert_close(run(model, frames, [1, 7, 3, 5])[0], whole)


def test_a_step_changes_neither_its_frames_nor_its_state() -> None:
    model, frames = model_of("movinet_a0_stream"), clip(3, 32)
    _, state = run(model, frames, [3])
    before = {k: v.clone() for k, v in state.items()}
    first, _ = run(model, frames, [3], state)
    second, _ = run(model, frames, [3], state)
    assert torch.equal(first, second)
    assert before.keys() == state.keys() and all(torch.equal(before[k], state[k]) for k in state)


def test_a_state_is_flat_complete_from_the_start_and_keeps_its_size() -> None:
    model, frames = model_of("movinet_a0_stream"), clip(2, 47, batch=2)
    state = model.init_state(2, size=(47, 47))
    _, after = run(model, frames, [2], state)
    assert state.keys() == model.init_state(2).keys() == after.keys()
    assert {k: v.shape for k, v in state.items()} == {k: v.shape for k, v in after.items()}
    assert {k: v.dtype for k, v in state.items()} == {k: v.dtype for k, v in after.items()}
    assert all(len(v) == 2 for v in after.values())
    assert_close(run(model, frames, [2], state)[0], run(model, frames, [2])[0])


def test_zeros_start_one_stream_of_a_batch_anew() -> None:
    model, frames = model_of("movinet_a0_stream"), clip(4, 32, batch=2)
    _, state = run(model, frames, [4])
    state = {k: torch.stack([v[0], torch.zeros_like(v[1])]) for k, v in state.items()}
    logits, _ = run(model, frames, [4], state)
    with torch.no_grad():
        assert_close(logits[1:], model(frames[1:]))
        assert_close(logits[:1], model(torch.cat([frames[:1], frames[:1]], 2)))


def test_a_stream_does_not_look_ahead_and_a_base_network_does() -> None:
    frames = clip(6, 32)
    other = torch.cat([frames[:, :, :4], -frames[:, :, 4:]], 2)
    for name, same_past in (("movinet_a0_stream", True), ("movinet_a0_base", False)):
        model = model_of(name)
        with torch.no_grad():
            past = [model.forward_features(x)[:, :, :4] for x in (frames, other)]
        assert torch.allclose(*past, atol=1e-5) == same_past


def test_a_base_network_refuses_a_stream_and_names_those_that_take_one() -> None:
    model = on_meta("movinet_a0_base")
    for ask in (lambda: model.init_state(1), lambda: model.step(torch.empty(1, 3, 1, 8, 8, device="meta"), {})):
        with pytest.raises(zoo.errors.NotCausal, match=r"MoViNet looks ahead.*movinet_a0_stream"):
            ask()


# --- the contract ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [4, 5, 6, 7, 9])
def test_padding_is_tensorflows(size: int) -> None:
    for kernel, stride in ((3, 1), (3, 2), (5, 1), (5, 2), (1, 1)):
        before, after = same(size, kernel, stride)
        assert (size + before + after - kernel) // stride + 1 == -(-size // stride)
        assert after - before in (0, 1)
    maps = torch.rand(1, 2, 3, size, size + 1)
    pooled = SamePool()(maps)
    top, left = same(size, 3, 2)[0], same(size + 1, 3, 2)[0]
    for i in range(pooled.shape[3]):
        for j in range(pooled.shape[4]):
            y, x = 2 * i - top, 2 * j - left
            window = maps[..., max(y, 0) : y + 3, max(x, 0) : x + 3]
            torch.testing.assert_close(pooled[..., i, j], window.mean((3, 4)))


@every_model
def test_stages_features_and_groups(name: str) -> None:
    model = on_meta(name).eval()
    maps = model.forward_intermediates(torch.empty(1, 3, 2, 64, 64, device="meta"))
    assert list(model.stages()) == ["conv1", "b0", "b1", "b2", "b3", "b4", "conv7"]
    assert [m.shape[3] for m in maps] == [32, 16, 8, 4, 4, 2, 2]
    assert maps[-1].shape[1] == model.num_features and all(m.shape[2] == 2 for m in maps)
    assert model.forward_head(maps[-1], pre_logits=True).shape == (1, 2048)
    groups = model.layer_groups()
    assert list(groups) == [*model.stages(), "head"]
    assert sorted(n for names in groups.values() for n in names) == sorted(n for n, _ in model.named_parameters())
    assert model(torch.empty(2, 3, 1, 1, 1, device="meta")).shape == (2, 600)


@pytest.mark.parametrize("name", ["movinet_a0_base", "movinet_a0_stream"])
def test_heads_come_and_go(name: str) -> None:
    model, x = copy.deepcopy(model_of(name)), clip(2, 32)
    with torch.no_grad():
        features = model.forward_features(x)
        pooled = model.forward_head(features, pre_logits=True)
        model.reset_classifier(0)
        assert torch.equal(model(x), pooled)
        assert list(model.state_dict()) == list(on_meta(name, num_classes=0).state_dict())
        model.reset_classifier(4)
        assert model(x).shape == (1, 4)


def test_a_fresh_block_is_its_shortcut() -> None:
    model, maps = build("movinet_a0_base").eval(), torch.rand(1, 56, 2, 4, 4)
    with torch.no_grad():
        assert torch.equal(model.blocks.b2_l1(maps), maps)


@pytest.mark.parametrize("name", ["movinet_a0_stream"])
def test_a_step_can_be_exported(name: str) -> None:
    model, frames = model_of(name), clip(1, 32)
    state = model.init_state(1, size=(32, 32))

    class Step(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, frames: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
            return self.model.step(frames, state)

    with torch.no_grad():
        program = torch.export.export(Step(), (frames, state)).module()
        got, wanted = program(frames, state), model.step(frames, state)
    assert_close(got[0], wanted[0])
    assert all(torch.allclose(got[1][k], v, atol=1e-5) for k, v in wanted[1].items())


def test_a_mean_over_all_frames_still_is_one_after_months_and_in_half_precision():
    mean = torch.full((1, 2, 1, 1, 1), 0.5)
    after = running_mean(torch.ones(1, 2, 3, 1, 1), mean, torch.tensor(2**30))
    assert torch.allclose(after, mean.expand_as(after), atol=1e-6)
    mean = torch.zeros(1, 2, 1, 1, 1, dtype=torch.bfloat16)
    for seen in range(2000):  # a sum of ones would stay at 256
        mean = running_mean(torch.ones_like(mean), mean, seen)
    assert mean.dtype == torch.bfloat16 and torch.allclose(mean, torch.ones_like(mean), atol=0.01)
