"""Evaluation: figures that were computed by hand, and everything that is needed to repeat them."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import training
from click.testing import CliRunner
from PIL import Image

import zoo
from zoo.cli import commands
from zoo.errors import DataError, SpecError
from zoo.evaluate import scoring
from zoo.evaluate.calibration import Bin, best_temperature, expected_calibration_error, reliability
from zoo.evaluate.scoring import Outcome, Scores
from zoo.pictures.confusion import draw_confusion

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)
LABELS = ("red", "green", "blue", "a", "b", "c", "never")


class Colours(zoo.VideoModel):
    """Says which colours a clip has more of than half. The scores of one view of one colour are, of that colour, 1/2;
    of the other two 1/6 each; and of the other labels 1/12, 1/24, 1/48, 1/48."""

    def __init__(self) -> None:
        super().__init__()
        self.num_features, self.num_classes, self.labels = 3, len(LABELS), LABELS
        self.preprocessing = zoo.Preprocessing(num_frames=1, sampler="segments_mm", crop=16, clips=2, crops=3)

    def forward_features(self, clip):
        return (clip.mean((2, 3, 4)) > 0.5).float()

    def forward_head(self, x, pre_logits=False):
        others = torch.tensor([1 / 2, 1 / 4, 1 / 8, 1 / 8]).log()
        return torch.cat([x * math.log(3), others.expand(len(x), 4)], 1)


def write(path: Path, first: Sequence[tuple[int, int, int]], second: Sequence[tuple[int, int, int]]) -> None:
    """Two halves in time, each of three squares from left to right, where the three crops are."""
    frames = np.zeros((8, 16, 48, 3), np.uint8)
    for half, squares in ((frames[:4], first), (frames[4:], second)):
        for i, colour in enumerate(squares):
            half[:, :, 16 * i : 16 * i + 16] = colour
    path.parent.mkdir(parents=True, exist_ok=True)
    zoo.video.write_video(path, frames, fps=8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("videos")
    write(root / "red" / "1.mp4", [RED] * 3, [RED] * 3)
    write(root / "red" / "2.mp4", [RED] * 3, [RED, GREEN, GREEN])
    write(root / "green" / "1.mp4", [BLUE] * 3, [BLUE] * 3)
    write(root / "blue" / "1.mp4", [BLUE] * 3, [BLUE] * 3)
    write(root / "never" / "1.mp4", [RED] * 3, [RED] * 3)
    (root / "blue" / "2.mp4").write_bytes(b"no video")
    return root


@pytest.fixture(scope="module")
def found(folder):
    return zoo.evaluate(Colours(), folder, workers=0)


def test_figures_are_those_computed_by_hand(found):
    # Of red/2 the first clip is red in all crops, the second says 5/18 red, 7/18 green; together 7/18 red, 5/18 green.
    scores = {found.samples[o.sample].name: o.scores for o in found.scores.scored}
    assert scores["red/2.mp4"][:3].tolist() == pytest.approx([7 / 18, 5 / 18, 3 / 18])
    assert scores["red/1.mp4"].tolist() == pytest.approx([1 / 2, 1 / 6, 1 / 6, 1 / 12, 1 / 24, 1 / 48, 1 / 48])
    data = found.to_dict()
    assert data["video"] == pytest.approx({"top1": 60.0, "top5": 80.0})
    assert data["clip"] == pytest.approx({"top1": 50.0, "top5": 80.0})
    assert data["per_class"] == {
        "red": {"videos": 2, "top1": 100.0, "top5": 100.0, "clip_top1": 75.0},
        "green": {"videos": 1, "top1": 0.0, "top5": 100.0, "clip_top1": 0.0},
        "blue": {"videos": 1, "top1": 100.0, "top5": 100.0, "clip_top1": 100.0},
        "never": {"videos": 1, "top1": 0.0, "top5": 0.0, "clip_top1": 0.0},
    }
    assert data["mean_class_top1"] == 50.0
    assert data["confusion"] == {"red": {"red": 2}, "green": {"blue": 1}, "blue": {"blue": 1}, "never": {"red": 1}}
    assert data["loss"] == pytest.approx(sum(map(math.log, (2, 18 / 7, 6, 2, 48))) / 5)
    # four answers of 1/2, two of them right; one of 7/18, which is right
    assert data["calibration"]["ece"] == pytest.approx((1 - 7 / 18) / 5)
    assert [one["answers"] for one in data["calibration"]["bins"]] == [1, 4]


def test_videos_that_cannot_be_read_are_counted_and_listed(found):
    data = found.to_dict()
    assert list(found.unreadable) == ["blue/2.mp4"]
    assert data["videos"] == 6
    assert [(row["video"], bool(row["error"])) for row in data["unreadable"]] == [("blue/2.mp4", True)]
    assert [row["video"] for row in data["results"] if "error" in row] == ["blue/2.mp4"]
    assert "1 could not be read" in str(found)
    assert "blue/2.mp4" in str(found)


def test_a_video_that_is_listed_twice_and_cannot_be_read_counts_twice(folder, tmp_path):
    rows = [
        f"{folder / name}.mp4,{label}" for name, label in (("red/1", "red"), ("blue/2", "blue"), ("blue/2", "blue"))
    ]
    (tmp_path / "t.csv").write_text("\n".join(["path,label", *rows]))
    found = zoo.evaluate(Colours(), tmp_path / "t.csv", workers=0)
    data = found.to_dict()
    assert data["videos"] == len(found.scores.scored) + len(data["unreadable"]) == 3
    assert [row["video"] for row in data["unreadable"]] == [row["video"] for row in data["results"] if "error" in row]
    assert list(found.unreadable) == [f"{folder / 'blue/2.mp4'}", f"{folder / 'blue/2.mp4'} (2)"]
    assert "2 could not be read" in str(found)


def test_fast_is_one_centre_view(folder):
    """The middle of red/2 is green."""
    fast = zoo.evaluate(Colours(), folder, views="fast", workers=0)
    assert fast.scores.views == 1
    assert fast.accuracy(1) == fast.accuracy(1, "clip") == 40.0
    assert fast.confusion["red"] == {"red": 1, "green": 1}
    assert zoo.evaluate(Colours(), folder, views=(2, 1), workers=0).scores.views == 2


def test_what_predict_says_is_what_is_counted(folder, found):
    model = Colours()
    for outcome in found.scores.scored:
        one = model.predict(str(found.samples[outcome.sample].path))
        assert torch.equal(one.scores, outcome.scores)


def test_all_that_is_needed_to_repeat_it_is_written(folder, tmp_path):
    found = zoo.evaluate("r2plus1d_tiny.camera_motion", written_table(folder, tmp_path), out=tmp_path / "out")
    data = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert data == json.loads(json.dumps(found.to_dict()))
    weights = zoo.info("r2plus1d_tiny").weights["camera_motion"]
    assert (data["model"], data["weights"]["sha256"]) == ("r2plus1d_tiny", weights.sha256)
    assert zoo.Preprocessing.from_dict(data["protocol"]) == weights.preprocessing
    assert data["views"] == "card"
    assert data["data"]["source"] == "table"
    assert str(tmp_path) not in json.dumps(data)
    assert {"torch", "av", "video-zoo"} <= data["versions"].keys()
    assert data["throughput"]["views_per_s"] == pytest.approx(5 * data["throughput"]["videos_per_s"])
    with Image.open(tmp_path / "out" / "confusion.png") as picture:
        assert picture.width > 100
    assert [row["label"] for row in data["results"]] == ["static", "pan_left", "tilt_up"]


def written_table(folder: Path, root: Path) -> Path:
    """Labels by name and by number, of which a part is to be measured on."""
    names = zoo.info("r2plus1d_tiny").weights["camera_motion"].labels
    rows = [("red/1", "static", "val"), ("red/2", str(names.index("pan_left")), "val")]
    rows += [("blue/1", "tilt_up", "val"), ("green/1", "tilt_up", "train")]
    lines = [f"{folder / name}.mp4,{label},{split}" for name, label, split in rows]
    (root / "table.csv").write_text("\n".join(["path,label,split", *lines]))
    return root / "table.csv"


@pytest.mark.parametrize(("split", "name"), [("", "blue/1"), ("test", "blue/1"), ("train", "green/1")])
def test_what_is_to_test_on_is_measured_where_nothing_is_to_validate_on(folder, tmp_path, split, name):
    text = written_table(folder, tmp_path).read_text()
    rows = [line.replace(",val", ",test") for line in text.splitlines() if "red" not in line]
    (tmp_path / "table.csv").write_text("\n".join(rows))
    found = zoo.evaluate("r2plus1d_tiny.camera_motion", tmp_path / "table.csv", split=split, views="fast", workers=0)
    assert [name in sample.name for sample in found.samples] == [True]


def test_the_command_prints_figures_and_says_that_videos_failed(folder, tmp_path, monkeypatch):
    line = ["evaluate", "r2plus1d_tiny.camera_motion", str(written_table(folder, tmp_path)), "--workers", "0"]
    done = CliRunner().invoke(commands, line)
    assert done.exit_code == 0, done.output
    assert "top-1" in done.stdout
    (tmp_path / "bad.mp4").write_bytes(b"nothing")
    (tmp_path / "bad.csv").write_text(f"path,label\nbad.mp4,static\n{folder / 'red' / '1.mp4'},static\n")
    done = CliRunner().invoke(commands, [*line[:2], str(tmp_path / "bad.csv"), "--workers", "0", "--json"])
    assert done.exit_code == 3
    assert json.loads(done.stdout)["unreadable"][0]["video"] == "bad.mp4"


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"data": "nowhere"}, DataError, "does not exist"),
        ({"split": "dev"}, SpecError, "train or val or test"),
        ({"split": "val"}, DataError, "nothing in the split 'val'"),
        ({"views": (2, 2)}, SpecError, "1 crop, or 3"),
        ({"workers": -1}, SpecError, "workers"),
        ({"model": "r2plus1d_tiny.camera_motion"}, DataError, "blue, green"),
        ({"model": "convlstm_next"}, SpecError, "next_frame"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*random weights")
def test_what_cannot_be_evaluated_says_why(folder, options, error, said):
    with pytest.raises(error, match=said):
        zoo.evaluate(**{"model": Colours(), "data": folder, "workers": 0} | options)


def test_a_decoder_that_is_killed_is_no_traceback_of_torch(folder, monkeypatch):
    monkeypatch.setattr(scoring._Videos, "__getitem__", lambda self, i: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(DataError, match="workers=0"):
        zoo.evaluate(Colours(), folder, workers=1)


def test_nothing_to_read_gives_no_figures_but_no_error(tmp_path):
    (tmp_path / "red").mkdir()
    (tmp_path / "red" / "1.mp4").write_bytes(b"")
    found = zoo.evaluate(Colours(), tmp_path, workers=0, out=tmp_path / "out")
    assert (found.accuracy(), found.calibration, list(found.unreadable)) == (0.0, None, ["red/1.mp4"])


def test_a_network_that_has_diverged_is_measured_too(folder, tmp_path):
    model = Colours()
    model.forward_head = lambda x, pre_logits=False: torch.full((len(x), len(LABELS)), math.nan)
    zoo.evaluate(model, folder, workers=0, out=tmp_path)
    data = json.loads((tmp_path / "evaluation.json").read_text(), parse_constant=pytest.fail)
    assert data["results"][0]["score"] is None


def test_calibration_by_hand():
    bins = reliability([0.1, 0.5, 0.55, 0.95, 1.0], [False, True, False, True, True], bins=2)
    assert bins == [
        Bin(0.0, 0.5, 2, pytest.approx(0.3), 0.5),
        Bin(0.5, 1.0, 3, pytest.approx(2.5 / 3), pytest.approx(2 / 3)),
    ]
    assert expected_calibration_error(bins) == pytest.approx((2 * 0.2 + 3 * (2.5 / 3 - 2 / 3)) / 5)
    assert expected_calibration_error([]) == 0.0


def test_the_best_temperature_makes_scores_as_sure_as_they_are_right(found):
    """Three of four answers of equal logits are right: the score of the answer has to be 3/4."""
    protocol = zoo.Preprocessing(num_frames=1)
    logits = torch.tensor([[6.0, 0.0]])
    outcomes = [Outcome.of(i, int(i == 3), logits, protocol, 1) for i in range(4)]
    scores = Scores((*outcomes, Outcome(4, 0, error="unreadable")), 1.0, 1, 1)
    warm = best_temperature(scores, protocol)
    assert warm == pytest.approx(6 / math.log(3), rel=1e-3)
    right = scores.under(replace(protocol, temperature=warm))
    assert right.scored[0].scores[0] == pytest.approx(0.75, abs=1e-3)
    assert right.accuracy() == scores.accuracy() == 75.0
    assert [outcome.error for outcome in right.outcomes] == [outcome.error for outcome in scores.outcomes]
    assert best_temperature(Scores(tuple(outcomes[:3]), 1.0, 1, 1), protocol) is None  # the colder, the likelier
    assert best_temperature(Scores((), 1.0, 1, 1), protocol) is None
    again = found.scores.under(Colours().preprocessing)
    assert all(torch.equal(a.scores, b.scores) for a, b in zip(again.scored, found.scores.scored, strict=True))


def test_the_matrix_has_a_row_for_each_label_and_stays_small_for_many():
    few = draw_confusion({"cat": {"cat": 3, "dog": 1}, "dog": {"dog": 2}}, ("bird", "cat", "dog"))
    right, wrong = few.getpixel((few.width - 16 - 160 + 5, 35)), few.getpixel((few.width - 16 - 160 + 49, 35))
    assert right[1] > right[0]  # on the diagonal
    assert wrong[0] > wrong[1]
    labels = [f"class {i}" for i in range(400)]
    many = draw_confusion({label: {label: 1} for label in labels}, labels)
    assert many.width < 1000
    assert draw_confusion({}, labels).width < 300


@pytest.mark.slow
@pytest.mark.parametrize("views", ["card", "fast"])
def test_two_processes_give_the_result_of_one(folder, tmp_path, views):
    (tmp_path / "9.mp4").write_bytes(b"no video either")
    rows = [f"{folder / name}.mp4,{label}" for label in ("static", "pan_left") for name in ("red/1", "red/2")]
    rows += [f"{folder / 'green/1'}.mp4,zoom_in"] * 20
    rows += [f"{folder / 'blue/2.mp4'},static", f"{tmp_path / '9.mp4'},pan_left"]
    (tmp_path / "t.csv").write_text("\n".join(["path,label", *rows]))
    results = []
    for launch in ([], ["torch.distributed.run", "--nproc-per-node", "2", "--standalone", "-m"]):
        line = [*launch, "zoo.evaluate", "r2plus1d_tiny.camera_motion", str(tmp_path / "t.csv"), "--json"]
        command = [sys.executable, "-m", *line, "--views", views, "-o", str(tmp_path / f"out{len(launch)}")]
        done = subprocess.run(command, env=training.environment(), text=True, capture_output=True, timeout=1200)
        found = json.loads((tmp_path / f"out{len(launch)}" / "evaluation.json").read_text())
        assert found == json.loads(done.stdout), done.stderr
        assert found.pop("machine")["processes"] == (2 if launch else 1)
        found.pop("throughput")
        results.append(found)
    assert results[0] == results[1]
    assert len(results[0]["unreadable"]) == 2
