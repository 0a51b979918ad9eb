"""The calibrator taught by three habits of annotators (`python -m studio evaluate habits`).

The same images are annotated by somebody who types only what is wrong and presses Done, by somebody who presses n
where nothing is wrong and else does the same, and by somebody who types every word. Scores, truths and people are made up
here: no backbone and no VLM is needed. The figures are how right the calibrated scores are on words of prompts
that nobody judged, beside the scorer's, and how many words of each habit arrive in store, export and training.

The last row is what a calibrator makes of the wrong words alone, whose images nobody confirmed. The studio fits none on
them; the row shows why.
"""

from __future__ import annotations

import csv
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from core.scoring.calibrator import FEWEST, FOLDS, Calibrator
from core.scoring.scores import expected
from core.words import CURRENT, scored, units
from data.exchange.table import export_csv
from data.prompts import load
from data.store import Store
from studio.annotation.labelling import HABITS, judged_by
from studio.training import calibration
from studio.training.datasets import judged_rows

ALONE = "wrong, unconfirmed"
WHO = "Ann"
COUNTS = {"typed": "typed", "confirmed": "confirmed", "in the CSV export": "exported", "in training": "trained",
          "in the calibrator": "calibrator"}  # fmt: skip
FIGURES = {"log-loss": "log_loss", "squared error": "mse"}
SAMPLE = {"seed": 0, "backbone": "none", "width": 64, "height": 64, "steps": 1, "guidance": 0.0, "split": "train",
          "word_rules": CURRENT}  # fmt: skip
PEOPLE = ("human", "confirmed")


def habits(
    settings: Mapping[str, Any], on_count: Callable[[int, int], None] = lambda done, total: None
) -> dict[str, Any]:
    """{rows: one a habit: {habit, typed, confirmed, exported, trained, calibrator: words that it learned from, fitted,
    better, scorer and calibrated: {log_loss, mse} on the truth of unseen words}}, means over `repeats`; settings as in
    `studio.training.configs.EVALUATIONS`."""
    results: dict[str, list[dict[str, Any]]] = {}
    for repeat in range(settings["repeats"]):
        rng = np.random.default_rng([settings["seed"], repeat])
        seen, fresh = (
            world(rng, prompts, settings["right"], settings["graded"])
            for prompts in (load("shapes_train", settings["images"]), load("shapes_heldout", 200))
        )
        for habit in (*HABITS, ALONE):
            with tempfile.TemporaryDirectory() as folder:
                results.setdefault(habit, []).append(measured(habit, Path(folder), seen, fresh, repeat))
        on_count(repeat + 1, settings["repeats"])
    return {"rows": [{"habit": habit, **_mean(rows)} for habit, rows in results.items()]}


def world(rng: np.random.Generator, prompts: list[str], right: float, graded: bool) -> list[dict[str, Any]]:
    """An image of each prompt: {prompt, words: {index: (truth, distribution of the scorer)}}. The scorer is on the right
    side of 5 for a share `right` of the words; graded: truths are all digits, not 0 and 9 alone."""
    images = []
    for prompt in prompts:
        words = {}
        for word in scored(units(prompt)):
            shows = rng.random() < 0.6
            truth = int(rng.integers(5, 10) if shows else rng.integers(0, 5)) if graded else 9 * shows
            digit = 9 * (shows ^ (rng.random() >= right))
            if graded:
                digit = int(np.clip(truth + rng.integers(-1, 2), 5 * shows, 4 + 5 * shows))
                if rng.random() >= right:
                    digit = 9 - digit
            away = np.abs(np.arange(10) - digit)
            logits = rng.normal(size=10) * 0.3 - (away if graded else 4 * (away > 0))
            words[word.index] = (truth, np.exp(logits) / np.exp(logits).sum())
        images.append({"prompt": prompt, "words": words})
    return images


def measured(
    habit: str, folder: Path, seen: list[dict[str, Any]], fresh: list[dict[str, Any]], seed: int
) -> dict[str, Any]:
    """The figures of one habit."""
    store = Store(folder / "studio.db")
    rows = [SAMPLE | {"prompt": image["prompt"], "n_words": len(units(image["prompt"]))} for image in seen]
    for id, image in zip(store.samples.add(rows), seen, strict=True):
        go_through(store, id, image, habit)
    last = store.labels.snapshot(split="train")
    job: Any = SimpleNamespace(
        studio=SimpleNamespace(store=store), folder=folder, config={"corrections_needed": 1, "seed": seed}
    )
    fit = calibration.fit(job, last)
    learned = store.labels.corrections(split="train")
    model = Calibrator.load(folder / "calibrator") if fit["fitted"] else None
    if habit != ALONE:
        learned = [row for row in learned if row["judged"]]
    elif len(learned) >= FEWEST and len({row["prompt"] for row in learned}) >= FOLDS:
        model = Calibrator.fit([calibration.row_of(row) for row in learned])  # which the studio does not
    trained, _ = judged_rows(store.labels.current(snapshot=last), store.labels.judged_images()["images"])
    kinds = [calibration.kinds_of(image["prompt"])[index] for image in fresh for index in image["words"]]
    words = [word for image in fresh for word in image["words"].values()]
    truth, raw = np.array([t for t, _ in words]), np.stack([p for _, p in words])
    sources = Counter(row["source"] for row in store.labels.current())
    export_csv(store, folder / "labels.csv")
    with open(folder / "labels.csv", encoding="utf-8", newline="") as file:
        exported = sum(row["source"] in PEOPLE for row in csv.DictReader(file))
    return {
        "typed": sources["human"],
        "confirmed": sources["confirmed"],
        "exported": exported,
        "trained": sum(row["source"] in PEOPLE for row in trained),
        "calibrator": len(learned) if model else 0,
        "fitted": bool(fit["fitted"]),
        "better": bool(fit["better"]),
        "scorer": _errors(raw, truth),
        "calibrated": _errors(model.apply(raw, None, kinds), truth) if model else None,
    }


def go_through(store: Store, id: str, image: Mapping[str, Any], habit: str) -> None:
    """Store the scorer's scores of an image, and what a person of this habit judges."""
    texts = {word.index: word.text for word in units(image["prompt"])}
    store.scores.add(
        {"sample": id, "word_index": index, "word": texts[index], "source": "vlm", "scorer": "made up",
         "score": int(p.argmax()), "distribution": p.tolist()}
        for index, (_, p) in image["words"].items()
    )  # fmt: skip
    truths = {index: truth for index, (truth, _) in image["words"].items()}
    scores = {index: int(p.argmax()) for index, (_, p) in image["words"].items()}
    judged = judged_by("wrong" if habit == ALONE else habit, truths, scores, confirms=habit != ALONE)
    confirmed = []
    for index, (digit, typed) in judged.items():
        if typed:
            store.scores.set(id, index, digit, WHO, word=texts[index])
        else:
            confirmed.append({"word_index": index, "word": texts[index], "score": digit})
    store.queue.submit(id, WHO, confirmed)


def table(report: Mapping[str, Any]) -> str:
    """The rows as Markdown."""
    head = ["habit", *COUNTS, *(f"{name}, {who}" for name in FIGURES for who in ("scorer", "calibrated"))]
    lines = [f"| {' | '.join(head)} |", "|---|" + "---:|" * (len(head) - 1)]
    for row in report["rows"]:
        cells = [f"{row[name]:.0f}" for name in COUNTS.values()]
        for figure in FIGURES.values():
            cells += [f"{row[who][figure]:.3f}" if row[who] else "–" for who in ("scorer", "calibrated")]
        lines.append(f"| {row['habit']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _errors(p: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Log-loss and squared error of distributions (N, 10) for digits (N,)."""
    picked = np.clip(p[np.arange(len(truth)), truth], 1e-6, 1)
    return {"log_loss": float(-np.log(picked).mean()), "mse": float(np.mean((expected(p) - truth / 9) ** 2))}


def _mean(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The mean of each figure; None where one of the repeats has none."""
    means: dict[str, Any] = {}
    for name, first in rows[0].items():
        values = [row[name] for row in rows]
        if isinstance(first, Mapping) or None in values:
            means[name] = None if None in values else _mean(values)
        else:
            means[name] = all(values) if isinstance(first, bool) else float(np.mean(values))
    return means
