"""One HTML page about one prediction: it needs no network, no script and no other file, and follows dark mode.

Whatever a video, a label or a plugin is called, it stays text; a policy in the page forbids scripts and requests too.
"""

from __future__ import annotations

import base64
import io
import os
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from zoo.cards.markdown import words
from zoo.errors import SpecError, ZooError
from zoo.pictures.curves import curves_of, ticks
from zoo.pictures.facts import Facts, executed_facts, model_facts
from zoo.pictures.paint import CROP_COLORS, clock, file_name, made_by, score
from zoo.pictures.seen import Seen, drawable, look_again
from zoo.pictures.sheet import answer, legend, title, whole

if TYPE_CHECKING:
    from zoo.tasks.classification import Prediction

SUFFIXES = (".html", ".htm")
STYLE = (Path(__file__).parent / "report.css").read_text()
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def save(prediction: Prediction, path: str | os.PathLike[str], video: Any = None) -> None:
    """See `Prediction.save`."""
    target = Path(path)
    if target.suffix.lower() not in SUFFIXES or not target.parent.is_dir():
        raise SpecError(f"cannot write a report to {target}", hint="give a path that ends in .html, in a folder")
    page = report(prediction, video)
    part = target.with_name(f".{target.name}.part")
    try:
        part.write_text(page, encoding="utf-8")
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def report(prediction: Prediction, video: Any = None) -> str:
    """The page as text. Raises VideoError if the frames cannot be read again."""
    executed = drawable(prediction)
    seen = look_again(prediction, video, fit=(240, 160))
    model = made_by(prediction)
    name = file_name(prediction.video)
    sections = [
        f"<header><h1>{text(name)}</h1><p>{clock(prediction.duration_s)} · {text(model)}</p></header>",
        *(f"<p class=note>{note}</p>" for note in _notes(prediction)),
        _section("Scores", _bars(prediction)),
        *([_section("Over time", _timeline(prediction) + _segments(prediction))] if prediction.windows else []),
        _section("What the model saw", _frames(prediction, seen)),
        _section("What was run", _table(executed_facts(prediction, executed))),
        _section("The model", _table([("name", model), *model_facts(prediction)])),
    ]
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{text(name)} · {text(model)}</title>
<style>
{STYLE}</style>
</head>
<body><main class="zoo">
{"".join(sections)}
</main></body>
</html>
"""


def inline(prediction: Prediction) -> str:
    """The same, shorter, for a cell of a notebook. Never raises for want of the video."""
    model = made_by(prediction)
    head = f"<p><b>{text(file_name(prediction.video))}</b> · {text(model)}</p>"
    if prediction.error is not None:
        return f"<div>{head}<p>{text(type(prediction.error).__name__)}: {text(prediction.error)}</p></div>"
    parts = [head, _bars(prediction)]
    try:
        if prediction.windows:
            parts.append(_timeline(prediction) + _segments(prediction))
        parts.append(_frames(prediction, look_again(prediction, rows=3)))
    except (ZooError, OSError) as error:
        parts.append(f"<p class=soft>Frames are not shown. {text(error)}</p>")
    return f"<style>{STYLE}</style><div class='zoo cell'>{''.join(parts)}</div>"


RANDOM = "The weights are random: the scores mean nothing."
REPEATED = (
    "The video, or a window of it, is shorter than a clip of this model: frames were repeated, as the protocol says."
)


def text(value: object) -> str:
    """As text and nothing else, in an element or in an attribute."""
    return escape(words(value))


def _notes(prediction: Prediction) -> list[str]:
    return [RANDOM] * (prediction.weights is None) + [REPEATED] * prediction.repeated


def _section(heading: str, body: str) -> str:
    return f"<section><h2>{text(heading)}</h2>\n{body}</section>\n"


def _bars(prediction: Prediction) -> str:
    values = [value for _, value in prediction.top]
    low, high = min([0.0, *values]), max([1.0, *values])
    rows = "".join(
        f"<tr><th scope=row>{text(label)}</th><td class=bar><div>"
        f"<i style='width:{100 * (value - low) / (high - low):.1f}%'></i></div></td>"
        f"<td class=number>{score(value)}</td></tr>"
        for label, value in prediction.top
    )
    return f"<table class=bars>{rows}</table>\n"


def _timeline(prediction: Prediction) -> str:
    """A strip of the segments and a row for each curve; hovering says times and scores."""
    found, duration = curves_of(prediction), prediction.duration_s
    band = "".join(
        f"<span style='left:{_part(s.start_s, duration)}%;width:{_part(s.end_s - s.start_s, duration)}%;"
        f"background:{found.colors[s.label]}' title='{text(s.label)}, {clock(s.start_s)} - {clock(s.end_s)}, "
        f"{score(s.score)}'>{text(s.label)}</span>"
        for s in prediction.segments
    )
    rows = [f"<div class=name>top label</div><div class=band>{band}</div>"]
    for curve in found.curves:
        points = " ".join(
            f"{_part(t, duration)},{100 - 96 * (v - found.low) / (found.high - found.low):.1f}" for t, v in curve.points
        )
        peak = max(value for _, value in curve.points)
        shape = f"<polygon points='0,100 {points} 100,100' fill='{curve.color}' fill-opacity='.35'></polygon>"
        line = f"<polyline points='{points}' stroke='{curve.color}'></polyline>"
        rows.append(
            f"<div class=name><i style='background:{curve.color}'></i>{text(curve.label)}"
            f"<small>up to {score(peak)}</small></div>"
            f"<svg viewBox='0 0 100 100' preserveAspectRatio='none'>{shape}{line}</svg>"
        )
    times = ticks(duration, 6)
    step = times[1] - times[0] if len(times) > 1 else 0.0
    axis = "".join(
        f"<span style='left:{_part(t, duration)}%;translate:-{_part(t, duration)}%'>{clock(t, step)}</span>"
        for t in times
    )
    return f"<div class=time>{''.join(rows)}<div></div><div class=axis>{axis}</div></div>\n"


def _segments(prediction: Prediction) -> str:
    rows = "".join(
        f"<tr><td class=number>{clock(s.start_s)} - {clock(s.end_s)}</td><td>{text(s.label)}</td>"
        f"<td class=number>{score(s.score)}</td></tr>"
        for s in prediction.segments
    )
    count = len(prediction.segments)
    return f"<details><summary>{count:,} segment{'s' * (count != 1)}</summary><table>{rows}</table></details>\n"


def _frames(prediction: Prediction, seen: Seen) -> str:
    boxes = "".join(
        f"<i style='left:{100 * left:.2f}%;top:{100 * top:.2f}%;width:{100 * (right - left):.2f}%;"
        f"height:{100 * (bottom - top):.2f}%;"
        f"border-color:{color}'></i>"
        for (left, top, right, bottom), color in zip(seen.crops, CROP_COLORS, strict=False)
        if not whole(seen.crops)
    )
    rows = []
    for row in seen.rows:
        heading = " · ".join(filter(None, [*title(seen, row), answer(prediction, row)]))
        figures = "".join(
            f"<figure><div><img src='{_data(look.picture)}' width={look.picture.width} height={look.picture.height} "
            f"alt='frame {look.index}'>{boxes}</div><figcaption>{clock(look.time_s)} <small>frame {look.index}</small>"
            "</figcaption></figure>"
            for look in row.looks
        )
        rows.append(f"<h3>{text(heading)}</h3><div class=strip style='--n:{len(row.looks)}'>{figures}</div>")
    assert prediction.executed is not None
    return f"{''.join(rows)}<p class=soft>{text(legend(seen, prediction.executed.protocol.crop))}</p>\n"


def _table(facts: Facts) -> str:
    rows = "".join(f"<tr><th scope=row>{text(key)}</th><td>{_linked(value)}</td></tr>" for key, value in facts)
    return f"<table class=facts>{rows}</table>\n"


def _linked(value: str) -> str:
    """An address of the web can be followed; nothing else can."""
    safe = text(value)
    if value.startswith(("https://", "http://")) and " " not in safe:
        return f"<a href='{safe}' rel='noreferrer'>{safe}</a>"
    return safe


def _data(picture: Image.Image) -> str:
    out = io.BytesIO()
    picture.save(out, "jpeg", quality=88, subsampling=0)
    return f"data:image/jpeg;base64,{base64.b64encode(out.getvalue()).decode()}"


def _part(time_s: float, duration: float) -> str:
    return f"{100 * min(time_s / duration, 1.0):.3f}"
