"""What the tests of bulk work share: a model that takes no time, videos of known brightness, files that kill a worker.

`python tests/bulk_hooks.py SOURCE OUT LOG [OPTIONS as JSON]` is a run of its own, to be killed.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import zoo

LABELS = ("dark", "bright")
LEVELS = (20, 90, 160, 230)
KINDS = ("empty", "text", "cut", "noise", "lost")


class Brightness(zoo.VideoModel):
    """Logits are -/+ the mean of the clip."""

    def __init__(self) -> None:
        super().__init__()
        self.num_features, self.num_classes = 3, 2
        self.scale = nn.Parameter(torch.tensor(1.0))

    def forward_features(self, clip: Tensor) -> Tensor:
        return clip

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        pooled = features.mean((2, 3, 4))
        bright = self.scale * pooled.mean(1)
        return pooled if pre_logits else torch.stack([-bright, bright], 1)


def brightness() -> Brightness:
    model = Brightness().eval()
    model.preprocessing = zoo.Preprocessing(num_frames=2, resize=16, crop=16, mean=(0.5,) * 3, std=(0.5,) * 3)
    model.labels = LABELS
    return model


class Hooked(zoo.VideoPredictor):
    """Writes down what it opens; a file with `crash` in its name kills the process, `slow` and `hang` take time."""

    def __init__(self, log: Path, model: Any = None, pause_s: float = 0.0, **options: Any) -> None:
        super().__init__(brightness() if model is None else model, **options)
        self.log, self.pause_s = str(log), pause_s

    def open(self, row: Any) -> Any:
        name = Path(row.get("path") or "").name
        with open(self.log, "a") as log:  # noqa: PTH123  appended at once, from several processes
            log.write(name + "\n")
        if "crash" in name:
            os.kill(os.getpid(), signal.SIGSEGV)
        if "lost-gpu" in name:
            raise torch.AcceleratorError("the device is gone")
        time.sleep(60 if "hang" in name else self.pause_s)
        return super().open(row)


BUILT: list[int] = []  # in this process


class Telling(Hooked):
    """Every row fails, and says how its process is set up."""

    def open(self, row: Any) -> Any:
        raise RuntimeError(f"{os.getpid()} has {torch.get_num_threads()} threads, built {len(BUILT)}")

    def _make(self, device: Any) -> Any:
        BUILT.append(1)
        return super()._make(device)


def computed(log: Path) -> list[str]:
    return log.read_text().splitlines() if log.exists() else []


def archive(root: Path, count: int, *, corrupt: int = 0, crashes: int = 0) -> Path:
    """So many small videos named by their level; of them `corrupt` of each of five kinds, and some that crash."""
    root.mkdir(parents=True)
    made = []
    for level in LEVELS:
        path = root.parent / f"{root.name}-{level}.mp4"
        zoo.video.write_video(path, np.full((4, 16, 16, 3), level, np.uint8), fps=4)
        made.append(path.read_bytes())
        path.unlink()
    bad = {
        "empty": b"",
        "text": b"not a video",
        "cut": made[0][:300],
        "noise": np.random.default_rng(0).bytes(2000),
        "lost": made[0].replace(b"trak", b"free"),
    }
    names = [kind for kind in KINDS for _ in range(corrupt)] + ["crash"] * crashes
    step = max(1, count // max(len(names), 1))
    for i in range(count):
        kind = names[i // step] if i % step == step // 2 and i // step < len(names) else ""
        level = LEVELS[i % len(LEVELS)]
        content = made[i % len(LEVELS)] if kind in ("", "crash") else bad[kind]
        (root / f"{i:05d}-{kind or level}.mp4").write_bytes(content)
    return root


def rows(out: Path) -> list[dict[str, Any]]:
    """The table, by id, without what differs from run to run."""
    import pyarrow.parquet as pq

    table = pq.ParquetDataset(out / "parts").read().to_pylist()
    for row in table:
        del row["elapsed_s"], row["attempts"]
    return sorted(table, key=lambda row: row["id"])


def main() -> None:
    source, out, log, *options = sys.argv[1:]
    given = json.loads(options[0]) if options else {}
    model = given.pop("model", None)
    predictor = Hooked(Path(log), model, pause_s=given.pop("pause_s", 0.0))
    zoo.batch(source, out, model=predictor, **given)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    from bulk_hooks import main as of_the_module  # workers know it by this name

    of_the_module()
