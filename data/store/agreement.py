"""Agreement of annotators with each other, with the VLM and with gold, and their pace: statistics on plain rows.

Krippendorff's alpha (Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability") is 1 for perfect agreement, 0 for
chance, negative for less. Two levels of measurement: *ordinal* compares scores as ranks, *interval* takes 2 and 4 to be as far
apart as 7 and 9.

A judgement is a row of ``Judgements.scores``. A figure that cannot be computed is None, and ``why`` says what is lacking. Plain
dicts and no data frames: importing pandas would cost the first page half a second.

Alpha includes people's scores of gold words, as they did not know that these were gold, but not the gold scores.
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
FEWEST = 3  # words below which a rank correlation is meaningless

Judgement = Mapping[str, Any]
Word = tuple[str, int]


def _by_word(judgements: Iterable[Judgement]) -> dict[Word, dict[str, int]]:
    """(sample, word index) -> who -> score."""
    words: dict[Word, dict[str, int]] = defaultdict(dict)
    for j in judgements:
        words[j["sample"], j["word_index"]][j["who"]] = j["score"]
    return words


def reliability(judgements: Iterable[Judgement], most: int | None = None) -> dict[str, Any]:
    """Krippendorff's alpha of everyone who judged these words; of more than ``most`` words, of a random sample.

    {words: judged by two or more people, drawn: number of words in alpha, people: who judged one of them, ordinal,
    interval: alpha | None, why}
    """
    words = _by_word(judgements)
    shared = [scores for scores in words.values() if len(scores) > 1]
    drawn = shared if most is None or len(shared) <= most else random.Random(0).sample(shared, most)
    people = {who for scores in shared for who in scores}
    result: dict[str, Any] = {"words": len(shared), "drawn": len(drawn), "people": len(people)}
    result |= {**dict.fromkeys(LEVELS), "why": ""}
    everyone = {who for scores in words.values() for who in scores}
    counts = np.bincount(np.array([s for scores in drawn for s in scores.values()], int), minlength=10)
    if not everyone:
        result["why"] = "No person has scored these words yet."
    elif len(everyone) == 1:
        result["why"] = "Only one person has scored these words: alpha needs two."
    elif not shared:
        result["why"] = "No word was scored by two people: alpha needs some that were."
    elif np.count_nonzero(counts) == 1:
        result["why"] = f"Every score is {counts.argmax()}: alpha needs scores that differ between words."
    else:
        result |= {level: _alpha(drawn, counts, level) for level in LEVELS}
    return result


def _alpha(words: Sequence[Mapping[str, int]], counts: np.ndarray, level: str) -> float:
    """Krippendorff's alpha of words that two or more people scored. counts (10,): how often each score was given."""
    from nltk.metrics.agreement import AnnotationTask  # takes a second to import

    before = np.concatenate([[0], np.cumsum(counts)])

    def distance(a: int, b: int) -> float:
        low, high = sorted((a, b))
        if level == "interval":
            return float(high - low) ** 2
        # ranks: the number of scores between the two, the ends counting by half
        return float(before[high + 1] - before[low] - (counts[low] + counts[high]) / 2) ** 2

    triples = [(who, word, score) for word, scores in enumerate(words) for who, score in scores.items()]
    return float(AnnotationTask(triples, distance).alpha())


def difference(a: Sequence[int], b: Sequence[int]) -> dict[str, Any]:
    """The difference of two people's scores of the same words: {words, exact: share of equal scores, mean_absolute: in
    points of 0-9, spearman: rank correlation, why}."""
    none = dict.fromkeys(("exact", "mean_absolute", "spearman"))
    result: dict[str, Any] = {"words": len(a), **none, "why": ""}
    if not len(a):
        return {**result, "why": "There is no word that both have scored."}
    gap = np.abs(np.asarray(a, float) - np.asarray(b, float))
    result |= {"exact": float((gap == 0).mean()), "mean_absolute": float(gap.mean())}
    if len(a) < FEWEST:
        result["why"] = f"Both have scored {len(a)} words: a rank correlation needs {FEWEST}."
    elif len(set(a)) == 1 or len(set(b)) == 1:
        result["why"] = (
            "One of the two gave all words the same score: a rank correlation needs some that differ."
        )
    else:
        from scipy.stats import spearmanr  # takes a second to import

        result["spearman"] = float(spearmanr(a, b).statistic)
    return result


def _against(judgements: Iterable[Judgement], other: str, none: str) -> dict[str, Any]:
    """``difference`` of the scores from another field of the judgements; ``none``: why it is lacking."""
    both = [(j["score"], j[other]) for j in judgements if j[other] is not None]
    result = difference([score for score, _ in both], [value for _, value in both])
    return result if both else {**result, "why": none}


def with_vlm(judgements: Iterable[Judgement]) -> dict[str, Any]:
    """``difference`` from the VLM: an upper bound where people saw its score first, or accepted it."""
    return _against(judgements, "vlm", "The VLM has scored none of these words.")


def with_gold(judgements: Iterable[Judgement]) -> dict[str, Any]:
    """``difference`` from gold, over the words whose gold somebody else has set."""
    of_others = (j for j in judgements if j["gold_by"] != j["who"])
    return _against(of_others, "gold", "No gold word that somebody else set was scored here.")


def with_others(judgements: Iterable[Judgement]) -> dict[str, Any]:
    """``difference`` from the median of the other people, for judgements from ``beside``."""
    return _against(judgements, "others", "Nobody else has scored these words.")


def beside(judgements: Iterable[Judgement]) -> list[dict[str, Any]]:
    """The judgements, each with ``others``: the lower median of the other people's scores of the word, or None."""
    listed = list(judgements)
    words, result = _by_word(listed), []
    for j in listed:
        others = [score for who, score in words[j["sample"], j["word_index"]].items() if who != j["who"]]
        result.append({**j, "others": median_low(others) if others else None})
    return result


def apart(judgements: Iterable[Judgement], least: int = 2, most: int = 100) -> list[dict[str, Any]]:
    """Words without gold on which people are at least so many points apart, the furthest apart first, then the newest:
    {sample, word_index, word, prompt, vlm, points, said: [[who, score], ...] lowest first}."""
    words: dict[Word, list[Judgement]] = defaultdict(list)
    for j in judgements:
        if j["gold"] is None:
            words[j["sample"], j["word_index"]].append(j)
    disputed = []
    for of_word in words.values():
        scores = sorted((j["score"], j["who"]) for j in of_word)
        points = scores[-1][0] - scores[0][0]
        if points >= least:
            word = {name: of_word[0][name] for name in ("sample", "word_index", "word", "prompt", "vlm")}
            word |= {"points": points, "said": [[who, score] for score, who in scores]}
            disputed.append((points, max(j["seq"] for j in of_word), word))
    disputed.sort(key=lambda entry: entry[:2], reverse=True)
    return [word for _, _, word in disputed[:most]]


def contested(
    judgements: Iterable[Judgement], least: int = 2, most: int = 12, golden: bool = True
) -> list[dict[str, Any]]:
    """One person's words that differ by at least so many points from gold or, without gold, from the other people (for
    judgements from ``beside``), newest first: {sample, word_index, word, prompt, score, against, by: gold|others}.
    ``golden=False``: from the other people only."""
    words = []
    for j in sorted(judgements, key=lambda j: j["seq"], reverse=True):
        gold = j["gold"] if golden and j["gold_by"] != j["who"] else None
        against, by = (gold, "gold") if gold is not None else (j["others"], "others")
        if against is not None and abs(j["score"] - against) >= least:
            word = {name: j[name] for name in ("sample", "word_index", "word", "prompt", "score")}
            words.append({**word, "against": against, "by": by})
    return words[:most]


def pairs(judgements: Iterable[Judgement], most: int | None = None) -> list[dict[str, Any]]:
    """Each two people who share a word, those with the most words in common first: {people: [a, b], words, drawn,
    ordinal, interval, why, exact, mean_absolute, spearman}; ``why`` is alpha's, and so is ``most``."""
    people: dict[str, dict[Word, Judgement]] = defaultdict(dict)
    for j in judgements:
        people[j["who"]][j["sample"], j["word_index"]] = j
    result = []
    for a, b in combinations(sorted(people), 2):
        shared = [word for word in people[a] if word in people[b]]
        if not shared:
            continue
        first, second = ([people[who][word] for word in shared] for who in (a, b))
        gap = difference([j["score"] for j in first], [j["score"] for j in second])
        result.append({"people": [a, b], **gap, **reliability(first + second, most) | {"people": [a, b]}})
    return sorted(result, key=lambda pair: -pair["words"])


def pace(steps: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How one person works, from the steps of ``Judgements.steps``, earliest first.

    {first, last, hours: at work, per_hour: scores set in an hour of work | None, sets, clears, undos, submitted,
    skipped: samples whose last such step it was}. Work is the time between two steps at most ``PAUSE`` apart; a score
    that was set after a longer pause took an unknown time and is left out of the rate.
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
    ended = Counter({step["sample"]: step["action"] for step in left}.values())
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
