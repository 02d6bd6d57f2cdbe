"""The folder of a training, in which nothing is written over that is no part of it."""

from __future__ import annotations

from pathlib import Path

from zoo.errors import SpecError, TrainingError
from zoo.evaluate.evaluation import FILE as EVALUATION
from zoo.evaluate.evaluation import PICTURE
from zoo.train.log import FILE as LOG
from zoo.train.material import HELD_BACK
from zoo.train.result import FOLDER as MODEL
from zoo.train.settings import Settings

SETTINGS, CURVES = "settings.toml", "curves.png"
WRITTEN = (MODEL, SETTINGS, LOG, CURVES, HELD_BACK, EVALUATION, PICTURE)


def prepare(settings: Settings, *, goes_on: bool) -> None:
    """Make the folder. goes_on: whether it has a checkpoint.

    Without one, only what a training with the same settings has left before its first checkpoint may be there.
    Raises TrainingError, or SpecError where there can be no folder.
    """
    out = Path(settings.out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SpecError(f"out={settings.out!r}: {error.strerror}", hint="give a new folder") from error
    there = [name for name in WRITTEN if (out / name).exists()]
    if goes_on or not there or (MODEL not in there and _begun(out / SETTINGS, settings)):
        return
    raise TrainingError(
        f"{out} holds {', '.join(there)}, and no checkpoint of this training", hint="choose another folder with out="
    )


def _begun(file: Path, settings: Settings) -> bool:
    try:
        return Settings.read(file).sequence() == settings.sequence()
    except SpecError:
        return False
