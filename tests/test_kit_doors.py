"""The doors of the conformance kit, pytest, `zoo check` and loops, and the sets of checks behind them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest
from click.testing import CliRunner
from wrong_models import ON_THE_HUB, RIGHT

import zoo
from zoo.cli import commands
from zoo.errors import PluginError, SpecError, UnknownModel
from zoo.tasks import TASKS

SETS = {
    "plugin 1": "discovery_is_light",
    "model 1": "spec_is_complete spec_is_data parameter_count declared_clips_run other_clips_raise "
    "input_is_not_mutated clips_are_independent deterministic safetensors_round_trip every_parameter_learns "
    "layer_groups deepcopy pickle export autocast global_state_is_untouched",
    "model 3": "named_functions_exist weights_are_pinned labels_fit_the_weights training_mode_works "
    "forward_leaves_no_trace streaming_is_declared",
    "classification 1": "output_shape logits_are_not_probabilities forward_is_the_head_of_the_features "
    "features_come_before_the_head reset_classifier",
    "classification 3": "every_clip_gets_one_row logits_are_free",
    "next_frame 1": "forecast_shape longer_forecast_starts_with_the_shorter every_frame_counts",
    "next_frame 3": "every_clip_gets_its_frames",
    "streams 1": "chunks_make_no_difference steps_are_pure",
    "streams 2": "state_survives_a_file one_stream_starts_anew step_exports",
    "streams 3": "uneven_chunks_make_no_difference delay receptive_field period",
    "packaged 1": "packaged_weights",
}

TEST_FILE = """
import zoo

zoo.register(zoo.ModelSpec.from_dict({spec}), name="acme")
test_acme = zoo.testing.conformance("acme", xfail={xfail})
"""


def pytest_run(folder, spec, xfail, cases="complete or count"):
    (folder / "test_acme.py").write_text(TEST_FILE.format(spec=spec.to_dict(), xfail=xfail))
    command = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", "-k", cases]
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
        with pytest.raises(SpecError, match=r"check_layer_group,.*did you mean .*check_layer_groups"):
            zoo.testing.conformance("acme", xfail={"check_layer_group": "a typo"})
        with pytest.raises(SpecError, match="did you mean net-check_pickle"):
            zoo.testing.conformance("acme", xfail={"nets-check_pickle": "a typo"})
        with pytest.raises(SpecError, match="give a check's name"):
            zoo.testing.conformance("acme", xfail={"xyz": "nothing like it"})


def test_the_sets_of_checks_are_these():
    """What `zoo check` prints and xfail takes. A name may be added, in a new set; none may go, or change its set."""
    from zoo.testing import sets

    tasks = {task: sets.of_task(task) for task in TASKS}
    found = {"plugin": sets.OF_PLUGINS, "model": sets.OF_MODELS, **tasks}
    found |= {"streams": sets.OF_STREAMS, "packaged": sets.OF_PACKAGED}
    names = {
        f"{whom} {number}": " ".join(check.__name__.removeprefix("check_") for check in group)
        for whom, numbered in found.items()
        for number, group in numbered.items()
    }
    assert names == SETS
    assert sets.newest() == 3


def test_sets_of_checks_are_numbered_and_grow_only(monkeypatch):
    def check_something_new(spec):
        """A rule of a later zoo."""

    from zoo.testing import sets

    with zoo.testing.isolated():
        zoo.register(RIGHT, name="acme")
        before = [check.__name__ for _, check in zoo.testing.checks("acme", version=1)]
        assert len(before) == 21
        monkeypatch.setitem(sets.OF_MODELS, 9, (check_something_new,))
        assert [check.__name__ for _, check in zoo.testing.checks("acme", version=1)] == before
        assert "check_something_new" in [check.__name__ for _, check in zoo.testing.checks("acme")]
        with pytest.raises(SpecError, match="version=10"):
            list(zoo.testing.checks("acme", version=10))


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
        assert text.splitlines()[-1] == "acme: 29 of 29 checks passed"
    with zoo.testing.isolated():
        zoo.register(replace(RIGHT, license="", params=7), name="acme")
        text = command("check", "acme", code=1).stdout
        assert text.splitlines()[-1] == "acme: 27 of 29 checks passed"
        assert "write params=1_253" in text
        rows = json.loads(command("check", "acme", "--json", "--model", "net", code=1).stdout)
        assert {row["check"] for row in rows if not row["ok"]} == {"check_spec_is_complete", "check_parameter_count"}
        assert rows[0]["model"] == "net"
        assert next(row for row in rows if not row["ok"])["fix"]
        assert "no plugin 'nobody'" in command("check", "nobody", code=2).stderr


UNPINNED = replace(RIGHT, weights={"t": replace(ON_THE_HUB, sha256="", size=None)})


def test_weights_that_nobody_has_pinned_are_marked_and_no_failure(tmp_path, monkeypatch):
    with zoo.testing.isolated():
        zoo.register(UNPINNED, name="acme")
        text = command("check", "acme", code=0).stdout
        (row,) = (row for row in json.loads(command("check", "acme", "--json", code=0).stdout) if row["mark"] != "ok")
    (line,) = (line for line in text.splitlines() if " unpinned " in line)
    assert line.split()[:3] == ["net", "check_weights_are_pinned", "unpinned"]
    assert text.splitlines()[-1] == "acme: 28 of 29 checks passed, 1 unpinned"
    assert "net: unpinned, which is no failure" in text and "weights['t'] on the Hub, not pinned" in text
    assert (row["check"], row["mark"], row["ok"]) == ("check_weights_are_pinned", "unpinned", True)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    monkeypatch.setenv("COLUMNS", "200")
    done = pytest_run(tmp_path, UNPINNED, {}, "pinned or count")
    assert (
        "test_acme[net-check_weights_are_pinned] XFAIL (unpinned: weights['t'] on the Hub, not pinned)" in done.stdout
    )
    assert done.returncode == 0


def test_one_that_ends_the_process_is_one_failed_check_and_ctrl_c_still_stops(monkeypatch):
    from zoo.testing import sets

    class Stop(BaseException):
        """What some libraries stop their own loops with."""

    def check_raises(spec):
        """It passes."""
        raise error

    for error, stops in ((SystemExit(3), False), (Stop("now"), False), (KeyboardInterrupt(), True)):
        monkeypatch.setattr(sets, "of_model", lambda spec, version: [check_raises])
        with zoo.testing.isolated():
            zoo.register(RIGHT, name="acme")
            if stops:
                with pytest.raises(KeyboardInterrupt):
                    list(zoo.testing.report("acme"))
                continue
            (row,) = zoo.testing.report("acme")
        assert not row.ok and row.failure.expected == "It passes." and type(error).__name__ in row.failure.seen
