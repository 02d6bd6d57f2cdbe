"""Downloading a published pickle: over https only, within a size and a time, hashed while it arrives."""

from __future__ import annotations

import errno
import hashlib
import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import IO, Any
from urllib.parse import urlsplit

from zoo.errors import SpecError, WeightsAccessDenied, WeightsDownloadError, WeightsError, WeightsNotFound

CHUNK = 1 << 18
TIMEOUT = 30.0  # seconds for one answer
GRACE, SLOWEST = 60.0, 16 << 10  # after so many seconds, at least so many bytes per second
LOOPBACK = ("127.0.0.1", "::1", "localhost")
AGAIN = "try again; nothing of it was kept"


def download(url: str, file: IO[bytes], *, limit: int, arrived: Callable[[int, int], None] | None = None) -> str:
    """Write what the server gives to the file, and return its sha256.

    limit: most bytes to take. arrived: told now and then how many bytes there are, and how many there will be (0 if
    the server does not say). http is taken from this machine itself only.
    Raises WeightsNotFound, WeightsAccessDenied, WeightsDownloadError; SpecError for another kind of address.
    """
    if not _secure(url):
        raise SpecError(f"{url!r:.200} is not an https address", hint="tell the author of the model")
    opener = urllib.request.build_opener(_Redirects)
    request = urllib.request.Request(url, headers={"User-Agent": "video-zoo", "Accept-Encoding": "identity"})
    try:
        with opener.open(request, timeout=TIMEOUT) as answer:
            return _receive(answer, url, file, limit, arrived)
    except WeightsError:
        raise
    except urllib.error.HTTPError as refused:
        refused.close()
        raise _by_status(url, refused.code) from refused
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        if isinstance(reason, OSError) and reason.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise WeightsDownloadError(
                f"{url} does not fit on the disk: {reason.strerror}",
                hint="make room (`zoo cache prune`), or set HF_HOME or cache_dir to another disk",
            ) from error
        late = isinstance(reason, TimeoutError)
        why = f"no answer for {TIMEOUT:g} s" if late else str(reason) or type(reason).__name__
        raise WeightsDownloadError(f"{url}: {why[:300]}", hint=AGAIN) from error


def _receive(answer: Any, url: str, file: IO[bytes], limit: int, arrived: Callable[[int, int], None] | None) -> str:
    declared = int(answer.headers.get("Content-Length") or 0)
    digest, size, started = hashlib.sha256(), 0, time.monotonic()
    _check_size(url, declared, limit)
    while chunk := answer.read1(CHUNK):
        size += len(chunk)
        _check_size(url, size, limit)
        seconds = time.monotonic() - started
        if seconds > GRACE and size < SLOWEST * seconds:
            raise WeightsDownloadError(
                f"{url}: only {size:,} bytes after {seconds:.0f} s", hint=f"the server is too slow; {AGAIN}"
            )
        digest.update(chunk)
        file.write(chunk)
        if arrived:
            arrived(size, declared)
    file.flush()
    if declared and size < declared:
        raise WeightsDownloadError(f"{url}: the server broke off after {size:,} of {declared:,} bytes", hint=AGAIN)
    return digest.hexdigest()


def _check_size(url: str, size: int, limit: int) -> None:
    if size > limit:
        raise WeightsDownloadError(
            f"{url} has more than the {limit:,} bytes that are taken", hint="ZOO_MAX_DOWNLOAD, in bytes, raises this"
        )


def _by_status(url: str, status: int) -> WeightsError:
    if status in (401, 403):
        return WeightsAccessDenied(f"{url}: the server refuses it ({status})", hint="see its project's page")
    if status in (404, 410):
        return WeightsNotFound(f"{url}: the server has nothing there", hint="tell the author of the model")
    return WeightsDownloadError(f"{url}: the server answers {status}", hint=AGAIN)


def _secure(url: str, *, from_outside: bool = False) -> bool:
    parts = urlsplit(url)
    local = parts.scheme == "http" and parts.hostname in LOOPBACK and not from_outside
    return bool(parts.hostname) and (parts.scheme == "https" or local)


class _Redirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if not _secure(newurl, from_outside=urlsplit(req.full_url).scheme == "https"):
            fp.close()
            raise urllib.error.URLError(f"a redirect to {newurl[:200]!r} is not followed, as it is not https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)
