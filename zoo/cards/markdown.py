"""Markdown around text that others wrote: whatever is in it, it stays text."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence

_ACTIVE = re.compile(r"[\\`*\[\]|~$]|(?<!\w)_|_(?!\w)")  # an underscore between letters is only an underscore
_FIRST = re.compile(r"([#+=-]|\d+[.)])(?=\s|$|[#+=-])")  # would start a heading, a list or a rule
_ADDRESS = re.compile(r"https?://[\w.~:/?#@!&'*+,;=%-]+")


def words(value: object) -> str:
    """In one line, without what cannot be printed: line breaks, controls, marks that turn the direction of text."""
    return " ".join("".join(c if c.isprintable() else " " for c in str(value)).split())


def text(value: object) -> str:
    """Words in which nothing is markup."""
    escaped = _ACTIVE.sub(r"\\\g<0>", html.escape(words(value), quote=False))
    first = _FIRST.match(escaped)
    return escaped if first is None else f"{escaped[: first.end() - 1]}\\{escaped[first.end() - 1 :]}"


def code(value: object) -> str:
    """As code, for a cell of a table; between more backticks than are in it."""
    plain = words(value).replace("|", r"\|")
    fence = "`" * (max(map(len, re.findall("`+", plain)), default=0) + 1)
    pad = " " if "`" in plain else ""
    return f"{fence}{pad}{plain}{pad}{fence}" if plain else ""


def link(address: str, title: str = "") -> str:
    """A link, if it is an address of the web; otherwise only the words."""
    if not _ADDRESS.fullmatch(address):
        return text(title or address)
    return f"[{text(title)}]({address})" if title else f"<{address}>"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a table whose cells are Markdown already."""
    lines = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(cells)} |" for cells in lines]


def facts(rows: Iterable[tuple[str, str]]) -> list[str]:
    """A table of names and what is known about them; unknown ones are left out."""
    return table(["", ""], [(name, known) for name, known in rows if known])
