"""The documentation says what the code does: tables are regenerated, code blocks run, names occur."""

from __future__ import annotations

import importlib.util
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
import torch
from safetensors.torch import save_file
from training import class_folders, documented_files, environment

import zoo
from zoo.cli import commands

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)
SHELL = re.findall(r"(?:<!-- ci: (\w+) -->\n)?```bash\n(.*?)```", README, re.DOTALL)  # name in .ci/run, lines
(COMMANDS,) = (code for mark, code in SHELL if "zoo predict" in code and not mark)
(TRAINING,) = (code for _, code in SHELL if "zoo train" in code)
(EVALUATION,) = (code for _, code in SHELL if "zoo evaluate" in code)
(BULK,) = (code for _, code in SHELL if "zoo batch" in code)
(DEPLOYMENT,) = (code for _, code in SHELL if "zoo export" in code)
(OPTIMISED,) = (code for kind, code in BLOCKS if kind == "text" and "zoo.optimize" in code)


def test_tables_and_references_are_what_the_tool_writes():
    spec = importlib.util.spec_from_file_location("tables", ROOT / "tools" / "tables.py")
    tables = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tables)
    for file in tables.PARTS:
        assert tables.generated(file) == (ROOT / file).read_text(), "run python tools/tables.py"
    for kind in (zoo.ModelSpec, zoo.Weights, zoo.Preprocessing, zoo.Geometry, zoo.Metric):
        assert [field for field, meaning in tables._meanings(kind)[1].items() if not meaning] == []


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """A folder with the files that the README speaks of."""
    folder = documented_files(tmp_path_factory.mktemp("desk"))
    torch.manual_seed(0)
    save_file(zoo.build("r3d_18", num_classes=10).state_dict(), folder / "checkpoint.safetensors")
    return folder


@pytest.mark.parametrize("code", [code for kind, code in BLOCKS if kind == "python"])
def test_the_python_of_the_readme_runs(code, desk, monkeypatch, capsys):
    monkeypatch.chdir(desk)
    exec(compile(code, "README.md", "exec"), {})


def test_the_commands_of_the_readme_run(desk, monkeypatch):
    from click.testing import CliRunner

    monkeypatch.chdir(desk)
    for line in COMMANDS.splitlines():
        arguments = shlex.split(line, comments=True)
        assert arguments.pop(0) == "zoo"
        arguments = [a for arg in arguments for a in (["my_video.mp4"] if arg == "*.mp4" else [arg])]
        result = CliRunner().invoke(commands, arguments)
        assert result.exit_code == 0, (line, result.output)


def test_every_picture_of_the_readme_is_there_small_and_drawn_by_a_tool():
    from PIL import Image

    pictures = re.findall(r"!\[(.*?)\]\((.*?)\)", README, re.DOTALL)
    assert pictures
    for alternative, name in pictures:
        assert len(alternative) > 40, "for those who do not see it"
        assert (ROOT / name).stat().st_size < 200_000 and (ROOT / name).with_suffix(".py").is_file()
        with Image.open(ROOT / name) as picture:
            assert picture.width == 1000


def test_the_table_of_where_to_start_names_models_and_what_is_said_of_them():
    (table,) = re.findall(r"^## Which model\n(.*?)\n## ", README, re.DOTALL | re.MULTILINE)
    names = {
        row[0]: re.findall(r"`([^`]+)`", row[1]) for row in re.findall(r"^\| (.+?) \| (.+?) \| .+ \|$", table, re.M)
    }
    del names["you want"]
    assert len(names) > 5 and all(names.values())
    assert all(zoo.info(name) for found in names.values() for name in found)
    (commercial,) = (found for want, found in names.items() if "commercially" in want)
    assert set(commercial) <= set(zoo.list_models(license="commercial", pretrained=True))
    (live,) = (found for want, found in names.items() if "live" in want)
    assert all(zoo.info(name).streaming for name in live)
    (small,) = (found for want, found in names.items() if "CPU" in want)
    assert all(zoo.info(name).params < 1_000_000 for name in small)
    for want, claimed in (
        ("best published", r"([\d.]+) and ([\d.]+) % top-1"),
        ("motion and", r"([\d.]+) and ([\d.]+) % on"),
    ):
        (stated,) = re.findall(claimed, table)
        (found,) = (found for key, found in names.items() if want in key)
        for name, value in zip(found, stated, strict=True):
            weights = zoo.info(name).weights[name.partition(".")[2]]
            assert float(value) in [m.value for m in weights.metrics if m.origin == "published"], name
    best = {m.value for n in zoo.list_models(pretrained=True) if "/" not in n for m in metrics_of(n)}
    assert max(best) == 87.8, "the best on Kinetics-400 is the one that is named"


def metrics_of(name):
    weights = zoo.info(name).weights[name.partition(".")[2]]
    return [m for m in weights.metrics if m.dataset == "Kinetics-400" and m.name == "acc@1"]


@pytest.mark.slow
def test_the_training_and_evaluation_of_the_readme_run(tmp_path):
    """Every line as it stands, those of training with options on top that make it short."""
    class_folders(tmp_path / "videos")
    launch = {"zoo": ["zoo"], "torchrun": ["torch.distributed.run", "--standalone"]}
    short = ["--steps", "2", "--workers", "0"]
    for line in (TRAINING + EVALUATION).splitlines():
        program, *arguments = shlex.split(line, comments=True)
        command = [sys.executable, "-m", *launch[program], *arguments, *(short if line in TRAINING else [])]
        done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False)
        assert done.returncode == 0, (line, done.stdout, done.stderr)
    assert sorted(p.parent.name for p in tmp_path.glob("runs/*/model")) == ["first", "second", "third"]


@pytest.mark.slow
def test_the_bulk_prediction_of_the_readme_runs(tmp_path):
    """Every line as it stands, but for the extra, which tests need anyway."""
    clip = zoo.synth.generate("pan_left", seed=2, duration_s=1, fps=12, size=(64, 80))
    (tmp_path / "videos").mkdir()
    for name in "ab":
        zoo.video.write_video(tmp_path / "videos" / f"{name}.mp4", clip.frames, fps=12)
    (tmp_path / "clips.csv").write_text("path\nvideos/a.mp4\nvideos/b.mp4\n")
    extra, *lines = BULK.splitlines()
    assert extra == "pip install 'video-zoo[batch]'"
    for line in lines:
        command = [sys.executable, "-m", *shlex.split(line, comments=True)]
        done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False)
        assert done.returncode == 0, (line, done.stdout, done.stderr)
    assert all(list((tmp_path / out / "parts").glob("*.parquet")) for out in ("out", "features"))


@pytest.mark.slow
def test_the_exports_of_the_readme_run(desk, tmp_path, monkeypatch, capsys):
    """Every line as it stands, but for the extra; and what compiles, which takes too long for the others."""
    for library in ("onnx", "onnxruntime", "onnxscript"):
        pytest.importorskip(library)
    from click.testing import CliRunner

    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_video.mp4").write_bytes((desk / "my_video.mp4").read_bytes())
    extra, *lines = DEPLOYMENT.splitlines()
    assert extra == "pip install 'video-zoo[onnx]'"
    for line in lines:
        result = CliRunner().invoke(commands, shlex.split(line, comments=True)[1:])
        assert result.exit_code == 0, (line, result.output)
    assert zoo.predict("local-dir:quantised", "my_video.mp4").top[0].label == "pan_right"
    assert (tmp_path / "speed.png").is_file()
    exec(compile(OPTIMISED, "README.md", "exec"), {"zoo": zoo})
    assert "'Conv3d': (17, 17)" in capsys.readouterr().out


def test_every_block_of_the_readme_is_run():
    """In here, by .ci/run in a fresh environment, or, where the lines are the guide's too, by tests/test_guide.py."""
    assert {kind for kind, _ in BLOCKS} == {
        "python",
        "bash",
        "text",
    }  # text: Spark, and what is slow
    guide = (ROOT / "plugins" / "README.md").read_text()
    in_the_guide = {line for code in re.findall(r"```bash\n(.*?)```", guide, re.DOTALL) for line in code.splitlines()}
    for mark, code in SHELL:
        if mark:
            assert re.search(rf"^readme {mark}$", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)
            assert len(code.splitlines()) == 1  # as many as .ci/run takes
        elif code not in (COMMANDS, TRAINING, EVALUATION, BULK, DEPLOYMENT):
            assert set(code.splitlines()) <= in_the_guide, code


def test_every_command_option_and_variable_is_in_the_readme_or_its_help():
    for name, command in commands.commands.items():
        assert re.search(rf"zoo {name}(?![\w-])", README), name
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.help or parameter.type.name == "choice", f"zoo {name} {parameter.opts}"
    sources = "".join(p.read_text() for p in (ROOT / "zoo").rglob("*.py"))
    for variable in set(re.findall(r"\b_?ZOO_[A-Z_]+", sources)):
        assert re.search(rf"(?<!\w){variable}(?!\w)", README), variable


def test_nothing_committed_names_this_machine_or_a_registry():
    hosts = [a + b for a, b in (("pyp", "i.org"), ("python", "hosted"), ("npmj", "s.org"), ("deb.deb", "ian"))]
    words = re.compile("|".join(["/(?:work|farm|root)/", *map(re.escape, hosts)]))
    for path in ROOT.rglob("*"):
        if path.suffix in {".py", ".md", ".toml", ".json", ".yml"} and not any(p.startswith(".") for p in path.parts):
            assert not words.search(path.read_text()), path
