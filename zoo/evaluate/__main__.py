"""`python -m zoo.evaluate` and `torchrun ... -m zoo.evaluate`: the same as `zoo evaluate`."""

from __future__ import annotations

import sys

if __name__ == "__main__":
    from zoo.cli import main

    main(["evaluate", *sys.argv[1:]])
