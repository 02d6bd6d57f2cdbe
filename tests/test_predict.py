"""predict executes the protocol, embed and load_clips see the same tensors, and one bad file stops nobody."""

from __future__ import annotations

import io
import json
import math
import pickle
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import zoo
from zoo.errors import GeometryError, SpecError, VideoError, VideoOpenError, WeightsMismatch
from zoo.tasks.classification import aggregate, merge, sliding
from zoo.video import write_video
from zoo.video.clips import Views

FPS = 10
LABELS = ("dark", "bright")


class Brightness(zoo.VideoModel):
    """Logits are -/+ the mean of the clip: what comes out says exactly what went in."""

    def __init__(self) -> None:
        super().__init__()
        self.num_features, self.num_classes = 3, 2
        self.scale = nn.Parameter(torch.tensor(1.0))
        self.seen: list[tuple[int, ...]] = []

    def forward_features(self, clip: Tensor) -> Tensor:
        self.seen.append(tuple(clip.shape))
        return clip

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        pooled = features.mean((2, 3, 4))
        bright = self.scale * pooled.mean(1)
        return pooled if pre_logits else torch.stack([-bright, bright], 1)


@pytest.fixture
def model() -> Brightness:
    model = Brightness().eval()
    model.preprocessing = zoo.Preprocessing(
        num_frames=4, sampler="consecutive", resize=16, crop=16, mean=(0.5,) * 3, std=(0.1,) * 3, clips=3, crops=3
    )
    model.labels = LABELS
    return model


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    """Four seconds: two dark, one bright, one dark; brighter to the right."""
    level = np.repeat([20, 230, 20], [20, 10, 10])[:, None, None, None]
    ramp = np.linspace(0, 20, 48)[None, None, :, None]
    return np.broadcast_to((level + ramp), (40, 32, 48, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def path(tmp_path_factory, frames):
    path = tmp_path_factory.mktemp("clips") / "lights.mkv"
    write_video(path, frames, fps=FPS, codec="ffv1", pix_fmt="bgr0")  # lossless
    return path


def test_the_answer_is_what_the_protocol_says_computed_by_hand(model, path):
    clips = zoo.load_clips(model, path)
    assert clips.data.shape == (9, 3, 4, 16, 16)
    assert clips.data.dtype == torch.float32
    expected = model(clips.data).softmax(-1).mean(0)
    prediction = zoo.predict(model, path, top_k=2)
    torch.testing.assert_close(prediction.scores, expected)
    assert [s.label for s in prediction.top] == sorted(LABELS, key=lambda x: -expected[LABELS.index(x)])
    assert prediction.duration_s == pytest.approx(4.0)
    assert prediction.video == str(path)
    assert prediction.segments == []
    assert prediction.ok


def test_the_clip_is_the_frames_resized_cropped_and_normalised(model, path, frames):
    clips = zoo.load_clips(model, path, views=(2, 3))
    assert clips.indices[0] == [0, 1, 2, 3]
    assert clips.indices[-1] == [36, 37, 38, 39]
    assert clips.times_s[-1] == pytest.approx([3.6, 3.7, 3.8, 3.9])
    assert clips.crops[:3] == [(0, 0, 16, 16), (0, 4, 16, 16), (0, 8, 16, 16)]
    resized = zoo.video.read_frames(path, [36, 37, 38, 39], size=16).data
    by_hand = (torch.from_numpy(resized[:, :, 8:24]).permute(3, 0, 1, 2) / 255 - 0.5) / 0.1
    torch.testing.assert_close(clips.data[5], by_hand, rtol=0, atol=1e-5)
    assert clips.report == {"n_frames": 40, "duration_s": pytest.approx(4), "fps": pytest.approx(10), "repeated": False}


def test_path_bytes_file_array_tensor_and_images_give_one_answer(model, path, frames):
    from PIL import Image

    expected = zoo.predict(model, path).scores
    images = [Image.fromarray(frame) for frame in frames]
    same = [
        zoo.predict(model, str(path)),
        zoo.predict(model, path.read_bytes()),
        zoo.predict(model, io.BytesIO(path.read_bytes())),
        zoo.predict(model, frames, fps=FPS),
        zoo.predict(model, torch.tensor(frames), fps=FPS),
        zoo.predict(model, images, fps=FPS),
        zoo.predict(model, list(frames), fps=FPS),
    ]
    for prediction in same:
        torch.testing.assert_close(prediction.scores, expected)
    assert [p.video for p in same[1:]] == ["<bytes>", "<file>", "<array>", "<array>", "<images>", "<images>"]


def test_views_are_card_fast_or_given(model, path):
    for views, count in (("card", 9), ("fast", 1), ((2, 1), 2), ((1, 3), 3)):
        assert len(zoo.load_clips(model, path, views=views)) == count
    assert zoo.load_clips(model, path, views="fast").indices == [[18, 19, 20, 21]]
    for views in ("all", (0, 1), (1, 2), (1,), 3):
        with pytest.raises(SpecError, match="views"):
            zoo.load_clips(model, path, views=views)


def test_any_batch_size_gives_the_same_answer(model, path, monkeypatch):
    expected = zoo.predict(model, path).scores
    assert model.seen[-1][0] == 9
    batches = Views.batches
    monkeypatch.setattr(Views, "batches", lambda self: batches(self, limit_bytes=4 * 3 * 4 * 16 * 16 * 4))
    torch.testing.assert_close(zoo.predict(model, path).scores, expected)
    assert [shape[0] for shape in model.seen[-3:]] == [4, 4, 1]


def test_windows_say_what_happens_when(model, path):
    prediction = zoo.predict(model, path, window=1.0, stride=0.5, views="fast")
    assert len(prediction.windows) == 7
    found = [(s.label, s.start_s, s.end_s) for s in prediction.segments]
    assert [label for label, *_ in found] == ["dark", "bright", "dark"]
    assert found[0][1] == 0
    assert found[-1][2] == pytest.approx(4)
    assert all(a[2] == b[1] for a, b in pairwise(found)), "no gap, no overlap"
    assert found[1][1] == pytest.approx(2, abs=0.3)
    assert found[1][2] == pytest.approx(3, abs=0.3)
    torch.testing.assert_close(prediction.scores, torch.stack([w[2] for w in prediction.windows]).mean(0))


def test_windows_decode_each_frame_once_and_drop_what_is_past(model, path, monkeypatch):
    from zoo.video import footage

    asked = []
    original = footage._File.frames
    monkeypatch.setattr(footage._File, "frames", lambda self, w, p: asked.append(list(w)) or original(self, w, p))
    zoo.predict(model, path, window=1.0, stride=0.1)
    assert len(asked) == 1
    assert asked[0] == sorted(set(asked[0]))


@pytest.mark.parametrize(
    ("duration", "window", "stride", "expected"),
    [
        (4.0, 1.0, None, [(0, 1), (1, 2), (2, 3), (3, 4)]),
        (4.0, None, 2.0, [(0, 2), (2, 4)]),
        (2.5, 1.0, 1.0, [(0, 1), (1, 2), (1.5, 2.5)]),
        (0.5, 1.0, 1.0, [(0, 0.5)]),
        (1.0, 1.0, 0.1, [(0, 1)]),
    ],
)
def test_windows_cover_the_whole_video(duration, window, stride, expected):
    np.testing.assert_allclose(sliding(duration, window, stride), expected)


def test_too_many_windows_are_refused_at_once():
    with pytest.raises(SpecError, match="more than 100000 windows"):
        sliding(3600.0, 1.0, 1e-5)


@pytest.mark.parametrize(
    ("window", "stride"), [(1, 2), ("1", 1), (0, 1), (1, 0), (-1, 1), (math.nan, 1), (math.inf, 1)]
)
def test_impossible_windows_raise(window, stride):
    with pytest.raises(SpecError, match="seconds"):
        sliding(4.0, window, stride)


def test_segments_of_equal_neighbours_are_one():
    a, b = torch.tensor([0.9, 0.1]), torch.tensor([0.2, 0.8])
    found = merge([(0, 2, a), (1, 3, a), (2, 4, b)], LABELS, 4.0)
    assert [(s.start_s, s.end_s, s.label) for s in found] == [(0, 2.5, "dark"), (2.5, 4, "bright")]
    assert found[0].score == pytest.approx(0.9)


def test_aggregations_differ_and_are_what_they_say():
    logits = torch.tensor([[4.0, 0.0], [0.0, 1.0]])

    def protocol(**fields):
        return zoo.Preprocessing(num_frames=1, **fields)

    by_probability = aggregate(logits, protocol())
    by_logit = aggregate(logits, protocol(aggregation="logit_mean"))
    torch.testing.assert_close(by_probability, logits.softmax(-1).mean(0))
    torch.testing.assert_close(by_logit, logits.mean(0).softmax(-1))
    assert not torch.allclose(by_probability, by_logit)
    torch.testing.assert_close(aggregate(logits, protocol(activation="sigmoid")), logits.sigmoid().mean(0))
    torch.testing.assert_close(aggregate(logits, protocol(activation="none")), logits.mean(0))


def test_a_list_streams_in_order_and_survives_a_bad_file(model, path, tmp_path):
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"not a video")
    results = zoo.predict(model, [path, bad, str(path)])
    first = next(results)
    assert first.ok
    assert len(model.seen) == 1, "the second video has not been looked at yet"
    second, third = results
    assert not second.ok
    assert second.top == []
    assert isinstance(second.error, VideoOpenError)
    assert third.ok
    assert list(zoo.predict(model, [])) == []
    assert len(list(zoo.predict(model, (p for p in [path, path])))) == 2
    with pytest.raises(VideoOpenError):
        zoo.predict(model, bad)


def test_nothing_that_a_list_holds_stops_it(model, path):
    results = list(zoo.predict(model, [path, [], None, 3.5, b"", path]))
    assert [r.ok for r in results] == [True, False, False, False, False, True]
    assert zoo.predict(model, path, top_k=np.int64(1), views=(np.int64(1), 1)).ok
    with pytest.raises(TypeError, match=r"zoo\.VideoModel"):
        zoo.predict(nn.Linear(1, 1), path)


def test_a_wrong_option_raises_even_in_a_list(model, path):
    with pytest.raises(SpecError, match="views"):
        list(zoo.predict(model, [path], views="all"))
    with pytest.raises(SpecError, match="top_k"):
        list(zoo.predict(model, [path], top_k=0))


def test_to_dict_is_the_json_of_the_command_line(model, path, tmp_path):
    data = zoo.predict(model, path, window=1.0).to_dict()
    assert list(data) == ["video", "model", "weights", "duration_s", "top", "segments"]
    assert list(data["top"][0]) == ["label", "score"]
    assert list(data["segments"][0]) == ["start_s", "end_s", "label", "score"]
    assert data["weights"] is None
    assert json.loads(json.dumps(data)) == data
    failed = next(zoo.predict(model, [tmp_path / "none.mp4"])).to_dict()
    assert list(failed) == ["video", "error"]
    assert failed["error"]["type"] == "VideoOpenError"


def test_a_prediction_shows_itself(model, path):
    prediction = zoo.predict(model, path, window=2.0)
    text = str(prediction)
    assert "lights.mkv" in text
    assert "dark" in text
    assert "random weights" in text
    hostile = zoo.Prediction(video="<script>", model="m", weights="t", top=[zoo.predict(model, path).top[0]])
    assert "<script>" not in hostile._repr_html_()
    assert "&lt;script&gt;" in hostile._repr_html_()
    assert "<table" in hostile._repr_html_()


def test_labels_of_another_length_are_refused(model, path):
    model.labels = ("only one",)
    with pytest.raises(WeightsMismatch, match="2 scores but has 1 labels"):
        zoo.predict(model, path)
    model.labels = None
    assert {s.label for s in zoo.predict(model, path).top} == {"class_0", "class_1"}


def test_windows_shorter_than_a_clip_say_that_frames_are_repeated(model, path):
    assert not zoo.predict(model, path, window=1.0).repeated
    short = zoo.predict(model, path, window=0.1)
    assert short.repeated
    assert "frames are repeated" in str(short)


def test_a_short_video_follows_the_policy(model, frames):
    clips = zoo.load_clips(model, frames[:2], fps=FPS, views="fast")
    assert clips.indices == [[0, 1, 1, 1]]
    assert clips.report["repeated"]


def test_a_clip_that_does_not_fit_the_model_raises_before_it_runs(model, path):
    model.geometry = zoo.Geometry(frames=8)
    with pytest.raises(GeometryError, match="4 frames instead of 8"):
        zoo.predict(model, path)
    assert model.seen == []
    assert not next(zoo.predict(model, [path])).ok


@pytest.mark.parametrize(
    ("video", "options", "hint"),
    [
        (np.zeros((4, 8, 8, 3), np.uint8), {}, "fps=30"),
        (np.zeros((4, 8, 8, 3), np.float32), {"fps": 10}, "uint8"),
        (np.zeros((4, 3, 8, 8), np.uint8), {"fps": 10}, "permute"),
        (np.zeros((0, 8, 8, 3), np.uint8), {"fps": 10}, "at least one"),
        (np.zeros((8, 8, 3), np.uint8), {"fps": 10}, "RGB"),
        (np.zeros((4, 8, 8, 3), np.uint8), {"fps": "30"}, "fps=30"),
        (np.zeros((4, 8, 8, 3), np.uint8), {"fps": 1e-9}, "fps=30"),
        ([np.zeros((8, 8), np.uint8)] * 2, {"fps": 10}, "RGB"),
        (3.5, {}, "a path"),
        (None, {}, "a path"),
    ],
)
def test_what_is_not_a_video_says_what_to_give(model, video, options, hint):
    with pytest.raises(VideoError, match=hint):
        zoo.load_clips(model, video, **options)


def test_images_of_different_sizes_are_refused(model):
    with pytest.raises(VideoError, match="one size"):
        zoo.predict(model, [np.zeros((8, 8, 3), np.uint8), np.zeros((8, 9, 3), np.uint8)], fps=10)


def test_predict_leaves_the_model_as_it_was(model, path):
    model.train()
    model.frozen = nn.BatchNorm3d(1).eval()
    prediction = model.predict(path)
    assert model.training
    assert not model.frozen.training
    assert model.scale.requires_grad
    assert prediction.scores.sum() == pytest.approx(1)


def test_what_comes_out_can_be_trained_on(model, path):
    features = zoo.embed(model, path)
    probe = nn.Linear(3, 2)
    probe(features).sum().backward()
    assert probe.weight.grad is not None
    zoo.predict(model, path).scores.add_(1)


def test_frame_embeddings_of_a_square_video_average_equal_crops(model, frames):
    assert zoo.embed(model, frames[:, :, :32], fps=FPS, level="frame").shape == (12, 3)


def test_embeddings_at_every_level(model, path):
    clips = zoo.load_clips(model, path).data
    pooled = clips.mean((3, 4))  # [V, 3, T]
    torch.testing.assert_close(zoo.embed(model, path), pooled.mean(2).mean(0))
    frames = zoo.embed(model, path, level="frame")
    assert frames.shape == (12, 3), "three clips of four steps"
    torch.testing.assert_close(frames, pooled.unflatten(0, (3, 3)).mean(1).transpose(1, 2).reshape(12, 3))
    torch.testing.assert_close(
        zoo.embed(model, path, level="map", views="fast"), zoo.load_clips(model, path, views="fast").data
    )
    torch.testing.assert_close(model.embed(path), zoo.embed(model, path))
    with pytest.raises(SpecError, match="clip, frame, map"):
        zoo.embed(model, path, level="video")
    with pytest.raises(SpecError, match="one video at a time"):
        zoo.embed(model, [path])


def test_a_name_without_weights_runs_with_a_warning(path):
    with zoo.testing.isolated():
        zoo.register(zoo.ModelSpec(name="tiny", builder="models:tiny", preprocessing=zoo.Preprocessing(num_frames=4)))
        with pytest.warns(UserWarning, match="local/tiny has no published weights") as caught:
            prediction = zoo.predict("local/tiny", path)
        assert caught[0].filename == __file__
        assert prediction.to_dict()["weights"] is None
        assert prediction.model == "local/tiny"


def test_without_a_protocol_the_error_says_what_to_set(model, path):
    model.preprocessing = None
    with pytest.raises(SpecError, match=r"set model\.preprocessing"):
        zoo.predict(model, path)
    with pytest.raises(SpecError, match="no task is called"):
        model.spec = zoo.ModelSpec(name="a", builder="x:y", task="weather")
        zoo.predict(model, path)


def test_a_dataset_gives_what_predict_sees_in_any_loader(model, path, tmp_path):
    dataset = zoo.VideoDataset([path, path], [0, 1], model)
    clip, label = dataset[1]
    assert label == 1
    assert torch.equal(clip, zoo.load_clips(model, path, views="fast").data[0])
    loader = torch.utils.data.DataLoader(dataset, batch_size=2, num_workers=2)
    clips, labels = next(iter(loader))
    assert clips.shape == (2, 3, 4, 16, 16)
    assert labels.tolist() == [0, 1]
    assert zoo.VideoDataset([path], [0], model, views="card")[0][0].shape == (9, 3, 4, 16, 16)
    with pytest.raises(SpecError, match="2 paths and 1 labels"):
        zoo.VideoDataset([path, path], [0], model)
    with pytest.raises(VideoOpenError):
        zoo.VideoDataset([tmp_path / "none.mp4"], [0], model)[0]


def test_errors_survive_the_way_out_of_a_worker():
    error = VideoOpenError("a.mp4: no such file", hint="check the path", source="a.mp4", reason="no such file")
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error) == "a.mp4: no such file: check the path"
    assert (again.hint, again.source, again.reason) == ("check the path", "a.mp4", "no such file")
