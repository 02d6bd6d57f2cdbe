"""config.json and the preprocessor's file of transformers, as builder options and a protocol; strangers wrote them."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
import transformer_references as refs
from test_transformer import build

from zoo.errors import SpecError
from zoo_transformer import configs

LABELS = {"0": "abseiling", "1": "air drumming", "2": "answering questions"}
PROCESSOR = {
    "crop_size": {"height": 224, "width": 224},
    "do_center_crop": True,
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
    "resample": 2,
    "rescale_factor": 0.00392156862745098,
    "size": {"shortest_edge": 224},
}
WRITERS = {
    "videomae": "VideoMAEForVideoClassification",
    "timesformer": "TimesformerForVideoClassification",
    "vivit": "VivitForVideoClassification",
    "vjepa2": "VJEPA2ForVideoClassification",
}
ENCODERS = {
    "videomae": "VideoMAEForPreTraining",
    "timesformer": "TimesformerModel",
    "vivit": "VivitModel",
    "vjepa2": "VJEPA2Model",
}
SPEC = {
    "videomae": "videomae_base",
    "timesformer": "timesformer_base",
    "vivit": "vivit_b_16x2",
    "vjepa2": "vjepa2_vitl",
}
every_type = pytest.mark.parametrize("kind", WRITERS)


def config(kind: str, **changes: Any) -> dict[str, Any]:
    return {"model_type": kind, "architectures": [WRITERS[kind]], "id2label": LABELS, **changes}


def opened(kind: str, data: dict[str, Any], processor: dict[str, Any] | None = None) -> dict[str, Any]:
    return getattr(configs, kind)(json.loads(json.dumps(data)), processor)


@every_type
def test_without_numbers_it_is_the_network_of_the_class_defaults(kind):
    found = opened(kind, config(kind))
    with torch.device("meta"):
        model = build(SPEC[kind], num_classes=found["num_classes"], **found["kwargs"])
        default = build(SPEC[kind], num_classes=3)
    assert found["labels"] == tuple(LABELS.values()) and found["preprocessing"] is None
    assert {k: v.shape for k, v in model.state_dict().items()} == {k: v.shape for k, v in default.state_dict().items()}
    assert model.geometry == default.geometry


@pytest.mark.parametrize("name", [name for name in refs.CASES if not name.startswith("hiera")])
def test_numbers_reach_the_network_they_are_for(name):
    case = refs.CASES[name]
    found = opened(case.family, {**config(case.family, id2label=None), **case.theirs, "num_labels": 4})
    wanted = {key: value for key, value in case.ours.items() if key != "num_classes"}
    plain = {key: tuple(v) if isinstance(v, list) else v for key, v in found["kwargs"].items()}
    for key, value in wanted.items():
        assert plain[key] in (value, (value, value)), key
    assert found["num_classes"] == 4 and found["labels"] == ()
    refs.NETWORKS[case.family](num_classes=4, **found["kwargs"])


@every_type
def test_an_encoder_has_no_classes(kind):
    found = opened(kind, config(kind, architectures=[ENCODERS[kind]], use_mean_pooling=False))
    assert (found["num_classes"], found["labels"]) == (0, ())
    with torch.device("meta"):
        model = build(SPEC[kind], num_classes=0, **found["kwargs"])
    assert not any(name.startswith(("head", "pooler")) for name in model.state_dict())
    assert ("norm.weight" in model.state_dict()) and "fc_norm.weight" not in model.state_dict()


@every_type
@pytest.mark.parametrize(
    "change",
    [
        {"model_type": "llama"},
        {"model_type": None},
        {"architectures": ["SomethingElse"]},
        {"architectures": None},
        {"hidden_size": 0},
        {"hidden_size": 10**9},
        {"hidden_size": 768.0},
        {"hidden_size": True},
        {"hidden_size": "768"},
        {"hidden_size": 16_384, "num_hidden_layers": 256},
        {"num_attention_heads": 7},
        {"num_hidden_layers": -1},
        {"hidden_act": "os.system"},
        {"hidden_act": "quick_gelu"},
        {"layer_norm_eps": float("nan")},
        {"layer_norm_eps": -1e-6},
        {"id2label": {"0": "a", "2": "c"}},
        {"id2label": {"0": 1}},
        {"id2label": {"0": "a\nb"}},
        {"id2label": []},
        {"qkv_bias": "yes"},
        {"image_size": [224], "crop_size": [224], "num_frames": 0, "frames_per_clip": 0},
        {"image_size": 8192, "crop_size": 8192, "num_frames": 4096, "frames_per_clip": 4096},
        {"image_size": 8, "crop_size": 8},
    ],
    ids=str,
)
def test_what_cannot_be_built_raises(kind, change):
    with pytest.raises(SpecError):
        opened(kind, config(kind, **change))


@every_type
def test_keys_that_are_not_known_are_not_looked_at(kind):
    strange = {"auto_map": {"AutoModel": "evil.py"}, "torch_dtype": object, "_name_or_path": "/etc", "quantization": {}}
    assert getattr(configs, kind)({**config(kind), **strange}) == opened(kind, config(kind))


def test_labels_that_say_nothing_are_no_labels():
    found = opened("videomae", config("videomae", id2label={"0": "LABEL_0", "1": "LABEL_1"}))
    assert (found["num_classes"], found["labels"]) == (2, ())


# --- the preprocessor -------------------------------------------------------------------------------------------------


def test_the_usual_processor_is_the_usual_protocol():
    protocol = opened("videomae", config("videomae"), PROCESSOR)["preprocessing"]
    assert (protocol.num_frames, protocol.sampler, protocol.resize, protocol.crop) == (16, "uniform_hf", 224, 224)
    assert protocol.mean == pytest.approx((0.485, 0.456, 0.406)) and protocol.std == pytest.approx(
        (0.229, 0.224, 0.225)
    )
    assert (protocol.interpolation, protocol.antialias, protocol.crop_rounding) == ("bilinear", True, "floor")
    assert (protocol.clips, protocol.crops, protocol.activation) == (1, 1, "softmax")


def test_vivit_subtracts_one_besides():
    processor = {**PROCESSOR, "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "rescale_factor": 1 / 127.5}
    protocol = opened("vivit", config("vivit"), processor)["preprocessing"]
    assert ((0 - protocol.mean[0]) / protocol.std[0], (1 - protocol.mean[0]) / protocol.std[0]) == pytest.approx(
        (-3, 1)
    )
    plain = opened("vivit", config("vivit"), processor | {"offset": False})["preprocessing"]
    assert ((0 - plain.mean[0]) / plain.std[0], (1 - plain.mean[0]) / plain.std[0]) == pytest.approx((-1, 3))
    unscaled = opened("vivit", config("vivit"), processor | {"do_normalize": False})["preprocessing"]
    assert (unscaled.mean, unscaled.std) == (pytest.approx((0.5,) * 3), pytest.approx((0.5,) * 3))


@pytest.mark.parametrize(("crop", "short"), [(256, 292), (384, 438), ({"height": 224, "width": 224}, 256)])
def test_vjepa2_resizes_by_its_crop(crop, short):
    protocol = opened("vjepa2", config("vjepa2"), {**PROCESSOR, "crop_size": crop})["preprocessing"]
    assert (protocol.resize, protocol.num_frames) == (short, 64)


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        ({"size": 200}, {"resize": 200}),
        ({"size": {"height": 100, "width": 120}}, {"resize": (100, 120)}),
        ({"crop_size": {"height": 100, "width": 120}}, {"crop": (100, 120)}),
        ({"do_center_crop": False}, {"crop": None}),
        ({"do_resize": False}, {"resize": None}),
        ({"resample": 3}, {"interpolation": "bicubic"}),
        ({"do_normalize": False}, {"mean": (0, 0, 0), "std": (1, 1, 1)}),
    ],
    ids=str,
)
def test_what_the_processor_says_is_done(change, wanted):
    protocol = opened("timesformer", config("timesformer"), {**PROCESSOR, **change})["preprocessing"]
    for key, value in wanted.items():
        assert getattr(protocol, key) == value


@pytest.mark.parametrize(
    "change",
    [
        {"image_mean": None},
        {"image_std": [0.5]},
        {"image_mean": [1, 2, "3"]},
        {"size": None},
        {"size": {"longest_edge": 9}},
        {"crop_size": 10**6},
        {"resample": 1},
        {"resample": [2]},
        {"resample": False},
        {"rescale_factor": 0},
        {"do_resize": 1},
    ],
    ids=str,
)
def test_a_processor_that_says_too_little_or_nonsense_raises(change):
    # The classes' own mean and std are not those of the published files, so that a guess would be wrong.
    processor = {key: value for key, value in {**PROCESSOR, **change}.items() if value is not None}
    with pytest.raises(SpecError):
        opened("videomae", config("videomae"), processor)


def test_several_labels_at_once_are_scored_one_by_one():
    found = opened("videomae", config("videomae", problem_type="multi_label_classification"), PROCESSOR)
    assert found["preprocessing"].activation == "sigmoid"
    with pytest.raises(SpecError, match="problem_type='regression'"):
        opened("videomae", config("videomae", problem_type="regression"), PROCESSOR)
