"""Where the bytes of a source are on this machine."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path, PurePosixPath

from zoo.errors import WeightsNotFound

PACKAGED = "pkg://"
HUB = "hf://"


def locate(source: str | Path) -> Path:
    """The file behind "pkg://package/path" or a local path. Raises WeightsNotFound."""
    text = str(source)
    if text.startswith(PACKAGED):
        return _packaged(text)
    if text.startswith(HUB):
        raise WeightsNotFound(
            f"{text}: this version of zoo reads files on this machine only",
            hint="download the file with `hf download` and give its path to zoo.load(model, path)",
        )
    path = Path(text).expanduser()
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise WeightsNotFound(f"{text} {what}", hint="give the path of a .safetensors file")
    return path


def _packaged(source: str) -> Path:
    package, _, inside = source.removeprefix(PACKAGED).partition("/")
    if not package or not inside or ".." in PurePosixPath(inside).parts:
        raise WeightsNotFound(f"{source!r} is not pkg://package/path", hint="the path is relative to the package")
    try:
        path = files(package).joinpath(inside)
    except ModuleNotFoundError as missing:
        raise WeightsNotFound(f"{source}: no package {package!r} is installed") from missing
    if not isinstance(path, Path) or not path.is_file():
        raise WeightsNotFound(
            f"{source}: the installed package has no such file",
            hint=f"reinstall the distribution that brings {package!r}",
        )
    return path
