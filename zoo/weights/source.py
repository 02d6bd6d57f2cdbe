"""Where weights can come from, as text: checked here once, so that nothing else has to doubt a name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path, PurePosixPath

from zoo.errors import SpecError, WeightsNotFound

HUB = "hf://"
PACKAGED = "pkg://"
MAIN = "main"
COMMIT = re.compile(r"[0-9a-f]{40}")

# These become folders of the cache and parts of addresses: no "..", no leading dot, nothing to escape.
_PART = r"(?!.*\.\.)[A-Za-z0-9][A-Za-z0-9._-]*"
_REPO = re.compile(rf"(?!.*--){_PART}/{_PART}")
_PATH = re.compile(rf"{_PART}(/{_PART})*")
_LONGEST = 200


@dataclass(frozen=True)
class HubFile:
    """One file of a repository on the Hub, at a commit, a branch, a tag or a pull request."""

    repo: str
    file: str
    revision: str = MAIN

    def __post_init__(self) -> None:
        wanted = ((self.repo, _REPO), (self.file, _PATH), (self.revision, _PATH))
        if not all(len(text) <= _LONGEST and pattern.fullmatch(text) for text, pattern in wanted):
            raise SpecError(f"{str(self)!r:.300} names no file on the Hub", hint="hf://owner/repo/file@revision")

    @classmethod
    def parse(cls, source: str) -> HubFile:
        """From "hf://owner/repo/file.safetensors@revision"; without a revision it is main."""
        address, at, revision = source.removeprefix(HUB).partition("@")
        owner, _, rest = address.partition("/")
        name, _, file = rest.partition("/")
        found = cls(f"{owner}/{name}", file, revision if at else MAIN)
        if not file.endswith(".safetensors"):
            raise SpecError(f"{source} is not a .safetensors file", hint="zoo loads no other kind from the Hub")
        return found

    @property
    def pinned(self) -> bool:
        """Whether the revision is a commit: what it names never changes."""
        return COMMIT.fullmatch(self.revision) is not None

    def at(self, commit: str) -> HubFile:
        return replace(self, revision=commit)

    def __str__(self) -> str:
        return f"{HUB}{self.repo}/{self.file}@{self.revision}"


def packaged(source: str) -> Path:
    """The file behind "pkg://package/path", inside an installed package. Raises WeightsNotFound."""
    package, _, inside = source.removeprefix(PACKAGED).partition("/")
    relative = PurePosixPath(inside)
    if not package or not inside or ".." in relative.parts or relative.is_absolute():
        raise WeightsNotFound(f"{source!r} is not pkg://package/path", hint="the path is relative to the package")
    try:
        root = files(package)
        path = root.joinpath(inside)
    except (ImportError, TypeError, ValueError) as missing:  # of names that are no packages' too
        raise WeightsNotFound(
            f"{source}: no package {package!r} is installed", hint="install the distribution that brings it"
        ) from missing
    if not (isinstance(path, Path) and isinstance(root, Path) and path.is_relative_to(root) and is_file(path)):
        raise WeightsNotFound(
            f"{source}: the installed package has no such file",
            hint=f"reinstall the distribution that brings {package!r}",
        )
    return path


def local(source: str | Path) -> Path:
    """A file of the user's. Raises WeightsNotFound."""
    path = at_home(source)
    if not is_file(path):
        what = "is a folder" if _is_folder(path) else "does not exist"
        raise WeightsNotFound(f"{source!s:.300} {what}", hint="give the path of a .safetensors file")
    return path


def at_home(path: str | Path) -> Path:
    """The path with the user's folder for "~". Raises WeightsNotFound if there is no such user."""
    try:
        return Path(path).expanduser()
    except RuntimeError as nobody:
        raise WeightsNotFound(f"{path!s:.300} is in the folder of nobody here", hint="write the folder out") from nobody


def is_file(path: Path) -> bool:
    """Whether there is such a file. A name that no file can have is one that no file has."""
    with suppress(OSError):
        return path.is_file()
    return False


def _is_folder(path: Path) -> bool:
    with suppress(OSError):
        return path.is_dir()
    return False


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Within this block an error of the system is a WeightsNotFound about the path."""
    try:
        yield
    except OSError as error:
        raise WeightsNotFound(
            f"{path} cannot be read: {error.strerror or error}", hint="is it yours, and is the disk sound?"
        ) from error
