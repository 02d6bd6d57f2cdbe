"""What the loopback Hub holds: repositories with their commits, and the bytes of large files by digest."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

LARGE_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth")
LARGE_BYTES = 1 << 20
MAIN = "main"


@dataclass
class File:
    """One file. `sha256` is as declared: damage done to the data leaves it."""

    sha256: str
    git_id: str
    large: bool
    data: bytes

    @classmethod
    def of(cls, path: str, data: bytes) -> File:
        large, sha256 = is_large(path, len(data)), hashlib.sha256(data).hexdigest()
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {len(data)}\n".encode()
        stored = pointer if large else data
        return cls(sha256, hashlib.sha1(b"blob %d\0" % len(stored) + stored).hexdigest(), large, data)

    @property
    def etag(self) -> str:
        return self.sha256 if self.large else self.git_id


@dataclass
class Repository:
    """The files of every commit, and which commit the branches, pull requests ("refs/pr/1") and tags mean."""

    name: str
    private: bool = False
    commits: dict[str, dict[str, File]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    def commit_of(self, revision: str) -> str | None:
        return revision if revision in self.commits else self.refs.get(revision) or self.tags.get(revision)

    def commit(self, files: Mapping[str, File], ref: str = MAIN) -> str:
        """Put files on top of what `ref` has; gives the commit's 40 digits."""
        parent = self.refs.get(ref) or self.refs.get(MAIN, "")
        tree = {**self.commits.get(parent, {}), **files}
        listing = "".join(f"{path} {tree[path].git_id}\n" for path in sorted(tree))
        text = f"{self.name}\n{ref}\n{parent}\n{len(self.commits)}\n{listing}"
        commit = hashlib.sha1(text.encode()).hexdigest()
        self.commits[commit] = tree
        self.refs[ref] = commit
        return commit


@dataclass
class Store:
    """All repositories, and `large`, what was uploaded under its sha256. Writers hold the lock."""

    repositories: dict[str, Repository] = field(default_factory=dict)
    large: dict[str, bytes] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def add(self, repo: str, files: Mapping[str, bytes], ref: str = MAIN) -> str:
        with self.lock:
            new = {path: File.of(path, data) for path, data in files.items()}
            self.large |= {file.sha256: file.data for file in new.values() if file.large}
            return self.repositories.setdefault(repo, Repository(repo)).commit(new, ref)


def is_large(path: str, size: int) -> bool:
    """Whether a file's bytes are kept apart, under its sha256."""
    return path.endswith(LARGE_SUFFIXES) or size > LARGE_BYTES
