"""Pictures, help, completion and the doctor, as somebody meets them on the command line."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys

import click
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import zoo
from zoo import doctor
from zoo.cli import SECTIONS, commands
from zoo.cli.examples import EXAMPLES
from zoo.doctor import checks


def run(*arguments, code=0):
    result = CliRunner().invoke(commands, [str(a) for a in arguments])
    assert result.exit_code == code, result.output
    return result


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    clip = zoo.synth.generate("pan_left", seed=7, duration_s=1.0, fps=25, size=(48, 64), distract=False)
    for name in ("a", "b"):
        (folder / name).mkdir()
        zoo.video.write_video(folder / name / "my_video.mp4", clip.frames, fps=25)
    (folder / "broken.mp4").write_bytes(b"not a video")
    return folder


# --- pictures ---------------------------------------------------------------------------------------------------------


def test_predict_writes_what_it_is_asked_for(videos, tmp_path):
    report, overlay, sheet = (tmp_path / name for name in ("report.html", "overlay.mkv", "sheet.png"))
    video = videos / "a" / "my_video.mp4"
    result = run("predict", video, "--json", "--report", report, "--overlay", overlay, "--sheet", sheet)
    assert json.loads(result.stdout)["top"], "only data on stdout"
    assert str(report) in result.stderr
    assert report.read_text().startswith("<!doctype html>")
    assert zoo.video.probe(overlay).n_frames == 25
    with Image.open(sheet) as picture:
        assert np.asarray(picture).std() > 10


def test_windows_have_a_time_line(videos, tmp_path):
    video, file = videos / "a" / "my_video.mp4", tmp_path / "when.png"
    result = run("predict", video, "--window", "0.5", "--timeline", file)
    assert f"timeline: {file}" in result.stderr
    with Image.open(file) as picture:
        assert picture.width == 1200
    run("predict", video, video, "--stride", "0.5", "--views", "fast", "--timeline", tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {"when.png", "my_video.png", "my_video-2.png"}


def test_several_videos_go_into_a_folder_each_under_its_name(videos, tmp_path):
    files = [videos / "a" / "my_video.mp4", videos / "broken.mp4", videos / "b" / "my_video.mp4"]
    run("predict", *files, "--sheet", tmp_path, code=3)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["my_video-2.png", "my_video.png"]


def test_wrong_files_are_refused_before_anything_is_predicted(videos, tmp_path):
    video = videos / "a" / "my_video.mp4"
    for arguments in (
        [video, video, "--report", tmp_path / "one.html"],
        [video, "--report", tmp_path / "report.pdf"],
        [video, "--sheet", tmp_path / "sheet"],
        [video, "--overlay", tmp_path / "none" / "out.mp4"],
    ):
        result = run("predict", *arguments, code=2)
        assert result.stdout == ""
        assert f"Invalid value for {arguments[-2]}:" in result.stderr
    result = run("predict", video, "--overlay", tmp_path / "out.xyz", code=3)
    assert "pan_left" in result.stdout, "the answer is not lost"
    assert "--overlay" in result.stderr


# --- help and completion ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(commands.commands))
def test_every_command_has_examples_that_it_understands(name):
    assert name in EXAMPLES, "zoo/cli/examples.py"
    assert "Examples:" in run(name, "--help").output
    for line in map(str.strip, EXAMPLES[name].strip().splitlines()):
        said = shlex.split(line.removeprefix('eval "$(').replace(')"', " ", 1).partition("   ")[0])
        said = said[: next((i for i, word in enumerate(said) if word in (">", "|")), len(said))]
        assert said[:2] == ["zoo", name], line
        parse(commands.commands[name], said[2:])


def test_help_lists_every_command_once_under_what_it_is_for():
    listed = [name for names in SECTIONS.values() for name in names]
    assert sorted(listed) == sorted(commands.commands)
    said = run("--help").output
    for section, names in SECTIONS.items():
        _, _, below = said.partition(f"{section}:\n")
        lines = below.partition("\n\n")[0].splitlines()
        assert [line.split()[0] for line in lines if line[2] != " "] == list(names)
        assert "..." not in below.partition("\n\n")[0], "every command has a line of its own"


def test_a_word_that_is_no_command_is_answered_with_what_was_meant(videos):
    assert "Did you mean predict?" in run("predcit", "x.mp4", code=2).stderr
    video = videos / "a" / "my_video.mp4"
    assert f"zoo predict {shlex.quote(str(video))}" in run(video, code=2).stderr
    assert "zoo --help" in run("xyzzy", code=2).stderr


def parse(command: click.Command, words: list[str]) -> None:
    context = command.make_context(command.name, list(words))
    if isinstance(command, click.Group) and (rest := [*context._protected_args, *context.args]):
        parse(command.commands[rest[0]], rest[1:])


def completions(*words):
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "_ZOO_COMPLETE": "bash_complete",
        "COMP_WORDS": " ".join(["zoo", *words]),
        "COMP_CWORD": str(len(words)),
    }
    command = [sys.executable, "-c", "import sys; sys.argv[0] = 'zoo'; from zoo.cli import main; main()"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return {line.partition(",")[2] for line in done.stdout.splitlines()}


def test_a_shell_completes_commands_options_and_names_of_models():
    for shell in ("bash", "zsh", "fish"):
        assert "_ZOO_COMPLETE" in run("completion", shell).stdout
    assert completions("pre") == {"predict"}
    assert {"--report", "--overlay", "--sheet"} <= completions("predict", "--")
    assert completions("info", "r2plus1d_t") == {"r2plus1d_tiny", "r2plus1d_tiny.camera_motion"}
    assert "r3d_18" in completions("predict", "--model", "r3d")


# --- the doctor -------------------------------------------------------------------------------------------------------


@pytest.fixture
def well(monkeypatch):
    """A machine whose child has told that all is well."""
    library = {"seconds": 0.1, "facts": {}}
    told = {name: {"library": name, **library} for name in checks.child.LIBRARIES}
    told["torch"]["facts"] = {
        "threads": 2, "capability": "AVX2", "built_for": "cpu", "devices": [], "mps": False
    }  # fmt: skip
    told["av"]["facts"] = {"ffmpeg": "8", "codecs": {"r": [*checks.child.CODECS["r"]], "w": ["libx264", "libvpx-vp9"]}}
    told["PIL"]["facts"] = {"freetype": True}
    told["ended"] = "its import ended the process with -11 (a crash)"
    monkeypatch.setattr(checks, "probed", lambda: told)
    return told


def found(*statuses):
    return [f for f in doctor.examine() if f.status in statuses]


def test_the_doctor_looks_at_everything_and_imports_nothing_heavy():
    code = "import sys; from zoo.__main__ import main; sys.argv[1:] = ['doctor', '--json']\n"
    code += "try: main()\nfinally: print(*sys.modules, file=sys.stderr)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert not {"torch", "av", "numpy", "timm", "PIL", "huggingface_hub"} & set(done.stderr.split())
    data = json.loads(done.stdout)
    assert done.returncode == (0 if data["ok"] else 1)
    areas = {f["area"] for f in data["findings"]}
    assert areas == set(checks.CHECKS)
    by_name = {f["name"]: f for f in data["findings"]}
    assert "h264" in by_name["reads"]["value"]
    assert by_name["torch"]["status"] == "ok"
    assert all(f["fix"] for f in data["findings"] if f["status"] != "ok")


def test_what_is_broken_or_slow_is_named_with_its_cause_and_a_fix(well, monkeypatch):
    well["timm"] = {"library": "timm", "error": "ImportError: libfoo.so is missing"}
    well["av"]["facts"]["codecs"]["r"].remove("av1")
    well["torchvision"]["seconds"] = 99.0
    well["torch"]["facts"]["threads"] = 64
    well["PIL"]["facts"]["freetype"] = False
    monkeypatch.setattr(checks, "quota", lambda: 2.0)
    monkeypatch.setattr(checks, "_has_nvidia", lambda: True)
    said = {(f.status, f.name): f for f in found("slow", "broken") if f.area != "plugins"}
    assert "libfoo.so" in said["broken", "timm"].value
    assert "av1" in said["broken", "reads not"].value
    assert "99 s" in said["slow", "torchvision"].value
    assert "pillow" in said["slow", "PIL"].fix
    assert "OMP_NUM_THREADS=2" in said["slow", "cpu"].fix
    assert "built for CPUs only" in said["slow", "cuda"].value


def test_a_library_that_crashes_a_check_that_fails_and_a_broken_plugin_are_findings(well, monkeypatch):
    del well["av"], well["PIL"], well["safetensors"], well["huggingface_hub"]

    def fails():
        raise RuntimeError("boom")
        yield

    monkeypatch.setitem(checks.CHECKS, "temporary files", fails)
    with zoo.testing.isolated() as registry:
        registry.register(zoo.ModelSpec(name="a", builder="x:y"))
        record = registry.plugin("local")
        record.error, record.reason = "Traceback ...\nImportError: no", "ImportError: no such thing"
        result = run("doctor", code=1)
    assert "av" in result.stdout and "(a crash)" in result.stdout
    assert "could not be looked at: RuntimeError: boom" in result.stdout
    assert "ImportError: no such thing" in result.stdout
    assert "zoo plugins --verbose" in result.stdout


def test_a_missing_or_old_package_is_found(well, monkeypatch):
    monkeypatch.setattr(
        checks.metadata, "requires", lambda name: ["click>=999", "no-such-package>=1 ; extra == 'test'"]
    )
    (finding,) = [f for f in found("broken") if f.area == "packages"]
    assert finding.name == "click" and "click>=999" in finding.fix
    monkeypatch.setattr(checks.metadata, "requires", lambda name: ["no-such-package>=1"])
    (finding,) = [f for f in found("broken") if f.area == "packages"]
    assert finding.value == "missing"


def test_what_is_installed_besides_is_told_and_what_is_too_old_is_broken(well, monkeypatch):
    needs = ["no-such-package>=1 ; extra == 'onnx'", "click>=1 ; extra == 'batch'", 'click>=999 ; extra == "ray"']
    monkeypatch.setattr(checks.metadata, "requires", lambda name: needs)
    told = {f.name: f for f in doctor.examine() if f.area == "extras"}
    assert told["onnx"].status == "ok" and "no-such-package" in told["onnx"].value
    assert "pip install 'video-zoo[onnx]'" in told["onnx"].value
    assert told["batch"].value.startswith("click ")
    assert told["ray"].status == "broken" and told["ray"].fix == "pip install 'video-zoo[ray]'"


def test_the_child_tells_of_one_that_cannot_be_imported(monkeypatch, capsys):
    monkeypatch.setattr(checks.child, "LIBRARIES", {"no_such_library": checks.child.nothing})
    checks.child.main()
    assert "ModuleNotFoundError" in json.loads(capsys.readouterr().out)["error"]
