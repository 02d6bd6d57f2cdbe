"""The fast path: decode only the groups of pictures that hold wanted frames, and vouch for each frame, or Distrust.

Every packet is compared with the table, every group has to start with the keyframe it was entered by, and frames have
to come in the order of their times. Whatever is unexpected ends the fast path; it never guesses.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import av
import numpy as np

from zoo.video.source import OpenVideo
from zoo.video.table import Damaged, Distrust, PacketTable

# Decoders that may leave out frames which no other frame needs. libdav1d loses wanted ones; others are not proven.
SKIPPING = ("h264",)


@dataclass(frozen=True)
class Group:
    """One run of the decoder: from the row `key` to the row `last`, for the frames `wanted`, {pts: number}."""

    key: int
    last: int
    wanted: dict[int, int]

    @property
    def rows(self) -> int:
        return self.last - self.key + 1


def plan(table: PacketTable, wanted: Sequence[int]) -> list[Group]:
    """The runs that give these frames, sorted and different, in the same order."""
    groups: dict[int, Group] = {}
    for k in wanted:
        row = int(table.shown[k])
        key = table.start(row)
        if key > row:
            raise Distrust(f"frame {k} is stored before the keyframe that it follows")
        before = groups.get(key, Group(key, row, {}))
        groups[key] = Group(key, max(before.last, row), before.wanted | {int(table.pts[row]): k})
    return list(groups.values())


class SeekingDecode:
    """Groups of one open video, one after the other. `n_packets` were given to the decoder, `n_frames` came out."""

    def __init__(self, video: OpenVideo, table: PacketTable) -> None:
        self.video, self.table = video, table
        self.skips = video.stream.codec_context.name in SKIPPING
        self.times = table.pts[table.shown]
        self.n_packets = self.n_frames = 0
        self.packets: Iterator[av.Packet[av.VideoStream]] = self._demux()
        self.row = 0  # of the next packet

    def frames(self, group: Group) -> Iterator[tuple[int, av.VideoFrame]]:
        """(number, frame) for the wanted frames of this group."""
        context = self.video.stream.codec_context
        pending = dict(group.wanted)
        due = self._due(group)
        started = False
        for packet in self._packets(group):
            if self.skips and packet is not None:
                context.skip_frame = "DEFAULT" if packet.pts in group.wanted else "NONREF"
            for frame in self._decode(packet):
                if not started:
                    self._check_start(group, frame)
                    started = True
                pts = frame.pts
                # Looking for a time that is due uses up those before it.
                if pts is None or (pts not in due if self.skips else pts != next(due, None)):
                    raise Distrust("frames do not come in the order of their times")
                if (k := pending.pop(pts, None)) is not None:
                    yield k, frame
                    if not pending:
                        return context.flush_buffers()
        raise Distrust(f"frame {min(pending.values())} did not come out of the decoder")

    def _due(self, group: Group) -> Iterator[int]:
        """The times of the frames that come of this group's packets, up to its last wanted one."""
        pts, shown = self.table.pts, self.table.shown
        first = np.searchsorted(self.times, pts[group.key])
        rows = shown[first : max(group.wanted.values()) + 1]
        return iter(pts[rows[rows <= group.last]].tolist())

    def _decode(self, packet: av.Packet[av.VideoStream] | None) -> Iterator[av.VideoFrame]:
        try:
            frames = self.video.stream.codec_context.decode(packet)
        except av.ExitError:
            raise
        except av.FFmpegError as error:
            raise Damaged(f"a packet cannot be decoded ({error.strerror or error})") from error
        self.n_packets += packet is not None
        for frame in frames:
            self.n_frames += 1
            self.video.guard.check_frame(frame.width, frame.height)
            if frame.is_corrupt:
                raise Damaged("corrupt frame")
            yield frame

    def _check_start(self, group: Group, frame: av.VideoFrame) -> None:
        # At the start of the file an edit list may hide the keyframe itself.
        if group.key and (frame.pts != self.table.pts[group.key] or not frame.key_frame):
            raise Distrust(f"decoding does not start at the keyframe in packet {group.key}")

    def _packets(self, group: Group) -> Iterator[av.Packet[av.VideoStream] | None]:
        """What the decoder needs for this group, then None, which makes it give what it still holds."""
        if group.key != self.row:
            self._seek(group.key)
        start = self.table.pts[group.key]
        while self.row <= group.last:
            packet, row = next(self.packets, None), self.row
            if packet is None or packet.pts != self.table.pts[row]:
                raise Distrust(f"packet {row} is not the one of the table")
            self.video.guard.check_time()
            self.row += 1
            # Frames shown before the keyframe belong to the group before, and cannot be decoded from here.
            if row == group.key or (row > group.key and (self.table.pts[row] > start or not group.key)):
                yield packet
        yield None

    def _seek(self, key: int) -> None:
        try:
            self.video.container.seek(int(self.table.pts[key]), stream=self.video.stream, backward=True)
        except av.ExitError:
            raise
        except av.FFmpegError as error:
            raise Distrust(f"it cannot be searched ({error.strerror or error})") from error
        self.packets = self._demux()
        first = next(self.packets, None)
        row = self.table.key_at(first.pts) if first is not None and first.is_keyframe else None
        if first is None or row is None or row > key:
            raise Distrust("a seek did not land on the keyframe or before it")
        self.row, self.packets = row, chain([first], self.packets)

    def _demux(self) -> Iterator[av.Packet[av.VideoStream]]:
        try:
            yield from (packet for packet in self.video.container.demux(self.video.stream) if packet.size)
        except av.ExitError:
            raise
        except av.FFmpegError as error:
            raise Damaged(f"a packet cannot be read ({error.strerror or error})") from error
