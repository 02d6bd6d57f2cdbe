"""Files in the cache that all users of the Hub client share: whether they are what was published, and how to drop one.

The client trusts a file because it is there. Here its bytes are hashed; a stamp beside them spares hashing the same
bytes again, and is void as soon as anything about the file has changed.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile

DIGEST = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")  # git's, for small files, or sha256
STAMPS = ".zoo"  # in a repository's folder; also says that zoo has used it
NOTE = ".note"


def digest_of(path: Path, *, like: str) -> str:
    """The file's sha256, or with a `like` of 40 digits git's name for its content."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        # Whoever declares the digest chooses which of the two it is, for files of any size: neither is read at once.
        begun = hashlib.sha256 if len(like) == 64 else lambda: hashlib.sha1(b"blob %d\0" % size)
        return hashlib.file_digest(stream, begun).hexdigest()


@dataclass(frozen=True)
class CachedFile:
    """What the cache has, or could have, for one file of one commit."""

    root: Path  # <cache>/models--owner--name
    commit: str
    file: str

    @property
    def path(self) -> Path:
        return self.root / "snapshots" / self.commit / self.file

    def exists(self) -> bool:
        """Whether anything is there, sound or not."""
        return os.path.lexists(self.path)

    def declared(self) -> str:
        """The digest that the Hub declared when the file was fetched, or "" if that cannot be told any more."""
        name = self.path.readlink().name if self.path.is_symlink() else ""
        return name if DIGEST.fullmatch(name) else ""

    def problem(self, digest: str, size: int | None) -> str:
        """What is wrong with the bytes, or ""."""
        return file_problem(self.path, digest, size, stamps=self.root)

    def discard(self) -> None:
        """Delete the entry and the bytes behind it, wherever links point only inside this repository's folder."""
        inside = Path(os.path.realpath(self.root))
        entry = Path(os.path.realpath(self.path.parent)) / self.path.name
        if not entry.is_relative_to(inside / "snapshots"):
            return
        if entry.is_symlink():
            # Only one step: in a cache with a shared store the blob is itself a link, and the store is not ours.
            blob = Path(os.path.normpath(entry.parent / entry.readlink()))
            if os.path.realpath(blob.parent) == str(inside / "blobs"):
                _delete(blob)
        _delete(entry)


def file_problem(path: Path, digest: str, size: int | None, *, stamps: Path) -> str:
    """What is wrong with the bytes of a file, or "". stamps: the folder in which stamps are kept."""
    if not os.path.lexists(path):
        return "is not there"
    if not path.is_file():
        return "is not a file"
    if size is not None and (found := path.stat().st_size) != size:
        return f"has {found} bytes instead of {size}"
    facts = _facts(path)
    stamp = stamps / STAMPS / digest
    if stamped(stamp) == facts:
        return ""
    if (other := digest_of(path, like=digest)) != digest:
        return f"has the digest {other} instead of {digest}"
    if _facts(path) == facts:
        _stamp(stamp, facts)
    return ""


def noted(note: str, files: Sequence[Path], about: Path, *, stamps: Path) -> bool:
    """Whether `note` was taken of these very bytes. about: the file whose name the note bears, and goes with."""
    return stamped(_note(about, stamps)) == [note, *map(_facts, files)]


def take_note(note: str, files: Sequence[Path], about: Path, *, stamps: Path) -> None:
    """Remember something about these bytes until anything about the files changes."""
    _stamp(_note(about, stamps), [note, *map(_facts, files)])


def _note(about: Path, stamps: Path) -> Path:
    return stamps / STAMPS / f"{Path(os.path.realpath(about)).name}{NOTE}"


def stamped(stamp: Path) -> list[object]:
    """What a stamp says, or nothing: first where the bytes were."""
    try:
        facts = json.loads(stamp.read_bytes())
    except (OSError, ValueError):
        return []
    return facts if isinstance(facts, list) else []


def _stamp(stamp: Path, facts: list[object]) -> None:
    with suppress(OSError):  # a cache that cannot be written is hashed every time
        stamp.parent.mkdir(exist_ok=True)
        with NamedTemporaryFile("w", dir=stamp.parent, delete=False) as stream:
            json.dump(facts, stream)
        Path(stream.name).replace(stamp)


def _facts(path: Path) -> list[object]:
    """What changes when the bytes do. The time of change cannot be set back, unlike that of modification."""
    status = path.stat()
    return [os.path.realpath(path), status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
