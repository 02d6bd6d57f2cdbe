"""How fast models are: who takes part, what is printed, and that all take turns."""

from __future__ import annotations

import json
import math

import pytest
from click.testing import CliRunner

import zoo
from zoo.cli import commands
from zoo.errors import DeploymentError, SpecError, UnknownModel
from zoo.speed.contestant import PEERS, Absent, contestant, seconds
from zoo.speed.result import Bench, Row

CLIP = (3, 8, 64, 64)


def bench(*rows: Row) -> Bench:
    return Bench(list(rows), {"torch": "2", "device": "a machine", "threads": 1})


def row(name="a", way="eager", speed=(1.0, 1.0, 1.0), **more) -> Row:
    return Row(name, way, 2, CLIP, list(speed), 100.0, 2_000_000, 1.5, **more)


def test_figures_are_medians_and_ratios_are_of_turns_side_by_side():
    slow, fast = row(speed=(1.0, 2.0, 4.0)), row(way="int8", speed=(0.5, 0.5, 2.0))
    found = bench(slow, fast, row("b", speed=(3.0, 3.0, 3.0)))
    assert (slow.latency_s, slow.clips_per_s) == (2.0, 1.0)
    assert [found.ratio(one) for one in found.rows] == [1.0, 2.0, 1.0]  # of b to itself
    failed, again = row(speed=(), error="too large"), row(way="control", speed=(1.0, 2.0, 4.0))
    assert [bench(failed, again, fast).ratio(one) for one in (failed, again, fast)] == [None, 1.0, 2.0]
    assert bench(failed, fast).ratio(fast) is None and "ratio" in str(bench(failed, fast))
    plain = json.loads(json.dumps(found.to_dict()))
    assert plain["rows"][1]["ratio"] == 2.0 and plain["rows"][1]["clips_per_s"] == 4.0


def test_the_table_has_a_line_for_each_and_says_what_failed():
    lines = str(
        bench(row(), row(way="timm", speed=(), error="too large"), row(way="int8", about="17 of 17"))
    ).splitlines()
    assert lines[0] == "torch 2, device a machine, threads 1"
    assert lines[1].split() == ["model", "way", "clips/s", "min", "max", "latency", "peak", "params", "GMACs", "ratio"]
    assert lines[2] == "a      eager     2.00  2.00  2.00  1000.0 ms  100 MB   2.0 M    1.5   1.00"
    assert lines[4:] == ["a, int8: 17 of 17", "a, timm: no figures: too large"]


@pytest.mark.parametrize("accuracy", [None, (80.0, "Kinetics-400")])
def test_the_picture_shows_every_contestant(accuracy):
    rows = [row("a", accuracy=accuracy), row("a_very_long_name_of_a_model", "control", (0.001,) * 3, accuracy=accuracy)]
    picture = bench(*rows).picture()
    assert picture.size == (960, 600) and len(picture.getcolors(1 << 20)) > 20
    alone = bench(rows[0]).picture()  # an axis of one value
    assert alone.size == picture.size and alone.tobytes() != picture.tobytes()
    assert bench(rows[0], row("b", accuracy=(70.0, "other"))).picture().size == picture.size


def test_nothing_measured_is_nothing_drawn_and_devices_are_tried_first(tmp_path, monkeypatch):
    with pytest.raises(DeploymentError, match="too large"):
        bench(row(speed=(), error="too large")).picture()
    with pytest.raises(SpecError, match="device 'nowhere'"):
        zoo.bench("r2plus1d_tiny", device="nowhere")
    result = CliRunner().invoke(commands, ["bench", "r2plus1d_tiny", "--plot", str(tmp_path / "speed.foo")])
    assert result.exit_code == 2 and "no .png" in result.output
    monkeypatch.setattr(zoo, "bench", lambda *a, **k: pytest.fail("started"))
    result = CliRunner().invoke(commands, ["bench", "r2plus1d_tiny", "--plot", str(tmp_path / "nowhere" / "speed.png")])
    assert result.exit_code == 2 and "nowhere is no folder" in result.output.replace("\n", " ")


def test_who_takes_part():
    one = contestant("videomae_tiny", "eager", batch=2, device="cpu")
    assert one.params == zoo.info("videomae_tiny").params and 0 < seconds(one, "cpu") < math.inf
    for library in PEERS:
        with pytest.raises(Absent):
            contestant("r2plus1d_tiny", library, batch=1, device="cpu")


def test_wrong_questions_are_refused_before_anything_is_run():
    with pytest.raises(UnknownModel):
        zoo.bench("r3d_81")
    for options in ({"rounds": 0}, {"batch": 0}, {"threads": 0}, {"ways": ["int4"]}):
        with pytest.raises(SpecError):
            zoo.bench("r2plus1d_tiny", **options)
    with pytest.raises(SpecError):
        zoo.bench([])


@pytest.mark.slow
def test_torchvision_has_models_of_the_same_names():
    assert contestant("r3d_18", "torchvision", batch=1, device="cpu").params == zoo.info("r3d_18").params


@pytest.mark.slow
def test_all_take_turns_in_processes_of_their_own(tmp_path):
    arguments = ["r2plus1d_tiny.camera_motion", "videomae_tiny", "--way", "compile", "--peers", "--rounds", "2"]
    arguments += ["--threads", "1", "--json", "--plot", str(tmp_path / "speed.png")]
    result = CliRunner().invoke(commands, ["bench", *arguments])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    expected = ["eager", "control", "compile", "eager", "compile"]  # nobody else has such models
    assert [one["way"] for one in found["rows"]] == expected
    for one in found["rows"]:
        assert not one["error"] and len(one["seconds"]) == 2 and one["peak_mb"] > 100 and one["ratio"] > 0
    assert "17 of 17 Conv3d" in found["rows"][2]["about"]
    assert (tmp_path / "speed.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_a_contestant_that_dies_is_a_row_without_figures(monkeypatch):
    monkeypatch.setattr("zoo.speed.bench.START", "import os; os._exit(7)")
    found = zoo.bench("r2plus1d_tiny", rounds=1)
    assert [one.error for one in found.rows] == ["its process ended with 7"] * 2
    assert "no figures: its process ended with 7" in str(found)
