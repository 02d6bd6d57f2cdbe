"""The generated parts of the documentation: the model table of the README.

python tools/tables.py            write it
python tools/tables.py --check    say whether it is what it would be, exit with 1 if not
"""

from __future__ import annotations

import sys
from pathlib import Path

import zoo

README = Path(__file__).parent.parent / "README.md"
START, END = "<!-- models: written by tools/tables.py -->\n", "<!-- /models -->"


def model_table() -> str:
    """Our own architectures and weights, as Markdown."""
    lines = ["| name | parameters | about | code | weights |", "|---|---:|---|---|---|"]
    for name in zoo.list_models():
        if "/" in name:
            continue
        spec = zoo.info(name)
        weights = spec.weights.get(name.partition(".")[2])
        params = f"{spec.params:,}" if spec.params and not weights else ""
        about = weights.description if weights else spec.description
        licence = f"{weights.license} (in the wheel)" if weights else ""
        lines.append(f"| `{name}` | {params} | {about} | {'' if weights else spec.license} | {licence} |")
    return "\n".join(lines) + "\n"


def with_table(text: str) -> str:
    """The README with the table as it should be."""
    before, rest = text.split(START)
    _, after = rest.split(END)
    return before + START + "\n" + model_table() + "\n" + END + after


def main() -> None:
    text = README.read_text()
    wanted = with_table(text)
    if sys.argv[1:] == ["--check"]:
        if text != wanted:
            sys.exit("README.md is out of date: run python tools/tables.py")
    else:
        README.write_text(wanted)


if __name__ == "__main__":
    main()
