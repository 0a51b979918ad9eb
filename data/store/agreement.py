"""How far annotators agree: with each other, and with the VLM; and how they work. Pure statistics on plain rows.

Krippendorff's alpha (Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability") is 1 for full agreement, 0 for
what chance gives, below 0 for worse. Any number of people, each on any of the words. Two levels: *ordinal* takes the
scores as ranks, *interval* takes 2 against 4 to be as far as 7 against 9.

A judgement is {sample, word_index, who, score 0-9, vlm 0-9|None, gold 0-9|None, gold_by}, as ``Store.judgements`` gives
it. A figure that cannot be had is None, and ``why`` says in a sentence what it lacks.

Gold is nobody's judgement: alpha counts what people said of a gold word, for they did not know that it was one, and
leaves out the gold score itself. A person is not held against gold that they set.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import combinations, pairwise
from statistics import median_low
from typing import Any

import numpy as np

LEVELS = ("ordinal", "interval")
PAUSE = 300.0  # seconds without a step after which a person is taken to have stopped working
FEWEST = 3  # words below which a rank correlation says nothing

Judgement = Mapping[str, Any]


def reliability(judgements: Iterable[Judgement], most: int | None = None) -> dict[str, Any]:
    """Krippendorff's alpha of all who judged these words; of more than ``most`` words, of so many drawn at random.

    {words: judged by two people or more, drawn: of which alpha is, people: who judged one of them, ordinal, interval:
    alpha | None, why}
    """
    of_word: dict[tuple[str, int], dict[str, int]] = defaultdict(dict)
    everyone = set()
    for j in judgements:
        of_word[j["sample"], j["word_index"]][j["who"]] = j["score"]
        everyone.add(j["who"])
    shared = [said for said in of_word.values() if len(said) > 1]
    words, everybody = len(shared), {who for said in shared for who in said}
    if most is not None and words > most:
        shared = random.Random(0).sample(shared, most)
    found: dict[str, Any] = {
        "words": words,
        "drawn": len(shared),
        "people": len(everybody),
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
        from scipy.stats import spearmanr  # a second to import: not when a page starts

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


def with_gold(judgements: Iterable[Judgement]) -> dict[str, Any]:
    """``difference`` from gold, over the words whose gold somebody else has set."""
    both = [(j["score"], j["gold"]) for j in judgements if j["gold"] is not None and j["gold_by"] != j["who"]]
    found = difference([score for score, _ in both], [gold for _, gold in both])
    if not both:
        found["why"] = "No gold word that somebody else set was scored here."
    return found


def beside(judgements: Iterable[Judgement]) -> list[dict[str, Any]]:
    """The judgements, each with ``others``: the median of what the other people said of the word (of two middle scores
    the lower), None where nobody else did."""
    listed = list(judgements)
    of_word: dict[tuple[str, int], dict[str, int]] = defaultdict(dict)
    for j in listed:
        of_word[j["sample"], j["word_index"]][j["who"]] = j["score"]
    found = []
    for j in listed:
        said = of_word[j["sample"], j["word_index"]]
        others = [score for who, score in said.items() if who != j["who"]] if len(said) > 1 else []
        found.append({**j, "others": median_low(others) if others else None})
    return found


def with_others(judgements: Iterable[Judgement]) -> dict[str, Any]:
    """``difference`` from the median of the other people, of judgements that ``beside`` gave."""
    both = [(j["score"], j["others"]) for j in judgements if j["others"] is not None]
    found = difference([score for score, _ in both], [others for _, others in both])
    if not both:
        found["why"] = "Nobody else has scored these words."
    return found


def apart(judgements: Iterable[Judgement], least: int = 2, most: int = 100) -> list[dict[str, Any]]:
    """Words without gold on which people are at least so many points apart, the furthest apart first, then the newest:
    {sample, word_index, word, prompt, vlm, points, said: [[who, score], ...] from low to high}."""
    of_word: dict[tuple[str, int], list[Judgement]] = defaultdict(list)
    for j in judgements:
        if j["gold"] is None:
            of_word[j["sample"], j["word_index"]].append(j)
    found = []
    for said in of_word.values():
        scores = [j["score"] for j in said]
        if max(scores) - min(scores) >= least:
            found.append((max(scores) - min(scores), max(j["seq"] for j in said), said))
    found.sort(key=lambda one: one[:2], reverse=True)
    return [
        {
            **{name: said[0][name] for name in ("sample", "word_index", "word", "prompt", "vlm")},
            "points": points,
            "said": [[j["who"], j["score"]] for j in sorted(said, key=lambda j: (j["score"], j["who"]))],
        }
        for points, _, said in found[:most]
    ]


def contested(
    judgements: Iterable[Judgement], least: int = 2, most: int = 12, golden: bool = True
) -> list[dict[str, Any]]:
    """One person's words that differ by at least so many points from gold or, where there is none, from the other people
    (as ``beside`` gives them), the newest first: {sample, word_index, word, prompt, score, against, by: gold|others}.
    ``golden=False``: from the other people only."""
    found = []
    for j in judgements:
        gold = j["gold"] if golden and j["gold_by"] != j["who"] else None
        against, by = (gold, "gold") if gold is not None else (j["others"], "others")
        if against is not None and abs(j["score"] - against) >= least:
            found.append((j["seq"], j, against, by))
    found.sort(key=lambda one: one[0], reverse=True)
    return [
        {
            **{name: j[name] for name in ("sample", "word_index", "word", "prompt", "score")},
            "against": against,
            "by": by,
        }
        for _, j, against, by in found[:most]
    ]


def pairs(judgements: Iterable[Judgement], most: int | None = None) -> list[dict[str, Any]]:
    """Each two people who share a word, those with the most words in common first: {people: [a, b], words, drawn,
    ordinal, interval, why, exact, mean_absolute, spearman}; why is alpha's, and most is for alpha."""
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
        alpha = reliability(said[0] + said[1], most)
        found.append({"people": [a, b], **gap, **{k: alpha[k] for k in ("words", "drawn", *LEVELS, "why")}})
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
    left = sorted((s for s in steps if s["action"] in ("submit", "skip", "open")), key=lambda s: s["seq"])
    done = {step["sample"]: step["action"] for step in left}
    ended = Counter(done.values())
    return {
        "first": steps[0]["created"] if steps else None,
        "last": steps[-1]["created"] if steps else None,
        "hours": seconds / 3600,
        "per_hour": timed / seconds * 3600 if seconds else None,
        "sets": actions["set"],
        "clears": actions["clear"],
        "undos": actions["undo"] + actions["open"],
        "submitted": ended["submit"],
        "skipped": ended["skip"],
    }
