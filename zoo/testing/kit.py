"""The conformance kit: what a plugin's models have to keep, as pairs of a spec and a check.

Three doors to the same pairs: `checks` for loops of your own, `conformance` for pytest, `report` for `zoo check`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import wraps
from typing import Any

from zoo import registry
from zoo.errors import PluginError, SpecError, UnknownModel
from zoo.spec import ModelSpec
from zoo.testing import sets
from zoo.testing.failure import Check, CheckFailed, Unpinned
from zoo.testing.world import restored


@dataclass(frozen=True)
class Outcome:
    """One check of one model. `failure` is None where it passed; `mark` is ok, FAILED, or unpinned, which is ok too."""

    model: str
    check: str
    seconds: float
    failure: CheckFailed | None

    @property
    def ok(self) -> bool:
        return self.failure is None or isinstance(self.failure, Unpinned)

    @property
    def mark(self) -> str:
        return self.failure.mark if self.failure else "ok"

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as `zoo check --json` prints it."""
        why = {key: getattr(self.failure, key) for key in ("expected", "seen", "fix")} if self.failure else {}
        row = {"model": self.model, "check": self.check, "ok": self.ok, "mark": self.mark}
        return {**row, "seconds": round(self.seconds, 3), **why}


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
    if version is not None and version not in range(1, sets.newest() + 1):
        raise SpecError(f"version={version!r}", hint=f"this zoo has the sets of checks 1 to {sets.newest()}")
    found = _specs(record, models)
    if record.distribution != registry.THIS_PROCESS:
        yield from ((found[0], _explained(check)) for check in sets.of_plugin(version))
    for spec in found:
        yield from ((spec, _explained(check)) for check in sets.of_model(spec, version))


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
    Weights that nobody has pinned yet show as expected failures by themselves.
    """
    import pytest

    reasons = dict(xfail or {})
    pairs = list(checks(plugin, models=models, version=version))
    _refuse_unknown(reasons, {name for pair in pairs for name in (case_id(*pair), pair[1].__name__)}, plugin)
    cases = []
    for spec, check in pairs:
        case = case_id(spec, check)
        known = [key for key in (case, check.__name__) if key in reasons]
        marks = [pytest.mark.xfail(reason=reasons[key], strict=True) for key in known[:1]]
        cases.append(pytest.param(spec, check, id=case, marks=marks))

    @pytest.mark.parametrize(("spec", "check"), cases)
    def test_conformance(spec: ModelSpec, check: Check) -> None:
        try:
            check(spec)
        except Unpinned as unpinned:
            pytest.xfail(f"{unpinned.mark}: {unpinned.seen}")

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
    about_plugin = any(check.__name__ == one.__name__ for one in sets.of_plugin(None))
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


def _refuse_unknown(names: Mapping[str, str], known: set[str], plugin: str) -> None:
    unknown = sorted(set(names) - known)
    if unknown:
        close = {match: None for name in unknown for match in get_close_matches(name, sorted(known), n=2)}
        hint = (
            f"did you mean {', '.join(close)}?" if close else "give a check's name, or model-check as pytest prints it"
        )
        raise SpecError(f"xfail names {', '.join(unknown)}, which is no check of {plugin!r}", hint=hint)


def _explained(check: Check) -> Check:
    """The same check, without side effects, and with an explanation of what it did not foresee, SystemExit included."""

    @wraps(check)
    def run(spec: ModelSpec) -> None:
        try:
            with restored():
                check(spec)
        except (CheckFailed, KeyboardInterrupt):
            raise
        except BaseException as error:
            purpose = (check.__doc__ or check.__name__).strip().partition("\n")[0]
            raise CheckFailed(
                purpose, f"{type(error).__name__}: {error}", "the traceback shows the line that raised it"
            ) from error

    return run
