"""Continual networks say of a stream what the same weights say without zeros in time, and how late they are."""

from __future__ import annotations

import copy
import functools

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import zoo
from zoo.errors import GeometryError, SpecError
from zoo.testing import perturb

CONTINUAL = zoo.list_models("co_*", plugin="cnn", pretrained=False)
QUICK = {"co_x3d_s", "co_slow_r50", "co_i3d_r50"}
FRAMES = 64


def each(names):
    return pytest.mark.parametrize(
        "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in names]
    )


@functools.cache
def model_of(name: str, **more: object) -> zoo.VideoModel:
    """The small variant, every weight moved. Read only."""
    torch.manual_seed(0)
    return perturb(zoo.build(name, **{**zoo.info(name).small, **more})).eval()


def clip(frames: int, *, batch: int = 1, side: int = 36) -> Tensor:
    return torch.randn(batch, 3, frames, side, side, generator=torch.Generator().manual_seed(frames))


def run(model: zoo.VideoModel, frames: Tensor, size: int) -> tuple[Tensor, dict]:
    state = model.init_state(len(frames))
    with torch.no_grad():
        for chunk in frames.split(size, 2):
            logits, state = model.step(chunk, state)
    return logits, state


def assert_close(got: Tensor, wanted: Tensor, tolerance: float = 1e-5) -> None:
    assert got.shape == wanted.shape and wanted.isfinite().all() and wanted.std() > 0
    assert (got - wanted).abs().max() <= tolerance * wanted.abs().max()


# --- the reference: the clip network's own modules, run layer by layer without padding in time -----------------------


def valid(layer: nn.Conv3d, x: Tensor) -> Tensor:
    padding = (0, *layer.padding[1:])
    return F.conv3d(x, layer.weight, layer.bias, layer.stride, padding, layer.dilation, layer.groups)


def rolling(x: Tensor, frames: int) -> Tensor:
    """Entry t is the mean of the frames t - frames + 1 to t; the first entries, which have fewer, are cut off."""
    return torch.stack([x[:, :, t - frames + 1 : t + 1].mean(2) for t in range(frames - 1, x.shape[2])], 2)


def block_of(block: nn.Module, x: Tensor, window: int) -> Tensor:
    b = block.branch2
    y = F.relu(b.norm_a(valid(b.conv_a, x)))
    y = valid(b.conv_b, y)
    if isinstance(b.norm_b, nn.Sequential):
        y = b.norm_b[0](y)
        if not isinstance(b.norm_b[1], nn.Identity):
            factors = b.norm_b[1].block(rolling(y.mean((3, 4), keepdim=True), window))
            y = y[:, :, window - 1 :] * factors
    else:
        y = b.norm_b(y)
    y = b.norm_c(valid(b.conv_c, b.act_b(y)))
    shortcut = block.branch1_norm(block.branch1_conv(x))
    middle = (b.conv_a.kernel_size[0] - 1 + b.conv_b.kernel_size[0] - 1) // 2  # frames lost after the one in the middle
    end = shortcut.shape[2] - middle
    return F.relu(y + shortcut[:, :, end - y.shape[2] : end])


def reference(net: nn.Module, x: Tensor, frames: int) -> Tensor:
    """Logits of the newest frame, of a clip network `net` of X3D or Slow."""
    stem, *stages, head = net.blocks
    x = valid(stem.conv.conv_xy, stem.conv.conv_t(x)) if hasattr(stem.conv, "conv_xy") else valid(stem.conv, x)
    x = stem.pool(F.relu(stem.norm(x)))
    for stage in stages:
        for block in stage.res_blocks:
            x = block_of(block, x, frames)
    if hasattr(head, "pool"):
        x = F.relu(head.pool.pre_norm(head.pool.pre_conv(x)))
    x = F.avg_pool3d(x, [1, *(min(a, b) for a, b in zip(head.window[1:], x.shape[3:], strict=True))], stride=1)
    x = rolling(x, frames)[:, :, -1:]
    if hasattr(head, "pool"):
        x = F.relu(head.pool.post_conv(x))
    return head.proj(x.mean((2, 3, 4)))


@pytest.mark.parametrize("name", ["x3d_xs", "x3d_s", pytest.param("x3d_s_psf", marks=pytest.mark.slow), "slow_r50"])
def test_equal_to_the_same_weights_without_zeros_in_time(name):
    clips, stream = model_of(name), model_of(f"co_{name}")
    window = clips.spec.preprocessing.num_frames
    frames = clip(stream.receptive_field + 3, side=36)
    with torch.no_grad():
        wanted = reference(clips, frames, window)
    assert_close(run(stream, frames, 7)[0], wanted)


def test_of_one_picture_over_and_over_all_moments_are_the_same():
    model = model_of("co_slow_r50")
    frames = clip(1).expand(-1, -1, model.receptive_field + 5, -1, -1)
    early, late = (run(model, frames[:, :, :n], 16)[0] for n in (model.receptive_field, model.receptive_field + 5))
    assert_close(late, early)


@each(CONTINUAL)
def test_sixty_four_frames_in_any_chunks_say_what_one_pass_says(name):
    model, frames = model_of(name), clip(FRAMES)
    with torch.no_grad():
        whole = model(frames)
    for size in (1, 2, 4, 8, 16, FRAMES):
        assert_close(run(model, frames, size)[0], whole)


@each(CONTINUAL)
def test_answers_depend_on_the_declared_frames(name):
    model = copy.deepcopy(model_of(name)).double()  # the oldest frame counts little after many means
    field = model.receptive_field
    frames = clip(field + 4).double()
    wanted = run(model, frames, 16)[0]
    for oldest, counts in ((field + 1, False), (field, True)):
        other = frames.clone()
        other[:, :, -oldest] *= -3
        assert torch.equal(run(model, other, 16)[0], wanted) != counts


def test_before_the_delay_is_over_there_is_no_answer():
    model = model_of("co_x3d_s")
    frames = clip(model.delay + 1)
    assert not run(model, frames[:, :, :-1], 4)[0].any()
    assert run(model, frames, 4)[0].any()
    with pytest.raises(GeometryError, match=f"at least {model.delay + 1} frames"):
        model(frames[:, :, :-1])


@pytest.mark.parametrize("name", ["co_x3d_s", "co_i3d_r50"])
def test_the_state_has_its_size_from_the_start(name):
    model = model_of(name)
    frames = clip(2, side=40)
    state = model.init_state(1, size=(40, 40))
    _, after = model.step(frames, state)
    assert {k: v.shape for k, v in after.items()} == {k: v.shape for k, v in state.items()}
    with pytest.raises(GeometryError, match="another size"):
        model.step(clip(1, side=72), after)


@each(CONTINUAL)
def test_what_a_spec_declares_is_what_the_network_is(name):
    spec, of_clips = zoo.info(name), zoo.info(name.removeprefix("co_"))
    with torch.device("meta"):
        model = zoo.build(name)
    assert (spec.delay, spec.receptive_field, spec.period) == (model.delay, model.receptive_field, model.period)
    assert spec.geometry == model.geometry and spec.params == of_clips.params
    assert spec.preprocessing.num_frames == of_clips.preprocessing.num_frames + spec.delay


def test_any_model_of_the_kind_becomes_one_that_follows_streams():
    from zoo_cnn.continual import continual

    clips = model_of("x3d_s")
    stream = continual(clips)
    assert list(stream.state_dict()) == list(clips.state_dict()) == list(model_of("co_x3d_s").state_dict())
    assert all(a.data_ptr() == b.data_ptr() for a, b in zip(stream.parameters(), clips.parameters(), strict=True))
    frames = clip(20)
    assert_close(run(stream, frames, 5)[0], run(model_of("co_x3d_s"), frames, 5)[0])
    with torch.no_grad():
        assert clips(frames).shape == (1, 400)  # it is as it was
    with pytest.raises(SpecError, match="no continual form"):
        continual(model_of("slowfast_r50"))


def test_published_layouts_load_into_both():
    state = model_of("x3d_s").state_dict()
    for function in zoo.info("co_x3d_s").layouts:
        assert zoo.info("co_x3d_s").layouts[function] == zoo.info("x3d_s").layouts[function]
    model = zoo.build("co_x3d_s", **zoo.info("co_x3d_s").small)
    model.load_state_dict(state, strict=True)
