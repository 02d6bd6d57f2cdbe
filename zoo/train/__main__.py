"""`python -m zoo.train` and `torchrun ... -m zoo.train`: the same as `zoo train`."""

from __future__ import annotations

import sys

from zoo.cli import main

if __name__ == "__main__":
    main(["train", *sys.argv[1:]])
