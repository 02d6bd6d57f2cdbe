"""The order of the house: who may import whom, and facts that stand in two places agree."""

from __future__ import annotations

import ast
import re
import tomllib
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import zoo

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
FAMILIES = sorted(p.name for p in (ROOT / "plugins").iterdir() if (p / "__init__.py").is_file())

# From the ground up. A module may import at its top what stands in a row before its own, or in the same row.
LAYERS = [
    ["errors", "licenses", "processes"],
    ["plain"],
    ["spec"],
    ["hooks"],
    ["discovery"],
    ["registry"],
    ["weights", "video", "synth"],
    ["contract", "recognise"],
    ["factory"],
    ["cost"],
    ["tasks", "convert", "data"],
    ["streaming", "evaluate", "attribution"],
    ["testing", "scaffold", "cards", "doctor"],
    ["pictures"],
    ["publishing", "gallery"],
    ["train"],
    ["bulk", "deploy"],
    ["speed"],
    ["cli"],
    ["__main__"],
]
LEVEL = {name: i for i, row in enumerate(LAYERS) for name in row}


def sources(folder: Path):
    return sorted(p for p in folder.rglob("*.py"))


def imports(path: Path, *, top_only: bool):
    """Dotted names that a file imports; with `top_only`, when it is imported and not only for types."""
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_only else list(ast.walk(tree))
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", sources(ROOT / "zoo"), ids=lambda p: str(p.relative_to(ROOT)))
def test_the_core_imports_downwards_and_no_plugin(path):
    module = path.relative_to(ROOT / "zoo").parts[0].removesuffix(".py")
    assert not {name.partition(".")[0] for name in imports(path, top_only=False)} & set(FAMILIES)
    if module == "__init__":
        return
    for name in imports(path, top_only=True):
        parts = name.split(".")
        if parts[0] == "zoo" and len(parts) > 1 and parts[1] in LEVEL:
            assert LEVEL[parts[1]] <= LEVEL[module], f"{module} imports {name}"
    if module != "video":
        assert "av" not in {name.partition(".")[0] for name in imports(path, top_only=False)}, "only zoo.video knows av"
    if not (module == "weights" and path.name.startswith("hub")):
        assert "huggingface_hub" not in {name.partition(".")[0] for name in imports(path, top_only=False)}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_imports_public_names_and_no_other_family(family):
    for path in sources(ROOT / "plugins" / family):
        names = list(imports(path, top_only=False))
        assert not {n.partition(".")[0] for n in names} & (set(FAMILIES) - {family})
        for name in names:
            if name.startswith("zoo."):
                assert not any(part.startswith("_") for part in name.split(".")), f"{path.name} imports {name}"
                assert name.split(".")[1] in {*zoo.__all__, "errors", "layers"}, f"{path.name} imports {name}"
    light = {name.partition(".")[0] for name in imports(ROOT / "plugins" / family / "__init__.py", top_only=True)}
    assert light <= {"__future__", "collections", "dataclasses", "typing", "zoo", family}


def test_every_family_is_packaged_and_has_its_entry_point():
    declared = PROJECT["project"]["entry-points"]["zoo"]
    assert sorted(declared.values()) == FAMILIES
    assert PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == [
        "zoo",
        *(f"plugins/{family}" for family in FAMILIES),
    ]
    installed = {e.name: e.value for e in entry_points(group="zoo") if e.dist and e.dist.name == "video-zoo"}
    assert installed == declared, "entry points are read from installed metadata: run `pip install -e .` again"


def test_version_and_changelog_agree():
    newest = re.search(r"^## \[?(\d[^\] ]*)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None
    assert newest[1] == zoo.__version__


def test_no_file_of_code_is_too_long_to_read_at_once():
    ours = [path for folder in ("zoo", "plugins", "tests", "tools") for path in sources(ROOT / folder)]
    long = {str(p.relative_to(ROOT)): n for p in ours if (n := len(p.read_text().splitlines())) > 420}
    assert not long
