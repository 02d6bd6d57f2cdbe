"""Repositories in timm's format, written by timm itself, on a Hub on this machine."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load, load_file, save, save_file
from timm.models import save_for_hf

import zoo
from zoo.errors import SpecError, WeightsMismatch

NAME = "timm/test_resnet.r160_in1k"


def published(arch: str, folder: Path, **options) -> tuple[torch.nn.Module, dict[str, bytes]]:
    """A perturbed network of timm's, and the files of its repository."""
    torch.manual_seed(0)
    network = zoo.testing.perturb(timm.create_model(arch, **options)).eval()
    save_for_hf(network, folder, safe_serialization=True)
    names = ("config.json", "model.safetensors")
    return network, {name: (folder / name).read_bytes() for name in names}


@pytest.fixture
def served(hub, tmp_path):
    network, files = published("test_resnet.r160_in1k", tmp_path / "repo")
    hub.add(NAME, files)
    return network, files


def features(network: torch.nn.Module, clip: torch.Tensor) -> torch.Tensor:
    """What timm's own network has before its classifier, frame by frame."""
    with torch.no_grad():
        rows = [network.forward_head(network.forward_features(f), pre_logits=True) for f in clip.unbind(2)]
    return torch.stack(rows, 1)


def test_a_repository_of_timms_is_a_video_model(served, hub, tmp_path):
    network, _ = served
    clip = torch.randn(2, 3, 4, 64, 64)
    place = {"endpoint": hub.url, "cache_dir": tmp_path / "cache"}
    model = zoo.create(NAME, **place)
    assert (model.num_classes, model.weights.tag, model.training) == (0, "r160_in1k", False)
    assert model.preprocessing.crop == 160
    with torch.no_grad():
        found = model.forward_features(clip)
        assert torch.allclose(found, features(network, clip), rtol=0, atol=1e-5 * found.abs().max())
        assert zoo.create(NAME, num_classes=5, temporal="lstm", **place)(clip).shape == (2, 5)
    for options in ({"shift": True}, {"inflate": 3}, {"in_chans": 2}, {"temporal": "transformer"}):
        other = zoo.create(NAME, **options, **place)
        assert all(p.isfinite().all() for p in other.parameters())
    with pytest.raises(SpecError, match="no classifier"):
        zoo.predict(model, torch.zeros(8, 64, 64, 3, dtype=torch.uint8), fps=8)


def test_what_has_no_classifier_is_refused_before_it_is_fetched(monkeypatch):
    monkeypatch.setattr("zoo.factory.fetch", lambda *_, **__: pytest.fail("it was fetched"))
    with pytest.raises(SpecError, match=r"timm/resnet18\.a1_in1k has no classifier.*zoo.embed"):
        zoo.predict("timm/resnet18", torch.zeros(8, 64, 64, 3, dtype=torch.uint8), fps=8)


@pytest.mark.parametrize("option", ["inflate", "stack"])
def test_frames_that_meet_in_a_network_from_a_file_are_one_image_where_they_are_equal(served, hub, tmp_path, option):
    network, _ = served
    model = zoo.create(NAME, **{option: 3}, endpoint=hub.url, cache_dir=tmp_path / "cache")
    still = torch.randn(1, 3, 1, 64, 64).expand(1, 3, 6, 64, 64)
    with torch.no_grad():
        found = model.forward_features(still)
    wanted = features(network, still)[:, : found.shape[1]]
    assert torch.allclose(found, wanted, rtol=0, atol=1e-5 * found.abs().max())


def broken(data: bytes, kind: str) -> bytes:
    tensors = load(data)
    match kind:
        case "a stage is missing":
            tensors = {k: t for k, t in tensors.items() if not k.startswith("layer4.")}
        case "the classifier is missing":
            tensors = {k: t for k, t in tensors.items() if not k.startswith("fc.")}
        case "one too many":
            tensors["layer9.weight"] = torch.zeros(3)
        case "another shape":
            tensors["layer4.0.conv1.weight"] = torch.zeros(3, 3, 1, 1)
        case "not timm's":
            tensors = {"weight": torch.zeros(3)}
    return save(tensors)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("a stage is missing", "Missing key.*layer4"),
        ("the classifier is missing", "fc.weight"),
        ("one too many", "Unexpected key.*layer9"),
        ("another shape", "size mismatch for layer4.0.conv1.weight"),
        ("not timm's", "is not one of timm's test_resnet"),
    ],
)
@pytest.mark.parametrize("classes", [None, 7])
def test_what_timm_would_only_log_raises(hub, tmp_path, kind, said, classes):
    _, files = published("test_resnet.r160_in1k", tmp_path / "repo")
    hub.add(NAME, {**files, "model.safetensors": broken(files["model.safetensors"], kind)})
    with pytest.raises(WeightsMismatch, match=f"(?s){said}"):
        zoo.create(NAME, num_classes=classes, endpoint=hub.url, cache_dir=tmp_path / "cache")


@pytest.mark.parametrize("kind", ["complete", "a stage is missing", "one too many"])
def test_a_network_that_timm_loads_without_being_strict_is_held_to_every_name(tmp_path, kind):
    network, files = published("dla46x_c", tmp_path / "repo")
    tensors = load(files["model.safetensors"])
    if kind == "a stage is missing":
        tensors = {k: t for k, t in tensors.items() if not k.startswith("level3.")}
    elif kind == "one too many":
        tensors["level9.weight"] = torch.zeros(3)
    save_file(tensors, tmp_path / "file.safetensors")
    model = zoo.build("timm/dla46x_c", num_classes=0).eval()
    if kind != "complete":
        with pytest.raises(WeightsMismatch, match=r"level[39]"):
            zoo.load(model, tmp_path / "file.safetensors")
        return
    zoo.load(model, tmp_path / "file.safetensors")
    clip = torch.randn(1, 3, 2, 64, 64)
    with torch.no_grad():
        found = model.forward_features(clip)
    assert torch.allclose(found, features(network, clip).flatten(2), rtol=0, atol=1e-5 * found.abs().max())


@pytest.mark.parametrize("arch", ["test_vit", "test_convnext", "test_efficientnet", "test_byobnet"])
@pytest.mark.parametrize("shape", [(), (1,), (2, 2)])
def test_files_that_only_have_the_names_are_refused_in_words_of_zoo(tmp_path, arch, shape):
    """timm renames and resizes what it is given before it looks at shapes."""
    model = zoo.build(f"timm/{arch}", num_classes=0)
    names = timm.create_model(arch).state_dict()
    save_file({name: torch.zeros(shape) for name in names}, tmp_path / "file.safetensors")
    with pytest.raises(WeightsMismatch, match=f"is not one of timm's {arch}"):
        zoo.load(model, tmp_path / "file.safetensors")


@pytest.mark.parametrize("arch", ["test_vit", "test_convnext", "test_efficientnet", "test_byobnet", "test_vit3"])
def test_files_of_other_families_and_other_numbers_of_classes(tmp_path, arch):
    network, _ = published(arch, tmp_path / "repo", num_classes=11)
    model = zoo.load(zoo.build(f"timm/{arch}", num_classes=3).eval(), tmp_path / "repo" / "model.safetensors")
    clip = torch.randn(1, 3, 2, 160, 160)
    with torch.no_grad():
        found = model.forward_features(clip)
    assert model.num_classes == 3
    network.reset_classifier(0)
    with torch.no_grad():
        theirs = torch.stack([network(f) for f in clip.unbind(2)], 1)
    assert torch.allclose(found, theirs, rtol=0, atol=1e-5 * found.abs().max())


def test_a_vision_transformer_is_resized_as_timm_does(hub, tmp_path):
    _, files = published("test_vit.r160_in1k", tmp_path / "repo")
    hub.add("timm/test_vit.r160_in1k", files)
    place = {"endpoint": hub.url, "cache_dir": tmp_path / "cache"}
    model = zoo.create("timm/test_vit.r160_in1k", img_size=96, **place)
    tensors = load(files["model.safetensors"])
    theirs = timm.create_model(
        "test_vit.r160_in1k", img_size=96, pretrained=True, pretrained_cfg_overlay={"state_dict": tensors}
    )
    assert torch.equal(model.backbone.pos_embed, theirs.pos_embed)


def test_a_video_checkpoint_of_ours_loads_into_the_whole_model(tmp_path):
    torch.manual_seed(0)
    trained = zoo.testing.perturb(zoo.build("timm/test_resnet", num_classes=6, temporal="gru")).eval()
    save_file(trained.state_dict(), tmp_path / "video.safetensors")
    other = zoo.load(zoo.build("timm/test_resnet", num_classes=6, temporal="gru"), tmp_path / "video.safetensors")
    assert all(torch.equal(t, load_file(tmp_path / "video.safetensors")[k]) for k, t in other.state_dict().items())


def test_a_curated_model_starts_from_image_weights(hub, tmp_path):
    network, files = published("mobilenetv2_100.ra_in1k", tmp_path / "repo")
    hub.add("timm/mobilenetv2_100.ra_in1k", files)
    model = zoo.create("tsm_mobilenetv2_100.ra_in1k", num_classes=4, endpoint=hub.url, cache_dir=tmp_path / "cache")
    assert torch.equal(model.backbone.conv_stem.weight, network.conv_stem.weight)
    assert model(torch.randn(1, 3, 4, 64, 64)).shape == (1, 4)
