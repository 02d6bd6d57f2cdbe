"""The frame asked for is the frame returned: any container, any order, or a VideoError."""

from __future__ import annotations

import io
import pickle
import random
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from video_clips import MADE, REAL, SHARED, VARIABLE, clip, decoded, encode, frames_of, mux, pictures, upright

from zoo.errors import NoVideoStreamError, VideoDecodeError, VideoError, VideoOpenError
from zoo.video import iter_frames, probe, read_frames
from zoo.video.transforms import resize

BROKEN = {
    "Zulko_moviepy__result.webm": VideoOpenError,
    "dmlc_decord__corrupted.mp4": VideoDecodeError,
    "mozilla_mp4parse-rust__amr_nb_1f.3gp": NoVideoStreamError,
    "mozilla_mp4parse-rust__chunk_out_of_range.mp4": VideoOpenError,
    "mozilla_mp4parse-rust__short-cenc.mp4": VideoDecodeError,
    "mozilla_mp4parse-rust__sine-3s-xhe-aac-44khz-mono.mp4": NoVideoStreamError,
    "mozilla_mp4parse-rust__zero_empty_stsc.mp4": VideoDecodeError,
}
CLIPS = [*MADE, *(name for name in REAL if name not in BROKEN)]


def same(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and bool((a == b).all())


@pytest.mark.parametrize("name", CLIPS)
def test_every_frame_is_the_one_of_a_plain_decode(name, tmp_path):
    data = clip(name)
    index = probe(data)
    n = index.n_frames
    wanted = [random.Random(name).randrange(n) for _ in range(5)]
    wanted = [n - 1, *wanted, wanted[0], 0]
    truth = {k: upright(frame) for k, frame in enumerate(frames_of(data)) if k in wanted or k == n}
    assert n not in truth, "there are more frames than probe says"
    path = tmp_path / name
    path.write_bytes(data)
    few = sorted(wanted)[:4]
    for source, indices in ((data, wanted), (path, few), (str(path), few), (io.BytesIO(data), few)):
        frames = read_frames(source, indices, index=index)
        assert frames.data.dtype == np.uint8 and frames.data.flags.c_contiguous
        assert frames.indices == tuple(indices) and frames.report.n_errors == 0
        assert frames.data.shape == (len(indices), index.height, index.width, 3)
        assert frames.time_s == tuple(index.time_s[k] for k in indices)
        assert all(same(picture, truth[k]) for picture, k in zip(frames.data, indices, strict=True))


@pytest.mark.parametrize("name", [name for name in BROKEN if name in REAL])
def test_what_cannot_be_decoded_says_so_and_what_to_do(name):
    with pytest.raises(BROKEN[name]) as raised:
        n = probe(SHARED / name).n_frames
        read_frames(SHARED / name, [n - 1])
    assert raised.value.hint and name in str(raised.value)
    assert raised.value.source == str(SHARED / name)


# --- what a video is --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CLIPS)
def test_times_start_at_zero_and_never_go_back(name):
    index = probe(clip(name))
    assert index.time_s[0] == 0 and len(index.time_s) == index.n_frames == len(index.keyframe)
    assert all(a < b for a, b in zip(index.time_s, index.time_s[1:], strict=False))
    assert index.time_s[-1] < index.duration_s < index.time_s[-1] + 2
    assert index.fps_mean == pytest.approx(index.n_frames / index.duration_s)
    assert index.keyframe[0] or name.startswith("edit_list")
    assert pickle.loads(pickle.dumps(index)) == index


@pytest.mark.parametrize(
    ("name", "n", "fps"),
    [
        ("b_frames.mp4", 40, 25),
        ("late_start.mp4", 20, 25),
        ("fragmented.mp4", 40, 25),
        ("h264.mkv", 40, 30),
        ("vp9.webm", 30, 30),
        ("no_duration.webm", 40, 30),
        ("b_frames_mpeg4.avi", 40, 25),
        ("b_frames_h264.avi", 40, 25),
        ("h264.ts", 40, 25),
        ("mpeg2.mpg", 40, 25),
        ("raw.h264", 40, 25),
        ("moving.gif", 8, 10),
    ],
)
def test_a_constant_rate_comes_back_exactly_from_every_container(name, n, fps):
    index = probe(clip(name))
    assert index.n_frames == n
    assert index.time_s == tuple(k / fps for k in range(n))
    assert index.duration_s == pytest.approx(n / fps, abs=1e-12)


@pytest.mark.parametrize("name", ["variable.mp4", "variable.mkv"])
def test_a_variable_rate_keeps_its_times(name):
    index = probe(clip(name))
    assert index.time_s == pytest.approx([t / 1000 for t in VARIABLE], abs=1e-3)
    assert index.duration_s > 1.5


def test_frames_cut_away_by_an_edit_list_do_not_count():
    index = probe(clip("edit_list.mp4"))
    assert index.n_frames == 35 and index.trusted
    assert index.time_s[1] == pytest.approx(0.04)
    assert abs(read_frames(clip("edit_list.mp4"), [0]).data[0].astype(int) - pictures(6)[5]).mean() < 20


@pytest.mark.parametrize(
    ("name", "why"),
    [("b_frames_h264.avi", "container avi"), ("h264.ts", "container mpegts"), ("raw.h264", "container h264")],
)
def test_a_container_without_a_good_table_is_decoded_to_count(name, why):
    index = probe(clip(name))
    assert not index.trusted and index.why == why


def test_a_table_is_trusted_only_where_it_is_sound():
    data = bytearray(clip("h264.mkv"))
    assert probe(bytes(data)).trusted
    start = data.index(b"\x00\x00\x00", len(data) // 10)
    data[start + 40 : start + 1000] = bytes(960)  # inside the first frame
    try:
        index = probe(bytes(data))
    except VideoError:
        return
    assert not index.trusted and index.why


@pytest.mark.parametrize("degrees", [90, 180, -90])
def test_rotated_video_comes_out_upright(degrees):
    data = mux([40 * k for k in range(6)], rotation=degrees)
    plain = read_frames(mux([40 * k for k in range(6)]), [3])
    index, frames = probe(data), read_frames(data, [3])
    assert index.rotation == degrees % 360
    assert (index.height, index.width) == frames.data.shape[1:3]
    assert same(frames.data[0], np.rot90(plain.data[0], degrees // 90))
    small = read_frames(data, [3], size=(30, 50))
    assert same(small.data[0], resize(frames.data[0], (30, 50)))


# --- asking -----------------------------------------------------------------------------------------------------------


def test_indices_may_be_numpy_torch_or_nothing():
    data = clip("b_frames.mp4")
    truth = read_frames(data, [3, 5]).data
    assert same(read_frames(data, np.array([3, 5])).data, truth)
    assert same(read_frames(data, torch.tensor([3, 5])).data, truth)
    empty = read_frames(data, [], size=36)
    assert empty.data.shape == (0, 36, 48, 3) and empty.time_s == ()


@pytest.mark.parametrize("with_index", [True, False])
@pytest.mark.parametrize("wrong", [-1, 40])
@pytest.mark.parametrize("name", ["b_frames.mp4", "b_frames_h264.avi"])
def test_a_frame_that_is_not_there_raises_and_says_how_many_there_are(name, wrong, with_index):
    data = clip(name)
    with pytest.raises(VideoError, match=f"has 40 frames, there is no frame {wrong}: indices go from 0 to 39"):
        read_frames(data, [0, wrong], index=probe(data) if with_index else None)


@pytest.mark.parametrize(
    "options", [{"on_error": "ignore"}, {"interpolation": "lanczos"}, {"size": 0}, {"size": (0, 4)}, {"size": -5}]
)
def test_options_that_make_no_sense_raise(options):
    with pytest.raises(ValueError) as raised:
        read_frames(clip("b_frames.mp4"), [0], **options)
    assert raised.value.hint


def test_half_a_frame_is_no_index():
    with pytest.raises(VideoError, match="whole numbers"):
        read_frames(clip("b_frames.mp4"), [0.5])


@pytest.mark.parametrize(("size", "shape"), [(36, (36, 48)), ((50, 40), (50, 40)), (100, (100, 133)), (None, (72, 96))])
@pytest.mark.parametrize("antialias", [True, False])
def test_frames_are_resized_as_the_full_size_ones_would_be(size, shape, antialias):
    data = clip("b_frames.mp4")
    frames = read_frames(data, [7, 2], size=size, interpolation="bicubic", antialias=antialias)
    assert frames.data.shape == (2, *shape, 3)
    assert same(frames.data, resize(read_frames(data, [7, 2]).data, size, "bicubic", antialias))


def test_reading_stops_after_the_last_wanted_frame():
    report = read_frames(clip("b_frames.mp4"), [4, 2]).report
    assert report.n_decoded == 5 and report.n_packets < 15 and report.why == "only the first frames are wanted"


# --- one after the other ----------------------------------------------------------------------------------------------


def test_iter_frames_gives_what_read_frames_gives():
    data = clip("b_frames_h264.avi")
    frames = list(iter_frames(data, stride=7, start=3, size=36))
    wanted = list(range(3, 40, 7))
    truth = read_frames(data, wanted, size=36)
    assert [f.index for f in frames] == wanted
    assert tuple(f.time_s for f in frames) == truth.time_s
    assert all(same(f.data, t) for f, t in zip(frames, truth.data, strict=True))


def test_frames_already_given_stay_as_they_were():
    data = clip("b_frames.mp4")
    frames = list(iter_frames(data))
    assert all(f.data.flags.c_contiguous and f.data.flags.writeable for f in frames)
    assert same(np.stack([f.data for f in frames]), read_frames(data, range(40)).data)


def test_closing_the_iterator_closes_the_file(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(clip("b_frames.mp4"))
    descriptors = Path("/proc/self/fd")
    if not descriptors.is_dir():
        pytest.skip("needs /proc")
    frames = iter_frames(path)
    next(frames)
    assert any(path == fd.resolve() for fd in descriptors.iterdir())
    frames.close()
    assert not any(path == fd.resolve() for fd in descriptors.iterdir())


def test_a_stride_of_zero_raises_at_once():
    with pytest.raises(VideoError, match="stride=0"):
        iter_frames(clip("b_frames.mp4"), stride=0)


# --- damage -----------------------------------------------------------------------------------------------------------


@cache
def faststart() -> bytes:
    return mux([40 * k for k in range(60)], container_options={"movflags": "faststart"})


def zeroed() -> bytes:
    data = bytearray(faststart())
    data[len(data) // 2 : len(data) // 2 + 1500] = bytes(1500)
    return bytes(data)


def flipped() -> bytes:
    data = bytearray(faststart())
    rng = random.Random(0)
    for _ in range(10):
        data[rng.randrange(len(data) // 3, len(data))] ^= 1 << rng.randrange(8)
    return bytes(data)


@pytest.mark.parametrize("make", [zeroed, flipped])
def test_damage_raises_and_says_where_and_how_much_is_left(make):
    data = make()
    truth = decoded(data)
    assert 20 < len(truth) <= 60
    read_frames(data, [0, 5])  # before the damage nothing is wrong
    with pytest.raises(VideoDecodeError, match=rf"packet \d+, near \d\.\d\d s .* {len(truth)} frames can be recovered"):
        read_frames(data, range(len(truth)))
    with pytest.raises(VideoDecodeError):
        list(iter_frames(data))


def test_damage_far_from_the_wanted_frames_is_not_met():
    frames = read_frames(zeroed(), [5, 58])
    assert frames.report.path == "fast" and same(frames.data, read_frames(faststart(), [5, 58]).data)


@pytest.mark.parametrize("make", [zeroed, flipped])
def test_skipping_damage_gives_the_frames_that_can_be_decoded(make):
    data = make()
    truth = decoded(data)
    assert probe(data).n_frames == 60 and probe(data, exact=True).n_frames == len(truth)
    wanted = [len(truth) - 1, 0, len(truth) // 2]
    frames = read_frames(data, wanted, on_error="skip")
    assert frames.report.n_errors > 0 and "packet" in frames.report.errors[0]
    assert all(same(picture, truth[k]) for picture, k in zip(frames.data, wanted, strict=True))
    with pytest.raises(VideoError, match=f"has {len(truth)} frames"):
        read_frames(data, [len(truth)], on_error="skip")
    assert sum(1 for _ in iter_frames(data, on_error="skip")) == len(truth)


@pytest.mark.parametrize("name", ["faststart", "h264.ts", "h264.mkv", "b_frames_h264.avi"])
def test_a_file_cut_short_gives_what_is_left(name):
    data = faststart() if name == "faststart" else clip(name)
    half = data[: len(data) * 3 // 5]
    truth = decoded(half)
    index = probe(half)
    assert 5 < len(truth) < 59 and index.n_frames in (len(truth), len(truth) + 1)
    assert same(read_frames(half, [3]).data[0], truth[3])
    last = read_frames(half, [len(truth) - 1], on_error="skip")
    assert same(last.data[0], truth[-1])
    with pytest.raises(VideoError, match=f"{len(truth)} frames"):
        read_frames(half, [len(truth)], on_error="skip")


@pytest.mark.parametrize("missing", [100, 1000])
def test_a_table_cut_off_raises_at_once(missing):
    with pytest.raises(VideoError, match="cut short"):
        probe(encode("mp4", 10)[:-missing])


def test_a_lost_piece_of_a_broadcast_counts_as_damage_even_if_it_decodes():
    data = clip("h264.ts")
    video = (at for at in range(188 * 38, len(data), 188) if data[at + 1] & 31 == 1 and data[at + 2] == 0)
    at = next(video)  # packets of 188 bytes; 0x100 is the video's number
    data = data[:at] + data[at + 188 :]
    last = len(decoded(data)) - 1
    with pytest.raises(VideoDecodeError, match="corrupt"):
        read_frames(data, [last])
    assert same(read_frames(data, [last], on_error="skip").data[0], decoded(data)[last])


def test_frames_built_on_damage_count_as_damage():
    data = clip("raw.h264")
    data = data[:3000] + data[3188:]
    frames = list(frames_of(data))
    (bad,) = (k for k, frame in enumerate(frames) if frame.is_corrupt)
    read_frames(data, [bad - 1])
    with pytest.raises(VideoDecodeError, match=f"frame {bad} is corrupt"):
        read_frames(data, [bad])
    assert read_frames(data, [bad], on_error="skip").report.n_errors == 1


# --- a size that changes ----------------------------------------------------------------------------------------------


def two_sizes() -> bytes:
    return encode("h264", 8, options={"bf": "0"}) + encode("h264", 8, size=(64, 64), options={"bf": "0"})


def test_a_size_that_changes_needs_a_size():
    data = two_sizes()
    assert read_frames(data, [7]).data.shape == (1, 72, 96, 3)
    with pytest.raises(VideoDecodeError, match="frame 9 is 64x64, the first one was 96x72: pass size="):
        read_frames(data, [7, 9])


def test_with_a_size_every_frame_has_the_one_of_the_first():
    frames = read_frames(two_sizes(), [9, 7], size=36)
    assert frames.data.shape == (2, 36, 48, 3)
    assert same(frames.data[0], resize(decoded(two_sizes())[9], (36, 48)))


# --- memory and processes ---------------------------------------------------------------------------------------------


@cache
def large() -> bytes:
    return encode("mp4", 80, size=(480, 640), options={"preset": "ultrafast"})


SPENDTHRIFT = """
import resource, sys
import torch
from zoo.video import iter_frames, read_frames
path, way = sys.argv[1:]
torch.set_num_threads(1)
read_frames(path, [0, 1], size=32)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
if way == "read":
    read_frames(path, range(80), size=32)
else:
    for frame in iter_frames(path):
        pass
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in other units elsewhere")
@pytest.mark.parametrize("way", ["read", "iterate"])
def test_one_full_size_frame_is_in_memory_at_a_time(tmp_path, way):
    path = tmp_path / "large.mp4"
    path.write_bytes(large())
    done = subprocess.run([sys.executable, "-c", SPENDTHRIFT, str(path), way], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 20_000  # KiB; the 80 frames take 72_000


class Clips(torch.utils.data.Dataset):
    def __len__(self) -> int:
        return 6

    def __getitem__(self, i: int) -> torch.Tensor:
        return torch.from_numpy(read_frames(clip("b_frames.mp4"), [i, 20 + i], size=36).data)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_workers_of_a_data_loader_read_the_same_frames():
    truth = [Clips()[i] for i in range(6)]
    loader = torch.utils.data.DataLoader(Clips(), num_workers=2, batch_size=None, timeout=60)
    assert all(torch.equal(a, b) for a, b in zip(loader, truth, strict=True))


def test_nothing_is_printed_about_damaged_video(tmp_path, capfd):
    with pytest.raises(VideoDecodeError):
        read_frames(flipped(), [59])
    assert capfd.readouterr() == ("", "")
