"""What went wrong with the Hub, the network or the disk, as one error of zoo's with the next step."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

from zoo.errors import (
    SpecError,
    WeightsAccessDenied,
    WeightsCorrupt,
    WeightsDownloadError,
    WeightsNotFound,
    WeightsOffline,
    ZooError,
)

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
CLOSED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST)


class NoSuchFile(WeightsNotFound):
    """Repository and revision are there, and the Hub says that the file is not."""


class LongerThanDeclared(Exception):
    """A body that does not end where it should."""


def explain(error: Exception, asked: str, page: str, cache: Path) -> ZooError:
    """The error to raise for what the client raised. asked: model and source. page: the repository's address."""
    from huggingface_hub import errors
    from huggingface_hub.utils import httpx

    again = "try again; what is in the cache already still works"
    if isinstance(error, errors.OfflineModeIsEnabled):
        return WeightsOffline(
            f"{asked} is not in {cache}, and HF_HUB_OFFLINE forbids the network",
            hint="unset it once and run `zoo download NAME`",
        )
    if isinstance(error, errors.LocalEntryNotFoundError | ValueError) and isinstance(error.__cause__, Exception):
        return explain(error.__cause__, asked, page, cache)  # the client says "check your connection" to all of them
    if isinstance(error, errors.GatedRepoError):  # before its parent, RepositoryNotFoundError
        return WeightsAccessDenied(
            f"{asked} is gated, and this account may not read it",
            hint=f"accept the terms at {page}, then `hf auth login`",
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return WeightsNotFound(
            f"{asked}: there is no repository at {page}, or it is private",
            hint="check the name; for a private one run `hf auth login`",
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return WeightsNotFound(f"{asked}: {page} has no such revision", hint=f"see {page}/commits")
    if isinstance(error, errors.EntryNotFoundError):
        return NoSuchFile(f"{asked}: there is no such file in that revision", hint=f"see {page}/tree/main")
    if isinstance(error, errors.HfHubHTTPError):
        return _by_status(error.response.status_code, asked, page, again)
    if isinstance(error, errors.FileMetadataError):
        return WeightsDownloadError(
            f"{asked}: {page} is not answered by a Hub",
            hint="is a login page or a proxy in between, or HF_ENDPOINT set to something else?",
        )
    if isinstance(error, errors.HFValidationError):
        return SpecError(f"{asked}: {error}", hint="hf://owner/repo/file@revision")
    if isinstance(error, httpx.TimeoutException):
        return WeightsDownloadError(f"{asked}: {page} did not answer in time", hint=again)
    if isinstance(error, httpx.HTTPError):
        return WeightsDownloadError(f"{asked}: {page} cannot be reached: {_one_line(error)}", hint=again)
    if isinstance(error, LongerThanDeclared) or "Consistency check failed" in str(error):
        return WeightsCorrupt(f"{asked}: what arrived has not the declared size: {_one_line(error)}", hint=again)
    if isinstance(error, OSError) and error.errno in FULL:
        free = shutil.disk_usage(cache).free if cache.exists() else 0
        return WeightsDownloadError(
            f"{asked} does not fit: {error.strerror}; the disk of {cache} has {free:,} bytes free",
            hint="make room (`zoo cache prune`), or set HF_HOME or cache_dir to another disk",
        )
    if isinstance(error, OSError) and error.errno in CLOSED:
        return WeightsDownloadError(
            f"{asked}: the cache {cache} cannot be written: {error.strerror}",
            hint="set HF_HOME or cache_dir to a folder of your own",
        )
    return WeightsDownloadError(f"{asked}: {type(error).__name__}: {_one_line(error)}", hint=again)


def _by_status(status: int, asked: str, page: str, again: str) -> ZooError:
    if status == 401:
        return WeightsAccessDenied(f"{asked}: {page} refuses the token", hint="`hf auth login` with a valid one")
    if status == 403:
        return WeightsAccessDenied(f"{asked}: {page} is disabled or refused to this account", hint=f"see {page}")
    if status == 404:
        return WeightsNotFound(f"{asked}: {page} has nothing there", hint="check repository, file and revision")
    return WeightsDownloadError(f"{asked}: {page} answers {status}", hint=again)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
