"""A Hugging Face Hub on this machine, in memory, for tests that must not touch the network.

It speaks as much of the protocol as the real client asks for when it downloads: file headers and bytes with ranges,
large files from a second origin, revisions, trees and refs. Standard library only. What has to go wrong in a test is a
subclass whose `answer` changes the response.
"""

from __future__ import annotations

import hashlib
import json
import re
import socket
import struct
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType
from typing import Any, Self
from urllib.parse import quote, unquote, urlsplit

LARGE_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth")
LARGE_BYTES = 1 << 20
MAIN = "main"


class ResetConnection(Exception):
    """Raised by the chunks of a response: the connection ends with a TCP reset."""


@dataclass(frozen=True)
class Request:
    """What a client asks. `storage`: it asks the second origin, where the bytes of large files are."""

    method: str
    path: str
    headers: Mapping[str, str]  # names in lower case
    body: bytes
    storage: bool


@dataclass
class Response:
    """What is sent back. A body in chunks is sent without a length of its own; when it ends the connection closes."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | Iterator[bytes] = b""


@dataclass
class _File:
    sha256: str  # as declared: `corrupt` changes the data only
    git_id: str
    large: bool
    data: bytes

    @property
    def etag(self) -> str:
        return self.sha256 if self.large else self.git_id


@dataclass
class _Repository:
    commits: dict[str, dict[str, _File]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)  # "main", a tag, or "refs/pr/1" -> commit

    def commit_of(self, revision: str) -> str | None:
        return revision if revision in self.commits else self.refs.get(revision)


class LoopbackHub:
    """`with LoopbackHub() as hub:` serves what was added, at `hub.url`.

    Give it to `zoo.create(..., endpoint=hub.url, cache_dir=folder)`.
    """

    def __init__(self) -> None:
        self._repositories: dict[str, _Repository] = {}
        self._log: list[Request] = []
        self._servers = [_server(self, storage=storage) for storage in (False, True)]
        hub, storage = (server.server_address[1] for server in self._servers)
        self.url = f"http://127.0.0.1:{hub}"
        # Another host name as well as another port: older clients compare the names only.
        self.storage_url = f"http://localhost:{storage}"

    def __enter__(self) -> Self:
        for server in self._servers:
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def add(self, repo: str, files: Mapping[str, bytes], *, ref: str = MAIN) -> str:
        """Commit files on top of what `ref` has, and give the commit's 40 digits."""
        repository = self._repositories.setdefault(repo, _Repository())
        parent = repository.refs.get(ref) or repository.refs.get(MAIN, "")
        tree = {**repository.commits.get(parent, {}), **{path: _file(path, data) for path, data in files.items()}}
        listing = "".join(f"{path} {tree[path].git_id}\n" for path in sorted(tree))
        commit = hashlib.sha1(f"{repo}\n{ref}\n{parent}\n{len(repository.commits)}\n{listing}".encode()).hexdigest()
        repository.commits[commit] = tree
        repository.refs[ref] = commit
        return commit

    def corrupt(self, repo: str, path: str) -> None:
        """From now on serve other bytes of the same size, under the digest that the good ones had."""
        for tree in self._repositories[repo].commits.values():
            if path in tree:
                tree[path].data = bytes(b ^ 0xFF for b in tree[path].data)

    def requests(self, method: str | None = None) -> list[str]:
        """What was asked so far, such as "GET /owner/name/resolve/main/config.json"."""
        return [f"{r.method} {r.path}" for r in self._log if method in (None, r.method)]

    def received(self, request: Request) -> Response:
        """Note the request, and answer it."""
        self._log.append(request)
        return self.answer(request)

    def answer(self, request: Request) -> Response:
        """What a sound Hub replies. Subclasses change it."""
        path = urlsplit(request.path).path
        for methods, pattern, action in _ROUTES:
            if request.method in methods and (match := pattern.fullmatch(path)):
                return action(self, request, *(unquote(part) for part in match.groups()))
        return _refusal(404, "", f"no route for {request.method} {path}")

    # --- what can be asked -------------------------------------------------------------------------------------------

    def _find(self, repo: str, revision: str) -> tuple[str, dict[str, _File]] | Response:
        repository = self._repositories.get(repo)
        if repository is None:
            return _refusal(404, "RepoNotFound", "Repository not found")
        commit = repository.commit_of(revision)
        if commit is None:
            return _refusal(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return commit, repository.commits[commit]

    def _resolve(self, request: Request, repo: str, revision: str, path: str) -> Response:
        found = self._find(repo, revision)
        if isinstance(found, Response):
            return found
        commit, tree = found
        told = {"X-Repo-Commit": commit}
        if (file := tree.get(path)) is None:
            return _refusal(404, "EntryNotFound", "Entry not found", told)
        if not file.large:
            return _content(request, file.data, {**told, "ETag": f'"{file.etag}"'})
        # On the same origin the client would follow this in its HEAD, and never see these headers.
        told |= {"X-Linked-Etag": f'"{file.etag}"', "X-Linked-Size": str(len(file.data))}
        return Response(302, {**told, "Location": f"{self.storage_url}/{repo}/{commit}/{quote(path)}"})

    def _stored(self, request: Request, repo: str, commit: str, path: str) -> Response:
        file = self._repositories[repo].commits[commit][path]
        return _content(request, file.data, {"ETag": f'"{file.etag}"'})

    def _info(self, request: Request, repo: str, revision: str = MAIN) -> Response:
        found = self._find(repo, revision)
        if isinstance(found, Response):
            return found
        commit, tree = found
        files = [{"rfilename": path} for path in sorted(tree)]
        return _json({"_id": "0", "id": repo, "modelId": repo, "sha": commit, "siblings": files, "tags": []})

    def _tree(self, request: Request, repo: str, revision: str) -> Response:
        found = self._find(repo, revision)
        if isinstance(found, Response):
            return found
        rows: list[dict[str, Any]] = []
        for path, file in sorted(found[1].items()):
            row = {"type": "file", "path": path, "size": len(file.data), "oid": file.git_id}
            lfs = {"oid": file.sha256, "size": len(file.data), "pointerSize": 134}
            rows.append({**row, "lfs": lfs} if file.large else row)
        return _json(rows)

    def _refs(self, request: Request, repo: str) -> Response:
        found = self._find(repo, MAIN)
        if isinstance(found, Response):
            return found
        refs = self._repositories[repo].refs
        requests = [{"name": n, "ref": n, "targetCommit": c} for n, c in refs.items() if n.startswith("refs/")]
        heads = {n: c for n, c in refs.items() if not n.startswith("refs/")}
        branches = [{"name": n, "ref": f"refs/heads/{n}", "targetCommit": c} for n, c in heads.items()]
        return _json({"branches": branches, "tags": [], "converts": [], "pullRequests": requests})


_REPO = r"([^/]+/[^/]+)"
_ROUTES: list[tuple[Iterable[str], re.Pattern[str], Callable[..., Response]]] = [
    (("GET", "HEAD"), re.compile(rf"/{_REPO}/resolve/([^/]+)/(.+)"), LoopbackHub._resolve),
    (("GET",), re.compile(rf"/api/models/{_REPO}"), LoopbackHub._info),
    (("GET",), re.compile(rf"/api/models/{_REPO}/revision/([^/]+)"), LoopbackHub._info),
    (("GET",), re.compile(rf"/api/models/{_REPO}/tree/([^/]+)"), LoopbackHub._tree),
    (("GET",), re.compile(rf"/api/models/{_REPO}/refs"), LoopbackHub._refs),
    (("GET", "HEAD"), re.compile(rf"/{_REPO}/([0-9a-f]{{40}})/(.+)"), LoopbackHub._stored),
]


def _file(path: str, data: bytes) -> _File:
    large = path.endswith(LARGE_SUFFIXES) or len(data) > LARGE_BYTES
    sha256 = hashlib.sha256(data).hexdigest()
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {len(data)}\n".encode()
    stored = pointer if large else data
    return _File(sha256, hashlib.sha1(b"blob %d\0" % len(stored) + stored).hexdigest(), large, data)


def _json(data: Any) -> Response:
    return Response(200, {"Content-Type": "application/json"}, json.dumps(data).encode())


def _refusal(status: int, code: str, message: str, headers: Mapping[str, str] = MappingProxyType({})) -> Response:
    return Response(status, {**headers, "X-Error-Code": code, "X-Error-Message": message})


def _content(request: Request, data: bytes, headers: dict[str, str]) -> Response:
    """All of it, or the range that was asked for."""
    wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("range", ""))
    if not wanted:
        return Response(200, headers, data)
    start, end = int(wanted[1]), min(int(wanted[2] or len(data)), len(data) - 1)
    return Response(206, {**headers, "Content-Range": f"bytes {start}-{end}/{len(data)}"}, data[start : end + 1])


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: LoopbackHub
    storage: bool

    def log_message(self, *args: object) -> None:
        pass

    def _handle(self) -> None:
        # The body first, or a connection that is used again would start in the middle of it.
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        try:
            self._send(self.hub.received(Request(self.command, self.path, headers, body, self.storage)))
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _handle

    def _send(self, response: Response) -> None:
        self.send_response(response.status)
        headers = dict(response.headers)
        if isinstance(response.body, bytes):
            headers.setdefault("Content-Length", str(len(response.body)))
        else:
            self.close_connection = True
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        try:
            for chunk in [response.body] if isinstance(response.body, bytes) else response.body:
                self.wfile.write(chunk)
        except ResetConnection:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128  # many clients at once are what some tests are about
    block_on_close = False  # a stalled answer must not keep the test waiting

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # clients go away in the middle; that is what these tests are about


def _server(hub: LoopbackHub, *, storage: bool) -> _Server:
    return _Server(("127.0.0.1", 0), type("_Bound", (_Handler,), {"hub": hub, "storage": storage}))
