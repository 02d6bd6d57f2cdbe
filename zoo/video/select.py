"""Some frames of a file by number: through the container's table where it can be believed, else in order.

The fast path decodes the groups of pictures that are needed. At the first thing it cannot vouch for, everything is
read again in order, which is the truth that the fast path has to equal.
"""

from __future__ import annotations

import os
import sys
import time
import zlib
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import current_process
from typing import Any

from zoo.errors import VideoDecodeError, VideoError
from zoo.video.decode import Decode
from zoo.video.index import VideoIndex, cache_key, cached, index_of, refute, trusted_index
from zoo.video.lanes import in_lanes
from zoo.video.picture import Converter, Frame, Resize, Shape, Size, is_whole, upright_shape
from zoo.video.seek import Group, SeekingDecode, plan
from zoo.video.source import Limits, OpenVideo, name_of, open_video
from zoo.video.table import Distrust, PacketTable

# Reading the packets of a whole file does not pay for its first frames.
FIRST_FRAMES = 32
# Pixels to decode from which a second thread pays for its start: ten frames of 1920x1080.
THREADS_PAY = 20_000_000
# Frames that wait for their turn, of one group.
LANE_BYTES = 16 << 20


def select_frames(
    src: Any,
    wanted: Sequence[int],
    *,
    index: VideoIndex | None = None,
    size: Size = None,
    interpolation: str = "bilinear",
    antialias: bool = True,
    threads: int | None = None,
    isolate: bool = False,
    limits: Limits = Limits(),  # noqa: B008  frozen
) -> Generator[Frame]:
    """The frames with these numbers, sorted and different, as they arrive, in that order; only few are in memory.

    Raises as `read_frames` does, when the damage or the end of the video is reached.
    """
    resize = Resize(size, interpolation, antialias)
    return _without_repeats(selection_of(isolate, src, wanted, resize, index=index, threads=threads, limits=limits))


def selection_of(isolate: bool, src: Any, wanted: Sequence[int], resize: Resize, **options: Any) -> Selection:
    """A Selection that decodes here, or in a child process."""
    threads, index = options.get("threads"), options.get("index")
    if threads is not None and not is_whole(threads):
        raise VideoError(f"threads={threads!r}", hint="threads is a whole number from 1 on, or None")
    if index is not None and not isinstance(index, VideoIndex):
        raise VideoError(f"index={index!r:.80}", hint="pass what zoo.video.probe gave, or leave it out")
    if not isolate:
        return Selection(src, wanted, resize, **options)
    from zoo.video.isolate import IsolatedSelection

    return IsolatedSelection(src, wanted, resize, **options)  # type: ignore[return-value]  # has the same face


def _without_repeats(selection: Selection) -> Generator[Frame]:
    given: dict[int, int] = {}
    name = name_of(selection.src)
    for frame in selection:
        if selection.path == "fast":
            given[frame.index] = zlib.crc32(frame.data.data)
            yield frame
        elif frame.index not in given:
            yield frame
        elif given[frame.index] != zlib.crc32(frame.data.data):
            raise VideoDecodeError(
                f"{name}: {selection.why}, and frame {frame.index} was already given by its wrong table",
                hint="zoo.video.read_frames(...) reads it right",
                source=name,
                reason=selection.why or "",
            )


class Selection:
    """Iterate to get the wanted frames, sorted. After a fast path that failed, all of them come once more, in order.

    Then `path`, `why` it is not "fast", `errors`, and the counts of what the decoder took and gave say how it went.
    """

    def __init__(
        self,
        src: Any,
        wanted: Sequence[int],
        resize: Resize,
        *,
        index: VideoIndex | None = None,
        threads: int | None = None,
        strict: bool = True,
        limits: Limits,
        started: float | None = None,
        sequential: bool = False,
    ) -> None:
        self.src, self.wanted, self.resize, self.limits = src, list(wanted), resize, limits
        self.index, self.threads, self.strict, self.sequential = index, threads, strict, sequential
        self.started = time.monotonic() if started is None else started
        self.shape: Shape | None = None  # of every frame that comes, known when the first one does
        self.path: str = "fast"
        self.why: str | None = None
        self.errors: tuple[str, ...] = ()
        self.n_errors = 0
        self._decodes: list[Decode | SeekingDecode] = []

    def __iter__(self) -> Iterator[Frame]:
        try:
            index, table = self._trusted()
            self._check_range(index.n_frames)
            try:
                yield from self._by_table(index, table)
            except Distrust as distrust:
                refute(cache_key(self.src, self.limits), index, distrust)
                self.index = None
                raise
        except Distrust as distrust:
            self.path, self.why = "sequential", str(distrust)
            yield from self._in_order()

    def _trusted(self) -> tuple[VideoIndex, PacketTable]:
        if self.sequential or not self.strict:
            # Skipping counts the frames that can be decoded, and only decoding tells which.
            raise Distrust("asked for" if self.sequential else "damage is to be skipped")
        key = cache_key(self.src, self.limits)
        index = self.index or cached(key)
        if index is None:
            if not self.wanted or 0 <= self.wanted[0] <= self.wanted[-1] < FIRST_FRAMES:
                raise Distrust("only the first frames are wanted")
            index = trusted_index(self.src, self.limits, key, self.started)
        if index._table is None:
            raise Distrust(index.why or "the index has no table")
        return index, index._table

    # --- the fast path ------------------------------------------------------------------------------------------------

    def _by_table(self, index: VideoIndex, table: PacketTable) -> Iterator[Frame]:
        self.shape = target = self.resize.target(index.height, index.width)
        groups = plan(table, self.wanted)
        rows = sum(group.rows for group in groups)
        threads = allowed_threads(self.threads)
        if rows * index.width * index.height < THREADS_PAY:
            threads = 1
        # A file object has one position: only one reader can use it.
        lanes = 1 if hasattr(self.src, "read") else min(threads, len(groups))
        if lanes > 1 and max(group.rows for group in groups) > 1.5 * rows / threads:
            lanes = 1  # one group would keep the others waiting: better its frames in parallel

        @contextmanager
        def reader() -> Iterator[Callable[[Group], Iterator[Frame]]]:
            with open_video(self.src, self.limits, threads=threads if lanes == 1 else 1, started=self.started) as video:
                decode, convert = SeekingDecode(video, table), Converter()
                self._decodes.append(decode)

                def read(group: Group) -> Iterator[Frame]:
                    for k, frame in decode.frames(group):
                        yield Frame(self.resize.apply(convert(frame), target, k, video.name), k, index.time_s[k])

                yield read

        capacity = max(2, LANE_BYTES // (3 * target[0] * target[1]))
        yield from in_lanes(groups, reader, lanes, capacity)

    # --- the truth ----------------------------------------------------------------------------------------------------

    def _in_order(self) -> Iterator[Frame]:
        if self.wanted and (self.index or self.wanted[0] < 0):
            self._check_range((self.index or index_of(self.src, False, self.limits, self.started)).n_frames)
        with open_video(self.src, self.limits, started=self.started) as video:
            self._decodes = [decode := Decode(video)]
            stream, convert = iter(decode), Converter()
            remaining = iter(self.wanted)
            target = next(remaining, None)
            for decoded in stream:
                if self.strict and decode.damage:
                    break
                if decode.n_frames == 1:
                    self.shape = self.resize.target(*upright_shape(decoded.frame))
                assert self.shape is not None
                if decoded.index == target:
                    picture = self.resize.apply(convert(decoded.frame), self.shape, decoded.index, video.name)
                    yield Frame(picture, decoded.index, decoded.time_s)
                    target = next(remaining, None)
                if target is None:
                    break
            if not decode.n_frames or (self.strict and decode.damage):
                raise decode.failure(stream)
            self.errors, self.n_errors = tuple(map(str, decode.damage)), decode.n_damaged
            if target is not None:
                raise _out_of_range(self.wanted, decode.n_frames, video)

    @property
    def n_packets(self) -> int:
        """How many packets the decoder was given."""
        return sum(decode.n_packets for decode in self._decodes)

    @property
    def n_decoded(self) -> int:
        return sum(decode.n_frames for decode in self._decodes)

    def _check_range(self, n_frames: int) -> None:
        if self.wanted and not 0 <= self.wanted[0] <= self.wanted[-1] < n_frames:
            with open_video(self.src, self.limits, started=self.started) as video:
                raise _out_of_range(self.wanted, n_frames, video)


def allowed_threads(threads: int | None) -> int:
    """None is one thread where others work beside this process or may not be started, else up to four."""
    if threads is not None:
        return threads
    data = sys.modules.get("torch.utils.data")  # nobody is a worker who has not imported it
    if current_process().daemon or (data is not None and data.get_worker_info() is not None):
        return 1
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(4, cpus)


def _out_of_range(wanted: Sequence[int], n_frames: int, video: OpenVideo) -> VideoError:
    wrong = sorted({k for k in wanted if not 0 <= k < n_frames})
    which = ", ".join(map(str, wrong[:5])) + (", ..." if len(wrong) > 5 else "")
    said = f" (its header says {video.stream.frames})" if video.stream.frames > n_frames else ""
    return VideoError(
        f"{video.name} has {n_frames} frames{said}, there is no frame {which}",
        hint=f"indices go from 0 to {n_frames - 1}",
        source=video.name,
        reason="index out of range",
    )
