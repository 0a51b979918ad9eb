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

from core.evaluation.choosing import weights_digest
from core.evaluation.fidelity import agreement, measured, predicted
from core.metrics import mean_interval, pearson_of
from core.scoring.scores import TOP
from studio.experiments.common import DRAWS, heldout_prompts, need
from studio.experiments.evaluation import HELDOUT, labels_of, samples_of, scored_images
from studio.experiments.parts import Part, clear, figure, report, series, span, table
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
    pairs, named = {}, {}
    for source, who in sources.items():
        pairs[source] = named[f"reward model and {who}"] = agreed(words, "reward", source)
        if source != "vlm":
            pairs[f"vlm_{source}"] = named[f"scorer and {who}"] = agreed(words, "vlm", source)
    data = {
        "parts": pairs, "prompts": prompts, "samples": len(ids), "simulated": simulated,
        "weights": weights_digest(reward),
    }  # fmt: skip
    answer = _answer(named, sources, len(ids), len(prompts))
    figures = [*_by_kind(named), *_confusions(pairs, sources), *_scores(words, sources)]
    return report(None, answer, figures, _tables(named), [], data)


def simulate(job: Job, prompts: Sequence[str], ids: list[str]) -> dict[str, Any]:
    """Correct random samples by the simulated annotator, where it can judge the prompts."""
    studio, most, seed = job.studio, job.config["simulated"], job.config["seed"]
    if not most or judge_of(studio, prompts)[1] != "detector":
        return {"words": 0, "samples": 0, "changed": 0}
    order = np.random.default_rng(seed).permutation(ids).tolist()
    counts = {
        id: sum(bool(labels.get("simulated")) for labels in studio.store.scores.current(id).values())
        for id in order
    }
    words, corrected = sum(counts.values()), sum(count > 0 for count in counts.values())
    pending = [id for id, count in counts.items() if not count]
    if words >= most or not pending:
        return {"words": words, "samples": corrected, "changed": None}
    added = studio.annotation.simulate(pending, most - words, seed=seed)
    return {**added, "words": words + added["words"], "samples": corrected + added["samples"]}


def words_of(job: Job, reward: Any, ids: Sequence[str]) -> list[Word]:
    """Scores of each word by reward model, scorer, people and simulated annotator, in [0, 1] and as digits."""
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
        "mae": mean_interval(np.abs(x - y), prompts, draws=DRAWS).cell,
    }


def _answer(pairs: Pairs, sources: dict[str, str], samples: int, prompts: int) -> list[str]:
    lines = [f"Measured on {samples} images of {prompts} prompts that nothing was trained on."]
    lines += [
        f"{title.capitalize()}: Pearson {span(pair['pearson'])}, Spearman {span(pair['spearman'])}, mean absolute "
        f"error {span(pair['mae'])} of the whole scale, over {pair['words']} words; within a prompt's word, across seeds, "
        f"Pearson {span(pair['within_prompt'])}."
        for title, pair in pairs.items()
    ]
    inner = next(iter(pairs.values()))["within_prompt"]
    lines.append(
        "So the reward model sees in the noise which seeds will score well, which is what a projector can use."
        if clear(inner) and inner["estimate"] > 0
        else "It is not shown that the reward model tells one seed of a prompt from another: it may only know which prompts "
        "are hard."
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
            [series(name, list(pair["kinds"]), [kind[key] for kind in pair["kinds"].values()])
             for name, pair in pairs.items()],
            reference=0.0, reference_name="none",
        )
        for key, title in titles.items()
    ]  # fmt: skip


def _confusions(pairs: dict[str, Any], sources: dict[str, str]) -> list[Part]:
    digits = [str(k) for k in range(10)]
    return [
        figure("heatmap", f"Reward model's digit against the {who}'s", "reward model", who,
               z=pairs[source]["confusion"], rows=digits, columns=digits, note="Counts of words; right is on the diagonal.")
        for source, who in sources.items()
    ]  # fmt: skip


def _scores(words: Sequence[Word], sources: dict[str, str]) -> list[Part]:
    """Histograms of the scores, and the reward model's over the scorer's."""
    values = [
        {"name": who, "values": [round(TOP * word[source], 3) for word in words if word[source] is not None]}
        for source, who in {"reward": "reward model", **sources}.items()
    ]
    scored = [word for word in words if word["vlm"] is not None]
    scored = [scored[i] for i in np.linspace(0, len(scored) - 1, min(DOTS, len(scored))).astype(int)]
    dots = [
        {"name": kind, **{axis: [round(word[of], 4) for word in scored if word["kind"] == kind]
                          for axis, of in (("x", "vlm"), ("y", "reward"))}}
        for kind in sorted({word["kind"] for word in scored})
    ]  # fmt: skip
    return [
        figure("histogram", "Scores", "score, 0 to 9", "words", values),
        figure("scatter", "Reward model over scorer, word by word", "scorer", "reward model", dots,
               note=f"At most {DOTS} words."),
    ]  # fmt: skip


def _tables(pairs: Pairs) -> list[Part]:
    columns = {
        "words": "words", "Pearson": "pearson", "within a prompt's word": "within_prompt", "Spearman": "spearman",
        "mean absolute error": "mae", "area under the curve": "auc",
    }  # fmt: skip

    def cells(pair: dict[str, Any]) -> dict[str, Any]:
        return {column: pair[key] for column, key in columns.items()}

    whole = [{"between": title, **cells(pair)} for title, pair in pairs.items()]
    kinds = [
        {"between": title, "kind": kind, **cells(entry)}
        for title, pair in pairs.items()
        for kind, entry in pair["kinds"].items()
    ]
    note = "Intervals of 95 %, clustered by prompt. Errors are shares of the whole scale."
    return [table("Agreement", whole, note), table("By kind of word", kinds, note)]
