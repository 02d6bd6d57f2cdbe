"""The Hub, through its own client, which is imported here and in its neighbours only, and only when it is needed.

What the client leaves open is closed here. Every wait has an end, also for a Hub that sends a byte now and then. What
the client does not try again is tried again. What the headers say is believed only if it could be true. And whatever
the client raises leaves as one error of zoo's that names the model, the file and the next step.
"""

from __future__ import annotations

import queue
import random
import re
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar, cast

from zoo.errors import SpecError, WeightsDownloadError, ZooError
from zoo.weights.cached import DIGEST, CachedFile
from zoo.weights.hub_errors import LongerThanDeclared, TooSlow, explain
from zoo.weights.hub_stated import stated
from zoo.weights.source import COMMIT, HubFile, at_home

TRIES = 3
PAUSE = 1.0  # seconds before the second try; doubled before the third
LONGEST_PAUSE = 60.0  # a Hub that asks for more is not waited for
ASKING = 6  # times the client's own limit for one sign of the Hub, in which it has to have answered
GRACE, SLOWEST = 60.0, 16 << 10  # a download may take so many seconds, and one more for so many bytes
LOCK_WAIT = 60.0  # seconds in which another process that downloads the same file makes no progress
LOCK_STEP = 1.0
ROOM = 16 << 20  # bytes to leave free on the disk
SENDABLE = re.compile(r"[!-~]+")  # in a header, without spaces

T = TypeVar("T")


@dataclass(frozen=True)
class Remote:
    """What the Hub declares about a file, after it was found plausible. answer: the same, as the client has it."""

    commit: str
    digest: str  # sha256 of large files, git's name for the content of small ones
    size: int
    answer: Any = field(repr=False, compare=False)


class Hub:
    """One address, one cache, one account. None means what the client is configured for by its own variables."""

    def __init__(
        self, endpoint: str | None = None, cache_dir: str | Path | None = None, token: str | bool | None = None
    ) -> None:
        from huggingface_hub import constants

        self.endpoint = (endpoint or constants.ENDPOINT).rstrip("/")
        self.cache = at_home(cache_dir or constants.HF_HUB_CACHE)
        self._token = sendable(token)

    def cached(self, file: HubFile, commit: str) -> CachedFile:
        """Where the client keeps this file of this commit."""
        return CachedFile(self._folder(file), commit, file.file)

    def remembered(self, file: HubFile) -> str:
        """The commit that the revision meant when the Hub was last asked, or ""."""
        path = self._folder(file) / "refs" / file.revision
        text = path.read_text(errors="replace").strip() if path.is_file() else ""
        return text if COMMIT.fullmatch(text) else ""

    def remember(self, file: HubFile, commit: str) -> None:
        """Note what the revision means now, where the client and `remembered` look for it."""
        path = self._folder(file) / "refs" / file.revision
        with suppress(OSError):  # a cache that cannot be written is asked for every time
            if self.remembered(file) != commit:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(commit)

    def known_absent(self, file: HubFile) -> bool:
        """Whether the Hub has said before that this commit has no such file."""
        return self._absence(file).exists()

    def remember_absence(self, file: HubFile) -> None:
        """Note, where the client does, that this commit has no such file, so that it is asked for only once."""
        path = self._absence(file)
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()

    def _absence(self, file: HubFile) -> Path:
        return self._folder(file) / ".no_exist" / file.revision / file.file

    @contextmanager
    def one_error(self, file: HubFile, name: str, size: int | None = None) -> Iterator[None]:
        """Within this block everything that goes wrong is a ZooError about `file`, wanted for the model `name`."""
        try:
            yield
        except ZooError as error:
            if name in str(error):
                raise
            raise type(error)(f"{name}: {error.args[0]}", hint=error.hint) from error
        except Exception as error:  # the client's errors are not a closed list
            asked = (f"{name}: {file}" if name else str(file)) + (f" of {size:,} bytes" if size is not None else "")
            raise explain(error, asked, f"{self.endpoint}/{file.repo}", self.cache) from error

    def ask(self, file: HubFile) -> Remote:
        """What the Hub declares about the file, without fetching it, and within the client's time limit."""
        from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url

        def address(revision: str) -> str:
            return hf_hub_url(file.repo, file.file, revision=revision, endpoint=self.endpoint)

        url = address(file.revision)

        def metadata() -> Any:
            return get_hf_file_metadata(
                url,
                timeout=constants.HF_HUB_ETAG_TIMEOUT,
                retry_on_errors=False,
                endpoint=self.endpoint,
                token=self._token,
                **ours(),
            )

        limit = ASKING * constants.HF_HUB_ETAG_TIMEOUT
        found = persistently(lambda: within(limit, metadata), asking=True)
        commit, digest, size = found.commit_hash or "", found.etag or "", found.size
        if not COMMIT.fullmatch(commit) or not DIGEST.fullmatch(digest) or size is None or size < 0:
            raise WeightsDownloadError(
                f"{file}: {self.endpoint} does not answer as a Hub does (commit {commit!r:.80}, digest {digest!r:.80})",
                hint="is a login page or a proxy in between, or HF_ENDPOINT set to something else?",
            )
        # Small files come from the Hub itself, under the name of a branch, which may move until they are fetched.
        answer = replace(found, location=address(commit)) if found.location == url else found
        return Remote(commit, digest, size, answer)

    def check_room(self, file: HubFile, size: int) -> None:
        """Raise WeightsDownloadError if the disk cannot take so many bytes."""
        folder = next(p for p in [self.cache, *self.cache.absolute().parents] if p.exists())
        free = shutil.disk_usage(folder).free
        if free < size + ROOM:
            raise WeightsDownloadError(
                f"{file} has {size:,} bytes, and the disk of {self.cache} has {free:,} free",
                hint="make room (`zoo cache prune`), or set HF_HOME or cache_dir to another disk",
            )

    def download(self, file: HubFile, remote: Remote, *, replace: bool) -> None:
        """Have the client put the file into its cache. `replace`: even if it thinks that it has it."""
        from huggingface_hub import hf_hub_download

        limit, given_up = GRACE + remote.size / SLOWEST, threading.Event()

        def download() -> object:
            with stated(remote.answer):
                return hf_hub_download(
                    file.repo,
                    file.file,
                    revision=remote.commit,
                    cache_dir=self.cache,
                    endpoint=self.endpoint,
                    token=self._token,
                    force_download=replace,
                    tqdm_class=_bar(remote.size, given_up),
                    **ours(),
                )

        try:
            with plain_http():
                persistently(lambda: within(limit, download), asking=False)
        except BaseException:
            given_up.set()  # the thread that nobody waits for ends with its next bytes; what it has so far goes now
            for part in (self._folder(file) / "blobs").glob(f"{remote.digest}.*.incomplete"):
                part.unlink(missing_ok=True)
            raise

    @contextmanager
    def turn(self, file: HubFile, remote: Remote) -> Iterator[None]:
        """Be the only process that fetches this file. One that hangs is waited for, but not for ever."""
        locks = self.cache / ".locks" / self._folder(file).name
        locks.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            stack.enter_context(self._lock(locks / f"{remote.digest}.zoo.lock", file, remote))
            # The client waits for its own lock without limit; so see first that nobody else holds it.
            with self._lock(locks / f"{remote.digest}.lock", file, remote):
                pass
            yield

    @contextmanager
    def _lock(self, path: Path, file: HubFile, remote: Remote) -> Iterator[None]:
        from huggingface_hub.utils import WeakFileLock

        arrived, since = -1, time.monotonic()
        while True:
            with ExitStack() as stack:
                try:
                    stack.enter_context(WeakFileLock(path, timeout=min(LOCK_STEP, LOCK_WAIT)))
                except TimeoutError as held:
                    parts = (self._folder(file) / "blobs").glob(f"{remote.digest}*.incomplete")
                    now = sum(part.stat().st_size for part in parts if part.exists())
                    if now != arrived:
                        arrived, since = now, time.monotonic()
                    if time.monotonic() - since < LOCK_WAIT:
                        continue
                    raise WeightsDownloadError(
                        f"{file}: {path} is held by another process that makes no progress",
                        hint="end that process, or delete the lock file if none is left",
                    ) from held
                yield
                return

    def _folder(self, file: HubFile) -> Path:
        return self.cache / f"models--{file.repo.replace('/', '--')}"


def within(seconds: float, call: Callable[[], T]) -> T:
    """The call's result, or TooSlow: the client's limits are for one sign of the Hub each, and signs can be many."""
    results: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()

    def work() -> None:
        try:
            results.put((call(), None))
        except BaseException as error:
            results.put((None, error))

    threading.Thread(target=work, name="zoo-hub", daemon=True).start()
    try:
        result, error = results.get(timeout=seconds)
    except queue.Empty:
        raise TooSlow(f"not done after {seconds:.0f} s") from None
    if error is not None:
        raise error
    return cast(T, result)


_plain = threading.Lock()
_plain_before: list[bool] = []


@contextmanager
def plain_http() -> Iterator[None]:
    """Within this block, which may be entered from several threads, the client does not use Xet.

    Every Hub gives files by plain HTTP, whose waits and lengths are checked here.
    """
    from huggingface_hub import constants

    with _plain:
        _plain_before.append(constants.HF_HUB_DISABLE_XET)
        constants.HF_HUB_DISABLE_XET = True
    try:
        yield
    finally:
        with _plain:  # the last one out finds what the first one found
            constants.HF_HUB_DISABLE_XET = True if len(_plain_before) > 1 else _plain_before[0]
            _plain_before.pop()


def persistently(call: Callable[[], T], *, asking: bool) -> T:
    """The call's result, after some more tries if it fails in a way that may pass."""
    pause = PAUSE
    for left in range(TRIES - 1, -1, -1):
        try:
            return call()
        except Exception as error:
            wait = _worth_waiting(error, pause * random.uniform(0.5, 1.5), asking=asking)
            if not left or wait is None:
                raise
        time.sleep(wait)
        pause *= 2
    raise AssertionError("not reached")


def _worth_waiting(error: Exception, pause: float, *, asking: bool) -> float | None:
    """Seconds to wait before another try, or None if it would be in vain, or the client has tried often enough."""
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.utils import httpx

    if isinstance(error, HfHubHTTPError):
        status = error.response.status_code
        if status == 429:
            told = error.response.headers.get("Retry-After", "")
            pause = max(pause, float(told)) if told.isdigit() else pause
            return pause if asking and pause <= LONGEST_PAUSE else None
        return pause if status >= 500 else None
    if isinstance(error, httpx.TimeoutException):
        return None
    known = (httpx.ConnectError, httpx.RemoteProtocolError)  # in the body the client itself tries six times
    return pause if isinstance(error, httpx.TransportError) and (asking or not isinstance(error, known)) else None


def _bar(size: int, given_up: threading.Event) -> type:
    """A progress bar that is seen on terminals only, and ends a download that nobody waits for or that is too long."""
    from huggingface_hub import utils

    tqdm: Any = utils.tqdm

    class Bar(tqdm):  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            if not (sys.stderr and sys.stderr.isatty()):
                kwargs["disable"] = True
            super().__init__(*args, **kwargs)
            self.arrived = 0.0

        def update(self, n: float | None = 1) -> bool | None:
            self.arrived += n or 0
            if given_up.is_set():
                raise TooSlow("nobody waits for it any more")
            if self.arrived > size:
                raise LongerThanDeclared(f"more than the {size} bytes that were declared")
            shown: bool | None = super().update(n)
            return shown

    return Bar


def sendable(token: str | bool | None) -> str | bool | None:
    """The token itself. Raises SpecError for one that cannot be sent: what the client then raises would repeat it."""
    if isinstance(token, str) and not SENDABLE.fullmatch(token):
        raise SpecError("the token is not one word of letters and digits", hint="has it a line break at its end?")
    return token


def ours() -> dict[str, Any]:
    """Who asks, for the Hub's statistics."""
    from zoo import __version__

    return {"library_name": "video-zoo", "library_version": __version__}
