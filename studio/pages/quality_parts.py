"""What the page Quality shows, as values of its parts; plain functions of the figures that ``studio.annotation.quality`` works out."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from data.store.labels import RULE_SAID
from studio.annotation.quality import ALL, FEW, GOOD, USABLE, named, reading
from studio.background import Look
from studio.components import notices
from studio.components.table import rows

TONES = {"good": "good", "usable": "now", "poor": "bad", "too few": "plain", "open": "plain"}
READ = (
    f"Krippendorff's alpha is 1 where all agree and 0 where they agree as chance would. From {GOOD:g} on it is called good, "
    f"from {USABLE:g} on usable, and below that poor; under {FEW} words it is not read, as chance decides it. The ordinal one takes the scores as ranks, the interval one as "
    "distances. What people say of gold words counts, as they are not told which these are; the gold scores themselves are "
    "nobody's opinion and do not."
)
RULE = f"{RULE_SAID} Every training keeps which scores and which gold it saw."


def heads(*titles: str) -> list[Any]:
    """A table's head; a title that begins with # stands above numbers."""
    return [{"text": t[1:], "tone": "number"} if t.startswith("#") else t for t in titles]


def number(value: float | None, places: int = 2) -> dict[str, str]:
    return {"text": "–" if value is None else f"{value:.{places}f}", "tone": "number"}


def share(value: float | None) -> dict[str, str]:
    return {"text": "–" if value is None else f"{100 * value:.0f} %", "tone": "number"}


def count(value: int) -> dict[str, str]:
    return {"text": f"{value:,}", "tone": "number"}


def badge(alpha: float | None, words: int) -> dict[str, str]:
    word, _ = reading(alpha, words)
    return {"text": "–" if word == "open" else word, "tone": TONES[word]}


def state(look: Look, waits: bool) -> str:
    """Of what and of when the figures are, and what goes on behind the page."""
    if look.problem:
        return notices.notice(f"The figures could not be worked out. {look.problem}", problem=True)
    if look.value is None:
        return notices.notice("The figures are being worked out. The page can be used meanwhile.")
    found = look.value
    of = f"{found['scores']:,} scores by {len(found['people'])} {'person' if len(found['people']) == 1 else 'people'}"
    of = f"the latest {of}" if found["cut"] else of
    when = time.strftime("%H:%M:%S UTC", time.gmtime(look.at))
    newer = " Newer ones are being counted." if waits else " There are newer ones." if look.stale else ""
    return f'<p class="quiet" role="status">Of {of}, as of {when}.{newer}</p>'


def verdict(found: Mapping[str, Any]) -> str:
    """Alpha of all words and what it means, in words."""
    whole = found["kinds"][0]
    word, meaning = reading(whole["ordinal"], whole["words"])
    if word == "open":
        more = " Let a second person score some of the same images." if len(found["people"]) < 2 else ""
        return notices.notice(f"{whole['why']}{more}")
    drawn = f" (a random {whole['drawn']:,} of them)" if whole["drawn"] < whole["words"] else ""
    return (
        f'<div class="quality-verdict"><p class="quality-alpha">{whole["ordinal"]:.2f}</p><div>'
        f'<p><span class="badge {TONES[word]}">{word}</span> {escape(meaning)}.</p>'
        f'<p class="quiet">Krippendorff’s alpha over {whole["words"]:,} words{drawn} that two or more of '
        f"{whole['people']} people have scored.</p></div></div>"
    )


def kinds(found: Mapping[str, Any]) -> dict[str, Any]:
    said = found["kinds"][0]["why"]  # above the table already: not once more on every line
    head = heads("kind of word", "reading", "#ordinal", "#interval", "#words", "#people")
    body = [
        (
            "",
            [
                named(one["kind"]),
                one["why"] if one["why"] != said else badge(one["ordinal"], one["words"]),
                number(one["ordinal"]),
                number(one["interval"]),
                count(one["words"]),
                count(one["people"]),
            ],
        )
        for one in found["kinds"]
        if one["kind"] != ALL or len(found["kinds"]) > 1
    ]
    return rows(head, body, empty="No person has scored a word yet.")


def pairs(found: Mapping[str, Any], most: int = 50) -> dict[str, Any]:
    head = heads("two people", "reading", "#alpha", "#words", "#same", "#apart by")
    body = [
        (
            "",
            [
                " and ".join(pair["people"]),
                pair["why"] or badge(pair["ordinal"], pair["words"]),
                number(pair["ordinal"]),
                count(pair["words"]),
                share(pair["exact"]),
                number(pair["mean_absolute"]),
            ],
        )
        for pair in found["pairs"][:most]
    ]
    return rows(head, body, empty="No two people have scored the same word yet.")


def people(found: Mapping[str, Any], chosen: str) -> dict[str, Any]:
    """A row a person; its key is the place in the list, as a name may be longer than a key."""
    head = heads("annotator", "#words", "#images", "#words an hour", "#as the VLM", "#as gold", "#as others")
    body = [
        (
            str(place),
            [
                one["who"],
                count(one["words"]),
                count(one["samples"]),
                {"text": per_hour(one), "tone": "number"},
                share(one["vlm"][ALL]["exact"]),
                share(one["gold"][ALL]["exact"]),
                share(one["others"][ALL]["exact"]),
            ],
        )
        for place, one in enumerate(found["people"])
    ]
    marked = next((str(i) for i, one in enumerate(found["people"]) if one["who"] == chosen), "")
    return rows(head, body, empty="Nobody has annotated yet.", chosen=marked)


def per_hour(one: Mapping[str, Any]) -> str:
    """Scores set in an hour of work; none where there was hardly any, as of scores that were imported."""
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
        cells: list[Any] = [
            named(kind),
            count(one["words"] if kind == ALL else one["kinds"][kind]),
        ]
        for other in ("vlm", "gold", "others"):
            same, apart = one[other][kind]["exact"], one[other][kind]["mean_absolute"]
            cells.append(
                number(None)
                if same is None
                else share(same)
                if apart is None
                else {"text": f"{100 * same:.0f} %, {apart:.1f}", "tone": "number"}
            )
        body.append(("", cells))
    return rows(head, body if one["words"] else [], empty="None of this person's scores stands.")


def lacking(one: Mapping[str, Any]) -> str:
    """Why a person's figures have dashes, as sentences; '' where they have none."""
    why = list(
        dict.fromkeys(
            one[other][ALL]["why"] for other in ("vlm", "gold", "others") if not one[other][ALL]["words"]
        )
    )
    how = "Share of equal scores, and by how many points they are apart on average; others are the median of the rest."
    note = "Where people saw the VLM's digit first, agreement with it is an upper bound."
    return f'<p class="quiet">{escape(" ".join([how, *why, note]))}</p>'
