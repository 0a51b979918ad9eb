"""The calibrator of the scorer: fitted on corrections, used only where it was better on unseen ones.

It is fitted on images that are judged as a whole (``data.store.labels``) alone: a person who corrects only wrong words
would teach it that the scorer is always wrong.

Nothing is overwritten: its scores are stored with source 'calibrated'. Kinds of words on which it was not better than
the raw scorer, or of which there was no correction, keep the scorer's scores.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from core.scoring.calibrator import FEWEST, FOLDS, Calibrator, Row
from core.scoring.scores import expected, from_digit
from studio.images.scoring import events_for, hidden_of, kind_of, kinds_of
from studio.training.replay import Replay

if TYPE_CHECKING:
    from studio.studio import Studio
    from studio.training.runs import Job

PAGE = 2000
NO_BETTER = (
    "On corrections it did not see it was no better than the scorer itself, whose own scores are used."
)
OPPOSITE = 5  # points between two scores of a word that contradict each other


def fit(job: Job, snapshot: Mapping[str, Any], about: Callable[[], dict[str, Any]] = dict) -> dict[str, Any]:
    """Fit on the judged images of training prompts of the run's snapshot; saved in the run's folder where it could be, with
    what `about` says in its manifest.

    {fitted, better, kinds: those it is used for, note, left_out: {samples, words} of images judged in part, report}
    """
    last, gold = snapshot["last"], snapshot.get("gold", 0)
    corrections = job.studio.store.labels.corrections(split="train", last=last, gold=gold)
    known = [row for row in corrections if kind_of(row) is not None]
    partly = [row for row in known if not row["judged"]]
    left_out = {"samples": len({row["sample"] for row in partly}), "words": len(partly)}
    rows = [row for row in known if row["judged"]]
    versions = Counter(row["vlm"]["scorer_version"] for row in rows)
    version = versions.most_common(1)[0][0] if versions else ""
    rows = [row for row in rows if row["vlm"]["scorer_version"] == version]
    prompts = {row["prompt"] for row in rows}
    needed = max(FEWEST, job.config["corrections_needed"])
    if len(rows) < needed or len(prompts) < FOLDS:
        note = (
            f"There are {len(rows)} words of judged images on {len(prompts)} prompts; the calibrator needs {needed} words "
            f"on {FOLDS} prompts: go through more images on Annotate, and press Done on each, or n where nothing is wrong."
        )
        note = joined(note, contradictions(rows), left_open(left_out))
        return {"fitted": False, "better": False, "kinds": [], "note": note, "left_out": left_out}
    model = Calibrator.fit([row_of(row) for row in rows], version, job.config["seed"])
    model.save(job.folder / "calibrator", about())
    report = model.report
    kinds = [k for k, r in report["by_kind"].items() if r["calibrated"]["log_loss"] <= r["raw"]["log_loss"]]
    change = report["log_loss_change"]
    raw, calibrated = report["raw"]["log_loss"], report["calibrated"]["log_loss"]
    return {
        "fitted": True,
        "better": report["better"],
        "kinds": kinds,
        "note": joined("" if report["better"] else NO_BETTER, contradictions(rows), left_open(left_out)),
        "left_out": left_out,
        "report": report,
        "heldout": {
            "of": "corrections",
            "judge": "people",
            "independent": True,
            "key": f"corrections {last}" + (f", gold {gold}" if gold else ""),
            "base": "before",
            "before": {"words": {"estimate": -raw, "low": None, "high": None}},
            "after": {"words": {"estimate": -calibrated, "low": None, "high": None}},
            "difference": {"words": {"estimate": raw - calibrated, "low": -change[1], "high": -change[0]}},
        },
    }


def left_open(left_out: Mapping[str, int]) -> str:
    """The sentence for images that people judged in part, or ''."""
    if not left_out["samples"]:
        return ""
    images = "1 image" if left_out["samples"] == 1 else f"{left_out['samples']} images"
    return (
        f"Left out: the corrected words ({left_out['words']}) of {images} of which other words were neither scored nor "
        "confirmed; open them again and press Done."
    )


def joined(*sentences: str) -> str:
    """The sentences that are not empty, one after the other."""
    return " ".join(sentence for sentence in sentences if sentence)


def contradictions(rows: Sequence[Mapping[str, Any]]) -> str:
    """The sentence for words that people scored too differently to learn from, or ''."""
    opposite = sum(row["apart"] >= OPPOSITE for row in rows)
    if not opposite:
        return ""
    words = "1 word has" if opposite == 1 else f"{opposite} words have"
    return (
        f"{words} scores of people that are {OPPOSITE} or more points apart, of which the lower median counts: go through "
        "them by the order “disagreement” on Annotate, and set gold where one of them is right."
    )


def row_of(row: Mapping[str, Any]) -> Row:
    """A correction of the store as the calibrator takes it."""
    vlm, score, kind = row["vlm"], row["score"], kind_of(row)
    assert kind is not None
    distribution = vlm["distribution"] if vlm["distribution"] is not None else from_digit(vlm["score"])
    if score is None:
        score = round(9 * float(expected(np.array(row["distribution"]))))
    weight = max(row["weight"], 1e-3)
    return Row(np.array(distribution), hidden_of(vlm), kind, score, row["prompt"], weight)


def rescore(studio: Studio, model: Calibrator, taught: Mapping[str, Any], run: str) -> dict[str, Any]:
    """Store the calibrator's scores of every word that the scorer has scored; how many."""
    count, rows = 0, iter(studio.store.labels.vlm_scores())
    while page := list(itertools.islice(rows, PAGE)):
        count += len(studio.store.scores.add(events_for(model, taught["kinds"], run, page)))
    return {"words": count}


def rescored(replay: Replay, model: Calibrator, taught: Mapping[str, Any]) -> Replay:
    """The labels kept with the models as the calibrator scores them, if they are of the scorer that it was fitted for."""
    features = replay.features if model.report["hidden"] else None
    if replay.meta.get("scorer_versions") != [model.scorer] or (model.report["hidden"] and features is None):
        return replay
    prompts = np.repeat(replay.prompt, np.diff(replay.first))
    kinds = np.array([
        kinds_of(replay.prompts[prompt], replay.rules)[word]
        for prompt, word in zip(prompts.tolist(), replay.word.tolist(), strict=True)
    ])  # fmt: skip
    wanted = np.isin(kinds, taught["kinds"])
    if not wanted.any():
        return replay
    hidden = features[wanted] if features is not None else None
    distribution = replay.distribution.copy()
    distribution[wanted] = model.apply(replay.distribution[wanted], hidden, kinds[wanted].tolist())
    return dataclasses.replace(replay, distribution=distribution)
