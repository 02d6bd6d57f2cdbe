"""What all specs are made of: frozen plain data that complains readably, and turns into dictionaries and back."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, NoReturn, Self

from zoo.errors import SpecError


class FrozenDict(dict[str, Any]):
    """A dict that cannot be changed, and that still pickles, copies and turns into JSON."""

    def _refuse(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise TypeError("specs are frozen; use dataclasses.replace to make another one")

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (dict(self),)

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset((key, repr(value)) for key, value in self.items()))


class Data:
    """Shared by the dataclasses below: plain dictionaries out and in, and readable complaints."""

    def _require(self, condition: bool, field_name: str, wanted: str) -> None:
        if not condition:
            name = getattr(self, "name", "") or type(self).__name__
            raise SpecError(
                f"{name}: {field_name}={getattr(self, field_name)!r}", hint=f"{field_name} must be {wanted}"
            )

    def _set(self, field_name: str, value: Any) -> None:
        object.__setattr__(self, field_name, value)

    def _require_type(self, kind: type | tuple[type, ...], wanted: str, *field_names: str) -> None:
        for name in field_names:
            self._require(isinstance(getattr(self, name), kind), name, wanted)

    def _nest(self, field_name: str, kind: type[Data]) -> None:
        """Accept a plain dictionary where `kind` is wanted."""
        if isinstance(value := getattr(self, field_name), Mapping):
            self._set(field_name, value := kind.from_dict(value))
        self._require(value is None or isinstance(value, kind), field_name, f"a zoo.{kind.__name__} or None")

    def to_dict(self) -> dict[str, Any]:
        """The same as dicts, lists and numbers, ready for JSON."""
        return {f.name: _plain(getattr(self, f.name)) for f in dataclasses.fields(self)}  # type: ignore[arg-type]

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`; an unknown key raises SpecError."""
        known = {f.name for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
        if unknown := sorted(set(data) - known):
            raise SpecError(
                f"{cls.__name__} has no field {unknown[0]!r}", hint=f"the fields are {', '.join(sorted(known))}"
            )
        return cls(**data)


def _plain(value: Any) -> Any:
    if isinstance(value, Data):
        return value.to_dict()
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if callable(value):
        return f"{value.__module__}:{value.__qualname__}"
    return value


def by(size: int | tuple[int, int]) -> str:
    height, width = (size, size) if isinstance(size, int) else size
    return f"{height}x{width}"


def is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def is_size(value: object) -> bool:
    if isinstance(value, tuple):
        return len(value) == 2 and all(map(is_count, value))
    return value is None or is_count(value)
