"""Publishing interrupted at each request in turn, by network, Hub or SIGKILL, and run again (37, 38, 41)."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from publishing import ON_SHELF, REPO, TERMS, acme, commits, holds, quietly, trained, written

import zoo
from zoo.errors import PublishError
from zoo.testing.loopback_hub import LoopbackHub, Request, Response

REQUESTS = 24  # of one publication, at most
TAG = "v1"


class InterruptedHub(LoopbackHub):
    """From its request number `at` on, or only for that one, `happens` is the answer; with `late`, after the deed."""

    def __init__(self) -> None:
        super().__init__()
        self.heals()

    def heals(self) -> None:
        self.at, self.once, self.late, self.match = 0, True, False, ""
        self.happens: Callable[[], Response] = Response
        self.count = 0

    def breaks(self, happens: Callable[[], Response], at: int, *, once=True, late=False, match="") -> None:
        self.happens, self.at, self.once, self.late, self.match = happens, at, once, late, match

    def received(self, request: Request) -> Response:
        self._log.append(request)
        if self.match in f"{request.method} {request.path}":
            self.count += 1
            if self.at and (self.count == self.at or (self.count > self.at and not self.once)):
                if self.late:
                    self.answer(request)
                return self.happens()
        return self.answer(request)


def unavailable() -> Response:
    return Response(503)


def closed() -> Response:
    raise ConnectionResetError  # the server closes the connection without an answer


def hanging() -> Response:
    time.sleep(0.6)
    return Response(503)


@pytest.fixture
def hub(hub):
    """The client is set up as for other tests; another Hub takes its place."""
    with InterruptedHub() as served, acme():
        yield served


def publish(hub, model=None, **options) -> zoo.publishing.Published:
    options = {"tag": TAG, "tell": quietly, **TERMS, **options}
    return zoo.publish(model or trained(), REPO, endpoint=hub.url, **options)


def nothing_is_half_done(hub) -> None:
    if (repository := hub._store.repositories.get(REPO)) is not None:
        for tree in repository.commits.values():
            assert set(tree) in ({".gitattributes"}, {".gitattributes", *ON_SHELF})
        assert commits(hub) <= 1


def is_complete(hub, cache: Path) -> None:
    """All is there, once; and publishing again has nothing to do."""
    hub.heals()
    published = publish(hub)
    assert commits(hub) == 1
    repository = hub._store.repositories[REPO]
    assert repository.tags == {TAG: published.revision}
    assert repository.refs["main"] == published.revision
    assert holds(hub, trained(), cache / published.revision, published.revision)


INTERRUPTIONS = {
    "503": (unavailable, {}),
    "503 but done": (unavailable, {"late": True}),
    "closed": (closed, {}),
    "closed but done": (closed, {"late": True}),
    "down": (closed, {"once": False}),
    "down after that": (closed, {"once": False, "late": True}),
    "out of order": (unavailable, {"once": False}),
}


QUICK = "down after that"
IN_TURN = [how if how == QUICK else pytest.param(how, marks=pytest.mark.slow) for how in INTERRUPTIONS]


@pytest.mark.parametrize("how", IN_TURN)
def test_interrupted_at_each_request_in_turn_and_run_again_it_is_complete(how, hub, tmp_path):
    happens, options = INTERRUPTIONS[how]
    for at in range(1, REQUESTS):
        hub._store.repositories.clear()
        hub._store.large.clear()
        hub.heals()
        hub.breaks(happens, at, **options)
        try:
            publish(hub)
        except PublishError as error:
            assert "again" in str(error), error
        nothing_is_half_done(hub)
        interrupted = hub.count >= at
        is_complete(hub, tmp_path / str(at))
        if not interrupted:
            break
    assert not interrupted, "there are more requests than this test interrupts"


@pytest.mark.parametrize("late", [False, True])
def test_37_a_commit_that_is_refused_with_503_is_made_once(hub, tmp_path, late):
    hub.breaks(unavailable, 1, late=late, match="/commit/")
    publish(hub)
    assert commits(hub) == 1
    is_complete(hub, tmp_path)


@pytest.mark.parametrize("late", [False, True])
def test_37_after_503_for_good_running_again_makes_one_commit(hub, tmp_path, late):
    hub.breaks(unavailable, 1, once=False, late=late, match="/commit/")
    if late:
        publish(hub)  # the Hub says no, and has done it
    else:
        with pytest.raises(PublishError, match=r"503.*run the same again"):
            publish(hub)
        assert commits(hub) == 0
    is_complete(hub, tmp_path)


@pytest.mark.parametrize("match", ["?blobs", "/preupload/", "PUT /lfs/", "/commit/", "/resolve/", "/tag/"])
def test_a_hub_that_says_nothing_is_waited_for_only_so_long(hub, monkeypatch, match):
    monkeypatch.setattr("zoo.weights.hub_publish.ANSWER", 0.1)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_ETAG_TIMEOUT", 0.1)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DOWNLOAD_TIMEOUT", 0.1)
    hub.breaks(hanging, 1, once=False, match=match)
    start = time.monotonic()
    with pytest.raises(PublishError, match="again"):
        publish(hub)
    assert time.monotonic() - start < 10
    nothing_is_half_done(hub)


def test_what_arrives_damaged_is_said_and_not_tagged(hub, tmp_path):
    publish(hub, tag=None)
    hub.corrupt(REPO, "model.safetensors")
    with pytest.warns(UserWarning, match="damaged"), pytest.raises(PublishError, match=r"commit [0-9a-f]{40} was made"):
        publish(hub)
    assert hub._store.repositories[REPO].tags == {}


# --- other processes -------------------------------------------------------------------------------------------------


# What publishing imports when it comes to it: most of the time that a new process takes.
LATE_IMPORTS = ("zoo.publishing", "huggingface_hub.file_download", "huggingface_hub._commit_api", "torch._decomp")
LATE_IMPORTS += ("torch._refs", "torch._dynamo", "huggingface_hub._local_folder")


def in_child(url: str) -> None:
    """What a child process does: publish, and end with 0, or with 3 where publishing says why it could not."""
    with acme():
        try:
            zoo.publish(trained(), REPO, endpoint=url, tag=TAG, tell=quietly, **TERMS)
        except PublishError as error:
            print(error, file=sys.stderr)
            os._exit(3)


def write_in_child(folder: str) -> None:
    with acme():
        written(Path(folder))


@pytest.fixture
def child(hub, monkeypatch):
    """`child()` starts a process that publishes. All are forked from one other that has imported everything."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    monkeypatch.setenv("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["test_publish_faults", "models", *LATE_IMPORTS])
    started = []

    def start(target=in_child, argument=hub.url):
        started.append(context.Process(target=target, args=(argument,), daemon=True))
        started[-1].start()
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.join()


def ended(process) -> int:
    process.join(60)
    return process.exitcode


@pytest.mark.parametrize("late", [False, True])
def test_38_killed_between_upload_and_commit_the_repository_is_as_before(hub, child, tmp_path, late):
    def killed() -> Response:
        process.kill()
        return Response(200)

    hub.breaks(killed, 1, late=late, match="PUT /lfs/" if late else "/commit/")
    process = child()
    assert ended(process) == -9
    assert len(hub._store.large) == 1
    assert commits(hub) == 0
    uploads = len(hub.requests("PUT"))
    is_complete(hub, tmp_path)
    assert len(hub.requests("PUT")) == uploads, "what was uploaded is not uploaded again"


def killed_in_turn(hub, child, tmp_path, at: int, late: bool, beside: int) -> bool:
    """One process is killed at the request `at`, while others go on; then again. False if it never came to that."""
    hub._store.repositories.clear()
    hub._store.large.clear()
    hub.heals()
    processes = []

    def killed() -> Response:
        processes[0].kill()
        return Response(503)

    hub.breaks(killed, at, late=late)
    processes += [child() for _ in range(1 + beside)]
    codes = [ended(process) for process in processes]
    assert codes[0] in (0, -9)
    assert all(code in (0, 3) for code in codes[1:]), codes
    nothing_is_half_done(hub)
    interrupted = hub.count >= at
    is_complete(hub, tmp_path / str(at))
    return interrupted


def test_of_two_processes_at_once_one_is_killed_and_the_model_is_there_once(hub, child, tmp_path):
    assert killed_in_turn(hub, child, tmp_path, 9, late=True, beside=1)


def test_41_two_processes_make_the_same_bytes(child, tmp_path):
    assert ended(child(write_in_child, str(tmp_path / "there"))) == 0  # where hashes are salted otherwise
    written(tmp_path / "here")
    for name in ON_SHELF:
        assert (tmp_path / "here" / name).read_bytes() == (tmp_path / "there" / name).read_bytes()


def test_two_processes_at_once_publish_one_model(hub, child, tmp_path):
    processes = [child(), child()]
    assert [ended(process) for process in processes] == [0, 0]
    is_complete(hub, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("beside", [0, 1])
@pytest.mark.parametrize("late", [False, True])
def test_killed_at_each_request_in_turn(hub, child, tmp_path, late, beside):
    at = 1
    while killed_in_turn(hub, child, tmp_path, at, late, beside):
        at += 1
    assert at > 15
