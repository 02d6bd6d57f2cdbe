"""Fetching where more than one process, a signal, a full disk or a cache without permission is involved (18 - 25)."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from faulty_hub import FILE, REPO, cut, tiny_bytes, tiny_spec, tiny_weights, tree

import zoo
from zoo.cli import commands
from zoo.errors import WeightsDownloadError
from zoo.weights.fetch import fetch

DATA = os.urandom(3 << 20)
PRELUDE = """
import sys
from zoo.errors import ZooError
from zoo.weights.fetch import fetch
endpoint, cache, source = sys.argv[1:]
def get():
    return fetch(source, endpoint=endpoint or None, cache_dir=cache or None).path.read_bytes()
"""
# Even root obeys permissions without these rights.
AS_ANYBODY = """
import ctypes
class Header(ctypes.Structure): _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]
class Data(ctypes.Structure): _fields_ = [(n, ctypes.c_uint32) for n in ("effective", "permitted", "inheritable")]
assert ctypes.CDLL(None).capset(ctypes.byref(Header(0x20080522, 0)), (Data * 2)()) == 0
"""
REFUSED = """
try:
    get()
except ZooError as error:
    print(type(error).__name__, error)
"""


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def source(hub) -> str:
    return f"hf://{REPO}/{FILE}@{hub.add(REPO, {FILE: DATA})}"


@pytest.fixture
def child(hub, cache, source):
    """`child(code)` starts a process that may `get()`; it is ended with the test."""
    running = []

    def start(code: str, *, endpoint: str | None = None, folder: Path | str = cache, **variables: str):
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "ZOO_"))}
        environment |= {"HF_HUB_DISABLE_IMPLICIT_TOKEN": "1", "HF_HUB_DOWNLOAD_TIMEOUT": "5", **variables}
        environment["PYTHONPATH"] = os.pathsep.join(sys.path)
        arguments = [hub.url if endpoint is None else endpoint, str(folder), source]
        running.append(
            subprocess.Popen(
                [sys.executable, "-W", "error", "-c", PRELUDE + code, *arguments],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.communicate()


def output(process) -> str:
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return out


def until(condition) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def blobs(cache: Path) -> list[Path]:
    return [p for p in cache.rglob("*") if p.parent.name == "blobs"]


def test_the_environment_names_the_mirror_and_the_cache(hub, child, tmp_path):
    print_size = "print(len(get()))"
    home = tmp_path / "home with spaces ü"
    assert output(child(print_size, endpoint="", folder="", HF_ENDPOINT=hub.url, HF_HOME=str(home))) == f"{len(DATA)}\n"
    assert (home / "hub" / "models--acme--tiny").is_dir()
    before = len(hub.requests())
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(home)}
    assert output(child(print_size, endpoint="", folder="", **offline)) == f"{len(DATA)}\n"
    assert output(child(REFUSED, HF_HUB_OFFLINE="1")).startswith("WeightsOffline")
    assert len(hub.requests()) == before


def test_18_a_disk_that_fills_up_is_one_error_and_leaves_nothing(child, cache):
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))"
    text = output(child(limit + REFUSED))
    assert text.startswith("WeightsDownloadError")
    assert f"of {len(DATA):,} bytes does not fit" in text
    assert "zoo cache prune" in text
    assert not blobs(cache)


def test_19_a_cache_that_can_only_be_read_serves_what_it_has(child, cache, source, hub):
    fetch(source, endpoint=hub.url, cache_dir=cache)
    folders = [cache, *(p for p in cache.rglob("*") if p.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    try:
        assert output(child(AS_ANYBODY + "print(len(get()))")) == f"{len(DATA)}\n"
        (stamp,) = (cache / "models--acme--tiny" / ".zoo").iterdir()
        stamp.unlink()
        assert output(child(AS_ANYBODY + "print(len(get()))")) == f"{len(DATA)}\n"
        text = output(child(AS_ANYBODY + f"source = source[:-40] + '{hub.add(REPO, {FILE: b'new'})}'" + REFUSED))
        assert text.startswith("WeightsDownloadError")
        assert "cannot be written" in text
    finally:
        for folder in folders:
            folder.chmod(0o755)


def test_19_a_cache_that_cannot_be_made_says_which(hub, source, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(WeightsDownloadError, match="cannot be written"):
        fetch(source, endpoint=hub.url, cache_dir=tmp_path / "file" / "cache")


def test_20_eight_processes_download_a_cold_file_once(hub, child, cache):
    processes = [child("print(len(get()))") for _ in range(8)]
    assert [output(p) for p in processes] == [f"{len(DATA)}\n"] * 8
    assert len(hub.requests("GET")) == 1


def test_21_eight_threads_download_a_cold_file_once(hub, cache, source, monkeypatch):
    monkeypatch.setattr("zoo.weights.hub.LOCK_WAIT", 20.0)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: fetch(source, endpoint=hub.url, cache_dir=cache).path.read_bytes(), range(8)))
    assert all(data == DATA for data in found)
    assert len(hub.requests("GET")) == 1


def test_22_two_processes_heal_one_file(hub, child, cache, source):
    fetch(source, endpoint=hub.url, cache_dir=cache)
    (blob,) = blobs(cache)
    os.truncate(blob, 100)
    two = [child("import warnings; warnings.simplefilter('ignore'); print(len(get()))") for _ in range(2)]
    assert [output(p) for p in two] == [f"{len(DATA)}\n"] * 2
    assert blob.read_bytes() == DATA
    assert len(hub.requests("GET")) == 2


def test_23_a_killed_download_is_taken_up_by_the_next_and_its_remains_are_pruned(hub, child, cache, source):
    hub.breaks(cut(1 << 20, stall=20), "GET", times=1)
    victim = child("get()")
    until(lambda: any(p.suffix == ".incomplete" for p in blobs(cache)))
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    assert fetch(source, endpoint=hub.url, cache_dir=cache).path.read_bytes() == DATA
    assert len(blobs(cache)) == 2
    with zoo.testing.isolated():
        zoo.register(tiny_spec(t=zoo.Weights(source=source)))
        pruned = CliRunner().invoke(commands, ["cache", "prune", "--yes", "--cache-dir", str(cache)])
    assert pruned.exit_code == 0, pruned.output
    assert [p.read_bytes() for p in blobs(cache)] == [DATA]


def test_24_an_interrupted_download_leaves_nothing(hub, child, cache):
    hub.breaks(cut(1 << 20, stall=20), "GET", times=1)
    # A shell starts background jobs, and whatever they start, with this signal ignored.
    victim = child("import signal; signal.signal(signal.SIGINT, signal.default_int_handler); get()")
    until(lambda: any(p.suffix == ".incomplete" for p in blobs(cache)))
    victim.send_signal(signal.SIGINT)
    _, err = victim.communicate(timeout=20)
    assert "KeyboardInterrupt" in err
    assert not blobs(cache)


@pytest.mark.parametrize("kind", [".lock", ".zoo.lock"])
def test_25_a_lock_that_is_never_released_is_waited_for_with_an_end(hub, child, cache, source, kind):
    lock = cache / ".locks" / "models--acme--tiny" / f"{hashlib.sha256(DATA).hexdigest()}{kind}"
    lock.parent.mkdir(parents=True)
    hold = f"lock = FileLock({str(lock)!r}); lock.acquire(); print('held', flush=True); time.sleep(60)"
    holder = child(f"import time; from filelock import FileLock; {hold}")
    assert holder.stdout.readline() == "held\n"
    start = time.monotonic()
    with pytest.raises(WeightsDownloadError) as caught:
        fetch(source, endpoint=hub.url, cache_dir=cache)
    assert str(lock) in str(caught.value)
    assert source in str(caught.value)
    assert time.monotonic() - start < 3
    holder.kill()
    assert fetch(source, endpoint=hub.url, cache_dir=cache).path.read_bytes() == DATA


def test_25_a_slow_download_of_another_process_is_not_a_hung_one(hub, cache, source, monkeypatch):
    def slow(request, response):
        data = response.body

        def chunks():
            for start in range(0, len(data), 1 << 19):
                yield data[start : start + (1 << 19)]
                time.sleep(0.3)

        response.headers["Content-Length"] = str(len(data))
        response.body = chunks()
        return response

    # The client writes as bytes arrive, so that progress can be seen from outside.
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1 << 18)
    hub.breaks(slow, "GET")
    other = threading.Thread(target=lambda: fetch(source, endpoint=hub.url, cache_dir=cache))
    other.start()
    until(lambda: any(p.suffix == ".incomplete" for p in blobs(cache)))
    assert fetch(source, endpoint=hub.url, cache_dir=cache).path.read_bytes() == DATA
    other.join()
    assert len(hub.requests("GET")) == 1


def test_29_a_file_replaced_or_removed_under_a_mapped_model_does_not_reach_it(hub, cache):
    data = tiny_bytes()
    commit = hub.add(REPO, {FILE: data})
    with zoo.testing.isolated():
        zoo.register(tiny_spec(t=tiny_weights(data, commit)))
        model = zoo.create("local/tiny.t", endpoint=hub.url, cache_dir=cache)
        before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
        (blob,) = blobs(cache)
        other = blob.with_name("other")
        other.write_bytes(bytes(len(data)))
        other.replace(blob)
        assert all(torch.equal(before[key], tensor) for key, tensor in model.state_dict().items())
        blob.unlink()
        with torch.no_grad():
            model.fc.weight.add_(1.0)  # training writes into memory, never into the file
        assert torch.equal(model.fc.weight, before["fc.weight"] + 1)


def test_29_training_a_mapped_model_leaves_the_cache_alone(hub, cache):
    data = tiny_bytes()
    commit = hub.add(REPO, {FILE: data})
    with zoo.testing.isolated():
        zoo.register(tiny_spec(t=tiny_weights(data, commit)))
        model = zoo.create("local/tiny.t", endpoint=hub.url, cache_dir=cache)
        before = tree(cache)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.zero_()
    assert tree(cache) == before
