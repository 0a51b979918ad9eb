"""The calibrator between store and training: fitted on corrections, used only where it was better on unseen ones.

It learns from images that are judged as a whole (``data.store.labels``) and from no others: who corrects wrong words alone,
and leaves the rest without a word, would teach it that the scorer is always wrong.

Nothing is overwritten: what it says is stored as scores of source 'calibrated'. Kinds of words on which it was not
better than the raw scorer, or of which there was no correction, keep the scorer's own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
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


def fit(job: Job, snapshot: Mapping[str, Any]) -> dict[str, Any]:
    """Fit on the judged images of training prompts of the run's snapshot; saved in the run's folder where it could be.

    {fitted, better, kinds: those it is used for, note, left_out: {samples, words} of images judged in part, report}
    """
    last, gold = snapshot["last"], snapshot.get("gold", 0)
    rows = [
        r
        for r in job.studio.store.labels.corrections(split="train", last=last, gold=gold)
        if kind_of(r) is not None
    ]
    open_ones = [row for row in rows if not row["judged"]]
    left_out = {"samples": len({row["sample"] for row in open_ones}), "words": len(open_ones)}
    rows = [row for row in rows if row["judged"]]
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
    found = Calibrator.fit([row_of(row) for row in rows], version, job.config["seed"])
    found.save(job.folder / "calibrator")
    report = found.report
    kinds = [k for k, r in report["by_kind"].items() if r["calibrated"]["log_loss"] <= r["raw"]["log_loss"]]
    change = report["log_loss_change"]
    gain = report["raw"]["log_loss"] - report["calibrated"]["log_loss"]
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
            "before": {"words": {"estimate": -report["raw"]["log_loss"], "low": None, "high": None}},
            "after": {"words": {"estimate": -report["calibrated"]["log_loss"], "low": None, "high": None}},
            "difference": {"words": {"estimate": gain, "low": -change[1], "high": -change[0]}},
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
    """Those that say something, one after the other."""
    return " ".join(sentence for sentence in sentences if sentence)


def contradictions(rows: Sequence[Mapping[str, Any]]) -> str:
    """The sentence for words that people scored too differently to learn from, or ''."""
    against = sum(row["apart"] >= OPPOSITE for row in rows)
    if not against:
        return ""
    words = "1 word has" if against == 1 else f"{against} words have"
    return (
        f"{words} scores of people that are {OPPOSITE} or more points apart, of which the lower median counts: go through "
        "them by the order “disagreement” on Annotate, and set gold where one of them is right."
    )


def load(folder: Path) -> Calibrator:
    return Calibrator.load(folder)


def row_of(row: Mapping[str, Any]) -> Row:
    vlm = row["vlm"]
    spread = vlm["distribution"] if vlm["distribution"] is not None else from_digit(vlm["score"])
    score = (
        row["score"]
        if row["score"] is not None
        else round(9 * float(expected(np.array(row["distribution"]))))
    )
    return Row(np.array(spread), hidden_of(vlm), kind_of(row), score, row["prompt"],
               max(row["weight"], 1e-3))  # fmt: skip


def rescore(studio: Studio, model: Calibrator, taught: Mapping[str, Any], run: str) -> dict[str, Any]:
    """Store what the calibrator says of every word that the scorer has scored; how many."""
    count, page = 0, []
    for row in studio.store.labels.vlm_scores():
        page.append(row)
        if len(page) == PAGE:
            count += len(studio.store.scores.add(events_for(model, taught["kinds"], run, page)))
            page = []
    count += len(studio.store.scores.add(events_for(model, taught["kinds"], run, page)))
    return {"words": count}


def rescored(replay: Replay, model: Calibrator, taught: Mapping[str, Any]) -> Replay:
    """The labels kept with the models as the calibrator sees them, where they are of the scorer it was fitted for."""
    if replay.meta.get("scorer_versions") != [model.scorer]:
        return replay
    if model.report["hidden"] and replay.features is None:
        return replay
    of_word = np.repeat(replay.prompt, np.diff(replay.first))
    kinds = [
        kinds_of(replay.prompts[p], replay.rules)[w]
        for p, w in zip(of_word.tolist(), replay.word.tolist(), strict=True)
    ]
    wanted = np.array([kind in taught["kinds"] for kind in kinds], bool)
    if not wanted.any():
        return replay
    hidden = replay.features[wanted] if model.report["hidden"] else None
    changed = replay.distribution.copy()
    changed[wanted] = model.apply(replay.distribution[wanted], hidden, np.array(kinds)[wanted].tolist())
    return replay.with_distribution(changed)
