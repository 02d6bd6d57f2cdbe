"""Fake third parties, without pip: a module and an installed-metadata folder on sys.path. And no network."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from pathlib import Path

import hypothesis
import pytest

hypothesis.settings.register_profile("zoo", deadline=None)  # on a busy machine a slow example proves nothing
hypothesis.settings.load_profile("zoo")

_connect = socket.socket.connect


def _connect_on_this_machine(self: socket.socket, address: object) -> None:
    if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in ("127.0.0.1", "::1", "localhost"):
        raise AssertionError(f"a test wants to reach {address}")
    _connect(self, address)


socket.socket.connect = _connect_on_this_machine

GOOD = """
import zoo

@zoo.hookimpl
def zoo_models():
    return [zoo.ModelSpec(name={!r}, builder="nowhere:build")]
"""


def install(root: Path, distribution: str, entry_points: dict[str, str], **modules: str) -> None:
    """Make `root` look as if pip had put a distribution there."""
    info = root / f"{distribution.replace('-', '_')}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
    lines = "".join(f"{name} = {value}\n" for name, value in entry_points.items())
    (info / "entry_points.txt").write_text(f"[zoo]\n{lines}")
    for name, code in modules.items():
        (root / f"{name}.py").write_text(code)


@pytest.fixture
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ZOO_PLUGINS", "ZOO_STRICT"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clean_environment: None) -> Callable[..., None]:
    """`site("zoo-acme", {"acme": "zoo_acme"}, zoo_acme=code)` installs a plugin for the length of one test.

    Installed beforehand, and seen alone: a distribution called Video_Zoo, ours by its normalised name, with `r3d_18`.
    """
    others = [p for p in sys.path if not list(Path(p or ".").glob("video_zoo-*.dist-info"))]
    monkeypatch.setattr(sys, "path", [str(tmp_path), *others])
    before = set(sys.modules)

    def add(distribution: str, entry_points: dict[str, str], **modules: str) -> None:
        install(tmp_path, distribution, entry_points, **modules)

    add("Video_Zoo", {"cnn": "fake_cnn"}, fake_cnn=GOOD.format("r3d_18"))
    yield add
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]
