"""timm's image networks as video models: names without timm, frames, sizes and options."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import timm
import torch
from timm_models import a_clip, away, fresh
from torch import Tensor

import zoo
from zoo.errors import GeometryError, SpecError, UnknownModel
from zoo_timm import index

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


def test_every_network_takes_the_pictures_of_its_weights():
    configs = index.read()["configs"]
    for arch, (_, _, least, step, number, tags) in index.read()["architectures"].items():
        fixed = configs[number][0]
        for weights in tags.values():
            config = configs[weights if isinstance(weights, int) else weights[0]]
            sides = config[2:4]
            assert config[0] == fixed, arch
            assert fixed or all(side >= least and side % step == 0 for side in sides), (arch, sides, least, step)


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


def test_a_name_that_a_timm_not_newer_than_the_index_lacks_is_not_looked_for(monkeypatch):
    monkeypatch.setattr("importlib.metadata.version", lambda name: "1.0.19")
    monkeypatch.setattr("zoo_timm.survey.surveyed", lambda arch: pytest.fail("timm was asked"))
    with pytest.raises(UnknownModel, match="did you mean timm/resnet50"):
        zoo.info("timm/resnet5000")


def test_what_the_installed_timm_does_not_have_is_said_so(monkeypatch):
    gone = {
        name: row for name, row in timm.models._registry._model_pretrained_cfgs.items() if "test_resnet" not in name
    }
    monkeypatch.setattr(timm.models._registry, "_model_pretrained_cfgs", gone)
    with pytest.raises(UnknownModel, match=r"has no weights test_resnet\.r160_in1k: pip install -U timm"):
        zoo.build("timm/test_resnet", tag="r160_in1k")
    monkeypatch.setattr(timm, "is_model", lambda arch: False)
    with pytest.raises(UnknownModel, match="has no 'test_resnet': pip install -U timm"):
        zoo.build("timm/test_resnet")


@pytest.mark.parametrize(
    ("version", "numbers"),
    [("1.0.31", (1, 0, 31)), ("1.0.20rc1", (1, 0, 20)), ("1.1.0.dev0", (1, 1, 0)), ("2.0", (2, 0))],
)
def test_versions_compare_by_their_numbers(version, numbers):
    assert index.numbers(version) == numbers


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


def test_in_training_a_frozen_network_needs_no_more_memory_than_in_evaluation():
    model, clip, seen = fresh(freeze_bn=True, temporal="gru").train(), a_clip(1, 20, 224), []
    model.backbone.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    model(clip)
    model.backbone.requires_grad_(False)
    model(clip).sum().backward()
    assert seen == [20, 7, 7, 6]


def test_no_clips_give_no_logits():
    assert fresh()(a_clip(batch=0)).shape == (0, 400)
    assert fresh(shift=True)(a_clip(batch=0)).shape == (0, 400)


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


def test_a_second_run_in_backward_does_not_count_the_frames_again():
    def statistics(on: bool) -> list[Tensor]:
        model = fresh().train()
        model.set_grad_checkpointing(on)
        model(a_clip()).sum().backward()
        return list(model.backbone.buffers())

    assert all(map(torch.equal, statistics(True), statistics(False)))


def test_networks_that_timm_cannot_checkpoint_say_so():
    with torch.device("meta"):
        model = zoo.build("timm/vgg11")
    model.set_grad_checkpointing(False)
    with pytest.raises(SpecError, match="vgg11 has no gradient checkpointing"):
        model.set_grad_checkpointing()


@pytest.mark.parametrize("indices", [[99], 99, [-99]])
def test_stages_that_there_are_not_are_an_index_error(indices):
    model = fresh()
    with pytest.raises(IndexError, match="test_resnet with indices="):
        model.forward_intermediates(a_clip(1, 2), indices)
    assert model.forward_intermediates(a_clip(1, 2), []) == []


# --- sizes and options ------------------------------------------------------------------------------------------------


def test_sizes_follow_the_architecture():
    model = fresh("timm/test_vit")
    with pytest.raises(GeometryError, match="160x160 pixels"):
        model(a_clip(size=96))
    assert fresh("timm/test_vit", img_size=96)(a_clip(size=96)).shape == (2, 400)
    assert fresh()(a_clip(size=45)).shape == (2, 400)
    with pytest.raises(SpecError, match=r"img_size.*takes other sizes as it is"):
        zoo.build("timm/test_resnet", img_size=96)
    with pytest.raises(SpecError, match=r"img_size=100: .*patch size"):
        zoo.build("timm/test_vit", img_size=100)
    with torch.device("meta"), pytest.raises(SpecError, match="patches of 14x14 do not cover it"):
        zoo.build("timm/vit_small_patch14_dinov2", img_size=100)
    with pytest.raises(GeometryError, match="at least 32 pixels"):
        fresh()(a_clip(size=31))
    assert fresh(in_chans=2)(a_clip()[:, :2]).shape == (2, 400)


def test_what_timm_refuses_is_said_in_words_of_zoo():
    model = fresh("timm/test_vit")
    model.geometry = zoo.Geometry()
    with pytest.raises(GeometryError, match=r"test_vit takes no frames of 90x90.*made for 160x160"):
        model(a_clip(size=90))


@pytest.mark.parametrize(
    ("clip", "said"), [(a_clip().half(), "type"), (a_clip(1, 1), "more than 1 value"), (a_clip().byte(), "Byte")]
)
def test_what_is_not_the_size_is_not_said_to_be_the_size(clip, said):
    for options in ({}, {"shift": True}):
        with pytest.raises((RuntimeError, ValueError), match=said) as raised:
            fresh(**options).train()(clip)
        assert not isinstance(raised.value, GeometryError)


@pytest.mark.parametrize(("size", "resize", "crop"), [(96, 101, 96), ((96, 128), 134, (96, 128))])
def test_a_network_of_another_size_is_shown_pictures_of_that_size(size, resize, crop):
    model = fresh("timm/test_vit", img_size=size)
    assert (model.preprocessing.resize, model.preprocessing.crop) == (resize, crop)
    frames = torch.randint(0, 255, (20, 180, 200, 3), dtype=torch.uint8).numpy()
    assert zoo.embed(model, frames, fps=5).shape == (64,)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temporal": "median"}, "one of mean, max, attention"),
        ({"temporal": ["mean"]}, "one of mean, max, attention"),
        ({"temporal": "lstm", "temporal_options": {"depth": 3}}, "'depth': its options are hidden, layers"),
        ({"temporal": "lstm", "temporal_options": {"cell": "gru"}}, "'cell'"),
        ({"temporal": "mean", "temporal_options": {"hidden": 3}}, "its options are none"),
        ({"temporal": "lstm", "temporal_options": ["hidden"]}, "such as"),
        ({"temporal": "gru", "temporal_options": {"hidden": 0}}, "hidden=0: a whole number"),
        ({"temporal": "tcn", "temporal_options": {"kernel": 2.5}}, "kernel=2.5: a whole number"),
        ({"temporal": "transformer", "temporal_options": {"heads": 5}}, "heads=5 for 96 features"),
        ({"temporal": "transformer", "temporal_options": {"dropout": 3}}, "less than 1"),
        *(({"frame_chunk": value}, "at least 1") for value in (0, 2.5, "4", True)),
        ({"shift": True, "inflate": 3}, "choose one"),
        ({"shift": "no"}, "True or False"),
        ({"in_chans": None}, "channels"),
        ({"inflate": None}, "odd"),
        *(({"inflate": value}, "odd") for value in (2, "3", -3, True)),
        *(({"stack": value}, "at least 1") for value in (0, 2.5, "8", None)),
        *(({"img_size": value}, "pixels") for value in ("96", 0, (96,), (96, 96, 3), 96.0)),
        *(({"in_chans": value}, "channels") for value in (0, "3", 2.0)),
        *(({"drop_rate": value}, "less than 1") for value in (2.0, "x")),
        ({"drop_path_rate": -1}, "less than 1"),
        ({"freeze_bn": "x"}, "True or False"),
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
