"""timm's image networks as video models: options, names without timm, frames, shifts, inflation, heads over time."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import timm
import torch
from torch import Tensor, nn

import zoo
from zoo.errors import GeometryError, SpecError, UnknownModel
from zoo_timm import index
from zoo_timm.heads import HEADS
from zoo_timm.mixing import temporal_shift


def fresh(name: str = "timm/test_resnet", **options):
    torch.manual_seed(0)
    return zoo.testing.perturb(zoo.build(name, **options)).eval()


def a_clip(batch: int = 2, frames: int = 6, size: int = 32) -> Tensor:
    return torch.randn(batch, 3, frames, size, size, generator=torch.Generator().manual_seed(1))


def away(a: Tensor, b: Tensor) -> float:
    assert a.shape == b.shape
    return float((a - b).detach().abs().max() / b.detach().abs().max())


# --- names ------------------------------------------------------------------------------------------------------------


def test_the_index_has_all_of_the_timm_that_it_was_written_from():
    rows = index.read()["architectures"]
    if index.read()["timm"] == timm.__version__:
        assert len(rows) >= 0.98 * len(timm.list_models())
        assert rows.keys() <= set(timm.list_models())
    assert sum(len(row[5]) for row in rows.values()) > 1700
    listed = zoo.list_models("timm/*", pretrained=False)
    assert len(listed) == len(rows)
    assert "timm/resnet50.a1_in1k" in zoo.list_models("timm/resnet50*", pretrained=True, license="apache-2.0")
    assert "timm/resnet50.a1_in1k" not in zoo.list_models("timm/*", license="mit")
    assert zoo.list_models("timm/*", streaming=True) == []


def test_what_the_index_says_is_what_timm_says():
    spec = zoo.info("timm/vit_small_patch16_224.augreg_in21k_ft_in1k")
    stated = timm.get_pretrained_cfg("vit_small_patch16_224.augreg_in21k_ft_in1k")
    weights = spec.weights["augreg_in21k_ft_in1k"]
    assert weights.source == f"hf://{stated.hf_hub_id}/model.safetensors@main"
    assert (weights.license, weights.preprocessing.mean) == (stated.license, stated.mean)
    assert weights.preprocessing.crop == stated.input_size[1]
    assert weights.preprocessing.resize == int(224 / stated.crop_pct)
    assert spec.geometry.size == (224, 224)
    assert spec.default_tag == timm.get_pretrained_cfg("vit_small_patch16_224").tag
    assert zoo.info("timm/resnet50").geometry.size is None


def test_asking_about_timm_imports_none_of_it():
    code = (
        "import sys, zoo; zoo.list_models(); zoo.info('timm/resnet50.a1_in1k')\n"
        "try: zoo.info('timm/resnet5')\n"
        "except LookupError as e: assert 'did you mean timm/resnet' in str(e), e\n"
        "assert not {'timm', 'torch'} & set(sys.modules)"
    )
    subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}, check=True
    )


def test_a_timm_that_is_newer_than_the_index_is_asked(monkeypatch):
    older = {**index.read(), "timm": "1.0.0"}
    older["architectures"] = {n: row for n, row in older["architectures"].items() if n != "test_vit"}
    monkeypatch.setattr(index, "read", lambda: older)
    index.resolve.cache_clear()
    try:
        spec = index.resolve("test_vit")
        assert index.resolve("no_such_network") is None
    finally:
        index.resolve.cache_clear()
    monkeypatch.undo()
    assert spec == index.resolve("test_vit")


def test_a_missing_or_old_timm_names_the_pip_line(monkeypatch):
    from zoo_timm import images

    for version, hint in ((None, "pip install timm"), ("0.9.16", r"pip install -U 'timm>=1\.0\.20'")):
        images.library.cache_clear()
        with monkeypatch.context() as patch:
            if version is None:
                patch.setitem(sys.modules, "timm", None)
            else:
                patch.setattr(timm, "__version__", version)
            with pytest.raises(ImportError, match=hint):
                zoo.create("timm/test_resnet")
    images.library.cache_clear()


# --- frames -----------------------------------------------------------------------------------------------------------


def test_the_width_is_probed_not_read():
    assert zoo.build("timm/mobilenetv3_small_050").num_features == 1024  # timm's num_features says 288
    assert timm.create_model("mobilenetv3_small_050").num_features != 1024


@pytest.mark.parametrize(
    ("batch", "frames", "chunk"), [(1, 7, 3), (2, 7, 3), (3, 4, 5), (3, 4, 9), (2, 5, 1), (1, 5, 9)]
)
def test_chunks_make_no_difference(batch, frames, chunk):
    clip = a_clip(batch, frames)
    model = fresh()
    whole = model(clip)
    seen = []
    model.backbone.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    model.frame_chunk = chunk
    assert away(model(clip), whole) < 1e-5
    assert max(seen) <= max(chunk, frames if chunk >= frames else 0)
    assert sum(seen) == batch * frames


def test_the_frames_of_a_long_clip_are_views_of_it():
    clip = a_clip(2, 20)
    model = fresh(frame_chunk=4)
    places = []
    model.backbone.register_forward_pre_hook(lambda _, args: places.append(args[0].untyped_storage().data_ptr()))
    model(clip)
    assert places == [clip.untyped_storage().data_ptr()] * 10


def test_frames_go_through_in_bounded_memory_unless_their_statistics_are_wanted():
    model, seen = fresh(), []
    model.backbone.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    clip = a_clip(1, 20, 224)
    with torch.no_grad():
        model(clip)
        assert max(seen) == 7  # 8 of 224x224 would do, but three equal parts are as many
        seen.clear()
        model.train()(clip)
        assert seen == [20]
        seen.clear()
        model = fresh(freeze_bn=True, frame_chunk=5).train()
        model.backbone.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
        model(clip)
        assert seen == [5, 5, 5, 5]


def test_frozen_batch_norms_stay_as_they_are():
    model = fresh(freeze_bn=True).train()
    before = {name: b.clone() for name, b in model.named_buffers()}
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    model(a_clip()).sum().backward()
    assert all(torch.equal(b, before[name]) for name, b in model.named_buffers())
    assert not any("bn" in name for name in trained)
    assert "backbone.conv1.0.weight" in trained or "backbone.conv1.weight" in trained


def test_frame_embeddings_are_timms_own_features():
    model = fresh("timm/test_vit")
    frames = torch.randint(0, 255, (20, 180, 200, 3), dtype=torch.uint8).numpy()
    rows = model.embed(frames, fps=5, level="frame")
    clips = zoo.load_clips(model, frames, fps=5).data
    with torch.no_grad():
        theirs = model.backbone(clips[0].transpose(0, 1))
    assert rows.shape == (8, model.num_features)
    assert away(rows, theirs) < 1e-5
    assert away(model.embed(frames, fps=5), theirs.mean(0)) < 1e-5


def test_intermediate_maps_are_timms_own():
    model, clip = fresh(), a_clip()
    maps = model.forward_intermediates(clip, [1, -1])
    theirs = model.backbone.forward_intermediates(clip[1].transpose(0, 1), indices=[1, -1], intermediates_only=True)
    for ours, of_second in zip(maps, theirs, strict=True):
        assert away(ours[1].transpose(0, 1), of_second) < 1e-5


def test_layer_groups_are_timms_and_checkpointing_changes_no_gradient():
    model, clip = fresh("timm/test_vit"), a_clip(1, 2, 160)
    assert len(model.layer_groups()) > 3
    assert list(model.layer_groups())[-1] == "head"
    plain = torch.autograd.grad(model(clip).sum(), model.backbone.patch_embed.proj.weight)[0]
    model.set_grad_checkpointing()
    again = torch.autograd.grad(model(clip).sum(), model.backbone.patch_embed.proj.weight)[0]
    assert away(again, plain) < 1e-5


# --- sizes and options ------------------------------------------------------------------------------------------------


def test_sizes_follow_the_architecture():
    model = fresh("timm/test_vit")
    with pytest.raises(GeometryError, match="160x160 pixels"):
        model(a_clip(size=96))
    assert fresh("timm/test_vit", img_size=96)(a_clip(size=96)).shape == (2, 400)
    assert fresh()(a_clip(size=45)).shape == (2, 400)
    with pytest.raises(SpecError, match=r"img_size.*takes other sizes as it is"):
        zoo.build("timm/test_resnet", img_size=96)
    with pytest.raises(GeometryError, match="at least 32 pixels"):
        fresh()(a_clip(size=31))
    assert fresh(in_chans=2)(a_clip()[:, :2]).shape == (2, 400)


def test_what_timm_refuses_is_said_in_words_of_zoo():
    model = fresh("timm/test_vit")
    model.geometry = zoo.Geometry()
    with pytest.raises(GeometryError, match=r"test_vit takes no frames of 90x90.*made for 160x160"):
        model(a_clip(size=90))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temporal": "median"}, "one of mean, max, attention"),
        ({"temporal": "lstm", "temporal_options": {"depth": 3}}, "depth"),
        ({"frame_chunk": 0}, "at least 1"),
        ({"shift": True, "inflate": 3}, "choose one"),
        ({"inflate": 2}, "odd"),
        ({"num_classes": -1}, "number of classes"),
    ],
)
def test_wrong_options_say_what_is_right(options, message):
    with pytest.raises(SpecError, match=message):
        zoo.build("timm/test_resnet", **options)


def test_a_wrong_name_is_corrected():
    with pytest.raises(UnknownModel, match="did you mean timm/resnet50"):
        zoo.create("timm/resnet500")
    with pytest.raises(UnknownModel, match=r"there are timm/test_resnet\.r160_in1k"):
        zoo.create("timm/test_resnet.nothing")


# --- time -------------------------------------------------------------------------------------------------------------


def test_the_shift_is_the_published_one():
    # ops/temporal_shift.py, by hand: 16 channels, fold = 16 // 8 = 2; frame t of channel c is 100 * t + c.
    clip = torch.arange(4.0)[:, None] * 100 + torch.arange(16.0)  # [T, C]
    shifted = temporal_shift(torch.cat((clip, clip + 1000))[..., None, None], 4)[..., 0, 0]
    for start in (0, 4):  # two clips do not touch
        one, base = shifted[start : start + 4], clip + 1000 * (start > 0)
        assert torch.equal(one[:3, :2], base[1:, :2])
        assert torch.equal(one[3, :2], torch.zeros(2))
        assert torch.equal(one[1:, 2:4], base[:3, 2:4])
        assert torch.equal(one[0, 2:4], torch.zeros(2))
        assert torch.equal(one[:, 4:], base[:, 4:])


def reference_shift(x: Tensor, segments: int) -> Tensor:
    """The equations of the paper, one frame at a time."""
    out, fold = torch.zeros_like(x), x.shape[1] // 8
    for i in range(len(x)):
        t = i % segments
        out[i, 2 * fold :] = x[i, 2 * fold :]
        if t + 1 < segments:
            out[i, :fold] = x[i + 1, :fold]
        if t > 0:
            out[i, fold : 2 * fold] = x[i - 1, fold : 2 * fold]
    return out


@pytest.mark.parametrize("arch", ["test_resnet", "mobilenetv2_035", "regnetx_002", "res2net50_26w_4s"])
def test_networks_shift_where_it_is_published(arch):
    """Against timm's own network with hooks before the first convolution of each residual block."""
    model, clip = fresh(f"timm/{arch}", shift=True), a_clip(frames=5)
    network = timm.create_model(arch)
    network.reset_classifier(0)
    network.load_state_dict({k.removeprefix("backbone."): v for k, v in model.state_dict().items() if "backbone" in k})
    network.eval()
    hooked = 0
    for block in network.modules():
        first = getattr(block, "conv1", None) or getattr(block, "conv_pw", None)
        kind = type(block).__name__
        if kind in ("BasicBlock", "Bottleneck", "Bottle2neck") or (kind == "InvertedResidual" and block.has_skip):
            first.register_forward_pre_hook(lambda _, args: (reference_shift(args[0], 5),))
            hooked += 1
    assert hooked >= 2
    with torch.no_grad():
        theirs = network(clip.transpose(1, 2).flatten(0, 1)).unflatten(0, (2, 5))
        assert away(model.forward_features(clip), theirs) < 1e-5
        assert away(model(clip.flip(2)), model(clip)) > 1e-3  # it sees order


def test_in_long_stages_every_other_block_shifts():
    from zoo_timm.mixing import ShiftedConv2d

    with torch.device("meta"):
        model = zoo.build("timm/resnet101", shift=True)
    blocks = [isinstance(block.conv1, ShiftedConv2d) for block in model.backbone.layer3]
    assert blocks == [i % 2 == 0 for i in range(23)]


@pytest.mark.parametrize("arch", ["test_vit", "test_convnext", "vgg11"])
def test_architectures_without_such_blocks_refuse_to_shift(arch):
    with torch.device("meta"), pytest.raises(SpecError, match="no residual blocks that shift"):
        zoo.build(f"timm/{arch}", shift=True)


INFLATED = ("test_resnet", "resnet18d", "densenet121", "vgg11_bn", "repvgg_a0", "dla34")


@pytest.mark.parametrize("arch", INFLATED)
def test_inflated_networks_say_of_a_still_clip_what_they_say_of_its_frame(arch):
    from zoo_timm.mixing import inflated

    flat, deep = fresh(f"timm/{arch}", num_classes=0), zoo.build(f"timm/{arch}", num_classes=0, inflate=3).eval()
    states = deep.state_dict()
    deep.load_state_dict({k: inflated(v, 3) if v.ndim < states[k].ndim else v for k, v in flat.state_dict().items()})
    still = a_clip(2, 1, 64).expand(2, 3, 4, 64, 64)
    moving = a_clip(2, 4, 64)
    with torch.no_grad():
        assert away(deep.forward_features(still), flat.forward_features(still)) < 1e-5
        early = [model.forward_intermediates(moving, [0])[0] for model in (deep, flat)]
    assert away(*early) > 1e-3


@pytest.mark.parametrize("arch", ["seresnet50", "regnety_002", "efficientnet_b0", "test_vit", "mobilenetv3_small_050"])
def test_other_architectures_refuse_inflation(arch):
    with torch.device("meta"), pytest.raises(SpecError, match="not known to be itself"):
        zoo.build(f"timm/{arch}", inflate=3)


@pytest.mark.parametrize("temporal", HEADS)
def test_heads_over_time(temporal):
    model, clip = fresh(temporal=temporal), a_clip(frames=5)
    with torch.no_grad():
        logits, backwards, longer = model(clip), model(clip.flip(2)), model(a_clip(frames=9))
    assert logits.shape == longer.shape == (2, 400)
    sees_order = away(backwards, logits) > 1e-4
    assert sees_order == (temporal in ("lstm", "gru", "tcn", "transformer"))


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_recurrent_heads_are_torchs(cell):
    model, clip = fresh(temporal=cell, temporal_options={"hidden": 24, "layers": 2}), a_clip()
    rnn = {"lstm": nn.LSTM, "gru": nn.GRU}[cell](model.num_features, 24, 2, batch_first=True)
    rnn.load_state_dict(model.temporal.rnn.state_dict())
    with torch.no_grad():
        features = model.forward_features(clip)
        assert away(model.forward_head(features, pre_logits=True), rnn(features)[0][:, -1]) < 1e-6


def test_a_learned_head_of_a_model_from_a_file_has_fresh_values():
    from zoo_timm.heads import temporal_head

    for name in HEADS:
        for key, values in temporal_head(name, 24, {}).state_dict().items():
            assert values.isfinite().all()
            assert values.ndim == 1 or values.std() > 0, (name, key)
