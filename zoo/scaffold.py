"""Write a new plugin: a complete distribution that lists, builds, predicts and passes its own tests as it is."""

from __future__ import annotations

import keyword
import re
import shutil
import sys
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from string import Template

import zoo
from zoo import registry
from zoo.errors import SpecError, ZooError
from zoo.spec import NAME

STYLES = ("cnn", "timm")
CHECKS = 3  # the newest set of conformance checks when the templates were written

# What is written, and the template in zoo/_template that it comes from.
_FILES = {
    "pyproject.toml": "pyproject.toml.txt",
    "README.md": "README.md.txt",
    ".github/workflows/test.yml": "workflow.yml.txt",
    "$package/__init__.py": "specs_$style.py.txt",
    "$package/net.py": "net_$style.py.txt",
    "tests/test_$name.py": "test.py.txt",
}


def new_plugin(name: str, *, style: str = "cnn", output: Path | str = ".") -> Path:
    """Write the folder `zoo_NAME` into `output`, and give its path. Nothing that exists is touched.

    style: "cnn" starts from a 3D convolutional network, "timm" from an image network of timm on every frame.
    Raises SpecError for a name that cannot be a plugin's, ZooError if the folder exists or cannot be written.
    """
    _refuse_bad(name)
    if style not in STYLES:
        raise SpecError(f"style={style!r}", hint=f"it is one of {', '.join(STYLES)}")
    words = {
        "name": name,
        "package": f"zoo_{name}",
        "dashed": re.sub("_+", "-", name),
        "style": style,
        "version": zoo.__version__,
        "checks": str(CHECKS),
    }
    folder = Path(output) / words["package"]
    texts = {
        Template(path).substitute(words): Template(_read(Template(template).substitute(words))).substitute(words)
        for path, template in _FILES.items()
    }
    try:
        folder.mkdir(parents=True)
    except FileExistsError as exists:
        raise ZooError(f"{folder} exists already", hint="choose another name or --output, or remove it") from exists
    except OSError as error:
        raise ZooError(f"{folder} cannot be written: {error}", hint="choose another --output") from error
    try:
        _write(folder, texts)
    except OSError as error:
        raise ZooError(f"{folder} cannot be written: {error}", hint="choose another --output") from error
    return folder


def _write(folder: Path, texts: Mapping[str, str]) -> None:
    """All files, or none of them nor the folder."""
    try:
        for path, text in texts.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text, encoding="utf-8")
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _refuse_bad(name: str) -> None:
    if not NAME.fullmatch(name) or name.endswith("_"):  # names of distributions end in a letter or digit
        close = "_".join("".join(c if c.isascii() and c.isalnum() else " " for c in name.lower()).split())
        more = f"; how about {close}?" if NAME.fullmatch(close) else ""
        raise SpecError(f"plugin name {name!r}", hint=f"use lower case letters, digits and, between them, _{more}")
    if keyword.iskeyword(name) or name in sys.stdlib_module_names:
        raise SpecError(
            f"plugin name {name!r} is a word of Python's own", hint=f"choose another; how about {name}_models?"
        )
    record = registry.default.plugin(name)
    if name == registry.LOCAL or (record is not None and record.builtin):
        raise SpecError(f"plugin name {name!r} belongs to zoo itself", hint="choose another; `zoo plugins` lists them")


def _read(template: str) -> str:
    return files("zoo").joinpath("_template", template).read_text(encoding="utf-8")
