"""Threads only where they are allowed, results in order, nothing left running or open."""

from __future__ import annotations

import io
import multiprocessing
import os
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from video_clips import clip

from zoo.errors import VideoError, VideoLimitError
from zoo.video import Limits, index, probe, read_frames, select
from zoo.video.lanes import in_lanes
from zoo.video.select import allowed_threads, select_frames


@pytest.fixture
def threads_always_pay(monkeypatch):
    monkeypatch.setattr(select, "THREADS_PAY", 0)


def test_one_thread_in_workers_and_daemons_else_a_few(monkeypatch):
    import torch.utils.data

    assert allowed_threads(3) == 3 and 1 <= allowed_threads(None) <= 4
    monkeypatch.setattr(torch.utils.data, "get_worker_info", lambda: object())
    assert allowed_threads(None) == 1
    monkeypatch.undo()
    monkeypatch.setattr(multiprocessing.current_process(), "_config", {"daemon": True})
    assert allowed_threads(None) == 1


@pytest.mark.parametrize("threads", [0, -1])
def test_no_threads_at_all_raise(threads):
    with pytest.raises(VideoError, match="from 1 on"):
        read_frames(clip("b_frames.mp4"), [0], threads=threads)


def test_groups_are_read_side_by_side_only_where_that_pays(monkeypatch):
    asked = []
    lanes = select.in_lanes
    monkeypatch.setattr(select, "in_lanes", lambda *args: asked.append(args[2]) or lanes(*args))
    data = clip("open_gops.mp4")
    known = probe(data)

    def read(source, wanted, threads=3):
        read_frames(source, wanted, index=known, threads=threads)
        return asked[-1]

    assert read(data, range(80)) == 1, "small frames are decoded before a thread has started"
    monkeypatch.setattr(select, "THREADS_PAY", 0)
    assert [read(data, range(80), threads) for threads in (1, 2, 3, 4)] == [1, 2, 3, 4]
    assert read(data, [11, 24]) == read(data, [70]) == 1, "a group much longer than the others gets all threads itself"
    assert read(io.BytesIO(data), range(80)) == 1, "a file object has one position"


def test_closing_early_ends_the_threads_and_closes_the_file(threads_always_pay, tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(clip("open_gops.mp4"))
    before = threading.active_count()
    frames = select_frames(path, range(80), index=probe(path), threads=3)
    next(frames)
    assert threading.active_count() > before
    frames.close()
    assert threading.active_count() == before
    if Path("/proc/self/fd").is_dir():
        assert not any(path == fd.resolve() for fd in Path("/proc/self/fd").iterdir())


@given(jobs=st.lists(st.integers(0, 9), max_size=30), threads=st.integers(1, 4), capacity=st.integers(1, 3))
def test_lanes_give_results_in_the_order_of_the_jobs(jobs, threads, capacity):
    @contextmanager
    def worker():
        yield lambda job: iter([job] * job)

    assert list(in_lanes(jobs, worker, threads, capacity)) == [job for job in jobs for _ in range(job)]


def test_an_error_in_a_lane_comes_when_its_turn_comes():
    @contextmanager
    def worker():
        yield lambda job: iter([1 // job])

    results = in_lanes([1, 1, 0, 1], worker, 3, 1)
    assert next(results) == next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_a_job_that_nobody_wants_any_more_is_not_finished():
    made = []

    @contextmanager
    def worker():
        yield lambda job: (made.append(job) or k for k in range(1000))

    results = in_lanes(range(8), worker, 3, 2)
    next(results)
    results.close()
    assert len(made) < 50


def test_the_deadline_holds_for_all_threads_together(threads_always_pay):
    data = clip("open_gops.mp4")
    with pytest.raises(VideoLimitError, match="deadline_s"):
        read_frames(data, range(80), index=probe(data), threads=3, limits=Limits(deadline_s=0.0))


def test_indices_are_kept_and_dropped_by_many_threads(monkeypatch):
    known, failed = probe(clip("one_frame.mp4")), []
    monkeypatch.setattr(index, "KEPT_FILES", 5)
    interval = sys.getswitchinterval()

    def work(seed):
        try:
            for k in range(2000):
                key = (f"/{(k * seed) % 13}", 1, 1, Limits(max_frames=k % 3))
                if index.cached(key) is None:
                    index.keep(key, known)
        except BaseException as error:
            failed.append(error)

    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=work, args=(seed,)) for seed in (1, 2, 3, 5, 7, 11)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert not failed and len(index._kept) <= 5


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_child_forked_while_a_thread_holds_the_index_does_not_hang():
    stop = threading.Event()

    def work():
        while not stop.is_set():
            index.cached("/a")

    thread = threading.Thread(target=work)
    thread.start()
    try:
        for _ in range(20):
            if not (child := os.fork()):
                index.cached("/a")
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
    finally:
        stop.set()
        thread.join()
