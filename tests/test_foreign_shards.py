"""Weights in several files behind an index, as transformers writes large ones: each verified, none believed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from faulty_hub import FILE, tiny_bytes
from safetensors.torch import load, save
from test_foreign import KIND, REPO, files, spec

import zoo
from zoo.cli import commands
from zoo.errors import WeightsCorrupt, WeightsDownloadError, WeightsNotFound
from zoo.weights import assign
from zoo.weights.foreign import INDEX

WHOLE = load(tiny_bytes(width=6))
FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
Tree = dict[str, bytes]


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    with zoo.testing.isolated():
        zoo.register(spec("tiny", {KIND: "foreign_readers:sound"}))
        yield


def index(places: dict[str, object]) -> bytes:
    return json.dumps({"metadata": {"total_size": 1}, "weight_map": places}).encode()


def whole() -> Tree:
    """In a single file."""
    return {**files(), FILE: save(WHOLE)}


def sharded() -> Tree:
    """The same tensors in two files."""
    names = sorted(WHOLE)
    places = {name: FIRST if i < 3 else SECOND for i, name in enumerate(names)}
    shards = {file: save({n: WHOLE[n] for n in names if places[n] == file}) for file in (FIRST, SECOND)}
    tree = {name: data for name, data in files().items() if name != FILE}
    return {**tree, **shards, INDEX: index(places)}


def places_of(tree: Tree) -> dict[str, object]:
    return json.loads(tree[INDEX])["weight_map"]


def is_right(model: zoo.VideoModel) -> None:
    assert all(torch.equal(tensor, WHOLE[name]) for name, tensor in model.state_dict().items())


def written(folder: Path, tree: Tree) -> str:
    folder.mkdir(exist_ok=True)
    for name, data in tree.items():
        (folder / name).write_bytes(data)
    return f"local-dir:{folder}"


def test_weights_in_several_files_are_a_model(hub, tmp_path, monkeypatch):
    place = {"endpoint": hub.url, "cache_dir": tmp_path / "cache"}
    commit = hub.add(REPO, sharded())
    is_right(zoo.create(f"hf-hub:{REPO}", **place))
    is_right(zoo.create(written(tmp_path / "model", sharded())))
    is_right(zoo.load(zoo.build("local/tiny", width=6), tmp_path / "model" / INDEX))
    before = len(hub.requests())
    is_right(zoo.create(f"hf-hub:{REPO}@{commit}", **place))
    assert len(hub.requests()) == before, "not even the single file that is not there is asked for again"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    is_right(zoo.create(f"hf-hub:{REPO}", **place))
    done = CliRunner().invoke(commands, ["download", f"local-dir:{tmp_path / 'model'}"])
    assert Path(done.stdout.strip()) == tmp_path / "model" / INDEX


def test_a_single_file_goes_before_the_index(hub, tmp_path):
    other = {**sharded(), INDEX: b"not looked at", FILE: save(WHOLE)}
    hub.add(REPO, other)
    is_right(zoo.create(f"hf-hub:{REPO}", endpoint=hub.url, cache_dir=tmp_path / "cache"))
    is_right(zoo.create(written(tmp_path / "model", other)))
    assert not any(INDEX in request for request in hub.requests())


@pytest.mark.parametrize("file", [FIRST, SECOND, INDEX])
def test_every_file_is_verified_when_it_arrives_and_in_the_cache(hub, tmp_path, file):
    place = {"endpoint": hub.url, "cache_dir": tmp_path / "cache"}
    commit = hub.add(REPO, sharded())
    name = f"hf-hub:{REPO}@{commit}"
    is_right(zoo.create(name, **place))
    (cached,) = (tmp_path / "cache").glob(f"**/snapshots/*/{file}")
    blob = cached.resolve()
    blob.write_bytes(blob.read_bytes()[:-1] + b"\0")
    with pytest.warns(UserWarning, match="fetched again"):
        is_right(zoo.create(name, **place))
    hub.corrupt(REPO, file)
    with pytest.warns(UserWarning, match="fetched again"), pytest.raises(WeightsCorrupt, match=file):
        zoo.create(name, endpoint=hub.url, cache_dir=tmp_path / "other")
    assert not list((tmp_path / "other").glob(f"**/snapshots/*/{file}"))


def with_places(change: Callable[[dict[str, object]], object]) -> Callable[[Tree], None]:
    def changed(tree: Tree) -> None:
        change(places := places_of(tree))
        tree[INDEX] = index(places)

    return changed


NAMES = sorted(WHOLE)
LIES: dict[str, tuple[Callable[[Tree], object], str]] = {
    "a tensor is in the other file": (with_places(lambda p: p.update({NAMES[0]: SECOND})), "by the index|not there"),
    "a tensor is not listed": (with_places(lambda p: p.pop(NAMES[0])), "there, but not by the index"),
    "a tensor is listed only": (with_places(lambda p: p.update(more=FIRST)), "'more' is not there"),
    "a tensor is in both": (
        lambda t: t.update({SECOND: save({**load(t[SECOND]), NAMES[0]: WHOLE[NAMES[0]]})}),
        "there, but not by the index",
    ),
    "a key is there twice": (
        lambda t: t.update(
            {INDEX: t[INDEX].replace(b'"weight_map": {', b'"weight_map": {"%s": "x.safetensors", ' % NAMES[0].encode())}
        ),
        "a key occurs twice",
    ),
    "upwards": (with_places(lambda p: p.update({NAMES[0]: f"../{FIRST}"})), "is said to be in"),
    "absolute": (with_places(lambda p: p.update({NAMES[0]: f"/tmp/{FIRST}"})), "is said to be in"),
    "a folder": (with_places(lambda p: p.update({NAMES[0]: f"a/{FIRST}"})), "is said to be in"),
    "with backslashes": (with_places(lambda p: p.update({NAMES[0]: f"..\\{FIRST}"})), "is said to be in"),
    "a pickle": (with_places(lambda p: p.update({NAMES[0]: "model.bin"})), "is said to be in"),
    "an index": (with_places(lambda p: p.update({NAMES[0]: INDEX})), "is said to be in"),
    "hidden": (with_places(lambda p: p.update({NAMES[0]: ".safetensors"})), "is said to be in"),
    "a number": (with_places(lambda p: p.update({NAMES[0]: 1})), "is said to be in 1"),
    "too many": (with_places(lambda p: p.update({f"t{i}": f"{i}.safetensors" for i in range(1000)})), "at most 1,000"),
    "no map": (lambda t: t.update({INDEX: b"{}"}), "has no weight_map"),
    "an empty map": (lambda t: t.update({INDEX: index({})}), "has no weight_map"),
    "a list": (lambda t: t.update({INDEX: b"[]"}), "not an object"),
    "no JSON": (lambda t: t.update({INDEX: b"<html>"}), "no JSON"),
    "a broken file": (lambda t: t.update({SECOND: b"<html>"}), "it is a web page"),
}


@pytest.mark.parametrize(("lie", "says"), LIES.values(), ids=LIES)
def test_an_index_that_is_not_true_is_one_clear_error(lie, says, hub, tmp_path):
    tree = sharded()
    lie(tree)
    hub.add(REPO, tree)
    for name in (written(tmp_path / "model", tree), f"hf-hub:{REPO}"):
        with pytest.raises(WeightsCorrupt, match=says) as caught:
            zoo.create(name, endpoint=hub.url, cache_dir=tmp_path / "cache")
        assert len(str(caught.value)) < 1000
    assert not [request for request in hub.requests() if ".." in request or "/tmp/" in request]


def test_a_missing_file_is_named(hub, tmp_path):
    tree = sharded()
    del tree[SECOND]
    hub.add(REPO, tree)
    for name in (written(tmp_path / "model", tree), f"hf-hub:{REPO}"):
        with pytest.raises(WeightsNotFound, match=SECOND):
            zoo.create(name, endpoint=hub.url, cache_dir=tmp_path / "cache")


def test_the_limit_is_for_all_files_together(hub, tmp_path, monkeypatch):
    hub.add(REPO, tree := sharded())
    sizes = [len(tree[file]) for file in (FIRST, SECOND)]
    monkeypatch.setenv("ZOO_MAX_DOWNLOAD", str(sum(sizes) - 1))
    assert max(sizes) < sum(sizes) - 1
    with pytest.raises(WeightsDownloadError, match="ZOO_MAX_DOWNLOAD"):
        zoo.create(f"hf-hub:{REPO}", endpoint=hub.url, cache_dir=tmp_path / "cache")
    monkeypatch.setenv("ZOO_MAX_DOWNLOAD", str(sum(sizes)))
    is_right(zoo.create(f"hf-hub:{REPO}", endpoint=hub.url, cache_dir=tmp_path / "cache"))


@pytest.mark.parametrize("tree", [whole, sharded])
def test_numbers_are_looked_through_once_for_as_long_as_the_files_stay_the_same(hub, tmp_path, monkeypatch, tree):
    looked: list[torch.Tensor] = []
    plain = assign._all_finite
    monkeypatch.setattr(assign, "_all_finite", lambda tensor: looked.append(tensor) or plain(tensor))
    place = {"endpoint": hub.url, "cache_dir": tmp_path / "cache"}
    name = f"hf-hub:{REPO}@{hub.add(REPO, tree())}"

    def looks() -> int:
        looked.clear()
        is_right(zoo.create(name, **place))
        return len(looked)

    first, again = looks(), looks()
    assert first - again == sum(tensor.is_floating_point() for tensor in WHOLE.values())
    (cached,) = (tmp_path / "cache").glob(f"**/snapshots/*/{FILE if tree is whole else SECOND}")
    cached.resolve().touch()
    assert (looks(), looks()) == (first, again)
    (note,) = (tmp_path / "cache").glob("**/.zoo/*.note")
    note.write_text("{")
    assert (looks(), looks()) == (first, again)
    local = written(tmp_path / "model", tree())
    for _ in range(2):
        looked.clear()
        is_right(zoo.create(local))
        assert len(looked) == first, "files of the user's own may change at any time"


def test_what_is_no_number_is_found_every_time(hub, tmp_path):
    broken = {name: tensor.clone() for name, tensor in WHOLE.items()}
    name = next(name for name, tensor in broken.items() if tensor.is_floating_point())
    broken[name].view(-1)[0] = torch.nan
    hub.add(REPO, {**files(), FILE: save(broken)})
    for _ in range(2):
        with pytest.raises(WeightsCorrupt, match="NaN"):
            zoo.create(f"hf-hub:{REPO}", endpoint=hub.url, cache_dir=tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("**/.zoo/*.note"))
