"""How a conformance check says no: what was expected, what was seen, and how to fix it."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps

from zoo.spec import ModelSpec

Check = Callable[[ModelSpec], None]


class CheckFailed(AssertionError):
    """A model does not keep its side. `expected`, `seen` and `fix` are sentences, together the text of the error."""

    def __init__(self, expected: str, seen: str, fix: str) -> None:
        super().__init__(expected, seen, fix)
        self.expected, self.seen, self.fix = expected, seen, fix

    def __str__(self) -> str:
        return f"\n  expected: {self.expected}\n  seen:     {self.seen}\n  fix:      {self.fix}"


def require(condition: bool, *, expected: str, seen: str, fix: str) -> None:
    """Raise CheckFailed unless the condition holds."""
    if not condition:
        raise CheckFailed(expected, seen, fix)


def explained(check: Check) -> Check:
    """The same check; an exception that it did not foresee becomes a CheckFailed too, with the cause behind it."""

    @wraps(check)
    def run(spec: ModelSpec) -> None:
        try:
            check(spec)
        except CheckFailed:
            raise
        except Exception as error:
            raise CheckFailed(
                purpose(check), f"{type(error).__name__}: {error}", "the traceback shows the line that raised it"
            ) from error

    return run


def purpose(check: Check) -> str:
    """The first line of the check's docstring: what it shows."""
    return (check.__doc__ or "").strip().partition("\n")[0]
