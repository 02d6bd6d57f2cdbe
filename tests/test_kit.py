"""The conformance kit itself: right plugins pass, and each wrong one fails exactly the check that it breaks."""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import replace

import pytest
from conftest import GOOD
from safetensors.torch import save_file
from wrong_models import ON_THE_HUB, PUBLISHED, RIGHT, STREAM, right

import zoo
from zoo.errors import SpecError
from zoo.testing import CheckFailed, perturb, record_golden


def wrong(builder: str, spec: zoo.ModelSpec = RIGHT, **fields: object) -> zoo.ModelSpec:
    return replace(spec, builder=f"wrong_models:{builder}", **fields)


def weighted(**fields: object) -> zoo.ModelSpec:
    return replace(RIGHT, weights={"t": replace(ON_THE_HUB, **fields)})


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
    "percents": (wrong("Rescaled"), "check_logits_are_free", "the same sum"),
    "logarithms of a softmax": (wrong("Logarithms"), "check_logits_are_free", "exponentials"),
    "sigmoids times two": (wrong("Odds"), "check_logits_are_free", "no logit is negative"),
    "time in the batch": (wrong("FoldsTime"), "check_every_clip_gets_one_row", "(4, 5)"),
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
    "threads": (wrong("SwitchesThreads"), "check_global_state_is_untouched", "number of threads"),
    "a type for all": (wrong("SwitchesDtype"), "check_global_state_is_untouched", "default dtype"),
    "a seed in forward": (wrong("SeedsWhileRunning"), "check_forward_leaves_no_trace", "generator of torch"),
    "a seed in training": (wrong("SeedsInTraining"), "check_forward_leaves_no_trace", "generator of numpy"),
    "no more gradients": (wrong("SwitchesGradientsOff"), "check_forward_leaves_no_trace", "True became False"),
    "a switch in training": (wrong("SwitchesInTraining"), "check_forward_leaves_no_trace", "matmul precision"),
    "the end of the process": (wrong("StopsInTraining"), "check_training_mode_works", "SystemExit: only for inference"),
    "no numbers in training": (wrong("DividesByZero"), "check_training_mode_works", "not finite: the answer"),
    "two answers in training": (wrong("AuxiliaryHead"), "check_training_mode_works", "(2, 2, 5)"),
    "no such layout": (
        replace(RIGHT, layouts={"theirs": "wrong_models:gone"}),
        "check_named_functions_exist",
        "has no attribute 'gone'",
    ),
    "no such opener": (
        replace(RIGHT, opens={"transformers:theirs": "nowhere:opener"}),
        "check_named_functions_exist",
        "No module named 'nowhere'",
    ),
    "weights of no layout": (weighted(layout="theirs"), "check_named_functions_exist", "'theirs', of none"),
    "half a pin": (weighted(sha256=""), "check_weights_are_pinned", "empty: weights['t'].sha256"),
    "one label": (weighted(labels=("walk",), num_classes=1), "check_labels_fit_the_weights", "one label, 'walk'"),
    "a step unsaid": (replace(STREAM, streaming=False), "check_streaming_is_declared", "init_state and step"),
    "half a stream": (wrong("HalfAStream"), "check_streaming_is_declared", "it has step"),
    "odd frames": (wrong("Pairs", STREAM), "check_uneven_chunks_make_no_difference", "chunks of 3"),
    "another delay": (replace(STREAM, delay=2), "check_delay", "2"),
    "a delay unsaid": (wrong("LateUnsaid", STREAM), "check_delay", "an answer after 1 frames"),
    "a delay that is none": (wrong("NotLate", STREAM, delay=2), "check_delay", "no answer after 2 frames"),
    "another window": (replace(STREAM, receptive_field=9), "check_receptive_field", "9"),
    "a window unsaid": (wrong("WindowUnsaid", STREAM), "check_receptive_field", "frame 24 from the end"),
    "a window that is none": (wrong("NoWindow", STREAM, receptive_field=4), "check_receptive_field", "frame 5 from"),
    "another period": (replace(STREAM, period=2), "check_period", "2"),
    "a period unsaid": (wrong("EverySecondUnsaid", STREAM), "check_period", "after 3 frames"),
    "a period that is none": (wrong("EveryFrame", STREAM, period=2), "check_period", "after 2, 3"),
    "chunks": (wrong("Forgets", STREAM), "check_chunks_make_no_difference", "chunks of 1"),
    "state in place": (wrong("Impure", STREAM), "check_steps_are_pure", "changed in place: total, frames"),
    "a state of views": (wrong("Views", STREAM), "check_state_survives_a_file", "contiguous"),
    "a state of all streams": (wrong("OneCount", STREAM), "check_one_stream_starts_anew", "relative difference"),
    "a branch on the state": (wrong("BranchesInStep", STREAM), "check_step_exports", "data-dependent"),
}


def failures(spec: zoo.ModelSpec) -> dict[str, CheckFailed]:
    with zoo.testing.isolated():
        zoo.register(spec, name="acme")
        return {row.check: row.failure for row in zoo.testing.report("acme") if not row.ok}


def ask(spec: zoo.ModelSpec, name: str) -> None:
    """One check only."""
    with zoo.testing.isolated():
        zoo.register(spec, name="acme")
        (check,) = (check for _, check in zoo.testing.checks("acme") if check.__name__ == name)
        check(zoo.info("acme/net"))


RIGHTS = {
    "net": RIGHT,
    "any clip": replace(RIGHT, geometry=None),
    "stream": STREAM,
    "late": wrong("Late", STREAM, delay=2),
    "window": wrong("Window", STREAM, receptive_field=4),
    "every second frame": wrong("EverySecond", STREAM, period=2),
    "weights": weighted(),
    "one label of a sigmoid": weighted(
        labels=("a cat",), num_classes=1, preprocessing=zoo.Preprocessing(num_frames=8, resize=32, activation="sigmoid")
    ),
}


@pytest.mark.parametrize("spec", RIGHTS.values(), ids=RIGHTS)
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


def test_a_stream_that_is_none_fails_what_is_asked_of_streams():
    found = failures(replace(RIGHT, streaming=True))
    with zoo.testing.isolated():
        zoo.register(RIGHT, name="acme")
        of_all = {check.__name__ for _, check in zoo.testing.checks("acme")}
    assert set(found) & of_all == {"check_streaming_is_declared"}
    assert "none of them" in found["check_streaming_is_declared"].seen


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
        **PUBLISHED,
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
    ask(spec, "check_packaged_weights")
    data = json.loads(record.read_text())
    rows = {"another number": [*data["logits"][:2], data["logits"][2] + 0.01, *data["logits"][3:]]}
    rows |= {"a little larger": [1.0005 * logit for logit in data["logits"]], "none": "none"}
    for logits in rows.values():
        record.write_text(json.dumps({**data, "logits": logits}))
        with pytest.raises(CheckFailed, match=r"net\.golden\.json"):
            ask(spec, "check_packaged_weights")
    assert list(failures(spec)) == ["check_packaged_weights"]
    record.unlink()
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CheckFailed, match="WeightsCorrupt"):
        ask(spec, "check_packaged_weights")


def test_a_file_at_hand_has_as_many_logits_as_labels(packaged):
    spec, path = packaged
    found = zoo.Weights(source=str(path), sha256="", labels=tuple("abcde"), license="MIT", training_data="nothing")
    ask(replace(spec, weights={"t": found}), "check_labels_fit_the_weights")
    four = replace(found, labels=tuple("abcd"), num_classes=4)
    with pytest.raises(CheckFailed, match=r"fits a model of 4 classes(?s:.*)fc\.weight \(5, 8\) instead of \(4, 8\)"):
        ask(replace(spec, weights={"t": four}), "check_labels_fit_the_weights")
