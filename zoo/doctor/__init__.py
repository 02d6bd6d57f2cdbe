"""What is here, what is slow or broken, and how to mend it.

Nothing heavy is imported into this process: libraries are tried in a child, so that one that hangs or crashes is a
finding too. No check may raise; one that fails is a finding itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

SLOW, BROKEN = "slow", "broken"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. status: "ok", "slow" or "broken"; fix: what to do about the last two."""

    area: str
    name: str
    value: str
    status: str = "ok"
    fix: str = ""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


Check = Callable[[], Iterator[Finding]]


def examine() -> Iterator[Finding]:
    """Everything that `zoo doctor` looks at, one after the other. Never raises."""
    from zoo.doctor.checks import CHECKS

    for area, check in CHECKS.items():
        yield from careful(area, check)


def careful(area: str, check: Check) -> Iterator[Finding]:
    """The findings of a check, and one more if it fails."""
    try:
        yield from check()
    except Exception as error:  # a sick installation fails in ways that nobody foresees
        said = f"could not be looked at: {type(error).__name__}: {error}"
        yield Finding(area, "check", said, BROKEN, "please report this with the output of `zoo doctor --json`")
