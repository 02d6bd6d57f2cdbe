"""tools/pin.py: what a Hub states of a file is written down, and what fixes no bytes is not."""

from __future__ import annotations

import http.server
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "tools"))
import pin

COMMIT, DIGEST = "1" * 40, "a" * 64


@contextmanager
def hub(digest: str, commit: str = COMMIT) -> Iterator[tuple[str, list[str]]]:
    """A Hub that knows one thing about every file."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            for name, value in (("ETag", f'"{digest}"'), ("X-Repo-Commit", commit), ("Content-Length", "123")):
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
        server.shutdown()


def test_one_request_fixes_a_file():
    with hub(DIGEST) as (url, asked):
        found = pin.look_up("hf://owner/repo/model.safetensors@refs/pr/3", url)
    assert found == (COMMIT, DIGEST, 123)
    assert asked == ["/owner/repo/resolve/refs%2Fpr%2F3/model.safetensors"]


@pytest.mark.parametrize(("digest", "commit"), [("b" * 40, COMMIT), (DIGEST, "main"), ("", COMMIT)])
def test_what_fixes_no_bytes_is_refused(digest, commit):
    with hub(digest, commit) as (url, _), pytest.raises(ValueError, match="fix no bytes"):
        pin.look_up("hf://owner/repo/model.safetensors@main", url)


def test_everything_that_is_not_pinned_is_looked_up_and_written_as_python(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(pin, "unpinned", lambda: ["hf://a/b/model.safetensors@main", "hf://c/d/model.safetensors@main"])
    monkeypatch.setattr(pin, "FILE", tmp_path / "pins.py")
    pin.FILE.write_text('"""Pins."""\n\nPINS: old')
    with hub(DIGEST) as (url, asked):
        assert pin.main(["--endpoint", url]) == 0
    assert len(asked) == 2
    found: dict[str, object] = {}
    exec(pin.FILE.read_text(), found)
    assert found["PINS"]["hf://c/d/model.safetensors@main"] == (COMMIT, DIGEST, 123)
    assert pin.main(["--check"]) == 1
    assert "hf://a/b/model.safetensors@main" in capsys.readouterr().out


def test_a_pin_reaches_the_weights(monkeypatch):
    from zoo_transformer import checkpoints, pins

    monkeypatch.setitem(pins.PINS, "hf://owner/repo/model.safetensors@main", (COMMIT, DIGEST, 123))
    weights = checkpoints._hub("owner/repo", "k400")
    assert weights.source == f"hf://owner/repo/model.safetensors@{COMMIT}"
    assert (weights.sha256, weights.size, weights.pinned) == (DIGEST, 123, True)
    assert not checkpoints._hub("owner/other", "k400").pinned


def test_what_is_published_as_safetensors_is_asked_for():
    sources = pin.unpinned()
    assert all(pin.SOURCE.fullmatch(source) for source in sources)
