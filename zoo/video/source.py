"""Opening a video without opening anything else, and turning whatever goes wrong into a VideoError.

Nothing but a local regular file, bytes, or a binary file object is opened, unless a Url or a Device says so. A string
is a path even if it looks like a URL, and a file that is a playlist opens neither other files nor sockets, not even
from memory. FFmpeg's parsers remain a large surface: decode untrusted uploads with `isolate=True`.
"""

from __future__ import annotations

import io
import os
import re
import selectors
import stat
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import av
import av.stream

from zoo.errors import NoVideoStreamError, VideoDecodeError, VideoError, VideoLimitError, VideoOpenError
from zoo.video.readable import Pipe, Reader
from zoo.video.url import Device, Url

# Demuxers of real containers. Those of playlists (hls, concat, sdp, ...) are left out: they open what they name.
DEMUXERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,flv,asf,ogg,gif,h264,hevc,ivf,mjpeg,rm,mpegvideo,m4v"
OPTIONS = {"protocol_whitelist": "file", "format_whitelist": DEMUXERS}
# By default FFmpeg looks at up to five seconds of what it cannot wind back before it gives the first frame.
AT_ONCE = {"analyzeduration": "500000"}  # microseconds

CONVERT = "check that it plays elsewhere, or convert it with `ffmpeg -i INPUT -c:v libx264 out.mp4`"
PATHS = "strings are local paths; to let zoo download a video, pass zoo.video.Url('https://...')"


@dataclass(frozen=True)
class Limits:
    """How much of a video is read before VideoLimitError. None means no limit.

    max_pixels: of one frame. max_frames: packets or frames gone through. max_bytes: of the file.
    timeout_s: for one blocking read (FFmpeg may take twice that). deadline_s: for the whole call.
    max_memory: bytes that the child process of `isolate=True` may reserve.
    """

    max_pixels: int | None = 8192 * 4320
    max_frames: int | None = 2_000_000
    max_bytes: int | None = None
    timeout_s: float | None = 20.0
    deadline_s: float | None = None
    max_memory: int | None = 4 << 30

    def __post_init__(self) -> None:
        for name, value in ((field.name, getattr(self, field.name)) for field in fields(self)):
            if value is not None and not (isinstance(value, int | float) and value >= 0):
                raise VideoError(
                    f"Limits({name}={value!r})", hint="a limit is a number from 0 on, or None for no limit"
                )


class Guard:
    """What a call may still spend: every limit that FFmpeg does not keep for us."""

    def __init__(self, name: str, limits: Limits, started: float | None = None) -> None:
        if not isinstance(limits, Limits):
            raise VideoError(f"limits={limits!r:.80}", hint="pass limits=zoo.video.Limits(...)")
        self.name, self.limits, self.bytes = name, limits, 0
        self.started = time.monotonic() if started is None else started

    def check_frame(self, width: int, height: int) -> None:
        limit = self.limits.max_pixels
        if limit is not None and width * height > limit:
            self._exceeded(f"frames of {width}x{height} pixels", "max_pixels", limit)

    def check_size(self, size: int) -> None:
        if self.limits.max_bytes is not None and size > self.limits.max_bytes:
            self._exceeded(f"{size} bytes or more", "max_bytes", self.limits.max_bytes)

    def spend(self, packets: int, size: int) -> None:
        """Account for one more packet: the `packets`-th, of `size` bytes."""
        self.bytes += size
        limits = self.limits
        if limits.max_bytes is not None:
            self.check_size(self.bytes)
        if limits.max_frames is not None and packets > limits.max_frames:
            self._exceeded(f"more than {limits.max_frames} frames", "max_frames", limits.max_frames)
        if limits.deadline_s is not None:
            self.check_time()

    def check_time(self) -> None:
        deadline = self.limits.deadline_s
        if deadline is not None and time.monotonic() - self.started > deadline:
            self._exceeded(f"not done after {deadline} s", "deadline_s", deadline)

    def read_timeout(self) -> float | None:
        """How long one blocking read may take that begins now."""
        left = [] if self.limits.timeout_s is None else [self.limits.timeout_s]
        if self.limits.deadline_s is not None:
            left.append(max(self.started + self.limits.deadline_s - time.monotonic(), 0))
        return min(left, default=None)

    @contextmanager
    def timed(self) -> Iterator[None]:
        """FFmpeg gave up since a read took too long: for one read, or for the whole call."""
        try:
            yield
        except av.ExitError:
            self.check_time()
            raise

    def wait_for(self, descriptor: int) -> None:
        """Until there is something to read from a pipe or a terminal."""
        timeout = self.read_timeout()
        with selectors.DefaultSelector() as ready:
            ready.register(descriptor, selectors.EVENT_READ)
            if not ready.select(timeout):
                self.check_time()
                assert timeout is not None
                self._exceeded("nothing came", "timeout_s", timeout)

    def _exceeded(self, what: str, field: str, value: float) -> None:
        raise VideoLimitError(
            f"{self.name}: {what}, and the limit is {field}={value}",
            hint=f"if you trust this video, pass limits=Limits({field}=...) with a larger value",
            source=self.name,
            reason=field,
        )


@dataclass
class OpenVideo:
    """An open container and its first video stream. Lives inside `open_video` only."""

    container: av.container.InputContainer
    stream: av.VideoStream
    name: str
    guard: Guard


@contextmanager
def open_video(
    src: Any, limits: Limits, *, threads: int = 1, started: float | None = None, live: bool = False
) -> Iterator[OpenVideo]:
    """Open a path, bytes, a Url, or a seekable binary file object; close it afterwards.

    A file object is read from its first byte, and left at the position where it was.
    threads: of the decoder. With more than one, frames next to damage are lost; only the fast path can take that.
    started: since when `limits.deadline_s` runs, if not from now.
    live: also take what can be read only once, from front to back: pipes, sockets and devices.
    """
    with ExitStack() as stack:
        guard = Guard(name_of(src), limits, started)
        readable = resolve(src, guard, stack, live=live)
        stack.enter_context(translated(guard.name, readable))
        stack.enter_context(guard.timed())
        container = stack.enter_context(
            av.open(
                readable,
                "r",
                format=src.format if isinstance(src, Device) else None,
                options=_options(src, readable),
                metadata_errors="replace",  # titles are not always the UTF-8 that they should be
                timeout=guard.read_timeout(),
            )
        )
        yield OpenVideo(container, _video_stream(container, guard, threads), guard.name, guard)


def _options(src: Any, readable: Any) -> dict[str, str]:
    if isinstance(src, Device):
        return dict(src.options)
    return OPTIONS | AT_ONCE if isinstance(readable, Pipe) else OPTIONS


def _video_stream(container: av.container.InputContainer, guard: Guard, threads: int) -> av.VideoStream:
    # The cover picture of a music file is a video stream too.
    streams = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
    if not streams:
        kinds = ", ".join(sorted({s.type for s in container.streams})) or "no streams at all"
        raise NoVideoStreamError(
            f"{guard.name} has no video stream, only {kinds}",
            hint="give a file with moving pictures",
            source=guard.name,
            reason="no video stream",
        )
    stream = streams[0]
    for other in container.streams:
        if other is not stream:
            other.discard = av.stream.Discard.all
    context = stream.codec_context
    if context is None:
        raise VideoDecodeError(
            f"{guard.name}: there is no decoder for its codec", hint=CONVERT, source=guard.name, reason="no decoder"
        )
    guard.check_frame(context.width, context.height)
    # As an option of av.open this one would do nothing. Decoders count padding too; the exact check comes after them.
    if guard.limits.max_pixels is not None:
        context.options = {"max_pixels": str(int(min(2 * guard.limits.max_pixels + 128 * 128, 2**31 - 1)))}
    # The default would start a thread per core.
    stream.thread_type, context.thread_count = ("FRAME", threads) if threads > 1 else ("NONE", 1)
    return stream


def name_of(src: Any) -> str:
    """What to call a source in messages."""
    if isinstance(src, str | os.PathLike):
        return os.fsdecode(src)
    if isinstance(src, Url | Device):
        return src.name
    if isinstance(src, bytes | bytearray | memoryview):
        return f"<{len(src)} bytes>"
    if callable(getattr(src, "read", None)):
        return f"<{type(src).__name__} {getattr(src, 'name', '')}".rstrip() + ">"
    return repr(src)[:80]


def resolve(src: Any, guard: Guard, stack: ExitStack, *, live: bool = False) -> Any:
    """What av.open gets."""
    name = guard.name
    if isinstance(src, str | os.PathLike):
        return _local_file(name, guard)
    if isinstance(src, Url):
        return _local_file(str(src.path()), guard)
    if isinstance(src, Device) and live:
        return src.name
    if isinstance(src, bytes | bytearray | memoryview):
        guard.check_size(len(src))
        if not len(src):
            raise VideoOpenError("there are no bytes to read", hint="the video is empty", source=name, reason="empty")
        return io.BytesIO(src)
    if callable(getattr(src, "read", None)):
        if live and callable(getattr(src, "seekable", None)) and not src.seekable():
            return Pipe(src, guard)
        reader = Reader(src, guard)
        stack.callback(reader.restore)
        return reader
    if isinstance(src, Device):
        raise VideoOpenError(
            f"{name} is a device", hint="only iter_frames reads devices", source=name, reason="a device"
        )
    raise VideoOpenError(
        f"a video cannot be a {type(src).__name__}: {name}",
        hint="give a path, the bytes of a video file, or a file opened in binary mode",
        source=name,
        reason="wrong type",
    )


def _local_file(path: str, guard: Guard) -> str:
    def refuse(reason: str, hint: str) -> VideoOpenError:
        return VideoOpenError(f"{path}: {reason}", hint=hint, source=path, reason=reason)

    try:
        status = os.stat(path)  # noqa: PTH116  Path("") is the working directory
    except (OSError, ValueError) as error:
        if re.match(r"[A-Za-z][\w+.-]+:/", path):  # one slash is what a Path leaves of two
            raise refuse("there is no such local file", PATHS) from error
        if isinstance(error, FileNotFoundError):
            raise refuse("no such file", f"check the path; the working directory is {Path.cwd()}") from error
        reason = getattr(error, "strerror", None) or str(error)
        raise refuse(reason, "check the path and its permissions") from error
    if stat.S_ISDIR(status.st_mode):
        raise refuse("this is a directory", "give the path of one video file in it")
    if not stat.S_ISREG(status.st_mode):
        raise refuse("this is not a regular file", "copy what it gives to a file, or pass the bytes")
    if not status.st_size:
        raise refuse("the file is empty", "download or copy it again")
    guard.check_size(status.st_size)
    return "file:" + path  # takes URL schemes out of play


@contextmanager
def translated(name: str, readable: Any = None, *, writing: bool = False) -> Iterator[None]:
    """The one place where what av raises becomes a VideoError."""
    try:
        yield
    except Exception as error:
        own = getattr(readable, "error", None)
        if isinstance(own, VideoError) or not isinstance(own, Exception | None):
            raise own from None
        if isinstance(error, VideoError):
            raise
        # PyAV complains about unknown codecs, formats and pixels with a plain ValueError.
        if own is None and not isinstance(error, (av.FFmpegError, ValueError) if writing else av.FFmpegError):
            raise
        kind, reason, hint = _explain_writing(error) if writing else _explain(error, own)
        raise kind(f"{name}: {reason}", hint=hint, source=name, reason=reason) from (own or error)


def _explain(error: Exception, own: Exception | None) -> tuple[type[VideoError], str, str]:
    if own is not None:
        reason = f"the file object failed: {type(own).__name__}: {own}"
        return VideoOpenError, reason, "read it into bytes first, or save it to a file"
    if isinstance(error, av.ExitError):
        return VideoLimitError, "reading took too long", "pass limits=Limits(timeout_s=...) if the storage is slow"
    if isinstance(error, MemoryError):
        return VideoLimitError, "there is not enough memory", "free some, or pass isolate=True a larger max_memory"
    if isinstance(error, av.PermissionError):
        return VideoOpenError, "permission denied", "check who may read the file"
    if isinstance(error, av.ArgumentError | av.DemuxerNotFoundError):
        return VideoOpenError, "this is not a container that zoo opens (a playlist, an image or a device)", CONVERT
    if isinstance(error, av.InvalidDataError | av.EOFError):
        return VideoOpenError, "this is not a video file, or it is damaged or cut short", CONVERT
    if isinstance(error, av.DecoderNotFoundError):
        return VideoDecodeError, "there is no decoder for its codec", CONVERT
    return VideoDecodeError, f"{type(error).__name__}: {error.strerror or error}", CONVERT  # type: ignore[attr-defined]


def _explain_writing(error: Exception) -> tuple[type[VideoError], str, str]:
    unknown = isinstance(error, av.codec.codec.UnknownCodecError)
    reason = f"there is no encoder {str(error)!r}" if unknown else str(error)
    return VideoError, reason, "check the suffix, codec, pix_fmt and options; `python -m av --codecs` lists encoders"
