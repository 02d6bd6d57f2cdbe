"""Streams whose packets are not their frames: read in order, never trusted, never a wrong frame."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from types import SimpleNamespace

import av
import numpy as np
import pytest
from video_clips import B_FRAMES, clip, decoded, encode, remux

import zoo
from zoo.errors import VideoError
from zoo.video import index, probe, read_frames
from zoo.video.bitstream import oddity


def boxes(data: bytes, path: list[bytes], at: int = 0) -> tuple[int, int]:
    """(offset, size) of an mp4 box."""
    while data[at + 4 : at + 8] != path[0]:
        at += int.from_bytes(data[at : at + 4])
    return boxes(data, path[1:], at + 8) if path[1:] else (at, int.from_bytes(data[at : at + 4]))


def edited(data: bytes, parts: list[tuple[int, int]]) -> bytes:
    """An mp4 that shows these parts of itself: (milliseconds, start in units of its track)."""
    body = b"".join(struct.pack(">IiI", *part, 1 << 16) for part in parts)
    elst = struct.pack(">I4sII", 16 + len(body), b"elst", 0, len(parts)) + body
    edts = struct.pack(">I4s", 8 + len(elst), b"edts") + elst
    at, size = boxes(data, [b"moov", b"trak", b"edts"])
    out = bytearray(data)
    out[at : at + size] = edts
    for path in ([b"moov"], [b"moov", b"trak"]):
        box, old = boxes(data, path)
        out[box : box + 4] = struct.pack(">I", old + len(edts) - size)
    return bytes(out)


def changed(name: str, format: str, change) -> bytes:
    """The same packets with other bytes: `change(k, bytes)`."""

    def replace(rows):
        for k, old in enumerate(rows):
            new = av.Packet(change(k, bytes(old)))
            new.pts, new.dts, new.duration, new.time_base = old.pts, old.dts, old.duration, old.time_base
            new.is_keyframe = old.is_keyframe
            yield new

    return remux(name, format, replace)


def joined(first: bytes, then: bytes) -> bytes:
    """The packets of both under the header of the first."""
    out = io.BytesIO()
    with (
        av.open(io.BytesIO(first)) as a,
        av.open(io.BytesIO(then)) as b,
        av.open(out, "w", format="matroska") as target,
    ):
        stream, end = target.add_stream_from_template(a.streams.video[0]), 0
        for source in (a, b):
            rows = [p for p in source.demux(video=0) if p.size]
            for k, p in enumerate(rows):
                p.pts, p.dts, p.stream = p.pts + end + 400, end + 40 * k, stream
                target.mux_one(p)
            end += 2000
    return out.getvalue()


def hidden(k: int, data: bytes) -> bytes:
    """Four of the VP8 frames that are not keyframes are decoded, but not shown."""
    return bytes([data[0] & ~0x10]) + data[1:] if k in (3, 4, 17, 25) else data


def hidden_vp9() -> bytes:
    """The second keyframe is decoded, but not shown. Changed in the file: the muxer would join it with the next one."""
    data = clip("vp9.webm")
    with av.open(io.BytesIO(data)) as container:
        key = [bytes(p) for p in container.demux(video=0) if p.is_keyframe][1]
    return data.replace(key, bytes([key[0] & ~0x02]) + key[1:])


def nal_units(data: bytes) -> Iterator[tuple[int, int]]:
    at = 0
    while at < len(data):
        yield at + 4, data[at + 4] >> 1 & 63
        at += 4 + int.from_bytes(data[at : at + 4])


def broken_link(k: int, data: bytes) -> bytes:
    """The third open group of an HEVC stream says that what came before it is lost."""
    out = bytearray(data)
    for at, kind in nal_units(data):
        if kind == 21 and k > 20:
            out[at] = out[at] & 0x81 | 16 << 1
    return bytes(out)


def end_of_sequence(k: int, data: bytes) -> bytes:
    ends = any(kind != 21 for _, kind in nal_units(data)) and 10 < k < 30
    return data + b"\0\0\0\2\x48\1" if ends else data


def two_depths() -> bytes:
    x264 = "keyint=12:scenecut=0:b-adapt=0:ref=4:bframes={}:b-pyramid={}"
    shallow, deep = (
        encode("matroska", 40, options={"x264-params": x264.format(*how)}) for how in ((7, "none"), (3, "normal"))
    )
    return joined(shallow, deep)


def backwards() -> bytes:
    """To the end of the file, then from its second keyframe on."""
    return edited(encode("mp4", 60, options={"g": "12", "bf": "0"}), [(2400, 0), (1920, 12 * 512)])


ODD = {
    "parts of B-frames": (lambda: edited(clip("b_frames.mp4"), [(500, 4096), (500, 9872)]), "several parts"),
    "parts of mpeg4": (lambda: edited(clip("mpeg4.mov"), [(505, 14007), (393, 15438)]), "several parts"),
    "parts of hevc": (lambda: edited(clip("hevc.mp4"), [(567, 14541), (574, 2000)]), "several parts"),
    "back to a keyframe": (backwards, "several parts"),
    "a broken link": (lambda: changed("hevc.mp4", "mp4", broken_link), "new sequence"),
    "an end of sequence": (lambda: changed("hevc.mp4", "mp4", end_of_sequence), "new sequence"),
    "interlaced": (
        lambda: encode("mp4", 40, size=(64, 96), options={**B_FRAMES, "flags": "+ildct+ilme"}),
        "interlaced",
    ),
    "reordered further later": (two_depths, "reordered further"),
}


@pytest.mark.parametrize("name", ODD)
def test_packets_that_are_not_frames_are_decoded_to_be_counted(name):
    make, why = ODD[name]
    data = make()
    known, truth = probe(data), decoded(data)
    assert not known.trusted and why in known.why
    assert known.n_frames == len(truth)
    wanted = range(0, len(truth), 3)
    frames = read_frames(data, wanted, index=known)
    assert all((a == truth[k]).all() for a, k in zip(frames.data, wanted, strict=True))


def test_interlaced_parameters_are_seen_in_the_first_packet_too():
    with av.open(io.BytesIO(ODD["interlaced"][0]())) as container:
        header = container.streams.video[0].codec_context.extradata
        key = bytes(next(container.demux(video=0)))
    size = int.from_bytes(header[6:8])
    context = SimpleNamespace(name="h264", extradata=header[:5] + b"\xe0\0")  # holds no parameters itself
    assert oddity(context, None, key) is None
    assert oddity(context, None, size.to_bytes(4) + header[8 : 8 + size] + key) == "interlaced"


HIDDEN = {
    "vp8": lambda: changed("vp8.webm", "webm", hidden),
    "vp9": hidden_vp9,
}


@pytest.mark.parametrize("name", HIDDEN)
def test_frames_that_only_serve_others_are_not_counted(name):
    data = HIDDEN[name]()
    known, truth = probe(data), decoded(data)
    with av.open(io.BytesIO(data)) as container:
        assert sum(p.size > 0 for p in container.demux(video=0)) > len(truth)
    assert known.trusted and known.n_frames == len(truth)
    for k, picture in enumerate(truth):
        frames = read_frames(data, [k], index=known)
        assert frames.report.path == "fast" and (frames.data[0] == picture).all()


# --- a table that is believed, and refuted by decoding ----------------------------------------------------------------


@pytest.fixture
def refuted(tmp_path, monkeypatch):
    """A file whose table counts frames that do not come, as if no rule had seen it."""
    monkeypatch.setattr("zoo.video.table.oddity", lambda *_: None)
    index._kept.clear()
    path = tmp_path / "a.mp4"
    path.write_bytes(changed("hevc.mp4", "mp4", broken_link))
    assert probe(path).trusted and probe(path).n_frames > len(decoded(path.read_bytes()))
    return path


def test_an_index_that_decoding_refutes_is_not_kept(refuted):
    truth, known = decoded(refuted.read_bytes()), probe(refuted)
    frames = read_frames(refuted, [22, 23, 24])
    assert frames.report.path == "sequential"
    assert all((a == truth[k]).all() for a, k in zip(frames.data, frames.indices, strict=True))
    again = probe(refuted)
    assert again.n_frames == len(truth) and not again.trusted and again.why == frames.report.why
    with pytest.raises(VideoError, match=f"has {len(truth)} frames"):
        read_frames(refuted, [known.n_frames - 1])


@pytest.mark.parametrize("isolate", [False, True])
@pytest.mark.parametrize("as_path", [True, False])
def test_frames_are_chosen_again_when_they_were_counted_wrong(refuted, as_path, isolate, monkeypatch):
    source = refuted if as_path else refuted.read_bytes()
    if isolate:  # a child would see the oddity: it is told what was found here
        monkeypatch.setattr("zoo.video.isolate.isolated_index", lambda src, exact, *_: probe(src, exact=exact))
    n = len(decoded(refuted.read_bytes()))
    clips = zoo.load_clips(zoo.Preprocessing(num_frames=n, sampler="uniform"), source, isolate=isolate)
    assert clips.indices == [list(range(n))] and clips.report["n_frames"] == n
    truth = np.stack(decoded(refuted.read_bytes()))
    mean, std = (
        np.array(v, np.float32)[:, None, None, None]
        for v in (zoo.Preprocessing(num_frames=1).mean, zoo.Preprocessing(num_frames=1).std)
    )
    assert np.allclose(clips.data[0].numpy() * std + mean, truth.transpose(3, 0, 1, 2) / 255, atol=1e-5)
    prediction = zoo.predict(zoo.build("r2plus1d_tiny"), source, window=0.4, isolate=isolate)
    assert prediction.duration_s == pytest.approx(probe(source, exact=True).duration_s)
