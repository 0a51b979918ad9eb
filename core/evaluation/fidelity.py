"""Agreement of scores: of the reward model with the VLM, people and the judge, and of the VLM with people and the judge.

A reward model can look good by knowing only which prompts are hard. A projector can only use what the noise decides: the
correlation within one prompt's word, across its seeds, which is reported separately.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from core.diffusion import Diffuser
from core.evaluation.choosing import predict, read_words
from core.metrics import (
    DRAWS,
    Groups,
    Statistic,
    auc_of,
    bootstrap,
    codes,
    confusion,
    finite,
    mae,
    pearson_of,
    spearman,
    within,
)
from core.noise import draw
from core.progress import Stop, Stopped
from core.scoring.scores import TOP, check_digit, expected, likeliest
from core.words import EXTRA

if TYPE_CHECKING:
    from core.foresight import Teacher
    from core.networks.reward import RewardModel

Row = dict[str, Any]
SHOWN = 0.5  # the least expected score or truth of a word that counts as shown
BATCH = 64


def fidelity(
    reward: RewardModel,
    diffuser: Diffuser,
    samples: Sequence[dict[str, Any]],
    *,
    draws: int = DRAWS,
    stop: Stop = None,
    teacher: Teacher | None = None,
) -> dict[str, Any]:
    """Agreement of the reward model with the labels of samples that it was not trained on: a report ready for JSON.

    A sample: {"prompt", "seed", "vlm": {word index: distribution (10,)}}, optionally with "human": {word index: digit},
    "truth": {word index: the judge's truth in [0, 1]}, "height" and "width". Words outside the text encoder's window are
    left out. The report has `vlm`; `human` and, for comparison, `vlm_human` (the VLM against people on the same words)
    where people scored; `truth`, `vlm_truth` and, with a teacher, `teacher_truth` where the truth is known.
    """
    if not samples:
        raise ValueError("There is no sample to measure fidelity on: collect and score some first.")
    pending = sorted(samples, key=lambda sample: (size_of(sample), sample["prompt"]))
    rows: list[Row] = []
    while pending:
        if stop and stop():
            raise Stopped
        batch = [sample for sample in pending[:BATCH] if size_of(sample) == size_of(pending[0])]
        pending = pending[len(batch) :]
        rows += predicted(reward, diffuser, batch, teacher)
    report: dict[str, Any] = {
        "samples": len(samples),
        "prompts": len({sample["prompt"] for sample in samples}),
        "vlm": agreement([r for r in rows if r["vlm"] is not None], "reward", "vlm", draws),
    }
    people = [r for r in rows if r["human"] is not None]
    if people:
        report["human"] = agreement(people, "reward", "human", draws)
        report["vlm_human"] = agreement([r for r in people if r["vlm"] is not None], "vlm", "human", draws)
    for of, name in (("reward", "truth"), ("vlm", "vlm_truth"), ("teacher", "teacher_truth")):
        if both := [r for r in rows if r["truth"] is not None and r[of] is not None]:
            report[name] = agreement(both, of, "truth", draws)
    return report


def predicted(
    reward: RewardModel, diffuser: Diffuser, samples: Sequence[dict[str, Any]], teacher: Teacher | None
) -> list[Row]:
    """One row a word of a batch of samples: the scores of reward model, teacher, VLM, people and judge."""
    unique = list(dict.fromkeys(sample["prompt"] for sample in samples))
    text = diffuser.encode(unique).take([unique.index(sample["prompt"]) for sample in samples])
    shape = diffuser.latent_shape(*size_of(samples[0]))
    noise = draw([sample["seed"] for sample in samples], shape)
    p, words = predict(reward, noise, text)
    foreseen: list[dict[int, float]] = [{} for _ in words]
    if teacher is not None:
        scores = teacher.reader.expected(teacher.logits(noise, text)).cpu().numpy()
        read = read_words(scores, text, teacher.reader.config.extra)
        foreseen = [{word.index: value for word, value in row.items()} for row in read]
    rows = []
    for i, sample in enumerate(samples):
        kinds = {word.index: word.kind for word in text.word_lists[i]}
        vlm = {int(index): np.asarray(q, float) for index, q in (sample.get("vlm") or {}).items()}
        human = {int(index): check_digit(digit) / TOP for index, digit in (sample.get("human") or {}).items()}
        truth = {int(index): float(value) for index, value in (sample.get("truth") or {}).items()}
        for index, value in words[i].items():
            if not (index in vlm or index in human or index in truth):
                continue
            row = {"prompt": sample["prompt"], "index": index, "kind": kinds[index]}
            row |= {"reward": value, "reward_digit": int(p[i, index].argmax())}
            row |= {
                "vlm": float(expected(vlm[index])) if index in vlm else None,
                "vlm_digit": int(likeliest(vlm[index])) if index in vlm else None,
            }
            for name, known in (("human", human), ("truth", truth), ("teacher", foreseen[i])):
                score = known.get(index)
                row |= {name: score, f"{name}_digit": None if score is None else round(TOP * score)}
            rows.append(row)
    return rows


def agreement(rows: Sequence[Row], of: str, against: str, draws: int = DRAWS) -> dict[str, Any]:
    """Agreement of rows[of] with rows[against], over words and by kind, with intervals clustered by prompt; *nothing else*
    is a kind (extra) and not one of the words."""
    kinds = sorted({row["kind"] for row in rows})
    words = [row for row in rows if row["kind"] != EXTRA]
    digits = ([row[f"{name}_digit"] for row in words] for name in (against, of))
    return block(words, of, against, draws) | {
        "kinds": {kind: block([r for r in rows if r["kind"] == kind], of, against, draws) for kind in kinds},
        "confusion": confusion(*digits).tolist(),
    }


def block(rows: Sequence[Row], of: str, against: str, draws: int) -> dict[str, Any]:
    """Pearson, Spearman, MAE, AUC (shown or not), and Pearson within one prompt's word across its seeds."""
    x, y = np.array([r[of] for r in rows], float), np.array([r[against] for r in rows], float)
    prompts = [r["prompt"] for r in rows]
    words = codes([(r["prompt"], r["index"]) for r in rows])
    several = np.flatnonzero(np.bincount(words)[words] > 1) if len(words) else words
    inner = [prompts[i] for i in several]
    return {
        "words": len(rows),
        "pearson": measured(pearson_of, x, y, prompts, draws),
        "spearman": finite(spearman(x, y)),
        "mae": finite(mae(x, y)),
        "auc": measured(auc_of, x, y >= SHOWN, prompts, draws),
        "shown": finite(float((y >= SHOWN).mean())) if len(rows) else None,
        "within_prompt": measured(
            pearson_of, within(x[several], words[several]), within(y[several], words[several]), inner, draws
        ),
    }


def scorer_agreement(rows: Sequence[Row], draws: int = DRAWS) -> dict[str, Any]:
    """Agreement of a scorer with the truth: rows of {"prompt", "kind", "score" in [0, 1], "digit", "truth" in [0, 1]}."""
    words = [
        row
        | {"index": at, "score_digit": check_digit(row["digit"]), "truth_digit": round(TOP * row["truth"])}
        for at, row in enumerate(rows)
    ]
    report = agreement(words, "score", "truth", draws)
    for figures in (report, *report["kinds"].values()):
        del figures["within_prompt"]
    return report


def measured(
    statistic: Callable[[np.ndarray, np.ndarray], Statistic],
    x: np.ndarray,
    y: np.ndarray,
    clusters: Groups,
    draws: int,
) -> dict[str, float | None]:
    """{estimate, low, high} of a statistic of two rows of numbers, None for what is not a number."""
    return bootstrap(statistic(x, y), clusters, draws=draws).cell


def size_of(sample: dict[str, Any]) -> tuple[int, int]:
    """Height and width of a sample's image, 0 for the diffuser's default."""
    return sample.get("height") or 0, sample.get("width") or 0
