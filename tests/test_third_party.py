"""A stranger's plugin, installed by pip from a folder outside of the checkout. Slow: pip builds and installs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from test_registry import BROKEN

PROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "zoo-{name}"
version = "0.1"
[project.entry-points.zoo]
{name} = "zoo_{name}"
"""
SPECS = """
import zoo

@zoo.hookimpl
def zoo_models():
    protocol = zoo.Preprocessing(num_frames=4, resize=16)
    return [zoo.ModelSpec(name="net", builder="zoo_acme.net:net", preprocessing=protocol)]
"""
NETWORK = (Path(__file__).parent / "models.py").read_text().replace("def tiny(", "def net(")

pytestmark = pytest.mark.slow


def project(folder: Path, name: str, **files: str) -> Path:
    package = folder / name / f"zoo_{name}"
    package.mkdir(parents=True)
    (folder / name / "pyproject.toml").write_text(PROJECT.format(name=name))
    for stem, code in files.items():
        (package / f"{stem}.py").write_text(code)
    return folder / name


def test_it_is_listed_and_runs_beside_seven_broken_ones(tmp_path):
    folders = [project(tmp_path / "src", "acme", __init__=SPECS, net=NETWORK)]
    folders += [project(tmp_path / "src", f"bad{i}", __init__=code) for i, (code, _) in enumerate(BROKEN.values())]
    site = tmp_path / "site"
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--target",
        str(site),
    ]
    subprocess.run([*pip, *map(str, folders)], check=True)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), *sys.path])}

    def zoo(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "zoo", *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    listed = zoo("list")
    assert listed.returncode == 0, listed.stderr
    assert "acme/net" in listed.stdout.split()
    assert "r3d_18" in listed.stdout.split()
    assert listed.stderr.count("is switched off") == 7
    plugins = zoo("plugins")
    assert plugins.returncode == 1
    assert plugins.stdout.count("failed") == 7
    demo = zoo("demo", "-o", str(tmp_path / "demo.mp4"))
    assert demo.returncode == 0, demo.stderr
    predicted = zoo("predict", "--model", "acme/net", str(tmp_path / "demo.mp4"))
    assert predicted.returncode == 0, predicted.stderr
    assert "acme/net (random weights)" in predicted.stdout
