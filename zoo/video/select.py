"""Some frames of a file, one after the other, in one pass."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

from zoo.video.decode import Decode
from zoo.video.frames import Frame, Size, _Emit, _out_of_range
from zoo.video.source import Limits, open_video


def select_frames(
    src: Any,
    wanted: Sequence[int],
    *,
    size: Size = None,
    interpolation: str = "bilinear",
    antialias: bool = True,
    limits: Limits = Limits(),  # noqa: B008  frozen
) -> Generator[Frame]:
    """The frames with these numbers, sorted and different, as they arrive; one at a time is in memory.

    Raises as `read_frames` does, when the damage or the end of the video is reached.
    """
    emit = _Emit(size, interpolation, antialias)
    remaining = iter(wanted)
    target = next(remaining, None)
    with open_video(src, limits) as video:
        decode = Decode(video)
        stream = iter(decode)
        while target is not None:
            decoded = next(stream, None)
            if decode.damage or (decoded is None and not decode.n_frames):
                raise decode.failure(stream)
            if decoded is None:
                raise _out_of_range(list(wanted), decode.n_frames, video)
            emit.shape(decoded.frame)
            if decoded.index == target:
                yield Frame(emit(decoded, video), decoded.index, decoded.time_s)
                target = next(remaining, None)
