"""Cards: all our weights have one, it is what the tool writes, the Hub understands it, and nothing breaks it."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from collections import Counter
from io import StringIO
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt

import zoo
from zoo import registry
from zoo.cards import card
from zoo.cards.front_matter import LICENSES
from zoo.cards.markdown import text
from zoo.cli import commands
from zoo.cost import Cost, cost_of
from zoo.errors import SpecError

ROOT = Path(__file__).parent.parent
CARDS = ROOT / "cards"
CAMERA = "r2plus1d_tiny.camera_motion"
OURS = [name for name in zoo.list_models(pretrained=True) if "/" not in name]
RECOUNTED = {CAMERA, "videomae_base.mae_k400", "mvit_v2_s.k400", "vjepa2_vitl.ssv2"}  # by default; all of them if slow
COST = Cost(12, 345_000_000, (3, 4, 5, 6))


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("cards_tool", ROOT / "tools" / "cards.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def parsed(markdown):
    """What the Hub's client reads, and the HTML that somebody else's Markdown makes of the rest."""
    read = ModelCard(markdown)
    return read, MarkdownIt("commonmark").enable("table").render(read.text)


def test_every_card_is_what_the_tool_writes(tool):
    known = tool.stored()
    assert sorted(known) == OURS
    files = {path.name: path.read_bytes().decode() for path in CARDS.iterdir()}
    assert tool.generated(known) == files, "run python tools/cards.py"


@pytest.mark.parametrize("name", [n if n in RECOUNTED else pytest.param(n, marks=pytest.mark.slow) for n in OURS])
def test_what_is_stored_is_what_is_counted(tool, name):
    assert tool.stored()[name] == cost_of(*registry.default.find(name))


@pytest.mark.parametrize("name", OURS)
def test_the_hub_understands_the_card(tool, name):
    spec, weights = registry.default.find(name)
    read, html = parsed((CARDS / f"{name}.md").read_text())
    assert read.data.license in LICENSES
    assert read.data.license == weights.license.casefold()
    assert (read.data.library_name, spec.family in read.data.tags) == ("video-zoo", True)
    encoder = weights.num_classes == 0
    assert read.data.pipeline_tag == ("feature-extraction" if encoder else "video-classification")
    others = ("ece", "cpu_ms", "speedup", "confidence", "one_frame_top1")
    kinds = {name: name.replace("_", "-") for name in others}
    stated = [
        (m.dataset, m.value, m.split or None, m.url or None, kinds.get(m.name, "accuracy")) for m in weights.metrics
    ]
    results = read.data.eval_results or []
    found = [(r.dataset_name, r.metric_value, r.dataset_split, r.source_url, r.metric_type) for r in results]
    assert Counter(found) == Counter(stated)
    assert not any(r.verified for r in results)
    assert ModelCard(str(read)).data.to_dict() == read.data.to_dict()
    assert html.count("<h1>") == 1
    assert html.count("<table>") == (4 if weights.metrics else 3)
    for metric in weights.metrics:
        assert (f"measured here by <code>{metric.by}</code>" in html) == (metric.origin == "measured")
        assert (f'published by <a href="{metric.url}">{metric.by}</a>' in html) == (metric.origin == "published")
    same = not weights.kwargs and weights.num_classes in (None, spec.num_classes)
    assert not same or f"<td>{spec.params:,}</td>" in html
    assert ("forbids commercial use" in html) == weights.license.startswith("cc-by-nc")
    assert (f"zoo convert {name}" in html) == (weights.origin is not None)
    assert ("is not pinned" in html) == (weights.sha256 == "")


def test_the_card_says_what_is_known_of_the_camera_model():
    html = parsed((CARDS / f"{CAMERA}.md").read_text())[1]
    weights = zoo.info(CAMERA).weights["camera_motion"]
    for known in ("435,513", "0.126 GFLOPs", "T = 8, H = 64, W = 64", weights.sha256, "1,760,716 bytes", "100 %"):
        assert known in html
    assert f"{text(weights.preprocessing.describe())}." in html
    assert "9, in the order of the logits: pan_left, pan_right, " in html
    assert "tools/eval_camera_motion.py" in html


def test_its_lines_can_be_copied_and_run(tmp_path, monkeypatch, capsys):
    clip = zoo.synth.generate("pan_left", seed=7, duration_s=2.0, fps=25, size=(96, 128), distract=False)
    zoo.video.write_video(tmp_path / "my_video.mp4", clip.frames, fps=25)
    monkeypatch.chdir(tmp_path)
    for name in (CAMERA, "r2plus1d_tiny"):
        written = card(*registry.default.find(name))
        (python,) = re.findall(r"```python\n(.*?)```", written, re.DOTALL)
        exec(compile(python, name, "exec"), {})
    assert "pan_left" in capsys.readouterr().out
    for line in re.findall(r"^zoo (.*)$", (CARDS / f"{CAMERA}.md").read_text(), re.MULTILINE):
        result = CliRunner().invoke(commands, line.split())
        assert (result.exit_code, "pan_left" in result.output) == (0, True)


def test_the_command_prints_the_same_bytes_in_another_process():
    environment = {**os.environ, "PYTHONHASHSEED": "1", "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        [sys.executable, "-m", "zoo", "card", CAMERA], capture_output=True, env=environment, check=True
    )
    assert done.stdout == (CARDS / f"{CAMERA}.md").read_bytes()


def test_on_a_terminal_it_is_laid_out(monkeypatch):
    class Terminal(StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stdout", terminal := Terminal())
    commands.commands["card"].callback(CAMERA)
    assert "license: apache-2.0" not in terminal.getvalue()
    assert "435,513" in terminal.getvalue()
    assert "| --- |" not in terminal.getvalue()


def test_a_bare_name_gives_the_architecture():
    result = CliRunner().invoke(commands, ["card", "r3d_18"])
    read, html = parsed(result.stdout)
    assert (read.data.license, read.data.eval_results) == ("bsd-3-clause", None)
    assert "33,371,472" in html
    assert "40.70 GFLOPs" in html
    assert "random weights" in html
    assert "Where the weights come from" not in html
    assert "<code>r2plus1d_tiny.camera_motion</code>" in parsed(card(zoo.info("r2plus1d_tiny")))[1]
    assert "did you mean r3d_18" in CliRunner().invoke(commands, ["card", "r3d_81"]).stderr


def test_a_card_to_publish_says_how_to_open_the_repository_and_nothing_of_this_machine():
    weights = zoo.Weights(source="/home/me/secret/x.safetensors", sha256="0" * 64, size=7, license="mit", labels=("a",))
    spec = zoo.info("r2plus1d_tiny")
    written = card(spec, weights, repo="me/my-model", cost=COST)
    assert 'zoo.create("hf-hub:me/my-model")' in written
    assert "zoo predict my_video.mp4 --model hf-hub:me/my-model\n" in written
    assert "`model.safetensors`, beside this card" in written
    assert "secret" not in written + card(spec, weights, cost=COST)
    assert "not pinned" not in written
    pickled = zoo.info("mvit_v1_b").weights["k400"]
    assert "zoo convert" not in card(zoo.info("mvit_v1_b"), pickled, repo="me/mvit", cost=COST)
    for wrong in ("me", "me/../you", 'me/x")\nimport os', "/me/x"):
        with pytest.raises(SpecError):
            card(spec, weights, repo=wrong, cost=COST)


EVIL = (
    "---\n# Owned\n| a | b |\n```\n<script>x</script> ![i](javascript:x) [l](http://evil) *b* _e_ `c` \\ &amp; "
    "$x$ ~~s~~ \u202eabc \ud800 \x00\x1b[31m {{ 7 * 7 }} : - {a: b} !!python/object:os.system # ``` --- | |\n\n---\nend"
)


@pytest.mark.parametrize(
    "start", ["", "# ", "- ", "+ ", "1. ", "===", "> ", "    ", "|", "`", "```\n", "&lt;", "'\"", "@", "%"]
)
def test_what_strangers_write_stays_text(start):
    """Two cards of the same shape, one of plain words and one of everything that means something somewhere."""
    read, html = parsed(card(*stranger(start + EVIL), cost=COST))
    plain, expected = parsed(card(*stranger("plain words"), cost=COST))
    kinds = re.compile(r"<(/?[a-z0-9]+)")
    assert [tag for tag in kinds.findall(html) if tag != "code"] == [
        tag for tag in kinds.findall(expected) if tag != "code"
    ]
    assert "&lt;script&gt;" in html
    assert not re.search(r"[\x00-\x09\x0b-\x1f\u202e\ud800]", html)
    assert read.data.to_dict().keys() == plain.data.to_dict().keys() | {"license_name"}
    assert read.data.license == "other"
    assert len(read.data.eval_results) == 2
    shown = re.sub(r"<[^>]*>", "", html)
    assert shown.count("{{ 7 * 7 }}") == html.count("{{ 7 * 7 }}") > 8
    assert shown.count("*b* _e_ `c` \\ &amp;amp;") == shown.count("{{ 7 * 7 }}")  # every character of it is to be seen


def stranger(words):
    """A spec and weights that say `words` wherever they may."""
    metrics = [
        zoo.Metric(
            name=words, value=1.5, dataset=words, split=words, views=words, origin="published", by=words, url=words
        ),
        zoo.Metric(name="top1", value=2.5, dataset=words, views=words, origin="measured", by=words),
    ]
    weights = zoo.Weights(
        origin={"url": words, "sha256": "0" * 64, "format": words},
        labels=(words, "b"),
        metrics=metrics,
        license="mit" if words == "plain words" else words,
        training_data=words,
        description=words,
        url=words,
        tag="evil",
    )
    protocol = zoo.Preprocessing(num_frames=4)
    fields = dict.fromkeys(("description", "paper", "license", "family", "task"), words)
    return zoo.ModelSpec(name="a", builder="x:y", preprocessing=protocol, weights={"evil": weights}, **fields), weights


def test_a_model_that_cannot_be_counted_still_has_a_card():
    with zoo.testing.isolated():
        zoo.register(zoo.ModelSpec(name="a", builder="nowhere:nothing", params=12, description="About | it."))
        written = card(zoo.info("local/a"))
    assert "| parameters | 12, as stated |" in written
    assert "not counted: local/a: its builder nowhere:nothing does not exist" in written
    assert r"About \| it." in written


def test_the_front_matter_is_plain_yaml_of_known_licences(tool):
    for name in OURS:
        body = (CARDS / f"{name}.md").read_text().split("---\n")[1]
        assert list(yaml.safe_load(body))[:2] == ["license", "library_name"]
    assert json.loads((CARDS / tool.COSTS).read_text())
    spec = zoo.ModelSpec(name="a", builder="x:y", license="My Own Licence 2.0")
    data = ModelCard(card(spec, cost=COST)).data
    assert (data.license, data.license_name) == ("other", "my-own-licence-2.0")
