"""The conformance kit itself: right plugins pass, and each wrong one fails exactly the check that it breaks."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest
from click.testing import CliRunner
from conftest import GOOD
from safetensors.torch import save_file
from wrong_models import right

import zoo
from zoo.cli import commands
from zoo.errors import PluginError, SpecError, UnknownModel
from zoo.testing import CheckFailed, perturb, record_golden

RIGHT = zoo.ModelSpec(
    name="net",
    builder="wrong_models:right",
    family="test",
    num_classes=5,
    params=1253,
    description="Two convolutions.",
    paper="https://example.org/paper",
    license="MIT",
    preprocessing=zoo.Preprocessing(num_frames=8, resize=32),
    geometry=zoo.Geometry(min_frames=2),
)
STREAM = replace(RIGHT, builder="wrong_models:Causal", streaming=True, params=461)


def wrong(builder: str, spec: zoo.ModelSpec = RIGHT, **fields: object) -> zoo.ModelSpec:
    return replace(spec, builder=f"wrong_models:{builder}", **fields)


# What is wrong, the only check that fails, and a word of what it says.
WRONG = {
    "no licence": (replace(RIGHT, license=""), "check_spec_is_complete", "empty: license"),
    "no protocol": (replace(RIGHT, preprocessing=None), "check_spec_is_complete", "preprocessing"),
    "an object in the spec": (
        wrong("with_layer", kwargs={"layer": list}),
        "check_spec_is_data",
        "<class 'list'>",
    ),
    "a callable builder": (replace(RIGHT, builder=right), "check_spec_is_data", "<function right"),
    "another size": (replace(RIGHT, params=7), "check_parameter_count", "params=1_253"),
    "num_classes ignored": (wrong("fixed_classes"), "check_output_shape", "(2, 5)"),
    "num_classes not stated": (replace(RIGHT, num_classes=None), "check_output_shape", "None"),
    "softmax": (wrong("Probabilities"), "check_logits_are_not_probabilities", "sum to 1"),
    "in place": (wrong("Mutates"), "check_input_is_not_mutated", "changed by up to"),
    "statistics of the batch": (wrong("Leaks"), "check_clips_are_independent", "alone"),
    "noise": (wrong("Trembles"), "check_deterministic", "relative difference"),
    "one length only": (wrong("OneLength"), "check_declared_clips_run", "the smallest clip"),
    "geometry not checked": (wrong("Unchecked"), "check_other_clips_raise", "4 channels"),
    "tied weights": (wrong("Tied"), "check_safetensors_round_trip", "share memory"),
    "numbers outside of the file": (wrong("Unsaved"), "check_safetensors_round_trip", "relative difference"),
    "unused": (wrong("Dead", params=1256), "check_every_parameter_learns", "unused"),
    "work after the head": (wrong("Scaled"), "check_forward_is_the_head_of_the_features", "relative difference"),
    "num_features": (wrong("WrongWidth"), "check_features_come_before_the_head", "99"),
    "a head for ever": (wrong("OneHead"), "check_reset_classifier", "(2, 5)"),
    "a group is missing": (wrong("Ungrouped"), "check_layer_groups", "fc.weight"),
    "a copy that is none": (wrong("NoCopy"), "check_deepcopy", "share memory"),
    "a lambda": (wrong("NoPickle"), "check_pickle", "lambda"),
    "a branch on values": (wrong("NoExport"), "check_export", "data-dependent"),
    "float32 for ever": (wrong("NoAutocast"), "check_autocast", "dtype"),
    "a seed": (wrong("seeds"), "check_global_state_is_untouched", "generator of torch is seeded"),
    "a switch": (wrong("switches"), "check_global_state_is_untouched", "cudnn.benchmark"),
    "chunks": (wrong("Forgets", STREAM), "check_chunks_make_no_difference", "chunks of 1"),
    "state in place": (wrong("Impure", STREAM), "check_steps_are_pure", "changed in place: total, frames"),
    "a state of views": (wrong("Views", STREAM), "check_state_survives_a_file", "contiguous"),
    "a state of all streams": (wrong("OneCount", STREAM), "check_one_stream_starts_anew", "relative difference"),
    "a branch on the state": (wrong("BranchesInStep", STREAM), "check_step_exports", "data-dependent"),
}


def failures(spec: zoo.ModelSpec, **options: object) -> dict[str, CheckFailed]:
    with zoo.testing.isolated():
        zoo.register(spec, name="acme")
        return {row.check: row.failure for row in zoo.testing.report("acme", **options) if not row.ok}


@pytest.mark.parametrize("spec", [RIGHT, STREAM, replace(RIGHT, geometry=None)], ids=["net", "stream", "any clip"])
def test_a_right_plugin_passes_every_check(spec):
    assert failures(spec) == {}


@pytest.mark.parametrize(("spec", "check", "text"), WRONG.values(), ids=WRONG)
def test_a_wrong_plugin_fails_the_check_that_it_breaks_and_no_other(spec, check, text):
    found = failures(spec)
    assert list(found) == [check], found
    failure = found[check]
    assert text in str(failure)
    assert failure.expected and failure.seen and failure.fix


def test_every_check_has_a_wrong_plugin():
    with zoo.testing.isolated():
        zoo.register(STREAM, name="acme")
        known = {check.__name__ for _, check in zoo.testing.checks("acme")}
    assert known == {check for _, check, _ in WRONG.values()}  # the other two, light and packaged, follow below


def test_every_check_says_what_it_shows():
    with zoo.testing.isolated():
        zoo.register(STREAM, name="acme")
        for _, check in zoo.testing.checks("acme"):
            assert check.__name__.startswith("check_")
            assert check.__doc__.strip().endswith(".")


EAGER = "import heavy\n" + GOOD.format("net")


def test_an_eager_plugin_fails_once_and_says_what_it_imports(site):
    site("zoo-acme", {"acme": "acme_plugin"}, acme_plugin=EAGER, heavy="")
    with zoo.testing.isolated() as registry:
        registry._discover = True
        pairs = list(zoo.testing.checks("acme"))
        light = [check for _, check in pairs if check.__name__ == "check_discovery_is_light"]
        assert len(light) == 1
        with pytest.raises(CheckFailed, match="also imports heavy") as failed:
            light[0](pairs[0][0])
        assert "inside of functions" in failed.value.fix


# --- weights in the package ----------------------------------------------------------------------------------------


@pytest.fixture
def packaged(tmp_path, monkeypatch):
    """A spec with weights inside an importable package, not recorded yet."""
    (tmp_path / "acme_weights").mkdir()
    (tmp_path / "acme_weights" / "__init__.py").touch()
    save_file(perturb(right()).state_dict(), tmp_path / "acme_weights" / "net.safetensors")
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / "acme_weights" / "net.safetensors"
    weights = zoo.Weights(
        source="pkg://acme_weights/net.safetensors",
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        size=path.stat().st_size,
        num_classes=5,
        license="MIT",
        training_data="nothing",
    )
    yield replace(RIGHT, weights={"t": weights}), path
    sys.modules.pop("acme_weights", None)


def test_packaged_weights_are_held_to_the_logits_on_record(packaged):
    spec, path = packaged
    assert failures(spec) == {}, "without a record they have to load and be finite"
    with zoo.testing.isolated():
        zoo.register(spec, name="acme")
        record = record_golden("acme/net.t")
        with pytest.raises(SpecError, match=r"architecture\.tag"):
            record_golden("acme/net")
    assert record == path.with_name("net.golden.json")
    assert failures(spec) == {}
    data = json.loads(record.read_text())
    data["logits"][2] += 0.01
    record.write_text(json.dumps(data))
    found = failures(spec)
    assert list(found) == ["check_packaged_weights"]
    assert "net.golden.json" in found["check_packaged_weights"].expected
    record.write_text('{"clip": [1, 3, 8, 32, 32], "logits": "none"}')
    assert list(failures(spec)) == ["check_packaged_weights"]
    record.unlink()
    path.write_bytes(path.read_bytes()[:-1])
    found = failures(spec)
    assert list(found) == ["check_packaged_weights"]
    assert "WeightsCorrupt" in found["check_packaged_weights"].seen


# --- the doors -----------------------------------------------------------------------------------------------------

TEST_FILE = """
import zoo

zoo.register(zoo.ModelSpec.from_dict({spec}), name="acme")
test_acme = zoo.testing.conformance("acme", xfail={xfail})
"""


def pytest_run(folder, spec, xfail):
    (folder / "test_acme.py").write_text(TEST_FILE.format(spec=spec.to_dict(), xfail=xfail))
    command = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", "-k", "licence or complete or count"]
    return subprocess.run([*command, str(folder)], capture_output=True, text=True, check=False)


def test_in_pytest_ids_are_readable_and_known_failures_are_strict(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    monkeypatch.setenv("COLUMNS", "200")
    done = pytest_run(tmp_path, replace(RIGHT, license=""), {"check_spec_is_complete": "the lawyers are on it"})
    assert "test_acme[net-check_parameter_count] PASSED" in done.stdout
    assert "test_acme[net-check_spec_is_complete] XFAIL (the lawyers are on it)" in done.stdout
    assert done.returncode == 0
    done = pytest_run(tmp_path, RIGHT, {"net-check_spec_is_complete": "the lawyers are on it"})
    assert "[XPASS(strict)] the lawyers are on it" in done.stdout
    assert done.returncode == 1


def test_an_expected_failure_that_names_no_check_raises():
    with zoo.testing.isolated():
        zoo.register(RIGHT, name="acme")
        with pytest.raises(SpecError, match="check_lisence"):
            zoo.testing.conformance("acme", xfail={"check_lisence": "a typo"})


def test_sets_of_checks_are_numbered_and_grow_only(monkeypatch):
    def check_something_new(spec):
        """A rule of a later zoo."""

    from zoo.testing import kit

    with zoo.testing.isolated():
        zoo.register(RIGHT, name="acme")
        before = [check.__name__ for _, check in zoo.testing.checks("acme", version=1)]
        assert len(before) == 21
        monkeypatch.setitem(kit.OF_MODELS, 2, (check_something_new,))
        assert [check.__name__ for _, check in zoo.testing.checks("acme", version=1)] == before
        assert "check_something_new" in [check.__name__ for _, check in zoo.testing.checks("acme")]
        with pytest.raises(SpecError, match="version=9"):
            list(zoo.testing.checks("acme", version=9))


def test_who_cannot_be_checked_is_told_why(site):
    with zoo.testing.isolated() as registry:
        with pytest.raises(UnknownModel, match="no plugin 'nobody' is installed"):
            list(zoo.testing.checks("nobody"))
        zoo.register(zoo.ModelSpec(name="*", resolver="wrong_models:resolve"), name="any")
        with pytest.raises(PluginError, match="--model NAME"):
            list(zoo.testing.checks("any"))
        site("zoo-bad", {"bad": "bad_plugin"}, bad_plugin="1/0")
        registry._discover = True
        registry._entries = None
        with pytest.warns(UserWarning, match="switched off"), pytest.raises(PluginError, match="ZeroDivisionError"):
            list(zoo.testing.checks("bad"))


def test_models_of_a_namespace_are_checked_by_name():
    with zoo.testing.isolated():
        zoo.register(zoo.ModelSpec(name="*", resolver="wrong_models:resolve"), name="any")
        pairs = list(zoo.testing.checks("any", models=["net"]))
        assert {spec.full_name for spec, _ in pairs} == {"any/net"}
        with pytest.raises(UnknownModel):
            list(zoo.testing.checks("any", models=["other"]))


def test_importing_the_kit_imports_neither_torch_nor_pytest():
    code = "import sys, zoo.testing; zoo.testing.isolated; print({'torch', 'pytest', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
    code = "import sys, zoo; zoo.testing.checks; print('pytest' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def command(*arguments, code):
    result = CliRunner().invoke(commands, arguments)
    assert result.exit_code == code, result.output
    return result


def test_zoo_check_prints_a_table_and_exits_with_one_if_a_check_fails():
    with zoo.testing.isolated():
        zoo.register(RIGHT, name="acme")
        text = command("check", "acme", code=0).stdout
        assert "check_pickle" in text
        assert text.splitlines()[-1] == "acme: 21 of 21 checks passed"
    with zoo.testing.isolated():
        zoo.register(replace(RIGHT, license="", params=7), name="acme")
        text = command("check", "acme", code=1).stdout
        assert text.splitlines()[-1] == "acme: 19 of 21 checks passed"
        assert "write params=1_253" in text
        rows = json.loads(command("check", "acme", "--json", "--model", "net", code=1).stdout)
        assert {row["check"] for row in rows if not row["ok"]} == {"check_spec_is_complete", "check_parameter_count"}
        assert rows[0]["model"] == "net"
        assert next(row for row in rows if not row["ok"])["fix"]
        assert "no plugin 'nobody'" in command("check", "nobody", code=2).stderr
