"""`list_models(license="commercial")`: what anybody may use commercially, by a table that says so."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

import zoo
from zoo import licenses
from zoo.cli import commands


@pytest.mark.parametrize(
    "terms", ["MIT", "apache-2.0", "BSD-3-Clause", "cc-by-4.0", "CC-BY-SA-4.0", "GPL-3.0-or-later"]
)
def test_these_allow_commercial_use(terms):
    assert licenses.matches(terms, "commercial")
    assert licenses.matches(terms.lower(), terms)


@pytest.mark.parametrize(
    "terms", ["", "other", "cc-by-nc-4.0", "CC-BY-NC-SA-4.0", "commercial", "openrail", "MIT OR x"]
)
def test_what_is_not_in_the_table_does_not(terms):
    assert not licenses.matches(terms, "Commercial")


def test_models_are_listed_by_it():
    weights = {
        "free": zoo.Weights(source="a.safetensors", license="Apache-2.0"),
        "bought": zoo.Weights(source="a.safetensors", license="cc-by-nc-4.0"),
        "unknown": zoo.Weights(source="a.safetensors"),
    }
    with zoo.testing.isolated():
        zoo.register(zoo.ModelSpec(name="net", builder="a:b", license="MIT", weights=weights))
        assert zoo.list_models(license="commercial") == ["local/net", "local/net.free"]
        assert zoo.list_models(license="CC-by-NC-4.0") == ["local/net.bought"]
        listed = CliRunner().invoke(commands, ["list", "--license", "commercial", "--pretrained"])
    assert listed.output == "local/net.free\n"


def test_of_ours_the_pickles_of_torchvision_are_in_and_those_for_research_are_not():
    names = zoo.list_models(license="commercial", pretrained=True)
    assert {"r3d_18.k400", "r2plus1d_tiny.camera_motion", "vjepa2_vitl.ssv2"} <= set(names)
    assert not [name for name in names if name.startswith(("videomae", "hiera", "timesformer"))]
