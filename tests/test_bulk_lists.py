"""What a list of videos stands for: nothing that it names is left out in silence, and what is no list is refused."""

from __future__ import annotations

import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from zoo.bulk.inputs import open_inputs
from zoo.errors import DataError


def listed(source):
    return [row["id"] for row in open_inputs(source, "predict").rows()]


@pytest.fixture
def tree(tmp_path):
    for name in ("b.mp4", "deep/a.mp4", "deep/er/c.MKV", ".hidden/d.mp4", "notes.md", "folder.mp4/e.mp4"):
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return tmp_path / "tree"


def test_links_to_folders_are_followed_but_not_in_circles(tree, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "f.mp4").write_bytes(b"")
    (tree / "link").symlink_to(tmp_path / "elsewhere")
    (tree / "deep" / "back").symlink_to(tree)
    (tmp_path / "elsewhere" / "self").symlink_to(".")
    (tree / "gone").symlink_to(tmp_path / "nowhere")
    assert listed(tree) == ["b.mp4", "deep/a.mp4", "deep/er/c.MKV", "folder.mp4/e.mp4", "link/f.mp4"]


def test_a_folder_that_cannot_be_listed_is_an_error(tree, monkeypatch):
    scan = os.scandir

    def forbidden(path):
        if str(path).endswith("er"):
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr(os, "scandir", forbidden)
    with pytest.raises(DataError, match=r"deep/er cannot be listed: Permission denied"):
        listed(tree)
    (tree / "loop").symlink_to("loop")
    with pytest.raises(DataError, match=r"tree/loop cannot be listed: Too many levels"):
        listed(tree)


def test_folders_among_several_inputs_are_walked(tree, tmp_path, monkeypatch):
    monkeypatch.chdir(tree)
    found = ["b.mp4", "deep/a.mp4", "deep/er/c.MKV"]
    assert listed(["b.mp4", "deep"]) == found == [*listed(["b.mp4"]), *listed(["deep/"])]
    assert listed("[bd]*") == found
    assert [row["path"] for row in open_inputs(["deep"], "predict").rows()] == [str(tree / name) for name in found[1:]]
    assert sorted({*listed("deep/**")}) == found[1:], "what a pattern and the walk find has one id"


@pytest.mark.parametrize("kind", ["csv", "int64", "string"])
def test_a_column_bytes_that_holds_no_videos_is_refused(tmp_path, kind):
    path = tmp_path / f"list.{'csv' if kind == 'csv' else 'parquet'}"
    if kind == "csv":
        path.write_text("path,bytes,note\na.mp4,12,x\n")
    else:
        pq.write_table(pa.table({"path": ["a.mp4"], "bytes": pa.array([12]).cast(kind)}), path)
    with pytest.raises(DataError, match=rf"{path.name} has a column 'bytes'.*rename it"):
        open_inputs(path, "predict")


def test_videos_of_a_table_are_known_by_path_or_else_by_content(tmp_path):
    for kind in (pa.binary(), pa.large_binary()):
        whole = pa.array([b"a", b"b", None], kind)
        pq.write_table(pa.table({"path": ["", None, "c.mp4"], "bytes": whole}), tmp_path / "list.parquet")
        rows = [*open_inputs(tmp_path / "list.parquet", "predict").rows()]
        assert [row["path"] for row in rows] == [None, None, str(tmp_path / "c.mp4")]
        assert [len(row["id"]) for row in rows] == [64, 64, 5] and rows[0]["id"] != rows[1]["id"]


@pytest.mark.parametrize("source", [[1, 2], ["a.mp4", None], 5, b"a.mp4"], ids=repr)
def test_what_is_no_path_is_refused(source):
    with pytest.raises(DataError, match=r"no (path|list)"):
        open_inputs(source, "predict")


def test_lists_stand_alone(tree, tmp_path):
    (tmp_path / "a.csv").write_text("path\nb.mp4\n")
    with pytest.raises(DataError, match="is a list, and stands in a list"):
        open_inputs([tree, tmp_path / "a.csv"], "predict")


def test_a_home_that_nobody_has_is_no_folder():
    with pytest.raises(DataError, match="does not exist"):
        open_inputs("~nobody-of-that-name/videos", "predict")
