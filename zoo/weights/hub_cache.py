"""What zoo has put into the Hub client's cache, and which of it nothing refers to any more."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from zoo.weights.cached import DIGEST, NOTE, STAMPS, stamped

PREFIX = "models--"


@dataclass(frozen=True)
class Revision:
    """One commit of a repository that zoo has fetched from. refs: branches and tags that meant it when last asked.

    shared: somebody else, who uses the same cache, has fetched from it too.
    """

    repo: str
    commit: str
    size: int
    refs: tuple[str, ...]
    used_by: tuple[str, ...]
    shared: bool
    path: Path

    @property
    def needed(self) -> bool:
        return bool(self.refs or self.used_by or self.shared)


def revisions(cache: Path, users: Mapping[tuple[str, str], tuple[str, ...]]) -> list[Revision]:
    """Every revision in the cache that zoo has fetched from. users: names of models by (repo, commit)."""
    found = []
    for root in _used(cache):
        repo, verified = root.name.removeprefix(PREFIX).replace("--", "/", 1), _verified(root)
        refs = {p: p.read_text(errors="replace").strip() for p in (root / "refs").rglob("*") if p.is_file()}
        for snapshot in sorted((root / "snapshots").glob("*")):
            commit, files = snapshot.name, [p for p in snapshot.rglob("*") if not p.is_dir()]
            ours = [p for p in files if Path(os.path.realpath(p)).name in verified]
            if not ours:
                continue
            names = tuple(str(p.relative_to(root / "refs")) for p, meant in refs.items() if meant == commit)
            size, shared = sum(p.stat().st_size for p in files if p.is_file()), len(ours) < len(files)
            found.append(Revision(repo, commit, size, names, users.get((repo, commit), ()), shared, snapshot))
    return found


def orphans(cache: Path) -> list[Path]:
    """Halves of downloads whose process is gone."""
    parts = [part for root in _used(cache) for part in sorted((root / "blobs").glob("*.incomplete"))]
    return [part for part in parts if not _is_arriving(part, cache)]


def remove(revision: Revision) -> None:
    """Delete a revision, and the bytes that only it refers to."""
    root, behind = revision.path.parent.parent, _behind(revision.path)
    blobs = Path(os.path.realpath(root / "blobs"))
    shutil.rmtree(revision.path, ignore_errors=True)
    for blob in behind - _behind(root / "snapshots"):
        if DIGEST.fullmatch(blob.name) and blob.parent == blobs:
            blob.unlink(missing_ok=True)
            for stamp in (blob.name, f"{blob.name}{NOTE}"):
                (root / STAMPS / stamp).unlink(missing_ok=True)


def _behind(folder: Path) -> set[Path]:
    """Where links below a folder lead. Only one step: the blob itself may be a link into a store that others share."""
    links = [p for p in folder.rglob("*") if p.is_symlink()]
    return {Path(os.path.normpath(Path(os.path.realpath(p.parent)) / p.readlink())) for p in links}


def _verified(root: Path) -> set[str]:
    """Names of the files that zoo has hashed: by name, as a cache may have been moved since."""
    return {Path(str(facts[0])).name for stamp in (root / STAMPS).glob("*") if (facts := stamped(stamp))}


def _used(cache: Path) -> list[Path]:
    # Also where a first download was killed before anything could be stamped.
    locks = {path.parent.name for path in (cache / ".locks").glob("*/*.zoo.lock")}
    return [p for p in sorted(cache.glob(f"{PREFIX}*--*")) if (p / STAMPS).is_dir() or p.name in locks]


def _is_arriving(part: Path, cache: Path) -> bool:
    from huggingface_hub.utils import WeakFileLock

    lock = cache / ".locks" / part.parent.parent.name / f"{part.name.partition('.')[0]}.lock"
    if not lock.exists():
        return False
    try:
        with WeakFileLock(lock, timeout=0.1):
            return False
    except TimeoutError:
        return True
