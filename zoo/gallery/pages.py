"""The pages as text: one style and one script each, and a policy that lets nothing else run."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from markdown_it import MarkdownIt

from zoo.gallery.rows import Row

GENERATOR = '<meta name="generator" content="zoo gallery">'
HERE = Path(__file__).parent
STYLE, INDEX_SCRIPT, COPY_SCRIPT = ((HERE / name).read_text("utf-8") for name in ("gallery.css", "index.js", "copy.js"))
FILTERS = (("family", "Family"), ("task", "Task"), ("license", "Licence"), ("plugin", "Plugin"))
SWITCHES = (("pretrained", "weights"), ("commercial", "commercial use"), ("streaming", "streaming"))
COLUMNS = (("name", "Model"), ("family", "Family"), ("params", "Parameters"), ("gflops", "GFLOPs"), ("top1", "Top-1"))

_markdown = MarkdownIt("commonmark", {"html": False}).enable("table")


def index_page(rows: Sequence[Row]) -> str:
    """Search, filters, the plot and the table. The data are in the page, as JSON in which nothing ends a script."""
    data = json.dumps(rows, ensure_ascii=False, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    choices = "".join(
        f'<label>{title}<select id="{key}"><option value="">any</option></select></label>' for key, title in FILTERS
    )
    switches = "".join(
        f'<label class="switch"><input type="checkbox" id="{key}">{title}</label>' for key, title in SWITCHES
    )
    head = "".join(
        f'<th scope="col" aria-sort="none" class="{key}"><button data-sort="{key}">{title}</button></th>'
        for key, title in COLUMNS
    )
    body = f"""<header><h1>Video models</h1><p id="count" role="status"></p></header>
<form id="form" role="search">
<label class="wide">Search<input id="q" type="search" placeholder="name, words, data set" autocomplete="off"
 spellcheck="false"></label>
{choices}
<div class="switches">{switches}</div>
<div class="row">
<label>Parameters, at most<input id="most" type="text" inputmode="decimal" placeholder="such as 30M" size="9"></label>
<label>GFLOPs, at most<input id="flops" type="text" inputmode="decimal" placeholder="such as 50" size="9"></label>
<label class="of-results">Top-1 on<select id="dataset"></select></label>
<label class="of-results">Top-1, at least<input id="least" type="text" inputmode="decimal" placeholder="such as 75"
 size="9"></label>
<button type="reset">Clear</button>
</div>
</form>
<section id="chart" class="of-results" aria-labelledby="chart-title"><h2 id="chart-title">Cost and accuracy</h2>
<p class="row"><label>Cost<select id="cost"><option value="gflops">GFLOPs of one clip</option>
<option value="params">parameters</option></select></label></p>
<div class="plot"><svg id="plot" role="group" aria-label="Top-1 accuracy against cost"></svg>
<div id="tip" role="status" hidden></div></div>
<p id="legend" class="soft"></p>
<p class="soft">Top-1 accuracy at video level, in percent, as published or measured; see each model's page for by whom.
GFLOPs are multiply-adds of one clip; the protocol may run many.</p></section>
<section><h2>Models</h2>
<div class="scroll"><table id="models"><thead><tr>{head}</tr></thead><tbody></tbody></table></div>
<button id="more" type="button" hidden></button></section>
<script type="application/json" id="data">{data}</script>"""
    return _page("Video models", body, INDEX_SCRIPT)


def model_page(architecture: str, cards: Iterable[tuple[str, str]]) -> str:
    """The cards of an architecture's weights, (name, Markdown) each; of the architecture itself if it has none."""
    cards = [*cards]
    articles = "".join(
        f'<article id="{escape(name.partition(".")[2] or "architecture")}">{_html(text)}</article>\n'
        for name, text in cards
    )
    links = " ".join(
        f'<a href="#{escape(tag)}">{escape(tag)}</a>' for name, _ in cards if (tag := name.partition(".")[2])
    )
    tags = f'<p class="soft">Weights: {links}</p>' if len(cards) > 1 else ""
    body = f'<nav><a href="../index.html">All models</a></nav>\n<header><h1>{escape(architecture)}</h1>{tags}</header>'
    return _page(architecture, f"{body}\n{articles}", COPY_SCRIPT)


def _html(card: str) -> str:
    """Without the front matter, which is for the Hub; headings one level down, as the page has its own."""
    tokens = _markdown.parse(card.partition("\n---\n")[2])
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{int(token.tag[1]) + 1}"
    rendered: str = _markdown.renderer.render(tokens, _markdown.options, {})
    return rendered


def _page(title: str, body: str, script: str) -> str:
    policy = f"default-src 'none'; style-src '{_hash(STYLE)}'; script-src '{_hash(script)}'; img-src data:"
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
{GENERATOR}
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>{escape(title)}</title>
<style>{STYLE}</style>
</head>
<body><main>
{body}
</main><script>{script}</script></body>
</html>
"""


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
