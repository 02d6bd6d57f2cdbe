"""Models as files that run without zoo: the same answers, or an error."""

from __future__ import annotations

import dataclasses
import json
import pickle
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from deploying import NAME, same, write_onnx, write_videos

import zoo
from zoo.cli import commands
from zoo.deploy import export, rerun, saturation, trace
from zoo.deploy.exported import ExportedModel
from zoo.errors import DeploymentError, GeometryError, SpecError, VideoError, WeightsCorrupt, WeightsNotFound
from zoo.evaluate import running


@pytest.fixture(scope="module")
def model():
    return zoo.create(NAME)


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    return write_videos(tmp_path_factory.mktemp("videos"))


@pytest.fixture(scope="module")
def folder(model, videos, tmp_path_factory):
    """What `zoo.export` has written as pt2."""
    out = tmp_path_factory.mktemp("exported") / "model"
    zoo.export(model, "pt2", out, videos=videos)
    return out


@pytest.fixture(scope="module")
def loaded(folder):
    return zoo.load_exported(folder, trust=True)


def test_an_exported_file_says_what_the_network_says(model, loaded, videos):
    same(loaded, model, videos)
    assert loaded.comparison.clips == 3 and max(loaded.comparison.distance, loaded.comparison.embedding) < 1e-5
    assert (loaded.preprocessing, loaded.labels) == (model.preprocessing, model.labels)
    assert repr(loaded) == f"ExportedModel({loaded.facts.model}, pt2, {loaded.facts.size:,} bytes)"
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
    with pytest.raises(SpecError, match="one whole, with its classifier"):
        loaded.reset_classifier(3)


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


@pytest.mark.parametrize("output", rerun.OUTPUTS)
@pytest.mark.parametrize("wrong", [0.001, float("nan")])
def test_a_file_that_says_something_else_is_not_handed_out(model, videos, tmp_path, monkeypatch, wrong, output):
    def prove(file, kind, clips, name):
        with torch.no_grad():
            said = {"logits": model(clips), "embedding": model.forward_embedding(clips)}
        return said | {output: said[output] * (1 + wrong)}

    monkeypatch.setattr(export, "write", lambda *a: a[-1].touch())
    monkeypatch.setattr(export, "prove", prove)
    with pytest.raises(DeploymentError, match=f"something else than the network does: {output}"):
        zoo.export(model, "pt2", tmp_path / "out", videos=videos)
    assert not (tmp_path / "out").exists()


def _logits(model, clips):
    with torch.no_grad():
        return model(clips)


def test_both_outputs_are_proven(folder, model, videos):
    clips = torch.cat([zoo.load_clips(model, video, views="fast").data for video in videos])
    with torch.no_grad():
        wanted = {"logits": model(clips), "embedding": model.forward_embedding(clips)}
    said = export.prove(folder / "model.pt2", "pt2", clips, "x")
    assert said.keys() == wanted.keys() == set(rerun.OUTPUTS)
    for output, rows in wanted.items():
        assert said[output].shape == rows.shape and (said[output] - rows).abs().max() <= 1e-4 * rows.abs().max()


def test_a_file_that_does_not_run_is_an_error(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(DeploymentError, match="was written, and cannot be run"):
        export.prove(tmp_path / "model.onnx", "onnx", torch.zeros(2, 3, 4, 8, 8), "x")


def test_a_missing_library_is_named(model, monkeypatch, tmp_path):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(zoo.ZooError, match=r"pip install 'video-zoo\[onnx\]'"):
        zoo.export(model, "onnx", tmp_path / "out")
    with pytest.raises(zoo.ZooError, match="needs onnx"):
        zoo.optimize(model, "int8-dynamic")


def test_int8_weights_that_may_saturate_here_are_warned_of(loaded, tmp_path, monkeypatch):
    """Files that are not opened before they are run, so that any bytes will do."""
    facts = dataclasses.replace(loaded.facts, format="onnx", changes={"linear": (1, 1)})
    kinds = {"eight": {"int8 weights": "8 bits"}, "seven": {"int8 weights": "7 bits"}, "unknown": {"onnx": "1"}}
    for kind, said in kinds.items():
        ExportedModel(loaded.data, dataclasses.replace(facts, made_with=said)).save(tmp_path / kind)
    ExportedModel(loaded.data, dataclasses.replace(facts, changes={})).save(tmp_path / "float32")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr(saturation, "has_vnni", lambda: False)
    for kind in ("eight", "unknown"):
        with pytest.warns(UserWarning, match=f"{kind}: its int8 weights .* quantise again here"):
            zoo.load_exported(tmp_path / kind)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for kind in ("seven", "float32"):
            zoo.load_exported(tmp_path / kind)
        monkeypatch.setattr("platform.machine", lambda: "aarch64")
        zoo.load_exported(tmp_path / "eight")
        monkeypatch.undo()
        monkeypatch.setattr(saturation, "has_vnni", lambda: True)
        zoo.load_exported(tmp_path / "eight")


def test_it_is_evaluated_on_the_cpu_where_there_is_a_gpu(folder, model, videos, tmp_path, monkeypatch):
    listed = tmp_path / "videos.csv"
    listed.write_text("path,label\n" + "".join(f"{video},{Path(video).stem}\n" for video in videos))
    trusted = zoo.load_exported
    monkeypatch.setattr("zoo.deploy.exported.load_exported", lambda folder: trusted(folder, trust=True))
    wanted = zoo.evaluate(model, listed, views="fast", workers=0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    found = zoo.evaluate(f"local-dir:{folder}", listed, views="fast", workers=0)
    assert found.setting["machine"]["device"] == "cpu" and found.confusion == wanted.confusion


@pytest.mark.parametrize("where", ["file", "file/within"])
def test_an_evaluation_that_cannot_be_written_does_not_start(model, tmp_path, monkeypatch, where):
    (tmp_path / "file").touch()
    monkeypatch.setattr(running, "read_listing", lambda name: pytest.fail("started"))
    with pytest.raises(SpecError, match=f"out=.*{where}'.*file is no folder"):
        zoo.evaluate(model, tmp_path, out=tmp_path / where)


def test_the_command_line_looks_at_the_folder_first(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    for name in ("optimize", "export"):
        monkeypatch.setattr(zoo, name, lambda *a, **k: pytest.fail("started"), raising=False)
    for out in (tmp_path, tmp_path / "file", tmp_path / "file" / "within"):
        result = CliRunner().invoke(commands, ["export", NAME, "-o", str(out), "--int8"])
        assert result.exit_code and "there already" in result.output, result.output


def test_the_rerun_script_knows_nothing_of_zoo():
    assert "import zoo" not in Path(rerun.__file__).read_text() and "from zoo" not in Path(rerun.__file__).read_text()


@pytest.fixture(scope="module")
def onnx(model, videos, tmp_path_factory):
    return write_onnx(model, videos, tmp_path_factory.mktemp("onnx"))


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
