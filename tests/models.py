"""A network that is small enough for tests of the core, which knows no model."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from zoo import VideoModel


class Tiny(VideoModel):
    """Two stages, batch norm, a non-persistent buffer, and a dropout."""

    def __init__(self, *, num_classes: int = 5, width: int = 4) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv3d(3, width, 3, padding=1), nn.BatchNorm3d(width), nn.ReLU())
        self.body = nn.Conv3d(width, 2 * width, 3, stride=2, padding=1)
        self.drop = nn.Dropout(0.5)
        self.register_buffer("scale", torch.full((1,), 2.0), persistent=False)
        self.num_features = 2 * width
        self.reset_classifier(num_classes)

    def stages(self) -> dict[str, nn.Module]:
        return {"stem": self.stem, "body": self.body}

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        pooled = self.drop(features.mean((2, 3, 4)) * self.scale)
        return pooled if pre_logits else self.fc(pooled)

    def reset_classifier(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self.fc = nn.Linear(self.num_features, num_classes) if num_classes else nn.Identity()


def tiny(*, num_classes: int = 5, width: int = 4) -> Tiny:
    return Tiny(num_classes=num_classes, width=width)


def fussy(*, width: int = 4) -> Tiny:
    raise ValueError(f"width is {width}")


# --- layouts: what zoo asks about a file that names its tensors in another way ---------------------------------------


def renamed(state: dict[str, Tensor]) -> dict[str, Tensor] | None:
    """Files in which the stem is called `conv1`."""
    if not any(name.startswith("conv1.") for name in state):
        return None
    return {name.replace("conv1.", "stem.", 1): tensor for name, tensor in state.items()}


def never_ends(state: dict[str, Tensor]) -> None:
    while True:
        pass


def sleeps(state: dict[str, Tensor]) -> None:
    time.sleep(60)


def aborts(state: dict[str, Tensor]) -> None:
    os.abort()


def looks_around(state: dict[str, Tensor]) -> None:
    """What a pickle that ran code could do here; said by the error that it ends with."""
    attempts = {
        "secret": lambda: os.environ["ZOO_SECRET"],
        "connect": lambda: socket.create_connection(("127.0.0.1", 9), timeout=1),
        "program": lambda: subprocess.run(["true"], check=False),
        "shell": lambda: os.system("true"),
        "write": Path("side_effect").touch,
        "remove": Path("file.pth").unlink,
        "fork": os.fork,
        "memory": lambda: torch.empty(1 << 40, dtype=torch.uint8),
    }
    managed = []
    for name, attempt in attempts.items():
        try:
            attempt()
        except (OSError, KeyError, RuntimeError):
            continue
        managed.append(name)
    raise ValueError(f"managed to: {managed}; {Path('/proc/self/ns/net').readlink()}")
