"""A Hub on which things go wrong as told, and a small model to fetch from it."""

from __future__ import annotations

import gzip
import hashlib
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from models import Tiny
from safetensors.torch import save

import zoo
from zoo.testing import perturb
from zoo.testing.loopback_hub import LoopbackHub, Request, ResetConnection, Response

REPO, FILE = "acme/tiny", "model.safetensors"
LABELS = ("a", "b", "c", "d", "e")
Fault = Callable[[Request, Response], Response]


class FaultyHub(LoopbackHub):
    """`hub.breaks(fault, "GET", times=1)`: the next GET of the weights' bytes goes through `fault`."""

    def __init__(self) -> None:
        super().__init__()
        self._faults: list[list] = []

    def breaks(self, fault: Fault, method: str, *, match: str = FILE, times: int = -1) -> None:
        self._faults.append([fault, method, match, times])

    def heals(self) -> None:
        self._faults.clear()

    def answer(self, request: Request) -> Response:
        response = super().answer(request)
        for rule in self._faults:
            fault, method, match, times = rule
            if request.method == method and match in request.path and times:
                rule[3] -= 1
                return fault(request, response)
        return response


# --- what can go wrong -----------------------------------------------------------------------------------------------


def status(code: int, error: str = "", message: str = "", **headers: str) -> Fault:
    """A refusal. In names of headers an underscore stands for a dash."""
    told = {"X-Error-Code": error, "X-Error-Message": message, **headers}
    return lambda request, response: Response(code, {k.replace("_", "-"): v for k, v in told.items() if v})


def headers(**changed: str | None) -> Fault:
    """Other headers; None removes one. An underscore stands for a dash."""

    def fault(request: Request, response: Response) -> Response:
        for name, value in changed.items():
            name = name.replace("_", "-")
            response.headers.pop(name, None)
            if value is not None:
                response.headers[name] = value
        return response

    return fault


def other_bytes(request: Request, response: Response) -> Response:
    response.body = bytes(b ^ 0xFF for b in response.body)
    return response


def body(data: bytes, **more: str) -> Fault:
    """Another body, with its own length."""

    def fault(request: Request, response: Response) -> Response:
        response.headers.update({k.replace("_", "-"): v for k, v in more.items()})
        response.body = data
        return response

    return fault


def chunked(request: Request, response: Response) -> Response:
    """No length, closed at the end."""
    data = response.body
    response.body = iter([data[:1000], data[1000:]])
    response.headers["Connection"] = "close"
    return response


def gzipped(request: Request, response: Response) -> Response:
    return body(gzip.compress(response.body), Content_Encoding="gzip")(request, response)


def endless(request: Request, response: Response) -> Response:
    """As far as a test is concerned: whoever has not hung up after this would have gone on."""

    def chunks() -> Iterator[bytes]:
        for _ in range(64):
            yield bytes(1 << 20)
        endless.reached_its_end = True

    response.body = chunks()
    return response


endless.reached_its_end = False


def cut(at: int, *, reset: bool = False, stall: float = 0.0) -> Fault:
    """The declared length, but no more than `at` bytes of this answer; then closed, reset, or silent before that."""

    def fault(request: Request, response: Response) -> Response:
        data = response.body

        def chunks() -> Iterator[bytes]:
            yield data[:at]
            time.sleep(stall)
            if reset:
                raise ResetConnection

        response.headers["Content-Length"] = str(len(data))
        response.body = chunks()
        return response

    return fault


def hangs(seconds: float) -> Fault:
    def fault(request: Request, response: Response) -> Response:
        time.sleep(seconds)
        return response

    return fault


# --- what there is to fetch ------------------------------------------------------------------------------------------


def tiny_bytes(seed: int = 0, width: int = 4) -> bytes:
    return save(perturb(Tiny(width=width), seed=seed).state_dict(), {"format": "pt"})


def tiny_weights(data: bytes, commit: str, **fields: object) -> zoo.Weights:
    digest = hashlib.sha256(data).hexdigest()
    source = f"hf://{REPO}/{FILE}@{commit}"
    return zoo.Weights(**{"source": source, "sha256": digest, "size": len(data), "labels": LABELS, **fields})


def tiny_spec(**weights: zoo.Weights) -> zoo.ModelSpec:
    return zoo.ModelSpec(name="tiny", builder="models:tiny", weights=weights)


def tree(folder: Path) -> dict[str, object]:
    """Everything below a folder, with the content of files."""
    return {
        str(p.relative_to(folder)): p.read_bytes() if p.is_file() else p.readlink() if p.is_symlink() else None
        for p in sorted(folder.rglob("*"))
    }


DATA = tiny_bytes()


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
    assert f"hf://{REPO}/{FILE}@" in text
    assert "local/tiny.t" in text
    assert all(word in text for word in words), text
    assert caught.value.hint
    return text


def rot(blob: Path) -> None:
    data = bytearray(blob.read_bytes())
    data[-1] ^= 1
    blob.write_bytes(data)
