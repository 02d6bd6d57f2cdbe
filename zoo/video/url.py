"""Videos on a web server and from devices: only where the caller says so, never because a string looks like it."""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from zoo.errors import VideoOpenError

SCHEMES = ("http", "https")


class Url:
    """A video at an http or https address; goes wherever a path goes.

    Downloaded when it is first read, to a temporary file that is removed with this object. Redirects are followed, to
    http and https only, from https only to https. The server may be any that this machine can reach.
    max_bytes: of the file. timeout_s: for one answer of the server. deadline_s: for the whole download.
    """

    def __init__(
        self, url: str, *, max_bytes: int = 2 << 30, timeout_s: float = 20.0, deadline_s: float | None = 600.0
    ) -> None:
        try:
            parts = urlsplit(url)
            self.name = f"{parts.scheme}://{parts.hostname}{parts.path}"  # passwords and keys stay out of messages
            valid = parts.scheme in SCHEMES and bool(parts.hostname)
        except (ValueError, AttributeError, TypeError):
            self.name, valid = repr(url)[:80], False
        if not valid:
            raise VideoOpenError(
                f"{self.name} is not a web address",
                hint="it begins with https://; for a local file pass its path",
                source=self.name,
                reason="not a web address",
            )
        self.url, self.max_bytes, self.timeout_s, self.deadline_s = url, max_bytes, timeout_s, deadline_s
        self._file: Path | None = None

    def __repr__(self) -> str:
        return f"Url({self.name!r})"

    def __reduce__(self) -> Any:
        return _again, (self.url, self.max_bytes, self.timeout_s, self.deadline_s)

    def path(self) -> Path:
        """The downloaded file. Raises VideoOpenError, and VideoLimitError for one that is too large or too slow."""
        if self._file is None:
            from zoo.video.download import download  # urllib and ssl, which few need

            with tempfile.NamedTemporaryFile(prefix="zoo-video-", delete=False) as file:
                remove = weakref.finalize(self, Path(file.name).unlink, missing_ok=True)
                try:
                    download(self, file)
                except BaseException:
                    remove()
                    raise
            self._file = Path(file.name)
        return self._file


def _again(url: str, max_bytes: int, timeout_s: float, deadline_s: float | None) -> Url:
    return Url(url, max_bytes=max_bytes, timeout_s=timeout_s, deadline_s=deadline_s)


@dataclass(frozen=True)
class Device:
    """A camera, a screen or a network stream, as FFmpeg names it. Made by `open_device`, read by `iter_frames`."""

    name: str
    format: str
    options: Mapping[str, str] = field(default_factory=dict)


def open_device(name: str, *, format: str, **options: str) -> Device:
    """What `iter_frames` takes to read live: `open_device("/dev/video0", format="v4l2", framerate="30")`.

    name, format, options: of FFmpeg's input device or protocol, such as format="x11grab" or "rtsp". FFmpeg opens
    whatever they say: never let them come from a stranger.
    """
    import av

    if format not in av.formats_available:
        raise VideoOpenError(
            f"{name}: there is no format {format!r}",
            hint="`ffmpeg -devices` and `ffmpeg -protocols` list such names; av's wheels hold some of them",
            source=name,
            reason="no such format",
        )
    return Device(name, format, options)
