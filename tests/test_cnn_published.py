"""What is published as pickles: torchvision's weights, as its own enumeration has them, and files of PySlowFast."""

from __future__ import annotations

import pytest
import torch
from test_cnn_layouts import pyslowfast_name
from torchvision.models import video

import zoo
from zoo.convert import convert_file
from zoo.testing import perturb

ENUMS = {
    "r3d_18": video.R3D_18_Weights,
    "mc3_18": video.MC3_18_Weights,
    "r2plus1d_18": video.R2Plus1D_18_Weights,
    "s3d": video.S3D_Weights,
}


@pytest.mark.parametrize("name", ENUMS)
def test_a_tag_says_what_torchvision_says(name):
    spec, theirs = zoo.info(name), ENUMS[name].KINETICS400_V1
    ours, protocol = spec.weights["k400"], theirs.transforms()
    assert spec.default_tag == "k400"
    assert ours.origin["url"] == theirs.url
    assert theirs.url.endswith(f"-{ours.origin['sha256']}.pth")
    assert spec.params == theirs.meta["num_params"]
    assert ours.num_classes == len(theirs.meta["categories"])
    (dataset, figures), *_ = theirs.meta["_metrics"].items()
    assert {(m.dataset, m.name): m.value for m in ours.metrics} == {(dataset, n): v for n, v in figures.items()}
    assert all(f"estimated on {m.level}-level" in theirs.meta["_docs"] for m in ours.metrics)
    p = ours.preprocessing
    assert f"`clips_per_video={p.clips}`, and `clip_len={p.num_frames}`" in theirs.meta["_docs"]
    assert f"`frame_rate={p.fps:g}`" in theirs.meta["_docs"]
    assert [list(p.resize), [p.crop] * 2] == [protocol.resize_size, protocol.crop_size]
    assert [list(p.mean), list(p.std)] == [protocol.mean, protocol.std]


@pytest.mark.parametrize(
    "name", [pytest.param("slow_r50", marks=pytest.mark.slow), pytest.param("x3d_s_psf", marks=pytest.mark.slow)]
)
def test_a_pyth_of_pyslowfast_is_converted_and_loaded(name, tmp_path):
    check_pyth(name, name, zoo.info(name).preprocessing.num_frames, tmp_path)


@pytest.mark.parametrize("name", ["slow_r50", "x3d_s_psf"])
def test_a_pyth_of_a_small_variant_is_converted_and_loaded(name, tmp_path):
    spec = zoo.info(name)
    with zoo.testing.isolated():
        small = zoo.ModelSpec(name="small", builder=spec.builder, kwargs=spec.kwargs | spec.small, layouts=spec.layouts)
        zoo.register(small)
        check_pyth(name, "local/small", spec.preprocessing.num_frames, tmp_path)


def check_pyth(name, model, frames, tmp_path):
    """Through a file as PySlowFast writes it: the same tensors, and so the same logits."""
    source = perturb(zoo.build(model)).eval()
    state = {pyslowfast_name(name, key): tensor for key, tensor in source.state_dict().items()}
    checkpoint = {"epoch": 196, "model_state": state, "optimizer_state": {"state": {}}, "cfg": "NUM_GPUS: 8\n"}
    torch.save(checkpoint, tmp_path / "theirs.pyth")
    made = convert_file(tmp_path / "theirs.pyth", tmp_path / "ours.safetensors", model=model)
    assert made.layout == "pyslowfast"
    assert made.key == "model_state"
    loaded = zoo.load(zoo.build(model), made.path).eval()
    assert all(torch.equal(loaded.state_dict()[key], tensor) for key, tensor in source.state_dict().items())
    clip = torch.randn(1, 3, frames, 32, 32)
    with torch.no_grad():
        assert torch.equal(loaded(clip), source(clip))
