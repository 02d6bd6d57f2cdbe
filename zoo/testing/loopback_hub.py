"""A Hugging Face Hub on this machine, in memory, for tests that must not touch the network.

It speaks as much of the protocol as the real client asks for when it downloads and publishes: file headers and bytes
with ranges, large files from a second origin, revisions, trees and refs; new repositories, uploads, commits and tags.
Standard library only. What has to go wrong in a test is a subclass whose `answer` changes the response.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from typing import Any, Self
from urllib.parse import parse_qs, quote, unquote, urlsplit

from zoo.testing import loopback_writes
from zoo.testing.loopback_http import (
    Request,
    ResetConnection,
    Response,
    content,
    json_reply,
    new_server,
    refusal,
)
from zoo.testing.loopback_store import MAIN, File, Store

__all__ = ["LoopbackHub", "Request", "ResetConnection", "Response"]


class LoopbackHub:
    """`with LoopbackHub() as hub:` serves what was added, at `hub.url`.

    Give it to `zoo.create(..., endpoint=hub.url, cache_dir=folder)`.
    """

    def __init__(self) -> None:
        self._store = Store()
        self._log: list[Request] = []
        self._servers = [new_server(self.received, storage=storage) for storage in (False, True)]
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
        return self._store.add(repo, files, ref)

    def corrupt(self, repo: str, path: str) -> None:
        """From now on serve other bytes of the same size, under the digest that the good ones had."""
        for tree in self._store.repositories[repo].commits.values():
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
        for methods, pattern, action in _READS:
            if request.method in methods and (match := pattern.fullmatch(path)):
                return action(self, request, *(unquote(part) for part in match.groups()))
        for method, written, write in loopback_writes.ROUTES:
            if request.method == method and (match := re.fullmatch(written, path)):
                with self._store.lock:
                    urls = self.url, self.storage_url
                    return write(self._store, urls, request, *(unquote(part) for part in match.groups()))
        return refusal(404, "", f"no route for {request.method} {path}")

    # --- what can be asked -------------------------------------------------------------------------------------------

    def _find(self, repo: str, revision: str) -> tuple[str, dict[str, File]] | Response:
        repository = self._store.repositories.get(repo)
        if repository is None:
            return refusal(404, "RepoNotFound", "Repository not found")
        commit = repository.commit_of(revision)
        if commit is None:
            return refusal(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return commit, repository.commits[commit]

    def _resolve(self, request: Request, repo: str, revision: str, path: str) -> Response:
        found = self._find(repo, revision)
        if isinstance(found, Response):
            return found
        commit, tree = found
        told = {"X-Repo-Commit": commit}
        if (file := tree.get(path)) is None:
            return refusal(404, "EntryNotFound", "Entry not found", told)
        if not file.large:
            return content(request, file.data, {**told, "ETag": f'"{file.etag}"'})
        # On the same origin the client would follow this in its HEAD, and never see these headers.
        told |= {"X-Linked-Etag": f'"{file.etag}"', "X-Linked-Size": str(len(file.data))}
        return Response(302, {**told, "Location": f"{self.storage_url}/{repo}/{commit}/{quote(path)}"})

    def _stored(self, request: Request, repo: str, commit: str, path: str) -> Response:
        file = self._store.repositories[repo].commits[commit][path]
        return content(request, file.data, {"ETag": f'"{file.etag}"'})

    def _info(self, request: Request, repo: str, revision: str = MAIN) -> Response:
        found = self._find(repo, revision)
        if isinstance(found, Response):
            return found
        commit, tree = found
        files: list[dict[str, Any]] = [{"rfilename": path} for path in sorted(tree)]
        if "blobs" in parse_qs(urlsplit(request.path).query):
            files = [{**_row(tree[row["rfilename"]]), **row} for row in files]
        about = {"private": self._store.repositories[repo].private, "siblings": files, "tags": []}
        return json_reply({"_id": "0", "id": repo, "modelId": repo, "sha": commit, **about})

    def _tree(self, request: Request, repo: str, revision: str) -> Response:
        found = self._find(repo, revision)
        if isinstance(found, Response):
            return found
        rows: list[dict[str, Any]] = []
        for path, file in sorted(found[1].items()):
            row = {"type": "file", "path": path, "size": len(file.data), "oid": file.git_id}
            lfs = {"oid": file.sha256, "size": len(file.data), "pointerSize": 134}
            rows.append({**row, "lfs": lfs} if file.large else row)
        return json_reply(rows)

    def _refs(self, request: Request, repo: str) -> Response:
        found = self._find(repo, MAIN)
        if isinstance(found, Response):
            return found
        refs, tagged = self._store.repositories[repo].refs, self._store.repositories[repo].tags
        requests = [{"name": n, "ref": n, "targetCommit": c} for n, c in refs.items() if n.startswith("refs/")]
        heads = {n: c for n, c in refs.items() if not n.startswith("refs/")}
        branches = [{"name": n, "ref": f"refs/heads/{n}", "targetCommit": c} for n, c in heads.items()]
        tags = [{"name": n, "ref": f"refs/tags/{n}", "targetCommit": c} for n, c in tagged.items()]
        return json_reply({"branches": branches, "tags": tags, "converts": [], "pullRequests": requests})


_REPO = r"([^/]+/[^/]+)"
_READS: list[tuple[tuple[str, ...], re.Pattern[str], Callable[..., Response]]] = [
    (("GET", "HEAD"), re.compile(rf"/{_REPO}/resolve/([^/]+)/(.+)"), LoopbackHub._resolve),
    (("GET",), re.compile(rf"/api/models/{_REPO}"), LoopbackHub._info),
    (("GET",), re.compile(rf"/api/models/{_REPO}/revision/([^/]+)"), LoopbackHub._info),
    (("GET",), re.compile(rf"/api/models/{_REPO}/tree/([^/]+)"), LoopbackHub._tree),
    (("GET",), re.compile(rf"/api/models/{_REPO}/refs"), LoopbackHub._refs),
    (("GET", "HEAD"), re.compile(rf"/{_REPO}/([0-9a-f]{{40}})/(.+)"), LoopbackHub._stored),
]


def _row(file: File) -> dict[str, Any]:
    """What the Hub says of a file where it lists a repository with all details."""
    row: dict[str, Any] = {"size": len(file.data), "blobId": file.git_id}
    if file.large:
        row["lfs"] = {"sha256": file.sha256, "size": len(file.data), "pointerSize": 134}
    return row
