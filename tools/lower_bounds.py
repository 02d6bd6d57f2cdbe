"""The oldest versions that pyproject.toml allows, as arguments for pip.

python -m venv old && old/bin/pip install $(python tools/lower_bounds.py) -e '.[test]' && old/bin/python -m pytest
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path


def main() -> None:
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]
    bounds = [re.match(r"([\w.-]+)>=([\w.]+)", dependency) for dependency in project["dependencies"]]
    print(*(f"{bound[1]}=={bound[2]}.*" for bound in bounds if bound))


if __name__ == "__main__":
    main()
