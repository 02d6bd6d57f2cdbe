"""Bulk work without processes: every row of a list becomes one row of the table, whatever is in it."""

from __future__ import annotations

import csv
import resource
import sys
from collections import Counter, deque
from itertools import islice
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from bulk_hooks import KINDS, Hooked, archive, brightness, computed, rows
from click.testing import CliRunner

import zoo
from zoo.bulk import arrow, folder, parts, run
from zoo.bulk.arrow import OK
from zoo.cli import commands
from zoo.errors import BatchError, DataError, SpecError


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """20 rows: 15 sound, five broken in five ways. And what is no row."""
    folder = archive(tmp_path_factory.mktemp("archive") / "videos", 20, corrupt=1)
    (folder / ".hidden.mp4").write_bytes(b"")
    (folder / "notes.md").write_text("no video")
    return folder


@pytest.fixture
def inline(monkeypatch):
    """The engine without processes. `fails` may raise between rows."""

    def engine(predictor, work, fails=lambda n: None):
        written = work.parts()
        try:
            todo = iter(work.rows)
            for n, row in enumerate(todo):
                fails(n)
                (result,) = predictor.results([row])
                written.add({k: v for k, v in row.items() if k not in ("id", "path", "bytes")} | result)
                written.commit(whether_due=True)
                yield Counter([result["error_type"] or OK])
        finally:
            written.commit()

    monkeypatch.setattr(run, "run_local", engine)
    return engine


@pytest.fixture
def batch(inline, tmp_path):
    def batch(source, out="out", **options):
        predictor = options.pop("model", None) or Hooked(tmp_path / "log")
        said = []
        summary = zoo.batch(source, tmp_path / out, model=predictor, tell=said.append, **options)
        return summary, "\n".join(said)

    return batch


# --- the list ---------------------------------------------------------------------------------------------------------


def test_every_kind_of_list_gives_the_same_rows(videos, batch, tmp_path):
    names = sorted(path.name for path in videos.glob("0*.mp4"))
    (tmp_path / "list.txt").write_text("\n".join(f"{videos}/{name}" for name in names) + "\n\n")
    with (tmp_path / "list.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([["path", "note"], *([f"{videos}/{name}", f"n, {name}"] for name in names)])
    whole = [(videos / name).read_bytes() for name in names]
    pq.write_table(pa.table({"path": names, "size": range(20)}), videos / "list.parquet")
    pq.write_table(pa.table({"id": range(20), "bytes": whole}), tmp_path / "whole.parquet")
    sources = {
        "folder": videos,
        "glob": f"{videos}/0*.mp4",
        "text": tmp_path / "list.txt",
        "csv": tmp_path / "list.csv",
        "parquet": videos / "list.parquet",
        "whole": tmp_path / "whole.parquet",
        "paths": [videos / name for name in names],
    }
    found = {}
    for kind, source in sources.items():
        summary, said = batch(source, kind, part_rows=7)
        assert (summary.rows, summary.ok, summary.failed, summary.skipped) == (20, 15, 5, 0), said
        table = pq.read_table(tmp_path / kind / "parts").to_pylist()
        found[kind] = [(row["status"], row["label"], row["score"]) for row in table]
        assert len([*(tmp_path / kind / "parts").iterdir()]) == 3
        if kind == "csv":
            assert [row["note"] for row in table] == [f"n, {name}" for name in names]
        if kind == "parquet":
            assert [row["size"] for row in table] == [*range(20)] and table[0]["id"] == names[0]
        if kind == "whole":
            assert [row["id"] for row in table] == [*map(str, range(20))] and table[0]["path"] is None
    assert all(rows == found["folder"] for rows in found.values())
    with (tmp_path / "csv" / "errors.csv").open() as stream:
        errors = [*csv.DictReader(stream)]
    assert Counter(e["error_type"] for e in errors) == {"VideoOpenError": 4, "NoVideoStreamError": 1}
    assert all(e["path"] in e["error_message"] and e["attempts"] == "1" for e in errors)
    assert sorted(e["path"] for e in errors) == sorted(str(p) for k in KINDS for p in videos.glob(f"*-{k}.mp4"))


def test_lists_that_cannot_be_used_are_refused_by_name(batch, videos, tmp_path):
    files = {
        "none.csv": "name\nx\n",
        "void.csv": "path,note\n,x\n",
        "long.csv": "path\na.mp4,b\n",
        "twice.csv": "path,note,note\na,b,c\n",
        "taken.csv": "path,status\na,b\n",
        "binary.txt": b"\xff\xfe\xff",
        "broken.parquet": "PAR1",
        "empty.txt": "\n",
        "what.doc": "x",
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        with pytest.raises(DataError):
            batch(tmp_path / name, name + ".out")
    (tmp_path / "no_videos").mkdir()
    for source in (tmp_path / "missing", tmp_path / "no_videos", f"{tmp_path}/*.mp4", []):
        with pytest.raises(DataError):
            batch(source, "other")
    assert not computed(tmp_path / "log")


def test_a_name_that_is_not_unicode_is_a_row(batch, videos, tmp_path):
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "caf\udce9.mp4").write_bytes(min(videos.glob("*-20.mp4")).read_bytes())
    (tmp_path / "odd" / "caf\udcea.mp4").write_bytes(b"")
    summary, _ = batch(tmp_path / "odd")
    assert (summary.rows, summary.ok, summary.failed) == (2, 1, 1)
    assert [row["id"] for row in rows(tmp_path / "out")] == ["caf\\udce9.mp4", "caf\\udcea.mp4"]


# --- going on ---------------------------------------------------------------------------------------------------------


def test_what_is_there_is_not_computed_again(batch, videos, tmp_path):
    paths = sorted(videos.glob("0*.mp4"))
    summary, said = batch([*paths[:8], *paths[:2]])
    assert (summary.rows, summary.skipped, summary.left) == (10, 2, 0) and "2 rows repeat an id" in said
    with pytest.raises(SpecError, match="resume"):
        batch(paths)
    summary, said = batch(paths[3:], resume=True)
    assert summary.skipped == 5 and summary.ok + summary.failed == 12
    assert "12 videos are new, 3 are gone" in said
    assert sorted(computed(tmp_path / "log")) == [path.name for path in paths]
    assert [row["id"] for row in rows(tmp_path / "out")] == [*map(str, paths)]
    summary, said = batch(paths, resume=True)
    assert (summary.ok, summary.failed, summary.skipped) == (0, 0, 20) and summary.errors
    summary, said = batch(paths, resume=True, retry_failed=True)
    assert (summary.ok, summary.failed, summary.skipped) == (0, 5, 15) and "5 failed rows are tried again" in said
    assert len(rows(tmp_path / "out")) == 20


def test_only_failed_rows_that_are_still_listed_are_tried_again(batch, videos, tmp_path):
    paths = sorted(videos.glob("0*.mp4"))
    batch(paths, part_rows=3)
    whole = rows(tmp_path / "out")
    void = tmp_path / "void.csv"
    void.write_text('path\n""\n')
    for refused in (void, f"{tmp_path}/*.avi"):
        with pytest.raises(DataError):
            batch(refused, resume=True, retry_failed=True)
        assert rows(tmp_path / "out") == whole
    gone = [path for path in paths if path.stem.endswith(("empty", "text"))]
    left = [path for path in paths if path not in gone]
    summary, said = batch(left, resume=True, retry_failed=True)
    assert (summary.ok, summary.failed, summary.skipped) == (0, 3, 15) and "3 failed rows are tried again" in said
    assert "2 are gone and keep the rows they have" in said
    assert rows(tmp_path / "out") == whole


def test_a_damaged_list_of_the_last_run_is_named(batch, videos, tmp_path):
    batch(videos)
    (tmp_path / "out" / "input.parquet").write_bytes(b"PAR1")
    with pytest.raises(BatchError, match=r"input.parquet cannot be read.*remove it"):
        batch(videos, resume=True)
    (tmp_path / "out" / "input.parquet").unlink()
    assert batch(videos, resume=True)[0].skipped == 20


def test_a_folder_of_another_run_is_refused(batch, videos, tmp_path):
    paths = sorted(videos.glob("0*.mp4"))[:2]
    batch(paths)
    model = brightness()
    with torch.no_grad():
        model.scale += 1
    log = tmp_path / "log"
    for other, what in (
        (Hooked(log, model), "weights_digest"),
        (Hooked(log, views="fast"), "preprocessing_digest"),
        (Hooked(log, task="embed"), "task"),
        (Hooked(log, top_k=1), "top_k"),
    ):
        with pytest.raises(SpecError, match=what):
            batch(paths, model=other, resume=True)
    (part,) = (tmp_path / "out" / "parts").iterdir()
    table = pq.read_table(part)
    foreign = table.set_column(table.schema.get_field_index("weights_digest"), "weights_digest", pa.array(["x"] * 2))
    pq.write_table(foreign, part)
    with pytest.raises(BatchError, match="another weights_digest"):
        batch(paths, resume=True)
    part.write_bytes(b"PAR1")
    with pytest.raises(BatchError, match=r"cannot be read.*remove it"):
        batch(paths, resume=True)


def test_rows_of_one_table_have_the_same_columns(batch, videos, tmp_path):
    paths = sorted(videos.glob("0*.mp4"))[:2]
    listed = tmp_path / "list.csv"
    listed.write_text(f"path,note\n{paths[0]},a\n")
    batch(listed)
    assert batch(listed, resume=True)[0].skipped == 1
    listed.write_text(f"path,note,more\n{paths[0]},a,b\n{paths[1]},a,b\n")
    with pytest.raises(SpecError, match="other columns than this list has: more"):
        batch(listed, resume=True)
    pq.write_table(pa.table({"path": [str(paths[0])], "note": [1]}), tmp_path / "list.parquet")
    with pytest.raises(SpecError, match="another type"):
        batch(tmp_path / "list.parquet", resume=True)


def test_threads_are_those_of_the_run_or_else_of_the_predictor(batch, inline, videos, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(run, "run_local", lambda *given: asked.append(given[1].threads) or inline(*given))
    for i, (own, of_run) in enumerate(((None, None), (4, None), (None, 1), (4, 1))):
        batch([min(videos.glob("0*.mp4"))], str(i), model=Hooked(tmp_path / "log", threads=own), threads=of_run)
    assert asked == [None, 4, 1, 1]


def test_two_runs_do_not_share_a_folder(batch, videos, tmp_path):
    with folder.Folder(tmp_path / "out").ours(), pytest.raises(SpecError, match="another run"):
        batch(videos)


def test_rows_that_do_not_add_up_are_an_error(batch, videos, tmp_path, monkeypatch):
    paths = sorted(videos.glob("0*.mp4"))
    kept = parts.Parts.add
    for wrong, what in (
        (lambda self, row: None if row["id"].endswith("00003-230.mp4") else kept(self, row), "1 have no row"),
        (lambda self, row: [kept(self, row), kept(self, row)], "20 have several"),
        (lambda self, row: kept(self, row | {"id": row["id"] + "x"}), "20 rows are of no video"),
    ):
        monkeypatch.setattr(parts.Parts, "add", wrong)
        with pytest.raises(BatchError, match=what):
            batch(paths, what)


def test_a_run_with_too_many_errors_stops_and_keeps_what_it_did(batch, videos, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "FIRST", 10)
    bad = sorted(p for kind in KINDS for p in videos.glob(f"*-{kind}.mp4"))
    good = sorted(videos.glob("*0.mp4"))
    with pytest.raises(BatchError, match=r"max_error_rate=0\.4"):
        batch([*bad, *good], max_error_rate=0.4)
    assert len(rows(tmp_path / "out")) == 10
    summary, _ = batch([*bad, *good], resume=True, max_error_rate=0.4)
    assert summary.ok == 10 and len(rows(tmp_path / "out")) == 20


def test_a_run_that_was_to_stop_says_so_even_if_what_was_under_way_ends_well(batch, videos, tmp_path, monkeypatch):
    under_way = 6

    def ahead(predictor, work):
        written, todo = work.parts(), iter(work.rows)
        taken = deque(islice(todo, under_way))
        while taken:
            row = taken.popleft()
            (result,) = predictor.results([row])
            written.add(result)
            yield Counter([result["error_type"] or OK])
            taken.extend(islice(todo, 1))
        written.commit()

    monkeypatch.setattr(run, "FIRST", 10)
    monkeypatch.setattr(run, "run_local", ahead)
    bad = sorted(p for kind in KINDS for p in videos.glob(f"*-{kind}.mp4"))
    paths = [*bad, *sorted(videos.glob("*0.mp4"))]
    with pytest.raises(BatchError, match=r"5 of 10 failed, more than max_error_rate=0\.4"):
        batch(paths, max_error_rate=0.4)
    assert len(rows(tmp_path / "out")) == 15, "5 of which failed, but 5 rows are left"
    under_way = 20
    assert batch(paths, "all", max_error_rate=0.4)[0].left == 0, "no row was left out"


def test_what_the_disk_has_no_room_for_is_not_counted(batch, inline, videos, tmp_path, monkeypatch):
    """Not the next part, nor errors.csv."""
    bad = sorted(p for kind in KINDS for p in videos.glob(f"*-{kind}.mp4"))
    paths, most = [*bad, *sorted(videos.glob("*0.mp4"))], resource.getrlimit(resource.RLIMIT_FSIZE)

    def full(n=5):
        if n == 5:
            resource.setrlimit(resource.RLIMIT_FSIZE, (400, most[1]))

    said = []
    monkeypatch.setattr(run, "run_local", lambda *given: inline(*given, fails=full))
    options = {"model": Hooked(tmp_path / "log"), "tell": said.append, "part_rows": 5}
    try:
        with pytest.raises(BatchError, match=r"part-000001.parquet cannot be written: File too large.*resume"):
            zoo.batch(paths, tmp_path / "out", **options)
        assert "0 ok, 5 failed, 0 skipped, 15 left, of 20 rows" in said[-1]
        with pytest.raises(BatchError, match=r"cannot be written: .*File too large"):
            zoo.batch(paths, tmp_path / "other", **options)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, most)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [".lock", "input.parquet", "parts", "run.json"]
    monkeypatch.setattr(run, "run_local", inline)
    summary, _ = batch(paths, resume=True)
    assert (summary.ok, summary.skipped) == (15, 5) and len(rows(tmp_path / "out")) == 20


def test_a_full_disk_and_a_stop_lose_nothing(batch, inline, videos, tmp_path, monkeypatch):
    import signal

    monkeypatch.setattr(
        run, "run_local", lambda *given: inline(*given, fails=lambda n: n == 6 and signal.raise_signal(signal.SIGTERM))
    )
    summary, said = batch(videos, part_rows=4)
    assert summary.stopped == signal.SIGTERM and summary.left == 13 and "13 left" in said
    assert len(rows(tmp_path / "out")) == 7

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(run, "run_local", inline)
    with monkeypatch.context() as patch:
        patch.setattr(arrow.arrow().parquet, "write_table", full)
        with pytest.raises(BatchError, match="No space left"):
            batch(videos, part_rows=4, resume=True)
    assert [p.suffix for p in (tmp_path / "out" / "parts").iterdir()] == [".parquet"] * 2
    killed = [tmp_path / "out" / name for name in ("parts/.part-000002.parquet.123", ".input.parquet.123")]
    for half in killed:
        half.write_bytes(b"PAR1")
    summary, _ = batch(videos, resume=True)
    assert summary.skipped == 7 and len(rows(tmp_path / "out")) == 20
    assert not any(half.exists() for half in killed), "what a run that was killed had begun to write"


def test_an_engine_that_breaks_says_what_was_done(inline, videos, tmp_path, monkeypatch):
    def breaks(n):
        if n == 6:
            raise RuntimeError("a bug")

    monkeypatch.setattr(run, "run_local", lambda *given: inline(*given, fails=breaks))
    said = []
    with pytest.raises(RuntimeError, match="a bug"):
        zoo.batch(videos, tmp_path / "out", model=Hooked(tmp_path / "log"), tell=said.append)
    assert "14 left, of 20 rows" in said[-1] and len(rows(tmp_path / "out")) == 6
    assert (tmp_path / "out" / "errors.csv").is_file()


def test_progress_is_a_rate_and_the_time_left(monkeypatch):
    times, seen = iter([0.0, 100.0, 110.0]), []
    monkeypatch.setattr(run, "time", SimpleNamespace(monotonic=lambda: next(times)))
    progress = run._Progress(1010, seen.append)
    for counts in (Counter(), Counter(ok=10), Counter(ok=14, VideoOpenError=1)):
        progress(counts)
    assert [*map(str, seen)] == [
        "0 of 1,010, 0 failed",
        "10 of 1,010, 0 failed",  # workers have started: what they took for that is no rate
        "15 of 1,010, 1 failed, 0.5/s, 33 min 10 s left",
    ]


@pytest.mark.parametrize(
    "options",
    [
        *({"engine": "spark"}, {"max_error_rate": 2}, {"workers": 0}, {"timeout_s": -1}, {"address": "head"}),
        *({"top_k": 1}, {"workers": "2"}, {"part_rows": 1.5}, {"max_error_rate": "1"}, {"part_s": None}),
    ],
    ids=str,
)
def test_a_wrong_run_is_refused_before_anything_is_written(batch, videos, tmp_path, options):
    with pytest.raises(SpecError):
        batch(videos, **options)
    assert not (tmp_path / "out").exists()


# --- the command line, and what may be missing ------------------------------------------------------------------------


def test_the_exit_code_says_how_it_went(inline, videos, tmp_path):
    def zoo_batch(*arguments):
        result = CliRunner().invoke(commands, ["batch", *map(str, arguments)])
        return result.exit_code, result.output

    good = sorted(videos.glob("*0.mp4"))[:3]
    code, said = zoo_batch(*good, "-o", tmp_path / "good")
    assert code == 0 and "3 ok, 0 failed, 0 skipped, of 3 rows" in said
    code, said = zoo_batch(videos, "-o", tmp_path / "some", "--task", "embed")
    assert code == 3 and "15 ok, 5 failed" in said and "VideoOpenError" in said
    assert "embedding" in pq.read_table(tmp_path / "some" / "parts").schema.names
    code, said = zoo_batch(videos, "-o", tmp_path / "some", "--task", "embed", "--resume")
    assert code == 3 and "20 skipped" in said
    code, said = zoo_batch(videos, "-o", tmp_path / "rate", "--max-error-rate", "0.1")
    assert code == 1 and "max_error_rate" in said
    assert zoo_batch(videos, "-o", tmp_path / "some")[0] == 2
    assert zoo_batch(tmp_path / "nothing", "-o", tmp_path / "none")[0] == 2


def test_without_pyarrow_or_ray_the_error_says_what_to_install(batch, videos, monkeypatch):
    for missing, engine, extra in (("ray", "ray", "ray"), ("pyarrow", "local", "batch")):
        monkeypatch.setitem(sys.modules, missing, None)
        with pytest.raises(zoo.ZooError, match=rf"pip install 'video-zoo\[{extra}\]'"):
            batch(videos, missing, engine=engine)
