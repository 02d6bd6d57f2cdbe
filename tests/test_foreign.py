"""Repositories of another library through the door that any plugin may open: `ModelSpec.opens`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from faulty_hub import FILE, LABELS, status, tiny_bytes

import zoo
from zoo.errors import PluginError, UnknownModel, WeightsDownloadError, WeightsMismatch, WeightsNotFound

REPO = "acme/foreign"
PROCESSOR = "preprocessor_config.json"
PROTOCOL = zoo.Preprocessing(num_frames=4, resize=(16, 16), crop=12)
KIND = "transformers:tinynet"


@pytest.fixture(autouse=True)
def registered():
    with zoo.testing.isolated():
        zoo.register(spec("plain", {}))
        yield


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    for name, data in files().items():
        (folder / name).write_bytes(data)
    return folder


def spec(name: str, opens: dict[str, str]) -> zoo.ModelSpec:
    return zoo.ModelSpec(name=name, builder="models:tiny", opens=opens, preprocessing=zoo.Preprocessing(num_frames=9))


def opening(reader: str) -> None:
    zoo.register(spec("tiny", {KIND: f"foreign_readers:{reader}"}))


def files(**changes: object) -> dict[str, bytes]:
    config = {"model_type": "tinynet", "wide": 6, "names": list(LABELS), "auto_map": {"AutoModel": "evil.Net"}}
    return {
        "config.json": json.dumps({**config, **changes}).encode(),
        PROCESSOR: json.dumps(PROTOCOL.to_dict()).encode(),
        FILE: tiny_bytes(width=6),
    }


def test_a_plugin_opens_the_repositories_of_its_kind(folder):
    opening("sound")
    model = zoo.create(f"local-dir:{folder}")
    assert (model.spec.full_name, model.labels, model.preprocessing) == ("local/tiny", LABELS, PROTOCOL)
    (folder / PROCESSOR).unlink()
    assert zoo.create(f"local-dir:{folder}").preprocessing is None


def test_a_kind_that_nobody_opens_names_what_is_opened(folder):
    with pytest.raises(UnknownModel, match=r"config\.json: no installed plugin opens 'transformers:tinynet'.*plugin"):
        zoo.create(f"local-dir:{folder}")
    opening("sound")
    (folder / "config.json").write_bytes(files(model_type="llama")["config.json"])
    with pytest.raises(UnknownModel, match=r"'transformers:llama'.*zoo opens tinynet"):
        zoo.create(f"local-dir:{folder}")


@pytest.mark.parametrize("reader", ["broken", "talkative", "gone", "of_nothing"])
def test_a_reader_that_breaks_is_the_plugins_fault(folder, reader):
    opening(reader)
    with pytest.raises(PluginError, match=f"foreign_readers:{reader}"):
        zoo.create(f"local-dir:{folder}")


def test_what_a_reader_refuses_is_said_with_the_files_name(folder):
    opening("sound")
    (folder / "config.json").write_bytes(files(wide=-1)["config.json"])
    with pytest.raises(WeightsMismatch, match=r"config\.json: wide=-1: a width"):
        zoo.create(f"local-dir:{folder}")


def test_all_files_are_of_the_commit_that_the_config_is_of(hub, tmp_path):
    opening("sound")
    place = {"endpoint": hub.url, "cache_dir": tmp_path / "cache"}
    commit = hub.add(REPO, files())
    name = zoo.create(f"hf-hub:{REPO}", **place).weights.tag
    assert name == f"hf-hub:{REPO}@{commit}"
    asked = [request for request in hub.requests() if "/resolve/" in request]
    assert sum("/resolve/main/" in request for request in asked) == 1, "a branch is resolved once"
    before = len(hub.requests())
    assert zoo.create(name, **place).preprocessing == PROTOCOL
    assert len(hub.requests()) == before, "not even the file that is not there is asked for again"


def test_a_hub_that_fails_is_not_a_file_that_is_not_there(hub, tmp_path):
    opening("sound")
    place = {"endpoint": hub.url, "cache_dir": tmp_path / "cache"}
    hub.add(REPO, files())
    hub.breaks(status(503), "HEAD", match="preprocessor")
    with pytest.raises(WeightsDownloadError):
        zoo.create(f"hf-hub:{REPO}", **place)
    hub.heals()
    assert zoo.create(f"hf-hub:{REPO}", **place).preprocessing == PROTOCOL


@pytest.mark.parametrize(
    ("instead", "says"),
    [
        ({"pytorch_model.bin": b"\x80\x04"}, "only pytorch_model.bin.*zoo convert pytorch_model.bin OUT --model"),
        ({}, FILE),
    ],
    ids=["a pickle", "nothing"],
)
def test_weights_that_are_not_one_safetensors_file_say_what_to_do(hub, folder, tmp_path, instead, says):
    opening("sound")
    (folder / FILE).unlink()
    left = {name: data for name, data in files().items() if name != FILE}
    hub.add(REPO, left | instead)
    for name, data in instead.items():
        (folder / name).write_bytes(data)
    for name in (f"hf-hub:{REPO}", f"local-dir:{folder}"):
        with pytest.raises(WeightsNotFound, match=says):
            zoo.create(name, endpoint=hub.url, cache_dir=tmp_path / "cache")
    assert not any(request.startswith("GET") and ".bin" in request for request in hub.requests())


def test_limits_hold_for_every_file(hub, tmp_path, monkeypatch):
    opening("sound")
    place = {"endpoint": hub.url, "cache_dir": tmp_path / "cache"}
    hub.add(REPO, files() | {PROCESSOR: b" " * (1 << 20) + b"{}"})
    with pytest.raises(WeightsDownloadError, match="1,048,576"):
        zoo.create(f"hf-hub:{REPO}", **place)
    hub.add(REPO, files())
    monkeypatch.setenv("ZOO_MAX_DOWNLOAD", "1000")
    with pytest.raises(WeightsDownloadError, match="ZOO_MAX_DOWNLOAD"):
        zoo.create(f"hf-hub:{REPO}", **place)
