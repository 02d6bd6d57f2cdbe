"""How a conformance check says no: what was expected, what was seen, and how to fix it."""

from __future__ import annotations

from collections.abc import Callable

from zoo.spec import ModelSpec

Check = Callable[[ModelSpec], None]


class CheckFailed(AssertionError):
    """A model does not keep its side. `expected`, `seen` and `fix` are sentences, together the text of the error.

    mark: what a table shows for it.
    """

    mark = "FAILED"

    def __init__(self, expected: str, seen: str, fix: str) -> None:
        super().__init__(expected, seen, fix)
        self.expected, self.seen, self.fix = expected, seen, fix

    def __str__(self) -> str:
        return f"\n  expected: {self.expected}\n  seen:     {self.seen}\n  fix:      {self.fix}"


class Unpinned(CheckFailed):
    """Nothing is wrong with the model, but somebody has yet to ask the Hub which bytes its weights are.

    The spec says so itself, so this is shown and counted, and is no failure: an expected one under pytest.
    """

    mark = "unpinned"


def require(condition: bool, *, expected: str, seen: str, fix: str) -> None:
    """Raise CheckFailed unless the condition holds."""
    if not condition:
        raise CheckFailed(expected, seen, fix)
