"""Repositories that transformers wrote, straight from the Hub: the same pixels and logits from the same video file."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
import transformer_references as refs
import transformers_folders as folders
from click.testing import CliRunner
from safetensors.torch import load, save
from test_transformer_configs import SPEC, config

import zoo
from zoo.cli import commands
from zoo.errors import SpecError, WeightsCorrupt, WeightsMismatch, WeightsNotFound
from zoo.testing.loopback_hub import LoopbackHub
from zoo.weights.foreign import translated
from zoo.weights.hub import Hub

every_family = pytest.mark.parametrize("family", folders.FAMILIES)


def agrees(model: zoo.VideoModel, path: Path, pixels: torch.Tensor, logits: torch.Tensor) -> tuple[float, float]:
    """How far pixels, and logits in parts of their scale, are from these."""
    clip = zoo.load_clips(model, path).data
    with torch.no_grad():
        got = model(clip)
    assert (clip.shape, got.shape) == (pixels.shape, logits.shape) and logits.isfinite().all()
    away = float((clip - pixels).abs().max()), float((got - logits).abs().max() / logits.abs().max())
    assert away[0] <= 1e-6 and away[1] <= 1e-5, away
    return away


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Path:
    return folders.video(tmp_path_factory.mktemp("video"))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A Hub with the four repositories, as options of `create`."""
    with pytest.MonkeyPatch.context() as patch, LoopbackHub() as hub:
        patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        patch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_IMPLICIT_TOKEN", True)
        for family in folders.FAMILIES:
            hub.add(f"acme/{family}", folders.committed(family))
        yield {"endpoint": hub.url, "cache_dir": tmp_path_factory.mktemp("cache")}


@pytest.fixture
def folder(tmp_path) -> Path:
    """The folder of VideoMAE."""
    for name, data in folders.committed("videomae").items():
        (tmp_path / name).write_bytes(data)
    return tmp_path


@every_family
def test_a_repository_gives_model_labels_and_preprocessing_from_one_commit(family, place, video):
    model = zoo.create(f"hf-hub:acme/{family}", **place)
    agrees(model, video, *folders.answers(family))
    count = folders.answers(family)[1].shape[1]
    assert model.labels == tuple(f"motion {i}" for i in range(count)) and model.num_classes == count
    assert not model.training and model.spec.name == SPEC[family]
    assert model.weights.tag.startswith(f"hf-hub:acme/{family}@")
    best = zoo.predict(model, video).top[0]
    assert best.label == f"motion {int(folders.answers(family)[1].argmax())}"
    assert zoo.embed(model, video).shape == (model.num_features,)


def test_what_was_fetched_once_costs_no_request_and_works_offline(place, video, monkeypatch):
    model = zoo.create("hf-hub:acme/vivit", **place)
    name = model.weights.tag
    with LoopbackHub() as empty:
        again = zoo.create(name, endpoint=empty.url, cache_dir=place["cache_dir"])
        assert not empty.requests()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for same in (again, zoo.create("hf-hub:acme/vivit", **place)):
        agrees(same, video, *folders.answers("vivit"))


def test_the_same_from_a_folder_by_load_and_on_the_command_line(folder, video, monkeypatch, tmp_path, place):
    name = f"local-dir:{folder}"
    agrees(zoo.create(name), video, *folders.answers("videomae"))
    options = refs.CASES["videomae"].ours
    agrees(zoo.load(zoo.build("videomae_base", **options), name).eval(), video, *folders.answers("videomae"))
    with pytest.raises(WeightsMismatch, match="is a transformers:videomae, not a videomae_tiny"):
        zoo.load(zoo.build("videomae_tiny"), name)
    assert zoo.create(name, num_classes=3).labels is None
    plain = Hub.__init__
    monkeypatch.setattr(Hub, "__init__", lambda self, *_: plain(self, **place))  # as HF_ENDPOINT and HF_HOME would
    for model in (name, "hf-hub:acme/videomae"):
        done = CliRunner().invoke(commands, ["predict", str(video), "--model", model, "--json"])
        assert done.exit_code == 0, done.output
        wanted = folders.answers("videomae")[1].softmax(1).max()
        assert json.loads(done.stdout)["top"][0]["score"] == pytest.approx(float(wanted), rel=1e-4)
    done = CliRunner().invoke(commands, ["download", "hf-hub:acme/videomae"])
    assert Path(done.stdout.strip()).read_bytes() == folders.committed("videomae")["model.safetensors"]


def test_without_a_preprocessor_the_protocol_of_another_checkpoint_is_not_taken(folder, video):
    (folder / "video_preprocessor_config.json").unlink()
    model = zoo.create(f"local-dir:{folder}")
    assert model.preprocessing is None
    with pytest.raises(SpecError, match="says nothing about its preprocessing"):
        model.predict(video)
    live = zoo.load(zoo.build("videomae_base", **refs.CASES["videomae"].ours), f"local-dir:{folder}")
    assert live.preprocessing is None


def test_the_older_name_of_the_preprocessor_is_read_and_the_newer_goes_first(folder, video):
    (folder / "video_preprocessor_config.json").rename(folder / "preprocessor_config.json")
    agrees(zoo.create(f"local-dir:{folder}"), video, *folders.answers("videomae"))
    newer = {**json.loads((folder / "preprocessor_config.json").read_text()), "do_rescale": "yes"}
    (folder / "video_preprocessor_config.json").write_text(json.dumps(newer))
    with pytest.raises(WeightsMismatch, match="do_rescale='yes': true or false"):
        zoo.create(f"local-dir:{folder}")


def renamed(tensors: dict[str, torch.Tensor], *, older: bool) -> dict[str, torch.Tensor]:
    pairs = [("query.bias", "q_bias"), ("value.bias", "v_bias")]
    for new, old in pairs:
        theirs, other = (new, old) if older else (old, new)
        tensors = {n.removesuffix(theirs) + other if n.endswith(theirs) else n: t for n, t in tensors.items()}
    return tensors


@pytest.mark.parametrize("older", [True, False], ids=["q_bias, v_bias", "query.bias, value.bias"])
def test_both_names_of_the_biases_load_and_one_tensor_too_few_too_many_or_renamed_raises(older, folder, video):
    path, name = folder / "model.safetensors", f"local-dir:{folder}"
    tensors = renamed(load(path.read_bytes()), older=older)
    names = ("q_bias", "v_bias") if older else ("query.bias", "value.bias")
    assert all(any(key.endswith(bias) for key in tensors) for bias in names)
    path.write_bytes(save(tensors))
    agrees(zoo.create(name), video, *folders.answers("videomae"))
    for key in tensors:
        kept = {k: t for k, t in tensors.items() if k != key}
        for changed in (kept, {**kept, f"{key}s": tensors[key]}, {**tensors, f"{key}s": tensors[key].clone()}):
            path.write_bytes(save(changed))
            with pytest.raises(WeightsMismatch):
                zoo.create(name)


# --- what cannot be opened --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "change", "name"),
    [
        ("videomae", {}, "videomae_base"),
        ("videomae", {"hidden_size": 36, "num_attention_heads": 3}, "videomae_base"),
        (
            "videomae",
            {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096},
            "videomae_large",
        ),
        ("timesformer", {"num_frames": 16, "image_size": 448}, "timesformer_hr"),
        ("timesformer", {"num_frames": 96}, "timesformer_large"),
        ("vjepa2", {"hidden_size": 1280, "num_hidden_layers": 32}, "vjepa2_vith"),
    ],
)
def test_any_configuration_opens_as_the_variant_whose_options_it_has(kind, change, name):
    found = translated(f"transformers:{kind}", config(kind, **change), None, "here")
    assert (found.architecture, found.task) == (name, "classification")
    assert found.about["labels"] == ("abseiling", "air drumming", "answering questions")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (b" " * (1 << 20) + b"{}", WeightsCorrupt),
        (b"[" * 100_000, WeightsCorrupt),
        (b'{"model_type": "videomae", "model_type": "vivit"}', WeightsCorrupt),
        (b'{"model_type": "videomae", "hidden_size": NaN}', WeightsCorrupt),
        (b'{"model_type": "videomae", "hidden_size": 1e999}', WeightsCorrupt),
        (b'{"model_type": "../videomae"}', WeightsCorrupt),
        (b'{"model_type": ["videomae"]}', WeightsCorrupt),
        (b'{"model_type": ""}', WeightsCorrupt),
        (b"\xff\xfe", WeightsCorrupt),
        (b"[]", WeightsCorrupt),
        (b'{"model_type": "videomae"}', WeightsMismatch),
        (b'{"model_type": "videomae", "architectures": ["os.system"]}', WeightsMismatch),
    ],
    ids=lambda value: repr(value[:40]) if isinstance(value, bytes) else value.__name__,
)
def test_a_config_that_is_no_config_is_one_clear_error_and_nothing_is_built(folder, text, error, monkeypatch):
    (folder / "config.json").write_bytes(text)
    monkeypatch.setattr("zoo.factory._instantiate", lambda *a, **k: pytest.fail("built"))
    with pytest.raises(error, match=r"config\.json") as caught:
        zoo.create(f"local-dir:{folder}")
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"hidden_size": 10**9}, "hidden_size=1000000000: a whole number from 1 to 16384"),
        ({"num_hidden_layers": "2"}, "num_hidden_layers='2'"),
        ({"hidden_act": "quick_gelu"}, "hidden_act='quick_gelu': one of gelu"),
        ({"id2label": {"0": "a", "2": "b"}}, "id2label has no number '1'"),
        ({"num_hidden_layers": 3}, "does not fit"),
        ({"id2label": {"0": "a"}}, "does not fit"),
    ],
    ids=str,
)
def test_a_config_that_is_not_of_this_file_says_what_is_wrong(folder, change, says):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(WeightsMismatch, match=says):
        zoo.create(f"local-dir:{folder}")


def test_a_repository_of_a_checkpoint_that_has_safetensors_elsewhere_names_the_revision(tmp_path):
    with LoopbackHub() as hub:
        files = folders.committed("videomae")
        pickled = {**files, "pytorch_model.bin": b"\x80\x04"}
        del pickled["model.safetensors"]
        hub.add("MCG-NJU/videomae-huge-finetuned-kinetics", pickled)
        with pytest.raises(WeightsNotFound, match="zoo opens no pickle") as caught:
            zoo.create(
                "hf-hub:MCG-NJU/videomae-huge-finetuned-kinetics", endpoint=hub.url, cache_dir=tmp_path / "cache"
            )
    assert "hf-hub:MCG-NJU/videomae-huge-finetuned-kinetics@refs/pr/1" in str(caught.value)
    assert "zoo convert pytorch_model.bin OUT --model videomae_base" in str(caught.value)


# --- transformers itself ----------------------------------------------------------------------------------------------


@pytest.mark.parity
@pytest.mark.skipif(not find_spec("transformers"), reason="needs the extra `parity`")
@pytest.mark.parametrize(
    ("family", "processor"),
    [
        ("videomae", "VideoMAEVideoProcessor"),
        ("videomae", "VideoMAEImageProcessor"),
        ("timesformer", "TimesformerVideoProcessor"),
        ("timesformer", "VideoMAEImageProcessor"),
        ("vivit", "VivitVideoProcessor"),
        ("vjepa2", "VJEPA2VideoProcessor"),
    ],
)
def test_a_folder_written_now_gives_the_same_from_a_video_file(family, processor, tmp_path):
    """Full width and the published clip, two layers, colours of the published files; H.264 with loss."""
    import transformers

    short = {"num_hidden_layers": 2, "num_labels": 11}
    size = getattr(transformers, f"{folders.CLASSES[family]}Config")(**short)
    torch.manual_seed(0)
    network = getattr(transformers, f"{folders.CLASSES[family]}ForVideoClassification")(size)
    options = folders.COLOURS if family in ("videomae", "timesformer") else {}
    made = getattr(transformers, processor)(**options)
    (written := tmp_path / "written").mkdir()
    folders.write(refs.shake(network), made, written)
    del network
    path = tmp_path / "video.mp4"
    zoo.video.write_video(path, folders.pictures(80, 240, 426), fps=25)
    frames = size.frames_per_clip if family == "vjepa2" else size.num_frames
    pixels, logits = folders.answer(written, folders.sampled(path, frames), made)
    with LoopbackHub() as hub:
        hub.add("acme/now", {file.name: file.read_bytes() for file in written.iterdir()})
        model = zoo.create("hf-hub:acme/now", endpoint=hub.url, cache_dir=tmp_path / "cache")
    away = agrees(model, path, pixels.float(), logits)
    print(f"\n{family} {tuple(pixels.shape)} {processor}: max |d|, pixels {away[0]:.1e}, logits {away[1]:.1e}")
    assert model.labels == tuple(f"motion {i}" for i in range(11))
