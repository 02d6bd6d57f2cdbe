"""Checkpoints: everything that a training needs to go on exactly, on any number of processes.

Each is a folder in the format of torch.distributed.checkpoint with a `training.json` beside it, written under another
name and renamed when it is complete, so that a process may be killed at any moment. That format holds a pickle: go on
only from folders that are your own. The result of a training holds none.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.distributed.checkpoint.default_planner import DefaultSavePlanner
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from zoo.errors import TrainingError
from zoo.processes import World
from zoo.train.optimise import Average

FOLDER, FACTS = "checkpoints", "training.json"
NAME = re.compile(r"step_(\d{8,})")


class Checkpoints:
    """Those in the folder of a training."""

    def __init__(self, out: Path, world: World, keep: int) -> None:
        self._folder, self._world, self._keep = out / FOLDER, world, keep

    def newest(self) -> tuple[Path, dict[str, Any]] | None:
        """The last complete one and its facts, or None."""
        complete = [path for path in self._all() if (path / FACTS).is_file()]
        if not complete:
            return None
        path = complete[-1]
        try:
            facts: dict[str, Any] = json.loads((path / FACTS).read_text())
        except ValueError as error:
            raise TrainingError(f"{path / FACTS} cannot be read", hint="remove this checkpoint") from error
        return path, facts

    def save(
        self,
        step: int,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        average: Average | None,
        extra: dict[str, Any],
        facts: dict[str, Any],
    ) -> None:
        """Keep what the training is after `step` steps."""
        path, new = self._folder / f"step_{step:08d}", self._folder / f".step_{step:08d}"
        if self._world.first:
            shutil.rmtree(new, ignore_errors=True)
            new.mkdir(parents=True)
        self._world.barrier()
        # What every process has, such as running statistics, which are not the same in all, is that of the first.
        planner = DefaultSavePlanner(dedup_save_to_lowest_rank=True)
        with _alone():
            save(_state(model, optimizer, average, extra), checkpoint_id=new, planner=planner)
        self._world.barrier()
        if self._world.first:
            with (new / FACTS).open("w") as stream:
                stream.write(json.dumps({"step": step, **facts}, indent=2) + "\n")
                stream.flush()
                os.fsync(stream.fileno())  # as the tensors are: a power cut leaves no complete name with nothing in it
            shutil.rmtree(path, ignore_errors=True)
            new.rename(path)
            for old in (*self._all()[: -self._keep], *self._folder.glob(".step_*")):
                shutil.rmtree(old, ignore_errors=True)
        self._world.barrier()

    def load(
        self,
        path: Path,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        average: Average | None,
        extra: dict[str, Any],
    ) -> dict[str, Any]:
        """Put a checkpoint into model, optimizer and average; gives what `extra` was. Raises TrainingError."""
        state = _state(model, optimizer, average, extra)
        try:
            with _alone():
                load(state, checkpoint_id=path)
        except Exception as error:
            raise TrainingError(
                f"{path} cannot be read: {str(error).strip().splitlines()[-1]:.300}",
                hint="remove this checkpoint; the one before it is then taken",
            ) from error
        set_state_dict(model, optimizer, model_state_dict=state["model"], optim_state_dict=state["optimizer"])
        return state["extra"]  # type: ignore[no-any-return]

    def _all(self) -> list[Path]:
        if not self._folder.is_dir():
            return []
        return sorted(path for path in self._folder.iterdir() if NAME.fullmatch(path.name))


@contextmanager
def _alone() -> Iterator[None]:
    """Without the warning that there is one process only."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled, unavailable or uninitialized")
        yield


def _state(
    model: nn.Module, optimizer: torch.optim.Optimizer, average: Average | None, extra: dict[str, Any]
) -> dict[str, Any]:
    weights, moments = get_state_dict(model, optimizer)
    state = {"model": weights, "optimizer": moments, "extra": extra}
    return state if average is None else {**state, "average": average.tensors}
