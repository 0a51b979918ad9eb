"""The quality of the labels: agreement for each kind of word, each pair of annotators and with the VLM, and the figures
of an annotator's page. Joins the store's rows and their statistics (data.quality) with the kinds of words (core.words).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from data.quality import pace, pairs, reliability, with_vlm
from studio.calibration import kinds_of
from studio.checks import shown

ALL = "all"


def agreement(store: Any) -> dict[str, Any]:
    """All that is known of people's agreement.

    {kinds: [{kind, words, people, ordinal, interval, why}], the first of kind "all", then those with most words;
    pairs: [as data.quality.pairs]; people: [as `annotator`], those with most words first}
    """
    judgements, steps = store.judgements(), store.steps()
    done, said = _by(steps, "who"), _by(judgements, "who")
    kinds = [{"kind": kind, **reliability(part)} for kind, part in _by_kind(judgements).items()]
    two = pairs(judgements)
    people = [_figures(who, said.get(who, []), done.get(who, []), two) for who in {**said, **done}]
    return {
        "kinds": [{"kind": ALL, **reliability(judgements)}, *sorted(kinds, key=lambda kind: -kind["words"])],
        "pairs": two,
        "people": sorted(people, key=lambda person: (-person["words"], person["who"])),
    }


def annotator(store: Any, who: str) -> dict[str, Any]:
    """The figures of one annotator's page; ValueError where nobody of this name has worked here.

    {who, words: whose score stands, samples: of these words, scores: how often each of 0-9 was given, kinds: {kind:
    words}, vlm: {kind: as data.quality.with_vlm}, with "all" first, pairs: with each other person, and of
    data.quality.pace: first, last, hours, per_hour, sets, clears, undos, submitted, skipped}
    """
    judgements = store.judgements()
    said = [j for j in judgements if j["who"] == who]
    done = [step for step in store.steps() if step["who"] == who]
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
    return {
        "who": who,
        "words": len(said),
        "samples": len({j["sample"] for j in said}),
        "scores": [given.count(score) for score in range(10)],
        "kinds": {kind: len(part) for kind, part in kinds.items()},
        "vlm": {ALL: with_vlm(said), **{kind: with_vlm(part) for kind, part in kinds.items()}},
        "pairs": [pair for pair in two if who in pair["people"]],
        **pace(done),
    }


def _by_kind(judgements: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    groups: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for j in judgements:
        kinds = kinds_of(j["prompt"])
        # a store that was imported may count a prompt's words in another way
        groups[kinds[j["word_index"]] if j["word_index"] < len(kinds) else "other"].append(j)
    return dict(groups)


def _by(rows: Sequence[Mapping[str, Any]], name: str) -> dict[str, list[Mapping[str, Any]]]:
    groups: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row[name]].append(row)
    return dict(groups)
