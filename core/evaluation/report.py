"""From the records of an experiment to its report: figures with 95 % intervals, paired differences, costs.

Dimension key: P prompts, S seeds of a prompt, W words.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from core.evaluation.choosing import whole
from core.evaluation.fidelity import scorer_agreement
from core.evaluation.methods import BestOf
from core.metrics import DRAWS, best_of, choice_matrix, frechet, mean_interval, win_tie_loss
from core.words import EXTRA, units

Record = dict[str, Any]  # of the journal: a method's images of a prompt
Values = dict[str, list[np.ndarray]]  # by figure: for each prompt an array (S,), nan where there is none


def compare(
    prompts: Sequence[str], records: dict[str, list[Record]], pooled: Sequence[BestOf], *, draws: int = DRAWS
) -> dict[str, Any]:
    """The report of methods that made images (`records`: records in the order of the prompts, "none" among the methods) and
    of best-of-N taken from their images (`pooled`).

    methods[name]  strict, clean (every word holds and nothing else is shown), words, extra, scorer (of words alone) and
                   kinds, each {estimate, low, high} over images; difference: the same, paired with none; win_tie_loss of
                   the strict verdict; seconds and calls an image; peak memory; diversity within a prompt; frechet against
                   none, absent without features or with fewer than two images
    ceiling        best-of-N where the judge itself chooses
    """
    kinds = {prompt: {str(word.index): word.kind for word in units(prompt)} for prompt in prompts}
    table = {
        name: columns([figures(record, kinds[record["prompt"]]) for record in rows])
        for name, rows in records.items()
    }
    control = table["none"]
    report: dict[str, Any] = {
        "prompts": len(prompts),
        "images": sum(len(record["items"]) for record in records["none"]),
        "judged": int(sum(np.isfinite(row).sum() for row in control["strict"])),
        "methods": {},
        "ceiling": {},
    }
    for name, rows in records.items():
        entry = summary(table[name], control, draws, name == "none") | costs(rows)
        if name != "none":
            a, b = (np.concatenate(rows) for rows in (table[name]["strict"], control["strict"]))
            judged = np.isfinite(a) & np.isfinite(b)
            entry["win_tie_loss"] = win_tie_loss(a[judged], b[judged])
        entry["diversity"] = interval([mean(record["distances"]) for record in rows], range(len(rows)), draws)
        treated, usual = features(rows), features(records["none"])
        if name != "none" and treated is not None and usual is not None and min(len(treated), len(usual)) > 1:
            entry["frechet"] = frechet(treated, usual)
        report["methods"][name] = entry
    for method in pooled:
        report["methods"][method.name] = best_from(method, records, table, draws)
        strict = [row[None] for row in control["strict"] if np.isfinite(row).all()]
        by_judge = [best_of(row, row, method.n)[0] for row in strict]
        report["ceiling"][f"best-of-{method.n}"] = over_prompts(by_judge, draws)
    if any("scores" in record for record in records["none"]):
        report["scorer"] = scorer_agreement(scored_words(records["none"], kinds), draws=draws)
    return report


def figures(record: Record, kinds: dict[str, str]) -> list[dict[str, float]]:
    """The figures of each image of a record."""
    images = []
    for at, item in enumerate(record["items"]):
        row: dict[str, float] = {}
        if item:
            row = {
                "strict": item["strict"],
                "clean": float(bool(item["strict"]) and not item["extra"]),
                "extra": item["extra"],
                "words": mean(list(item["words"].values())),
            }
            for kind in {kinds[index] for index in item["words"]}:
                row[f"kind:{kind}"] = mean([t for index, t in item["words"].items() if kinds[index] == kind])
        if "scores" in record:
            scores = [expected for index, expected, _ in record["scores"][at] if kinds[str(index)] != EXTRA]
            complete = len(scores) == sum(kind not in ("function", EXTRA) for kind in kinds.values())
            row["scorer"] = mean(scores) if complete else math.nan
        images.append(row)
    return images


def columns(rows: list[list[dict[str, float]]]) -> Values:
    """Figures by name."""
    others = sorted({name for row in rows for image in row for name in image})
    names = ["strict", "clean", "words", "extra", *others]
    return {n: [np.array([image.get(n, math.nan) for image in row], float) for row in rows] for n in names}


def summary(values: Values, control: Values, draws: int, baseline: bool = False) -> dict[str, Any]:
    """Mean of every figure and of its paired differences from the control, with intervals clustered by prompt."""
    out: dict[str, Any] = {"kinds": {}}
    if not baseline:
        out["difference"] = {"kinds": {}}
    for name, rows in values.items():
        kind = name.removeprefix("kind:")
        (out if kind == name else out["kinds"])[kind] = over_prompts(rows, draws)
        if not baseline and name in control:
            pairs = [a - b for a, b in zip(rows, control[name], strict=True)]
            difference = out["difference"]
            (difference if kind == name else difference["kinds"])[kind] = over_prompts(pairs, draws)
    return out


def costs(rows: list[Record]) -> dict[str, Any]:
    """Seconds, seconds of scoring and calls an image, and the peak memory of a batch in bytes, None where not measured."""
    images = sum(len(record["items"]) for record in rows)
    names = dict.fromkeys(name for record in rows for name in record["other_calls"])
    peaks = [peak for record in rows if (peak := record.get("peak_memory")) is not None]
    return {
        "seconds": sum(record["seconds"] for record in rows) / images,
        "scoring_seconds": sum(record.get("scoring_seconds", 0.0) for record in rows) / images,
        "network_calls": sum(record["network_calls"] for record in rows) / images,
        "peak_memory": max(peaks, default=None),
        "other_calls": {name: sum(r["other_calls"].get(name, 0) for r in rows) / images for name in names},
    }


def best_from(
    method: BestOf, records: dict[str, list[Record]], table: dict[str, Values], draws: int
) -> dict[str, Any]:
    """Best-of-N by the scorer, from the images of its base, exactly over all subsets of N of a prompt's seeds."""
    rows, base, n = records[method.base.name], table[method.base.name], method.n
    picks = [
        np.array([whole([e for _, e, _ in words], record["prompt"]) for words in record["scores"]])
        for record in rows
    ]
    chances = [choice_matrix(scores, n) for scores in picks]
    values = {
        # an image that cannot be chosen need not have the figure
        name: [(c * np.where(c > 0, row, 0)).sum(1) for c, row in zip(chances, column, strict=True)]
        for name, column in base.items()
    }
    entry = summary(values, table["none"], draws)
    if method.base.name == "none":
        entry["win_tie_loss"] = expected_wins(chances, base["strict"])
    cost = costs(rows)
    entry |= {
        "seconds": n * (cost["seconds"] + cost["scoring_seconds"]),
        "scoring_seconds": cost["scoring_seconds"],
        "network_calls": n * cost["network_calls"],
        "peak_memory": cost["peak_memory"],
        "other_calls": {name: n * count for name, count in cost["other_calls"].items()} | {"scorer": n},
    }
    spread = [chosen_distance(c, record["distances"]) for c, record in zip(chances, rows, strict=True)]
    entry["diversity"] = interval(spread, range(len(rows)), draws)
    return entry


def chosen_distance(chance: np.ndarray, pairs: Sequence[float]) -> float:
    """Mean distance between two different chosen images of a prompt; nan where the same one is always chosen."""
    weight = chance.mean(0)
    first, second = np.triu_indices(len(weight), 1)
    both = weight[first] * weight[second]
    return float(both @ np.asarray(pairs) / both.sum()) if both.sum() > 1e-12 else math.nan


def expected_wins(chances: list[np.ndarray], strict: list[np.ndarray]) -> dict[str, float]:
    """Expected wins, ties and losses of the chosen image against the base seed's own."""
    pairs = ((c, row) for c, row in zip(chances, strict, strict=True) if np.isfinite(row).all())
    judged = [(chance, row[None], row[:, None]) for chance, row in pairs]
    compared = {"win": np.greater, "tie": np.equal, "loss": np.less}
    return {
        name: round(float(sum((chance * holds(a, b)).sum() for chance, a, b in judged)), 2)
        for name, holds in compared.items()
    }


def scored_words(rows: list[Record], kinds: dict[str, dict[str, str]]) -> list[dict[str, Any]]:
    """All words with a score and a truth: prompt, kind, expected score, digit, truth."""
    return [
        {
            "prompt": prompt,
            "kind": kinds[prompt][str(index)],
            "score": expected,
            "digit": digit,
            "truth": truth,
        }
        for record, prompt in ((record, record["prompt"]) for record in rows)
        for item, words in zip(record["items"], record.get("scores", []), strict=False)
        if item
        for index, expected, digit in words
        if (truth := item["words"].get(str(index))) is not None
    ]


def features(rows: list[Record]) -> np.ndarray | None:
    """The scorer's features of all images (N, F), where each record has them."""
    if not all("features" in record for record in rows):
        return None
    raw = [np.frombuffer(base64.b64decode(record["features"]), np.float16) for record in rows]
    images = [values.reshape(len(record["items"]), -1) for values, record in zip(raw, rows, strict=True)]
    return np.concatenate(images).astype(np.float64)


def over_prompts(rows: Sequence[np.ndarray], draws: int) -> dict[str, float | None]:
    """Mean over all images with its interval, rows being the prompts."""
    clusters = [prompt for prompt, row in enumerate(rows) for _ in row]
    return interval(np.concatenate([np.empty(0), *rows]), clusters, draws)


def interval(
    values: Sequence[float] | np.ndarray, clusters: Sequence[int], draws: int
) -> dict[str, float | None]:
    """{estimate, low, high} of the mean of the values that are finite; None for what is not a number."""
    row = np.asarray(values, float)
    present = np.isfinite(row)
    return mean_interval(row[present], np.asarray(clusters)[present], draws=draws).cell


def mean(values: Sequence[float]) -> float:
    """Mean, nan of nothing."""
    return float(np.mean(values)) if len(values) else math.nan


def markdown(report: dict[str, Any]) -> str:
    """The report's main figures as a Markdown table."""

    def percent(span: dict[str, float | None], form: str = ".1f") -> str:
        shown = [f"{100 * value:{form}}" for value in span.values() if value is not None]
        ends = f" [{', '.join(shown[1:])}]" if shown[1:] else ""
        return "-" if span["estimate"] is None else f"{shown[0]}{ends}"

    lines = [
        "| method | every word holds, % | against none | words, % | seconds | network calls | peak MB | diversity |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, entry in report["methods"].items():
        against = percent(entry["difference"]["strict"], "+.1f") if "difference" in entry else ""
        spread, peak = entry["diversity"]["estimate"], entry.get("peak_memory")
        lines.append(
            f"| {name} | {percent(entry['strict'])} | {against} | {percent(entry['words'])} | {entry['seconds']:.2f} "
            f"| {entry['network_calls']:.0f} | {'-' if peak is None else f'{peak / 1e6:.0f}'} "
            f"| {'-' if spread is None else f'{spread:.3f}'} |"
        )
    return "\n".join(lines)
