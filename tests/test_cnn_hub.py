"""C2D, I3D, Slow, SlowFast, CSN, R(2+1)D and X3D are PyTorchVideo's to the key, and say what its builders say."""

from __future__ import annotations

import copy
import functools
import pickle
import re

import cnn_reference as reference
import pytest
import torch
from cnn_reference import HUB, SMALL, SPECS, build, clip, small
from safetensors.torch import load_file
from torch import Tensor, nn

import zoo
from zoo.errors import GeometryError
from zoo.testing import perturb
from zoo_cnn.blocks import for_convolutions, pool_windows
from zoo_cnn.slowfast import slow_indices

PSF = tuple(f"x3d_{size}_psf" for size in ("xs", "s", "m", "l"))
SLOWFASTS = tuple(name for name in HUB if name.startswith("slowfast"))
# Tensors in the published files.
KEYS = {
    "c2d_r50": 320,
    "i3d_r50": 320,
    "slow_r50": 320,
    "csn_r101": 626,
    "r2plus1d_r50": 416,
    "slowfast_r50": 662,
    "slowfast_r101": 1274,
    "slowfast_16x8_r101_50_50": 1274,
    "x3d_xs": 563,
    "x3d_s": 563,
    "x3d_m": 563,
    "x3d_l": 1141,
    "x3d_xs_psf": 568,
    "x3d_s_psf": 568,
    "x3d_m_psf": 568,
    "x3d_l_psf": 1146,
}
# Frames, stride, training crop and test crop, as the model zoos of PyTorchVideo and PySlowFast have them.
CLIPS = {
    "c2d_r50": (8, 8, 224, 256),
    "i3d_r50": (8, 8, 224, 256),
    "slow_r50": (8, 8, 224, 256),
    "csn_r101": (32, 2, 224, 256),
    "r2plus1d_r50": (16, 4, 224, 256),
    "slowfast_r50": (32, 2, 224, 256),
    "slowfast_r101": (32, 2, 224, 256),
    "slowfast_16x8_r101_50_50": (64, 2, 224, 256),
    "x3d_xs": (4, 12, 160, 182),
    "x3d_s": (13, 6, 160, 182),
    "x3d_m": (16, 5, 224, 256),
    "x3d_l": (16, 5, 312, 356),
}
CHANNELS = {
    **{key: [64, 256, 512, 1024, 2048] for key in HUB},
    **{key: [80 + 8, 320 + 32, 640 + 64, 1280 + 128, 2048 + 256] for key in SLOWFASTS},
    **{name: [24, 24, 48, 96, 192] for name in (*HUB, *PSF) if name.startswith("x3d")},
}
DEEP = ("slowfast_r101", "slowfast_16x8_r101_50_50", "x3d_l")  # like a smaller one, but slow
FEW = ("i3d_r50", "slowfast_r50", "csn_r101", "r2plus1d_r50", "x3d_xs")  # one of each kind of network

every_model = pytest.mark.parametrize("name", (*HUB, *PSF))
one_of_a_kind = pytest.mark.parametrize("name", FEW)


def on_meta(name: str, **overrides: object) -> zoo.VideoModel:
    with torch.device("meta"):
        return build(name, **overrides)


@functools.cache
def model_of(name: str) -> zoo.VideoModel:
    """Seeded weights, windows of 2 x 2. Read only."""
    return small(name)


def tiny(name: str, batch: int = 1) -> Tensor:
    return clip(8 if name in SLOWFASTS else 4, 32, batch)


def assert_close(got: Tensor, wanted: Tensor, tolerance: float = 1e-5) -> None:
    assert got.shape == wanted.shape and wanted.isfinite().all() and wanted.std() > 0
    assert (got - wanted).abs().max() <= tolerance * wanted.abs().max()


# --- PyTorchVideo's -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow if name in DEEP else ()) for name in HUB])
def test_seeded_weights_give_the_logits_of_pytorchvideo(name: str) -> None:
    wanted = load_file(reference.FILE)[name]
    x = clip(SMALL[name])
    kept = x.clone()
    with torch.no_grad():
        logits = model_of(name)(x)[0]
        assert_close(logits, wanted)
        assert torch.equal(x, kept), "the input was changed"
        assert torch.equal(model_of(name)(x)[0], logits)


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("crop", ["train", "test"])
@pytest.mark.parametrize("name", HUB)
def test_the_networks_of_pytorchvideo_say_the_same_now(name: str, crop: str) -> None:
    torch.manual_seed(0)
    theirs = reference.reference(name, published=True)
    theirs.load_state_dict(reference.seeded(theirs.state_dict(), seed=1))
    perturb(theirs, seed=2)
    ours = build(name).eval()
    assert set(ours.state_dict()) == set(theirs.state_dict())
    ours.load_state_dict(theirs.state_dict(), strict=True)
    frames, _, train, test = CLIPS[name]
    x = clip(frames, {"train": train, "test": test}[crop])
    with torch.no_grad():
        got, wanted = ours(x), reference.ask(theirs, name, x)
    print(f"{name} {frames}x{x.shape[-1]}: {((got - wanted).abs().max() / wanted.abs().max()).item():.1e}")
    assert_close(got, wanted)


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", HUB)
def test_the_fixture_is_what_pytorchvideo_says_now(name: str) -> None:
    theirs = reference.reference(name)
    theirs.load_state_dict(reference.seeded(theirs.state_dict()))
    assert_close(reference.ask(theirs, name, clip(SMALL[name]))[0], load_file(reference.FILE)[name])


@every_model
def test_parameters_and_tensors_are_as_many_as_published(name: str) -> None:
    model = on_meta(name)
    assert SPECS[name].params == sum(p.numel() for p in model.parameters())
    assert len(model.state_dict()) == KEYS[name]


def test_the_two_x3ds_differ_by_the_norm_of_one_shortcut() -> None:
    for size in ("xs", "s", "m", "l"):
        hub, psf = on_meta(f"x3d_{size}").state_dict(), on_meta(f"x3d_{size}_psf").state_dict()
        extra = {key.rpartition(".")[0] for key in set(psf) - set(hub)}
        assert extra == {"blocks.1.res_blocks.0.branch1_norm"} and set(hub) < set(psf)
    torch.manual_seed(0)
    hub, psf = build("x3d_xs").eval(), build("x3d_xs_psf").eval()
    state = reference.seeded(hub.state_dict())
    fresh = {k: v for k, v in psf.state_dict().items() if k not in state}
    hub.load_state_dict(state)
    psf.load_state_dict({**fresh, **state})
    with torch.no_grad():  # a fresh norm does next to nothing, another one something
        features = hub.forward_features(tiny("x3d_xs"))
        assert_close(psf.forward_features(tiny("x3d_xs")), features, 1e-4)
        psf.blocks[1].res_blocks[0].branch1_norm.bias += 1
        assert (psf.forward_features(tiny("x3d_xs")) - features).abs().max() > 0.01


@pytest.mark.parametrize("name", HUB)
def test_the_protocol_is_the_published_one(name: str) -> None:
    frames, stride, _, crop = CLIPS[name]
    protocol = SPECS[name].preprocessing
    assert (protocol.num_frames, protocol.stride, protocol.resize, protocol.crop) == (frames, stride, crop, crop)
    assert (protocol.clips, protocol.crops, protocol.sampler, protocol.fps) == (10, 3, "dense_psf", 30)
    assert (protocol.mean, protocol.std) == ((0.45,) * 3, (0.225,) * 3)
    if f"{name}_psf" in PSF:
        assert SPECS[f"{name}_psf"].preprocessing == protocol
    assert SPECS[name].geometry.problem((1, 3, frames, crop, crop)) == ""


# --- heads ----------------------------------------------------------------------------------------------------------


def test_windows_are_means_one_step_apart_and_never_larger_than_the_maps() -> None:
    maps = torch.rand(2, 5, 3, 4, 4)
    wanted = maps.unfold(2, 2, 1).unfold(3, 3, 1).unfold(4, 3, 1).mean((-3, -2, -1))
    torch.testing.assert_close(pool_windows(maps, (2, 3, 3)), wanted)
    torch.testing.assert_close(pool_windows(maps, None)[..., 0, 0, 0], maps.mean((2, 3, 4)))
    torch.testing.assert_close(pool_windows(maps, (8, 7, 4)), pool_windows(maps, None))


@one_of_a_kind
def test_window_and_global_pooling_agree_at_the_training_crop_only(name: str) -> None:
    window, whole = model_of(name), build(name, head_pool="global").eval()
    whole.load_state_dict(window.state_dict())
    frames = reference.windows(name)[0]
    torch.manual_seed(2)
    with torch.no_grad():
        maps = torch.rand(2, window.num_features, frames, 2, 2)
        torch.testing.assert_close(window.forward_head(maps), whole.forward_head(maps))
        maps = torch.rand(2, window.num_features, frames, 3, 3)
        difference = window.forward_head(maps) - whole.forward_head(maps)
    assert difference.abs().max() > 0.01


@every_model
def test_reset_classifier_replaces_the_last_layer_and_nothing_else(name: str) -> None:
    model = on_meta(name).to(torch.bfloat16)
    keys = list(model.state_dict())
    model.reset_classifier(7)
    assert list(model.state_dict()) == keys and model.num_classes == 7
    last = [p for n, p in model.named_parameters() if n.endswith("proj.weight")]
    assert [tuple(p.shape) for p in last] == [(7, 2304 if name in SLOWFASTS else 2048)]
    assert {(p.device.type, p.dtype) for p in model.parameters()} == {("meta", torch.bfloat16)}
    model.reset_classifier(0)
    assert (
        list(model.state_dict())
        == [k for k in keys if "proj." not in k]
        == list(on_meta(name, num_classes=0).state_dict())
    )
    assert "head" not in model.layer_groups() or name.startswith("x3d")


@one_of_a_kind
def test_without_a_classifier_the_logits_are_the_pooled_features(name: str) -> None:
    model = copy.deepcopy(model_of(name))
    features = torch.rand(2, model.num_features, 4, 3, 3, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        pooled = model.forward_head(features, pre_logits=True)
        torch.testing.assert_close(model.forward_head(features), model.head.proj(pooled))
        model.reset_classifier(0)
        assert torch.equal(model.train().forward_head(features)[:, :5].detach(), model.forward_head(features)[:, :5])
        if not name.startswith("x3d"):  # there is a norm in that head
            assert torch.equal(model.forward_head(features), pooled)


def test_dropout_works_in_training_only() -> None:
    model, features = build("x3d_xs", dropout=0.9), torch.rand(1, 192, 4, 5, 5)
    rows = torch.rand(1, 2048)
    model.head.pool = nn.Identity()
    model.head.pre_logits = lambda maps: rows
    assert not torch.equal(model.forward_head(features), model.forward_head(features))
    model.eval()
    assert torch.equal(model.forward_head(features), model.forward_head(features))


# --- two pathways ---------------------------------------------------------------------------------------------------


def test_the_slow_pathway_sees_the_frames_that_were_published() -> None:
    assert slow_indices(32, "linspace") == [0, 4, 8, 13, 17, 22, 26, 31]
    assert slow_indices(32, "stride") == [0, 4, 8, 12, 16, 20, 24, 28]
    for frames in range(4, 1300, 4):  # float32 and all: at 160 frames it is one off the exact result
        assert slow_indices(frames, "linspace") == torch.linspace(0, frames - 1, frames // 4).long().tolist()
        assert len(slow_indices(frames, "stride")) == frames // 4


def test_slowfast_shows_both_pathways_as_one_map_on_slow_steps() -> None:
    model = model_of("slowfast_r50")
    slow, fast = torch.rand(1, 6, 3, 2, 2), torch.rand(1, 2, 12, 2, 2)
    joined = model.blocks[5]((slow, fast))
    assert torch.equal(joined[:, :6], slow)
    torch.testing.assert_close(joined[:, 6:], fast.unflatten(2, (3, 4)).mean(3))
    with torch.no_grad():
        features = model.forward_features(clip(16, 64))
    assert features.shape == (1, 2304, 4, 2, 2)
    assert model.frame_features(features).shape == (1, 4, 2304)


def test_stride_and_linspace_see_other_frames() -> None:
    model = copy.deepcopy(model_of("slowfast_r50"))
    x = tiny("slowfast_r50")
    with torch.no_grad():
        linspace = model(x)
        model.blocks[0].rule = "stride"
        stride = model(x)
        x[:, :, 7] = 0  # the slow pathway's last frame, for linspace
    assert (linspace - stride).abs().max() > 0.01


# --- the contract ---------------------------------------------------------------------------------------------------


@every_model
def test_the_smallest_clip_runs_and_a_smaller_one_fails_before_forward(name: str) -> None:
    model, geometry = on_meta(name).eval(), SPECS[name].geometry
    model.geometry = geometry
    assert model(torch.empty(1, 3, geometry.min_frames, 1, 1, device="meta")).shape == (1, 400)
    smaller = (1, 3, geometry.min_frames - 1, 1, 1)
    if smaller[2]:
        with pytest.raises(GeometryError, match=re.escape(f"got {smaller}")):
            model(torch.empty(smaller, device="meta"))
    if name in SLOWFASTS:
        with pytest.raises(GeometryError, match="30 frames"):
            model(torch.empty(1, 3, 30, 64, 64, device="meta"))


@every_model
def test_stages_are_those_of_the_papers_and_their_groups_hold_every_parameter(name: str) -> None:
    model = on_meta(name).eval()
    with torch.no_grad():
        maps = model.forward_intermediates(torch.empty(1, 3, 8, 64, 64, device="meta"))
    assert list(model.stages()) == ["stem", "res2", "res3", "res4", "res5"]
    assert [m.shape[1] for m in maps] == CHANNELS[name]
    assert maps[-1].shape[1] == model.num_features
    groups = model.layer_groups()
    assert list(groups) == ["stem", "res2", "res3", "res4", "res5", "head"]
    assert sorted(n for names in groups.values() for n in names) == sorted(n for n, _ in model.named_parameters())


@one_of_a_kind
def test_intermediates_are_what_the_stages_gave(name: str) -> None:
    model, x = model_of(name), tiny(name)
    with torch.no_grad():
        everything = model.forward_intermediates(x)
        alone = [model.forward_intermediates(x, [i])[0] for i in range(5)]
        features = model.forward_features(x)
        assert torch.equal(model.forward_head(features), model(x))
    assert torch.equal(everything[-1], features)
    assert all(torch.equal(a, b) for a, b in zip(everything, alone, strict=True)), "a later stage wrote into an earlier"


@pytest.mark.parametrize("name", ["slowfast_r50", "x3d_xs"])
def test_checkpointed_stages_run_twice_and_give_the_same_gradients(name: str) -> None:
    model, x, found, runs = copy.deepcopy(model_of(name)).train(), tiny(name, 2), {}, []
    convolution = model.blocks[1].get_submodule(
        "multipathway_blocks.0.res_blocks.0.branch2.conv_a" if name in SLOWFASTS else "res_blocks.0.branch2.conv_a"
    )
    convolution.register_forward_hook(lambda *_: runs.append(1))
    state = copy.deepcopy(model.state_dict())
    for on in (False, True):
        runs.clear()
        model.load_state_dict(state)
        model.set_grad_checkpointing(on)
        model.zero_grad()
        model.forward_features(x).square().mean().backward()
        found[on] = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
        assert len(runs) == 1 + on
    assert found[True].keys() == found[False].keys() and len(found[True]) > 100
    for key, gradient in found[False].items():
        torch.testing.assert_close(found[True][key], gradient, rtol=1e-3, atol=1e-4 * gradient.abs().max().item())


@pytest.mark.parametrize("name", ["slowfast_r50", "x3d_xs"])
def test_one_clip_of_a_batch_does_not_change_another(name: str) -> None:
    model, x = model_of(name), tiny(name, 2)
    with torch.no_grad():
        together = model(x)
        assert_close(torch.cat([model(row[None]) for row in x]), together)


@pytest.mark.parametrize("name", ["slowfast_r50", "x3d_xs"])
def test_a_copy_and_a_pickle_say_the_same(name: str) -> None:
    model, x = model_of(name), tiny(name)
    with torch.no_grad():
        assert torch.equal(copy.deepcopy(model)(x), model(x))
        assert torch.equal(pickle.loads(pickle.dumps(model))(x), model(x))


@pytest.mark.parametrize("name", ["x3d_xs", pytest.param("slowfast_r50", marks=pytest.mark.slow)])
def test_an_exported_program_gives_the_same_logits(name: str) -> None:
    model, x = model_of(name), tiny(name)
    with torch.no_grad():
        program = torch.export.export(model, (x,))
        assert_close(program.module()(x), model(x))


def test_a_fresh_residual_branch_is_silent() -> None:
    torch.manual_seed(0)
    model = build("x3d_xs").eval()
    block, maps = model.blocks[2].res_blocks[1], torch.rand(1, 48, 2, 4, 4)
    with torch.no_grad():
        assert torch.equal(block(maps), maps)


def test_maps_have_their_channels_last_in_memory_on_a_cpu_only() -> None:
    with torch.no_grad():
        maps = model_of("x3d_xs").forward_intermediates(tiny("x3d_xs"))
    assert all(m.is_contiguous(memory_format=torch.channels_last_3d) for m in maps)
    assert for_convolutions(torch.empty(1, 3, 4, 8, 8, device="meta")).is_contiguous()
