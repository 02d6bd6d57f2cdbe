"""Fake third parties, without pip: a module and an installed-metadata folder on sys.path. And no network."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

import hypothesis
import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # workers share the cores: one thread each, here and in what they start
    os.environ["OMP_NUM_THREADS"] = "1"

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
    import zoo.factory  # noqa: F401  while what it needs is still on the path

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


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch):
    """A faulty Hub, and a client that is not configured by this machine and that waits briefly."""
    from faulty_hub import FaultyHub
    from huggingface_hub import constants, file_download
    from huggingface_hub.utils import _http

    from zoo.weights import hub as ours

    for name, value in (
        ("HF_HUB_OFFLINE", False),
        ("HF_HUB_DISABLE_IMPLICIT_TOKEN", True),
        ("HF_HUB_DISABLE_TELEMETRY", True),
        ("HF_HUB_ETAG_TIMEOUT", 1),
        ("HF_HUB_DOWNLOAD_TIMEOUT", 1),
    ):
        monkeypatch.setattr(constants, name, value)
    for module in (file_download, _http, ours):
        monkeypatch.setattr(module, "time", _Hurried())
    monkeypatch.setattr(ours, "LOCK_WAIT", 0.5)
    monkeypatch.setattr(ours, "LOCK_STEP", 0.1)
    with FaultyHub() as served:
        yield served


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "outer" / "cache with ümlaut"  # 19: spaces and unicode


@pytest.fixture
def commit(hub) -> str:
    """The commit on the Hub that has the weights of local/tiny.t, which is registered."""
    from faulty_hub import DATA, FILE, REPO, tiny_spec, tiny_weights

    import zoo

    commit = hub.add(REPO, {FILE: DATA, "README.md": b"# tiny"})
    with zoo.testing.isolated():
        zoo.register(tiny_spec(t=tiny_weights(DATA, commit)))
        yield commit


@pytest.fixture
def create(hub, cache, commit):
    """`create()` makes the model from the Hub, holds it to the published tensors and to the time limit."""

    import torch
    from faulty_hub import DATA, LABELS
    from safetensors.torch import load

    import zoo

    def create():
        start = time.monotonic()
        try:
            model = zoo.create("local/tiny.t", endpoint=hub.url, cache_dir=cache)
        finally:
            assert time.monotonic() - start < 5
        expected = load(DATA)
        assert all(torch.equal(tensor, expected[key]) for key, tensor in model.state_dict().items())
        assert model.labels == LABELS
        return model

    return create


class _Hurried:
    """The module `time`, in which pauses between tries are short."""

    def __getattr__(self, name: str):
        return getattr(time, name)

    def sleep(self, seconds: float) -> None:
        time.sleep(min(seconds, 0.01))


@pytest.fixture
def children():
    """What gives the processes that were started since the test began."""

    def running() -> set[int]:
        pids: set[int] = set()
        for task in Path("/proc/self/task").iterdir():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a thread that has just ended
                pids |= {int(pid) for pid in (task / "children").read_text().split()}
        return pids

    before = running()
    return lambda: running() - before
