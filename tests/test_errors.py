"""Every error that a user can cause is in the table, as it is said, with a next step."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import runpy
from pathlib import Path

import pytest

import zoo
from zoo import errors

ROOT = Path(__file__).parent.parent
TABLE = (ROOT / "zoo" / "ERRORS.md").read_text()
tool = runpy.run_path(str(ROOT / "tools" / "errors.py"))
BASES = {errors.VideoError, errors.WeightsError}  # raised as one of their children, or where none of them fits


def test_every_error_is_in_the_table_and_provoked():
    """That the table is what is said when they are provoked, tests/test_docs.py holds."""
    kinds = {kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, zoo.ZooError)}
    assert kinds == {zoo.ZooError, *tool["descendants"](zoo.ZooError)}
    assert kinds - {zoo.ZooError} - BASES == set(tool["PROVOKED"])
    assert all(f"| `{kind.__name__}` |" in TABLE for kind in kinds)
    for kind in tool["PROVOKED"]:
        (row,) = (line for line in TABLE.splitlines() if line.startswith(f"| `{kind.__name__}` |"))
        said, step = row.rstrip("| ").replace("\\|", "").split(" | ")[-2:]
        assert said.strip() and step.strip(), kind


def test_no_error_is_defined_elsewhere():
    for module in pkgutil.walk_packages(zoo.__path__, "zoo."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    found, waiting = set(), [zoo.ZooError]
    while waiting:
        kind = waiting.pop()
        waiting += kind.__subclasses__()
        found |= {kind} if kind.__module__.startswith("zoo.") and kind.__module__ != "zoo.errors" else set()
    assert {kind.__name__ for kind in found} == {"Recounted", "NoSuchFile"}, "which say no more than their bases"


@pytest.mark.parametrize(
    "file", sorted([*ROOT.glob("zoo/**/*.py"), *ROOT.glob("plugins/**/*.py")]), ids=lambda p: p.stem
)
def test_every_error_that_is_made_says_a_next_step(file):
    kinds = {kind.__name__ for kind in tool["descendants"](zoo.ZooError)}
    for call in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name | ast.Attribute):
            name = call.func.id if isinstance(call.func, ast.Name) else call.func.attr
            hints = [word.value for word in call.keywords if word.arg in ("hint", None)]  # None: **facts
            said = hints and not (isinstance(hints[0], ast.Constant) and not hints[0].value)
            assert name not in kinds or said, f"{file}:{call.lineno}: {name} without a hint"


@pytest.mark.parametrize("kind", [errors.UnknownModel, errors.WeightsNotFound])
def test_builtins_do_not_change_what_is_said(kind):
    assert str(kind("no model", hint="zoo list")) == "no model: zoo list"
    assert kind("no model", hint="zoo list").hint == "zoo list"
