"""Ten recipes beside what they describe, and the tables for people who come from elsewhere: every line runs."""

from __future__ import annotations

import contextlib
import re
import shlex
import shutil
import warnings
from pathlib import Path

import pytest
from click.testing import CliRunner
from training import class_folders, documented_files

import zoo
from zoo.cli import commands

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
LIGHT = (
    "zoo/video/FRAMES.md",
    "zoo/tasks/SEARCH.md",
    "zoo/streaming/LIVE.md",
    "zoo/publishing/PUBLISH.md",
    "plugins/RECIPE.md",
)
HEAVY = (
    "zoo/tasks/CLASSIFY.md",
    "zoo/tasks/LONG_VIDEO.md",
    "zoo/train/FINE_TUNE.md",
    "zoo/bulk/BULK.md",
    "zoo/OPTIMISE.md",
)
RECIPES = [*LIGHT, *(pytest.param(name, marks=pytest.mark.slow) for name in HEAVY)]
MADE = {
    "zoo/video/FRAMES.md": ["three.mp4", "frames/*.png"],
    "zoo/tasks/CLASSIFY.md": ["report.html", "frames.png", "looked.png", "looked.mp4"],
    "zoo/tasks/LONG_VIDEO.md": ["timeline.png", "scores.png", "labelled.mp4", "report.html"],
    "zoo/tasks/SEARCH.md": ["features.safetensors"],
    "zoo/streaming/LIVE.md": ["when.png"],
    "zoo/publishing/PUBLISH.md": ["cache/*", "runs/mine/model"],
    "plugins/RECIPE.md": ["zoo_acme/pyproject.toml"],
    "zoo/train/FINE_TUNE.md": ["runs/mine/model/model.safetensors", "measured/evaluation.json"],
    "zoo/bulk/BULK.md": ["labels/parts/*.parquet", "features/parts/*.parquet"],
    "zoo/OPTIMISE.md": ["exported/export.json"],
}


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    """The files that recipes speak of."""
    folder = documented_files(tmp_path_factory.mktemp("material"))
    class_folders(folder / "videos", each=2)
    return folder


@pytest.fixture
def desk(tmp_path, material, monkeypatch):
    """A folder of one's own with them."""
    shutil.copytree(material, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@contextlib.contextmanager
def in_place_of_the_hub(folder):
    """A Hub in memory that is asked where no endpoint is given."""
    with zoo.testing.LoopbackHub() as hub, pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "ENDPOINT": hub.url,
            "HUGGINGFACE_CO_URL_TEMPLATE": f"{hub.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}",
            "HF_HUB_CACHE": str(folder / "hub"),
            "HF_ASSETS_CACHE": str(folder / "assets"),
            "HF_HUB_DISABLE_IMPLICIT_TOKEN": True,
        }.items():
            patch.setattr(f"huggingface_hub.constants.{name}", value)
        yield hub, patch


def a_training_has_been(folder):
    """What `zoo train` leaves to be published."""
    from zoo.publishing.folder import write_folder
    from zoo.publishing.subject import subject_of

    model = zoo.create("r2plus1d_tiny.camera_motion", num_classes=3)
    model.labels = ("walk", "run", "jump")
    folder.mkdir(parents=True)
    write_folder(subject_of(model), {"license": "cc-by-4.0", "training_data": "videos"}, "mine/model", folder)


def run_line(line):
    program, *words = shlex.split(line, comments=True)
    assert program == "zoo"
    words = [str(w) for word in words for w in (sorted(Path().glob(word)) if "*" in word else [word])]
    done = CliRunner().invoke(commands, words)
    assert done.exit_code == 0, (line, done.output)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_runs_from_top_to_bottom(name, desk):
    names = {"__name__": "recipe"}
    if name == "zoo/OPTIMISE.md":
        for library in ("onnx", "onnxruntime", "onnxscript"):
            pytest.importorskip(library)
    if name == "zoo/publishing/PUBLISH.md":
        a_training_has_been(desk / "runs/mine/model")
    with in_place_of_the_hub(desk) as (hub, _), zoo.testing.isolated() as registry, warnings.catch_warnings():
        registry._discover = True
        warnings.filterwarnings("ignore", message=".*(random weights|torch.jit|lr_scheduler)")
        blocks = re.findall(r"```(\w+)\n(.*?)```", (ROOT / name).read_text(), re.DOTALL)
        assert {kind for kind, _ in blocks} <= {"python", "bash"}
        for kind, code in blocks:
            if kind == "python":
                exec(compile(code, name, "exec"), names)
            else:
                for line in code.splitlines():
                    run_line(line)
        if name == "zoo/publishing/PUBLISH.md":
            assert zoo.create("hf-hub:you/moves", endpoint=hub.url, cache_dir=desk / "again").labels[0] == "walk"
    for pattern in MADE[name]:
        assert list(desk.glob(pattern)), pattern


def test_the_readme_leads_to_all_ten():
    linked = re.findall(r"\]\(([\w/]+\.md)\)", README)
    assert len(MADE) == 10 and set(MADE) <= set(linked)
    assert all((ROOT / name).is_file() for name in linked)


# --- coming from elsewhere --------------------------------------------------------------------------------------------

MIGRATING = (ROOT / "MIGRATING.md").read_text()
CONVERT_OR_PREDICT = ("PyTorchVideo", "MMAction2", "torchvision")  # which takes seconds
PEERS = re.findall(r"\n## From (\S+)\n(.*?)(?=\n## )", MIGRATING, re.DOTALL)
ON_HUB = "MCG-NJU/videomae-base-finetuned-kinetics"


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory, material):
    """What people have who come from there: weights on a Hub, weights converted before, a pickle, labelled videos."""
    import torch
    from safetensors.torch import save_file
    from transformers_folders import committed

    folder = tmp_path_factory.mktemp("elsewhere")
    (folder / "moves" / "pan_right").mkdir(parents=True)
    for copy in ("my_video.mp4", "moves/pan_right/1.mp4"):
        shutil.copy(material / "my_video.mp4", folder / copy)
    torch.save({"model_state": zoo.build("x3d_s").state_dict()}, folder / "X3D_S.pyth")
    state = zoo.build("mc3_18", num_classes=400).state_dict()
    with in_place_of_the_hub(folder) as (hub, patch):
        hub.add(ON_HUB, committed("videomae"))
        patch.chdir(folder)
        keep_converted("mc3_18", "k400", state, save_file)
        yield {"__name__": "elsewhere", "zoo": zoo}


def keep_converted(architecture, tag, state, save_file):
    """As `zoo convert` leaves them."""
    import hashlib

    from zoo.weights.conversions import Conversions, Provenance, layouts_of

    spec, name = zoo.info(architecture), f"{architecture}.{tag}"
    origin = spec.weights[tag].origin
    with Conversions().turn(name) as work:
        save_file(state, work / "made")
        provenance = Provenance(
            model=name,
            source_url=origin["url"],
            source_sha256=origin.get("sha256", "").ljust(64, "0"),
            sha256=hashlib.sha256((work / "made").read_bytes()).hexdigest(),
            size=(work / "made").stat().st_size,
            layout="",
            torch="",
            layouts=layouts_of(spec, spec.weights[tag]),
        )
        Conversions().keep(work / "made", provenance)


@pytest.mark.parametrize(
    ("peer", "text"),
    [pytest.param(*each, id=each[0], marks=[pytest.mark.slow] * (each[0] in CONVERT_OR_PREDICT)) for each in PEERS],
)
def test_what_to_write_now_runs(peer, text, elsewhere):
    rows = re.findall(r"^\| (.+?) \| (.+?) \|$", text, re.MULTILINE)[1:]
    assert len(rows) >= 6
    names = dict(elsewhere)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*random weights")
        for before, now in rows:
            linked = re.fullmatch(r"\[.*\]\((.*)\)", now)
            if linked:
                assert linked[1] in MADE
                continue
            line = re.findall(r"`([^`]+)`", now)[0]
            assert "`" in before or "nothing" in before or "same" in before or "loop" in before
            if line.startswith("zoo "):
                run_line(line)
            else:
                exec(compile(line, f"MIGRATING.md, {peer}", "exec"), names)
    assert "model" in names


def test_every_source_that_is_named_is_given():
    _, table = MIGRATING.split("## How it compares")
    named = {int(number) for number in re.findall(r"\[(\d+)\]", table)}
    given = dict(re.findall(r"^(\d+)\. (https://\S+)", table, re.MULTILINE))
    assert named == set(map(int, given)) and len(set(given.values())) == len(given)
