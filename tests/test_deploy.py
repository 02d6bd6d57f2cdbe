"""Models as files that run without zoo, and models made faster: the same answers, or an error."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import zoo
from zoo.cli import commands
from zoo.deploy import export, optimize, quantize, rerun, trace
from zoo.deploy.compare import check, compare
from zoo.deploy.exported import ExportedModel
from zoo.errors import DeploymentError, GeometryError, SpecError, VideoError, WeightsCorrupt, WeightsNotFound

NAME = "r2plus1d_tiny.camera_motion"


@pytest.fixture(scope="module")
def model():
    return zoo.create(NAME)


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Three files, each with another motion."""
    folder = tmp_path_factory.mktemp("videos")
    for seed, label in enumerate(("pan_left", "zoom_in", "static")):
        clip = zoo.synth.generate(label, seed=seed, duration_s=1.5, fps=12, size=(96, 128))
        zoo.video.write_video(folder / f"{label}.mp4", clip.frames, fps=12)
    return sorted(map(str, folder.iterdir()))


@pytest.fixture(scope="module")
def folder(model, videos, tmp_path_factory):
    """What `zoo.export` has written as pt2."""
    out = tmp_path_factory.mktemp("exported") / "model"
    zoo.export(model, "pt2", out, videos=videos)
    return out


@pytest.fixture(scope="module")
def loaded(folder):
    return zoo.load_exported(folder, trust=True)


def same(made, model, videos, near=1e-4):
    """Predictions and embeddings as those of the network."""
    for video in videos:
        said, wanted = made.predict(video), model.predict(video)
        assert (said.model, said.weights, said.labels) == (wanted.model, wanted.weights, wanted.labels)
        assert (said.scores - wanted.scores).abs().max() <= near
        assert said.top[0].label == wanted.top[0].label
        features, whole = made.embed(video), model.embed(video)
        assert (features - whole).abs().max() <= near * whole.abs().max()


def test_an_exported_file_says_what_the_network_says(model, loaded, videos):
    same(loaded, model, videos)
    assert loaded.comparison.clips == 3 and loaded.comparison.distance < 1e-5
    assert (loaded.preprocessing, loaded.labels) == (model.preprocessing, model.labels)
    assert not [*loaded.parameters()] and loaded.weights.license == model.weights.license
    several = zoo.load_clips(model, videos[0], views=(5, 1)).data
    with torch.no_grad():
        wanted = model(several)
    for count in (1, 4, 5):
        assert (loaded(several[:count]) - wanted[:count]).abs().max() <= 1e-4 * wanted.abs().max()
    again = pickle.loads(pickle.dumps(loaded))
    assert torch.equal(again(several), loaded(several))


def test_labels_and_protocol_stand_beside_the_file(folder, model):
    written = json.loads((folder / "export.json").read_text())
    assert sorted(path.name for path in folder.iterdir()) == ["export.json", "model.pt2"]
    assert (written["file"], written["outputs"]) == ("model.pt2", ["logits", "embedding"])
    assert tuple(written["labels"]) == model.labels
    assert zoo.Preprocessing.from_dict(written["preprocessing"]) == model.preprocessing
    assert written["clip"] == [3, 8, 64, 64] and torch.__version__.startswith(written["made_with"]["torch"])
    assert folder.joinpath("model.pt2").stat().st_size < 2.5 * 4 * model.spec.params  # no clip is in it


@pytest.mark.slow
def test_it_runs_in_a_new_process_by_the_lines_of_others(folder, model, videos, tmp_path):
    """torch alone, without a line of zoo's."""
    clips = zoo.load_clips(model, videos[0]).data
    np.save(tmp_path / "clips.npy", clips.numpy())
    code = (
        "import numpy, sys, torch; clips = torch.from_numpy(numpy.load('clips.npy'))\n"
        f"logits, embedding = torch.export.load({str(folder / 'model.pt2')!r}).module()(clips)\n"
        "numpy.save('logits.npy', logits.detach().numpy()); assert 'zoo' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    with torch.no_grad():
        wanted = model(clips)
    said = torch.from_numpy(np.load(tmp_path / "logits.npy"))
    assert (said - wanted).abs().max() <= 1e-4 * wanted.abs().max()


def test_bulk_work_takes_it_and_names_the_file(loaded, model, videos, tmp_path):
    (row,) = zoo.VideoPredictor(loaded)({"path": videos[:1]}).to_pylist()
    assert row["status"] == "ok" and row["model"] == "r2plus1d_tiny"
    again = zoo.load_exported(loaded.save(tmp_path / "again"), trust=True)
    other = ExportedModel(loaded.data, dataclasses.replace(loaded.facts, sha256="0" * 64))
    digests = [zoo.VideoPredictor(made).identity.weights_digest for made in (loaded, again, other, model)]
    assert row["weights_digest"] == digests[0] == digests[1] and len(set(digests)) == 3


def test_what_a_file_cannot_do_is_said(loaded, videos):
    with pytest.raises(SpecError, match="no features within"):
        zoo.embed(loaded, videos[0], level="map")
    with pytest.raises(SpecError, match="on the CPU in float32"):
        loaded.half()
    with pytest.raises(GeometryError, match="of 8 frames and 64x64 pixels, got"):
        loaded(torch.zeros(1, 3, 8, 32, 32))
    with pytest.raises(SpecError, match="optimised or exported already"):
        zoo.optimize(loaded)


def test_only_a_trusted_and_sound_folder_is_opened(folder, loaded, tmp_path):
    with pytest.raises(SpecError, match="trust=True"):
        zoo.load_exported(folder)
    with pytest.raises(SpecError, match="trust=True"):
        zoo.create(f"local-dir:{folder}")
    with pytest.raises(WeightsNotFound, match=r"no export\.json"):
        zoo.load_exported(tmp_path)
    copied = loaded.save(tmp_path / "copied")
    about = json.loads((copied / "export.json").read_text())
    for change, said in (
        ({"schema_version": 2}, "schema_version is 2"),
        ({"format": "exe"}, "format"),
        ({"labels": ["a"]}, "labels"),
        ({"clip": [3, 8]}, "clip"),
        ({"sha256": "0" * 64}, "not the file"),
        ({"preprocessing": {"num_frames": 8, "code": "x"}}, "no field 'code'"),
        ({"what": 1}, "no field 'what'"),
    ):
        (copied / "export.json").write_text(json.dumps(about | change))
        with pytest.raises(WeightsCorrupt, match=said):
            zoo.load_exported(copied, trust=True)
    (copied / "export.json").write_text(json.dumps(about))
    (copied / "model.pt2").unlink()
    with pytest.raises(WeightsNotFound, match=r"no model\.pt2"):
        zoo.load_exported(copied, trust=True)


def test_what_cannot_be_exported_leaves_nothing(model, videos, tmp_path, monkeypatch):
    out = tmp_path / "out"
    with pytest.raises(SpecError, match="onnx, pt2, aoti"):
        zoo.export(model, "tflite", out)
    with pytest.raises(SpecError, match="next_frame"):
        zoo.export(zoo.build("convlstm_next"), "pt2", out)
    with pytest.raises(VideoError):
        zoo.export(model, "pt2", out, videos=["missing.mp4"])
    with pytest.raises(SpecError, match="list of videos"):
        zoo.export(model, "pt2", out, videos=videos[0])
    monkeypatch.setattr(trace, "trace", lambda *a: (_ for _ in ()).throw(ValueError("data-dependent")))
    with pytest.raises(DeploymentError, match="cannot be exported as pt2: ValueError: data-dependent"):
        zoo.export(model, "pt2", out, videos=videos)
    assert not out.exists()
    out.mkdir()
    (out / "file").touch()
    with pytest.raises(SpecError, match="there already"):
        zoo.export(model, "pt2", out, videos=videos)


@pytest.mark.parametrize("wrong", [0.001, float("nan")])
def test_a_file_that_says_something_else_is_not_handed_out(model, videos, tmp_path, monkeypatch, wrong):
    monkeypatch.setattr(export, "write", lambda *a: a[-1].touch())
    monkeypatch.setattr(export, "prove", lambda file, kind, clips, name: _logits(model, clips) * (1 + wrong))
    with pytest.raises(DeploymentError, match="something else than the network"):
        zoo.export(model, "pt2", tmp_path / "out", videos=videos)
    assert not (tmp_path / "out").exists()


def _logits(model, clips):
    with torch.no_grad():
        return model(clips)


def test_a_file_that_does_not_run_is_an_error(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(DeploymentError, match="was written, and cannot be run"):
        export.prove(tmp_path / "model.onnx", "onnx", torch.zeros(2, 3, 4, 8, 8), "x")


def test_too_far_from_the_original_is_an_error():
    wanted = torch.eye(4)
    near = compare(wanted * 1.01, wanted)
    assert (near.clips, near.agreement) == (4, 1.0) and abs(near.distance - 0.01) < 1e-6
    check(near, max_distance=0.02, min_agreement=1.0, what="x")
    with pytest.raises(DeploymentError, match="x says something else"):
        check(near, max_distance=0.005, min_agreement=1.0, what="x")
    other = compare(wanted.flip(1), wanted)
    with pytest.raises(DeploymentError, match="0% keep their best label"):
        check(other, max_distance=10, min_agreement=0.5, what="x")
    broken = compare(wanted * float("nan"), wanted)
    assert broken.distance == float("inf")


def test_what_is_slower_or_unknown_is_not_made(model, monkeypatch):
    with pytest.raises(SpecError, match="compile, bf16, int8"):
        zoo.optimize(model, "int4")
    monkeypatch.setattr(optimize, "_has_matrix_units", lambda: False)
    monkeypatch.setattr(optimize, "clips_of", lambda *a, **k: torch.zeros(1, 3, 8, 64, 64))
    with pytest.raises(DeploymentError, match="slower than float32 on this CPU"):
        zoo.optimize(model, "bf16")
    empty = torch.nn.Module()
    assert optimize._convolves(model, torch.zeros(1, 3, 8, 64, 64)) and not [*empty.parameters()]
    assert not optimize._convolves(zoo.create("videomae_tiny"), torch.zeros(1, 3, 8, 64, 64))


def test_nothing_changed_is_an_error(model, monkeypatch):
    clips, same = torch.randn(3, 3, 8, 64, 64), copy.deepcopy(model)
    same.changes = {"Conv3d": (0, 17), "Linear": (0, 1)}
    monkeypatch.setattr(optimize, "_compiled", lambda original, method: same)
    with pytest.raises(DeploymentError, match="'compile' changes nothing of r2plus1d_tiny"):
        optimize.optimized(model, "compile", clips, clips)


def test_a_missing_library_is_named(model, monkeypatch, tmp_path):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(zoo.ZooError, match=r"pip install 'video-zoo\[onnx\]'"):
        zoo.export(model, "onnx", tmp_path / "out")
    with pytest.raises(zoo.ZooError, match="needs onnx"):
        zoo.optimize(model, "int8-dynamic")


def test_the_rerun_script_knows_nothing_of_zoo():
    assert "import zoo" not in Path(rerun.__file__).read_text() and "from zoo" not in Path(rerun.__file__).read_text()


@pytest.fixture(scope="module")
def onnx(model, videos, tmp_path_factory):
    """What `zoo.export` has written as ONNX."""
    for library in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(library)
    out = tmp_path_factory.mktemp("onnx") / "model"
    zoo.export(model, "onnx", out, videos=videos)
    return out


@pytest.mark.slow
def test_onnx_is_opened_as_any_model(onnx, model, videos, tmp_path):
    made = zoo.create(f"local-dir:{onnx}")
    assert isinstance(made, ExportedModel)
    same(made, model, videos)
    result = CliRunner().invoke(commands, ["predict", "--model", f"local-dir:{onnx}", "--json", videos[0]])
    assert json.loads(result.stdout)["top"][0]["label"] == model.predict(videos[0]).top[0].label
    with pytest.raises(SpecError, match="no options"):
        zoo.create(f"local-dir:{onnx}", num_classes=3)
    rows = zoo.batch(videos, tmp_path / "out", model=f"local-dir:{onnx}", workers=1, tell=lambda text: None)
    assert (rows.ok, rows.failed) == (3, 0)
    code = (
        "import numpy, sys, onnxruntime\n"
        f"session = onnxruntime.InferenceSession({str(onnx / 'model.onnx')!r})\n"
        "numpy.save('logits.npy', session.run(['logits'], {'clip': numpy.load('clips.npy')})[0])\n"
        "assert not {'zoo', 'torch'} & set(sys.modules)"
    )
    clips = zoo.load_clips(model, videos[0]).data
    np.save(tmp_path / "clips.npy", clips.numpy())
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    wanted = _logits(model, clips)
    assert np.abs(np.load(tmp_path / "logits.npy") - wanted.numpy()).max() <= 1e-4 * wanted.abs().max()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "method", "changes"),
    [
        (NAME, "int8", {"convolution": (17, 17), "linear": (1, 1)}),
        (NAME, "int8-dynamic", {"convolution": (0, 17), "linear": (1, 1)}),
        ("videomae_tiny", "int8", {"linear": (18, 18)}),
    ],
)
def test_int8_runs_in_whole_numbers_and_says_how_much(onnx, videos, tmp_path, name, method, changes):
    model = zoo.testing.perturb(zoo.create(name)) if name != NAME else zoo.create(name)
    made = zoo.optimize(model, method, videos=videos, min_agreement=0.0)
    assert dict(made.changes) == changes
    attended = len(model.blocks) if name != NAME else 0
    assert made.data.count(b"MultiHeadAttention") >= attended and (attended > 0) == (b"MultiHead" in made.data)
    assert 0 < made.comparison.distance < 0.2
    assert made.facts.size < (0.5 if method == "int8" else 1.1) * 4 * sum(p.numel() for p in model.parameters())
    written = zoo.export(made, "onnx", tmp_path / "int8")
    assert zoo.create(f"local-dir:{tmp_path / 'int8'}").predict(videos[0]).top == written.predict(videos[0]).top
    with pytest.raises(SpecError, match="is onnx already"):
        zoo.export(made, "pt2", tmp_path / "other")


@pytest.mark.slow
def test_no_product_in_int8_is_an_error(onnx, monkeypatch):
    monkeypatch.setattr(quantize, "_whole", lambda file: Counter())
    with pytest.raises(DeploymentError, match="of its 18 products none would run in int8"):
        quantize.quantized(zoo.load_exported(onnx))


class Attends(torch.nn.Module):
    """Tokens of the second half look at all; values are twice the keys."""

    def __init__(self, **options):
        super().__init__()
        self.options = options

    def forward(self, x):  # [..., heads, 6, d]
        return torch.nn.functional.scaled_dot_product_attention(x[..., 3:, :], x, 2 * x, **self.options)


@pytest.mark.slow
def test_attention_becomes_one_operator_of_onnx_runtime(tmp_path):
    onnx, _, onnxruntime = (pytest.importorskip(name) for name in ("onnx", "onnxscript", "onnxruntime"))
    windows, whole = (4, 5, 6, 8), (5, 6, 8)
    for options, shape, count in (
        ({}, windows, 1),
        ({}, whole, 1),
        ({"scale": 0.3}, whole, 0),
        ({"attn_mask": torch.eye(3, 6)}, whole, 0),
    ):
        x, shapes = torch.randn(2, *shape), ({0: torch.export.Dim("batch")},)
        program = torch.export.export(Attends(**options).eval(), (x,), dynamic_shapes=shapes)
        file = tmp_path / "attention.onnx"
        with trace.quiet():
            trace._write_onnxruntime(program, file)
        nodes = [node.op_type for node in onnx.load(str(file)).graph.node]
        assert (nodes.count("MultiHeadAttention"), nodes.count("Softmax")) == (count, 1 - count)
        session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        more = torch.randn(3, *shape)
        (said,) = session.run(None, {session.get_inputs()[0].name: more.numpy()})
        assert torch.allclose(torch.from_numpy(said), Attends(**options)(more), atol=1e-5)


@pytest.mark.slow
def test_int8_too_far_away_is_refused(model, videos, onnx):
    with pytest.raises(DeploymentError, match="something else than the original"):
        zoo.optimize(model, "int8", videos=videos, max_distance=1e-6)
    with pytest.raises(SpecError, match="too few"):
        zoo.optimize(model, "int8", videos=videos[:1])


@pytest.mark.slow
def test_a_compiled_model_is_the_same_and_frozen(videos):
    model = zoo.create(NAME)
    made = zoo.optimize(model, "compile", videos=videos)
    same(made, model, videos)
    assert made.changes["Conv3d"] == (17, 17) and made.comparison.distance < 1e-5
    video = videos[0]
    for level in ("frame", "map"):
        assert (made.embed(video, level=level) - model.embed(video, level=level)).abs().max() < 1e-3
    before = made.predict(video).scores
    for module in made.network.modules():
        if isinstance(module, torch.nn.Conv3d | torch.nn.BatchNorm3d):  # which have become one constant each
            module.weight.data.zero_()
    assert torch.equal(made.predict(video).scores, before)
    assert not torch.equal(copy.deepcopy(made).predict(video).scores, before)  # compiled anew
    assert made.train().training is False
    compiled = {**made._compiled}
    assert made.to("cpu")._compiled == compiled != {}  # predict moves it where it is
    assert made.to(torch.float64)._compiled == {}


@pytest.mark.slow
def test_compiled_models_do_not_use_up_what_torch_keeps_for_each_other(videos):
    with torch._dynamo.config.patch(recompile_limit=1):
        for name in ("stacked_tiny.camera_motion", "vit_c_tiny.camera_motion"):
            assert zoo.optimize(zoo.create(name), "compile", videos=videos).comparison.agreement == 1


@pytest.mark.slow
def test_bf16_is_made_where_the_processor_has_units_for_it(model, videos, monkeypatch):
    monkeypatch.setattr(optimize, "_has_matrix_units", lambda: True)
    made = zoo.optimize(model, "bf16", videos=videos)
    assert {p.dtype for p in made.parameters()} == {torch.bfloat16} and made.comparison.distance < 0.1
    assert made.changes["Conv3d"] == (17, 17)
    for video in videos:
        assert made.predict(video).top[0].label == model.predict(video).top[0].label
        assert made.embed(video).dtype == torch.float32
    assert {p.dtype for p in model.parameters()} == {torch.float32}


@pytest.mark.slow
def test_machine_code_says_what_the_network_says(model, videos, tmp_path):
    zoo.export(model, "aoti", tmp_path / "out", videos=videos)
    same(zoo.load_exported(tmp_path / "out", trust=True), model, videos)


@pytest.mark.slow
def test_the_command_line_exports(videos, tmp_path):
    listed = tmp_path / "videos.txt"
    listed.write_text("\n".join(videos))
    arguments = ["export", NAME, "-o", str(tmp_path / "out"), "--format", "pt2", "--videos", str(listed)]
    result = CliRunner().invoke(commands, arguments)
    assert result.exit_code == 0 and "3 clips: logits differ by" in result.stdout, result.output
    assert CliRunner().invoke(commands, [*arguments, "--int8"]).exit_code == 2
