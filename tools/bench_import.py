"""What asking the zoo costs, beside importing the frameworks, each in a fresh process, interleaved.

    python tools/bench_import.py [--rounds 7] [--at-least 25]

Prints median and spread of the wall time, its ratio to `import timm`, and the number of imported modules. The same
statement stands in the list twice as a control: its two rows show how far apart equal things come out. `--at-least`
compares least times. Every process may read and write compiled bytecode, whatever PYTHONDONTWRITEBYTECODE says:
pip compiles what it installs, and a checkout would else be compiled at each start.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time

STATEMENTS = {
    "pass": "pass",
    "import zoo": "import zoo",
    "zoo.list_models()": "import zoo; zoo.list_models()",
    "zoo.list_models() again": "import zoo; zoo.list_models()",
    "import torch": "import torch",
    "import timm": "import timm",
}


def run(statement: str) -> tuple[float, int]:
    """Seconds of a fresh process, and how many modules it had at the end."""
    code = f"{statement}\nimport sys; print(len(sys.modules))"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    return time.perf_counter() - start, int(done.stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--at-least", type=float, default=0, help="fail unless listing is this many times cheaper")
    options = parser.parse_args()
    seconds: dict[str, list[float]] = {name: [] for name in STATEMENTS}
    modules: dict[str, int] = {}
    for statement in STATEMENTS.values():
        run(statement)  # warm the file cache
    for _ in range(options.rounds):
        for name, statement in STATEMENTS.items():
            elapsed, modules[name] = run(statement)
            seconds[name].append(elapsed)
    timm = statistics.median(seconds["import timm"])
    print(f"{'statement':<26}{'median s':>10}{'min':>8}{'max':>8}{'of timm':>10}{'modules':>9}")
    for name, times in seconds.items():
        middle = statistics.median(times)
        ratio = f"1/{timm / middle:.1f}"
        print(f"{name:<26}{middle:>10.3f}{min(times):>8.3f}{max(times):>8.3f}{ratio:>10}{modules[name]:>9}")
    least = {name: min(times) for name, times in seconds.items()}  # what disturbs a run only adds to it
    if least["import timm"] < options.at_least * least["zoo.list_models()"]:
        sys.exit(f"zoo.list_models() takes more than 1/{options.at_least:g} of import timm")


if __name__ == "__main__":
    main()
