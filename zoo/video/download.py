"""Downloading a video: http and https only, within a time and a size."""

from __future__ import annotations

import http.client
import time
import urllib.error
import urllib.request
from typing import IO, Any
from urllib.parse import urlsplit

from zoo.errors import VideoError, VideoLimitError, VideoOpenError
from zoo.video.url import SCHEMES, Url

CHUNK = 1 << 16


def download(url: Url, file: IO[bytes]) -> None:
    """Write what the server gives to the file, within the limits of the Url. Raises VideoError."""
    started, size = time.monotonic(), 0
    try:
        with _opener().open(url.url, timeout=url.timeout_s) as answer:
            _check(url, int(answer.headers.get("Content-Length") or 0), started)
            while chunk := answer.read1(CHUNK):
                size += len(chunk)
                _check(url, size, started)
                file.write(chunk)
    except VideoError:
        raise
    except urllib.error.HTTPError as error:
        raise _failed(url, f"the server says {error.code} {error.reason}", "check the address") from error
    except TimeoutError as error:
        raise _limited(url, f"no answer for {url.timeout_s} s", "timeout_s") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        if isinstance(getattr(error, "reason", None), TimeoutError):
            raise _limited(url, f"no answer for {url.timeout_s} s", "timeout_s") from error
        reason = str(getattr(error, "reason", None) or error) or type(error).__name__
        raise _failed(url, reason, "check the address and the network") from error


def _check(url: Url, size: int, started: float) -> None:
    if size > url.max_bytes:
        raise _limited(url, f"more than max_bytes={url.max_bytes}", "max_bytes")
    if url.deadline_s is not None and time.monotonic() - started > url.deadline_s:
        raise _limited(url, f"not downloaded after {url.deadline_s} s", "deadline_s")


def _failed(url: Url, reason: str, hint: str) -> VideoOpenError:
    return VideoOpenError(f"{url.name}: {reason}", hint=hint, source=url.name, reason=reason)


def _limited(url: Url, what: str, name: str) -> VideoLimitError:
    hint = f"if you trust this server, pass Url(..., {name}=...) with a larger value"
    return VideoLimitError(f"{url.name}: {what}", hint=hint, source=url.name, reason=name)


class _Redirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        before, after = urlsplit(req.full_url).scheme, urlsplit(newurl).scheme
        if after not in SCHEMES or (before == "https" and after != "https"):
            raise urllib.error.URLError(f"a redirect from {before} to {after or newurl[:40]} is not followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    """What urllib does for http and https, without its handlers for local files, ftp and data."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPErrorProcessor,
        urllib.request.HTTPDefaultErrorHandler,
        _Redirects,
    ):
        opener.add_handler(handler())
    return opener
