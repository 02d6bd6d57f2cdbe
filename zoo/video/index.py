"""What is in a video: how many frames, when each is shown, how large they are."""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

import av

from zoo.video.decode import Clock, Decode, Decoded
from zoo.video.picture import quarter_turns, upright_shape
from zoo.video.source import Limits, OpenVideo, open_video
from zoo.video.table import Damaged, Distrust, PacketTable, scan
from zoo.video.url import Url

# Indices of files that are kept in this process, and how many frames they may have together (about 100 bytes each).
KEPT_FILES, KEPT_FRAMES = 64, 1_000_000


@dataclass(frozen=True)
class VideoIndex:
    """Plain numbers about one video; can be pickled. That of a path is kept until the file changes.

    time_s: when each frame is shown, in seconds from the first one, never decreasing.
    width, height: as shown, after rotation. rotation: degrees counter-clockwise that were still to be applied.
    keyframe: for each frame, whether decoding can start there.
    duration_s: until the last frame is gone. fps_mean: frames per second over that time.
    trusted: the container's own table was used, and frames can be read without decoding all before them; otherwise
    every frame was decoded to count them, and `why` says why.
    """

    n_frames: int
    time_s: tuple[float, ...]
    width: int
    height: int
    rotation: int
    keyframe: tuple[bool, ...]
    fps_mean: float
    duration_s: float
    codec: str
    container: str
    trusted: bool
    why: str | None
    _table: PacketTable | None = field(default=None, repr=False, compare=False)


def probe(
    src: Any,
    *,
    exact: bool = False,
    isolate: bool = False,
    limits: Limits = Limits(),  # noqa: B008  frozen
) -> VideoIndex:
    """What is in a video. Reads the packets of mp4, mov, mkv and webm; decodes any other container.

    Damage inside a packet shows only when it is decoded: then the table says more frames than there are good ones.
    exact=True decodes every container, and counts what `read_frames(..., on_error="skip")` can give.
    isolate=True reads in a child process with limits, whose crash is a VideoError.
    """
    return index_of(src, exact, limits, time.monotonic(), isolate)


def index_of(src: Any, exact: bool, limits: Limits, started: float, isolate: bool = False) -> VideoIndex:
    """`probe`, for which `limits.deadline_s` runs since `started`."""
    if isolate:
        from zoo.video.isolate import isolated_index

        return isolated_index(src, exact, limits, started)
    key, why = cache_key(src, limits), "asked for"
    if not exact:
        try:
            return cached(key) or trusted_index(src, limits, key, started)
        except Distrust as distrust:
            why = str(distrust)
    with open_video(src, limits, started=started) as video:
        found = _from_frames(video, why)
    return found if exact else keep(key, found)


def trusted_index(src: Any, limits: Limits, key: Any, started: float) -> VideoIndex:
    """The index from the container's table; Distrust where that cannot be believed."""
    with open_video(src, limits, started=started) as video:
        try:
            found = scan(video)
        except Distrust as distrust:
            _remember(key, Distrust(str(distrust)))  # a copy, as a traceback would keep the file open
            raise
        return keep(key, _index(video, found.first, found.times, found.keyframe, found.clock, None, found.table))


def _from_frames(video: OpenVideo, why: str) -> VideoIndex:
    decode = Decode(video)
    first: Decoded | None = None
    times, keys = [], []
    for decoded in decode:
        first = first or decoded
        times.append(decoded.time_s)
        keys.append(bool(decoded.frame.key_frame))
    if first is None:
        raise decode.failure(iter(()))
    if decode.damage:
        why = f"{why}; {decode.n_damaged} errors, the first at {decode.damage[0]}"
    return _index(video, first.frame, times, keys, decode.clock, why, None)


def _index(
    video: OpenVideo,
    frame: av.VideoFrame,
    times: list[float],
    keys: list[bool],
    clock: Clock,
    why: str | None,
    table: PacketTable | None,
) -> VideoIndex:
    duration = clock.seconds_after()
    height, width = upright_shape(frame)
    return VideoIndex(
        n_frames=len(times),
        time_s=tuple(times),
        width=width,
        height=height,
        rotation=quarter_turns(frame) * 90,
        keyframe=tuple(keys),
        fps_mean=len(times) / duration,
        duration_s=duration,
        codec=video.stream.codec_context.name,
        container=video.container.format.name,
        trusted=why is None,
        why=why,
        _table=table,
    )


# --- indices of files, kept ---------------------------------------------------------------------------------------

_kept: OrderedDict[Any, VideoIndex | Distrust] = OrderedDict()
_lock = threading.Lock()
if hasattr(os, "register_at_fork"):  # a child must not start with the lock held by a thread that it does not have
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)


def cache_key(src: Any, limits: Limits) -> Any:
    """What the index of a file is kept by; None for what is not a file. Limits that were passed once may not be now."""
    if not isinstance(src, str | os.PathLike | Url):
        return None
    src = src.path() if isinstance(src, Url) else src
    try:
        path = os.path.abspath(os.fsdecode(src))  # noqa: PTH100  Path would have to be a file's name already
        status = os.stat(path)  # noqa: PTH116
    except (OSError, ValueError):  # opening it will say what is wrong
        return None
    return path, status.st_size, status.st_mtime_ns, limits


def cached(key: Any) -> VideoIndex | None:
    """The index of a file; Distrust where its table is not to be believed, as scanning or decoding has shown."""
    with _lock:
        if (found := _kept.get(key)) is not None:
            _kept.move_to_end(key)
    if isinstance(found, Distrust):
        raise Distrust(str(found))
    return found


def keep(key: Any, index: VideoIndex) -> VideoIndex:
    _remember(key, index)
    return index


def _remember(key: Any, found: VideoIndex | Distrust) -> None:
    if key is not None:
        with _lock:
            _kept[key] = found
            _kept.move_to_end(key)
            while len(_kept) > KEPT_FILES or (len(_kept) > 1 and sum(map(_size, _kept.values())) > KEPT_FRAMES):
                _kept.popitem(last=False)


def refute(key: Any, index: VideoIndex, distrust: Distrust) -> None:
    """If this is the index that is kept: the next one is made by decoding.

    Not so for damage, or what can be read would depend on what was read before.
    """
    with _lock:
        if _kept.get(key) is index and not isinstance(distrust, Damaged):
            _kept[key] = Distrust(str(distrust))  # a copy, as a traceback would keep the file open


def _size(kept: VideoIndex | Distrust) -> int:
    return 0 if isinstance(kept, Distrust) else kept.n_frames
