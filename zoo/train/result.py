"""What a training leaves: a folder in zoo's own format, which create, predict and publish take as it is."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from tempfile import mkdtemp

from zoo import registry
from zoo.contract import VideoModel
from zoo.publishing.checks import check_model
from zoo.publishing.folder import write_folder
from zoo.publishing.subject import subject_of
from zoo.spec import Metric
from zoo.train.settings import Settings
from zoo.weights.repository import IN_FOLDER, is_repository, open_repository

FOLDER = "model"


def write_result(model: VideoModel, settings: Settings, metrics: Sequence[Metric], data: str) -> Path:
    """Write `model` in the folder `out`; gives its path. data: what is said of the data where the settings do not.

    Complete or not there: a folder of an earlier training is replaced when the new one is written.
    """
    out = Path(settings.out)
    path, new = out / FOLDER, Path(mkdtemp(prefix=".model-", dir=out))
    try:
        subject = subject_of(model)
        check_model(subject)
        terms = {
            "license": settings.license or _inherited(settings),
            "training_data": settings.training_data or data,
            "description": settings.description,
            "metrics": tuple(metrics),
        }
        write_folder(subject, {name: value for name, value in terms.items() if value}, _repo(out), new)
        new.chmod(0o755)
        shutil.rmtree(path, ignore_errors=True)
        new.rename(path)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return path


def start_of(model: str) -> str:
    """What a training began with, for the card; says nothing of where a folder lies."""
    if model.startswith(IN_FOLDER):
        return f", starting from other weights of {open_repository(model).config.architecture}"
    return f", starting from {model}" if is_repository(model) or "." in model else ""


def _inherited(settings: Settings) -> str:
    """The licence of the weights that the training began with."""
    if is_repository(settings.model):
        return open_repository(settings.model).weights.license
    _, weights = registry.default.find(settings.model)
    return weights.license if weights else ""


def _repo(out: Path) -> str:
    """What the card calls the repository until it is published."""
    return f"owner/{re.sub(r'[^A-Za-z0-9]+', '-', out.resolve().name).strip('-') or 'model'}"
