"""r3d_18, mc3_18, r2plus1d_18 and s3d are torchvision's, to the bit and to the key, and keep the contract of zoo.

Where logits are not needed, s3d sees clips too small for its head: one clip that is large enough takes a second.
"""

from __future__ import annotations

import copy
import functools
import os
import pickle
import re
import subprocess
import sys
from importlib import import_module
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torchvision.models import video
from torchvision.transforms.v2 import functional as F

import zoo
import zoo_cnn
from zoo.errors import GeometryError

NAMES = ("r3d_18", "mc3_18", "r2plus1d_18", "s3d")
SPECS = {spec.name: spec for spec in zoo_cnn.zoo_models() if spec.name in NAMES}
PUBLISHED = {
    "r3d_18": video.R3D_18_Weights.KINETICS400_V1,
    "mc3_18": video.MC3_18_Weights.KINETICS400_V1,
    "r2plus1d_18": video.R2Plus1D_18_Weights.KINETICS400_V1,
    "s3d": video.S3D_Weights.KINETICS400_V1,
}
STAGES = {name: ["stem", "layer1", "layer2", "layer3", "layer4"] for name in NAMES}
STAGES["s3d"] = ["conv1", "conv2", "mixed3", "mixed4", "mixed5"]
CHANNELS = {name: [64, 64, 128, 256, 512] for name in NAMES} | {"s3d": [64, 192, 480, 832, 1024]}
# (T, H) of the stages for `small_clip`: what each of them has shrunk.
SIZES = {name: [(4, 16), (4, 16), (2, 8), (1, 4), (1, 2)] for name in NAMES}
SIZES["mc3_18"] = [(4, 16), (4, 16), (4, 8), (4, 4), (4, 2)]
SIZES["s3d"] = [(4, 16), (4, 8), (4, 4), (2, 2), (1, 1)]
HEAD = dict.fromkeys(NAMES, "fc") | {"s3d": "classifier.1"}

every_model = pytest.mark.parametrize("name", NAMES)


def build(name: str, **overrides: object) -> zoo.VideoModel:
    spec = SPECS[name]
    module, function = spec.builder.split(":")
    return getattr(import_module(module), function)(**{**spec.kwargs, **overrides})


def on_meta(name: str, **overrides: object) -> zoo.VideoModel:
    with torch.device("meta"):
        return build(name, **overrides)


def shake(model: nn.Module) -> None:
    """Move every number: a fresh network is full of zeros and ones that hide mistakes."""
    with torch.no_grad():
        for key, value in model.state_dict().items():
            if value.is_floating_point():
                value += 0.1 * torch.randn_like(value)
            if key.endswith("running_var"):
                value.abs_().add_(0.1)


def small_clip(name: str, batch: int = 2) -> torch.Tensor:
    torch.manual_seed(1)
    return torch.randn(batch, 3, 8 if name == "s3d" else 4, 32, 32)


def assert_close(got: torch.Tensor, wanted: torch.Tensor, tolerance: float = 1e-6) -> None:
    assert got.shape == wanted.shape and wanted.isfinite().all()
    assert (got - wanted).abs().max() <= tolerance * wanted.abs().max()


@functools.cache
def pair(name: str) -> SimpleNamespace:
    """torchvision's shaken model, ours with the same numbers, and what both say of the smallest clip. Read only."""
    torch.manual_seed(0)
    reference = getattr(video, name)(weights=None).eval()
    shake(reference)
    model = build(name).eval()
    model.load_state_dict(reference.state_dict(), strict=True)
    clip = torch.randn(1, 3, 13, 209, 209) if name == "s3d" else torch.randn(2, 3, 5, 31, 34)
    kept = clip.clone()
    with torch.no_grad():
        wanted, features, logits = reference(kept), model.forward_features(clip), model(clip)
    return SimpleNamespace(
        reference=reference, model=model, clip=clip, kept=kept, wanted=wanted, features=features, logits=logits
    )


# --- torchvision's -------------------------------------------------------------------------------------------------


@every_model
def test_logits_equal_torchvision_bit_for_bit(name: str) -> None:
    p = pair(name)
    assert_close(p.logits, p.wanted)
    assert torch.equal(p.logits, p.wanted)
    assert p.logits.std() > 0 and p.logits.shape[1] == 400


@every_model
def test_the_state_dict_is_torchvisions_in_both_directions(name: str) -> None:
    with torch.device("meta"):
        reference = getattr(video, name)(weights=None)
    ours, theirs = on_meta(name).state_dict(), reference.state_dict()
    assert list(ours) == list(theirs)
    assert [(v.shape, v.dtype) for v in ours.values()] == [(v.shape, v.dtype) for v in theirs.values()]
    reference.load_state_dict(pair(name).model.state_dict(), strict=True, assign=True)
    on_meta(name).load_state_dict(pair(name).reference.state_dict(), strict=True, assign=True)


@every_model
def test_the_same_seed_gives_torchvisions_initial_weights(name: str) -> None:
    torch.manual_seed(3)
    theirs = getattr(video, name)(weights=None, num_classes=5).state_dict()
    torch.manual_seed(3)
    ours = build(name, num_classes=5).state_dict()
    assert all(torch.equal(ours[key], value) for key, value in theirs.items())


@pytest.mark.parametrize("shape", [(2, 7, 7), (3, 8, 9), (16, 7, 7)])
def test_the_windows_of_the_s3d_head_slide_as_in_torchvision(shape: tuple[int, ...]) -> None:
    p = pair("s3d")
    head = copy.deepcopy(p.reference)
    head.features = nn.Identity()
    torch.manual_seed(4)
    features = torch.randn(2, 1024, *shape)
    with torch.no_grad():
        assert torch.equal(p.model.forward_head(features), head(features))
        pooled = p.model.forward_head(features, pre_logits=True)
        convolution = p.model.classifier[1]
        logits = nn.functional.linear(pooled, convolution.weight.flatten(1), convolution.bias)
    assert_close(logits, head(features), 1e-5)


def test_the_dropout_of_s3d_is_a_keyword_and_does_nothing_in_eval() -> None:
    assert on_meta("s3d").classifier[0].p == 0.2
    assert on_meta("s3d", dropout=0.5).classifier[0].p == 0.5
    model = build("s3d", dropout=0.9)
    features = torch.rand(1, 1024, 2, 7, 7)
    assert not torch.equal(model.forward_head(features), model.forward_head(features))
    model.eval()
    assert torch.equal(model.forward_head(features), model.forward_head(features))


# --- the specs ------------------------------------------------------------------------------------------------------


def test_the_specs_are_data_that_imports_neither_torch_nor_torchvision() -> None:
    code = "import sys, zoo_cnn; assert list(zoo_cnn.zoo_models()); print([m for m in sys.modules if 'torch' in m])"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert tuple(SPECS) == NAMES
    assert all(zoo.ModelSpec.from_dict(spec.to_dict()) == spec for spec in SPECS.values())


@every_model
def test_the_parameter_count_is_the_one_published(name: str) -> None:
    spec = SPECS[name]
    count = sum(p.numel() for p in on_meta(name).parameters())
    assert spec.params == count == PUBLISHED[name].meta["num_params"]
    assert spec.num_classes == on_meta(name).num_classes == len(PUBLISHED[name].meta["categories"])


@every_model
def test_the_protocol_has_torchvisions_numbers(name: str) -> None:
    protocol, transform, docs = SPECS[name].preprocessing, PUBLISHED[name].transforms(), PUBLISHED[name].meta["_docs"]
    stated = {key: int(value) for key, value in re.findall(r"`(\w+)=(\d+)`", docs)}
    assert list(protocol.resize) == transform.resize_size
    assert [protocol.crop, protocol.crop] == transform.crop_size
    assert (list(protocol.mean), list(protocol.std)) == (transform.mean, transform.std)
    assert protocol.interpolation == transform.interpolation.value
    assert stated == {
        "frame_rate": protocol.fps,
        "clips_per_video": protocol.clips,
        "clip_len": protocol.num_frames,
    }
    assert (protocol.sampler, protocol.stride, protocol.crops) == ("resampled_tv", 1, 1)
    assert (protocol.activation, protocol.aggregation) == ("softmax", "prob_mean")


@every_model
def test_the_protocol_executed_by_hand_gives_torchvisions_pixels(name: str) -> None:
    # Of noise, so that half a pixel or an antialias more would be tens of grey levels. One level may differ: the
    # presets resize by v1 of the transforms, which rounds from float, and zoo as v2 does, which stays with integers.
    protocol = SPECS[name].preprocessing
    torch.manual_seed(5)
    frames = torch.randint(0, 256, (2, 3, 240, 321), dtype=torch.uint8)
    resized = F.resize(frames, list(protocol.resize), antialias=protocol.antialias)
    top, left = ({"round": round}[protocol.crop_rounding]((side - protocol.crop) / 2) for side in protocol.resize)
    cropped = resized[..., top : top + protocol.crop, left : left + protocol.crop]
    mean, std = (torch.tensor(v)[:, None, None] for v in (protocol.mean, protocol.std))
    clip = ((cropped / 255 - mean) / std).transpose(0, 1)
    difference = (clip - PUBLISHED[name].transforms()(frames)).abs().amax((1, 2, 3))
    assert (difference * std.flatten() * 255 <= 1.001).all()


@every_model
def test_the_clip_of_the_protocol_fits_the_geometry(name: str) -> None:
    spec = SPECS[name]
    shape = (1, 3, spec.preprocessing.num_frames, spec.preprocessing.crop, spec.preprocessing.crop)
    assert spec.geometry.problem(shape) == ""


@every_model
def test_the_geometry_is_the_smallest_clip_that_torchvision_takes(name: str) -> None:
    geometry = SPECS[name].geometry
    frames, side = geometry.min_frames, geometry.min_size
    with torch.device("meta"):
        reference = getattr(video, name)(weights=None).eval()
        reference(torch.empty(1, 3, frames, side, side))
        for smaller in [(frames - 1, side, side), (frames, side - 1, side), (frames, side, side - 1)]:
            if name == "s3d":
                with pytest.raises(RuntimeError, match="smaller than kernel size"):
                    reference(torch.empty(1, 3, *smaller))
            else:
                assert 0 in smaller  # one frame of one pixel is as small as it gets


@every_model
def test_the_smallest_clip_runs_and_a_smaller_one_fails_before_forward(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    geometry, model = SPECS[name].geometry, copy.copy(pair(name).model)
    model.geometry = geometry  # as the factory does
    frames, side = geometry.min_frames, geometry.min_size
    if name == "s3d":
        assert pair(name).clip.shape[2:] == (frames, side, side)  # it ran there
    else:
        with torch.no_grad():
            assert model(torch.rand(1, 3, frames, side, side)).isfinite().all()
    monkeypatch.setattr(type(model), "forward_features", lambda *_: pytest.fail("the clip should not have come here"))
    for shape in [(3, frames - 1, side, side), (3, frames, side, side - 1), (4, frames, side, side)]:
        with pytest.raises(GeometryError, match=re.escape(f"got {(1, *shape)}")):
            model(torch.empty(1, *shape))


# --- the contract ---------------------------------------------------------------------------------------------------


@every_model
def test_forward_is_the_head_of_the_features(name: str) -> None:
    p = pair(name)
    with torch.no_grad():
        assert torch.equal(p.model.forward_head(p.features), p.logits)
        pre_logits = p.model.forward_head(p.features, pre_logits=True)
    assert p.features.shape[1] == p.model.num_features == CHANNELS[name][-1]
    assert pre_logits.shape == (len(p.clip), p.model.num_features)
    assert torch.equal(p.clip, p.kept), "the input was changed"


@every_model
def test_intermediates_are_the_outputs_of_the_stages_in_order(name: str) -> None:
    model, clip = pair(name).model, small_clip(name)
    with torch.no_grad():
        everything = model.forward_intermediates(clip)
        features = model.forward_features(clip)
        chosen = {
            indices: model.forward_intermediates(clip, indices) for indices in [(0, 2), (-1,), (-2, 1), 2, 5, (3,)]
        }
    assert list(model.stages()) == STAGES[name]
    assert [map_.shape[1] for map_ in everything] == CHANNELS[name]
    assert [tuple(map_.shape[2:4]) for map_ in everything] == SIZES[name]
    assert torch.equal(everything[-1], features)
    for indices, wanted in [((0, 2), [0, 2]), ((-1,), [4]), ((-2, 1), [1, 3]), (2, [3, 4]), (5, range(5)), ((3,), [3])]:
        # No later stage has written into an earlier output, so that stopping early makes no difference either.
        pairs = zip(chosen[indices], (everything[i] for i in wanted), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)
    with pytest.raises(IndexError, match="has 5 stages"):
        model.forward_intermediates(clip, [5])


@every_model
def test_layer_groups_hold_every_parameter_once_from_input_to_head(name: str) -> None:
    model = on_meta(name)
    groups = model.layer_groups()
    assert list(groups) == [*STAGES[name], "head"]
    names = [parameter for group in groups.values() for parameter in group]
    assert names == [parameter for parameter, _ in model.named_parameters()]  # torchvision defines them in order
    assert groups["head"] == [f"{HEAD[name]}.weight", f"{HEAD[name]}.bias"]


@every_model
def test_reset_classifier_replaces_the_head_and_nothing_else(name: str) -> None:
    model, features = copy.deepcopy(pair(name).model), pair(name).features
    body = {k: v.clone() for k, v in model.state_dict().items() if not k.startswith(HEAD[name])}
    model.reset_classifier(7)
    with torch.no_grad():
        assert model.forward_head(features).shape == (len(features), 7)
    assert model.num_classes == 7
    assert all(torch.equal(model.state_dict()[k], v) for k, v in body.items())
    with torch.device("meta"):
        reference = getattr(video, name)(weights=None, num_classes=7)
    reference.load_state_dict(model.state_dict(), strict=True, assign=True)


@every_model
def test_without_a_classifier_the_logits_are_the_pooled_features(name: str) -> None:
    model, features = copy.deepcopy(pair(name).model), pair(name).features
    model.reset_classifier(0)
    model.train()  # dropout belongs to the classifier, so features are the same in training
    with torch.no_grad():
        pooled = model.forward_head(features)
        assert torch.equal(pooled, model.forward_head(features, pre_logits=True))
        assert torch.equal(pooled, pair(name).model.forward_head(features, pre_logits=True))
    assert pooled.shape == (len(features), model.num_features)
    assert model.num_classes == 0 and "head" not in model.layer_groups()
    assert list(on_meta(name, num_classes=0).state_dict()) == list(model.state_dict())
    model.reset_classifier(3)
    assert model.forward_head(features).shape == (len(features), 3)


@every_model
def test_a_new_classifier_has_the_device_and_dtype_of_the_model(name: str) -> None:
    model = on_meta(name).to(torch.bfloat16)
    for num_classes in (0, 7):
        model.reset_classifier(num_classes)
    assert {(p.device.type, p.dtype) for p in model.parameters()} == {("meta", torch.bfloat16)}


@every_model
def test_gradient_checkpointing_runs_stages_twice_and_gives_the_same_gradients(name: str) -> None:
    torch.manual_seed(6)
    model, clip, found, runs = build(name, num_classes=3).train(), small_clip(name), {}, []
    first = next(module for module in model.modules() if isinstance(module, nn.Conv3d))
    first.register_forward_hook(lambda *_: runs.append(torch.is_grad_enabled()))
    for on in (False, True):
        runs.clear()
        model.set_grad_checkpointing(on)
        model.zero_grad()
        model.forward_features(clip).square().mean().backward()
        found[on] = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
        assert len(runs) == 1 + on
    assert found[True].keys() == found[False].keys()
    assert all(not n.startswith(HEAD[name]) for n in found[True])
    assert len(found[True]) == len(list(model.parameters())) - 2
    for key, gradient in found[False].items():
        assert_close(found[True][key], gradient, 1e-5)


@every_model
def test_one_clip_of_a_batch_does_not_change_another(name: str) -> None:
    model, clips = pair(name).model, small_clip(name, batch=3)
    with torch.no_grad():
        together = model.forward_features(clips)
        assert_close(torch.cat([model.forward_features(clip[None]) for clip in clips]), together, 1e-5)
        clips[0] = 100
        assert_close(model.forward_features(clips)[1:], together[1:], 1e-5)
        features = torch.rand(3, model.num_features, 2, 7, 7)
        alone = torch.cat([model.forward_head(row[None]) for row in features])
        assert_close(alone, model.forward_head(features), 1e-5)


@every_model
def test_a_copy_and_a_pickle_say_the_same_and_share_nothing(name: str) -> None:
    model, clip = pair(name).model, small_clip(name)
    with torch.no_grad():
        wanted = model.forward_features(clip)
        for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            assert torch.equal(other.forward_features(clip), wanted)
            for parameter in other.parameters():
                parameter.zero_()
        assert torch.equal(model.forward_features(clip), wanted)


@pytest.mark.parametrize("name", ["mc3_18", "s3d"])
def test_an_exported_program_gives_the_same_logits(name: str) -> None:
    p = pair(name)
    with torch.no_grad():
        program = torch.export.export(p.model, (p.clip,))
        assert_close(program.module()(p.clip), p.logits, 1e-5)


def test_the_stages_of_s3d_compile_into_one_graph() -> None:
    model, clip = pair("s3d").model, small_clip("s3d")
    compiled = torch.compile(model.forward_features, backend="eager", fullgraph=True)
    with torch.no_grad():
        assert torch.equal(compiled(clip), model.forward_features(clip))
