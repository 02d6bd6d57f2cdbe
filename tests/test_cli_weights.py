"""`zoo download` and `zoo cache`: what they print, what they delete, and how they exit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from faulty_hub import FILE, REPO, tiny_bytes, tiny_spec, tiny_weights
from huggingface_hub import hf_hub_download

import zoo
from zoo.cli import commands
from zoo.testing.loopback_hub import LoopbackHub
from zoo.weights.fetch import fetch

DATA, OTHER = tiny_bytes(), tiny_bytes(seed=1)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def commits(hub, monkeypatch):
    """Two commits on the Hub, of which the first is the weights of local/tiny.t, and the Hub is the client's."""
    from zoo.weights.hub import Hub

    found = hub.add(REPO, {FILE: DATA}), hub.add(REPO, {FILE: OTHER})
    monkeypatch.setattr(Hub, "__init__", _configured_for(hub.url))
    with zoo.testing.isolated():
        zoo.register(tiny_spec(t=tiny_weights(DATA, found[0])))
        yield found


def _configured_for(url):
    from zoo.weights.hub import Hub

    original = Hub.__init__
    return lambda self, endpoint=None, cache_dir=None, token=None: original(self, endpoint or url, cache_dir, token)


def run(*arguments, code=0, **options):
    result = CliRunner().invoke(commands, [str(a) for a in arguments], **options)
    assert result.exit_code == code, result.output
    return result


def test_download_prints_where_the_files_are_and_goes_on_after_a_failure(hub, commits, cache):
    names = ["local/tiny.t", "local/nothing", f"hf://{REPO}/{FILE}", f"hf-hub:{REPO}"]
    done = run("download", *names, "--cache-dir", cache, code=3)
    first, second = map(Path, done.stdout.split())
    assert first.read_bytes() == DATA
    assert second.read_bytes() == OTHER
    assert "local/nothing: no model" in done.stderr
    assert f"hf-hub:{REPO}: " in done.stderr
    assert "no such file" in done.stderr
    before = len(hub.requests())
    run("download", "local/tiny.t", "--cache-dir", cache)
    assert len(hub.requests()) == before
    assert "default weights" in run("download", "local/tiny", "--cache-dir", cache, code=3).stderr


def test_cache_shows_what_is_used_by_whom(hub, commits, cache):
    assert json.loads(run("cache", "--json", "--cache-dir", cache).stdout) == []
    run("download", "local/tiny.t", f"hf://{REPO}/{FILE}", "--cache-dir", cache)
    rows = {row["commit"]: row for row in json.loads(run("cache", "--json", "--cache-dir", cache).stdout)}
    assert set(rows) == set(commits)
    assert rows[commits[0]]["used_by"] == ["local/tiny.t"]
    assert rows[commits[1]]["refs"] == ["main"]
    assert rows[commits[0]]["size"] == len(DATA)
    text = run("cache", "--cache-dir", cache).stdout
    assert REPO in text
    assert "local/tiny.t" in text


def test_prune_deletes_what_nothing_refers_to_and_asks_first(hub, commits, cache):
    run("download", "local/tiny.t", f"hf://{REPO}/{FILE}", "--cache-dir", cache)
    third = hub.add(REPO, {FILE: tiny_bytes(seed=2)})
    run("download", f"hf://{REPO}/{FILE}", "--cache-dir", cache)
    root = cache / "models--acme--tiny"
    (root / "blobs" / f"{'0' * 64}.12345678.incomplete").write_bytes(b"half")
    foreign = cache / "models--some--body" / "blobs"
    foreign.mkdir(parents=True)
    (foreign / f"{'0' * 64}.12345678.incomplete").write_bytes(b"not of zoo's")
    asked = run("cache", "prune", "--cache-dir", cache, input="n\n", code=0)
    assert "incomplete" in asked.stdout
    assert commits[1] in asked.stdout
    assert len(list((root / "snapshots").iterdir())) == 3
    run("cache", "prune", "--cache-dir", cache, input="y\n")
    assert {p.name for p in (root / "snapshots").iterdir()} == {commits[0], third}
    assert len(list((root / "blobs").iterdir())) == len(list((root / ".zoo").iterdir())) == 2
    assert len(list(foreign.iterdir())) == 1
    assert "nothing to delete" in run("cache", "prune", "--cache-dir", cache).stdout
    before = len(hub.requests())
    assert zoo.create("local/tiny.t", cache_dir=cache).labels
    assert len(hub.requests()) == before


def test_prune_spares_what_others_have_fetched_into_the_same_cache(hub, commits, cache, tmp_path):
    run("download", "local/tiny.t", f"hf://{REPO}/{FILE}", "--cache-dir", cache)
    theirs = hub.add(REPO, {FILE: tiny_bytes(seed=2), "vocab.txt": b"a"})
    both = hub.add(REPO, {FILE: tiny_bytes(seed=3)})
    for commit, file in ((theirs, FILE), (both, "vocab.txt")):
        hf_hub_download(REPO, file, revision=commit, endpoint=hub.url, cache_dir=cache)
    run("download", f"hf://{REPO}/{FILE}@{both}", "--cache-dir", cache)
    hub.add(REPO, {FILE: tiny_bytes(seed=4)})
    run("download", f"hf://{REPO}/{FILE}", "--cache-dir", cache)
    (tmp_path / "elsewhere").mkdir()
    roundabout = tmp_path / "elsewhere" / ".." / cache.name
    pruned = run("cache", "prune", "--yes", "--cache-dir", roundabout).stdout
    assert [line.split()[4] for line in pruned.splitlines()] == [f"{REPO}@{commits[1]}"]
    snapshots = cache / "models--acme--tiny" / "snapshots"
    main = hub._store.repositories[REPO].refs["main"]
    assert {p.name for p in snapshots.iterdir()} == {commits[0], theirs, both, main}
    assert all((p / FILE).is_file() for p in snapshots.iterdir())
    assert len(list((cache / "models--acme--tiny" / "blobs").iterdir())) == 5


def test_prune_spares_a_download_that_is_going_on(hub, commits, cache):
    import threading

    from filelock import FileLock

    fetch(f"hf://{REPO}/{FILE}", endpoint=hub.url, cache_dir=cache)
    part = cache / "models--acme--tiny" / "blobs" / f"{'1' * 64}.12345678.incomplete"
    part.write_bytes(b"half")
    held, done = threading.Event(), threading.Event()

    def download():
        with FileLock(cache / ".locks" / "models--acme--tiny" / f"{'1' * 64}.lock"):
            held.set()
            done.wait(20)

    other = threading.Thread(target=download)
    other.start()
    held.wait(20)
    run("cache", "prune", "--yes", "--cache-dir", cache)
    assert part.exists()
    done.set()
    other.join()
    run("cache", "prune", "--yes", "--cache-dir", cache)
    assert not part.exists()


def test_a_progress_bar_is_for_terminals(hub, commits, cache, capfd, monkeypatch):
    fetch(f"hf://{REPO}/{FILE}", endpoint=hub.url, cache_dir=cache)
    assert capfd.readouterr() == ("", "")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    fetch(f"hf://{REPO}/{FILE}@{commits[0]}", endpoint=hub.url, cache_dir=cache)
    out, err = capfd.readouterr()
    assert out == ""
    assert FILE in err


def test_the_loopback_hub_is_there_for_plugin_authors(tmp_path):
    with zoo.testing.LoopbackHub() as hub, zoo.testing.isolated():
        assert isinstance(hub, LoopbackHub)
        commit = hub.add("me/net", {FILE: DATA})
        zoo.register(tiny_spec(t=zoo.Weights(source=f"hf://me/net/{FILE}@{commit}", num_classes=5)))
        zoo.create("local/tiny.t", endpoint=hub.url, cache_dir=tmp_path)
        assert hub.requests("GET") == [f"GET /me/net/{commit}/{FILE}"]
        hub.corrupt("me/net", FILE)
        with pytest.raises(zoo.ZooError), pytest.warns(UserWarning, match="damaged"):
            zoo.create("local/tiny.t", endpoint=hub.url, cache_dir=tmp_path / "fresh")
