"""The same video with other pictures: each frame at its own time, the sound packet by packet as it was.

One frame is in memory, beside those that the decoder and the encoder hold back.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import av
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter

from zoo.errors import VideoError
from zoo.video.decode import DECODE_ORDER, Decode, Decoded
from zoo.video.picture import Converter, Picture
from zoo.video.source import Limits, OpenVideo, open_video, translated
from zoo.video.write import CODECS, destination, pix_fmt_of

Draw = Callable[[Picture, float], None]  # changes the picture, uint8 [H, W, 3], in place; the time is in seconds
QUALITY = {
    "libx264": {"preset": "veryfast", "crf": "18"},
    "libvpx-vp9": {"crf": "28", "b": "0", "deadline": "realtime", "cpu-used": "6"},
}


def redraw_video(src: Any, dst: Any, draw: Draw, *, limits: Limits = Limits()) -> int:  # noqa: B008  frozen
    """Write `src` to `dst` with every frame changed by `draw`; gives the number of frames.

    src: as for `read_frames`. dst, and its encoder: as for `write_video`; a container that cannot hold the sound as it
    is raises VideoError. Frames are upright, in 8 bits. Frames and sound keep their times, up to what the container can
    express (mkv: a thousandth of a second); .mp4 and .mov keep those of mp4, mov and mkv exactly. Damaged packets are
    passed over, as by on_error="skip". Subtitles and other streams are left out.
    """
    with destination(dst) as (name, target, suffix), open_video(src, limits) as video:
        kind = suffix or "mp4"
        if kind == "gif":
            raise VideoError(f"{name}: a gif holds neither sound nor these times", hint="write an .mp4", source=name)
        with translated(name, writing=True), av.open(target, "w", format=None if suffix else kind) as container:
            return _Redraw(video, container, CODECS.get(kind, "libx264"), name).run(draw)


class _Redraw:
    def __init__(self, video: OpenVideo, container: av.container.OutputContainer, codec: str, name: str) -> None:
        self.video, self.container, self.codec, self.name = video, container, codec, name
        self.unit = Fraction(video.stream.time_base or Fraction(1, 90_000))
        self.by_clock = video.container.format.name in DECODE_ORDER
        self.first = self.last = 0
        self.stream: av.VideoStream | None = None
        self.early: list[av.Packet[Any]] = []  # sound before the first frame
        self.sound = {stream.index: self._copied(stream) for stream in video.container.streams.audio}

    def _copied(self, stream: av.AudioStream) -> av.AudioStream:
        stream.discard = av.stream.Discard.default
        try:
            return self.container.add_stream_from_template(stream)
        except (av.FFmpegError, ValueError) as error:
            codec = stream.codec_context.name if stream.codec_context else "unknown"
            raise VideoError(
                f"{self.name}: this container cannot hold the sound, {codec}, as it is",
                hint="write an .mkv, which takes nearly everything",
                source=self.name,
            ) from error

    def run(self, draw: Draw) -> int:
        decode = Decode(self.video, beside=self.video.container.streams.audio, take=self._sound)
        convert, back = Converter(), VideoReformatter()
        for decoded in decode:
            picture = convert(decoded.frame)
            if self.stream is None:
                self.stream = self._pictures(decoded.frame, picture)
            draw(picture, decoded.time_s)
            frame = self._frame(picture, decoded, back)
            self.container.mux(self.stream.encode(frame))
        if self.stream is None:
            raise decode.failure(iter(()))
        self.container.mux(self.stream.encode(None))
        return decode.n_frames

    def _sound(self, packet: av.Packet[Any]) -> None:
        if self.stream is None:
            self.early.append(packet)
        elif packet.dts is not None or packet.pts is not None:
            packet.stream = self.sound[packet.stream.index]
            self.container.mux_one(packet)

    def _pictures(self, frame: av.VideoFrame, picture: Picture) -> av.VideoStream:
        source = self.video.stream
        options = QUALITY.get(self.codec, {})
        stream = self.container.add_stream(self.codec, rate=source.guessed_rate or 25, options=options)
        assert isinstance(stream, av.VideoStream)
        height, width = picture.shape[:2]
        context = stream.codec_context
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt_of(self.codec, height, width)
        context.time_base = stream.time_base = self.unit
        context.color_range = ColorRange.MPEG
        context.colorspace, context.color_primaries = frame.colorspace, frame.color_primaries
        context.color_trc = frame.color_trc
        aspect = source.sample_aspect_ratio
        if aspect:
            turned = (frame.width, frame.height) != (width, height)
            context.sample_aspect_ratio = 1 / Fraction(aspect) if turned else Fraction(aspect)
        early, self.early, self.stream = self.early, [], stream
        for packet in early:
            self._sound(packet)
        return stream

    def _frame(self, picture: Picture, decoded: Decoded, back: VideoReformatter) -> av.VideoFrame:
        assert self.stream is not None
        rgb = av.VideoFrame.from_ndarray(picture, format="rgb24")
        space = decoded.frame.colorspace
        frame = back.reformat(
            rgb,
            format=self.stream.pix_fmt,
            dst_colorspace=space if space in KNOWN else None,
            dst_color_range=ColorRange.MPEG,
            threads=1,
        )
        stamp = decoded.frame.pts
        if decoded.index == 0:
            self.first = stamp or 0
            self.last = self.first - 1
        if self.by_clock or stamp is None or stamp <= self.last:
            stamp = max(self.first + round(Fraction(decoded.time_s) / self.unit), self.last + 1)
        self.last = stamp
        frame.pts, frame.time_base, frame.duration = stamp, self.unit, decoded.frame.duration
        return frame


KNOWN = frozenset(Colorspace) - {Colorspace.DEFAULT}
