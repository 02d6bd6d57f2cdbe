"""The callable of bulk work: a batch of rows in, a table with a row for each out, whatever is wrong with them."""

from __future__ import annotations

import pickle
import threading

import numpy as np
import pyarrow as pa
import pytest
import torch
from bulk_hooks import Hooked, archive, brightness

import zoo
from zoo.bulk import arrow, engine
from zoo.errors import DataError, SpecError, UnknownModel


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """20 files: 15 sound, five broken in five ways."""
    return archive(tmp_path_factory.mktemp("archive") / "videos", 20, corrupt=1)


def test_a_batch_says_what_predict_and_embed_say(videos, tmp_path):
    model, paths = brightness(), sorted(map(str, videos.glob("0*.mp4")))
    for task in ("predict", "embed"):
        predictor = pickle.loads(pickle.dumps(zoo.VideoPredictor(model, task=task)))
        table = predictor({"path": paths, "note": np.arange(len(paths))})
        assert table.schema == arrow.schema_of(task, pa.schema([("note", pa.int64())]))
        assert predictor.schema.names == table.schema.names[:-1]
        for path, row in zip(paths, table.to_pylist(), strict=True):
            assert row["path"] == row["id"] == path and row["note"] == paths.index(path)
            try:
                wanted = model.predict(path) if task == "predict" else model.embed(path)
            except zoo.errors.VideoError as error:
                assert row["status"] == "failed" and row["error_type"] == type(error).__name__
                assert row["error_message"] == str(error)
                assert row["label" if task == "predict" else "embedding"] is None
                continue
            assert row["status"] == "ok" and row["error_type"] is None and row["attempts"] == 1
            if task == "embed":
                assert torch.equal(torch.tensor(row["embedding"]), wanted)
            else:
                assert [(s["label"], pytest.approx(s["score"])) for s in row["top"]] == wanted.top
                assert (row["label"], row["duration_s"]) == (wanted.top[0].label, wanted.duration_s)
    assert {row["status"] for row in table.to_pylist()} == {"ok", "failed"}


def test_bytes_tables_and_batches_are_batches(videos):
    predictor, path = zoo.VideoPredictor(brightness()), min(videos.glob("*-20.mp4"))
    for batch in (
        {"bytes": [path.read_bytes()], "id": ["a"]},
        pa.table({"bytes": [path.read_bytes()], "id": ["a"]}),
        pa.record_batch({"path": [str(path)], "id": ["a"]}),
        {"path": [path], "id": np.array(["a"])},
    ):
        (row,) = predictor(batch).to_pylist()
        assert (row["id"], row["status"], row["label"]) == ("a", "ok", "dark")
    (row,) = predictor({"bytes": [b"nothing"]}).to_pylist()
    assert row["status"] == "failed" and len(row["id"]) == 64
    (row,) = predictor({"path": pa.array([None], pa.string())}).to_pylist()
    assert row["error_type"] == "DataError"
    assert len(predictor({"path": []})) == 0
    for wrong in ({"file": ["a"]}, {"path": ["a"], "status": ["b"]}, {"path": ["a"], "x": [1, 2]}, [1]):
        with pytest.raises(DataError):
            predictor(wrong)


def test_no_exception_of_a_row_comes_out(videos, tmp_path):
    class Fails(Hooked):
        def open(self, row):
            raise MemoryError("too \udcff large")

    (row,) = Fails(tmp_path / "log")({"path": ["a.mp4"]}).to_pylist()
    assert (row["error_type"], row["error_message"]) == ("MemoryError", "too \\udcff large")
    model = brightness()
    model.forward_head = lambda *a: torch.zeros(1)[5]
    (row,) = zoo.VideoPredictor(model)({"path": [str(min(videos.glob("*-20.mp4")))]}).to_pylist()
    assert row["error_type"] == "IndexError"


def test_what_the_answers_depend_on_is_in_the_digests():
    model = brightness()
    first = zoo.VideoPredictor(model).identity
    assert zoo.VideoPredictor(brightness()).identity == first
    assert zoo.VideoPredictor(model, views="fast").identity.preprocessing_digest != first.preprocessing_digest
    with torch.no_grad():
        model.scale += 1
    assert zoo.VideoPredictor(model).identity.weights_digest != first.weights_digest
    named = zoo.VideoPredictor("r2plus1d_tiny.camera_motion")
    assert named.identity.weights_digest == zoo.info("r2plus1d_tiny").weights["camera_motion"].sha256
    assert len(pickle.dumps(named)) < 2000
    with pytest.warns(UserWarning, match="random weights"):
        digests = {zoo.VideoPredictor("videomae_tiny").identity.weights_digest for _ in range(2)}
    assert len(digests) == 1, "the same in every process"


def test_a_model_is_built_once_and_the_next_video_is_decoded_while_it_runs(videos, tmp_path, monkeypatch):
    paths, begun, waited, built = sorted(map(str, videos.glob("*-20.mp4")))[:2], threading.Event(), [], []

    class Watched(Hooked):
        def open(self, row):
            if row["path"] == paths[1]:
                begun.set()
            return super().open(row)

    monkeypatch.setattr("zoo.bulk.predictor.as_model", lambda model, device: built.append(device) or model)
    model = brightness()
    head = model.forward_head
    model.forward_head = lambda *given: waited.append(begun.wait(20)) or head(*given)
    predictor = Watched(tmp_path / "log", model)
    assert [row["status"] for row in predictor({"path": paths}).to_pylist()] == ["ok", "ok"]
    assert waited == [True, True], "the second is opened before the first is done"
    predictor({"path": paths})
    assert len(built) == 1


def test_threads_are_those_that_a_worker_has(monkeypatch):
    asked = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    zoo.VideoPredictor(brightness()).build()
    assert asked == [], "those of the process, where nothing is said"
    predictor = engine.tuned(zoo.VideoPredictor(brightness(), device="cpu"), 4)
    predictor.build()
    assert (asked, predictor.decoders) == ([4], 2)
    fed = engine.tuned(zoo.VideoPredictor(brightness(), device="cuda", threads=3), 4)
    assert (fed.threads, fed.decoders) == (3, 4), "a GPU does not decode"


@pytest.mark.parametrize(
    "options",
    [{"task": "detect"}, {"top_k": 0}, {"threads": 0}, {"decoders": 0}, {"views": (0, 1)}, {"views": "some"}],
    ids=str,
)
def test_wrong_options_are_refused_before_any_row(options):
    with pytest.raises(SpecError):
        zoo.VideoPredictor(brightness(), **options).build()


def test_a_model_that_cannot_do_it_is_refused():
    with pytest.raises(UnknownModel):
        zoo.VideoPredictor("r3d_81")
    model = brightness()
    model.num_classes = 0
    with pytest.raises(SpecError, match="no classifier"):
        zoo.VideoPredictor(model).build()
    with pytest.raises(SpecError, match="next_frame"):
        model = brightness()
        model.spec = zoo.ModelSpec(name="next", builder="a:b", task="next_frame")
        zoo.VideoPredictor(model).build()
