"""What a training says while it runs: a bar on a terminal, TensorBoard, and curves as a picture."""

from __future__ import annotations

import sys
from types import ModuleType

import click
import pytest
import training
from PIL import Image

import zoo
from zoo.errors import SpecError
from zoo.train.curves import BOTTOM, LEFT, PANEL, PANELS, RIGHT, SIZE, TOP, draw_curves
from zoo.train.log import Log, progress


def test_a_terminal_gets_a_bar_and_what_is_said_meanwhile_stands_above_it(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    with progress(40, 3, shown=True) as show:
        show(17, "loss 1.250")
        click.echo("a sentence", err=True)
    said = capsys.readouterr().err
    assert "17/40" in said
    assert "loss 1.250" in said
    assert "a sentence\n" in said


@pytest.mark.parametrize(("shown", "terminal"), [(False, True), (True, False)])
def test_other_processes_and_files_get_no_bar(monkeypatch, capsys, shown, terminal):
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    if terminal:
        monkeypatch.setenv("FORCE_COLOR", "1")
    with progress(4, 0, shown=shown) as show:
        show(1, "loss 1.250")
    assert capsys.readouterr().err == ""


class Writer:
    """As torch's, for machines without TensorBoard."""

    def __init__(self, folder: str, purge_step: int) -> None:
        self.folder, self.purge_step, self.points, self.closed = folder, purge_step, [], False
        made.append(self)

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self.points.append((name, value, step))

    def close(self) -> None:
        self.closed = True


made: list[Writer] = []


def test_tensorboard_gets_what_the_table_gets_and_forgets_what_is_made_again(monkeypatch, tmp_path):
    module = ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = Writer
    monkeypatch.setitem(sys.modules, module.__name__, module)
    made.clear()
    videos = training.class_folders(tmp_path / "videos", each=2)
    given = training.settings(videos, tmp_path / "out", steps=2, log_every=1, tensorboard=True)
    trained = zoo.train(**given, tell=training.quietly)
    (board,) = made
    assert (board.folder, board.purge_step, board.closed) == (str(trained.out / "tensorboard"), 1, True)
    rows = [(name, value, int(row["step"])) for row in trained.log for name, value in row.items() if name != "step"]
    assert board.points == rows
    assert {"loss", "lr", "val_top1"} <= {name for name, _, _ in rows}
    Log(trained.out, step=1, first=True, tensorboard=True)
    assert made[-1].purge_step == 2


def test_a_missing_tensorboard_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(SpecError, match="pip install tensorboard"):
        Log(tmp_path, step=0, first=True, tensorboard=True)


def test_curves_go_through_the_points_of_the_log(tmp_path):
    rows = [
        {"step": 1.0, "loss": 2.0, "val_loss": 1.0, "val_top1": 0.0, "val_top5": 50.0},
        {"step": 10.0, "loss": 1.0, "val_loss": float("nan"), "val_top1": 100.0, "val_top5": 50.0},
    ]
    draw_curves(rows, tmp_path / "curves.png", "a title")
    picture = Image.open(tmp_path / "curves.png")
    assert picture.size == SIZE
    width, height = SIZE[0] - LEFT - RIGHT, PANEL - TOP - BOTTOM
    for panel, column, step, part in ((0, "loss", 1, 1.0), (0, "loss", 10, 0.5), (1, "val_top1", 10, 1.0)):
        x, y = LEFT + width * step / 10, 30 + panel * (PANEL + 10) + TOP + height * (1 - part)
        near = [picture.getpixel((round(x) + i, round(y) + j)) for i in (-1, 0, 1) for j in (-1, 0, 1)]
        assert PANELS[panel][1][column] in near, column
