"""What is published as pickles: torchvision's weights, as its own enumeration has them, and files of every layout."""

from __future__ import annotations

import cnn_reference as reference
import pytest
import torch
from cnn_reference import HUB, MOVINETS
from test_cnn_hub import CLIPS
from test_cnn_layouts import DIGESTS, pyslowfast_name
from torchvision.models import video

import zoo
from zoo.convert import convert_file
from zoo.testing import perturb
from zoo.weights import pickled

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


# --- files as they are published, through `zoo convert` and `zoo.load` ------------------------------------------------

FORMS = (
    *((name, "pytorchvideo") for name in HUB),
    *((name, "pyslowfast") for name in DIGESTS),
    *((name, "movinet_pytorch") for name in MOVINETS),
    *((name, "torchvision") for name in ENUMS),
    ("c3d", "mmaction2"),
)
ONE_OF_A_KIND = (
    *((name, "pytorchvideo") for name in ("c2d_r50", "slowfast_r50", "csn_r101", "r2plus1d_r50", "x3d_xs")),
    *((name, "pyslowfast") for name in ("i3d_r50", "slow_r50", "slowfast_r101", "x3d_s_psf")),
    *((name, "movinet_pytorch") for name in ("movinet_a0_base", "movinet_a1_stream")),
    ("s3d", "torchvision"),
    ("c3d", "mmaction2"),
)


def published(name, layout, state):
    """What the project of this layout puts into a file."""
    match layout:
        case "pytorchvideo":
            return {"model_state": state}
        case "pyslowfast":
            renamed = {pyslowfast_name(name, key): tensor for key, tensor in state.items()}
            return {"epoch": 196, "model_state": renamed, "optimizer_state": {"state": {}}, "cfg": "NUM_GPUS: 8\n"}
        case "mmaction2":
            renamed = {mmaction2_name(key): tensor for key, tensor in state.items()}
            return {"meta": {"epoch": 65, "CLASSES": None}, "state_dict": renamed}
    return state


def mmaction2_name(key):
    """How MMAction2 calls a tensor of C3D."""
    layer, _, kind = key.rpartition(".")
    if layer == "fc8":
        return f"cls_head.fc_cls.{kind}"
    return f"backbone.{layer}.conv.{kind}" if layer.startswith("conv") else f"backbone.{key}"


def passed_through(name, layout, tmp_path, *, theirs=None, options=None):
    """A network with the tensors of a file that is converted and loaded, and the network that the file was made of."""
    spec = zoo.info(name)
    with zoo.testing.isolated():
        kwargs = {**spec.kwargs, **(options or {})}
        zoo.register(zoo.ModelSpec(name="same", builder=spec.builder, kwargs=kwargs, layouts=spec.layouts))
        source = theirs or perturb(zoo.build("local/same"))
        file, output = tmp_path / f"{layout}.pyth", tmp_path / "ours.safetensors"
        torch.save(published(name, layout, source.state_dict()), file)
        made = convert_file(file, output, model="local/same")
        # Names that are ours already are of no layout.
        assert made.layout == (layout if layout in ("pyslowfast", "mmaction2") else "")
        assert made.key == {"pytorchvideo": "model_state", "pyslowfast": "model_state", "mmaction2": "state_dict"}.get(
            layout, ""
        )
        loaded = zoo.load(zoo.build("local/same"), output)
    found, wanted = loaded.state_dict(), source.state_dict()
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[key], tensor) for key, tensor in wanted.items())
    return loaded.eval(), source.eval()


def any_clip(name, side=32):
    """One that the network takes: small, but for C3D."""
    geometry = zoo.info(name).geometry
    frames = geometry.frames or max(8, geometry.min_frames)
    return torch.randn(1, 3, frames, *(geometry.size or (max(side, geometry.min_size),) * 2))


@pytest.fixture
def in_this_process(monkeypatch):
    """Without the child, which other tests know and which costs seconds."""

    def convert(source, output, request):
        return pickled.convert(request | {"source": str(source), "output": str(output)})

    monkeypatch.setattr("zoo.convert.convert_in_child", convert)


@pytest.mark.parametrize(("name", "layout"), ONE_OF_A_KIND)
def test_a_file_of_a_small_variant_is_converted_and_loaded(name, layout, tmp_path, in_this_process):
    loaded, source = passed_through(name, layout, tmp_path, options=zoo.info(name).small)
    clip = torch.randn(1, 3, 16, 112, 112) if name == "c3d" else torch.randn(1, 3, 8, 32, 32)
    with torch.no_grad():
        logits = loaded(clip)
        assert torch.equal(logits, source(clip)) and logits.std() > 0


def test_so_it_is_in_the_child_process(tmp_path):
    passed_through("x3d_s_psf", "pyslowfast", tmp_path, options=zoo.info("x3d_s_psf").small)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "layout"), FORMS)
def test_a_file_of_every_network_is_converted_and_loaded(name, layout, tmp_path):
    theirs = getattr(video, name)(weights=None) if layout == "torchvision" else None
    loaded, source = passed_through(name, layout, tmp_path, theirs=theirs and perturb(theirs))
    clip = any_clip(name)
    with torch.no_grad():
        logits = loaded(clip)
        assert torch.equal(logits, source(clip)) and logits.std() > 0


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "layout"), [(name, layout) for name, layout in FORMS if layout in ("pytorchvideo", "movinet_pytorch")]
)
def test_a_file_that_the_project_itself_writes_says_what_its_network_says(name, layout, tmp_path):
    if layout == "pytorchvideo":
        theirs = reference.reference(name, published=True)
    else:
        pytest.importorskip("movinets", reason="a checkout of Atze00/MoViNet-pytorch on the PYTHONPATH")
        theirs = reference.movinet_reference(name)
    theirs.load_state_dict(reference.seeded(theirs.state_dict()))
    loaded, _ = passed_through(name, layout, tmp_path, theirs=theirs)
    frames, _, _, side = CLIPS.get(name, (0, 0, 0, 0))
    clip = torch.randn(1, 3, frames, side, side) if layout == "pytorchvideo" else any_clip(name, 64)
    with torch.no_grad():
        got, wanted = loaded(clip), reference.ask(theirs, name, clip.clone())
    assert wanted.std() > 0
    assert (got - wanted).abs().max() <= 1e-5 * wanted.abs().max()
