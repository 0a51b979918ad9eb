"""The report of an experiment, drawn from its JSON: for the page in parts, and as one HTML file that opens offline.

A report is {experiment, title, question, answer: [sentences], judge, config, backbone, backbone_revision, scorer,
seconds, created, figures, tables, pictures}; what a FIGURE is stands in ``plots``. A table is {title, columns, rows,
note, percent: [columns that are shares]}, a cell of it text, a number, None or {estimate, low, high}; pictures are
{title, columns, items: [{png: base64, caption}]}. Whatever a report says goes into the page as text, and the file's
own policy lets no script run but the two written here.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from html import escape
from typing import Any

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from studio.components import source
from studio.components.notices import duration
from studio.components.report import plots
from studio.components.report.plots import decimals, interval, items, listed, number, significant

Cell = str | dict[str, str]

STYLE = source("report/report.css")
NO_VALUE: Cell = {"text": "–", "tone": "number"}
JUDGES = {
    "detector": "the detector, which nothing was trained on",
    "scorer": "the scorer, which is not independent: what is compared was trained or chosen by it",
}
LISTED = 80  # values of a plot up to which they are listed below it
DRAW = """
const config = {responsive: true, displaylogo: false, modeBarButtons: [["toImage", "zoom2d", "resetScale2d"]]};
const figures = JSON.parse(document.getElementById("figures").textContent);
document.querySelectorAll(".plot").forEach((node, i) =>
  Plotly.newPlot(node, figures[i].data, figures[i].layout, config));
"""


def figures(report: Mapping[str, Any]) -> list[tuple[str, go.Figure, str]]:
    """(title, plot, how to read it) of each figure."""
    return [
        (_text(spec, "title"), plots.figure(spec, style), _text(spec, "note"))
        for spec, style in zip(items(report, "figures"), plots.styles(report), strict=True)
    ]


def tables(report: Mapping[str, Any]) -> list[tuple[str, list[Cell], list[list[Cell]], str]]:
    """(title, head, rows, note) of each table, in the cells of ``components.table``."""
    return [_table(spec) for spec in items(report, "tables")]


def head(report: Mapping[str, Any], level: int = 1) -> str:
    """The question, the answer, and what it rests on. level: of the first heading."""
    given = report.get("answer")
    answer = [str(line) for line in given if line] if isinstance(given, list | tuple) else [str(given or "")]
    lines = "".join(f"<p>{escape(line)}</p>" for line in answer if line) or "<p>It has no answer yet.</p>"
    title = _text(report, "title") or _text(report, "experiment") or "A report"
    return (
        f'<h{level} class="report-title">{escape(title)}</h{level}>'
        f'<p class="report-question">{escape(_text(report, "question"))}</p>'
        f'<div class="report-answer"><h{level + 1}>Answer</h{level + 1}>{lines}</div>{_facts(report)}'
    )


def under(report: Mapping[str, Any], place: int) -> str:
    """What stands under a plot: how to read it, and its values for those who do not see it."""
    spec = items(report, "figures")[place]
    note = f'<p class="report-note">{escape(_text(spec, "note"))}</p>' if _text(spec, "note") else ""
    return note + _values(spec)


def tail(report: Mapping[str, Any], level: int = 1) -> str:
    """Tables, pictures and the configuration."""
    parts = [_table_html(*table, level + 1) for table in tables(report)]
    parts += [_pictures(spec, level + 1) for spec in items(report, "pictures")]
    config = report.get("config")
    if isinstance(config, Mapping) and config:
        rows: list[list[Cell]] = [
            [str(name), value if isinstance(value, str) else json.dumps(value)]
            for name, value in config.items()
        ]
        table = _table_html("", ["setting", "value"], rows, "")
        parts.append(f'<details class="report-fold"><summary>Configuration</summary>{table}</details>')
    return "".join(parts)


def html(report: Mapping[str, Any]) -> str:
    """The whole report as one file: it needs no network, follows the reader's light or dark theme, and can be
    printed."""
    title = _text(report, "title") or "A report"
    drawn, shown = figures(report), []
    for place, (name, _, _) in enumerate(drawn):
        what = f"{name}: a plot. Its values are listed below it, or in the file report.json."
        shown.append(
            f'<section class="report-part"><h2>{escape(name)}</h2>'
            f'<div class="plot" role="img" aria-label="{escape(what)}"></div>{under(report, place)}</section>'
        )
    data = json.dumps([json.loads(plot.to_json()) for _, plot, _ in drawn]).replace("<", "\\u003c")
    scripts = [get_plotlyjs(), DRAW] if drawn else []
    allowed = " ".join(f"'sha256-{_hash(script)}'" for script in scripts) or "'none'"
    policy = f"default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; script-src {allowed}"
    numbers = f'<script type="application/json" id="figures">{data}</script>'
    plotly = numbers + "".join(f"<script>{script}</script>" for script in scripts) if drawn else ""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{escape(title)}</title><style>{_colours()}{STYLE}</style></head>"
        '<body class="report-file"><main class="report">'
        f"{head(report)}{''.join(shown)}{tail(report)}"
        "<noscript><p>The plots need JavaScript; their values are listed all the same.</p></noscript>"
        f"</main>{plotly}</body></html>\n"
    )


def _text(holder: Mapping[str, Any], name: str) -> str:
    value = holder.get(name)
    return "" if value is None else str(value)


def _facts(report: Mapping[str, Any]) -> str:
    """What was measured, by whom, how long it took, and when."""
    backbone, revision = _text(report, "backbone"), _text(report, "backbone_revision")
    judge = _text(report, "judge")
    facts = {
        "Backbone": f"{backbone} ({revision[:12]})" if revision else backbone,
        "Scorer": _text(report, "scorer"),
        "Judge": JUDGES.get(judge, judge),
        "Took": took(number(report.get("seconds"))),
        "Date": _date(_text(report, "created")),
    }
    entries = "".join(
        f"<div><dt>{name}</dt><dd>{escape(fact)}</dd></div>" for name, fact in facts.items() if fact
    )
    return f'<dl class="report-facts">{entries}</dl>'


def took(seconds: float | None) -> str:
    """A duration in words; '' for none."""
    return "" if seconds is None or seconds < 0 else duration(seconds)


def _date(iso: str) -> str:
    try:
        when = datetime.fromisoformat(iso)
    except ValueError:
        return iso
    return f"{when.day} {when:%B %Y, %H:%M}{' UTC' if when.utcoffset() == timedelta(0) else ''}"


def _table(spec: Mapping[str, Any]) -> tuple[str, list[Cell], list[list[Cell]], str]:
    names, percent = list(map(str, listed(spec, "columns"))), set(map(str, listed(spec, "percent")))
    given = [list(row) if isinstance(row, list | tuple) else [row] for row in listed(spec, "rows")]
    wide = max([len(names), *map(len, given)])
    given = [row + [None] * (wide - len(row)) for row in given]
    shares = [i < len(names) and names[i] in percent for i in range(wide)]
    rows: list[list[Cell]] = [[] for _ in given]
    for i in range(wide):
        column = [row[i] for row in given]
        words = any(isinstance(value, str) for value in column)  # its numbers are then written as words are
        # whole numbers among others are settings or counts: what is beside them is no measurement of the same thing
        mixed = words or {int, float} <= {type(value) for value in column}
        digits = 1 if shares[i] else None if mixed else _digits(column)
        for row, value in zip(rows, column, strict=True):
            cell = _cell(value, shares[i], digits)
            row.append(cell["text"] if words and isinstance(cell, dict) else cell)
    heads: list[Cell] = []
    for i, name in enumerate(names):
        name = f"{name}, %" if name in percent and "%" not in name else name
        numeric = any(isinstance(row[i], dict) for row in rows)
        heads.append({"text": name, "tone": "number"} if numeric else name)
    return _text(spec, "title"), heads, rows, _text(spec, "note")


def _digits(column: list[Any]) -> int | None:
    """Digits after the point that a whole column shares, so that it can be read down; None where one of its values
    would be rounded to 0 by them."""
    known = [number(v.get("estimate") if isinstance(v, Mapping) else v) for v in column]
    values = [v for v in known if v]
    digits = decimals(*values)
    return digits if all(round(v, digits) for v in values) else None


def _cell(value: Any, share: bool, digits: int | None) -> Cell:
    """A cell as ``components.table`` takes it; shares in percent."""
    bounds: list[float | None] = [None, None]
    if isinstance(value, Mapping):
        bounds = [number(value.get(name)) for name in ("low", "high")]
        value = number(value.get("estimate"))
    known = number(value)
    if known is None:
        return str(value) if value is not None and not isinstance(value, float) else NO_VALUE
    scale = 100 if share else 1
    if isinstance(value, int) and not share:
        text = str(value)
    else:
        low, high = (None if b is None else scale * b for b in bounds)
        text = interval(scale * known, low, high, digits)
    return {"text": text, "tone": "number"}


def _table_html(title: str, heads: list[Cell], rows: list[list[Cell]], note: str, level: int = 2) -> str:
    def cell(tag: str, value: Cell, more: str = "") -> str:
        text, kind = (value["text"], ' class="number"') if isinstance(value, dict) else (value, "")
        return f"<{tag}{more}{kind}>{escape(text)}</{tag}>"

    body = "".join(
        "<tr>" + cell("th", row[0], ' scope="row"') + "".join(cell("td", c) for c in row[1:]) + "</tr>"
        for row in rows
        if row
    )
    top = "".join(cell("th", h, ' scope="col"') for h in heads)
    heading = f"<h{level}>{escape(title)}</h{level}>" if title else ""
    below = f'<p class="report-note">{escape(note)}</p>' if note else ""
    inner = (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(title or "table")}">'
        f'<table class="plain"><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'
        if body
        else '<p class="report-note">This table has no rows.</p>'
    )
    return f'<section class="report-part">{heading}{inner}{below}</section>'


def _values(spec: Mapping[str, Any]) -> str:
    """The values of a plot of few points, folded away."""
    if spec.get("kind") not in ("dots", "line", "bars"):
        return ""
    rows: list[list[Cell]] = []
    for one in map(plots.points, items(spec, "series")):
        for x, y, low, high in zip(one.x, one.y, one.low, one.high, strict=True):
            rows.append([one.name, significant(x), {"text": interval(y, low, high), "tone": "number"}])
    if not 0 < len(rows) <= LISTED:
        return ""
    heads: list[Cell] = [
        "series",
        _text(spec, "x") or "at",
        {"text": _text(spec, "y") or "value", "tone": "number"},
    ]
    return (
        f'<details class="report-fold"><summary>Values</summary>{_table_html("", heads, rows, "")}</details>'
    )


def _pictures(spec: Mapping[str, Any], level: int) -> str:
    columns, shown = spec.get("columns"), []
    for item in items(spec, "items"):
        caption = escape(_text(item, "caption"))
        png = _png(item.get("png"))
        image = (
            f'<img src="data:image/png;base64,{png}" alt="{caption or "picture"}">'
            if png
            else '<p class="report-note">The picture cannot be shown.</p>'
        )
        shown.append(f"<figure>{image}<figcaption>{caption}</figcaption></figure>")
    wide = columns if isinstance(columns, int) and not isinstance(columns, bool) and 1 <= columns <= 12 else 4
    inner = "".join(shown) or '<p class="report-note">There are no pictures.</p>'
    return (
        f'<section class="report-part"><h{level}>{escape(_text(spec, "title"))}</h{level}>'
        f'<div class="report-pictures" style="--columns: {wide}">{inner}</div></section>'
    )


def _png(given: Any) -> str:
    """The base64 of a PNG, or '' where it is none."""
    try:
        raw = base64.b64decode(given, validate=True) if isinstance(given, str) else b""
    except (ValueError, binascii.Error):
        return ""
    return base64.b64encode(raw).decode() if raw.startswith(b"\x89PNG\r\n\x1a\n") else ""


def _colours() -> str:
    """The studio's own colours, the dark ones where the reader's system is dark and does not print."""
    sheet = source("../theme.css")
    light, dark = (re.search(rf"{name} \{{(.*?)\}}", sheet, re.DOTALL) for name in (":root", r"\.dark"))
    if light is None or dark is None:
        raise ValueError("studio/theme.css must name its colours in :root { } and .dark { }.")
    return f":root{{{light[1]}}}@media screen and (prefers-color-scheme: dark){{:root{{{dark[1]}}}}}"


def _hash(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
