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


def test_a_name_that_is_not_unicode_is_opened_and_shown_escaped(videos, tmp_path):
    odd = tmp_path / "caf\udce9.mp4"
    odd.write_bytes(min(videos.glob("*-20.mp4")).read_bytes())
    predictor = zoo.VideoPredictor(brightness())
    for path in (str(odd), odd, f"{tmp_path}/caf\\udce9.mp4"):
        (row,) = predictor({"path": [path], "note": ["\udce9"]}).to_pylist()
        assert (row["status"], row["id"], row["note"]) == ("ok", f"{tmp_path}/caf\\udce9.mp4", "\\udce9"), row
    rows = predictor({"path": ["a\ud800.mp4", "gone\udce9.mp4"]}).to_pylist()
    assert [(row["status"], row["path"]) for row in rows] == [("failed", "a\\ud800.mp4"), ("failed", "gone\\udce9.mp4")]
    for unlike in ({"path": ["a"], "x": [["\udce9"]]}, {"path": ["a"], "x": [2**70]}, {"path": ["a"], "bytes": [1]}):
        with pytest.raises(DataError):
            predictor(unlike)


def test_bytes_without_a_path_to_speak_of_have_ids_of_their_own():
    first, second = zoo.VideoPredictor(brightness())({"path": ["", ""], "bytes": [b"a", b"b"]}).to_pylist()
    assert len(first["id"]) == 64 and first["id"] != second["id"] and first["path"] is None


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

    monkeypatch.setattr("zoo.bulk.predictor.as_model", lambda model, device, features: built.append(device) or model)
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
    assert (fed.threads, fed.decoders) == (4, 4), "what the run says wins; a GPU does not decode"


def test_a_name_goes_to_the_gpu_and_what_is_at_hand_stays(tmp_path, monkeypatch):
    """In the process that plans a run and in those that do it."""
    exported = tmp_path / "exported"
    exported.mkdir()
    (exported / "export.json").write_text("{}")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(engine, "cpus", lambda: 6)
    asked = []
    monkeypatch.setattr("zoo.bulk.predictor.as_model", lambda model, device, features: asked.append(device) or made)
    made = brightness()
    for model, device, wanted, workers in (
        ("r2plus1d_tiny", None, "cuda", 4),
        ("r2plus1d_tiny", "cuda:1", "cuda:1", 1),
        ("r2plus1d_tiny", "cpu", "cpu", 6),
        (f"local-dir:{exported}", None, "cpu", 6),
        (made, None, "cpu", 6),
        (made, "cuda", "cuda", 4),
    ):
        predictor = zoo.VideoPredictor(model, device=device)
        predictor.build()
        assert asked.pop() == (None if model is made and device is None else wanted)
        assert predictor.runs_on(gpu=True) == wanted
        assert engine.default_workers(predictor, None) == workers
        assert engine.tuned(predictor, 4).decoders == (4 if wanted.startswith("cuda") else 2)
    assert zoo.VideoPredictor("r2plus1d_tiny").runs_on(gpu=False) == "cpu"
    assert engine.default_workers(zoo.VideoPredictor(made), 3) == 2
    assert engine.default_workers(zoo.VideoPredictor(made), 60) == 1


@pytest.mark.parametrize(
    "options",
    [{"task": "detect"}, {"top_k": 0}, {"threads": 0}, {"decoders": 0}, {"views": (0, 1)}, {"views": "some"}],
    ids=str,
)
def test_wrong_options_are_refused_before_any_row(options):
    with pytest.raises(SpecError):
        zoo.VideoPredictor(brightness(), **options).build()


def test_weights_without_a_classifier_are_embedded(videos, monkeypatch):
    model = brightness()
    model.num_classes = 0
    monkeypatch.setattr("zoo.factory.create", lambda *given, **options: model)  # nothing is fetched here
    name, paths = "frames_vit_small.augreg_in21k_ft_in1k", [str(min(videos.glob("*-20.mp4")))]
    (row,) = zoo.VideoPredictor(name, task="embed")({"path": paths}).to_pylist()
    assert row["status"] == "ok" and len(row["embedding"]) == 3
    with pytest.raises(SpecError, match="has no classifier"):
        zoo.VideoPredictor(name).build()


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
