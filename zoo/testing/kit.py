"""The conformance kit: what a plugin's models have to keep, as pairs of a spec and a check.

Three doors to the same pairs: `checks` for loops of your own, `conformance` for pytest, `report` for `zoo check`.
Checks come in numbered sets that never change, so that a new zoo does not break a plugin that names its version.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from importlib import import_module
from typing import Any

from zoo import registry
from zoo.errors import PluginError, SpecError, UnknownModel
from zoo.spec import ModelSpec
from zoo.tasks import TASKS
from zoo.testing import geometry, golden, networks, specs, streams
from zoo.testing.failure import Check, CheckFailed
from zoo.testing.world import restored
from zoo.weights.source import PACKAGED

# Once per plugin, and for every model; a task adds its own.
OF_PLUGINS: dict[int, tuple[Check, ...]] = {1: (specs.check_discovery_is_light,)}
OF_MODELS: dict[int, tuple[Check, ...]] = {
    1: (
        specs.check_spec_is_complete,
        specs.check_spec_is_data,
        specs.check_parameter_count,
        geometry.check_declared_clips_run,
        geometry.check_other_clips_raise,
        networks.check_input_is_not_mutated,
        networks.check_clips_are_independent,
        networks.check_deterministic,
        networks.check_safetensors_round_trip,
        networks.check_every_parameter_learns,
        networks.check_layer_groups,
        networks.check_deepcopy,
        networks.check_pickle,
        networks.check_export,
        networks.check_autocast,
        networks.check_global_state_is_untouched,
    )
}
OF_STREAMS: dict[int, tuple[Check, ...]] = {
    1: (streams.check_chunks_make_no_difference, streams.check_steps_are_pure),
    2: (streams.check_state_survives_a_file, streams.check_one_stream_starts_anew, streams.check_step_exports),
}
OF_PACKAGED: dict[int, tuple[Check, ...]] = {1: (golden.check_packaged_weights,)}
NEWEST = max(number for sets in (OF_PLUGINS, OF_MODELS, OF_STREAMS, OF_PACKAGED) for number in sets)


@dataclass(frozen=True)
class Outcome:
    """One check of one model. `failure` is None where it passed."""

    model: str
    check: str
    seconds: float
    failure: CheckFailed | None

    @property
    def ok(self) -> bool:
        return self.failure is None

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as `zoo check --json` prints it."""
        why = {key: getattr(self.failure, key) for key in ("expected", "seen", "fix")} if self.failure else {}
        return {"model": self.model, "check": self.check, "ok": self.ok, "seconds": round(self.seconds, 3), **why}


def checks(
    plugin: str, *, models: Sequence[str] | None = None, version: int | None = None
) -> Iterator[tuple[ModelSpec, Check]]:
    """Every (spec, check) of an installed or registered plugin; `check(spec)` raises CheckFailed or does nothing.

    models: only these, by their names without the namespace. A plugin that makes models for any name needs some here.
    version: the newest set of checks to include; None means all that this zoo has.
    Raises UnknownModel, PluginError, SpecError.
    """
    record = registry.default.plugin(plugin)
    if record is None:
        raise UnknownModel(f"no plugin {plugin!r} is installed", hint="`zoo plugins` shows those that are")
    if record.error:
        raise PluginError(
            f"plugin {plugin!r} is switched off: {record.error.splitlines()[-1]}", hint="see `zoo plugins`"
        )
    if version is not None and version not in range(1, NEWEST + 1):
        raise SpecError(f"version={version!r}", hint=f"this zoo has the sets of checks 1 to {NEWEST}")
    found = _specs(record, models)
    if record.distribution != registry.THIS_PROCESS:
        yield from _pairs(found[:1], OF_PLUGINS, version)
    for spec in found:
        yield from _pairs([spec], OF_MODELS, version)
        yield from _pairs([spec], of_task(spec.task), version)
        if spec.streaming:
            yield from _pairs([spec], OF_STREAMS, version)
        if any(weights.source.startswith(PACKAGED) for weights in spec.weights.values()):
            yield from _pairs([spec], OF_PACKAGED, version)


def conformance(
    plugin: str,
    *,
    xfail: Mapping[str, str] | None = None,
    models: Sequence[str] | None = None,
    version: int | None = None,
) -> Callable[..., None]:
    """A pytest test for a file of yours, one case per model and check: `test_acme = zoo.testing.conformance("acme")`.

    xfail: {check or "model-check": reason} for what is known to fail. Strict: once it passes it has to leave the list.
    models, version: as for `zoo.testing.checks`. Name the version, so that a new zoo brings no new checks unasked.
    """
    import pytest

    reasons = dict(xfail or {})
    unused = set(reasons)
    cases = []
    for spec, check in checks(plugin, models=models, version=version):
        case = case_id(spec, check)
        known = [key for key in (case, check.__name__) if key in reasons]
        unused -= set(known)
        marks = [pytest.mark.xfail(reason=reasons[key], strict=True) for key in known[:1]]
        cases.append(pytest.param(spec, check, id=case, marks=marks))
    if unused:
        raise SpecError(
            f"xfail names {', '.join(sorted(unused))}, which is no check of {plugin!r}",
            hint="give the name of a check, or model-check as pytest prints it",
        )

    @pytest.mark.parametrize(("spec", "check"), cases)
    def test_conformance(spec: ModelSpec, check: Check) -> None:
        check(spec)

    return test_conformance


def report(plugin: str, *, models: Sequence[str] | None = None, version: int | None = None) -> Iterator[Outcome]:
    """Run the checks of `zoo.testing.checks` one after the other, and say how each of them went."""
    for spec, check in checks(plugin, models=models, version=version):
        start, failure = time.perf_counter(), None
        try:
            check(spec)
        except CheckFailed as failed:
            failure = failed
        yield Outcome(case_id(spec, check).partition("-")[0], check.__name__, time.perf_counter() - start, failure)


def case_id(spec: ModelSpec, check: Check) -> str:
    """The name of a pair: "net_s-check_deterministic", with the plugin's name where the check is about all of it."""
    about_plugin = any(check.__name__ == one.__name__ for group in OF_PLUGINS.values() for one in group)
    return f"{spec.plugin if about_plugin else spec.name}-{check.__name__}"


def _specs(record: registry.PluginRecord, models: Sequence[str] | None) -> list[ModelSpec]:
    if models is not None:
        described = {name: spec.full_name for name, spec in record.models.items() if not spec.is_namespace}
        elsewhere = "" if record.builtin and ModelSpec.WILDCARD not in record.models else f"{record.name}/"
        return [registry.default.info(described.get(name, f"{elsewhere}{name}")) for name in models]
    found = [spec for spec in record.models.values() if not spec.is_namespace]
    if not found:
        anything = "makes models for any name" if record.models else "describes no models"
        raise PluginError(f"plugin {record.name!r} {anything}", hint="say which with models=[...], or `--model NAME`")
    return found


def of_task(task: str) -> dict[int, tuple[Check, ...]]:
    """The sets of checks that a task adds."""
    reference = getattr(import_module(TASKS[task]), "CHECKS", "") if task in TASKS else ""
    return registry.import_function(reference) if reference else {}


def _pairs(
    specs: Sequence[ModelSpec], sets: Mapping[int, Sequence[Check]], version: int | None
) -> Iterator[tuple[ModelSpec, Check]]:
    for spec in specs:
        for number, group in sorted(sets.items()):
            if version is None or number <= version:
                yield from ((spec, _explained(check)) for check in group)


def _explained(check: Check) -> Check:
    """The same check, without side effects, and with an explanation of exceptions that it did not foresee."""

    @wraps(check)
    def run(spec: ModelSpec) -> None:
        try:
            with restored():
                check(spec)
        except CheckFailed:
            raise
        except Exception as error:
            purpose = (check.__doc__ or check.__name__).strip().partition("\n")[0]
            raise CheckFailed(
                purpose, f"{type(error).__name__}: {error}", "the traceback shows the line that raised it"
            ) from error

    return run
