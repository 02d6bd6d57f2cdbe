"""What is in a video: how many frames, when each is shown, how large they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import av

from zoo.video.decode import TRUSTED, Clock, Decode, Decoded
from zoo.video.source import Limits, OpenVideo, open_video


@dataclass(frozen=True)
class VideoIndex:
    """Plain numbers about one video; can be pickled and cached by (path, size, mtime_ns).

    time_s: when each frame is shown, in seconds from the first one, never decreasing.
    width, height: as shown, after rotation. rotation: degrees counter-clockwise that were still to be applied.
    keyframe: for each frame, whether decoding can start there.
    duration_s: until the last frame is gone. fps_mean: frames per second over that time.
    trusted: the container's own table was used; otherwise every frame was decoded to count them, and `why` says why.
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


class _Distrust(Exception):
    """Why the container's table cannot be believed."""


def probe(src: Any, *, exact: bool = False, limits: Limits = Limits()) -> VideoIndex:  # noqa: B008  frozen
    """What is in a video. Reads the packets of mp4, mov, mkv and webm; decodes any other container.

    Damage inside a packet shows only when it is decoded: then the table says more frames than there are good ones.
    exact=True decodes every container, and counts what `read_frames(..., on_error="skip")` can give.
    """
    with open_video(src, limits) as video:
        try:
            if exact:
                raise _Distrust("asked for")
            return _from_packets(video)
        except _Distrust as distrust:
            why = str(distrust)
    with open_video(src, limits) as video:
        return _from_frames(video, why)


def _from_packets(video: OpenVideo) -> VideoIndex:
    if video.container.format.name not in TRUSTED:
        raise _Distrust(f"container {video.container.format.name}")
    clock = Clock(video.stream, video.container.format.name)
    decode = Decode(video)
    shown: list[tuple[int, int | None, bool]] = []
    first: av.VideoFrame | None = None
    for packet in decode.packets():
        if first is None:  # the size and the rotation are those of a frame, not of the header
            try:
                first = next(iter(video.stream.codec_context.decode(packet)), None)
            except av.FFmpegError as error:
                raise _Distrust(f"packet {decode.n_packets - 1} cannot be decoded") from error
        if packet is None:
            break
        if packet.is_corrupt:
            raise _Distrust("corrupt packet")
        if decode.n_packets == 1 and not packet.is_keyframe:
            raise _Distrust("no leading keyframe")
        if packet.is_discard:  # cut away by an edit list: decoded, never shown
            continue
        if packet.pts is None:
            raise _Distrust("a packet without a time")
        shown.append((packet.pts, packet.duration, packet.is_keyframe))
    if decode.damage:
        raise _Distrust(str(decode.damage[0]))
    if first is None or first.is_corrupt or not shown:
        raise _Distrust("the first frame cannot be decoded")
    keys = [pts for pts, _, key in shown if key]
    shown.sort(key=lambda row: row[0])
    if keys != sorted(keys) or len({pts for pts, _, _ in shown}) != len(shown):
        raise _Distrust("times out of order or repeated")
    times = [clock.tick(pts, duration) for pts, duration, _ in shown]
    return _index(video, first, times, [key for _, _, key in shown], clock, None)


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
        why = f"{why}; {len(decode.damage)} errors, the first at {decode.damage[0]}"
    return _index(video, first.frame, times, keys, decode.clock, why)


def _index(
    video: OpenVideo, frame: av.VideoFrame, times: list[float], keys: list[bool], clock: Clock, why: str | None
) -> VideoIndex:
    duration = clock.seconds_after()
    turns = quarter_turns(frame)
    size = (frame.height, frame.width) if turns % 2 else (frame.width, frame.height)
    return VideoIndex(
        n_frames=len(times),
        time_s=tuple(times),
        width=size[0],
        height=size[1],
        rotation=turns * 90,
        keyframe=tuple(keys),
        fps_mean=len(times) / duration,
        duration_s=duration,
        codec=video.stream.codec_context.name,
        container=video.container.format.name,
        trusted=why is None,
        why=why,
    )


def quarter_turns(frame: av.VideoFrame) -> int:
    """How often a frame has to be turned counter-clockwise to be upright; 0 for a broken display matrix."""
    return round(frame.rotation / 90) % 4 if abs(frame.rotation) <= 360 else 0
