"""The command line: what it prints, where, and how it exits."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from click.testing import CliRunner
from PIL import Image
from safetensors.torch import load_file

import zoo
from zoo.cli import commands
from zoo.cli.videos import DEFAULT_MODEL

MODEL = "r2plus1d_tiny.camera_motion"


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    made = {}
    for label in ("pan_left", "zoom_in"):
        clip = zoo.synth.generate(label, seed=7, duration_s=2.0, fps=25, size=(96, 128), distract=False)
        made[label] = folder / f"{label}.mp4"
        zoo.video.write_video(made[label], clip.frames, fps=25)
    made["broken"] = folder / "broken.mp4"
    made["broken"].write_bytes(b"not a video")
    return {name: str(path) for name, path in made.items()}


def run(*arguments, code=0):
    result = CliRunner().invoke(commands, [str(a) for a in arguments])
    assert result.exit_code == code, result.output
    return result


def test_list_prints_one_name_per_line_and_filters():
    assert run("list").stdout.split() == zoo.list_models()
    assert run("list", "*18*", "--family", "cnn", "--no-pretrained").stdout.split() == [
        "mc3_18",
        "r2plus1d_18",
        "r3d_18",
    ]
    assert run("list", "--pretrained").stdout.split() == zoo.list_models(pretrained=True)
    rows = json.loads(run("list", "--json").stdout)
    assert [row["name"] for row in rows] == zoo.list_models()
    nothing = run("list", "no_such_model")
    assert nothing.stdout == ""
    assert "zoo list" in nothing.stderr


def test_info_shows_a_model_and_its_weights():
    text = run("info", "r3d_18").stdout
    assert "33,371,472" in text
    assert "16 frames at 15 fps" in text
    text = run("info", MODEL).stdout
    assert "pinned" in text
    assert "pan_left" in text
    data = json.loads(run("info", "r2plus1d_tiny", "--json").stdout)
    assert data["weights"]["camera_motion"]["sha256"]
    assert "did you mean r3d_18" in run("info", "r3d_81", code=2).stderr


def test_plugins_exit_with_one_if_one_failed():
    assert "cnn" in run("plugins").stdout
    assert json.loads(run("plugins", "--json").stdout)[0]["status"] == "ok"
    with zoo.testing.isolated() as registry:
        registry.register(zoo.ModelSpec(name="a", builder="x:y"))
        record = registry.plugin("local")
        record.error = (
            'Traceback:\n  File "/x/zoo/registry.py", line 1\n  File "/x/zoo_bad.py", line 3\nZeroDivisionError: 0'
        )
        text = run("plugins", code=1).stdout
        assert "zoo_bad.py" in text
        assert "zoo/registry.py" not in text
        assert "zoo/registry.py" in run("plugins", "-v", code=1).stdout


def test_predict_names_the_motion(clips):
    text = run("predict", clips["pan_left"]).stdout
    assert "pan_left" in text.splitlines()[1]
    (line,) = run("predict", clips["zoom_in"], "--json", "--top-k", "2").stdout.splitlines()
    data = json.loads(line)
    assert data["video"] == clips["zoom_in"]
    assert (data["model"], data["weights"]) == tuple(DEFAULT_MODEL.split("."))
    assert data["top"][0]["label"] == "zoom_in"
    assert len(data["top"]) == 2
    assert data["segments"] == []
    data = json.loads(run("predict", clips["zoom_in"], "--json", "--window", "1").stdout)
    assert data["segments"][-1]["end_s"] == pytest.approx(2.0, abs=0.05)


def test_some_bad_files_give_three_and_the_rest_is_done(clips):
    result = run("predict", clips["broken"], clips["pan_left"], "--json", code=3)
    broken, good = map(json.loads, result.stdout.splitlines())
    assert broken["video"] == clips["broken"]
    assert broken["error"]["type"] == "VideoOpenError"
    assert good["top"]
    result = run("frames", clips["broken"], "-o", "nowhere", code=3)
    assert "not a video" in result.stderr
    result = run("predict", clips["broken"], clips["pan_left"], code=3)
    assert "pan_left" in result.stdout
    assert "VideoOpenError" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["predict"],
        ["predict", "CLIP", "--views", "10"],
        ["predict", "CLIP", "--views", "0x3"],
        ["predict", "CLIP", "--window", "-1"],
        ["predict", "CLIP", "--top-k", "0"],
        ["predict", "CLIP", "--model", "no_such_model"],
        ["predict", "CLIP", "--device", "abacus"],
        ["embed", "CLIP"],
        ["embed", "CLIP", "-o", "no_such_folder/features.safetensors"],
        ["frames", "CLIP", "-o", "DIR", "-n", "2", "--every", "1"],
        ["frames", "CLIP", "-o", "DIR", "--at", "soon"],
        ["frames", "CLIP", "-o", "DIR", "--at", "99"],
        ["demo", "--motion", "sideways"],
        ["demo", "--seed", "-1"],
        ["frames", "CLIP", "-o", "DIR", "--every", "1e-9"],
    ],
)
def test_wrong_use_is_two_and_one_sentence(clips, tmp_path, arguments):
    names = {"CLIP": clips["pan_left"], "DIR": tmp_path}
    result = run(*(names.get(a, a) for a in arguments), code=2)
    assert "Error" in result.stderr
    assert "Traceback" not in result.output


def test_embed_writes_what_it_could(clips, tmp_path):
    output = tmp_path / "features.safetensors"
    run("embed", clips["pan_left"], clips["broken"], "-o", output, code=3)
    features = load_file(output)
    assert list(features) == [clips["pan_left"]]
    assert features[clips["pan_left"]].shape == (zoo.create(DEFAULT_MODEL).num_features,)
    run("embed", clips["pan_left"], "-o", output, "--level", "frame", "--views", "fast")
    assert load_file(output)[clips["pan_left"]].ndim == 2


def test_frames_are_the_frames_and_say_which(clips, tmp_path):
    lines = run("frames", clips["pan_left"], "-o", tmp_path / "n", "-n", "4").stdout.splitlines()
    assert [line.rpartition("/")[2] for line in lines] == [
        "frame_000006_0000.240s.png",
        "frame_000018_0000.720s.png",
        "frame_000031_0001.240s.png",
        "frame_000043_0001.720s.png",
    ]
    with Image.open(lines[2]) as picture:
        assert (picture.size, picture.mode) == ((128, 96), "RGB")
        assert (zoo.video.read_frames(clips["pan_left"], [31]).data[0] == picture).all()
    assert len(run("frames", clips["pan_left"], "-o", tmp_path / "every", "--every", "0.5").stdout.splitlines()) == 4
    jpegs = run(
        "frames", clips["pan_left"], "-o", tmp_path, "--at", "0,1.0", "--format", "jpg", "--size", "48"
    ).stdout.split()
    assert jpegs[1].endswith("frame_000025_0001.000s.jpg")
    with Image.open(jpegs[1]) as picture:
        assert picture.size == (64, 48)


def test_what_plugins_write_is_text_and_any_encoding_will_do(clips):
    with zoo.testing.isolated():
        zoo.register(zoo.ModelSpec(name="a", builder="x:y", description="see [/paper] :smile:"))
        assert "see [/paper] :smile:" in run("info", "local/a").stdout
    command = [sys.executable, "-m", "zoo", "predict", clips["pan_left"]]
    done = subprocess.run(command, capture_output=True, env={**os.environ, "PYTHONIOENCODING": "ascii"}, check=True)
    assert b"pan_left" in done.stdout


def test_demo_makes_a_video_and_names_its_motion(tmp_path):
    output = tmp_path / "demo.mp4"
    text = run("demo", "--motion", "roll_cw", "-o", output).stdout
    assert "roll_cw" in text.splitlines()[3]
    assert "zoo predict YOUR_VIDEO.mp4" in text
    assert zoo.video.probe(output).n_frames == 90


def test_a_folder_that_cannot_be_made_is_one_sentence(clips, tmp_path):
    (tmp_path / "file").write_text("in the way")
    result = run("frames", clips["pan_left"], "-o", tmp_path / "file" / "frames", code=2)
    assert "Error" in result.stderr
    assert "Traceback" not in result.output


def test_the_module_runs_and_a_closed_pipe_is_quiet():
    done = subprocess.run([sys.executable, "-m", "zoo", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["zoo,", "version", zoo.__version__]
    listing = subprocess.Popen([sys.executable, "-m", "zoo", "list"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    listing.stdout.close()
    assert listing.stderr.read() == b""
    listing.stderr.close()
    listing.wait(60)
