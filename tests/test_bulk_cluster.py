"""How the engine on Ray shares out a cluster, and what it says of Ray's errors; without Ray."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from bulk_hooks import brightness

import zoo
from zoo.bulk import ray
from zoo.errors import SpecError


def test_ray_is_not_given_every_slot():
    class Work:
        workers, threads, count = None, 2, 100

    predictor = zoo.VideoPredictor(brightness(), device="cpu")
    assert ray._shares([{"CPU": 8.0}], predictor, Work) == (3, 2, 0)
    Work.workers = 4
    with pytest.raises(SpecError, match="at most 3 workers"):
        ray._shares([{"CPU": 8.0}], predictor, Work)
    Work.workers = None
    here = zoo.VideoPredictor(brightness())
    assert ray._shares([{"CPU": 16.0, "GPU": 4.0}], here, Work) == (7, 2, 0), "a model at hand stays on the CPU"
    gpu = zoo.VideoPredictor(brightness(), device="cuda")
    assert ray._shares([{"CPU": 16.0, "GPU": 4.0}], gpu, Work) == (4, 2, 1)
    Work.threads = None
    assert ray._shares([{"CPU": 16.0, "GPU": 4.0}, {"CPU": 4.0}], gpu, Work) == (4, 3, 1), "the CPUs feed the GPUs"
    assert ray._shares([{"CPU": 64.0, "GPU": 1.0}], gpu, Work) == (1, 4, 1)
    assert ray._shares([{"CPU": 3.0}], predictor, Work) == (2, 1, 0)


def test_a_worker_fits_on_one_machine_of_the_cluster():
    class Work:
        workers, threads, count = None, 4, 100

    predictor, machines = zoo.VideoPredictor(brightness(), device="cpu"), [{"CPU": 6.0}, {"CPU": 6.0}, {"memory": 1.0}]
    assert ray._shares(machines, predictor, Work) == (2, 4, 0)
    Work.workers = 3  # for which there are 12 CPUs, but no third machine
    with pytest.raises(SpecError, match=r"on 3 machines.*at most 2 workers"):
        ray._shares(machines, predictor, Work)
    Work.workers, Work.threads = None, 8
    with pytest.raises(SpecError, match="at most 0 workers"):
        ray._shares(machines, predictor, Work)


def test_ray_started_here_has_a_slot_more_than_the_workers_take(monkeypatch):
    class Work:
        workers, threads, address = 3, 2, None

    asked = []
    engine = SimpleNamespace(init=lambda **options: asked.append(options))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "cpus", lambda: 4)
    ray._connect(engine, Work)
    Work.workers = Work.threads = None
    ray._connect(engine, Work)
    assert [(one["address"], one["num_cpus"]) for one in asked] == [("local", 7), ("local", 5)]

    def unreachable(**options):
        assert "num_cpus" not in options
        raise ConnectionError("nobody there")

    Work.address = "ray://head:10001"
    with pytest.raises(SpecError, match=r"ray://head:10001.*nobody there"):
        ray._connect(SimpleNamespace(init=unreachable), Work)


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("Traceback\n  File\nzoo.errors.BatchError: no room\nray.exceptions.UserCodeException: UDF failed", "no room"),
        ("MemoryError: 3 GB\n\nThe above was the cause\nray.exceptions.RayTaskError: UDF failed", "MemoryError: 3 GB"),
        ("Set this and that\nto go on", "to go on"),
        ("", "RuntimeError('')"),
    ],
)
def test_rays_end_says_what_went_wrong_and_not_what_ray_puts_around_it(said, reason):
    assert ray._reason(RuntimeError(said)) == reason
