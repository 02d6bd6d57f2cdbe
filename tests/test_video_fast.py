"""Only the needed packets are decoded, and what comes out is what a decode in order gives; or it says why not."""

from __future__ import annotations

import dataclasses
import io
import pickle
import random
import re
from bisect import bisect_right
from pathlib import Path

import av
import numpy as np
import pytest
from video_clips import MADE, REAL, SHARED, clip, decoded, encode, mux, remux

import zoo
from zoo.errors import VideoDecodeError, VideoError, VideoLimitError
from zoo.video import Limits, index, probe, read_frames, select
from zoo.video.sampling import uniform
from zoo.video.select import select_frames

GROUPS = [
    *("b_frames.mp4", "open_gops.mp4", "open_gops.mkv", "edit_list_b_frames.mp4", "variable.mp4", "fragmented.mp4"),
    *("hevc.mp4", "hevc.mkv", "vp8.webm", "vp9.webm", "av1.mkv", "av1.mp4", "mpeg4.mov", "mpeg2.mp4"),
]
SLOW = ["b_frames_mpeg4.avi", "b_frames_h264.avi", "h264.ts", "mpeg2.mpg", "raw.h264", "moving.gif"]


@pytest.fixture
def threads_always_pay(monkeypatch):
    monkeypatch.setattr(select, "THREADS_PAY", 0)


# --- exact ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 2, 3, 4])
@pytest.mark.parametrize("name", [*GROUPS, *SLOW])
def test_any_order_with_repeats_on_any_number_of_threads(threads_always_pay, name, threads):
    data = clip(name)
    truth, known = decoded(data), probe(data)
    rng = random.Random(name)
    for count in (1, 5, 60):
        wanted = [rng.randrange(len(truth)) for _ in range(count)]
        frames = read_frames(data, wanted, index=known, threads=threads)
        assert frames.report.path == ("fast" if name in GROUPS else "sequential")
        assert all((picture == truth[k]).all() for picture, k in zip(frames.data, wanted, strict=True))
        ordered = list(select_frames(data, sorted(set(wanted)), index=known, threads=threads))
        assert [f.index for f in ordered] == sorted(set(wanted))
        assert all((f.data == truth[f.index]).all() and f.time_s == known.time_s[f.index] for f in ordered)


@pytest.mark.parametrize("name", [name for name in GROUPS if "variable" not in name])
def test_each_frame_alone_is_the_right_one(name):
    data = clip(name)
    truth, known = decoded(data), probe(data)
    assert known.n_frames == len(truth) > sum(known.keyframe) > 1
    for k, picture in enumerate(truth):
        frames = read_frames(data, [k], index=known)
        assert frames.report.path == "fast" and (frames.data[0] == picture).all(), k


@pytest.mark.parametrize("name", [n for n in REAL if not n.startswith("mozilla")])
def test_fast_and_sequential_agree_on_real_clips(threads_always_pay, name):
    path = SHARED / name
    try:
        known = probe(path)
    except VideoError:
        return
    wanted = [random.Random(name).randrange(known.n_frames) for _ in range(6)]
    try:
        truth = read_frames(path, wanted, size=64, _force_sequential=True)
    except VideoError:
        assert "corrupted" in name
        return
    assert truth.report.why == "asked for"
    for threads in (1, 3):
        frames = read_frames(path, wanted, size=64, index=known, threads=threads)
        assert (frames.data == truth.data).all() and frames.time_s == truth.time_s
        assert frames.report.path == ("fast" if known.trusted else "sequential")


def test_a_path_bytes_and_a_file_object_give_the_same_frames(threads_always_pay, tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(clip("open_gops.mp4"))
    truth = decoded(clip("open_gops.mp4"))
    for source in (path, str(path), path.read_bytes(), io.BytesIO(path.read_bytes()), path.open("rb")):
        frames = read_frames(source, [70, 3, 33], threads=3)
        assert frames.report.path == "fast"
        assert all((a == truth[k]).all() for a, k in zip(frames.data, frames.indices, strict=True))
        if hasattr(source, "close"):
            source.close()


# --- only what is needed ----------------------------------------------------------------------------------------------


def bound(data: bytes, wanted: list[int]) -> int:
    """The sum over groups of (last wanted packet - keyframe + 1), counted here from the packets themselves."""
    with av.open(io.BytesIO(data)) as container:
        rows = [p for p in container.demux(video=0) if p.size]
    shown = sorted((p.pts, row) for row, p in enumerate(rows) if not p.is_discard)
    keys = [(p.pts, row) for row, p in enumerate(rows) if p.is_keyframe]
    last: dict[int, int] = {}
    for k in wanted:
        pts, row = shown[k]
        key = keys[bisect_right(keys, (pts, len(rows))) - 1][1]
        last[key] = max(last.get(key, 0), row)
    return sum(row - key + 1 for key, row in last.items())


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("name", [*GROUPS, "long.mp4"])
def test_no_packet_is_fed_that_the_wanted_frames_do_not_need(threads_always_pay, name, threads):
    data = encode("mp4", 600, options={"g": "30", "bf": "3", "sc_threshold": "0"}) if name == "long.mp4" else clip(name)
    known = probe(data)
    wanted = uniform(known.n_frames, 16)
    report = read_frames(data, wanted, index=known, threads=threads).report
    assert report.path == "fast" and 0 < report.n_packets <= bound(data, wanted)
    if name.startswith(("open", "hevc")):
        assert report.n_packets < bound(data, wanted), "leading pictures of a group are left out"
    if name == "long.mp4":
        assert bound(data, wanted) < 300 and report.n_decoded < report.n_packets * 3 / 4, "B-frames are left out"


def test_the_first_frames_of_a_long_file_are_read_without_reading_it_all(tmp_path):
    path = tmp_path / "a.mkv"
    path.write_bytes(clip("open_gops.mkv"))
    report = read_frames(path, range(8)).report
    assert report.why == "only the first frames are wanted" and report.n_packets < 20


# --- the index is made once -------------------------------------------------------------------------------------------


@pytest.fixture
def scans(monkeypatch):
    done = []
    original = index.scan
    monkeypatch.setattr(index, "scan", lambda video: done.append(video.name) or original(video))
    index._kept.clear()
    return done


def test_a_file_is_scanned_once_until_it_changes(scans, tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(clip("open_gops.mp4"))
    for _ in range(3):
        read_frames(path, [60], threads=1)
        zoo.load_clips(zoo.Preprocessing(num_frames=4, clips=2), str(path))
        assert probe(path).n_frames == 80
    assert len(scans) == 1
    path.write_bytes(clip("b_frames.mp4"))
    assert probe(path).n_frames == 40 and len(scans) == 2
    probe(path, limits=Limits(max_frames=40))
    assert len(scans) == 3
    with pytest.raises(VideoLimitError):
        probe(path, limits=Limits(max_frames=39))
    data = path.read_bytes()
    read_frames(data, [35])
    read_frames(data, [35])
    assert len(scans) == 6, "bytes are not kept"


def test_a_file_whose_table_is_not_believed_is_scanned_once_too(scans, tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(remux("b_frames.mp4", "mp4", _same_time_twice))
    for _ in range(3):
        assert read_frames(path, [38]).report.why == probe(path).why == "two packets with one time"
    assert len(scans) == 1
    read_frames(path, [38], limits=Limits(max_frames=40))
    assert [kept.__traceback__ for kept in index._kept.values() if isinstance(kept, Exception)] == [None]


def test_few_indices_are_kept(scans, tmp_path, monkeypatch):
    monkeypatch.setattr(index, "KEPT_FILES", 2)
    for name in "abca":
        (path := tmp_path / name).write_bytes(clip("one_frame.mp4"))
        probe(path)
    assert len(index._kept) == 2 and [Path(s).name for s in scans] == ["a", "b", "c", "a"]
    monkeypatch.setattr(index, "KEPT_FRAMES", 2)
    (tmp_path / "large").write_bytes(clip("b_frames.mp4"))
    probe(tmp_path / "large")
    assert [key[0] for key in index._kept] == [str(tmp_path / "large")]


def test_an_index_that_was_pickled_still_finds_frames():
    data = clip("open_gops.mp4")
    frames = read_frames(data, [70], index=pickle.loads(pickle.dumps(probe(data))))
    assert frames.report.path == "fast" and (frames.data[0] == decoded(data)[70]).all()


# --- what is not trusted, and why -------------------------------------------------------------------------------------


def _drop(rows):
    """Everything before the second keyframe."""
    return rows[[k for k, p in enumerate(rows) if p.is_keyframe][1] :]


def _drop_first(rows):
    return rows[1:]


def _made_up_times(rows):
    for p in rows:
        p.pts = p.dts
    return rows


def _same_time_twice(rows):
    rows[5].pts = rows[6].pts
    return rows


def _swapped_times(rows):
    for k, p in enumerate(rows):
        p.dts = k
    rows[5].pts, rows[6].pts = rows[6].pts, rows[5].pts
    return rows


def _keys_back(rows):
    for k, p in enumerate(rows):
        p.dts = k  # a container refuses frames that are shown before they are decoded
    keys = [p for p in rows if p.is_keyframe]
    keys[1].pts, keys[2].pts = keys[2].pts, keys[1].pts
    return rows


def cut_short() -> bytes:
    data = mux([40 * k for k in range(60)], container_options={"movflags": "faststart"})
    return data[: len(data) * 3 // 5]


NOT_TRUSTED = {
    "another container": (lambda: clip("b_frames_h264.avi"), "container avi"),
    "no keyframe first": (lambda: remux("vp8.webm", "webm", _drop_first), "no leading keyframe"),
    "times of decoding": (lambda: remux("b_frames.mp4", "mp4", _made_up_times), "reordered, but their times are not"),
    "times swapped": (lambda: remux("vp8.webm", "webm", _swapped_times), "times are reordered further than the frames"),
    "a time twice": (lambda: remux("b_frames.mp4", "mp4", _same_time_twice), "two packets with one time"),
    "keyframes go back": (lambda: remux("h264.mkv", "matroska", _keys_back), "keyframes out of order"),
    "an open group first": (lambda: remux("hevc.mp4", "matroska", _drop), "shown before the first keyframe"),
    "cut short": (lambda: cut_short(), "corrupt packet"),
}


@pytest.mark.parametrize("name", NOT_TRUSTED)
def test_a_table_that_breaks_a_rule_is_not_used_and_the_report_says_which(name, monkeypatch):
    make, why = NOT_TRUSTED[name]
    data = make()
    truth = decoded(data)
    known = probe(data)
    assert not known.trusted and why in known.why
    wanted = [len(truth) // 2, 3] if name == "cut short" else [len(truth) - 1, 3]
    monkeypatch.setattr(select, "FIRST_FRAMES", 0)
    for given_index in (known, None):
        if name == "no keyframe first":  # what comes before the first keyframe counts as damage
            with pytest.raises(VideoDecodeError, match="damaged at packet 0"):
                read_frames(data, wanted, index=given_index)
            continue
        frames = read_frames(data, wanted, index=given_index)
        assert frames.report.path == "sequential" and why in frames.report.why
        assert all((a == truth[k]).all() for a, k in zip(frames.data, wanted, strict=True))


def test_a_packet_without_a_time_is_not_trusted():
    from zoo.video.table import Distrust, _believed

    with pytest.raises(Distrust, match="without a time"):
        _believed([0, None, 2], [0, 1, 2], [], [0], depth=1, as_decoded=False)


def _damaged_key() -> bytes:
    """Bytes inside the keyframe of the second group are lost."""
    data = bytearray(clip("h264.mkv"))
    with av.open(io.BytesIO(data)) as container:
        second = [bytes(p) for p in container.demux(video=0) if p.size and p.is_keyframe][1]
    at = data.index(second) + len(second) // 3
    data[at : at + 60] = bytes(60)
    return bytes(data)


def false_keys(known):
    """As if the container called every frame that follows all before it a keyframe."""
    table = known._table
    rows = np.flatnonzero(table.pts == np.maximum.accumulate(table.pts))
    return dataclasses.replace(known, _table=dataclasses.replace(table, keys=rows, key_pts=table.pts[rows]))


@pytest.mark.parametrize(("name", "lie"), [("refresh.mp4", None), ("h264.mkv", false_keys), ("vp8.webm", false_keys)])
def test_what_the_decoder_contradicts_ends_the_fast_path(threads_always_pay, name, lie):
    data = clip(name)
    known, truth = probe(data), decoded(data)
    assert known.trusted
    known = lie(known) if lie else known
    refused = []
    for k in range(len(truth)):
        frames = read_frames(data, [k], index=known, threads=2)
        assert (frames.data[0] == truth[k]).all()
        if frames.report.path == "sequential":
            refused.append(frames.report.why)
    assert len(refused) > 10
    if name == "refresh.mp4":
        assert any(why.startswith("decoding does not start") for why in refused)
    found = (
        "decoding does not start at the keyframe|frame .* did not come|a seek did not land|a packet cannot be decoded"
    )
    assert all(re.match(found, why) for why in refused), set(refused)


def test_a_seek_that_lands_late_ends_the_fast_path():
    """The list of cues of this file sends every seek to its last cluster."""
    data = bytearray(remux("h264.mkv", "matroska", cluster_time_limit="100"))
    cues = data.rindex(bytes.fromhex("1c53bb6b"))
    at = [m.start() for m in re.finditer(rb"\xf1\x82..", bytes(data[cues:]), re.DOTALL)]
    for position in at:
        data[cues + position + 2 : cues + position + 4] = data[cues + at[-1] + 2 : cues + at[-1] + 4]
    truth, known = decoded(bytes(data)), probe(bytes(data))
    assert known.trusted and len(at) > 2
    middle = [k for k, key in enumerate(known.keyframe) if key][1]
    frames = read_frames(bytes(data), [middle], index=known)
    assert frames.report.path == "sequential" and "a seek did not land" in frames.report.why
    assert (frames.data[0] == truth[middle]).all()


@pytest.mark.parametrize("threads", [1, 2])
def test_damage_in_a_needed_group_is_met_and_raises_as_in_order(threads_always_pay, threads):
    data = _damaged_key()
    known = probe(data)
    for wanted in ([13], [1, 13, 38]):
        with pytest.raises(VideoDecodeError, match=r"damaged at packet 14.*frame 12 is corrupt"):
            read_frames(data, wanted, index=known, threads=threads)
        with pytest.raises(VideoDecodeError, match=r"damaged at packet 14.*frame 12 is corrupt"):
            list(select_frames(data, wanted, index=known, threads=threads))


@pytest.mark.parametrize("other", ["h264.mkv", "variable.mp4", "vp9.webm", "open_gops.mp4"])
def test_the_index_of_another_file_gives_no_wrong_frame(other):
    data, truth = clip("edit_list_b_frames.mp4"), decoded(clip("edit_list_b_frames.mp4"))
    frames = read_frames(data, [10, 3], index=probe(clip(other)))
    assert frames.report.path == "sequential" and frames.report.why
    assert all((a == truth[k]).all() for a, k in zip(frames.data, [10, 3], strict=True))


def test_the_index_of_half_the_frames_gives_no_wrong_frame():
    """Its times all exist in the other file, as those of other frames."""
    data, other = (mux([step * k for k in range(80)], format="matroska") for step in (20, 40))
    frames = read_frames(data, [10, 30], index=probe(other))
    assert frames.report.why.endswith("is not the one of the table")
    assert (frames.data == np.stack([decoded(data)[k] for k in (10, 30)])).all()


def test_frames_already_given_are_compared_when_everything_is_read_again(monkeypatch):
    data = clip("open_gops.mp4")
    known, truth = probe(data), decoded(data)
    read = select.SeekingDecode.frames

    def failing(self, group):
        if group.key > 30:
            raise select.Distrust("made to fail")
        yield from read(self, group)

    monkeypatch.setattr(select.SeekingDecode, "frames", failing)
    frames = list(select_frames(data, [3, 20, 50, 70], index=known))
    assert [f.index for f in frames] == [3, 20, 50, 70]
    assert all((f.data == truth[f.index]).all() for f in frames)
    monkeypatch.setattr(select, "Frame", lambda data, *rest: zoo.video.Frame(data ^ (select_path() == "fast"), *rest))

    def select_path():
        return selections[-1].path

    selections = []
    made = select.Selection.__init__
    monkeypatch.setattr(
        select.Selection, "__init__", lambda self, *a, **k: selections.append(self) or made(self, *a, **k)
    )
    with pytest.raises(VideoDecodeError, match="made to fail, and frame 3 was already given"):
        list(select_frames(data, [3, 20, 50, 70], index=known))


def test_every_made_clip_has_its_place():
    assert {*GROUPS, *SLOW} <= set(MADE)
    assert np.array_equal(decoded(clip("one_frame.mp4"))[0], read_frames(clip("one_frame.mp4"), [0]).data[0])
