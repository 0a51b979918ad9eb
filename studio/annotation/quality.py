"""The quality of labels: agreement by kind of word, by pair of annotators, with the VLM and with gold, and the figures of
an annotator's page. Joins the store's rows and their statistics (data.store.agreement) with the kinds of words
(core.words).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from core.words import EXTRA, NOTHING_ELSE
from data.store.agreement import (
    apart,
    beside,
    contested,
    pace,
    pairs,
    reliability,
    with_gold,
    with_others,
    with_vlm,
)
from studio.images.scoring import kinds_of
from studio.numbers import shown

if TYPE_CHECKING:
    from data.store import Store

ALL = "all"
# bounds of a page, so that it answers in a store of a million scores; the command line takes all
LATEST = 100_000  # steps of people
WORDS, PAIR_WORDS = 10_000, 2_000  # of which alpha is computed, in all and of a pair
ENOUGH = 10  # gold words from which people are shown their result: with fewer they could guess the words
FEW = 20  # words below which alpha is not interpreted: one more could change the reading
GOOD, USABLE = 0.8, 0.667  # Krippendorff's own bounds (Content Analysis, 2004, p. 241)
NOBODY = "Nobody named {} has annotated here: choose one of those listed."
Rows = Sequence[Mapping[str, Any]]


def named(kind: str) -> str:
    """The name of a kind of word on a page; all is every kind together."""
    return {EXTRA: NOTHING_ELSE, ALL: "all words"}.get(kind, kind)


def reading(alpha: float | None, words: int | None = None) -> tuple[str, str]:
    """(good, usable, poor, too few or open; what that means) of an alpha over so many words, None for enough."""
    if alpha is None:
        return "open", "not known yet"
    if words is not None and words < FEW:
        return "too few", f"under {FEW} words chance decides it: let people score more of the same images"
    if alpha >= GOOD:
        return "good", "people read these words alike"
    if alpha >= USABLE:
        return "usable", "enough to train on, with care"
    return "poor", "people mean different things: look at the disagreements and the guidelines"


def agreement(store: Store, latest: int | None = None) -> dict[str, Any]:
    """People's agreement; with `latest`, over so many of their latest steps, and alpha of words drawn at random where
    there are very many.

    {kinds: [{kind, words, drawn, people, ordinal, interval, why}], the first of kind "all", then those with most words;
    pairs: [as data.store.agreement.pairs]; people: [as `annotator`], those with most words first; apart: [as
    data.store.agreement.apart]; gold: {words, samples}; scores: judgements counted; cut: whether there are older ones}
    """
    judgements, steps = beside(store.judgements.scores(latest)), store.judgements.steps(latest)
    words, pair_words = (None, None) if latest is None else (WORDS, PAIR_WORDS)
    steps_of, scores_of = _grouped(steps, _who), _grouped(judgements, _who)
    kinds = [{"kind": kind, **reliability(some, words)} for kind, some in _grouped(judgements, _kind).items()]
    two = pairs(judgements, pair_words)
    people = [
        _figures(who, scores_of.get(who, []), steps_of.get(who, []), two) for who in scores_of | steps_of
    ]
    return {
        "kinds": [
            {"kind": ALL, **reliability(judgements, words)},
            *sorted(kinds, key=lambda kind: -kind["words"]),
        ],
        "pairs": two,
        "people": sorted(people, key=lambda person: (-person["words"], person["who"])),
        "apart": apart(judgements),
        "gold": store.gold.count(),
        "scores": len(judgements),
        "cut": latest is not None
        and sum(step["action"] in ("set", "clear", "undo") for step in steps) >= latest,
    }


def without_gold(figures: dict[str, Any], who: str | None) -> dict[str, Any]:
    """The figures of `agreement` for one who may not see gold: nothing of single words, and of their own result on gold
    only the share of equal scores over all words, once these are ENOUGH. who: who looks, or None."""
    few = f"How you did on gold is told once you have scored {ENOUGH} gold words."
    people = []
    for one in figures["people"]:
        result, mine = one["gold"][ALL], one["who"] == who
        hidden = with_gold([]) | {
            "why": few if mine else "How others did on gold is for administrators to see."
        }
        in_all = hidden
        if mine and result["words"] >= ENOUGH:
            in_all = hidden | {"words": result["words"], "exact": result["exact"], "why": ""}
        gold = {kind: in_all if kind == ALL else hidden for kind in one["gold"]}
        people.append({**one, "gold": gold, "contested": one["contested_by_others"]})
    return {**figures, "people": people}


def person_of(figures: Mapping[str, Any], who: Any) -> dict[str, Any]:
    """The figures of one annotator among those of `agreement`; ValueError where nobody of this name has worked here."""
    for person in figures["people"]:
        if person["who"] == who:
            return person
    raise ValueError(NOBODY.format(shown(who)))


def annotator(store: Store, who: str) -> dict[str, Any]:
    """The figures of one annotator's page; ValueError where nobody of this name has worked here.

    {who, words: whose score stands, samples: of these words, scores: how often each of 0-9 was given, kinds: {kind:
    words}, vlm, gold, others: {kind: as data.store.agreement.with_vlm, with_gold, with_others}, with "all" first, pairs: with
    each other person, contested: as data.store.agreement.contested, contested_by_others: the same without gold, and of
    data.store.agreement.pace: first, last, hours, per_hour, sets, clears, undos, submitted, skipped}
    """
    judgements = beside(store.judgements.scores())
    scores = [j for j in judgements if j["who"] == who]
    steps = [step for step in store.judgements.steps() if step["who"] == who]
    if not steps:
        raise ValueError(NOBODY.format(shown(who)))
    return _figures(who, scores, steps, pairs(judgements))


def _figures(who: str, scores: Rows, steps: Rows, two: Rows) -> dict[str, Any]:
    kinds, digits = _grouped(scores, _kind), [j["score"] for j in scores]
    groups = {ALL: scores, **kinds}
    return {
        "who": who,
        "words": len(scores),
        "samples": len({j["sample"] for j in scores}),
        "scores": [digits.count(digit) for digit in range(10)],
        "kinds": {kind: len(some) for kind, some in kinds.items()},
        "vlm": {kind: with_vlm(some) for kind, some in groups.items()},
        "gold": {kind: with_gold(some) for kind, some in groups.items()},
        "others": {kind: with_others(some) for kind, some in groups.items()},
        "pairs": [pair for pair in two if who in pair["people"]],
        "contested": contested(scores),
        "contested_by_others": contested(scores, golden=False),
        **pace(steps),
    }


def _who(row: Mapping[str, Any]) -> str:
    return row["who"]


def _kind(judgement: Mapping[str, Any]) -> str:
    """The kind of a judgement's word; an imported store may count a prompt's words in another way."""
    kinds, index = kinds_of(judgement["prompt"], judgement["word_rules"]), judgement["word_index"]
    return kinds[index] if index < len(kinds) else "other"


def _grouped(rows: Rows, key: Callable[[Mapping[str, Any]], str]) -> dict[str, list[Mapping[str, Any]]]:
    groups: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[key(row)].append(row)
    return dict(groups)
