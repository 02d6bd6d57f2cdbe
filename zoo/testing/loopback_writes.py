"""How the loopback Hub is written to, in the order in which the real client asks: a repository, the files, a commit.

Every function answers one route. Anybody may write; what is checked is what the protocol promises.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterable
from typing import Any

from zoo.testing.loopback_http import Request, Response, json_reply, refusal
from zoo.testing.loopback_store import File, Repository, Store, is_large

ATTRIBUTES = {".gitattributes": b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"}  # of every new repository

Action = Callable[..., Response]


def create_repository(store: Store, urls: tuple[str, str], request: Request) -> Response:
    asked = json.loads(request.body)
    name = f"{asked.get('organization') or 'tester'}/{asked['name']}"
    url = f"{urls[0]}/{name}"
    if name in store.repositories:
        return json_reply({"error": "You already created this model repo", "url": url}, 409)
    private = asked.get("visibility") == "private" or asked.get("private") is True
    store.repositories[name] = Repository(name, private)
    store.add(name, ATTRIBUTES)
    return json_reply({"url": url, "name": name, "id": "0"})


def settings(store: Store, urls: tuple[str, str], request: Request, repo: str) -> Response:
    if (repository := store.repositories.get(repo)) is None:
        return _no_repository()
    if visibility := json.loads(request.body).get("visibility"):
        repository.private = visibility == "private"
    return json_reply({})


def validate_yaml(store: Store, urls: tuple[str, str], request: Request) -> Response:
    """Asked before a README.md is committed."""
    if json.loads(request.body)["content"].startswith("---\n"):
        return json_reply({"errors": [], "warnings": []})
    return json_reply({"errors": [{"message": "no metadata"}], "warnings": []}, 400)


def preupload(store: Store, urls: tuple[str, str], request: Request, repo: str, revision: str) -> Response:
    """Which files are large, and what the repository has under their names."""
    found = _head(store, repo, revision)
    if isinstance(found, Response):
        return found
    repository, commit = found
    answers = []
    for asked in json.loads(request.body)["files"]:
        there = repository.commits[commit].get(asked["path"])
        mode = "lfs" if is_large(asked["path"], asked["size"]) else "regular"
        oid = there.etag if there else None
        answers.append({"path": asked["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid})
    return json_reply({"files": answers, "commitOid": commit})


def batch(store: Store, urls: tuple[str, str], request: Request, repo: str) -> Response:
    """Where to put large files; without actions for those that are there already."""
    if repo not in store.repositories:
        return _no_repository()
    hub, storage = urls
    objects = []
    for asked in json.loads(request.body)["objects"]:
        answer: dict[str, Any] = {"oid": asked["oid"], "size": asked["size"], "authenticated": True}
        if asked["oid"] not in store.large:
            verify = {"href": f"{hub}/{repo}.git/info/lfs/verify"}
            answer["actions"] = {"upload": {"href": f"{storage}/lfs/{asked['oid']}"}, "verify": verify}
        objects.append(answer)
    return json_reply({"transfer": "basic", "objects": objects})


def put(store: Store, urls: tuple[str, str], request: Request, digest: str) -> Response:
    if hashlib.sha256(request.body).hexdigest() != digest:
        return refusal(400, "", "these bytes have another sha256")
    store.large[digest] = request.body
    return Response(200, {"ETag": f'"{digest}"'})


def verify(store: Store, urls: tuple[str, str], request: Request, repo: str) -> Response:
    asked = json.loads(request.body)
    there = len(store.large.get(asked["oid"], b"")) == asked["size"]
    return json_reply({}) if there else refusal(404, "", "that object was not uploaded")


def commit(store: Store, urls: tuple[str, str], request: Request, repo: str, revision: str) -> Response:
    """All of the files or none of them, and only on top of the parent that the client names."""
    found = _head(store, repo, revision)
    if isinstance(found, Response):
        return found
    repository, head = found
    files = {}
    for line in request.body.splitlines():
        operation = json.loads(line)
        key, value = operation["key"], operation["value"]
        if key == "header":
            if not head.startswith(value.get("parentCommit") or ""):
                return refusal(412, "", "A commit has happened since. Please refresh and try again.")
        elif key == "file":
            files[value["path"]] = File.of(value["path"], base64.b64decode(value["content"]))
        elif key == "lfsFile" and value["oid"] in store.large:
            files[value["path"]] = File.of(value["path"], store.large[value["oid"]])
        else:
            return refusal(400, "", f"cannot commit {key} {value.get('path')}")
    new = repository.commit(files, revision)
    return json_reply({"success": True, "commitOid": new, "commitUrl": f"{urls[0]}/{repo}/commit/{new}"})


def tag(store: Store, urls: tuple[str, str], request: Request, repo: str, revision: str) -> Response:
    found = _head(store, repo, revision)
    if isinstance(found, Response):
        return found
    repository, meant = found
    name = json.loads(request.body)["tag"]
    if name in repository.tags:
        return json_reply({"error": f"Tag reference exists already: {name}"}, 409)
    repository.tags[name] = meant
    return json_reply({})


def _head(store: Store, repo: str, revision: str) -> tuple[Repository, str] | Response:
    if (repository := store.repositories.get(repo)) is None:
        return _no_repository()
    meant = repository.commit_of(revision)
    return (repository, meant) if meant else refusal(404, "RevisionNotFound", f"Invalid rev id: {revision}")


def _no_repository() -> Response:
    return refusal(404, "RepoNotFound", "Repository not found")


_REPO, _REVISION = r"([^/]+/[^/]+)", r"([^/]+)"
ROUTES: Iterable[tuple[str, str, Action]] = (
    ("POST", r"/api/repos/create", create_repository),
    ("PUT", rf"/api/models/{_REPO}/settings", settings),
    ("POST", r"/api/validate-yaml", validate_yaml),
    ("POST", rf"/api/models/{_REPO}/preupload/{_REVISION}", preupload),
    ("POST", rf"/{_REPO}\.git/info/lfs/objects/batch", batch),
    ("PUT", r"/lfs/([0-9a-f]{64})", put),
    ("POST", rf"/{_REPO}\.git/info/lfs/verify", verify),
    ("POST", rf"/api/models/{_REPO}/commit/{_REVISION}", commit),
    ("POST", rf"/api/models/{_REPO}/tag/{_REVISION}", tag),
)
