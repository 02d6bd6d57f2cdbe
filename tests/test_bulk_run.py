"""Bulk work in processes that files and people kill: the table is the same, and nothing is computed twice in vain."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from bulk_hooks import KINDS, Hooked, Telling, archive, brightness, computed, rows
from click.testing import CliRunner

import zoo
from zoo.bulk.worker import KEPT_MEMORY, Worker
from zoo.cli import commands
from zoo.errors import BatchError

TESTS = Path(__file__).parent


@pytest.fixture(autouse=True)
def path_of_the_workers(monkeypatch):
    monkeypatch.syspath_prepend(str(TESTS))  # where they find the hooks
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # Ray's too


def expected(count: int, corrupt: int, crashes: int) -> Counter[str]:
    return Counter(ok=count - 5 * corrupt - crashes, crash=crashes, **dict.fromkeys(KINDS, corrupt))


def kinds(out: Path) -> Counter[str]:
    """How many rows there are of each kind of file, with the status that this kind has to have."""
    found = Counter()
    for row in rows(out):
        kind = row["id"].removesuffix(".mp4").partition("-")[2]
        if kind.isdecimal():
            assert row["status"] == "ok" and row["label"] == ("dark" if int(kind) < 128 else "bright"), row
            found["ok"] += 1
            continue
        assert row["status"] == "failed" and row["label"] is None, row
        assert (row["error_type"] == "WorkerCrashed") == (kind == "crash"), row
        assert ("SIGSEGV" in row["error_message"]) == (kind == "crash"), row
        found[kind] += 1
    return found


def written(out: Path) -> set[str]:
    """The ids in the parts."""
    return {
        id
        for part in (out / "parts").glob("part-*.parquet")
        for id in pq.ParquetFile(part).read(["id"])["id"].to_pylist()
    }


def test_a_file_that_kills_its_worker_is_marked_and_nothing_else(tmp_path, children):
    videos, log = archive(tmp_path / "videos", 24, corrupt=1, crashes=1), tmp_path / "log"
    said = []
    summary = zoo.batch(videos, tmp_path / "out", model=Hooked(log), workers=1, threads=1, tell=said.append)
    assert kinds(tmp_path / "out") == expected(24, 1, 1), said
    assert (summary.ok, summary.failed, summary.skipped, summary.left) == (18, 6, 0, 0)
    assert summary.errors["WorkerCrashed"] == 1 and "1 WorkerCrashed" in said[-1]
    times = Counter(computed(log))
    (crash,) = [name for name in times if "crash" in name]
    assert times.pop(crash) == 2
    assert set(times.values()) <= {1, 2} and sum(times.values()) <= 23 + 3, "those beside it are done once more"
    assert not children()


@pytest.mark.slow
def test_a_worker_that_is_killed_is_replaced_and_its_rows_are_done(tmp_path, children):
    videos, log, count = archive(tmp_path / "videos", 120, corrupt=1), tmp_path / "log", 120
    rng, killed = random.Random(1), []

    def kill(standing):
        if len(killed) < 3 and standing.done > 25 * (len(killed) + 1) and children():
            pid = rng.choice(sorted(children()))
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)

    predictor = Hooked(log, pause_s=0.02)
    zoo.batch(videos, tmp_path / "out", model=predictor, workers=2, threads=1, watch=kill, tell=lambda text: None)
    assert len(killed) == 3 and kinds(tmp_path / "out") == expected(count, 1, 0)
    assert len(computed(log)) <= count + 3 * (predictor.decoders + 2)
    assert not children()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_killed_goes_on(tmp_path, seed, how):
    count, part = 60, 6
    videos, log, out = archive(tmp_path / "videos", count, corrupt=1, crashes=1), tmp_path / "log", tmp_path / "out"
    options = {"workers": 2, "threads": 1, "part_rows": part, "resume": True, "pause_s": 0.05}
    command = [sys.executable, str(TESTS / "bulk_hooks.py"), str(videos), str(out), str(log), json.dumps(options)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    wanted, rng, kills = sorted(p.name for p in videos.iterdir()), random.Random(seed), []
    for _ in range(2):
        stop_at, kept = len(computed(log)) + rng.randrange(1, 20), written(out)
        process = subprocess.Popen(command, env=environment, start_new_session=True, stdout=subprocess.DEVNULL)
        while len(computed(log)) < stop_at or written(out) == kept:
            assert process.poll() is None
            time.sleep(0.01)
        if how == signal.SIGINT:
            os.killpg(process.pid, how)  # as a terminal does it
        else:
            process.send_signal(how)
        process.wait(60)
        if how != signal.SIGKILL:
            assert process.returncode == 0, "the run ends by itself"
        kills.append((len(computed(log)), written(out)))
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    for before, kept in kills:
        assert kept and not kept & {*computed(log)[before:]}, "what was in a part is not computed again"
    assert [row["id"] for row in rows(out)] == wanted
    assert kinds(out) == expected(count, 1, 1)
    in_flight = 2 * 3 + (part + 8 if how == signal.SIGKILL else 0)  # at workers, and done but in no part yet
    retries = 2 * 3  # of the file that crashes, and of those beside it
    assert len(computed(log)) <= count + 2 * in_flight + retries
    assert not [p for p in (out / "parts").iterdir() if p.name.startswith(".")]


@pytest.mark.slow
def test_each_worker_has_its_threads_and_builds_the_model_once(tmp_path):
    videos = archive(tmp_path / "videos", 40)
    predictor = Telling(tmp_path / "log")
    zoo.batch(videos, tmp_path / "out", model=predictor, workers=2, threads=1, tell=lambda text: None)
    said = Counter(row["error_message"] for row in rows(tmp_path / "out"))
    assert len(said) == 2 and said.total() == 40, said
    assert all(line.endswith("has 1 threads, built 1") for line in said)


def test_a_worker_keeps_memory_unless_the_user_has_set_it(tmp_path, monkeypatch):
    trim, mmap = KEPT_MEMORY
    monkeypatch.setenv(mmap, "77")
    monkeypatch.delenv(trim, raising=False)
    say = f"import os; raise SystemExit(' '.join(map(os.environ.get, {[trim, mmap, 'OMP_NUM_THREADS']})))"
    monkeypatch.setattr("zoo.bulk.worker.START", say)
    worker = Worker(Hooked(tmp_path / "log", threads=3), timeout_s=60)
    with pytest.raises(BatchError, match=rf"ended with 1: {KEPT_MEMORY[trim]} 77 3:"):
        [*worker.work(iter([{"path": "a.mp4"}]))]
    worker.close()


@pytest.mark.slow
def test_the_command_says_by_its_exit_code_what_its_workers_found(tmp_path, children):
    videos = archive(tmp_path / "videos", 3)
    arguments = ["batch", str(videos), "-o", str(tmp_path / "out"), "--workers", "1", "--views", "fast"]
    assert CliRunner().invoke(commands, arguments).exit_code == 0
    (videos / "00003-text.mp4").write_bytes(b"not a video")
    (videos / "caf\udce9.mp4").write_bytes((videos / "00000-20.mp4").read_bytes())
    result = CliRunner().invoke(commands, [*arguments, "--resume"])
    assert result.exit_code == 3 and "1 ok, 1 failed, 3 skipped, of 5 rows" in result.output
    assert [row["id"] for row in rows(tmp_path / "out") if row["status"] == "failed"] == ["00003-text.mp4"]
    assert not children()


@pytest.mark.slow
def test_a_file_that_hangs_is_marked(tmp_path, children):
    videos = archive(tmp_path / "videos", 6)
    (videos / "00002-hang.mp4").write_bytes(b"")
    zoo.batch(videos, tmp_path / "out", model=Hooked(tmp_path / "log"), workers=1, timeout_s=4.0)
    late = [row for row in rows(tmp_path / "out") if row["status"] == "failed"]
    assert [row["id"] for row in late] == ["00002-hang.mp4"]
    assert late[0]["error_type"] == "WorkerTimeout" and "4 s" in late[0]["error_message"]
    assert len(rows(tmp_path / "out")) == 7 and not children()


@pytest.mark.slow
def test_a_process_that_has_lost_its_gpu_is_replaced(tmp_path, children):
    videos = archive(tmp_path / "videos", 6)
    (videos / "00002-lost-gpu.mp4").write_bytes(b"")
    zoo.batch(videos, tmp_path / "out", model=Hooked(tmp_path / "log"), workers=1)
    (failed,) = [row for row in rows(tmp_path / "out") if row["status"] == "failed"]
    assert failed["id"] == "00002-lost-gpu.mp4" and "the device is gone" in failed["error_message"]


@pytest.mark.slow
def test_a_worker_that_cannot_start_ends_the_run(tmp_path, children, monkeypatch):
    videos = archive(tmp_path / "videos", 3)
    with zoo.testing.isolated():
        protocol = brightness().preprocessing
        zoo.register(zoo.ModelSpec(name="here", builder="bulk_hooks:brightness", preprocessing=protocol))
        with pytest.warns(UserWarning, match="random"), pytest.raises(BatchError, match="pass the model itself"):
            zoo.batch(videos, tmp_path / "out", model="local/here", workers=1, tell=lambda text: None)
    monkeypatch.setattr("zoo.bulk.worker.START", "import os; os.kill(os.getpid(), 9)")
    worker = Worker(Hooked(tmp_path / "log"), timeout_s=60)
    with pytest.raises(BatchError, match="SIGKILL"):
        [*worker.work(iter([{"path": "a.mp4"}]))]
    worker.close()
    assert not children()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray's own
@pytest.mark.parametrize("engine", ["local", "ray"])
def test_five_thousand_files_of_which_one_in_a_hundred_is_broken(tmp_path, engine):
    if engine == "ray":
        pytest.importorskip("ray")
    videos, log, out = archive(tmp_path / "videos", 5000, corrupt=10, crashes=1), tmp_path / "log", tmp_path / "out"
    predictor = Hooked(log, "r2plus1d_tiny.camera_motion", views="fast")
    summary = zoo.batch(videos, out, model=predictor, engine=engine, workers=2, threads=1)
    assert (summary.ok, summary.failed, summary.skipped, summary.left) == (4949, 51, 0, 0)
    found = rows(out)
    assert [row["id"] for row in found] == sorted(p.name for p in videos.iterdir())
    failed = Counter(row["id"].removesuffix(".mp4").partition("-")[2] for row in found if row["status"] == "failed")
    assert failed == Counter(crash=1, **dict.fromkeys(KINDS, 10))
    assert len(computed(log)) <= 5000 + 4
