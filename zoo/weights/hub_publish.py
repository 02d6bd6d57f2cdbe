"""Writing to the Hub through its own client: what a repository holds, one atomic commit, a tag.

The client sends most of these requests without a time limit, and does not repeat a commit. Here every answer is waited
for so long and no longer, and a commit is repeated only where it cannot have happened. Files go up by plain HTTP, which
every Hub takes and whose waits can be bounded.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from zoo.errors import PublishError, ZooError
from zoo.weights.hub import ours, persistently, plain_http, sendable
from zoo.weights.source import MAIN

ANSWER = 60.0  # seconds without a sign of the Hub

T = TypeVar("T")


@dataclass(frozen=True)
class State:
    """What a repository is at one moment. files: digests as the Hub declares them, by path."""

    head: str
    private: bool
    files: Mapping[str, str]


class HubRepository:
    """A repository that may not exist yet. Whatever goes wrong is a PublishError that says how to go on."""

    def __init__(self, repo: str, endpoint: str | None = None, token: str | bool | None = None) -> None:
        from huggingface_hub import HfApi

        self.repo = repo
        self._api = HfApi(endpoint=endpoint, token=sendable(token), **ours())
        self.page = f"{self._api.endpoint}/{repo}"

    def state(self, revision: str | None = None) -> State | None:
        """What is there now, or at a commit, from one request; None if this account sees no such repository."""
        from huggingface_hub.errors import RepositoryNotFoundError

        with self._one_error("look at"):
            try:
                info = self._persistently(
                    lambda: self._api.model_info(self.repo, revision=revision, files_metadata=True, timeout=ANSWER)
                )
            except RepositoryNotFoundError:
                return None
        files = {file.rfilename: file.lfs.sha256 if file.lfs else file.blob_id for file in info.siblings or []}
        return State(info.sha or "", bool(info.private), {path: digest or "" for path, digest in files.items()})

    def tags(self) -> dict[str, str]:
        """The commit that each tag means."""
        with self._one_error("look at the tags of"):
            refs = self._persistently(lambda: self._api.list_repo_refs(self.repo))
        return {tag.name: tag.target_commit for tag in refs.tags}

    def create(self) -> None:
        """Make it, private, unless it is there."""
        from huggingface_hub.errors import HfHubHTTPError

        with self._one_error("create"):
            try:
                self._persistently(lambda: self._api.create_repo(self.repo, private=True))
            except HfHubHTTPError as error:
                if error.response.status_code != 409:  # it is there
                    raise

    def commit(self, files: Mapping[str, Path], message: str, parent: str, done: Callable[[], str]) -> str:
        """Commit all files on top of `parent`, or none; gives the new commit.

        done: asked whether the repository has the files after all, where an answer got lost or somebody else was
        faster; gives the commit, or "" if not. Raises PublishError if `main` is no longer `parent`.
        """
        from huggingface_hub import CommitOperationAdd

        def commit() -> str:
            # An operation remembers what has become of it, so that each try needs its own.
            added = [CommitOperationAdd(path, str(local)) for path, local in files.items()]
            return str(self._api.create_commit(self.repo, added, commit_message=message, parent_commit=parent).oid)

        def commit_unless_done() -> str:
            try:
                return commit()
            except Exception:
                if commit_that_is_there := done():
                    return commit_that_is_there
                raise

        with self._one_error("commit to"):
            return self._persistently(commit_unless_done)

    def tag(self, name: str, commit: str) -> None:
        """Make the tag mean the commit. Raises PublishError if it means another."""
        if name not in self.tags():
            with self._one_error(f"tag {name!r} in"):
                self._persistently(lambda: self._api.create_tag(self.repo, tag=name, revision=commit, exist_ok=True))
        if (meant := self.tags().get(name)) != commit:
            raise PublishError(f"{self.page}: the tag {name!r} is at {meant}, not at {commit}", hint="choose another")

    def make_public(self) -> None:
        with self._one_error("make public"):
            self._persistently(lambda: self._api.update_repo_settings(self.repo, private=False))

    def header(self, file: str, commit: str) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Type and shape of every tensor, from the first bytes of a safetensors file."""
        with self._one_error("read"):
            found = self._persistently(
                lambda: self._api.parse_safetensors_file_metadata(self.repo, file, revision=commit)
            )
        return {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in found.tensors.items()}

    def _persistently(self, call: Callable[[], T]) -> T:
        return persistently(lambda: _bounded(call), asking=True)

    @contextmanager
    def _one_error(self, doing: str) -> Iterator[None]:
        try:
            yield
        except ZooError:
            raise
        except Exception as error:  # the client's errors are not a closed list
            raise _explain(error, f"cannot {doing} {self.page}", self.page) from error


def _bounded(call: Callable[[], T]) -> T:
    """The call's result, while the client waits no longer than ANSWER for each answer, and does not use Xet."""
    from huggingface_hub.utils import get_session, httpx

    session: Any = get_session()
    before = session.timeout
    session.timeout = httpx.Timeout(ANSWER)
    try:
        with plain_http(), warnings.catch_warnings(), _no_bars_in_files():
            warnings.simplefilter("ignore", DeprecationWarning)  # between the client and its HTTP library
            return call()
    finally:
        session.timeout = before


@contextmanager
def _no_bars_in_files() -> Iterator[None]:
    """The client shows how far an upload is also where nobody looks; here only on terminals."""
    from huggingface_hub import constants, utils

    asked_for = constants.HF_HUB_DISABLE_PROGRESS_BARS is not None
    if asked_for or utils.are_progress_bars_disabled() or (sys.stderr and sys.stderr.isatty()):
        yield
        return
    utils.disable_progress_bars()
    try:
        yield
    finally:
        utils.enable_progress_bars()


def _explain(error: BaseException, what: str, page: str) -> PublishError:
    from huggingface_hub import errors
    from huggingface_hub.utils import httpx

    again = "nothing is half done there: run the same again, and it goes on where it stopped"
    if isinstance(error, errors.OfflineModeIsEnabled):
        return PublishError(f"{what}: HF_HUB_OFFLINE forbids the network", hint="unset it to publish")
    if isinstance(error, errors.HfHubHTTPError):
        status, said = error.response.status_code, " ".join((error.server_message or "").split())[:300]
        if status in (401, 403) or isinstance(error, errors.RepositoryNotFoundError):
            return PublishError(
                f"{what}: this account may not ({status}{f', {said}' if said else ''})",
                hint="run `hf auth login` with a token that may write there, or choose a repository of your own",
            )
        if status in (409, 412):
            return PublishError(
                f"{what}: somebody has changed {MAIN} since the plan was made; nothing was overwritten",
                hint=f"look at {page}/commits/{MAIN}, and run the same again to see a new plan",
            )
        return PublishError(f"{what}: the Hub answers {status}{f', {said}' if said else ''}", hint=again)
    if isinstance(error, httpx.TimeoutException):
        return PublishError(f"{what}: no answer within {ANSWER:g} s", hint=again)
    if isinstance(error, httpx.HTTPError):
        return PublishError(f"{what}: the Hub cannot be reached: {_one_line(error)}", hint=again)
    if isinstance(error, RuntimeError) and error.__cause__ is not None:
        return _explain(error.__cause__, what, page)  # the client's word for "an upload failed"
    return PublishError(f"{what}: {type(error).__name__}: {_one_line(error)}", hint=again)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
