"""The truth: frame k is the k-th frame, in decoder output order, of a clean single-threaded decode.

Damage does not end the decode: a packet that cannot be decoded is noted, and the next one is tried.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import av.stream
import numpy as np
import numpy.typing as npt

from zoo.errors import VideoDecodeError
from zoo.video.source import CONVERT, OpenVideo

# Containers that only know the order of decoding: presentation times are made up, and wrong when there are B-frames.
DECODE_ORDER = ("avi",)
MOST_NOTED = 1000  # places of damage that are described; a broadcast without end has ever more

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Damage:
    """One packet that could not be decoded, or a frame that was built on damage."""

    packet: int
    time_s: float
    reason: str

    def __str__(self) -> str:
        return f"packet {self.packet}, near {self.time_s:.2f} s ({self.reason})"


class Clock:
    """Seconds from the first frame, for each frame in turn; never backwards.

    Depends only on the frames so far, so that a partial and a complete decode agree.
    """

    def __init__(self, stream: av.VideoStream, container: str) -> None:
        unit = Fraction(stream.time_base or Fraction(1, 1000))
        # `or`, since av 19 gives a zero where av 18 gives None
        period = 1 / Fraction(stream.guessed_rate or stream.average_rate or 25)
        # Whole numbers of a part of a second that both divide: exact, and much faster than fractions.
        self.parts = math.lcm(unit.denominator, period.denominator)
        self.unit, self.period = int(unit * self.parts), int(period * self.parts)
        self.by_dts = container in DECODE_ORDER
        self.count = self.last = 0
        self.start: int | None = None
        self.step = self.period
        self.shown_for: int | None = None  # what the latest frame says of itself

    def frame(self, frame: av.VideoFrame) -> float:
        return self.tick(frame.dts if self.by_dts else frame.pts, frame.duration)

    def tick(self, stamp: int | None, duration: int | None) -> float:
        """The time of the next frame, whose stamp is this many units of the stream."""
        expected = self.last + self.step if self.count else 0
        now = expected
        if stamp is not None:
            if self.start is None:
                self.start = stamp - round(expected / self.unit)
            now = self._even((stamp - self.start) * self.unit, self.count)
            if self.count and now <= self.last:
                now = expected
        self.shown_for = self._even(duration * self.unit, 1) if duration else None
        self.step = self.shown_for or self.step
        self.last, self.count = now, self.count + 1
        return now / self.parts

    def ticks(self, stamps: Integers, durations: Sequence[int | None]) -> list[float]:
        """`tick` for every frame of a video: at once where all stamps are there and each is later than the last."""
        n, span = len(stamps), int(stamps[-1]) - int(stamps[0])
        if n > 1 and max(span * self.unit, n * self.period) < 2**53:  # seconds stay the same as those of `tick`
            now, even = (stamps - stamps[0]) * self.unit, np.arange(n) * self.period
            if self.unit < self.period / 4:
                now = np.where(np.abs(now - even) <= self.unit, even, now)
            if (np.diff(now) > 0).all():
                self.start, self.last, self.count = int(stamps[0]), int(now[-2]), n - 1
                return [*(now[:-1] / self.parts).tolist(), self.tick(int(stamps[-1]), durations[-1])]
        return [self.tick(*pair) for pair in zip(stamps.tolist(), durations, strict=True)]

    def seconds_after(self) -> float:
        """When the latest frame is gone: it is shown as long as it says, else as long as the others on average."""
        mean = self.last / (self.count - 1) if self.count > 1 else self.period
        return (self.last + (self.shown_for or mean)) / self.parts

    def _even(self, parts: int, frames: int) -> int:
        """Matroska rounds to milliseconds: within one fine unit of an even rate, the even rate is meant."""
        even = frames * self.period
        return even if abs(parts - even) <= self.unit < self.period / 4 else parts


@dataclass(frozen=True)
class Decoded:
    """A frame as the decoder gives it: k-th in output order, its time, not yet converted."""

    index: int
    time_s: float
    frame: av.VideoFrame


class Decode:
    """One pass over a video. Iterate to get frames; `n_packets` and `n_frames` tell how far it came.

    damage: the first `MOST_NOTED` places where there was some; n_damaged: how many there were.
    """

    def __init__(
        self,
        video: OpenVideo,
        *,
        beside: Sequence[av.stream.Stream] = (),
        take: Callable[[av.Packet[Any]], None] | None = None,
    ) -> None:
        """beside, take: other streams of the file, and what gets their packets as they come."""
        self.video, self.beside, self.take = video, beside, take
        self.clock = Clock(video.stream, video.container.format.name)
        self.damage: list[Damage] = []
        self.n_packets = self.n_frames = self.n_damaged = 0
        self.encrypted = False

    def __iter__(self) -> Iterator[Decoded]:
        for packet in self.packets():
            try:
                frames = self.video.stream.codec_context.decode(packet)
            except av.ExitError:
                raise
            except av.FFmpegError as error:
                self.encrypted |= packet is not None and packet.has_sidedata("encryption_info")
                context = self.video.stream.codec_context  # may have been refused for its size
                self.video.guard.check_frame(context.width, context.height)
                self._note(error.strerror or str(error))
                continue
            if packet is not None and packet.is_corrupt:
                self._note("the container marks it as corrupt")
            for frame in frames:
                self.video.guard.check_frame(frame.width, frame.height)
                decoded = Decoded(self.n_frames, self.clock.frame(frame), frame)
                self.n_frames += 1
                if frame.is_corrupt:
                    self._note(f"frame {decoded.index} is corrupt")
                yield decoded

    def packets(self) -> Iterator[av.Packet[av.VideoStream] | None]:
        """Every packet that holds something, then None, which makes the decoder give what it still holds."""
        packets: Iterator[Any] = self.video.container.demux(self.video.stream, *self.beside)
        spend = self.video.guard.spend
        while True:
            try:
                packet = next(packets, None)
            except av.ExitError:
                raise
            except av.FFmpegError as error:
                self._note(f"it cannot be read: {error.strerror or error}")
                break
            if packet is None:
                break
            if not (size := packet.size):  # the end, or a dropped frame; given to the decoder it would mean the end
                continue
            if self.take and packet.stream is not self.video.stream:
                self.take(packet)
                continue
            self.n_packets += 1
            spend(max(self.n_packets, self.n_frames), size)
            yield packet
        yield None

    def _note(self, reason: str) -> None:
        self.n_damaged += 1
        if len(self.damage) < MOST_NOTED:
            self.damage.append(Damage(max(self.n_packets - 1, 0), self.clock.last / self.clock.parts, reason))

    def failure(self, rest: Iterator[Decoded]) -> VideoDecodeError:
        """The error that describes the damage met. Decodes the `rest` first, to know how much can be recovered."""
        deque(rest, maxlen=0)
        name = self.video.name
        if not self.n_frames:
            if self.encrypted:
                reason, hint = "the video is encrypted", "give a decrypted copy"
            elif not self.n_packets:
                reason, hint = "it holds no video data, or is cut short", "download or copy it again"
            else:
                first = f"; the first trouble is at {self.damage[0]}" if self.damage else ""
                reason, hint = f"none of its {self.n_packets} packets can be decoded{first}", CONVERT
        else:
            others = self.n_damaged - 1
            more = f" and {others} other place{'s' * (others > 1)}" if others else ""
            reason = f"damaged at {self.damage[0]}{more}; {self.n_frames} frames can be recovered"
            hint = "zoo.video.read_frames(..., on_error='skip') reads those"
        return VideoDecodeError(f"{name}: {reason}", hint=hint, source=name, reason=reason)
