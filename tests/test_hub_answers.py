"""What a Hub may answer instead of a file, and what a source may mean: fault tests 13 - 17, and unpinned sources."""

from __future__ import annotations

import shutil
import traceback
import tracemalloc

import pytest
from faulty_hub import DATA, FILE, REPO, body, files_of, headers, refused, rot, status, tiny_bytes, tree

import zoo
from zoo.errors import (
    SpecError,
    WeightsAccessDenied,
    WeightsCorrupt,
    WeightsDownloadError,
    WeightsNotFound,
    WeightsOffline,
)
from zoo.weights.cached import digest_of
from zoo.weights.fetch import fetch, fetch_from_hub
from zoo.weights.hub import Hub
from zoo.weights.source import HubFile

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


SECOND_THOUGHTS = {
    "etag /": lambda evil: headers(X_Linked_Etag=f'"{evil}"'),
    "etag ..": lambda evil: headers(X_Linked_Etag=f'"../../../{evil.name}"'),
    "other commit": lambda evil: headers(X_Repo_Commit="0" * 40),
    "gone, commit ..": lambda evil: status(404, "EntryNotFound", X_Repo_Commit=f"../../../{evil.name}"),
}


@pytest.mark.parametrize("lie", SECOND_THOUGHTS.values(), ids=SECOND_THOUGHTS)
def test_15_the_client_makes_paths_of_nothing_that_was_not_looked_at(hub, create, cache, lie):
    evil = cache.parent / "evil"

    def turns(request, response):
        return lie(evil)(request, response) if len(hub.requests("HEAD")) > 1 else response

    hub.breaks(turns, "HEAD")
    create()
    assert [p.name for p in cache.parent.iterdir()] == [cache.name]
    assert len(hub.requests("HEAD")) == 1


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


@pytest.mark.parametrize("token", ["hf_secret\n", "hf_ secret", "hf_sécret", ""])
def test_a_token_that_cannot_be_sent_is_not_repeated(hub, commit, cache, token):
    with pytest.raises(SpecError, match="the token is not one word") as caught:
        fetch(f"hf://{REPO}/{FILE}@{commit}", endpoint=hub.url, cache_dir=cache, token=token)
    assert "cret" not in "".join(traceback.format_exception(caught.value))
    assert not hub.requests()


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
    readme = HubFile(REPO, "README.md")
    assert fetch_from_hub(readme, Hub(hub.url, cache)).path.read_bytes() == b"# tiny"
    shutil.rmtree(cache)
    hub.corrupt(REPO, "README.md")
    with pytest.raises(WeightsCorrupt), pytest.warns(UserWarning, match="arrived damaged"):
        fetch_from_hub(readme, Hub(hub.url, cache))


@pytest.mark.parametrize("like", ["0" * 40, "0" * 64])
def test_a_file_of_any_size_is_hashed_in_pieces(tmp_path, like):
    (path := tmp_path / "large").write_bytes(bytes(16 << 20))
    tracemalloc.start()
    digest_of(path, like=like)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2 << 20


def test_a_cache_in_the_folder_of_nobody_is_one_error(hub, commit):
    with pytest.raises(WeightsNotFound, match="write the folder out"):
        fetch(f"hf://{REPO}/{FILE}@{commit}", endpoint=hub.url, cache_dir="~nosuchuser/cache")


def test_unreviewed_weights_have_a_size_limit(hub, commit, cache, monkeypatch):
    monkeypatch.setenv("ZOO_MAX_DOWNLOAD", "many")
    with pytest.raises(SpecError, match="a number of bytes"):
        fetch(f"hf://{REPO}/{FILE}@main", endpoint=hub.url, cache_dir=cache)
    monkeypatch.setenv("ZOO_MAX_DOWNLOAD", "100")
    with pytest.raises(WeightsDownloadError, match="ZOO_MAX_DOWNLOAD"):
        fetch(f"hf://{REPO}/{FILE}@main", endpoint=hub.url, cache_dir=cache)
    zoo.create("local/tiny.t", endpoint=hub.url, cache_dir=cache)


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
