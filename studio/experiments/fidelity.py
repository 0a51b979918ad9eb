"""Experiment *fidelity*: the reward model, which sees the noise alone, against the scorer and against people, on prompts
that nothing was trained on (the paper's 10 prompts x 100 noises).

People are those who corrected words of these very samples, and, for prompts of the shapes world, the simulated annotator:
its corrections are stored as simulated on samples of the split 'heldout', which no training reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import rankdata

from core.evaluation.fidelity import agreement, measured, predicted
from core.evaluation.methods import weights_digest
from core.metrics import mean_interval, pearson_of
from core.scoring.scores import TOP
from studio.experiments.common import (
    DRAWS,
    Part,
    clear,
    figure,
    heldout_prompts,
    interval,
    need,
    report,
    series,
    span,
    table,
)
from studio.experiments.evaluation import HELDOUT, labels_of, samples_of, scored_images
from studio.training.heldout import judge_of
from studio.training.runs import Job

BATCH = 64
PEOPLE = {"human": "people", "simulated": "simulated annotator"}
DOTS = 800  # of a scatter plot
Word = dict[str, Any]
Pairs = dict[str, dict[str, Any]]  # by title: how two sources agree


def run(job: Job) -> dict[str, Any]:
    studio, prompts = job.studio, heldout_prompts(job)
    ids = scored_images(studio, prompts, job.config["seeds"], job.config, job.counter, job.stopped, **HELDOUT)
    simulated = job.stage("simulated", lambda: simulate(job, prompts, ids))
    reward = need(job, "reward")
    words = words_of(job, reward, ids)
    sources = {"vlm": "scorer"} | {
        source: who for source, who in PEOPLE.items() if any(word[source] is not None for word in words)
    }
    parts, titles = {}, {}
    for source, who in sources.items():
        parts[source], titles[source] = agreed(words, "reward", source), f"reward model and {who}"
        if source != "vlm":
            key = f"vlm_{source}"
            parts[key], titles[key] = agreed(words, "vlm", source), f"scorer and {who}"
    named = {titles[key]: part for key, part in parts.items()}
    data = {
        "parts": parts, "prompts": prompts, "samples": len(ids), "simulated": simulated,
        "weights": weights_digest(reward),
    }  # fmt: skip
    answer = _answer(named, sources, len(ids), len(prompts))
    figures = [*_by_kind(named), *_confusions(parts, sources), *_scores(words, sources)]
    return report(None, answer, figures, _tables(named), [], data)


def simulate(job: Job, prompts: Sequence[str], ids: list[str]) -> dict[str, Any]:
    """Corrections by the simulated annotator of a random part of the samples, where it can judge the prompts."""
    studio, most, seed = job.studio, job.config["simulated"], job.config["seed"]
    if not most or judge_of(studio, prompts)[1] != "detector":
        return {"words": 0, "samples": 0, "changed": 0}
    order = np.random.default_rng(seed).permutation(ids).tolist()
    counts = {
        id: sum(bool(labels.get("simulated")) for labels in studio.store.scores.current(id).values())
        for id in order
    }
    words, corrected = sum(counts.values()), sum(count > 0 for count in counts.values())
    left = [id for id, count in counts.items() if not count]
    if words >= most or not left:
        return {"words": words, "samples": corrected, "changed": None}
    made = studio.annotation.simulate(left, most - words, seed=seed)
    return {**made, "words": words + made["words"], "samples": corrected + made["samples"]}


def words_of(job: Job, reward: Any, ids: Sequence[str]) -> list[Word]:
    """What the reward model, the scorer, people and the simulated annotator say of each word, in [0, 1] and as digits."""
    studio, count, words = job.studio, job.stoppable("reward model"), []
    samples = [labels_of(studio, row) for row in samples_of(studio, ids)]
    for sample in samples:  # the annotator stands at the judge's place
        sample["truth"] = {index: digit / TOP for index, digit in sample["simulated"].items()}
    for at in range(0, len(samples), BATCH):
        with studio.models.lock:
            words += predicted(reward, studio.models.diffuser(), samples[at : at + BATCH], None)
        count(min(at + BATCH, len(samples)), len(samples))
    return [word | {"simulated": word["truth"], "simulated_digit": word["truth_digit"]} for word in words]


def agreed(words: Sequence[Word], of: str, against: str) -> dict[str, Any]:
    """Agreement as `core.evaluation.fidelity` has it, Spearman and MAE with intervals as well, clustered by prompt."""
    both = [word for word in words if word[of] is not None and word[against] is not None]
    prompts = [word["prompt"] for word in both]
    x, y = (np.array([word[name] for word in both], float) for name in (of, against))
    return agreement(both, of, against, DRAWS) | {
        "spearman": measured(pearson_of, rankdata(x), rankdata(y), prompts, DRAWS),
        "mae": interval(mean_interval(np.abs(x - y), prompts, draws=DRAWS)),
    }


def _answer(pairs: Pairs, sources: dict[str, str], samples: int, prompts: int) -> list[str]:
    lines = [f"Measured on {samples} images of {prompts} prompts that nothing was trained on."]
    lines += [
        f"{title.capitalize()}: Pearson {span(part['pearson'])}, Spearman {span(part['spearman'])}, mean absolute "
        f"error {span(part['mae'])} of the whole scale, over {part['words']} words; within a prompt's word, across seeds, "
        f"Pearson {span(part['within_prompt'])}."
        for title, part in pairs.items()
    ]
    inner = next(iter(pairs.values()))["within_prompt"]
    if clear(inner) and inner["estimate"] > 0:
        lines.append(
            "So the reward model sees in the noise which seeds will score well, which is what a projector can use."
        )
    else:
        lines.append(
            "It is not shown that the reward model tells one seed of a prompt from another: it may only know which prompts are hard."
        )
    if "human" not in sources:
        lines.append(
            "No person has corrected a word of these samples; the simulated annotator stands in for people."
            if "simulated" in sources
            else "Nobody has corrected a word of these samples, so people are not compared."
        )
    return lines


def _by_kind(pairs: Pairs) -> list[Part]:
    titles = {
        "pearson": "Pearson by kind of word",
        "within_prompt": "Pearson within a prompt's word, by kind",
    }
    return [
        figure(
            "dots", title, "", "correlation",
            [series(name, list(part["kinds"]), [kind[key] for kind in part["kinds"].values()])
             for name, part in pairs.items()],
            reference=0.0, reference_name="none",
        )
        for key, title in titles.items()
    ]  # fmt: skip


def _confusions(parts: dict[str, Any], sources: dict[str, str]) -> list[Part]:
    digits = [str(k) for k in range(10)]
    return [
        figure("heatmap", f"Reward model's digit against the {who}'s", "reward model", who,
               z=parts[source]["confusion"], rows=digits, columns=digits, note="Counts of words; right is on the diagonal.")
        for source, who in sources.items()
    ]  # fmt: skip


def _scores(words: Sequence[Word], sources: dict[str, str]) -> list[Part]:
    """How the scores are spread, and those of the reward model over the scorer's."""
    values = [
        {"name": who, "values": [round(TOP * word[source], 3) for word in words if word[source] is not None]}
        for source, who in {"reward": "reward model", **sources}.items()
    ]
    scored = [word for word in words if word["vlm"] is not None]
    some = [scored[i] for i in np.linspace(0, len(scored) - 1, min(DOTS, len(scored))).astype(int)]
    dots = [
        {
            "name": kind,
            "x": [round(word["vlm"], 4) for word in some if word["kind"] == kind],
            "y": [round(word["reward"], 4) for word in some if word["kind"] == kind],
        }
        for kind in sorted({word["kind"] for word in some})
    ]
    return [
        figure("histogram", "Scores", "score, 0 to 9", "words", values),
        figure("scatter", "Reward model over scorer, word by word", "scorer", "reward model", dots,
               note=f"At most {DOTS} words."),
    ]  # fmt: skip


def _tables(pairs: Pairs) -> list[Part]:
    def cells(part: dict[str, Any]) -> dict[str, Any]:
        return {
            "words": part["words"],
            "Pearson": part["pearson"],
            "within a prompt's word": part["within_prompt"],
            "Spearman": part["spearman"],
            "mean absolute error": part["mae"],
            "area under the curve": part["auc"],
        }

    whole = [{"between": title, **cells(part)} for title, part in pairs.items()]
    kinds = [
        {"between": title, "kind": kind, **cells(entry)}
        for title, part in pairs.items()
        for kind, entry in part["kinds"].items()
    ]
    note = "Intervals of 95 %, clustered by prompt. Errors are shares of the whole scale."
    return [table("Agreement", whole, note), table("By kind of word", kinds, note)]
