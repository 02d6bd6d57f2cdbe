"""plugins/README.md: every block runs, and README and guide together name everything that is public."""

from __future__ import annotations

import importlib
import re
import shlex
import sys
import tomllib
import warnings
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import install

import zoo
from zoo.cli import commands
from zoo.scaffold import new_plugin

ROOT = Path(__file__).parent.parent
GUIDE = (ROOT / "plugins" / "README.md").read_text()
BOTH = GUIDE + (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", GUIDE, re.DOTALL)


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """A folder with a video. Blocks leave their files here, as they would on a reader's machine."""
    folder = tmp_path_factory.mktemp("desk")
    frames = np.random.default_rng(0).integers(0, 255, (30, 72, 96, 3), dtype=np.uint8)
    zoo.video.write_video(folder / "my_video.mp4", frames, fps=10)
    return folder


def test_the_guide_runs_from_top_to_bottom(desk, monkeypatch, clean_environment):
    """One test, as later blocks build on earlier ones. pip is played here; tests/test_scaffold.py has the real one."""
    monkeypatch.chdir(desk)
    monkeypatch.setattr(sys, "path", [str(desk / "zoo_acme"), *sys.path])
    before = set(sys.modules)
    with zoo.testing.isolated() as registry, warnings.catch_warnings(), zoo.testing.LoopbackHub() as hub:
        the_hub_itself = {
            "ENDPOINT": hub.url,
            "HUGGINGFACE_CO_URL_TEMPLATE": f"{hub.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}",
            "HF_HUB_CACHE": "cache",
            "HF_HUB_DISABLE_IMPLICIT_TOKEN": True,
        }
        for name, value in the_hub_itself.items():
            monkeypatch.setattr(f"huggingface_hub.constants.{name}", value)
        warnings.filterwarnings("ignore", message=".*no published weights")
        registry._discover = True
        for kind, code in BLOCKS:
            if kind == "python":
                names = {"__name__": "guide"}
                sys.modules["guide"] = type(sys)("guide")
                exec(compile(code, "plugins/README.md", "exec"), names)
                if "published" in names:
                    paste(names["published"].stanza, registry)
            elif kind == "bash":
                for line in code.splitlines():
                    shell(line, registry)
            else:
                pytest.fail(f"nothing runs a block of {kind}")
    for name in set(sys.modules) - before:
        if name.startswith(("zoo_acme", "guide")):
            del sys.modules[name]
    assert (desk / "net.safetensors").is_file()


def paste(stanza, registry):
    """What the guide says in words: the weights into the spec."""
    specs = Path("zoo_acme/zoo_acme/__init__.py")
    before, small, after = specs.read_text().partition("    small=")
    specs.write_text(f'{before}    weights={{"moves": {stanza}}},\n    default_tag="moves",\n{small}{after}')
    importlib.invalidate_caches()
    for name in [name for name in sys.modules if name.startswith("zoo_acme")]:
        del sys.modules[name]
    registry.plugins(refresh=True)
    assert "acme/net_s.moves" in zoo.list_models(pretrained=True)


def shell(line, registry):
    program, *arguments = shlex.split(line, comments=True)
    if program == "pip":
        assert arguments == ["install", "-e", "./zoo_acme"]
        project = tomllib.loads(Path("zoo_acme/pyproject.toml").read_text())["project"]
        install(Path("zoo_acme"), project["name"], project["entry-points"]["zoo"])
        registry.plugins(refresh=True)
        return
    assert program == "zoo"
    result = CliRunner().invoke(commands, arguments)
    assert result.exit_code == 0, (line, result.output)


def test_every_public_name_command_and_variable_is_documented():
    sources = "".join(p.read_text() for p in (ROOT / "zoo").rglob("*.py"))
    names = [f"zoo.{name}" for name in zoo.__all__] + [f"zoo.testing.{name}" for name in zoo.testing.__all__]
    names += [f"zoo {name}" for name in commands.commands]
    names += set(re.findall(r"\bZOO_[A-Z_]+", sources))
    assert [name for name in names if not says(BOTH, name)] == []


def says(text, name):
    """As whole words: `zoo.load_clips` does not say `zoo.load`, nor `zoo new-things` say `zoo new`."""
    return re.search(rf"(?<![\w.-]){re.escape(name)}(?![\w-])", text) is not None


def test_a_part_of_a_word_is_not_the_word():
    assert (
        says("use `zoo.load(model)`", "zoo.load")
        and says("zoo.video.Url", "zoo.video")
        and says("zoo new acme", "zoo new")
    )
    for text in ("zoo.load_clips", "my_zoo.load", "a.zoo.load", "zoo.loads"):
        assert not says(text, "zoo.load")
    assert not says("`zoo newest`, zoo new-things", "zoo new")


def test_everything_that_is_documented_exists():
    for name in set(re.findall(r"`zoo\.((?:\w+\.)*\w+)", BOTH)):
        if name == "v2":
            continue  # an entry-point group of the future
        found = zoo
        for part in name.split("."):
            try:
                found = getattr(found, part)
            except AttributeError:
                found = __import__(f"{found.__name__}.{part}", fromlist=["_"])
    for command in set(re.findall(r"`zoo ([a-z]+)", BOTH)):
        assert command in commands.commands, command


def test_every_file_of_a_new_plugin_is_explained(tmp_path):
    folder = new_plugin("acme", output=tmp_path)
    for path in filter(Path.is_file, folder.rglob("*")):
        if path.name != "README.md":
            assert f"`{path.relative_to(folder)}`" in GUIDE
