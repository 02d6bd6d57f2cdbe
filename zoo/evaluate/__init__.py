"""What a model makes of labelled videos, measured by the protocol of its weights.

    zoo.evaluate("r2plus1d_tiny.camera_motion", "videos")
    torchrun --nproc-per-node 2 -m zoo.evaluate r2plus1d_tiny.camera_motion videos

`zoo.evaluate` is the function; as with `zoo.train`, `import zoo` imports this light file of the package of that name.
"""

from __future__ import annotations

from os import PathLike
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoo.contract import VideoModel
    from zoo.evaluate.evaluation import Evaluation
    from zoo.video.clips import ViewsOption

__all__ = ["evaluate"]


def evaluate(
    model: VideoModel | str,
    data: str | PathLike[str],
    *,
    views: ViewsOption = "card",
    split: str = "",
    out: str | PathLike[str] | None = None,
    workers: int = 2,
    device: Any = None,
) -> Evaluation:
    """Measure a classifier on labelled videos: top-1 and top-5 by clip and by video, per class, calibration, speed.

    model: a model, or a name as `zoo.predict` takes it. data: a folder of class folders, or a .csv or .jsonl of path,
    label, start_s, end_s and split. Labels are those of the model, or their numbers.
    views: "card" runs the published clips and crops, whose figures alone compare with published ones; "fast" one centre
    clip; (clips, crops) what you say.
    split: "train", "val" or "test" where the data say which is which; if not given, "val" where they have it, else
    "test", else all of them.
    out: a folder for evaluation.json and confusion.png. workers: processes that decode, for each that computes.
    Videos that cannot be read are no part of the figures; they are counted and listed in `unreadable`.
    Under torchrun each process calls this and gets the result, which is that of one process.
    Raises DataError for data and labels, SpecError for options and for models of another task, what loading raises.
    """
    from zoo.evaluate.running import run

    return run(model, data, views=views, split=split, out=out, workers=workers, device=device)
