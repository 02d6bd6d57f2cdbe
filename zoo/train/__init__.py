"""Fine-tuning that goes on exactly where it stopped, on one process or many.

    zoo.train("r2plus1d_tiny.camera_motion", "videos", "runs/first", epochs=5)
    torchrun --nproc-per-node 2 -m zoo.train r2plus1d_tiny videos runs/first --epochs 5

`zoo.train` is the function; the package of that name holds its parts, and `import zoo` imports this light file of it.
So the name never turns from a function into a module when somebody imports a part.
"""

from __future__ import annotations

from collections.abc import Callable
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoo.train.loop import Trained

__all__ = ["train"]


def train(
    model: str | None = None,
    data: str | PathLike[str] | None = None,
    out: str | PathLike[str] | None = None,
    *,
    config: str | PathLike[str] | None = None,
    tell: Callable[[str], object] = print,
    **settings: Any,
) -> Trained:
    """Train a model on labelled videos; what is in `out` already goes on from its newest checkpoint.

    model: an architecture, which starts from scratch; or architecture.tag, "hf-hub:owner/repo" or "local-dir:path",
    whose head is replaced unless its labels are those of the data.
    data: a folder of class folders, or of train, val and test folders of these; or a .csv or .jsonl of path, label,
    start_s, end_s and split.
    out: the folder of the result: `model` (for create, predict and publish), settings.toml, log.csv, curves.png,
    val.csv (the videos that were held back) and checkpoints. Where it holds other files of these names, TrainingError.
    config: a TOML file of settings; arguments win. settings: fields of `zoo.train.settings.Settings`, which has their
    meanings, such as epochs=10, batch_size=16, lr=1e-3, layer_decay=0.75, mixup=0.8, ema=0.999, amp="bf16".
    tell: called with what happens, as text; only in the first process.
    Under torchrun each process calls this. SIGTERM and Ctrl-C end it after the step, with a checkpoint: the same call
    then goes on with the same clips, augmentations and learning rates, also on another number of processes, and to the
    same bits on as many processes and threads.
    Raises DataError with all that is wrong with the data, SpecError for settings, TrainingError, what loading raises.
    """
    from zoo.train.settings import Settings

    given = {"model": model, "data": data and fspath(data), "out": out and fspath(out)}
    changes = settings | {name: value for name, value in given.items() if value is not None}
    read = Settings.read(None if config is None else fspath(config), **changes)
    from zoo.train.loop import run

    return run(read, tell)
