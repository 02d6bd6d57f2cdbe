"""Fetching from a Hub on which everything goes wrong: the right model or one right error, in time, and a clean cache.

The numbers are those of the list of fault tests in the project's notes on weights (1 - 18 here).
"""

from __future__ import annotations

import os
import shutil
import time
import warnings
from pathlib import Path

import pytest
import torch
from faulty_hub import (
    FILE,
    LABELS,
    REPO,
    body,
    chunked,
    cut,
    endless,
    gzipped,
    hangs,
    headers,
    other_bytes,
    status,
    tiny_bytes,
    tiny_spec,
    tiny_weights,
    tree,
)
from safetensors.torch import load

import zoo
from zoo.errors import (
    SpecError,
    WeightsAccessDenied,
    WeightsCorrupt,
    WeightsDownloadError,
    WeightsMismatch,
    WeightsNotFound,
    WeightsOffline,
)
from zoo.weights.fetch import fetch

DATA = tiny_bytes()
LIMIT = 5.0  # seconds


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "outer" / "cache with ümlaut"  # 19: spaces and unicode


@pytest.fixture
def commit(hub) -> str:
    commit = hub.add(REPO, {FILE: DATA, "README.md": b"# tiny"})
    with zoo.testing.isolated():
        zoo.register(tiny_spec(t=tiny_weights(DATA, commit)))
        yield commit


@pytest.fixture
def create(hub, cache, commit):
    """`create()` makes the model from the Hub, holds it to the published tensors and to the time limit."""

    def create(**options):
        start = time.monotonic()
        try:
            model = zoo.create("local/tiny.t", endpoint=hub.url, cache_dir=cache, **options)
        finally:
            assert time.monotonic() - start < LIMIT
        expected = load(DATA)
        assert all(torch.equal(tensor, expected[key]) for key, tensor in model.state_dict().items())
        assert model.labels == LABELS
        return model

    return create


def files_of(cache: Path) -> list[str]:
    """Blobs and snapshot entries."""
    return [p.name for p in cache.rglob("*") if p.parent.name == "blobs" or ("snapshots" in p.parts and not p.is_dir())]


def the_blob(cache: Path) -> Path:
    (blob,) = (p for p in cache.rglob("*") if p.parent.name == "blobs")
    return blob


def refused(create, error, *words: str) -> str:
    """`create` raises this error, which names model, repository and revision, and leaves no weights behind."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(error) as caught:
            create()
    text = str(caught.value)
    assert REPO in text
    assert all(word in text for word in words), text
    assert caught.value.hint
    return text


def test_01_a_pinned_file_costs_one_download_and_then_no_request(hub, create, cache):
    create()
    assert len(hub.requests("GET")) == 1
    assert list((cache / "models--acme--tiny" / ".zoo").iterdir()), "the stamp"
    before = len(hub.requests())
    create()
    assert len(hub.requests()) == before


def test_01_a_stamp_spares_the_hashing(create, monkeypatch):
    create()
    monkeypatch.setattr("zoo.weights.cached.digest_of", lambda *a, **k: pytest.fail("hashed again"))
    create()


def test_02_other_bytes_of_the_right_size_are_refused_after_two_downloads(hub, create, cache):
    hub.corrupt(REPO, FILE)
    refused(create, WeightsCorrupt, "digest")
    assert len(hub.requests("GET")) == 2
    assert not files_of(cache)
    hub.add(REPO, {FILE: DATA})


def test_03_damaged_once_is_fetched_again_with_a_warning(hub, create):
    hub.breaks(other_bytes, "GET", times=1)
    with pytest.warns(UserWarning, match="arrived damaged") as told:
        create()
    assert len(told) == 1
    assert len(hub.requests("GET")) == 2


def rot(blob: Path) -> None:
    data = bytearray(blob.read_bytes())
    data[-1] ^= 1
    blob.write_bytes(data)


def folder_instead(blob: Path) -> None:
    blob.unlink()
    (blob / "inside").mkdir(parents=True)


DAMAGES = {
    "bit rot": rot,
    "cut": lambda blob: os.truncate(blob, 10),
    "empty": lambda blob: os.truncate(blob, 0),
    "a folder": folder_instead,
    "dangling link": lambda blob: blob.unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_04_a_damaged_cache_heals(hub, create, cache, damage):
    create()
    damage(the_blob(cache))
    with pytest.warns(UserWarning, match="fetched again"):
        create()
    assert len(hub.requests("GET")) == 2
    assert the_blob(cache).read_bytes() == DATA
    create()


def test_04_a_shared_store_behind_the_blob_is_left_alone(hub, create, cache, tmp_path):
    create()
    blob, store = the_blob(cache), tmp_path / "store"
    store.write_bytes(bytes(len(DATA)))
    blob.unlink()
    blob.symlink_to(store)
    with pytest.warns(UserWarning, match="fetched again"):
        create()
    assert store.read_bytes() == bytes(len(DATA))


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_05_damaged_and_offline_names_the_file_and_the_fix(hub, create, cache, damage, monkeypatch):
    create()
    damage(the_blob(cache))
    before = tree(cache)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    refused(create, WeightsCorrupt, str(cache), "connect once")
    assert tree(cache) == before


def test_06_a_stamp_is_void_after_an_edit_that_hides_itself(create, cache):
    create()
    blob = the_blob(cache)
    status = blob.stat()
    rot(blob)
    os.utime(blob, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.warns(UserWarning, match="digest"):
        create()


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (body(DATA[:-1]), WeightsCorrupt),
        (body(DATA + b"x"), WeightsCorrupt),
        (body(b""), WeightsCorrupt),
        (endless, WeightsCorrupt),
        (body(DATA[: len(DATA) // 2] + bytes(len(DATA) - len(DATA) // 2)), WeightsCorrupt),
    ],
    ids=["short", "long", "empty", "endless", "half zeros"],
)
def test_07_a_body_of_another_size_or_content_is_refused(hub, create, cache, fault, error):
    hub.breaks(fault, "GET")
    refused(create, error)
    assert not files_of(cache)


@pytest.mark.parametrize("fault", [chunked, gzipped], ids=["chunked", "gzip"])
def test_07_another_encoding_of_the_right_bytes_is_right(hub, create, fault):
    hub.breaks(fault, "GET")
    create()


def test_07_a_declared_size_that_is_not_the_published_one_is_refused_before_any_download(hub, create):
    hub.breaks(headers(X_Linked_Size="7"), "HEAD")
    refused(create, WeightsCorrupt, "7 bytes")
    assert not hub.requests("GET")


@pytest.mark.parametrize("at", [0, len(DATA) // 2])
@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
def test_08_a_connection_that_breaks_once_does_not_matter(hub, create, at, reset):
    hub.breaks(cut(at, reset=reset), "GET", times=1)
    create()


@pytest.mark.parametrize("fault", [cut(0), cut(0, reset=True), cut(100, stall=1.2)], ids=["closed", "reset", "stall"])
def test_08_a_connection_that_always_breaks_is_one_error(hub, create, cache, fault):
    hub.breaks(fault, "GET")
    start = time.monotonic()
    with pytest.raises(WeightsDownloadError, match=REPO):
        zoo.create("local/tiny.t", endpoint=hub.url, cache_dir=cache)
    assert time.monotonic() - start < 10  # six tries of the client's of one second each, in the stalled case
    assert not files_of(cache)


def test_08_broken_pieces_of_a_large_file_add_up(hub, cache):
    data = os.urandom(25 << 20)
    commit = hub.add(REPO, {"large.safetensors": data})
    hub.breaks(cut(12 << 20), "GET", match="large")
    found = fetch(f"hf://{REPO}/large.safetensors@{commit}", endpoint=hub.url, cache_dir=cache)
    assert found.path.read_bytes() == data
    assert 2 < len(hub.requests("GET")) < 6


@pytest.mark.parametrize("code", [500, 502, 503])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_09_a_server_error_passes_or_is_one_error(hub, create, code, method):
    hub.breaks(status(code), method)
    refused(create, WeightsDownloadError, str(code))
    assert len(hub.requests(method)) <= 4
    hub.heals()
    hub.breaks(status(code), method, times=1)
    create()


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_10_too_many_requests_waits_as_long_as_it_is_told(hub, create, method):
    hub.breaks(status(429, Retry_After="1", ratelimit='"api";r=0;t=1'), method, times=1)
    create()


def test_10_a_hub_that_asks_for_an_hour_is_not_waited_for(hub, create):
    hub.breaks(status(429, **{"Retry-After": "3600"}), "HEAD")
    refused(create, WeightsDownloadError, "429")
    assert len(hub.requests()) == 1


def test_11_a_hub_that_does_not_answer_is_an_error_within_the_time_limit(hub, create):
    hub.breaks(hangs(3.0), "HEAD")
    start = time.monotonic()
    refused(create, WeightsDownloadError, "in time")
    assert time.monotonic() - start < 2.0


def test_12_nobody_there_is_an_error_within_the_same_limit(create, hub, cache):
    start = time.monotonic()
    with pytest.raises(WeightsDownloadError, match="cannot be reached"):
        zoo.create("local/tiny.t", endpoint="http://127.0.0.1:9", cache_dir=cache)
    assert time.monotonic() - start < 2.0


ANSWERS = {
    "no repository": (status(404, "RepoNotFound"), WeightsNotFound, "no repository"),
    "no revision": (status(404, "RevisionNotFound"), WeightsNotFound, "no such revision"),
    "no file": (status(404, "EntryNotFound"), WeightsNotFound, "no such file"),
    "bare 404": (status(404), WeightsNotFound, "nothing there"),
    "gated 401": (status(401, "GatedRepo", "Access is restricted"), WeightsAccessDenied, "accept the terms"),
    "gated 403": (status(403, "GatedRepo", "Access is restricted"), WeightsAccessDenied, "accept the terms"),
    "bad token": (status(401, "", "Invalid credentials in Authorization header"), WeightsAccessDenied, "token"),
    "403": (status(403), WeightsAccessDenied, "refused"),
    "disabled": (status(403, "", "Access to this resource is disabled."), WeightsAccessDenied, "disabled"),
}


@pytest.mark.parametrize(("answer", "error", "word"), ANSWERS.values(), ids=ANSWERS)
@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_13_each_refusal_is_its_own_error_and_says_where(hub, create, commit, cache, answer, error, word, method):
    hub.breaks(answer, method)
    refused(create, error, word, "local/tiny.t", commit, f"{hub.url}/{REPO}")
    assert not files_of(cache)


def test_14_a_web_page_instead_of_a_hub_is_said_to_be_one(hub, create, commit, cache):
    page = body(b"<html>please log in</html>")
    plain = headers(X_Repo_Commit=None, X_Linked_Etag=None, X_Linked_Size=None, Location=None)

    def portal(request, response):
        response = page(request, plain(request, response))
        response.status = 200
        return response

    hub.breaks(portal, "HEAD")
    refused(create, WeightsDownloadError, "login page")
    assert not cache.exists()


@pytest.mark.parametrize(
    "lie",
    [
        headers(X_Linked_Etag='"../../../../evil"'),
        headers(X_Linked_Etag='"/tmp/evil"'),
        headers(X_Linked_Etag='"short"'),
        headers(X_Linked_Etag=f'"{"0" * 64}"'),
        headers(X_Linked_Etag=None),
        headers(X_Repo_Commit="0" * 40),
        headers(X_Repo_Commit="../../evil"),
        headers(X_Linked_Size="-1"),
        headers(X_Linked_Size=str(1 << 60)),
    ],
    ids=["etag ..", "etag /", "short etag", "other etag", "no etag", "other commit", "commit ..", "size -1", "huge"],
)
def test_15_headers_that_cannot_be_true_are_refused_before_anything_is_written(hub, create, cache, lie):
    cache.parent.mkdir(parents=True)
    hub.breaks(lie, "HEAD")
    refused(create, (WeightsCorrupt, WeightsDownloadError))
    assert not tree(cache.parent)
    assert not hub.requests("GET")


def test_16_the_token_stays_with_the_hub(hub, create, commit, cache):
    seen = []

    def look(request, response):
        seen.append((request.storage, request.headers.get("authorization")))
        return response

    for method in ("HEAD", "GET"):
        hub.breaks(look, method)
    fetch(f"hf://{REPO}/{FILE}@{commit}", endpoint=hub.url, cache_dir=cache, token="hf_not_a_real_token")
    assert {storage for storage, _ in seen} == {False, True}
    assert all((token is None) == storage for storage, token in seen)


def test_16_a_redirect_in_a_circle_is_an_error(hub, create):
    def circle(request, response):
        response.headers["Location"] = f"{hub.url}{request.path}"
        return response

    hub.breaks(circle, "HEAD")
    refused(create, WeightsDownloadError)


def test_17_offline_uses_what_is_cached_and_says_what_is_not(hub, create, cache, commit, monkeypatch):
    fetch(f"hf://{REPO}/{FILE}@main", endpoint=hub.url, cache_dir=cache)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    before = len(hub.requests())
    create()
    assert fetch(f"hf://{REPO}/{FILE}", endpoint=hub.url, cache_dir=cache).commit == commit
    for source in (f"hf://{REPO}/{FILE}@v2", f"hf://{REPO}/{FILE}@{'1' * 40}", f"hf://{REPO}/other.safetensors"):
        with pytest.raises(WeightsOffline, match="zoo download"):
            fetch(source, endpoint=hub.url, cache_dir=cache)
    assert len(hub.requests()) == before


def test_a_branch_that_cannot_be_asked_is_what_it_was_and_a_warning(hub, commit, cache):
    main = f"hf://{REPO}/{FILE}"
    fetch(main, endpoint=hub.url, cache_dir=cache)
    hub.breaks(status(503), "HEAD")
    with pytest.warns(UserWarning, match="when last asked"):
        assert fetch(main, endpoint=hub.url, cache_dir=cache).commit == commit


def test_unpinned_sources_are_resolved_once_and_held_to_the_declared_digest(hub, commit, cache):
    other = tiny_bytes(seed=5)
    on_main = hub.add(REPO, {FILE: other})
    in_request = hub.add(REPO, {FILE: tiny_bytes(seed=6)}, ref="refs/pr/3")
    for source, wanted in (("", on_main), ("@main", on_main), ("@refs/pr/3", in_request), (f"@{commit}", commit)):
        found = fetch(f"hf://{REPO}/{FILE}{source}", endpoint=hub.url, cache_dir=cache)
        assert found.commit == wanted
        assert not found.reviewed
    rot(found.path.resolve())
    with pytest.warns(UserWarning, match="fetched again"):
        assert fetch(f"hf://{REPO}/{FILE}@{commit}", endpoint=hub.url, cache_dir=cache).path.read_bytes() == DATA
    hub.corrupt(REPO, FILE)
    shutil.rmtree(cache)
    with pytest.raises(WeightsCorrupt), pytest.warns(UserWarning, match="arrived damaged"):
        fetch(f"hf://{REPO}/{FILE}@main", endpoint=hub.url, cache_dir=cache)
    assert not files_of(cache)


def test_a_small_file_is_held_to_the_digest_of_git(hub, commit, cache):
    from zoo.weights.fetch import fetch_from_hub
    from zoo.weights.hub import Hub
    from zoo.weights.source import HubFile

    readme = HubFile(REPO, "README.md")
    assert fetch_from_hub(readme, Hub(hub.url, cache)).path.read_bytes() == b"# tiny"
    shutil.rmtree(cache)
    hub.corrupt(REPO, "README.md")
    with pytest.raises(WeightsCorrupt), pytest.warns(UserWarning, match="arrived damaged"):
        fetch_from_hub(readme, Hub(hub.url, cache))


def test_unreviewed_weights_have_a_size_limit(hub, commit, cache, monkeypatch):
    monkeypatch.setenv("ZOO_MAX_DOWNLOAD", "many")
    with pytest.raises(SpecError, match="a number of bytes"):
        fetch(f"hf://{REPO}/{FILE}@main", endpoint=hub.url, cache_dir=cache)
    monkeypatch.setenv("ZOO_MAX_DOWNLOAD", "100")
    with pytest.raises(WeightsDownloadError, match="ZOO_MAX_DOWNLOAD"):
        fetch(f"hf://{REPO}/{FILE}@main", endpoint=hub.url, cache_dir=cache)
    zoo.create("local/tiny.t", endpoint=hub.url, cache_dir=cache)


def test_18_a_full_disk_is_noticed_before_the_download(hub, create, monkeypatch):
    monkeypatch.setattr("zoo.weights.hub.shutil.disk_usage", lambda path: shutil._ntuple_diskusage(9, 9, 0))
    refused(create, WeightsDownloadError, "0 free", "zoo cache prune")
    assert not hub.requests("GET")


@pytest.mark.parametrize(
    "source",
    [
        "hf://",
        "hf://acme",
        "hf://acme/tiny",
        "hf://acme/../model.safetensors",
        "hf://acme/tiny/../../model.safetensors",
        "hf://acme/tiny//model.safetensors",
        "hf://acme/tiny/.hidden.safetensors",
        "hf://acme\\x/tiny/model.safetensors",
        "hf://acme--x/tiny/model.safetensors",
        "hf://acme/tiny/model.safetensors@",
        "hf://acme/tiny/model.safetensors@../../refs",
        "hf://acme/tiny/model.safetensors@a b",
        "hf://acme/tiny/model.bin",
        f"hf://acme/{'t' * 300}/model.safetensors",
    ],
)
def test_a_malformed_source_is_refused_without_a_request(hub, source, cache):
    with pytest.raises(SpecError):
        fetch(source, endpoint=hub.url, cache_dir=cache)
    assert not hub.requests()


def test_load_takes_a_tag_and_a_source_of_the_hub(hub, create, commit, cache):
    model = zoo.load(zoo.build("local/tiny"), "t", endpoint=hub.url, cache_dir=cache)
    assert model.labels == LABELS
    zoo.load(model, f"hf://{REPO}/{FILE}@{commit}", endpoint=hub.url, cache_dir=cache)
    assert model.labels is None
    with pytest.raises(WeightsMismatch):
        zoo.load(zoo.build("local/tiny", width=8), "t", endpoint=hub.url, cache_dir=cache)
