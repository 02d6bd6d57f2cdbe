"""`python -m zoo.train` and `torchrun ... -m zoo.train`: the same as `zoo train`."""

from __future__ import annotations

import sys

if __name__ == "__main__":
    from zoo.cli import main

    main(["train", *sys.argv[1:]])
