"""Models by where they are, in zoo's own format: a stranger's config can ask for nothing undeclared (32)."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path

import pytest
import torch
from faulty_hub import FILE, LABELS, REPO, tiny_bytes, tree
from hypothesis import given
from hypothesis import strategies as st
from models import Tiny
from safetensors.torch import load

import zoo
from zoo.errors import (
    PluginError,
    SpecError,
    UnknownModel,
    WeightsCorrupt,
    WeightsDownloadError,
    WeightsMismatch,
    WeightsNotFound,
    WeightsOffline,
)
from zoo.weights.config import Config

DATA = tiny_bytes(width=6)
PROTOCOL = zoo.Preprocessing(num_frames=4, resize=(16, 16), crop=12, fps=7.5)


def config(architecture: str = "local/tiny", data: bytes = DATA, **changes: object) -> bytes:
    """The bytes of a config.json; a change to None removes a key."""
    weights = {"file": FILE, "sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
    about = {"labels": list(LABELS), "preprocessing": PROTOCOL.to_dict(), "license": "apache-2.0"}
    found = json.loads(Config(architecture, weights, kwargs={"width": 6}, plugin="zoo-acme", about=about).to_bytes())
    found.update(changes)
    return json.dumps({key: value for key, value in found.items() if value is not None}).encode()


@pytest.fixture(autouse=True)
def registered():
    with zoo.testing.isolated():
        zoo.register(zoo.ModelSpec(name="tiny", builder="models:tiny"))
        zoo.register(zoo.ModelSpec(name="other", builder="models:tiny"))
        yield


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / FILE).write_bytes(DATA)
    (folder / "config.json").write_bytes(config())
    return folder


def is_right(model) -> None:
    expected = load(DATA)
    assert all(torch.equal(tensor, expected[key]) for key, tensor in model.state_dict().items())
    assert model.labels == LABELS
    assert model.preprocessing == PROTOCOL
    assert not model.training


def test_a_folder_in_our_format_is_a_model(folder):
    is_right(model := zoo.create(f"local-dir:{folder}"))
    assert model.weights.license == "apache-2.0"
    assert zoo.create(f"local-dir:{folder}", num_classes=2).labels is None
    again = zoo.load(zoo.build("local/tiny", width=6), f"local-dir:{folder}")
    assert again.labels == LABELS
    with pytest.raises(WeightsMismatch, match="not a local/other"):
        zoo.load(zoo.build("local/other", width=6), f"local-dir:{folder}")
    with pytest.raises(SpecError, match="leave pretrained away"):
        zoo.create(f"local-dir:{folder}", pretrained=False)


def test_a_repository_on_the_hub_is_read_at_one_commit(hub, tmp_path, caplog):
    place = {"endpoint": hub.url, "cache_dir": tmp_path / "cache"}
    first = hub.add(REPO, {FILE: DATA, "config.json": config()})
    name = f"hf-hub:{REPO}"
    is_right(model := zoo.create(name, **place))
    assert model.weights.tag == f"{name}@{first}"
    assert first in caplog.text
    assert "nobody has reviewed" in caplog.text
    other = tiny_bytes(seed=3)
    second = hub.add(REPO, {FILE: other, "config.json": config(data=other, kwargs=None)})
    caplog.clear()
    is_right(zoo.create(f"{name}@{first}", **place))
    assert zoo.create(name, **place).weights.tag.endswith(second)
    before = len(hub.requests())
    is_right(zoo.create(f"{name}@{first}", **place))
    assert len(hub.requests()) == before, "a commit that is in the cache costs no request"


def test_a_repository_that_is_cached_works_offline(hub, tmp_path, monkeypatch):
    place = {"endpoint": hub.url, "cache_dir": tmp_path / "cache"}
    hub.add(REPO, {FILE: DATA, "config.json": config()})
    zoo.create(f"hf-hub:{REPO}", **place)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    is_right(zoo.create(f"hf-hub:{REPO}", **place))
    with pytest.raises(WeightsOffline, match=r"config\.json"):
        zoo.create("hf-hub:acme/else", **place)


def test_weights_that_are_not_the_configs_are_refused(hub, folder, tmp_path):
    hub.add(REPO, {FILE: tiny_bytes(seed=9, width=6), "config.json": config()})
    with pytest.raises(WeightsCorrupt, match="digest"):
        zoo.create(f"hf-hub:{REPO}", endpoint=hub.url, cache_dir=tmp_path / "cache")
    (folder / FILE).write_bytes(tiny_bytes(seed=9, width=6))
    with pytest.raises(WeightsCorrupt, match="sha256"):
        zoo.create(f"local-dir:{folder}")


def test_limits_hold_before_the_download(hub, tmp_path, monkeypatch):
    place = {"endpoint": hub.url, "cache_dir": tmp_path / "cache"}
    hub.add(REPO, {FILE: DATA, "config.json": b" " * (1 << 20) + config()})
    with pytest.raises(WeightsDownloadError, match="1,048,576"):
        zoo.create(f"hf-hub:{REPO}", **place)
    hub.add(REPO, {"config.json": config()})
    monkeypatch.setenv("ZOO_MAX_DOWNLOAD", "1000")
    with pytest.raises(WeightsDownloadError, match="ZOO_MAX_DOWNLOAD"):
        zoo.create(f"hf-hub:{REPO}", **place)
    assert not any(FILE in request for request in hub.requests("GET"))


def test_an_architecture_that_is_not_installed_names_the_plugin_and_installs_nothing(folder):
    (folder / "config.json").write_bytes(config("acme/net_s"))
    with pytest.raises(UnknownModel, match=r"'acme/net_s', which is not registered.*if you trust it.*zoo-acme"):
        zoo.create(f"local-dir:{folder}")


@pytest.mark.parametrize("name", ["hf-hub:", "hf-hub:acme", "hf-hub:acme/../x", "hf-hub:acme/tiny@", "hf-hub:a/b/c"])
def test_a_malformed_repository_is_refused(hub, name):
    with pytest.raises(SpecError):
        zoo.create(name, endpoint=hub.url)
    assert not hub.requests()


def test_a_folder_without_config_or_weights_says_so(folder, tmp_path):
    with pytest.raises(WeightsNotFound, match=r"no config\.json"):
        zoo.create(f"local-dir:{tmp_path}")
    (folder / FILE).unlink()
    with pytest.raises(WeightsNotFound, match="does not exist"):
        zoo.create(f"local-dir:{folder}")


PROTOCOL_DICT = PROTOCOL.to_dict()
WEIGHTS = json.loads(config())["weights"]
WRONG = {
    "huge": b" " * (1 << 21),
    "not JSON": b"{",
    "not text": b"\xff\xfe{}",
    "a list": b"[]",
    "100 000 deep": b"[" * 100_000 + b"]" * 100_000,
    "deep inside": config().replace(b'"zoo-acme"', b"[" * 50_000 + b"]" * 50_000),
    "a key twice": config().replace(b'"task"', b'"library": "video-zoo", "task"', 1),
    "an unknown key": config(extra=1),
    "auto_map": config(auto_map={"AutoModel": "modeling.Net"}),
    "a config of no known kind": json.dumps({"architectures": ["VideoMAE"]}).encode(),
    "model_type besides": config(model_type="videomae"),
    "NaN": config().replace(b"7.5", b"NaN"),
    "too large a number": config().replace(b"7.5", b"1e999"),
    "4 300 digits": config().replace(b"7.5", b"7" * 5000),
    "no schema": config(schema_version=None),
    "a newer schema": config(schema_version=2),
    "schema true": config(schema_version=True),
    "another library": config(library="timm"),
    "architecture a path": config("../../tiny"),
    "architecture a module": config("models:tiny"),
    "architecture a tag": config("local/tiny.t"),
    "architecture a number": config(architecture=3),
    "task a path": config(task="../tasks"),
    "plugin an address": config(plugin="git+https://example.org/evil"),
    "plugin with options": config(plugin="--index-url=evil"),
    "weights a list": config(weights=[]),
    "weights a path": config(weights={**WEIGHTS, "file": "../other.safetensors"}),
    "weights absolute": config(weights={**WEIGHTS, "file": "/etc/passwd"}),
    "weights a pickle": config(weights={**WEIGHTS, "file": "model.bin"}),
    "weights elsewhere": config(weights={**WEIGHTS, "repo": "evil/repo"}),
    "no digest": config(weights={**WEIGHTS, "sha256": ""}),
    "size a text": config(weights={**WEIGHTS, "size": "1"}),
    "kwargs a list": config(kwargs=[1]),
    "kwargs too large": config(kwargs={"width": 10**9}),
    "kwargs a path": config(kwargs={"width": "../../x"}),
    "kwargs an address": config(kwargs={"width": "https://example.org"}),
    "kwargs nested": config(kwargs={"width": [[1]]}),
    "kwargs an object": config(kwargs={"width": {"a": 1}}),
    "kwargs a long list": config(kwargs={"width": [1] * 1000}),
    "labels numbers": config(labels=[1, 2, 3, 4, 5]),
    "labels twice": config(labels=["a", "a", "b", "c", "d"]),
    "labels too long": config(labels=["a" * 300, "b", "c", "d", "e"]),
    "labels that move the cursor": config(labels=["\x1b[2J", "b", "c", "d", "e"]),
    "labels too many": config(labels=[str(i) for i in range(100_001)]),
    "classes and labels differ": config(num_classes=7),
    "classes negative": config(num_classes=-1, labels=None),
    "description not printable": config(description="a\x07"),
    "preprocessing a list": config(preprocessing=[1]),
    "preprocessing unknown key": config(preprocessing={**PROTOCOL_DICT, "hook": "os:system"}),
    "preprocessing unknown sampler": config(preprocessing={**PROTOCOL_DICT, "sampler": "models:tiny"}),
    "preprocessing huge": config(preprocessing={**PROTOCOL_DICT, "num_frames": 10**8}),
    "preprocessing empty": config(preprocessing={}),
    "a metric without a name": config(metrics=[{"value": 1.0}]),
    "a metric that is a number": config(metrics=[3]),
}


@pytest.mark.parametrize("text", WRONG.values(), ids=WRONG)
def test_32_a_wrong_config_is_one_error_and_nothing_is_built(folder, text, monkeypatch):
    (folder / "config.json").write_bytes(text)
    before = tree(folder)
    monkeypatch.setattr("zoo.factory._instantiate", lambda *a, **k: pytest.fail("built"))
    start = time.monotonic()
    with pytest.raises(WeightsCorrupt, match=r"config\.json") as caught:
        zoo.create(f"local-dir:{folder}")
    assert time.monotonic() - start < 1
    assert len(str(caught.value)) < 1000
    assert tree(folder) == before


def test_32_a_newer_schema_says_upgrade(folder):
    (folder / "config.json").write_bytes(config(schema_version=2))
    with pytest.raises(WeightsCorrupt, match="pip install -U video-zoo"):
        zoo.create(f"local-dir:{folder}")


def test_32_options_come_only_from_the_builder_and_its_refusal_is_the_configs_fault(folder):
    (folder / "config.json").write_bytes(config(kwargs={"depth": 3}))
    with pytest.raises(WeightsMismatch, match="has no option 'depth': its options are num_classes, width"):
        zoo.create(f"local-dir:{folder}")
    (folder / "config.json").write_bytes(config(kwargs={"width": -1}))
    with pytest.raises(WeightsMismatch, match="cannot be built"):
        zoo.create(f"local-dir:{folder}")
    (folder / "config.json").write_bytes(config(kwargs={"width": 16_000}))
    with pytest.raises(WeightsMismatch, match=r"of another shape|cannot be built"):
        zoo.create(f"local-dir:{folder}")


class Table(Tiny):
    """Its table is computed, and as large as the options say."""

    def __init__(self, *, num_classes: int = 5, width: int = 4, rows: int = 1) -> None:
        super().__init__(num_classes=num_classes, width=width)
        if not torch.empty(0).is_meta and rows > 1:
            pytest.fail("takes memory")
        self.register_buffer("table", torch.zeros(rows, 16_384), persistent=False)


@pytest.mark.parametrize("layouts", [{}, {"theirs": "models:renamed"}], ids=["own names", "layouts"])
def test_32_a_network_that_the_file_cannot_be_of_takes_no_memory(folder, layouts):
    zoo.register(zoo.ModelSpec(name="tiny", builder=Table, layouts=layouts))
    (folder / "config.json").write_bytes(config(kwargs={"rows": 16_000, "width": 6}))
    with pytest.raises(WeightsMismatch, match=r"takes 1,\d+,\d+,\d+ bytes"):
        zoo.create(f"local-dir:{folder}")
    (folder / "config.json").write_bytes(config(kwargs={"rows": 1, "width": 6}))
    zoo.create(f"local-dir:{folder}")


def test_an_option_that_catches_all_is_not_a_declared_one(folder):
    zoo.register(zoo.ModelSpec(name="tiny", builder=lambda **kwargs: pytest.fail("built")))
    with pytest.raises(WeightsMismatch, match="no option 'width'"):
        zoo.create(f"local-dir:{folder}")


def test_a_plugins_own_fault_stays_its_own(folder):
    zoo.register(zoo.ModelSpec(name="tiny", builder="models:gone"))
    with pytest.raises(PluginError):
        zoo.create(f"local-dir:{folder}")


names = st.from_regex(r"[a-z0-9][a-z0-9_]{0,20}", fullmatch=True)
values = st.none() | st.booleans() | st.integers(-16_384, 16_384) | st.floats(-1e9, 1e9) | names
texts = st.text(st.characters(categories=["L", "N", "P"]), max_size=50)


@given(
    names,
    names,
    st.dictionaries(names, values | st.lists(values, max_size=5)),
    st.lists(texts.filter(bool), unique=True),
)
def test_a_config_survives_writing_and_reading_and_is_the_same_bytes_every_time(architecture, task, kwargs, labels):
    written = Config(architecture, WEIGHTS, task, kwargs, "zoo-acme", {"labels": labels} if labels else {}).to_bytes()
    read = Config.parse(written, "config.json")
    assert read.to_bytes() == written
    assert read.kwargs == kwargs
    assert (read.architecture, read.task, read.plugin) == (architecture, task, "zoo-acme")
