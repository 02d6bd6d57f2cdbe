"""Options of builders, checked before there is a network. A wrong one raises SpecError, which says what is right."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from zoo.errors import SpecError


def one_of(name: str, value: Any, allowed: Iterable[Any]) -> Any:
    """The value, which is one of these."""
    if not any(type(value) is type(each) and value == each for each in allowed):
        raise SpecError(f"{name}={value!r:.80}", hint=f"it is one of {', '.join(map(repr, allowed))}")
    return value


def whole(name: str, value: Any, least: int = 1, most: int | None = None) -> int:
    """The value, a whole number of at least this, and at most that."""
    fits = isinstance(value, int) and not isinstance(value, bool)
    if not fits or value < least or (most is not None and value > most):
        bounds = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise SpecError(f"{name}={value!r:.80}", hint=f"it is a whole number {bounds}")
    return int(value)


def several(name: str, value: Any, count: int | None = None) -> tuple[int, ...]:
    """The value, so many whole numbers, or any number of them but none."""
    if not isinstance(value, list | tuple) or not value or (count is not None and len(value) != count):
        raise SpecError(f"{name}={value!r:.80}", hint=f"it is {count or 'a few'} whole numbers of at least 1")
    return tuple(whole(name, each) for each in value)


def dropped(value: Any) -> float:
    """The option `dropout`: what part of the features is dropped in training."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise SpecError(f"dropout={value!r:.80}", hint="it is a number from 0 to 1")
    return float(value)
