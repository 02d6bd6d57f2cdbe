"""`zoo new` writes a plugin that works, passes its own tests and is tidy as generated."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import install

from zoo.cli import commands
from zoo.errors import SpecError, ZooError
from zoo.scaffold import STYLES, new_plugin
from zoo.testing import sets

ROOT = Path(__file__).parent.parent
EXPECTED = [
    ".github/workflows/test.yml",
    "README.md",
    "pyproject.toml",
    "tests/test_acme.py",
    "zoo_acme/__init__.py",
    "zoo_acme/net.py",
]


def run(*command, cwd=None, **environment):
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(params=["cnn", pytest.param("timm", marks=pytest.mark.slow)])  # importing timm takes its time
def plugin(request, tmp_path):
    """A fresh plugin as if it were installed: its folder, and the environment in which Python finds it."""
    folder = new_plugin("acme", style=request.param, output=tmp_path)
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    install(folder, project["name"], project["entry-points"]["zoo"])
    return folder, {"PYTHONPATH": os.pathsep.join([str(folder), *filter(None, sys.path)]), "ZOO_STRICT": "1"}


def test_everything_is_written_and_nothing_is_left_to_fill_in(tmp_path):
    folder = new_plugin("acme", output=tmp_path / "deep" / "down")
    assert folder == tmp_path / "deep" / "down" / "zoo_acme"
    assert sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()) == EXPECTED
    for path in filter(Path.is_file, folder.rglob("*")):
        assert "$" not in path.read_text(), path


def test_it_lists_predicts_and_passes_its_own_tests(plugin):
    folder, environment = plugin
    code = """
import sys, warnings, numpy, pytest, zoo
assert zoo.list_models("acme/*") == ["acme/net_s"]
with warnings.catch_warnings(action="ignore"):
    prediction = zoo.predict("acme/net_s", numpy.zeros((12, 60, 80, 3), "uint8"), fps=10.0, views="fast")
assert len(prediction.scores) == 10 and abs(float(prediction.scores.sum()) - 1) < 1e-5
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider"]))
"""
    tests = run(sys.executable, "-c", code, cwd=folder, **environment)
    assert re.search(r"^30 passed", tests, re.MULTILINE), tests


@pytest.mark.parametrize("style", STYLES)
def test_it_passes_ruff_as_generated(style, tmp_path):
    folder = new_plugin("acme_video", style=style, output=tmp_path)
    run(sys.executable, "-m", "ruff", "check", "--no-cache", ".", cwd=folder)
    run(sys.executable, "-m", "ruff", "format", "--no-cache", "--check", ".", cwd=folder)


def test_it_names_the_newest_set_of_checks(tmp_path):
    folder = new_plugin("acme", output=tmp_path)
    assert f'conformance("acme", version={sets.newest()})' in (folder / "tests" / "test_acme.py").read_text()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("Acme Video", "how about acme_video?"),
        ("acme-video", "how about acme_video?"),
        ("", "lower case letters"),
        ("../acme", "how about acme?"),
        ("acme_", "how about acme?"),
        ("acme__", "how about acme?"),
        ("class", "a word of Python's own: choose another; how about class_models?"),
        ("json", "a word of Python's own"),
        ("local", "belongs to zoo itself"),
        ("cnn", "belongs to zoo itself"),
    ],
)
def test_bad_names_are_refused_and_nothing_is_written(name, text, tmp_path):
    with pytest.raises(SpecError, match=re.escape(text)):
        new_plugin(name, output=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_exists_stays_as_it_is(tmp_path):
    (tmp_path / "zoo_acme").mkdir()
    with pytest.raises(ZooError, match="exists already"):
        new_plugin("acme", output=tmp_path)
    assert list((tmp_path / "zoo_acme").iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(ZooError, match="cannot be written"):
        new_plugin("acme", output=tmp_path / "file" / "below")
    with pytest.raises(SpecError, match="one of cnn, timm"):
        new_plugin("acme", style="rnn", output=tmp_path)


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_a_folder_that_cannot_be_finished_does_not_stay(error, tmp_path, monkeypatch):
    write, written = Path.write_text, []

    def write_some(self, *args, **options):
        written.append(self)
        if len(written) == 3:
            raise error
        return write(self, *args, **options)

    monkeypatch.setattr(Path, "write_text", write_some)
    with pytest.raises(ZooError if isinstance(error, OSError) else KeyboardInterrupt) as raised:
        new_plugin("acme", output=tmp_path)
    assert len(written) == 3 and list(tmp_path.iterdir()) == []
    assert "disk full" in str(raised.value) or isinstance(error, KeyboardInterrupt)


@pytest.mark.parametrize("name", ["acme", "a", "3d", "acme_video", "acme__video", "a" * 60, "zoo", "model"])
def test_names_of_distributions_and_modules_are_valid(name, tmp_path):
    folder = new_plugin(name, output=tmp_path)
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", project["name"])
    assert project["entry-points"]["zoo"] == {name: f"zoo_{name}"} and f"zoo_{name}".isidentifier()
    for path in folder.rglob("*.py"):
        compile(path.read_text(), path, "exec")


def test_the_command_says_what_to_do_next(tmp_path):
    result = CliRunner().invoke(commands, ["new", "acme", "--output", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert f"pip install -e {tmp_path / 'zoo_acme'}" in result.stdout
    assert "zoo check acme" in result.stdout
    result = CliRunner().invoke(commands, ["new", "acme", "--output", str(tmp_path)])
    assert result.exit_code == 2
    assert "exists already" in result.stderr


@pytest.mark.slow
def test_by_pip_in_a_fresh_environment(tmp_path):
    """zoo itself as a wheel and the plugin as it is edited; torch and the rest are borrowed from this environment."""
    environment = tmp_path / "venv"
    venv.create(environment, with_pip=True)
    scripts = environment / ("Scripts" if os.name == "nt" else "bin")
    python = scripts / "python"
    site = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    borrowed = [p for p in map(Path, sys.path) if p.name == "site-packages"]
    (Path(site) / "borrowed.pth").write_text("".join(f"{p}\n" for p in borrowed))
    pip = [python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--ignore-installed"]
    clean = {"PYTHONPATH": "", "ZOO_PLUGINS": "acme,cnn"}
    run(*pip, ROOT, **clean)
    run(scripts / "zoo", "new", "acme", cwd=tmp_path, **clean)
    run(*pip, "-e", "./zoo_acme", cwd=tmp_path, **clean)
    assert run(scripts / "zoo", "list", "acme/*", cwd=tmp_path, **clean).split() == ["acme/net_s"]
    assert "30 of 30 checks passed" in run(scripts / "zoo", "check", "acme", cwd=tmp_path, **clean)
    code = "import numpy, zoo; zoo.video.write_video('clip.mp4', numpy.zeros((20, 64, 96, 3), 'uint8'), fps=10)"
    run(python, "-c", code, cwd=tmp_path, **clean)
    predicted = run(scripts / "zoo", "predict", "clip.mp4", "--model", "acme/net_s", "--json", cwd=tmp_path, **clean)
    assert json.loads(predicted)["model"] == "acme/net_s"
    run(python, "-m", "pytest", "-q", cwd=tmp_path / "zoo_acme", **clean)
    assert str(tmp_path) in run(python, "-c", "import zoo; print(zoo.__file__)", cwd=tmp_path, **clean)
