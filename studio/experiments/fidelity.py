"""Experiment *fidelity*: the reward model, which sees the noise alone, against the scorer and against people, on prompts
that nothing was trained on (the paper's 10 prompts x 100 noises).

People are those who corrected words of these very samples, and, for prompts of the shapes world, the simulated annotator:
its corrections are stored as simulated on samples of the split 'heldout', which no training reads.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.stats import rankdata

from core.evaluation.fidelity import agreement, measured
from core.evaluation.methods import predict, weights_digest
from core.metrics import mean_interval, pearson_of
from core.noise import draw
from core.scoring.scores import TOP, expected, likeliest
from studio.experiments.common import (
    DRAWS,
    clear,
    counted,
    figure,
    heldout_prompts,
    interval,
    need,
    series,
    span,
    table,
)
from studio.images.making import encode
from studio.training.heldout import judge_of
from studio.training.runs import Job

BATCH = 64
PEOPLE = {"human": "people", "simulated": "simulated annotator"}
DOTS = 800  # of a scatter plot


def run(job: Job) -> dict[str, Any]:
    prompts = heldout_prompts(job)
    ids = collected(job, prompts)
    simulated = job.stage("simulated", lambda: simulate(job, prompts, ids))
    reward = need(job, "reward")
    rows = rows_of(job, reward, ids)
    parts = {"vlm": compared_rows(rows, "reward", "vlm")}
    for source in PEOPLE:
        if any(row[source] is not None for row in rows):
            parts[source] = compared_rows(rows, "reward", source)
            parts[f"vlm_{source}"] = compared_rows(rows, "vlm", source)
    titles = {"vlm": "reward model and scorer"}
    for source, who in PEOPLE.items():
        titles |= {source: f"reward model and {who}", f"vlm_{source}": f"scorer and {who}"}
    return {
        "judge": None,
        "answer": _answer(parts, titles, len(ids), len(prompts)),
        "figures": _figures(rows, parts, titles),
        "tables": _tables(parts, titles),
        "pictures": [],
        "data": {
            "parts": parts, "prompts": prompts, "samples": len(ids), "simulated": simulated,
            "weights": weights_digest(reward),
        },
    }  # fmt: skip


def collected(job: Job, prompts: list[str]) -> list[str]:
    """Samples of every prompt and seed, scored, in the store: what is there already is not made again."""
    studio, config = job.studio, job.config
    ids = studio.collecting.collect(
        prompts, config["seeds"], steps=config["steps"], guidance=config["guidance"], prompt_set="heldout",
        split="heldout", evaluation=True, on_progress=job.counter("images"), stop=job.stopped,
    )  # fmt: skip
    job.check()
    studio.scoring.score(ids, job.counter("scores"), job.stopped)
    job.check()
    return ids


def simulate(job: Job, prompts: list[str], ids: list[str]) -> dict[str, Any]:
    """Corrections by the simulated annotator of a random part of the samples, where it can judge the prompts."""
    studio, most = job.studio, job.config["simulated"]
    if not most or judge_of(studio, prompts)[1] != "detector":
        return {"words": 0, "samples": 0, "changed": 0}
    order = np.random.default_rng(job.config["seed"]).permutation(ids).tolist()
    there = [
        id for id in order if any(said.get("simulated") for said in studio.store.scores.current(id).values())
    ]
    words = sum(
        bool(said.get("simulated")) for id in there for said in studio.store.scores.current(id).values()
    )
    left = [id for id in order if id not in set(there)]
    if words >= most or not left:
        return {"words": words, "samples": len(there), "changed": None}
    found = studio.annotation.simulate(left, most - words, seed=job.config["seed"])
    return {**found, "words": words + found["words"], "samples": len(there) + found["samples"]}


def rows_of(job: Job, reward: Any, ids: list[str]) -> list[dict[str, Any]]:
    """One row a word: what the reward model, the scorer, people and the simulated annotator say, in [0, 1] and as digits."""
    studio, rows = job.studio, []
    diffuser, count = studio.models.diffuser(), counted(job, "reward model", len(ids))
    for at in range(0, len(ids), BATCH):
        part = studio.store.samples.find(ids=ids[at : at + BATCH], limit=BATCH)
        with studio.models.lock:
            text = encode(diffuser, [row["prompt"] for row in part])
            noise = draw([row["seed"] for row in part], diffuser.latent_shape())
            p, words = predict(reward, noise, text)
        for i, sample in enumerate(part):
            said, kinds = (
                studio.store.scores.current(sample["id"]),
                {w.index: w.kind for w in text.word_lists[i]},
            )
            for index, value in words[i].items():
                if index in said:
                    rows.append(
                        {"prompt": sample["prompt"], "index": index, "kind": kinds[index], "reward": value,
                         "reward_digit": int(p[i, index].argmax()), **labels_of(said[index])}
                    )  # fmt: skip
        count(min(at + BATCH, len(ids)))
    return rows


def labels_of(said: dict[str, Any]) -> dict[str, Any]:
    """What stands for a word in the store, by source: its value in [0, 1] and its digit, None where there is none."""
    found: dict[str, Any] = {"vlm": None, "vlm_digit": None}
    if spread := (said.get("vlm") or {}).get("distribution"):
        found = {"vlm": float(expected(spread)), "vlm_digit": int(likeliest(spread))}
    for source in PEOPLE:
        digit = said[source]["score"] if said.get(source) else None
        found |= {source: None if digit is None else digit / TOP, f"{source}_digit": digit}
    return found


def compared_rows(rows: list[dict[str, Any]], of: str, against: str) -> dict[str, Any]:
    """Agreement as `core.evaluation.fidelity` has it, Spearman and MAE with intervals as well, clustered by prompt."""
    there = [row for row in rows if row[of] is not None and row[against] is not None]
    found = agreement(there, of, against, DRAWS)
    prompts = [row["prompt"] for row in there]
    x, y = (np.array([row[name] for row in there], float) for name in (of, against))
    found["spearman"] = measured(pearson_of, rankdata(x), rankdata(y), prompts, DRAWS)
    found["mae"] = interval(mean_interval(np.abs(x - y), prompts, draws=DRAWS))
    return found


def _answer(parts: dict, titles: dict, samples: int, prompts: int) -> list[str]:
    lines = [f"Measured on {samples} images of {prompts} prompts that nothing was trained on."]
    for key, part in parts.items():
        inner = part["within_prompt"]
        lines.append(
            f"{titles[key].capitalize()}: Pearson {span(part['pearson'])}, Spearman {span(part['spearman'])}, mean absolute "
            f"error {span(part['mae'])} of the whole scale, over {part['words']} words; within a prompt's word, across seeds, "
            f"Pearson {span(inner)}."
        )
    inner = parts["vlm"]["within_prompt"]
    if clear(inner) and inner["estimate"] > 0:
        lines.append(
            "So the reward model sees in the noise which seeds will score well, which is what a projector can use."
        )
    else:
        lines.append(
            "That the reward model tells one seed of a prompt from another is not shown: its agreement is about prompts."
        )
    if not any(source in parts for source in PEOPLE):
        lines.append("Nobody has corrected a word of these samples, so people are not compared.")
    elif "human" not in parts:
        lines.append(
            "No person has corrected a word of these samples; the simulated annotator stands in for people."
        )
    return lines


def _figures(rows: list[dict], parts: dict, titles: dict) -> list[dict[str, Any]]:
    out = []
    for key, title in (
        ("pearson", "Pearson by kind of word"),
        ("within_prompt", "Pearson within a prompt's word, by kind"),
    ):
        named = [
            series(titles[name], list(part["kinds"]), [kind[key] for kind in part["kinds"].values()])
            for name, part in parts.items()
        ]
        out.append(figure("dots", title, "", "correlation", named, reference=0.0, reference_name="none"))
    of = {"vlm": "scorer", **PEOPLE}
    for against in (name for name in of if name in parts):
        digits = [str(k) for k in range(10)]
        out.append(
            figure("heatmap", f"Reward model's digit against the {of[against]}'s", "reward model", of[against],
                   z=parts[against]["confusion"], rows=digits, columns=digits, note="Counts of words; right is on the diagonal.")
        )  # fmt: skip
    spread = [
        ("reward model", "reward"),
        ("scorer", "vlm"),
        *((who, name) for name, who in PEOPLE.items() if name in parts),
    ]
    values = [
        {"name": who, "values": [round(TOP * row[name], 3) for row in rows if row[name] is not None]}
        for who, name in spread
    ]
    out.append(figure("histogram", "Scores", "score, 0 to 9", "words", values))
    some = [row for row in rows if row["vlm"] is not None]
    some = [some[i] for i in np.linspace(0, len(some) - 1, min(DOTS, len(some))).astype(int)] if some else []
    dots = [
        {
            "name": kind,
            "x": [round(r["vlm"], 4) for r in some if r["kind"] == kind],
            "y": [round(r["reward"], 4) for r in some if r["kind"] == kind],
        }
        for kind in sorted({r["kind"] for r in some})
    ]
    out.append(
        figure(
            "scatter",
            "Reward model over scorer, word by word",
            "scorer",
            "reward model",
            dots,
            note=f"At most {DOTS} words.",
        )
    )
    return out


def _tables(parts: dict, titles: dict) -> list[dict[str, Any]]:
    columns = [
        "words",
        "Pearson",
        "within a prompt's word",
        "Spearman",
        "mean absolute error",
        "area under the curve",
    ]

    def cells(part: dict) -> list[Any]:
        return [
            part["words"],
            part["pearson"],
            part["within_prompt"],
            part["spearman"],
            part["mae"],
            part["auc"],
        ]

    whole = [[titles[key], *cells(part)] for key, part in parts.items()]
    kinds = [
        [titles[key], kind, *cells(entry)]
        for key, part in parts.items()
        for kind, entry in part["kinds"].items()
    ]
    note = "Intervals of 95 %, clustered by prompt. Errors are shares of the whole scale."
    return [
        table("Agreement", ["between", *columns], whole, note),
        table("By kind of word", ["between", "kind", *columns], kinds, note),
    ]
