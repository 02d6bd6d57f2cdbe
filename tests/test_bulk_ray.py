"""The engine on Ray, with a real local Ray: the same rows as the local engine, and none of the engine's traps."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from bulk_hooks import Hooked, archive, computed, rows

import zoo
from zoo.errors import BatchError, SpecError

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # Ray's own
]
TESTS = Path(__file__).parent


@pytest.fixture(scope="module", autouse=True)
def cluster():
    """Three slots here; its workers find zoo and the hooks."""
    ray = pytest.importorskip("ray")
    before = os.environ.get("PYTHONPATH", "")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(TESTS), *sys.path])
    sys.path.insert(0, str(TESTS))
    ray.init(num_cpus=3, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield ray
    ray.shutdown()
    sys.path.remove(str(TESTS))
    os.environ["PYTHONPATH"] = before


def run(source, out, log, **options):
    predictor = Hooked(log, pause_s=options.pop("pause_s", 0.0))
    return zoo.batch(source, out, model=predictor, engine="ray", threads=1, tell=lambda text: None, **options)


def test_the_rows_are_those_of_the_local_engine(tmp_path):
    videos, log = archive(tmp_path / "videos", 60, corrupt=2, crashes=1), tmp_path / "log"
    summary = run(videos, tmp_path / "ray", log, workers=2)
    assert (summary.ok, summary.failed, summary.left) == (49, 11, 0)
    assert summary.errors["WorkerCrashed"] == 1
    assert Counter(computed(log)).most_common(1)[0][1] == 2, "a row that crashes is tried twice, not for ever"
    zoo.batch(videos, tmp_path / "local", model=Hooked(tmp_path / "log2"), workers=1, tell=lambda text: None)
    assert rows(tmp_path / "ray") == rows(tmp_path / "local")
    assert not [p for p in (tmp_path / "ray").iterdir() if p.name in (".todo", ".run")]


def test_a_short_list_is_not_one_block(tmp_path):
    videos = archive(tmp_path / "videos", 40)
    run(videos, tmp_path / "out", tmp_path / "log", workers=2)
    parts = list((tmp_path / "out" / "parts").iterdir())
    assert len(parts) >= 4 and all(pq.ParquetFile(p).metadata.num_rows <= 10 for p in parts)


def test_as_many_workers_as_slots_are_refused_and_do_not_hang(tmp_path):
    videos = archive(tmp_path / "videos", 4)
    with pytest.raises(SpecError, match="at most 2 workers"):
        run(videos, tmp_path / "out", tmp_path / "log", workers=3)


def test_a_killed_actor_and_a_stop_lose_nothing(tmp_path, cluster):
    videos, log, out = archive(tmp_path / "videos", 80, corrupt=1), tmp_path / "log", tmp_path / "out"
    killed = []

    def kill(standing):
        if len(computed(log)) > 20 and not killed:
            actors = [int(p.name) for p in Path("/proc").iterdir() if p.name.isdecimal() and _is_actor(p)]
            killed.extend(actors[:1])
            for pid in killed:
                os.kill(pid, signal.SIGKILL)

    summary = run(videos, out, log, workers=2, pause_s=0.1, watch=kill, part_rows=4)
    assert killed and (summary.ok, summary.failed, summary.left) == (75, 5, 0)
    assert len(rows(out)) == 80 and len(computed(log)) <= 80 + 20 + 6

    def stop(standing):
        if len(computed(tmp_path / "log2")) > 20:
            signal.raise_signal(signal.SIGTERM)

    summary = run(videos, tmp_path / "two", tmp_path / "log2", workers=2, pause_s=0.1, watch=stop)
    assert summary.stopped and summary.left and len(rows(tmp_path / "two")) == summary.ok + summary.failed > 0
    summary = run(videos, tmp_path / "two", tmp_path / "log2", workers=2, resume=True)
    assert len(rows(tmp_path / "two")) == 80 and len(computed(tmp_path / "log2")) <= 80 + 6


def test_a_block_that_fails_ends_the_run_and_is_not_left_out(tmp_path):
    """Ray by itself counts such blocks, and can go on without their rows."""
    videos, log, out = archive(tmp_path / "videos", 40), tmp_path / "log", tmp_path / "out"

    def spoil(standing):
        if standing.done:
            shutil.rmtree(out / "parts", ignore_errors=True)

    with pytest.raises(BatchError, match=r"Ray gave up.*cannot be written"):
        run(videos, out, log, workers=2, pause_s=0.1, watch=spoil)


@pytest.mark.parametrize("seed", range(2))
def test_a_run_that_is_killed_with_its_ray_goes_on(tmp_path, seed):
    """Each run starts a Ray of its own, as `zoo batch --engine ray` does."""
    videos, log, out = archive(tmp_path / "videos", 60, corrupt=1, crashes=1), tmp_path / "log", tmp_path / "out"
    options = {"engine": "ray", "workers": 2, "threads": 1, "part_rows": 4, "resume": True, "pause_s": 0.1}
    command = [sys.executable, str(TESTS / "bulk_hooks.py"), str(videos), str(out), str(log), json.dumps(options)]
    process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL)
    stop_at = random.Random(seed).randrange(5, 40)
    while len(computed(log)) < stop_at:
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait(60)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    found = rows(out)
    assert [row["id"] for row in found] == sorted(p.name for p in videos.iterdir())
    assert Counter(row["status"] for row in found) == Counter(ok=54, failed=6)
    in_flight = 2 * (3 + 4 + 8)  # at each of two workers, and done but in no part yet
    assert len(computed(log)) <= 60 + in_flight + 3


def _is_actor(process: Path) -> bool:
    try:
        return b"MapWorker" in (process / "cmdline").read_bytes()
    except OSError:
        return False
