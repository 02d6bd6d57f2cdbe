"""zoo grows without breaking plugins: those written for an older zoo work, those for a newer one are told so."""

from __future__ import annotations

import dataclasses
import inspect
import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import install

import zoo
from zoo import hooks
from zoo.cli import commands
from zoo.registry import PluginWarning, Registry

# A plugin as it was written for zoo 0.1.0, with every field of that time. Never to be changed: it stands for those
# that are out there.
OLD = """
import zoo

PROTOCOL = zoo.Preprocessing(
    num_frames=8, sampler="uniform", stride=1, fps=None, resize=32, interpolation="bilinear", antialias=True, crop=32,
    crop_rounding="floor", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), clips=1, crops=1, activation="softmax",
    aggregation="prob_mean", short="repeat_last",
)

@zoo.hookimpl
def zoo_models():
    return [
        zoo.ModelSpec(
            name="net", builder="old_net:net", family="cnn", task="classification", kwargs={"width": 4},
            preprocessing=PROTOCOL, num_classes=5, params=1253, description="A network of 2026.",
            geometry=zoo.Geometry(channels=3, frames=None, min_frames=1, frames_multiple=1, size=None, min_size=1,
                                  size_multiple=1),
            paper="https://example.org/paper", license="MIT", streaming=False, layouts={}, opens={},
            weights={"far": zoo.Weights(
                source="hf://owner/repo/net.safetensors@main", sha256="0" * 64, size=1, layout="",
                labels=tuple("abcde"),
                kwargs={}, preprocessing=PROTOCOL, license="MIT", training_data="none", description="", url="",
                metrics=[zoo.Metric(name="top1", value=20.0, dataset="none", origin="published", by="chance", split="",
                                    level="clip", views="card", url="")],
            )},
            default_tag="far",
        ),
        zoo.ModelSpec(name="bare", builder="old_net:net"),
    ]
"""
OLD_NET = (Path(__file__).parent / "models.py").read_text().replace("def tiny(", "def net(")

# How plugins meet something that this zoo does not have.
NEW = {
    "a field": "zoo.ModelSpec(name='a', builder='x:y', carbon=1)",
    "a field of the weights": "zoo.ModelSpec(name='a', builder='x:y', weights={'t': {'source': 'a', 'carbon': 1}})",
    "a class": "zoo.Carbon(1)",
}
HOOK = "import zoo\n{}\n@zoo.hookimpl\ndef zoo_models({}):\n    return [{}]"
SPEC = "zoo.ModelSpec(name='a', builder='x:y')"
NEWER = {name: HOOK.format("", "", spec) for name, spec in NEW.items()} | {
    "an argument of the hook": HOOK.format("", "version", SPEC),
    "a name": HOOK.format("from zoo import Carbon", "", SPEC),
    "a module": HOOK.format("import zoo.carbon", "", SPEC),
}


def test_an_old_plugin_works_and_keeps_to_its_set_of_checks(tmp_path, monkeypatch, clean_environment):
    install(tmp_path, "zoo-old", {"old": "old_plugin"}, old_plugin=OLD, old_net=OLD_NET)
    monkeypatch.syspath_prepend(tmp_path)
    with zoo.testing.isolated() as registry:
        registry._discover = True
        assert zoo.list_models("old/*") == ["old/bare", "old/net", "old/net.far"]
        assert registry.plugin("old").notes == []
        assert [row for row in zoo.testing.report("old", models=["net"], version=1) if not row.ok] == []
        assert zoo.build("old/bare").num_classes == 5
    for name in ("old_plugin", "old_net"):
        del sys.modules[name]


def test_every_field_of_the_specs_but_the_first_ones_has_a_default():
    required = {
        zoo.ModelSpec: ["name"],
        zoo.Weights: [],
        zoo.Preprocessing: ["num_frames"],
        zoo.Geometry: [],
        zoo.Metric: ["name", "value", "dataset", "origin", "by"],
    }
    for kind, names in required.items():
        bare = [
            field.name
            for field in dataclasses.fields(kind)
            if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        ]
        assert bare == names


def test_the_hook_asks_nothing_of_old_plugins():
    assert list(inspect.signature(hooks.zoo_models).parameters) == []
    assert hooks.GROUP == "zoo"


@pytest.mark.parametrize("code", NEWER.values(), ids=NEWER)
def test_a_plugin_for_a_newer_zoo_is_asked_whether_it_is_one(site, code):
    site("zoo-new", {"new": "new_plugin"}, new_plugin=code)
    registry = Registry()
    with pytest.warns(
        PluginWarning, match=r"(?s)'new' \(zoo-new 1\.0\) is switched off.*is it built for a newer zoo\?"
    ):
        assert registry.list_models() == ["r3d_18"]
    assert registry.plugin("new").notes == ["is it built for a newer zoo?"]


def test_a_mere_mistake_is_not_asked(site):
    site("zoo-bad", {"bad": "bad_plugin"}, bad_plugin="1/0")
    registry = Registry()
    with pytest.warns(PluginWarning) as caught:
        registry.list_models()
    assert "newer" not in str(caught[0].message)
    assert registry.plugin("bad").notes == []


def test_zoo_plugins_shows_the_question(site):
    site("zoo-new", {"new": "new_plugin"}, new_plugin=NEWER["a class"])
    with zoo.testing.isolated() as registry:
        registry._discover = True
        with pytest.warns(PluginWarning):
            result = CliRunner().invoke(commands, ["plugins", "--json"])
    assert result.exit_code == 1
    rows = {row["name"]: row for row in json.loads(result.stdout)}
    assert rows["new"]["notes"] == ["is it built for a newer zoo?"]


def test_a_later_interface_has_a_group_of_its_own(site):
    site("zoo-both", {"both": "old_plugin"}, old_plugin=OLD, old_net=OLD_NET)
    entry_points = Path(sys.path[0]) / "zoo_both-1.0.dist-info" / "entry_points.txt"
    entry_points.write_text(entry_points.read_text() + "[zoo.v2]\nboth = not_there_yet\n")
    assert "both/net" in Registry().list_models()
