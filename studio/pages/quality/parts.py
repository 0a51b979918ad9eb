"""Texts, tables and plots of the page Quality, as functions of the figures of ``studio.annotation.quality``."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import plotly.graph_objects as go

from data.store.labels import RULE_SAID
from studio.annotation.quality import ALL, FEW, GOOD, USABLE, named, reading
from studio.background import Look
from studio.components import notices
from studio.components.figures import SOFT
from studio.components.report import plots
from studio.components.table import badge, heads, number, rows

MOST = 12  # people in the matrix
TONES = {"good": "good", "usable": "now", "poor": "bad", "too few": "plain", "open": "plain"}
READ = (
    f"Krippendorff's alpha is 1 where all agree and 0 where they agree as chance would. From {GOOD:g} on it is called good, "
    f"from {USABLE:g} on usable, and below that poor; under {FEW} words it is not read, as chance decides it. The ordinal one takes the scores as ranks, the interval one as "
    "distances. What people say of gold words counts, as they are not told which these are; the gold scores themselves are "
    "nobody's opinion and do not."
)
RULE = f"{RULE_SAID} Every training keeps which scores and which gold it saw."


def figure(value: float | None, places: int = 2) -> dict[str, str]:
    return number("–" if value is None else f"{value:.{places}f}")


def share(value: float | None) -> dict[str, str]:
    return number("–" if value is None else f"{100 * value:.0f} %")


def count(value: int) -> dict[str, str]:
    return number(f"{value:,}")


def verdict_badge(alpha: float | None, words: int) -> dict[str, str]:
    word, _ = reading(alpha, words)
    return badge("–" if word == "open" else word, TONES[word])


def state(look: Look, waits: bool) -> str:
    """What the figures are of and when they were counted, and whether newer ones are on their way."""
    if look.problem:
        return notices.notice(f"The figures could not be worked out. {look.problem}", problem=True)
    if look.value is None:
        return notices.notice("The figures are being worked out. The page can be used meanwhile.")
    figures = look.value
    of = f"{figures['scores']:,} scores by {notices.counted(len(figures['people']), 'person', 'people')}"
    of = f"the latest {of}" if figures["cut"] else of
    when = time.strftime("%H:%M:%S UTC", time.gmtime(look.at))
    newer = " Newer ones are being counted." if waits else " There are newer ones." if look.stale else ""
    return f'<p class="quiet" role="status">Of {of}, as of {when}.{newer}</p>'


def verdict(figures: Mapping[str, Any]) -> str:
    """Alpha over all words and what it means."""
    whole = figures["kinds"][0]
    word, meaning = reading(whole["ordinal"], whole["words"])
    if word == "open":
        more = " Let a second person score some of the same images." if len(figures["people"]) < 2 else ""
        return notices.notice(f"{whole['why']}{more}")
    drawn = f" (a random {whole['drawn']:,} of them)" if whole["drawn"] < whole["words"] else ""
    return (
        f'<div class="quality-verdict"><p class="quality-alpha">{whole["ordinal"]:.2f}</p><div>'
        f'<p><span class="badge {TONES[word]}">{word}</span> {escape(meaning)}.</p>'
        f'<p class="quiet">Krippendorff’s alpha over {whole["words"]:,} words{drawn} that two or more of '
        f"{whole['people']} people have scored.</p></div></div>"
    )


def kinds(figures: Mapping[str, Any]) -> dict[str, Any]:
    said = figures["kinds"][0]["why"]  # above the table already: not once more on every line
    head = heads("kind of word", "reading", "#ordinal", "#interval", "#words", "#people")
    body = []
    for one in figures["kinds"]:
        if one["kind"] != ALL or len(figures["kinds"]) > 1:
            read = one["why"] if one["why"] != said else verdict_badge(one["ordinal"], one["words"])
            alphas = [figure(one["ordinal"]), figure(one["interval"])]
            body.append([named(one["kind"]), read, *alphas, count(one["words"]), count(one["people"])])
    return rows(head, body, empty="No person has scored a word yet.")


def pairs(figures: Mapping[str, Any], most: int = 50) -> dict[str, Any]:
    head = heads("two people", "reading", "#alpha", "#words", "#same", "#apart by")
    body = []
    for pair in figures["pairs"][:most]:
        names, read = (
            " and ".join(pair["people"]),
            pair["why"] or verdict_badge(pair["ordinal"], pair["words"]),
        )
        alike = [share(pair["exact"]), figure(pair["mean_absolute"])]
        body.append([names, read, figure(pair["ordinal"]), count(pair["words"]), *alike])
    return rows(head, body, empty="No two people have scored the same word yet.")


def people(figures: Mapping[str, Any], chosen: str) -> dict[str, Any]:
    """A row per person; its key is the place in the list, as a name may be longer than a key."""
    head = heads("annotator", "#words", "#images", "#words an hour", "#as the VLM", "#as gold", "#as others")
    body = []
    for one in figures["people"]:
        same = [share(one[other][ALL]["exact"]) for other in ("vlm", "gold", "others")]
        body.append([one["who"], count(one["words"]), count(one["samples"]), number(per_hour(one)), *same])
    keys = [str(place) for place in range(len(body))]
    marked = next((key for key, one in zip(keys, figures["people"], strict=True) if one["who"] == chosen), "")
    return rows(head, body, keys=keys, empty="Nobody has annotated yet.", chosen=marked)


def per_hour(one: Mapping[str, Any]) -> str:
    """Scores set in an hour of work; none where there was hardly any, as with scores that were imported."""
    return f"{one['per_hour']:,.0f}" if one["per_hour"] is not None and one["hours"] > 1 / 60 else "–"


def person(one: Mapping[str, Any]) -> str:
    """One annotator's counts."""
    facts: Sequence[tuple[str, str]] = [
        ("words scored", f"{one['words']:,}"),
        ("images done", f"{one['submitted']:,}"),
        ("skipped", f"{one['skipped']:,}"),
        ("undone", f"{one['undos']:,}"),
        ("words an hour", per_hour(one)),
        ("hours at work", f"{one['hours']:.1f}"),
    ]
    days = f"{str(one['first'])[:10]} to {str(one['last'])[:10]}" if one["first"] else ""
    cells = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts)
    return (
        f'<h3 class="run-name">{escape(one["who"])} <span class="quiet">{escape(days)}</span></h3>'
        f'<dl class="quality-facts">{cells}</dl>'
    )


def against(one: Mapping[str, Any]) -> dict[str, Any]:
    """A person's agreement with the VLM, gold and others, by kind of word: share of equal scores, mean difference."""
    head = heads("kind of word", "#words", "#VLM", "#gold", "#others")
    body = []
    for kind in [ALL, *sorted(one["kinds"], key=lambda kind: -one["kinds"][kind])]:
        cells: list[Any] = [named(kind), count(one["words"] if kind == ALL else one["kinds"][kind])]
        for other in ("vlm", "gold", "others"):
            same, apart = one[other][kind]["exact"], one[other][kind]["mean_absolute"]
            both = same is not None and apart is not None
            cells.append(number(f"{100 * same:.0f} %, {apart:.1f}") if both else share(same))
        body.append(cells)
    return rows(head, body if one["words"] else [], empty="None of this person's scores stands.")


def lacking(one: Mapping[str, Any]) -> str:
    """Why a person's figures have dashes, as sentences; '' where they have none."""
    groups = [one[other][ALL] for other in ("vlm", "gold", "others")]
    why = dict.fromkeys(group["why"] for group in groups if not group["words"])
    how = "Share of equal scores, and by how many points they are apart on average; others are the median of the rest."
    note = "Where people saw the VLM's digit first, agreement with it is an upper bound."
    return notices.quiet(" ".join([how, *why, note]))


# -- plots, as those of reports


def _drawn(spec: dict[str, Any]) -> go.Figure:
    return plots.figure(spec, plots.styles({"figures": [spec]})[0])


def alpha_by_kind(kinds: Sequence[Mapping[str, Any]], usable: float, good: float) -> go.Figure | None:
    """A dot per kind of word, and the two bounds that alpha is read by. None where no alpha is known."""
    known = [kind for kind in kinds if kind["ordinal"] is not None]
    if not known:
        return None
    series = {
        "name": "alpha",
        "x": [named(kind["kind"]) for kind in known],
        "y": [kind["ordinal"] for kind in known],
        "text": [f"{kind['words']:,} words by {kind['people']} people" for kind in known],
    }
    bound = {"reference": usable, "reference_name": f"usable from {usable:g}"}
    figure = _drawn({"kind": "dots", "y": "Krippendorff's alpha (ordinal)", "series": [series], **bound})
    # both to the left of their lines: to the right the other's line would cross one, and a phone cut the other off
    figure.update_annotations(xanchor="right", xshift=-5)
    figure.add_vline(x=good, line={"color": SOFT, "dash": "dash", "width": 1.8}, layer="below")
    figure.add_annotation(
        x=good, y=1.0, yref="paper", text=f"good from {good:g}", showarrow=False, xanchor="right", xshift=-5,
        yanchor="bottom", font={"size": 13, "color": SOFT},
    )  # fmt: skip
    figure.update_layout(margin={"t": 28})
    figure.update_xaxes(range=[min(0.0, *(kind["ordinal"] for kind in known)) - 0.05, 1.12])
    return figure


def matrix(pairs: Sequence[Mapping[str, Any]], people: Sequence[str]) -> go.Figure | None:
    """Alpha of each pair of people, of those with most words; None where no two share enough."""
    known = {frozenset(pair["people"]): pair["ordinal"] for pair in pairs if pair["ordinal"] is not None}
    names = [who for who in people if any(who in pair for pair in known)][:MOST]
    if len(names) < 2:
        return None
    short = [who if len(who) <= 18 else f"{who[:15]}…" for who in names]
    alphas = {pair: round(alpha, 2) for pair, alpha in known.items()}  # as in the table beside it
    z = [[alphas.get(frozenset((one, other))) for other in names] for one in names]
    figure = _drawn({"kind": "heatmap", "rows": short, "columns": short, "z": z})
    figure.update_xaxes(tickangle=0 if len(names) <= 5 else -40)
    return figure


def scores(given: Sequence[int], everyone: Sequence[int], who: str) -> go.Figure | None:
    """The distribution of a person's scores beside everyone's, in percent; None where they gave none."""
    if not sum(given):
        return None
    series = [
        {"name": name, "x": list(range(10)), "y": [100 * n / sum(counts) for n in counts]}
        for name, counts in ((who, given), ("everyone", everyone))
    ]
    figure = _drawn({"kind": "bars", "x": "score", "y": "share of the scores, %", "series": series})
    figure.update_layout(height=300)
    return figure
