"""Downloads that go wrong: the right model or one right error, in time, and a clean cache.

The numbers are those of the list of fault tests in the project's notes on weights: 1 - 12 and 18 here.
"""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest
from faulty_hub import (
    DATA,
    FILE,
    LABELS,
    REPO,
    body,
    chunked,
    cut,
    endless,
    files_of,
    gzipped,
    hangs,
    headers,
    other_bytes,
    refused,
    rot,
    status,
    the_blob,
    tree,
)

import zoo
from zoo.errors import WeightsCorrupt, WeightsDownloadError, WeightsMismatch
from zoo.weights.fetch import fetch
from zoo.weights.hub import Hub, plain_http, within
from zoo.weights.hub_errors import TooSlow
from zoo.weights.hub_stated import stated
from zoo.weights.source import HubFile


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
    hub.corrupt(REPO, FILE)  # back to the published bytes
    create()


def test_03_damaged_once_is_fetched_again_with_a_warning(hub, create):
    hub.breaks(other_bytes, "GET", times=1)
    with pytest.warns(UserWarning, match="arrived damaged") as told:
        create()
    assert len(told) == 1
    assert len(hub.requests("GET")) == 2


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


def test_04_a_link_that_leads_out_of_the_cache_is_replaced_and_its_target_left_alone(create, cache, tmp_path):
    create()
    (entry,) = (p for p in cache.rglob(FILE))
    precious = tmp_path / "precious"
    precious.write_bytes(b"of the user's")
    entry.unlink()
    entry.symlink_to(precious)
    with pytest.warns(UserWarning, match="fetched again"):
        create()
    assert precious.read_bytes() == b"of the user's"


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
    assert not endless.reached_its_end


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
def test_10_too_many_requests_waits_as_long_as_it_is_told(hub, create, method, monkeypatch):
    waited = []
    for module in ("zoo.weights.hub", "huggingface_hub.utils._http"):
        monkeypatch.setattr(f"{module}.time.sleep", waited.append)
    hub.breaks(status(429, Retry_After="7", ratelimit='"api";r=0;t=7'), method, times=1)
    create()
    assert 7 <= sum(waited) < 10


def test_10_a_hub_that_asks_for_an_hour_is_not_waited_for(hub, create):
    hub.breaks(status(429, Retry_After="3600"), "HEAD")
    refused(create, WeightsDownloadError, "429")
    assert len(hub.requests()) == 1


def test_11_a_hub_that_does_not_answer_is_an_error_within_the_time_limit(hub, create):
    hub.breaks(hangs(3.0), "HEAD")
    start = time.monotonic()
    refused(create, WeightsDownloadError, "in time")
    assert time.monotonic() - start < 2.0


def dripping(request, response):
    """The right bytes, one at a time, each well within the client's limit."""
    data = response.body

    def chunks():
        for i in range(200):
            yield data[i : i + 1]
            time.sleep(0.02)

    response.body = chunks()
    return response


def test_11_a_hub_that_drips_is_not_waited_for(hub, create, cache, monkeypatch):
    monkeypatch.setattr("zoo.weights.hub.GRACE", 0.3)
    monkeypatch.setattr("zoo.weights.hub.SLOWEST", 1 << 40)
    hub.breaks(dripping, "GET")
    start = time.monotonic()
    refused(create, WeightsDownloadError, "too slow")
    assert time.monotonic() - start < 2.0


def test_11_an_answer_in_drops_has_a_limit_in_all(monkeypatch):
    with pytest.raises(TooSlow, match="not done after 0 s"):
        within(0.05, lambda: time.sleep(1))
    with pytest.raises(KeyError):
        within(5, lambda: {}["a"])
    assert within(5, lambda: None) is None


def test_xet_is_off_while_any_thread_downloads(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", False)
    from huggingface_hub import constants

    first, second = plain_http(), plain_http()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert constants.HF_HUB_DISABLE_XET
    second.__exit__(None, None, None)
    assert not constants.HF_HUB_DISABLE_XET


def test_what_is_stated_in_one_thread_is_not_told_in_another(hub, cache, commit):
    from huggingface_hub import file_download

    with stated("a lie"):
        assert file_download.get_hf_file_metadata("an address") == "a lie"
        assert within(5, lambda: Hub(hub.url, cache).ask(HubFile(REPO, FILE, commit))).commit == commit
    assert Hub(hub.url, cache).ask(HubFile(REPO, FILE)).commit == commit


def test_12_nobody_there_is_an_error_within_the_same_limit(create, hub, cache):
    start = time.monotonic()
    with pytest.raises(WeightsDownloadError, match="cannot be reached"):
        zoo.create("local/tiny.t", endpoint="http://127.0.0.1:9", cache_dir=cache)
    assert time.monotonic() - start < 2.0


def test_18_a_full_disk_is_noticed_before_the_download(hub, create, monkeypatch):
    monkeypatch.setattr("zoo.weights.hub.shutil.disk_usage", lambda path: shutil._ntuple_diskusage(9, 9, 0))
    refused(create, WeightsDownloadError, "0 free", "zoo cache prune")
    assert not hub.requests("GET")


def test_load_takes_a_tag_and_a_source_of_the_hub(hub, create, commit, cache):
    model = zoo.load(zoo.build("local/tiny"), "t", endpoint=hub.url, cache_dir=cache)
    assert model.labels == LABELS
    zoo.load(model, f"hf://{REPO}/{FILE}@{commit}", endpoint=hub.url, cache_dir=cache)
    assert model.labels is None
    with pytest.raises(WeightsMismatch):
        zoo.load(zoo.build("local/tiny", width=8), "t", endpoint=hub.url, cache_dir=cache)
