"""The quality of the labels: agreement for each kind of word, each pair of annotators, with the VLM and with gold, and
the figures of an annotator's page. Joins the store's rows and their statistics (data.store.agreement) with the kinds of words
(core.words).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
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
# what a page works with, so that it answers in a store of a million scores; the command line takes all
LATEST = 100_000  # steps of people
WORDS, PAIR_WORDS = 10_000, 2_000  # that alpha is counted on, in all and of a pair
ENOUGH = 10  # gold words that a person has scored before they are told how they did: fewer would give the words away
FEW = 20  # words that alpha is not read under: one more could turn it
GOOD, USABLE = 0.8, 0.667  # Krippendorff's own bounds (Content Analysis, 2004, p. 241)


def named(kind: str) -> str:
    """The name of a kind of word on a page; all is every kind together."""
    return {EXTRA: NOTHING_ELSE, ALL: "all words"}.get(kind, kind)


def reading(alpha: float | None, words: int | None = None) -> tuple[str, str]:
    """(good, usable, poor, too few or open, what that means) of an alpha over so many words; None: enough."""
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
    """All that is known of people's agreement; with `latest`, of so many of their latest steps, and alpha of words drawn
    at random where there are very many.

    {kinds: [{kind, words, drawn, people, ordinal, interval, why}], the first of kind "all", then those with most words;
    pairs: [as data.store.agreement.pairs]; people: [as `annotator`], those with most words first; apart: [as
    data.store.agreement.apart]; gold: {words, samples}; scores: judgements counted; cut: whether there are older ones}
    """
    judgements, steps = beside(store.judgements.scores(latest)), store.judgements.steps(latest)
    words, pair_words = (None, None) if latest is None else (WORDS, PAIR_WORDS)
    done, said = _by(steps, "who"), _by(judgements, "who")
    kinds = [{"kind": kind, **reliability(part, words)} for kind, part in _by_kind(judgements).items()]
    two = pairs(judgements, pair_words)
    people = [_figures(who, said.get(who, []), done.get(who, []), two) for who in {**said, **done}]
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


def without_gold(found: dict[str, Any], who: str | None) -> dict[str, Any]:
    """The figures of `agreement` for one who may not see gold: nothing of single words, and of how well gold was met
    only the share of equal scores over all of their own words, once these are ENOUGH. who: who looks, or None."""
    few = f"How you did on gold is told once you have scored {ENOUGH} gold words."
    people = []
    for one in found["people"]:
        own, mine = one["gold"][ALL], one["who"] == who
        none = {
            **with_gold([]),
            "why": few if mine else "How others did on gold is for administrators to see.",
        }
        share = {"words": own["words"], "exact": own["exact"], "why": ""}
        whole = none | share if mine and own["words"] >= ENOUGH else none
        gold = {kind: whole if kind == ALL else none for kind in one["gold"]}
        people.append({**one, "gold": gold, "contested": one["contested_by_others"]})
    return {**found, "people": people}


def person_of(found: Mapping[str, Any], who: Any) -> dict[str, Any]:
    """The figures of one annotator among those of `agreement`; ValueError where nobody of this name has worked here."""
    for person in found["people"]:
        if person["who"] == who:
            return person
    raise ValueError(f"Nobody named {shown(who)} has annotated here: choose one of those listed.")


def annotator(store: Store, who: str) -> dict[str, Any]:
    """The figures of one annotator's page; ValueError where nobody of this name has worked here.

    {who, words: whose score stands, samples: of these words, scores: how often each of 0-9 was given, kinds: {kind:
    words}, vlm, gold, others: {kind: as data.store.agreement.with_vlm, with_gold, with_others}, with "all" first, pairs: with
    each other person, contested: as data.store.agreement.contested, contested_by_others: the same without gold, and of
    data.store.agreement.pace: first, last, hours, per_hour, sets, clears, undos, submitted, skipped}
    """
    judgements = beside(store.judgements.scores())
    said = [j for j in judgements if j["who"] == who]
    done = [step for step in store.judgements.steps() if step["who"] == who]
    if not done:
        raise ValueError(f"Nobody named {shown(who)} has annotated here: choose one of those listed.")
    return _figures(who, said, done, pairs(judgements))


def _figures(
    who: str,
    said: Sequence[Mapping[str, Any]],
    done: Sequence[Mapping[str, Any]],
    two: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    kinds, given = _by_kind(said), [j["score"] for j in said]
    parts = {ALL: said, **kinds}
    return {
        "who": who,
        "words": len(said),
        "samples": len({j["sample"] for j in said}),
        "scores": [given.count(score) for score in range(10)],
        "kinds": {kind: len(part) for kind, part in kinds.items()},
        "vlm": {kind: with_vlm(part) for kind, part in parts.items()},
        "gold": {kind: with_gold(part) for kind, part in parts.items()},
        "others": {kind: with_others(part) for kind, part in parts.items()},
        "pairs": [pair for pair in two if who in pair["people"]],
        "contested": contested(said),
        "contested_by_others": contested(said, golden=False),
        **pace(done),
    }


def _by_kind(judgements: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    groups: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for j in judgements:
        kinds = kinds_of(j["prompt"], j["word_rules"])
        # a store that was imported may count a prompt's words in another way
        groups[kinds[j["word_index"]] if j["word_index"] < len(kinds) else "other"].append(j)
    return dict(groups)


def _by(rows: Sequence[Mapping[str, Any]], name: str) -> dict[str, list[Mapping[str, Any]]]:
    groups: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row[name]].append(row)
    return dict(groups)
