"""The gallery: every model has a row and a page, nothing that plugins wrote is markup, and no folder is lost for it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html import unescape

import hostile
import pytest
from click.testing import CliRunner
from test_pictures import Page

import zoo
from zoo import gallery
from zoo.cli import commands
from zoo.errors import SpecError


def rows_of(index):
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', index.read_text("utf-8"), re.S)
    return {row["name"]: row for row in json.loads(data)}


def pages(folder):
    return {path.name: path.read_text("utf-8") for path in folder.rglob("*.html")}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Of our own small models, and two of timm's thousands."""
    folder = tmp_path_factory.mktemp("gallery") / "site"
    return gallery.build(folder, "*[st]_tiny*")


def test_every_name_has_a_row_and_every_row_a_page(site):
    names = zoo.list_models("*[st]_tiny*")
    rows = rows_of(site.index)
    assert sorted(rows) == names and site.n_rows == len(names) > 5
    assert site.n_models == len([name for name in names if "." not in name])
    for row in rows.values():
        page, _, anchor = row["page"].partition("#")
        html = (site.index.parent / page).read_text("utf-8")
        assert f"<h1>{row['name'].partition('.')[0]}</h1>" in html
        assert not anchor or f'<article id="{anchor}">' in html


def test_a_row_says_what_the_spec_says(tmp_path):
    rows = rows_of(gallery.build(tmp_path / "site", "videomae_small*").index)
    bare, tag = rows["videomae_small"], rows["videomae_small.k400"]
    assert bare["params"] == zoo.info("videomae_small").params and not bare["pretrained"] and bare["commercial"]
    assert 56 < tag["gflops"] < 58, "57 in the paper, table 17"
    assert tag["results"] == [["Kinetics-400", 79.0, "video", "published"]]
    assert (tag["license"], tag["commercial"], tag["pretrained"]) == ("cc-by-nc-4.0", False, True)
    html = (tmp_path / "site" / tag["page"].partition("#")[0]).read_text("utf-8")
    assert "zoo predict my_video.mp4 --model videomae_small.k400" in html
    assert html.count("<pre>") == html.count("</pre>") > 3, "code to copy"


def test_what_plugins_wrote_stays_text(tmp_path):
    with zoo.testing.isolated():
        zoo.register(hostile.spec(), "acme")
        site = gallery.build(tmp_path / "site")
    (row,) = (row for row in rows_of(site.index).values() if row["pretrained"])
    assert row["about"] == row["family"] == row["license"] == " ".join(hostile.EVIL.split())
    for name, html in pages(tmp_path / "site").items():
        page = Page(html)
        assert not page.tags & {"img", "iframe", "object", "embed", "base"}, name
        assert not [value for attribute, value in page.attributes if attribute.startswith("on")]
        addresses = [value for attribute, value in page.attributes if attribute in ("src", "href", "action")]
        assert addresses and all(re.match(r"(\.\./index\.html|#\w+|data:,|https?://)", value) for value in addresses)
        scripts = re.findall(r"<script[^>]*>", html)
        assert scripts == ['<script type="application/json" id="data">', "<script>"][name != "index.html" :]
    assert unescape(html).count("<script>alert(1)</script>") > 3, "it is there, as text"


def test_only_the_pages_own_script_and_style_may_run(site):
    for html in pages(site.index.parent).values():
        (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', html)
        rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
        for kind in ("style", "script"):
            (text,) = re.findall(rf"<{kind}>(.*?)</{kind}>", html, re.S)
            digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
            assert rules.pop(f"{kind}-src") == f"'sha256-{digest}'"
        assert rules == {"default-src": "'none'", "img-src": "data:"}


def test_a_gallery_is_replaced_whole_and_nothing_else_is(site, tmp_path, monkeypatch):
    with zoo.testing.isolated():
        zoo.register(zoo.ModelSpec(name="a", builder="x:y"))
        target = tmp_path / "site"
        gallery.build(target)
        (target / "models" / "old.html").write_text("")
        monkeypatch.setattr(gallery, "index_page", lambda rows: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            gallery.build(target)
        assert sorted(pages(target)) == ["index.html", "local--a.html", "old.html"]
        monkeypatch.undo()
        gallery.build(target)
        assert sorted(pages(target)) == ["index.html", "local--a.html"]
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / "index.html").write_text("my own page")
        (tmp_path / "link").symlink_to(target)
        (tmp_path / "file").write_text("")
        for taken in ("mine", "link", "file"):
            with pytest.raises(SpecError, match="new or empty folder"):
                gallery.build(tmp_path / taken)
        with pytest.raises(SpecError, match="zoo list"):
            gallery.build(tmp_path / "none", "nothing*")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "link", "mine", "site"]


def lists():
    return {"good": {"t": "mit", "gone": "mit"}, "fake": {}, "../../up": {}}


def resolves(name):
    weights = zoo.Weights(source="hf://acme/net/model.safetensors")
    return zoo.ModelSpec(name="good", builder="x:y", weights={"t": weights}) if name == "good" else None


def test_what_a_namespace_lists_and_does_not_have_is_left_out(tmp_path):
    with zoo.testing.isolated():
        here = f"{__name__}:"
        zoo.register(zoo.ModelSpec(name="*", resolver=f"{here}resolves", lister=f"{here}lists"), "acme")
        site = gallery.build(tmp_path / "site")
    assert sorted(rows_of(site.index)) == ["acme/good", "acme/good.t"]
    assert sorted(pages(tmp_path)) == ["acme--good.html", "index.html"]
    assert "not counted" not in pages(tmp_path)["acme--good.html"], "a namespace may have thousands"


def test_the_command_says_where_it_is(tmp_path):
    with zoo.testing.isolated():
        zoo.register(zoo.ModelSpec(name="a", builder="x:y"))
        done = CliRunner().invoke(commands, ["gallery", "build", str(tmp_path / "site")])
        refused = CliRunner().invoke(commands, ["gallery", "build", str(tmp_path)])
    assert done.output.strip() == f"{tmp_path / 'site' / 'index.html'}: 1 models, 1 names"
    assert refused.exit_code == 2 and "new or empty folder" in refused.output


@pytest.mark.slow
def test_every_model_that_is_installed_has_its_page(tmp_path):
    site = gallery.build(tmp_path / "site")
    rows = rows_of(site.index)
    assert list(rows) == zoo.list_models()
    assert {row["page"].partition("#")[0] for row in rows.values()} == {
        f"models/{path.name}" for path in (tmp_path / "site" / "models").iterdir()
    }
