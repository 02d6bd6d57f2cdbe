"""zoo.Stream: what a network looks at, what it says and when, for one stream and for many, for ever."""

from __future__ import annotations

import copy
import datetime
import functools

import numpy as np
import pytest
import torch

import zoo
from zoo.errors import SpecError, VideoError
from zoo.streaming import history
from zoo.testing import perturb
from zoo.video.sampling import at_times

FPS = 30


@functools.cache
def model_of(name: str) -> zoo.VideoModel:
    torch.manual_seed(0)
    return perturb(zoo.build(name, **zoo.info(name).small)).eval()


def video(frames: int, *, seed: int = 0, size: tuple[int, int] = (48, 64)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (frames, *size, 3), np.uint8)


def times(frames: int, fps: float = FPS, start: float = 0.0) -> list[float]:
    return [start + i / fps for i in range(frames)]


def follow(stream: zoo.Stream, frames: np.ndarray, when: list[float], chunk: int = 1, name: str = "stream") -> list:
    found = []
    for at in range(0, len(frames), chunk):
        found += stream.push(frames[at : at + chunk], when[at : at + chunk], stream=name)
    return found


def assert_same(a: list, b: list, tolerance: float = 1e-5) -> None:
    assert [p.time_s for p in a] == [p.time_s for p in b] and a
    for one, other in zip(a, b, strict=True):
        assert (one.scores - other.scores).abs().max() <= tolerance


@pytest.mark.parametrize("fps", [30, 25, 5])
def test_a_model_with_steps_sees_the_frames_of_its_protocol(fps):
    model = model_of("convgru_tiny")
    protocol = model.preprocessing
    frames, when = video(3 * fps), times(3 * fps, fps, start=7.0)
    stream = zoo.Stream(model, rate=None)
    found = follow(stream, frames, when)
    moments = [7.0 + i / protocol.fps for i in range(int((when[-1] - 7.0) * protocol.fps + 1e-6) + 1)]
    assert [p.time_s for p in found] == pytest.approx(moments)
    shown = at_times(when, moments)
    clips = zoo.load_clips(
        zoo.Preprocessing(**{**protocol.to_dict(), "num_frames": len(shown), "fps": None, "clips": 1}),
        frames[shown],
        fps=protocol.fps,
    )
    with torch.no_grad():
        wanted = model(clips.data).softmax(-1)[0]
    assert (found[-1].scores - wanted).abs().max() <= 1e-5


def test_a_model_for_clips_says_what_predict_says_of_the_same_window():
    model = zoo.create("r2plus1d_tiny.camera_motion", pretrained=True)
    frames, when = video(75), times(75)
    found = follow(zoo.Stream(model, rate=4), frames, when)
    assert [p.time_s for p in found] == pytest.approx([29 / 30, 1.0, 1.25, 1.5, 1.75, 2.0, 2.25], abs=0.04)
    for prediction in found:
        (start, end, _) = prediction.windows[0]
        first, last = round(start * FPS), round(end * FPS)
        assert last - first == FPS and end == pytest.approx(prediction.time_s + 1 / FPS)
        wanted = zoo.predict(model, frames[first:last], fps=FPS, views="fast")
        assert torch.equal(prediction.scores, wanted.scores)
        assert [s.label for s in prediction.top] == [s.label for s in wanted.top] and not prediction.repeated


def test_how_frames_are_handed_over_makes_no_difference():
    frames, when = video(40), times(40)
    for name in ("convgru_tiny", "r2plus1d_tiny"):
        one = follow(zoo.Stream(model_of(name), rate=5), frames, when)
        for chunk in (7, 40):
            assert_same(follow(zoo.Stream(model_of(name), rate=5), frames, when, chunk), one)
        assert_same(
            zoo.Stream(model_of(name), rate=5).push(torch.from_numpy(frames), torch.tensor(when, dtype=torch.float64)),
            one,
        )


def test_the_camera_may_use_its_memory_again():
    frames, when = video(40), times(40, 25)
    memory = np.empty_like(frames[0])
    for name in ("convgru_tiny", "r2plus1d_tiny"):
        stream, found = zoo.Stream(model_of(name), rate=None), []
        for frame, time_s in zip(frames, when, strict=True):
            memory[:] = frame
            found += stream.push(memory, time_s)
        assert_same(found, follow(zoo.Stream(model_of(name), rate=None), frames, when))


def test_many_streams_run_in_one_batch_and_do_not_know_of_each_other(monkeypatch):
    model = model_of("convgru_tiny")
    clips = {"door": (video(30, seed=1), times(30)), "yard": (video(24, seed=2), times(24, 15, start=100.0))}
    alone = {name: follow(zoo.Stream(model, rate=4), *given) for name, given in clips.items()}
    stream, found, batches = zoo.Stream(model, rate=4), {"door": [], "yard": []}, []
    step = type(model).step
    monkeypatch.setattr(type(model), "step", lambda self, x, s: batches.append(len(x)) or step(self, x, s))
    for i in range(30):
        new = {name: (frames[i], when[i]) for name, (frames, when) in clips.items() if i < len(frames)}
        for prediction in stream.push_all(new):
            found[prediction.video].append(prediction)
    for name in clips:
        assert_same(found[name], alone[name])
    assert max(batches) == 2 and stream.streams == ("door", "yard")
    stream.remove("door")
    with pytest.raises(SpecError, match="no stream 'door': there are yard"):
        stream.report("door")


def test_late_and_missing_frames_are_told():
    frames, when = video(30), times(30)
    kept = [i for i in range(30) if i not in (10, 11, 20)]
    stream = zoo.Stream(model_of("convgru_tiny"), rate=None)
    found = follow(stream, frames[kept], [when[i] for i in kept])
    late = stream.push(frames[5], when[5]) + stream.push(frames[29], when[29])
    assert not late and stream.report() == (29, 2, 3, 0)
    assert found[0].report.dropped == 0 and found[-1].report.dropped == 3
    assert (
        found[-1].to_dict()["dropped"] == 3
        and "late" not in zoo.predict(model_of("convgru_tiny"), frames, fps=30).to_dict()
    )


def test_after_a_long_gap_or_with_another_size_a_stream_begins_anew():
    model, frames = model_of("convgru_tiny"), video(16)
    alone = follow(zoo.Stream(model, rate=None), frames, times(16, start=50.0))
    for chunk in (1, 32):
        stream = zoo.Stream(model, rate=None, max_gap=5.0)
        both = follow(stream, np.concatenate([video(16, seed=3), frames]), times(16) + times(16, start=50.0), chunk)
        assert_same(both[-len(alone) :], alone)
        assert stream.report() == (32, 0, 0, 1)
    stream.push(video(1, size=(32, 32))[0], 51.0)
    assert stream.report().restarts == 2
    again = follow(stream, frames, times(16, start=40.0))  # the camera has started again, and its clock
    assert [p.time_s - 40 for p in again] == pytest.approx([p.time_s - 50 for p in alone])
    assert torch.equal(again[-1].scores, alone[-1].scores) and stream.report().restarts == 3


def test_scores_are_smoothed_by_their_half_life():
    model, frames, when = model_of("convgru_tiny"), video(30), times(30)
    raw = follow(zoo.Stream(model, rate=4), frames, when)
    smooth = follow(zoo.Stream(model, rate=4, smoothing=0.25), frames, when)
    wanted = raw[0].scores
    for before, one, other in zip(raw, raw[1:], smooth[1:], strict=False):
        wanted = torch.lerp(one.scores, wanted, 0.5 ** ((one.time_s - before.time_s) / 0.25))
        assert torch.allclose(other.scores, wanted, atol=1e-6)


def test_rates_and_the_end():
    model, frames = model_of("convgru_tiny"), video(40)
    stream = zoo.Stream(model, rate=2)
    assert [p.time_s for p in follow(stream, frames, times(40))] == pytest.approx([0.0, 0.5, 1.0])
    assert [p.time_s for p in stream.finish()] == pytest.approx([39 / 30]) and stream.finish() == []
    short = zoo.Stream(model_of("r2plus1d_tiny"))
    assert follow(short, frames[:9], times(9)) == []
    (last,) = short.finish()
    assert last.repeated and last.ok
    late = zoo.Stream(model_of("co_slow_r50"), rate=None)
    delay, spacing = late.model.delay, late.spacing
    found = follow(late, frames[: delay + 3], [i * spacing for i in range(delay + 3)])
    assert [p.time_s for p in found] == pytest.approx([i * spacing for i in range(delay, delay + 3)])


@pytest.mark.parametrize("name", ["convgru_tiny", "r2plus1d_tiny"])
def test_a_stream_goes_on_from_a_file(name, tmp_path):
    model, frames, when = model_of(name), video(60), times(60, 25)
    through = follow(zoo.Stream(model, rate=5, smoothing=1.0), frames, when)
    first, second = (zoo.Stream(model, rate=5, smoothing=1.0) for _ in range(2))
    before = follow(first, frames[:33], when[:33])
    first.save(tmp_path / "streams.safetensors")
    second.restore(tmp_path / "streams.safetensors")
    assert_same(before + follow(second, frames[33:], when[33:]), through)
    assert second.report() == (60, 0, 0, 0)
    with pytest.raises(SpecError, match=f"holds streams of {name}"):
        zoo.Stream(model_of("co_slow_r50")).restore(tmp_path / "streams.safetensors")
    other = zoo.Stream(model, rate=2)
    other.restore(tmp_path / "streams.safetensors")
    assert len(follow(other, frames[33:], when[33:])) in (2, 3)  # its own rate from here on: at 1.5 and 2.0
    with pytest.raises(SpecError, match=r"no_folder.*cannot be written"):
        second.save(tmp_path / "no_folder" / "streams.safetensors")
    with pytest.raises(SpecError, match=r"give a file that Stream\.save wrote"):
        second.restore(tmp_path / "none.safetensors")


@pytest.mark.parametrize("name", ["convgru_tiny", "r2plus1d_tiny"])
def test_memory_is_bounded(name, monkeypatch):
    monkeypatch.setattr(history, "MOST_WINDOWS", 4)

    def held(stream: zoo.Stream) -> int:
        watched = stream._watched["stream"]
        return sum(t.numel() * t.element_size() for t in watched.tensors().values())

    stream = zoo.Stream(model_of(name), rate=1)
    frame, sizes = video(1, size=(8, 8))[0], []
    for i in range(300):
        stream.push(frame, i / 10)
        sizes.append(held(stream))
    assert max(sizes[100:]) <= max(sizes[:100])


def test_a_reset_forgets():
    model, frames, when = model_of("convgru_tiny"), video(16), times(16)
    stream = zoo.Stream(model, rate=None)
    first = follow(stream, frames, when)
    stream.reset()
    assert_same(follow(stream, frames, when), first, 0)


def test_what_cannot_be_says_so():
    model = model_of("convgru_tiny")
    for wrong in ({"rate": 0}, {"smoothing": -1}, {"max_gap": float("nan")}, {"top_k": 0}, {"window": 2.0}):
        with pytest.raises(SpecError, match=next(iter(wrong))):
            zoo.Stream(model, **wrong)
    with pytest.raises(SpecError, match="no classifier"):
        zoo.Stream(model_of("predrnn"))
    with pytest.raises(SpecError, match=r"whole videos.*window=10"):
        whole = zoo.build("r2plus1d_tiny")
        whole.preprocessing = zoo.Preprocessing(num_frames=8, sampler="uniform")
        zoo.Stream(whole)
    stream = zoo.Stream(model)
    for frames, when in (
        (np.zeros((4, 4, 3)), 0.0),
        (np.zeros((4, 4), np.uint8), 0.0),
        (video(2), [0.0]),
        (video(2), None),
        (video(1)[0], float("nan")),
        (video(1)[0], "now"),
        (video(1)[0], datetime.datetime.now(datetime.UTC)),
        (torch.zeros(4, 4, 3, dtype=torch.bfloat16), 0.0),
    ):
        with pytest.raises(VideoError):
            stream.push(frames, when)
    assert stream.streams == ()
    for ask in (stream.finish, stream.report, stream.summary, stream.remove, stream.reset):
        with pytest.raises(SpecError, match="no stream 'yard'"):
            ask("yard")


def test_a_frame_that_cannot_be_costs_no_other_stream_its_own():
    model = copy.copy(model_of("convgru_tiny"))
    model.preprocessing = zoo.Preprocessing(num_frames=8, fps=8, sampler="consecutive", crop=32)
    frames, when = video(12), times(12, 8)
    wanted = follow(zoo.Stream(model, rate=None), frames, when)
    stream, found = zoo.Stream(model, rate=None), []
    for i in range(12):
        if i == 5:
            with pytest.raises(VideoError, match="yard: a crop of 32x32"):
                stream.push_all({"stream": (frames[i], when[i]), "yard": (video(1, size=(16, 16))[0], 0.0)})
        found += stream.push(frames[i], when[i])
    assert_same(found, wanted, 0)
    assert stream.streams == ("stream",)


# --- all that was said ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["convgru_tiny", "r2plus1d_tiny"])
def test_the_summary_tells_what_happened_when_and_can_be_drawn(name, tmp_path):
    stream = zoo.Stream(model_of(name), rate=4)
    with pytest.raises(SpecError, match="no stream 'stream'"):
        stream.summary()
    found = follow(stream, video(90), times(90, start=50.0))
    whole = stream.summary()
    assert [torch.equal(a.scores, row) for a, (*_, row) in zip(found, whole.windows, strict=True)] == [True] * len(
        found
    )
    assert whole.windows[0][0] == 0 and whole.segments[0].start_s == 0
    assert whole.duration_s == whole.segments[-1].end_s == pytest.approx(found[-1].time_s - 50 + 1 / FPS, abs=0.04)
    assert whole.report == stream.report() and whole.timeline().width == 1200
    stream.save(tmp_path / "streams.safetensors")
    other = zoo.Stream(model_of(name))
    other.restore(tmp_path / "streams.safetensors")
    assert other.summary().segments == whole.segments


def test_a_long_history_has_coarser_entries_of_one_length(monkeypatch):
    monkeypatch.setattr(history, "MOST_WINDOWS", 8)
    kept, said = history.History(), torch.rand(100, 3)
    for i, scores in enumerate(said):
        kept.add(i, i + 1, scores)
        assert len(kept.windows) <= 8
    assert [(a, b) for a, b, _ in kept.windows] == [(i, min(i + 16, 100)) for i in range(0, 100, 16)]
    for start, end, mean in kept.windows:
        assert torch.allclose(mean, said[start:end].mean(0), atol=1e-6)
