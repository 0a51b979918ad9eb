"""How far annotators agree: with each other, and with the VLM; and how they work. Pure statistics on plain rows.

Krippendorff's alpha (Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability") is 1 for full agreement, 0 for
what chance gives, below 0 for worse. Any number of people, each on any of the words. Two levels: *ordinal* takes the
scores as ranks, *interval* takes 2 against 4 to be as far as 7 against 9.

A judgement is {sample, word_index, who, score 0-9, vlm 0-9|None}, as ``Store.judgements`` gives it. A figure that
cannot be had is None, and ``why`` says in a sentence what it lacks.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import combinations, pairwise
from typing import Any

import numpy as np
from scipy.stats import spearmanr

LEVELS = ("ordinal", "interval")
PAUSE = 300.0  # seconds without a step after which a person is taken to have stopped working
FEWEST = 3  # words below which a rank correlation says nothing

Judgement = Mapping[str, Any]


def reliability(judgements: Iterable[Judgement]) -> dict[str, Any]:
    """Krippendorff's alpha of all who judged these words.

    {words: judged by two people or more, people: who judged one of them, ordinal, interval: alpha | None, why}
    """
    of_word: dict[tuple[str, int], dict[str, int]] = defaultdict(dict)
    everyone = set()
    for j in judgements:
        of_word[j["sample"], j["word_index"]][j["who"]] = j["score"]
        everyone.add(j["who"])
    shared = [said for said in of_word.values() if len(said) > 1]
    found: dict[str, Any] = {
        "words": len(shared),
        "people": len({who for said in shared for who in said}),
        **dict.fromkeys(LEVELS),
        "why": "",
    }
    counts = np.zeros((len(shared), 10), int)
    for row, said in enumerate(shared):
        for score in said.values():
            counts[row, score] += 1
    if not everyone:
        found["why"] = "No person has scored these words yet."
    elif len(everyone) == 1:
        found["why"] = "Only one person has scored these words: alpha needs two."
    elif not shared:
        found["why"] = "No word was scored by two people: alpha needs some that were."
    elif np.count_nonzero(counts.sum(0)) == 1:
        found["why"] = (
            f"Every score is {int(counts.sum(0).argmax())}: alpha needs scores that differ between words."
        )
    else:
        for level in LEVELS:
            found[level] = _alpha(shared, counts.sum(0), level)
    return found


def _alpha(shared: Sequence[Mapping[str, int]], counts: np.ndarray, level: str) -> float:
    """Krippendorff's alpha of words that two people or more scored. counts (10): how often each score was given."""
    from nltk.metrics.agreement import AnnotationTask  # here, as it takes a second to import

    before = np.concatenate([[0], np.cumsum(counts)])

    def distance(one: int, other: int) -> float:
        low, high = sorted((one, other))
        if level == "interval":
            return float(high - low) ** 2
        # ranks: how many scores were given from the one to the other, the ends by half
        return float(before[high + 1] - before[low] - (counts[low] + counts[high]) / 2) ** 2

    said = [(who, word, score) for word, scores in enumerate(shared) for who, score in scores.items()]
    return float(AnnotationTask(said, distance).alpha())


def difference(one: Sequence[int], other: Sequence[int]) -> dict[str, Any]:
    """How two scores of the same words differ: {words, exact: share of equal ones, mean_absolute: in points of 0-9,
    spearman: rank correlation, why}."""
    found: dict[str, Any] = {
        "words": len(one), "exact": None, "mean_absolute": None, "spearman": None, "why": ""
    }  # fmt: skip
    if not len(one):
        return {**found, "why": "There is no word that both have scored."}
    gap = np.abs(np.asarray(one, float) - np.asarray(other, float))
    found |= {"exact": float((gap == 0).mean()), "mean_absolute": float(gap.mean())}
    if len(one) < FEWEST:
        found["why"] = f"Both have scored {len(one)} words: a rank correlation needs {FEWEST}."
    elif len(set(one)) == 1 or len(set(other)) == 1:
        found["why"] = (
            "One of the two gave all words the same score: a rank correlation needs some that differ."
        )
    else:
        found["spearman"] = float(spearmanr(one, other).statistic)
    return found


def with_vlm(judgements: Iterable[Judgement]) -> dict[str, Any]:
    """``difference`` from the VLM, over the words that it has scored. Where people saw its score first, or accepted it,
    this is an upper bound."""
    both = [(j["score"], j["vlm"]) for j in judgements if j["vlm"] is not None]
    found = difference([score for score, _ in both], [vlm for _, vlm in both])
    if not both:
        found["why"] = "The VLM has scored none of these words."
    return found


def pairs(judgements: Iterable[Judgement]) -> list[dict[str, Any]]:
    """Each two people who share a word, those with the most words in common first: {people: [a, b], words, ordinal,
    interval, why, exact, mean_absolute, spearman}; why is alpha's."""
    of_person: dict[str, dict[tuple[str, int], Judgement]] = defaultdict(dict)
    for j in judgements:
        of_person[j["who"]][j["sample"], j["word_index"]] = j
    found = []
    for a, b in combinations(sorted(of_person), 2):
        shared = [word for word in of_person[a] if word in of_person[b]]
        if not shared:
            continue
        said = [[of_person[who][word] for word in shared] for who in (a, b)]
        gap = difference(*([j["score"] for j in one] for one in said))
        alpha = reliability(said[0] + said[1])
        found.append({"people": [a, b], **gap, **{k: alpha[k] for k in ("words", *LEVELS, "why")}})
    return sorted(found, key=lambda pair: -pair["words"])


def pace(steps: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How one person works, from the times of the steps, earliest first, as ``Store.steps`` gives them.

    {first, last, hours: at work, per_hour: scores set in an hour of work | None, sets, clears, undos, submitted,
    skipped: samples whose last such step that was}. Work is the time between two steps of one person that are
    at most ``PAUSE`` apart; a score that was set after a longer pause took an unknown time and is left out of the rate.
    """
    actions = Counter(step["action"] for step in steps)
    seconds, timed = 0.0, 0
    for before, after in pairwise(steps):
        gap = (
            datetime.fromisoformat(after["created"]) - datetime.fromisoformat(before["created"])
        ).total_seconds()
        if gap <= PAUSE:
            seconds += gap
            timed += after["action"] == "set"
    done = {step["sample"]: step["action"] for step in steps if step["action"] in ("submit", "skip")}
    ended = Counter(done.values())
    return {
        "first": steps[0]["created"] if steps else None,
        "last": steps[-1]["created"] if steps else None,
        "hours": seconds / 3600,
        "per_hour": timed / seconds * 3600 if seconds else None,
        "sets": actions["set"],
        "clears": actions["clear"],
        "undos": actions["undo"],
        "submitted": ended["submit"],
        "skipped": ended["skip"],
    }
