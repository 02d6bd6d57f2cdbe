"""The gallery and a report as people use them, in a browser without a window.

Every page that is opened has to do without errors and without asking anybody for anything but files. Needs Chromium,
and `pip install playwright`.
"""

from __future__ import annotations

import json
import re
import shutil

import hostile
import pytest

import zoo
from zoo import gallery
from zoo.tasks import as_model

pytestmark = pytest.mark.slow

PHONE = {"width": 360, "height": 740}
LOCAL = ("file://", "data:")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip(f"none of {', '.join(BROWSERS)} is installed")
    with playwright.sync_playwright() as running:
        opened = running.chromium.launch(executable_path=program)
        yield opened
        opened.close()


@pytest.fixture
def visit(browser):
    """`visit(path)` opens a file; at the end no page has complained, asked a network or opened a dialog."""
    wrong, contexts = [], []

    def visit(path, **options):
        context = browser.new_context(**{"viewport": {"width": 1200, "height": 900}, **options})
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: wrong.append(message.text) if message.type != "log" else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("dialog", lambda dialog: wrong.append(dialog.message))
        page.on("request", lambda asked: None if asked.url.startswith(LOCAL) else wrong.append(asked.url))
        page.goto(path.as_uri() if hasattr(path, "as_uri") else path)
        return page

    yield visit
    for context in contexts:
        context.close()
    assert wrong == []


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """All that is installed here."""
    return gallery.build(tmp_path_factory.mktemp("gallery") / "site")


@pytest.fixture(scope="module")
def data(site):
    text = site.index.read_text("utf-8").partition('<script type="application/json" id="data">')[2]
    return json.loads(text.partition("</script>")[0])


@pytest.fixture(scope="module")
def predicted(tmp_path_factory):
    """A prediction of a video with a name, by a model with labels, that want to be markup."""
    folder = tmp_path_factory.mktemp("report")
    clip = zoo.synth.generate("pan_left", seed=7, duration_s=3.0, fps=25, size=(120, 160))
    video = folder / f"{hostile.EVIL.replace('/', '_')}.mp4"
    zoo.video.write_video(video, clip.frames, fps=25)
    model = as_model("r2plus1d_tiny")
    model.labels = (hostile.EVIL, *model.labels[1:])
    return zoo.predict(model, video, window=1.0, stride=0.5, top_k=9)


@pytest.fixture(scope="module")
def report(predicted, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    predicted.save(path)
    return path


def named(page):
    return page.locator("#models tbody th a").all_inner_texts()


def counted(page):
    """How many names the page says match."""
    return int(re.match(r"([\d,]+)", page.locator("#count").inner_text())[1].replace(",", ""))


def overflows(page):
    return page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")


def contrasts(page, *selectors):
    """Of the text of these elements with the page's ground, as WCAG defines it."""
    colours = page.evaluate(
        "s => [getComputedStyle(document.body).backgroundColor, "
        "...s.map(x => getComputedStyle(document.querySelector(x)).color)]",
        list(selectors),
    )

    def luminance(colour):
        parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    ground, *inks = map(luminance, colours)
    return [(max(ground, ink) + 0.05) / (min(ground, ink) + 0.05) for ink in inks]


# --- the gallery ------------------------------------------------------------------------------------------------------


def test_search_finds_every_word_and_escape_forgets_it(visit, site, data):
    page = visit(site.index)
    assert counted(page) == len(zoo.list_models())
    page.fill("#q", "videomae SMALL")
    wanted = {row["name"] for row in data if "videomae" in str(row).lower() and "small" in str(row).lower()}
    assert set(named(page)) == wanted and {"videomae_small", "videomae_small.k400"} <= wanted
    page.fill("#q", "no such model")
    assert named(page) == [] and counted(page) == 0
    page.press("#q", "Escape")
    assert counted(page) == len(data)


@pytest.mark.parametrize(
    ("field", "value", "filters"),
    [
        ("family", "cnn", {"family": "cnn"}),
        ("task", "next_frame", {"task": "next_frame"}),
        ("plugin", "rnn", {"plugin": "rnn"}),
        ("pretrained", True, {"pretrained": True}),
        ("commercial", True, {"license": "commercial"}),
        ("streaming", True, {"streaming": True}),
    ],
)
def test_a_filter_finds_what_list_models_finds(visit, site, data, field, value, filters):
    page = visit(site.index)
    wanted = zoo.list_models(**filters)
    page.check(f"#{field}") if value is True else page.select_option(f"#{field}", value)
    assert counted(page) == len(wanted) < len(data)
    assert named(page) == sorted(wanted)[:200] or sorted(named(page)) == sorted(set(wanted) & set(named(page)))
    page.reload()
    assert counted(page) == len(wanted), "the address keeps the question"
    page.click("text=Clear")
    page.wait_for_function(f"document.querySelectorAll('#models tbody tr').length == {min(len(data), 200)}")


def test_licence_and_size_narrow_together_and_columns_sort(visit, site, data):
    page = visit(site.index)
    page.select_option("#license", "Apache-2.0")
    page.fill("#most", "6.2m")
    small = [r for r in data if r["license"] == "Apache-2.0" and r["params"] is not None and r["params"] <= 6_200_000]
    assert counted(page) == len(small) > 10
    page.click("[data-sort=params]")
    sizes = {row["name"]: row["params"] for row in data}
    every = sorted(row["params"] for row in small)
    assert [sizes[name] for name in named(page)] == every[:200]
    assert page.locator("[aria-sort=ascending]").count() == 1
    page.click("[data-sort=params]")
    assert [sizes[name] for name in named(page)] == every[::-1][:200]


def test_what_a_clip_costs_and_how_often_it_is_right_narrow_too(visit, site, data):
    page = visit(site.index)
    page.fill("#flops", "60")
    cheap = [row for row in data if row["gflops"] is not None and row["gflops"] <= 60]
    assert counted(page) == len(cheap) > 10
    page.fill("#least", "65 %")
    dataset = page.locator("#dataset").input_value()

    def good(least, dataset):
        return {
            r["name"] for r in cheap if any(x[0] == dataset and x[1] >= least and x[2] == "video" for x in r["results"])
        }

    assert set(named(page)) == good(65, dataset) != good(0, dataset)
    assert page.locator("#plot a").count() == len(good(65, dataset)) > 1
    page.reload()
    assert set(named(page)) == good(65, dataset), "the address keeps the question"
    page.fill("#flops", "1e9")
    assert page.get_attribute("#flops", "aria-invalid") == "true", "what is no number is marked, and does not count"
    page.fill("#flops", "60")
    page.fill("#least", "60")
    page.select_option("#dataset", "Something-Something v2")
    assert set(named(page)) == good(60, "Something-Something v2") != set()
    page.click("text=Clear")
    page.wait_for_function(f"document.querySelectorAll('#models tbody tr').length == {min(len(data), 200)}")


def test_long_lists_come_in_parts(visit, site, data):
    page = visit(site.index)
    assert len(named(page)) == 200 < len(data)
    page.click("#more")
    assert len(named(page)) == 400


def test_hovering_the_plot_says_what_a_point_is_and_a_click_opens_it(visit, site, data):
    page = visit(site.index)
    dataset = page.locator("#dataset").input_value()
    points = page.locator("#plot a")
    figures = [r for r in data if r["gflops"] and any(x[0] == dataset and x[2] == "video" for x in r["results"])]
    assert points.count() == len(figures) > 10
    page.locator("#plot").scroll_into_view_if_needed()
    for i in range(points.count()):
        box = points.nth(i).bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        page.mouse.move(x, y)
        label = page.evaluate("([x, y]) => document.elementFromPoint(x, y).closest('a').ariaLabel", [x, y])
        name, percent = re.fullmatch(r"(.*), ([\d.]+) percent", label).groups()
        tip = page.locator("#tip").inner_text()
        assert name in tip and f"{percent} % on {dataset}" in tip and "GFLOPs" in tip
        edges = page.locator("#tip").bounding_box()
        assert edges["x"] >= 0 and edges["x"] + edges["width"] <= 1200
    page.mouse.move(2, 2)
    assert not page.locator("#tip").is_visible()
    page.select_option("#cost", "params")
    points.first.focus()
    assert "parameters" in page.locator("#tip").inner_text(), "without a mouse too"
    page.keyboard.press("Enter")
    page.wait_for_url("**/models/*.html*")


def test_the_plot_follows_filters_and_other_data(visit, site, data):
    page = visit(site.index)
    page.select_option("#dataset", "Something-Something v2")
    page.select_option("#family", "transformer")
    wanted = [r for r in data if r["gflops"] and any(x[0] == "Something-Something v2" for x in r["results"])]
    assert page.locator("#plot a").count() == len([r for r in wanted if r["family"] == "transformer"]) > 2
    page.fill("#q", "no such model")
    assert "No model" in page.locator("#plot").text_content()


def test_code_is_copied_by_one_click(visit, site):
    page = visit(site.index.parent / "models" / "r2plus1d_tiny.html", permissions=["clipboard-read", "clipboard-write"])
    blocks = page.locator("pre")
    assert blocks.count() >= 2
    for i in range(blocks.count()):
        blocks.nth(i).get_by_role("button").click()
        page.wait_for_function(f"document.querySelectorAll('pre')[{i}].innerText.includes('Copied')")
        assert page.evaluate("navigator.clipboard.readText()") == blocks.nth(i).locator("code").inner_text()
    assert 'zoo.create("r2plus1d_tiny.camera_motion")' in blocks.first.locator("code").inner_text()


def test_all_of_it_goes_by_keyboard(visit, site):
    page = visit(site.index)
    page.keyboard.press("/")
    page.keyboard.type("tiny")
    focused = "(e => e.id || (e.dataset.sort ? 'by ' + e.dataset.sort : e.textContent))(document.activeElement)"
    seen = [page.evaluate(focused)]
    while "r2plus1d_tiny.camera_motion" not in seen and len(seen) < 60:
        page.keyboard.press("Tab")
        seen.append(page.evaluate(focused))
        if seen[-1] == "pretrained":
            page.keyboard.press("Space")
        if seen[-1] == "by params":
            page.keyboard.press("Enter")
        ring = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert ring != "none" or page.evaluate("!!document.activeElement.closest('#plot')"), "one sees where one is"
    order = ["q", "family", "task", "license", "plugin", "pretrained", "commercial", "streaming", "most", "by params"]
    assert [name for name in seen if name in order] == order
    page.keyboard.press("Enter")
    page.wait_for_url("**/models/r2plus1d_tiny.html#camera_motion")
    assert "r2plus1d_tiny" in page.title()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark_can_be_read(visit, site, report, scheme):
    index = visit(site.index, color_scheme=scheme)
    assert min(contrasts(index, "body", "h1", "#models th a")) > 4.5
    assert min(contrasts(index, ".soft", "#models small", "label")) > 4.5
    assert min(contrasts(visit(report, color_scheme=scheme), "main", "h1", ".soft")) > 4.5
    grounds = {page.evaluate("getComputedStyle(document.body).backgroundColor") for page in (index,)}
    assert grounds == {"rgb(255, 255, 255)" if scheme == "light" else "rgb(20, 22, 27)"}


def test_a_phone_needs_no_sideways_scrolling(visit, site, report):
    index = visit(site.index, viewport=PHONE, has_touch=True, is_mobile=True)
    assert overflows(index) == 0
    index.fill("#q", "timesformer")
    assert overflows(index) == 0
    small = index.locator("button:visible, select:visible, input:not([type=checkbox]):visible").evaluate_all(
        "all => all.filter(e => e.getBoundingClientRect().height < 36).map(e => e.outerHTML)"
    )
    assert small == [], "large enough for a finger"
    for path in (site.index.parent / "models" / "r2plus1d_tiny.html", report):
        assert overflows(visit(path, viewport=PHONE, has_touch=True, is_mobile=True)) == 0, path.name


def test_what_a_plugin_wrote_stays_text(visit, tmp_path):
    with zoo.testing.isolated():
        zoo.register(hostile.spec(), "acme")
        site = gallery.build(tmp_path / "site")
    page = visit(site.index)
    said = " ".join(hostile.EVIL.split())
    assert said in page.locator("#models").inner_text()
    assert page.locator("img").count() == 0
    for field in ("family", "task", "license"):
        page.select_option(f"#{field}", said)
    page.select_option("#dataset", said)
    assert named(page) == ["acme/evil", "acme/evil.t"]
    assert overflows(page) == 0
    page.locator("#models tbody th a").last.click()
    page.wait_for_url("**/models/acme--evil.html#t")
    assert "<script>alert(1)</script>" in page.locator("main").inner_text()
    assert page.locator("img").count() == 0
    links = page.locator("a").evaluate_all("all => all.map(a => a.href)")
    assert links and all(link.startswith("file://") for link in links)
    assert overflows(page) == 0


# --- the report -------------------------------------------------------------------------------------------------------


def test_a_report_shows_all_of_it_and_what_others_wrote_as_text(visit, report, predicted):
    page = visit(report)
    assert "<script>alert(1)<_script>" in page.locator("h1").inner_text(), "a file's name has no /"
    assert "<script>alert(1)</script>" in page.locator(".bars").inner_text()
    assert page.locator(".bars tr").count() == 9
    assert page.locator("img").count() > 4
    assert page.locator("img").evaluate_all("all => all.every(i => i.complete && i.naturalWidth > 0)")
    page.locator(".band span").first.hover()
    assert predicted.segments[0].label in page.locator(".band span").first.get_attribute("title")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.locator("details").evaluate("d => d.open"), "by keyboard"
    assert overflows(page) == 0
    assert page.locator("script").count() == 0
