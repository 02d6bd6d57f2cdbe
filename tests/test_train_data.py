"""What is learned from: listings, how they are split, and all that is wrong with them."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
import training

import zoo
from zoo.data import Sample, check, read_listing, split
from zoo.data.checks import by_name
from zoo.errors import DataError
from zoo.train.material import material_of
from zoo.train.settings import Settings

LABELS = tuple(sorted(training.COLOURS))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return training.class_folders(tmp_path_factory.mktemp("videos"), each=3)


def test_folders_and_tables_list_the_same(folder, tmp_path):
    listed = read_listing(folder)
    assert listed.labels == LABELS
    rows = [{"path": str(s.path), "label": s.label} for s in listed.samples]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    lines = ["path,label,start_s,end_s", *(f"{r['path']},{r['label']},," for r in rows)]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    for table in ("t.jsonl", "t.csv"):
        found = read_listing(tmp_path / table)
        assert [(s.path, s.label, s.span) for s in found.samples] == [(s.path, s.label, None) for s in listed.samples]


@pytest.mark.parametrize(
    ("table", "text", "said"),
    [
        ("a.csv", "path,label\na.mp4,\n", "line 2"),
        ("a.csv", "path,label,when\na.mp4,x,1\n", "no column 'when'"),
        ("a.csv", "path,label,start_s,end_s\na.mp4,x,3,2\n", "less than end_s"),
        ("a.csv", "path,label,start_s\na.mp4,x,soon\n", "seconds"),
        ("a.csv", "path,label\n", "lists no videos"),
        ("a.csv", "path,label,split\na.mp4,x,dev\n", "train or val or test"),
        ("a.jsonl", '{"path": "a.mp4", "label": "x"}\nnonsense\n', "line 2"),
        ("a.jsonl", "[1]\n", "no JSON object"),
        ("a.jsonl", '{"path": "a.mp4", "label": "\\ud800"}\n', r"label='\ud800'"),
        ("a.jsonl", '{"path": "\\ud800.mp4", "label": "x"}\n', r"path='\ud800.mp4'"),
        ("a.jsonl", '{"path": "a\\u0000.mp4", "label": "x"}\n', r"path='a\x00.mp4'"),
        ("a.jsonl", '{"path": "a.mp4", "label": "x", "end_s": 1' + 400 * "0" + "}\n", "seconds"),
        ("a.csv", "path,label\n~nouser/a.mp4,x\n", "line 2: no home folder is known for '~nouser/a.mp4'"),
        ("a.txt", "a.mp4 x\n", ".csv or .jsonl"),
    ],
)
def test_a_table_that_is_wrong_names_the_line(tmp_path, table, text, said):
    (tmp_path / table).write_text(text)
    with pytest.raises(DataError) as error:
        read_listing(tmp_path / table)
    assert said in str(error.value)
    assert table in str(error.value)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("~nouser/x", "no home folder is known"),
        ("~a\0b", "no home folder is known"),
        ("a" * 300, "File name too long|does not exist"),
        ("a\0b", "does not exist"),
        ("nowhere/x", "does not exist"),
    ],
)
def test_a_source_that_cannot_be_looked_at_is_an_error_of_the_data(source, said):
    with pytest.raises(DataError, match=said) as error:
        read_listing(source)
    assert error.value.hint


def test_a_folder_or_table_that_may_not_be_read_is_an_error_of_the_data(tmp_path, monkeypatch):
    def refuse(*args: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    monkeypatch.setattr(Path, "open", refuse)
    (tmp_path / "t.csv").touch()
    for source in (tmp_path, tmp_path / "t.csv"):
        with pytest.raises(DataError, match=f"{source} cannot be read: Permission denied"):
            read_listing(source)


@pytest.mark.parametrize("name", ["red/\udcff.mp4", "red/\udcff.txt", "\udcff/0.mp4"])
def test_a_name_that_is_no_utf8_is_named(tmp_path, name):
    for file in (name, "red/1.mp4"):
        touch(tmp_path / file)
    with pytest.raises(DataError, match=r"udcff") as error:
        read_listing(tmp_path)
    str(error.value).encode()


def touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def parts_of(root: Path, *names: str) -> dict[str, list[str]]:
    """{part: labels}, of a folder with these files."""
    for name in names:
        touch(root / name)
    found: dict[str, set[str]] = {}
    for sample in read_listing(root).samples:
        found.setdefault(sample.part, set()).add(sample.label)
    return {part: sorted(labels) for part, labels in found.items()}


@pytest.mark.parametrize("held", ["val", "valid", "validation", "Val"])
def test_a_folder_in_three_parts_is_trained_on_without_the_test_part_and_says_so(tmp_path, held):
    files = [f"{part}/{label}/{i}.mp4" for part in ("train", held, "test") for label in ("a", "b") for i in range(2)]
    assert parts_of(tmp_path, *files) == {part: ["a", "b"] for part in ("train", "val", "test")}
    listing = read_listing(tmp_path)
    train, val = split(listing, "", 0.5, 0)
    assert {s.name.partition("/")[0] for s in train} == {"train"}
    assert {s.name.partition("/")[0] for s in val} == {held}
    assert "videos of the split 'test', left out: 4" in check(listing, train, val).remarks


def test_without_a_part_to_validate_on_some_of_train_is_held_back(tmp_path):
    assert parts_of(tmp_path, *(f"{p}/{c}/{i}.mp4" for p in ("train", "test") for c in "ab" for i in range(4))) == {
        part: ["a", "b"] for part in ("train", "test")
    }
    train, val = split(read_listing(tmp_path), "", 0.25, 0)
    assert (len(train), len(val)) == (6, 2)
    assert {s.name.partition("/")[0] for s in (*train, *val)} == {"train"}


@pytest.mark.parametrize(
    ("files", "labels"),
    [
        (["test/1.mp4", "walk/1.mp4"], ["test", "walk"]),
        (["test/a/1.mp4"], ["test"]),
        (["train/a/1.mp4"], ["train"]),
        (["test/a/1.mp4", "val/a/1.mp4"], ["test", "val"]),
        (["train/a/1.mp4", "test/a/1.mp4", "bus/a/1.mp4"], ["bus", "test", "train"]),
        (["train/1.mp4", "test/1.mp4"], ["test", "train"]),
    ],
)
def test_classes_that_are_called_as_parts_are_stay_classes(tmp_path, files, labels):
    assert parts_of(tmp_path, *files) == {"": labels}


def test_a_part_is_held_back_of_each_class_and_never_half_a_file(folder):
    samples = read_listing(folder).samples
    spans = tuple(Sample(s.path, s.label, f"{s.name} {a}-{a + 0.4}", a, a + 0.4) for s in samples for a in (0.0, 0.5))
    listing = zoo.data.Listing(folder, spans)
    for seed in range(5):
        train, val = split(listing, "", 0.34, seed)
        assert Counter(s.label for s in val) == dict.fromkeys(LABELS, 2)
        assert not {s.path for s in train} & {s.path for s in val}
        assert (train, val) == split(listing, "", 0.34, seed)
    assert len({split(listing, "", 0.34, seed)[1] for seed in range(8)}) > 1


def test_what_is_held_back_follows_from_the_seed_whatever_files_are_called():
    """Also where all names begin with the same word."""
    spans = tuple(Sample(Path(f"a {i}.mp4"), "red", f"a {i}.mp4 0-1", 0.0, 1.0) for i in range(9))
    held = {split(zoo.data.Listing(Path("t.csv"), spans), "", 0.3, seed)[1] for seed in range(8)}
    assert len(held) > 1


def test_a_broken_video_leaves_out_no_other_one_of_its_name(tmp_path):
    for part in ("learn", "hold"):
        training.class_folders(tmp_path / part, each=2)
    (tmp_path / "hold" / "red" / "0.mp4").write_bytes(b"nothing")
    said: list[str] = []
    given = training.settings(tmp_path / "learn", tmp_path / "out", val=str(tmp_path / "hold"), skip_unreadable=True)
    material = material_of(Settings(**given), said.append)
    assert (len(material.train), len(material.val)) == (6, 5)
    assert list(material.left_out) == ["red/0.mp4"]
    assert "1 cannot be read and are left out:\n  red/0.mp4" in "\n".join(said)
    assert material.describe() == "6 videos of 3 classes in 'learn', without 1 that cannot be read"


def test_each_unreadable_video_counts_however_often_its_name_occurs(tmp_path):
    for part in ("learn", "hold"):
        training.class_folders(tmp_path / part, each=2)
        (tmp_path / part / "red" / "0.mp4").write_bytes(b"nothing")
    rows = [f"{label}/{i}.mp4,{label}" for label in LABELS for i in range(2)]
    (tmp_path / "learn" / "t.csv").write_text("\n".join(["path,label", *rows, "red/0.mp4,red"]))
    said: list[str] = []
    options = {"val": str(tmp_path / "hold"), "skip_unreadable": True}
    given = training.settings(tmp_path / "learn" / "t.csv", tmp_path / "out", **options)
    material = material_of(Settings(**given), said.append)
    assert (len(material.train), len(material.val)) == (5, 5)
    assert list(material.left_out) == ["red/0.mp4", "red/0.mp4 (2)", "red/0.mp4 (3)"]
    assert any(text.startswith("3 cannot be read") for text in said)
    assert material.describe().endswith("without 3 that cannot be read")


def test_a_numbered_name_is_no_other_videos_name():
    assert list(by_name([("a", "1"), ("a (2)", "2"), ("a", "3"), ("a", "4")])) == ["a", "a (2)", "a (3)", "a (4)"]


def test_a_file_is_one_however_its_path_is_written(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(folder.parent)
    (tmp_path / "linked").symlink_to(folder)
    train = read_listing(folder.name)
    for val in (folder, tmp_path / "linked"):
        report = check(train, *split(train, str(val), 0.2, 0))
        assert [fault for fault in report.faults if fault.startswith("to train on and to validate on at once: blue/0")]
    other = Sample(folder / "blue" / "0.mp4", "red", "the same")
    assert "the same is both 'blue' and 'red'" in check(train, (*train.samples, other), ()).faults


def test_two_paths_of_one_file_are_held_back_together(folder, tmp_path):
    for sample in read_listing(folder).samples:
        for name in ("one", "two"):
            link = tmp_path / sample.label / f"{name}_{sample.path.name}"
            link.parent.mkdir(exist_ok=True)
            link.symlink_to(sample.path)
    listing = read_listing(tmp_path)
    for seed in range(5):
        train, val = split(listing, "", 0.34, seed)
        assert Counter(s.label for s in val) == dict.fromkeys(LABELS, 2)
        assert not {s.path.resolve() for s in train} & {s.path.resolve() for s in val}


@pytest.mark.parametrize(
    ("learned", "held", "leaks"),
    [
        ((0, 0.8), (0, 0.81), True),
        ((0, 0.5), (0.4, None), True),
        ((None, None), (0.3, 0.4), True),
        ((0, 0.4), (0.4, 0.8), False),
        ((0.4, None), (None, 0.4), False),
    ],
)
def test_what_is_validated_on_is_no_span_that_is_trained_on(folder, learned, held, leaks):
    listing = read_listing(folder)
    shown = listing.samples[0]
    (one, two) = (Sample(shown.path, shown.label, f"{span}", *span) for span in (learned, held))
    faults = check(listing, (*listing.samples[1:], one), (two,)).faults
    assert [fault.startswith("to train on and to validate on at once") for fault in faults] == [True] * leaks


@pytest.mark.parametrize(("data", "val", "said"), [("marked", "plain", "val"), ("plain", "marked", "train")])
def test_a_split_that_says_otherwise_than_val_is_refused(tmp_path, data, val, said):
    (tmp_path / "marked.csv").write_text("path,label,split\na.mp4,x,train\nb.mp4,y,val\n")
    (tmp_path / "plain.csv").write_text("path,label\nc.mp4,x\nd.mp4,y\n")
    with pytest.raises(DataError, match=f"marked.csv: .*split={said!r}") as error:
        split(read_listing(tmp_path / f"{data}.csv"), str(tmp_path / f"{val}.csv"), 0.2, 0)
    assert "val" in error.value.hint


def test_videos_to_test_on_are_no_part_of_training_unless_they_are_named(tmp_path):
    rows = [f"{i}.mp4,{'xy'[i % 2]},{part}" for i, part in enumerate(("train",) * 8 + ("test",) * 4)]
    (tmp_path / "all.csv").write_text("\n".join(["path,label,split", *rows]))
    (tmp_path / "test.csv").write_text("\n".join(["path,label,split", *rows[8:]]))
    (tmp_path / "held.csv").write_text("path,label,split\na.mp4,x,val\nb.mp4,y,test\n")
    listing = read_listing(tmp_path / "all.csv")
    train, val = split(listing, "", 0.25, 0)
    assert sorted(s.part for s in (*train, *val)) == ["train"] * 8 and len(val) == 2
    train, val = split(listing, str(tmp_path / "test.csv"), 0.25, 0)
    assert (len(train), [s.part for s in val]) == (8, ["test"] * 4)
    assert [s.name for s in split(listing, str(tmp_path / "held.csv"), 0.25, 0)[1]] == ["a.mp4"]
    with pytest.raises(DataError, match="nothing is left to train on"):
        split(read_listing(tmp_path / "test.csv"), "", 0.25, 0)


def test_all_that_is_wrong_with_data_is_said_at_once(tmp_path):
    root = training.class_folders(tmp_path / "v", each=2)
    (root / "green" / "0.mp4").write_bytes(b"nothing")
    (root / "green" / "1.mp4").write_bytes(b"")
    (root / "green" / "notes.txt").write_text("of no interest")
    (root / "empty").mkdir()
    training.write_clip(root / "Red" / "x.mp4", (1, 2, 3), 0)
    listing = read_listing(root)
    twice = (*listing.samples, Sample(root / "blue" / "0.mp4", "red", "blue/0.mp4 again"))
    report = check(listing, twice, [Sample(root / "red" / "0.mp4", "violet", "red/0.mp4 too")])
    assert set(report.unreadable) == {"green/0.mp4", "green/1.mp4"}
    with pytest.raises(DataError) as error:
        report.raise_for(root, skip_unreadable=False)
    for said in ("green/0.mp4", "'Red', 'red'", "violet", "both 'blue' and 'red'", "no video of 'green' can be read"):
        assert said in str(error.value)
    remarks = "\n".join(report.remarks)
    for said in ("fewer than 10", "empty", "green/notes.txt"):
        assert said in remarks
    with pytest.raises(DataError, match="one class"):
        check(listing, listing.samples[:1], ()).raise_for(root, skip_unreadable=True)
