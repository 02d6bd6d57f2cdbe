"""What is learned from: listings, how they are split, and all that is wrong with them."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
import training

import zoo
from zoo.data import Sample, check, read_listing, split
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
        ("a.csv", "path,label,split\na.mp4,x,test\n", "train or val"),
        ("a.jsonl", '{"path": "a.mp4", "label": "x"}\nnonsense\n', "line 2"),
        ("a.jsonl", "[1]\n", "no JSON object"),
        ("a.txt", "a.mp4 x\n", ".csv or .jsonl"),
    ],
)
def test_a_table_that_is_wrong_names_the_line(tmp_path, table, text, said):
    (tmp_path / table).write_text(text)
    with pytest.raises(DataError) as error:
        read_listing(tmp_path / table)
    assert said in str(error.value)
    assert table in str(error.value)


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
