"""`zoo convert NAME.TAG`: a published pickle is downloaded, verified, converted, and found by `create` from then on."""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from faulty_hub import body, cut, endless, hangs, status, tree
from models import Tiny
from pickles import saved

import zoo
from zoo.cli import commands
from zoo.convert import convert_tag
from zoo.errors import (
    SpecError,
    WeightsAccessDenied,
    WeightsCorrupt,
    WeightsDownloadError,
    WeightsMismatch,
    WeightsNotFound,
    WeightsOffline,
)
from zoo.testing import perturb
from zoo.testing.loopback_hub import Response
from zoo.weights import web
from zoo.weights.conversions import Conversions, Provenance

STATE = perturb(Tiny()).state_dict()
DATA = saved({"state_dict": {k.replace("stem.", "conv1."): v for k, v in STATE.items()}})
DIGEST = hashlib.sha256(DATA).hexdigest()
FILE = "tiny.ckpt"  # which the loopback Hub serves itself, without a second server
CHILD = f"""
import sys
import zoo
from zoo.convert import convert_tag
url, cache, layout = sys.argv[1:]
weights = zoo.Weights(origin={{"url": url, "sha256": "{DIGEST[:8]}", "format": "pth"}}, num_classes=5)
zoo.register(zoo.ModelSpec(name="tiny", builder="models:tiny", weights={{"t": weights}},
                           layouts={{"theirs": f"models:{{layout}}"}}))
print(convert_tag("local/tiny.t", cache_dir=cache).path)
"""


@pytest.fixture
def url(hub) -> str:
    hub.add("acme/tiny", {FILE: DATA})
    return f"{hub.url}/acme/tiny/resolve/main/{FILE}"


@pytest.fixture
def register(url):
    def register(**origin: str) -> None:
        origin = {"url": url, "sha256": DIGEST[:8], "format": "pth", **origin}
        tags = {"t": zoo.Weights(origin=origin, num_classes=5), "local": zoo.Weights(source="x.safetensors")}
        spec = zoo.ModelSpec(
            name="tiny", builder="models:tiny", weights=tags, default_tag="t", layouts={"theirs": "models:renamed"}
        )
        zoo.register(spec)

    with zoo.testing.isolated():
        register()
        yield register


@pytest.fixture
def no_child(monkeypatch):
    """What is wrong with a download is found out before anything is opened."""

    def never(*args: object) -> None:
        raise AssertionError("a pickle was opened")

    monkeypatch.setattr("zoo.convert.convert_in_child", never)


def run(*arguments, code=0):
    result = CliRunner().invoke(commands, [str(a) for a in arguments])
    assert result.exit_code == code, result.output
    return result


def files(cache: Path) -> list[str]:
    return [name for name in tree(cache) if name.endswith((".safetensors", ".json", "source"))]


def test_convert_once_and_create_finds_it_without_a_network(hub, register, cache):
    with pytest.raises(WeightsNotFound, match=r"run `zoo convert local/tiny\.t --cache-dir") as caught:
        zoo.create("local/tiny.t", cache_dir=cache)
    assert f"downloads {hub.url}" in str(caught.value)
    shown = " ".join(run("info", "local/tiny.t").stdout.split())
    assert "needs conversion: published as a pickle only, run `zoo convert local/tiny.t` once" in shown
    rows = {row["name"]: row for row in json.loads(run("list", "--json").stdout)}
    assert rows["local/tiny.t"]["weights"] == "needs conversion"
    assert rows["local/tiny.local"]["weights"] == "not pinned"
    path = Path(run("convert", "local/tiny.t", "--cache-dir", cache).stdout.rstrip("\n"))
    assert len(hub.requests()) == 1
    note = json.loads((path.parent / "provenance.json").read_text())
    assert note == {
        "model": "local/tiny.t",
        "source_url": f"{hub.url}/acme/tiny/resolve/main/{FILE}",
        "source_sha256": DIGEST,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "size": path.stat().st_size,
        "layout": "theirs",
        "torch": torch.__version__,
    }
    assert len(files(cache)) == 2
    for model in (
        zoo.create("local/tiny.t", cache_dir=cache),
        zoo.create("local/tiny", pretrained=True, cache_dir=cache),
        zoo.load(zoo.build("local/tiny"), "t", cache_dir=cache),
    ):
        assert all(torch.equal(tensor, STATE[key]) for key, tensor in model.state_dict().items())
    assert run("download", "local/tiny.t", "--cache-dir", cache).stdout == f"{path}\n"
    assert run("convert", "local/tiny.t", "--cache-dir", cache).stdout == f"{path}\n"
    assert len(hub.requests()) == 1
    assert len(list((path.parent / ".zoo").iterdir())) == 1, "stamped, so that it is not hashed every time"

    (row,) = json.loads(run("cache", "--json", "--cache-dir", cache).stdout)
    assert (row["commit"], row["used_by"], row["path"]) == (DIGEST, ["local/tiny.t"], str(path))
    assert "nothing to delete" in run("cache", "prune", "--cache-dir", cache).stdout
    work = path.parent / "incoming-x"
    work.mkdir()
    (work / "source").write_bytes(b"half")
    (path.parent / f"{'0' * 64}.safetensors").write_bytes(b"nobody's")
    run("cache", "prune", "--yes", "--cache-dir", cache)
    assert len(files(cache)) == 2

    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(WeightsCorrupt, match=r"has the digest .* run `zoo convert local/tiny\.t .* again"):
        zoo.create("local/tiny.t", cache_dir=cache)
    register(sha256=f"{(int(DIGEST[:8], 16) + 1) % (1 << 32):08x}")  # published anew
    with pytest.raises(WeightsNotFound, match="has not been converted"):
        zoo.create("local/tiny.t", cache_dir=cache)
    assert "not used any more" in run("cache", "prune", "--yes", "--cache-dir", cache).stdout
    assert not files(cache)


@pytest.mark.parametrize(
    ("fault", "error", "words"),
    [
        (body(DATA[:-1] + b"x"), WeightsCorrupt, "its sha256 is"),
        (body(b""), WeightsCorrupt, "its sha256 is"),
        (cut(1000), WeightsDownloadError, "broke off after 1,000 of"),
        (cut(0), WeightsDownloadError, "broke off after 0 of"),
        (cut(1000, reset=True), WeightsDownloadError, "onnection reset"),
        (cut(1000, stall=3), WeightsDownloadError, "no answer for 0.5 s"),
        (hangs(3), WeightsDownloadError, "no answer for 0.5 s"),
        (endless, WeightsDownloadError, "more than the 100,000 bytes"),
        (body(bytes(200_000)), WeightsDownloadError, "more than the 100,000 bytes"),
        (status(404), WeightsNotFound, "nothing there"),
        (status(403), WeightsAccessDenied, "refuses"),
        (status(503), WeightsDownloadError, "answers 503"),
        (lambda *_: Response(302, {"Location": "http://example.org/a.pth"}), WeightsDownloadError, "not followed"),
        (lambda *_: Response(302, {"Location": "file:///etc/passwd"}), WeightsDownloadError, "answers 302"),
        (lambda *_: Response(302, {"Location": f"/acme/tiny/resolve/main/{FILE}"}), WeightsDownloadError, "302"),
    ],
)
def test_a_download_that_goes_wrong_is_one_error_and_leaves_nothing(
    hub, register, cache, monkeypatch, no_child, fault, error, words
):
    monkeypatch.setattr(web, "TIMEOUT", 0.5)
    monkeypatch.setenv("ZOO_MAX_DOWNLOAD", "100000")
    hub.breaks(fault, "GET", match=FILE)
    start = time.monotonic()
    with pytest.raises(error, match=words) as caught:
        convert_tag("local/tiny.t", cache_dir=cache)
    assert time.monotonic() - start < 5
    assert caught.value.hint
    assert FILE in str(caught.value)
    assert not files(cache)
    assert not endless.reached_its_end


def test_a_server_that_drips_is_not_waited_for(hub, register, cache, monkeypatch, no_child):
    monkeypatch.setattr(web, "GRACE", 0.3)
    monkeypatch.setattr(web, "SLOWEST", 1 << 30)

    def drips(request, response):
        data = response.body

        def chunks():
            for i in range(20):
                yield data[i : i + 1]
                time.sleep(0.05)

        response.body = chunks()
        return response

    hub.breaks(drips, "GET", match="/")
    with pytest.raises(WeightsDownloadError, match="too slow"):
        convert_tag("local/tiny.t", cache_dir=cache)
    assert not files(cache)


def test_from_https_only_https_is_followed():
    redirects, request = web._Redirects(), urllib.request.Request("https://example.org/a")
    for address in ("http://127.0.0.1:1/a", "http://example.org/a", "file:///a", "ftp://example.org/a"):
        with pytest.raises(OSError, match="not followed"):
            redirects.redirect_request(request, io.BytesIO(), 302, "", {}, address)
    assert redirects.redirect_request(request, io.BytesIO(), 302, "", {}, "https://cdn.example.org/a")
    for address in ("http://example.org/a", "ftp://example.org/a", "file:///a", "/a", "https://"):
        with pytest.raises(SpecError, match="not an https address"):
            web.download(address, io.BytesIO(), limit=1)


def test_a_full_disk_and_a_cache_that_cannot_be_made(register, url, tmp_path, no_child):
    with (
        Path("/dev/full").open("wb", buffering=0) as full,
        pytest.raises(WeightsDownloadError, match="does not fit on the disk"),
    ):
        web.download(url, full, limit=1 << 20)
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(WeightsDownloadError, match="cannot be written"):
        convert_tag("local/tiny.t", cache_dir=tmp_path / "file" / "cache")


def test_offline_and_names_that_need_no_conversion(register, cache, monkeypatch, no_child):
    for name, words in (("local/tiny", r"convert local/tiny\.t"), ("local/tiny.local", "needs no conversion")):
        with pytest.raises(SpecError, match=words):
            convert_tag(name, cache_dir=cache)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(WeightsOffline, match=r"zoo convert local/tiny\.t"):
        convert_tag("local/tiny.t", cache_dir=cache)
    assert not cache.exists()


@pytest.mark.slow
def test_what_does_not_fit_the_model_is_not_kept(hub, register, cache):
    other = saved({"state_dict": {"a": torch.ones(2)}})
    hub.breaks(body(other), "GET", match=FILE)
    register(sha256=hashlib.sha256(other).hexdigest())
    with pytest.raises(WeightsMismatch, match=r"known layout \(theirs\); it has 'a' and lacks"):
        convert_tag("local/tiny.t", cache_dir=cache)
    assert not files(cache)


def test_a_note_that_makes_no_sense_is_no_note(tmp_path):
    path = tmp_path / "provenance.json"
    sound = Provenance("m.t", "https://x/a", "0" * 64, "1" * 64, 3, "", "2.15").__dict__
    path.write_text(json.dumps(sound))
    assert Provenance.read(path) == Provenance(**sound)
    for wrong in ({"sha256": "../../x"}, {"size": "3"}, {"source_sha256": 0}, {"more": 1}, {"model": None}):
        path.write_text(json.dumps(sound | wrong))
        assert Provenance.read(path) is None
    for text in ("", "[]", "{}", "nan"):
        path.write_text(text)
        assert Provenance.read(path) is None


# --- several processes ------------------------------------------------------------------------------------------------


@pytest.fixture
def start(url, cache):
    """`start(layout)` converts in a process of its own, which ends with the test."""
    running = []

    def start(layout: str = "renamed") -> subprocess.Popen:
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "ZOO_"))}
        environment["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), *sys.path])
        arguments = [sys.executable, "-c", CHILD, url, str(cache), layout]
        running.append(subprocess.Popen(arguments, env=environment, stdout=subprocess.PIPE, text=True))
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.communicate()


def until(condition) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_two_processes_convert_one_tag_once(hub, register, cache, start):
    first, second = start(), start()
    paths = {process.communicate(timeout=120)[0] for process in (first, second)}
    assert (first.returncode, second.returncode) == (0, 0)
    assert len(paths) == 1
    assert len(hub.requests()) == 1
    assert len(files(cache)) == 2
    assert torch.equal(zoo.create("local/tiny.t", cache_dir=cache).fc.weight, STATE["fc.weight"])


@pytest.mark.parametrize("stage", ["download", pytest.param("conversion", marks=pytest.mark.slow)])
def test_a_killed_conversion_leaves_nothing_that_is_trusted(hub, register, cache, start, stage):
    if stage == "download":
        hub.breaks(cut(1000, stall=4), "GET", match=FILE, times=1)
    victim = start("sleeps")
    until(lambda: any(name.endswith("source") for name in files(cache)))
    if stage == "conversion":
        until(lambda: (parts := list(cache.rglob("source"))) and parts[0].stat().st_size == len(DATA))
        time.sleep(3)  # its child has started
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    assert [name.rpartition("/")[2] for name in files(cache)] == ["source"]
    with pytest.raises(WeightsNotFound):
        zoo.create("local/tiny.t", cache_dir=cache)
    hub.heals()
    assert "remains of a download" in run("cache", "prune", "--yes", "--cache-dir", cache).stdout
    assert not files(cache)
    convert_tag("local/tiny.t", cache_dir=cache)
    assert len(files(cache)) == 2


def test_prune_spares_a_conversion_that_is_going_on(register, cache):
    conversions = Conversions(cache)
    with conversions.turn("local/tiny.t") as work:
        (work / "source").write_bytes(b"half")
        assert conversions.leftovers() == []
        run("cache", "prune", "--yes", "--cache-dir", cache)
        assert work.exists()
    assert not work.exists()
