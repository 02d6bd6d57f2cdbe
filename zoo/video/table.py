"""What the packets of a container say without being decoded, and whether it can be believed.

Rows are packets in decoding order. Frames are the rows that are shown, in the order of their times.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import av
import numpy as np

from zoo.video.bitstream import HIDES, oddity
from zoo.video.decode import Clock, Decode, Integers
from zoo.video.source import OpenVideo

# Containers whose packets carry the time at which a frame is shown.
TRUSTED = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm")

PARTS = "an edit list joins several parts"


class Distrust(Exception):
    """Why the container's own table cannot be believed."""


class Damaged(Distrust):
    """It may be right, but what it leads to cannot be decoded."""


@dataclass(frozen=True, eq=False)
class PacketTable:
    """pts: of each row. shown: the row of each frame.

    keys, key_pts: rows where decoding can start, and their times, which increase together.
    """

    pts: Integers
    shown: Integers
    keys: Integers
    key_pts: Integers

    def start(self, row: int) -> int:
        """The last keyframe that is shown no later than this row.

        For the leading pictures of an open group that is the group before the one they are stored in.
        """
        return int(self.keys[max(bisect_right(self.key_pts, self.pts[row]) - 1, 0)])

    def key_at(self, pts: int | None) -> int | None:
        """The row of the keyframe with this time."""
        if pts is None or (at := bisect_left(self.key_pts, pts)) == len(self.keys) or self.key_pts[at] != pts:
            return None
        return int(self.keys[at])


@dataclass
class Scan:
    """One pass over the packets. `times` and `keyframe` have one entry per frame."""

    table: PacketTable
    first: av.VideoFrame
    clock: Clock
    times: list[float]
    keyframe: list[bool]


def scan(video: OpenVideo) -> Scan:
    """The table, or Distrust. Decodes no more than the first frame, whose size and rotation are those that count."""
    if video.container.format.name not in TRUSTED:
        raise Distrust(f"container {video.container.format.name}")
    decode, context = Decode(video), video.stream.codec_context
    hides = HIDES.get(context.name)
    first: av.VideoFrame | None = None
    before: av.Packet[av.VideoStream] | None = None
    pts: list[int | None] = []
    shown: list[int] = []
    cut: list[int | None] = []  # times of the rows that an edit list cuts away: decoded, never shown
    keys: list[int] = []
    places: list[int] = []  # of the keys, in the file
    durations: list[int | None] = []  # of each row
    as_decoded = True
    for packet in decode.packets():
        if decode.n_packets == 1 and packet is not None and not packet.is_keyframe:
            raise Distrust("no leading keyframe")
        if first is None:
            first = _first_frame(context, packet, decode.n_packets - 1)
        if packet is None:
            break
        if packet.is_corrupt:
            raise Distrust("corrupt packet")
        row, time, cut_away = len(pts), packet.pts, packet.is_discard
        pts.append(time)
        durations.append(packet.duration)
        if visible := not cut_away and (hides is None or not hides(packet)):
            shown.append(row)
            as_decoded = as_decoded and time == packet.dts
        elif cut_away:
            cut.append(time)
        if packet.is_keyframe:
            if why := oddity(context, before, packet):
                raise Distrust(why)
            if packet.pos is not None:
                places.append(packet.pos)
            if visible or not row:
                keys.append(row)
        before = packet
    if decode.damage:
        raise Distrust(str(decode.damage[0]))
    if first is None or first.is_corrupt or not shown:
        raise Distrust("the first frame cannot be decoded")
    if any(a >= b for a, b in pairwise(places)):
        raise Distrust(PARTS)
    table = _believed(pts, shown, cut, keys, depth=context.reorder_depth, as_decoded=as_decoded)
    clock = Clock(video.stream, video.container.format.name)
    times = clock.ticks(table.pts[table.shown], [durations[row] for row in table.shown.tolist()])
    is_key = np.zeros(len(pts), bool)
    is_key[table.keys] = True
    return Scan(table, first, clock, times, is_key[table.shown].tolist())


def _first_frame(
    context: av.VideoCodecContext, packet: av.Packet[av.VideoStream] | None, row: int
) -> av.VideoFrame | None:
    try:
        frames = context.decode(packet)
        if not frames and packet is not None and not packet.is_discard:
            frames = context.decode(None)  # it is a keyframe: what the decoder waits for would not change it
    except av.FFmpegError as error:
        raise Distrust(f"packet {row} cannot be decoded") from error
    return next(iter(frames), None)


def _believed(
    pts: Sequence[Any], shown: list[int], cut: list[Any], keys: list[int], *, depth: int, as_decoded: bool
) -> PacketTable:
    """depth: how many frames the decoder holds back to reorder them. as_decoded: times are in the order of packets."""
    if None in pts:
        raise Distrust("a packet without a time")
    stamps = [pts[row] for row in shown]
    first, last = min(stamps), max(stamps)
    if len(set(stamps)) != len(stamps):
        raise Distrust("two packets with one time")
    if depth and as_decoded and len(shown) > 1:
        raise Distrust("frames are reordered, but their times are not")
    if any(first < time < last for time in cut):
        raise Distrust(PARTS)
    key_pts = [pts[row] for row in keys]
    if any(a >= b for a, b in pairwise(key_pts)):
        raise Distrust("keyframes out of order")
    if first < key_pts[0]:  # left over from a group that was cut away; some decoders drop them, some do not
        raise Distrust("frames are shown before the first keyframe")
    order = np.argsort(np.array(stamps, np.int64), kind="stable")
    if (order - np.arange(len(order))).max() > depth:
        raise Distrust("times are reordered further than the frames")
    return PacketTable(
        pts=np.array(pts, np.int64),
        shown=np.array(shown, np.int64)[order],
        keys=np.array(keys, np.int64),
        key_pts=np.array(key_pts, np.int64),
    )
