"""Experiment *distribution shift*: how far the projector moves the noises, and the images that come of them.

Images, with and without projection, from the same prompts and seeds:
- Frechet distance in the scorer's image features (not Inception's: figures are no FID), between half of the one set and
  the other half of the other, beside the *inner* Frechet distance of each set, between its own halves;
- an inception-like score from the scorer's answers, pairwise diversity within a prompt, the judge's verdict, failures.

Noises, `noises` of each prompt: squared MMD (RBF kernel, median heuristic, unbiased) and Jensen-Shannon divergence
(nats; histogram of all values, and the mean over channels) of
- projected noise against N(0, I), of other seeds; reference line: two samples of N(0, I) of that size;
- projected noise against the noises of well-scored images: those of the best `well` of a prompt's unprojected images, by
  the scorer's whole score; reference line: N(0, I) against the same.
The MMD of images' noises can only fall below its reference if the projector moves towards what scores well.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from torch import Tensor

from core.evaluation.base import Method
from core.evaluation.choosing import whole
from core.evaluation.distribution import histogram, inception_like, jensen_shannon, mmd_test
from core.evaluation.methods import Projected
from core.metrics import mean_interval
from core.noise import draw, drift
from studio.experiments.common import Judged, before_after, heldout_prompts, judged, need, noises_of
from studio.experiments.parts import Cell, Part, compared, few, figure, report, series, span, table
from studio.images.prompts import seeds_for
from studio.training.runs import Job

COMPARISONS = {
    "white": "projected against N(0, I)",
    "white reference": "N(0, I) against N(0, I)",
    "well": "projected against well-scored",
    "well reference": "N(0, I) against well-scored",
}
SHOWN = 1000  # values of each prompt in the report's histogram
PICTURED = 4  # prompts
Figures = dict[str, Any]


def run(job: Job) -> dict[str, Any]:
    prompts = heldout_prompts(job)
    method = Projected(need(job, "projector"), job.config["strength"], "projected")
    result = judged(job, "shift", [method], prompts)
    well = [well_scored(record, job.config["well"]) for record in result.records["none"]]
    count, noises = job.stoppable("noises"), []
    for row, (prompt, seeds) in enumerate(zip(prompts, well, strict=True)):
        noises.append(job.stage(f"noise {row}", partial(of_noise, job, method, prompt, seeds)))
        count(row + 1, len(prompts))
    images, means = of_images(result), means_of(noises)
    pictures = before_after(job, [Method(), method], prompts[:PICTURED])
    each = [{name: value for name, value in noise.items() if name != "values"} for noise in noises]
    data = {"images": images, "noises": dict(zip(prompts, each, strict=True)), "alignment": result.report}
    figures = [*_noise_figures(prompts, noises), *_image_figures(images)]
    tables = [_image_table(result, images), _noise_table(means, noises)]
    return report(result.judge, _answer(result, images, means, noises), figures, tables, [pictures], data)


def well_scored(record: dict[str, Any], share: float) -> list[int]:
    """The seeds of the best share of a prompt's images, two at least, by the scorer; an unscored word comes last."""
    prompt = record["prompt"]
    scores = [whole([expected for _, expected, _ in words], prompt=prompt) for words in record["scores"]]
    best = np.argsort(scores, kind="stable")[::-1][: max(2, round(share * len(scores)))]
    return [record["used"][i] for i in best]


def of_noise(job: Job, method: Projected, prompt: str, well: list[int]) -> Figures:
    """Divergences of one prompt's noises, and their drift."""
    count, rng = job.config["noises"], np.random.default_rng(job.config["seed"])
    shape = job.studio.models.diffuser().latent_shape()
    first = job.config["seeds"]  # after those of the images: a well-scored noise is not met again
    seeds = [seeds_for(prompt, count, evaluation=True, first=first + k * count) for k in range(3)]
    noise, white, other, good = (draw(drawn, shape) for drawn in (*seeds, well))
    moved = noises_of(job, method, prompt, seeds[0])
    pairs = {
        "white": (moved, white),
        "white reference": (other, white),
        "well": (moved, good),
        "well reference": (other, good),
    }
    places = rng.choice(moved.numel(), min(SHOWN, moved.numel()), replace=False)
    shown = {"projected": moved, "N(0, I)": white}
    values = {name: np.round(x.flatten().numpy()[places], 3).tolist() for name, x in shown.items()}
    figures: Figures = {name: divergences(*pair, seed=job.config["seed"]) for name, pair in pairs.items()}
    return figures | {
        "values": values, "drift": drift(moved, noise), "noises": count, "well_scored": len(well),
    }  # fmt: skip


def divergences(a: Tensor, b: Tensor, seed: int) -> dict[str, float]:
    """MMD of two sets of noises (N, C, H, W), what it stays below by chance, and Jensen-Shannon divergences in nats."""
    x, y = a.flatten(1).numpy(), b.flatten(1).numpy()
    channels = [
        jensen_shannon(histogram(p.numpy()), histogram(q.numpy()))
        for p, q in zip(a.unbind(1), b.unbind(1), strict=True)
    ]
    value, level = mmd_test(x, y, seed=seed)
    whole = jensen_shannon(histogram(x), histogram(y))
    return {"mmd": value, "mmd_level": level, "jensen_shannon": whole, "by_channel": float(np.mean(channels))}


def of_images(result: Judged) -> Figures:
    """Figures of the images of each method, and of the one against the other."""
    out: Figures = {}
    for name in ("none", "projected"):
        inner = result.frechet(name, name)
        out[name] = {
            "inner_frechet": None if result.features(name) is None else spread_of(inner),
            "inception_like": inception_like(result.answers(name)),
            "diversity": result.methods[name]["diversity"],
            "failures": result.failures(name),
        }
    if out["none"]["inner_frechet"] and out["projected"]["inner_frechet"]:
        out["frechet"] = spread_of(result.frechet("none", "projected"))
    return out


def spread_of(values: list[float]) -> Cell:
    """Mean, least and largest of the values of random halves."""
    if not values:
        return {"estimate": None, "low": None, "high": None}
    return {"estimate": float(np.mean(values)), "low": min(values), "high": max(values)}


def means_of(noises: Sequence[Figures]) -> dict[str, Figures]:
    """Each divergence's mean over prompts, with its interval; and the number of prompts where it is beyond chance."""
    means: dict[str, Figures] = {}
    for name in COMPARISONS:
        rows = [noise[name] for noise in noises]
        means[name] = {"beyond_chance": sum(row["mmd"] > row["mmd_level"] for row in rows)}
        for key in ("mmd", "jensen_shannon", "by_channel"):
            means[name][key] = mean_interval(np.array([row[key] for row in rows]), range(len(rows))).cell
    return means


def _answer(result: Judged, images: Figures, means: dict[str, Figures], noises: list[Figures]) -> list[str]:
    lines, n = [], len(noises)
    for name, against in (("white", "N(0, I)"), ("well", "the noises of well-scored images")):
        of, reference = means[name], means[f"{name} reference"]
        lines.append(
            f"Projected noise against {against}: MMD² {_small(of['mmd'])}, where N(0, I) itself gives {_small(reference['mmd'])}; "
            f"beyond chance for {of['beyond_chance']} of {n} prompts (N(0, I): {reference['beyond_chance']})."
        )
        entropy, usual = _small(of["jensen_shannon"]), _small(reference["jensen_shannon"])
        lines.append(f"Jensen-Shannon divergence from {against}: {entropy} nats, N(0, I) itself {usual}.")
    nearer = [noise["well"]["mmd"] - noise["well reference"]["mmd"] for noise in noises]
    closer = mean_interval(np.array(nearer), range(n)).high < 0
    effect = "projection moves the noises towards those of well-scored images."
    lines.append(f"So {effect}" if closer else f"It is not shown that {effect}")
    plain, projected = images["none"], images["projected"]
    if "frechet" in images:
        lines.append(
            f"Frechet distance of the images with and without projection {span(images['frechet'])}, between halves; two halves "
            f"without projection {span(plain['inner_frechet'])}, with it {span(projected['inner_frechet'])}."
        )
    before, after = (f"{images[name]['inception_like']['score']:.2f}" for name in ("none", "projected"))
    lines += [
        f"Inception-like score {before} without and {after} with projection.",
        f"Diversity within a prompt {span(plain['diversity'])} without and {span(projected['diversity'])} with projection.",
        compared("With projection, every word holding", result.gain("projected"), "none"),
    ]
    return lines + few(n)


def _small(cell: Cell) -> str:
    return "-" if cell["estimate"] is None else span(cell, ".2e")


def _noise_figures(prompts: Sequence[str], noises: Sequence[Figures]) -> list[Part]:
    note = "Compare each with its reference, N(0, I), of the same size."
    figures = []
    for key, title, unit in (
        ("mmd", "MMD", "squared MMD"),
        ("jensen_shannon", "Jensen-Shannon divergence", "nats"),
    ):
        lines = [
            {"name": words, "x": prompts, "y": [noise[name][key] for noise in noises]}
            for name, words in COMPARISONS.items()
        ]
        figures.append(figure("dots", f"{title} of noises, by prompt", "", unit, lines, note=note))
    values = [
        {"name": name, "values": [value for noise in noises for value in noise["values"][name]]}
        for name in ("N(0, I)", "projected")
    ]
    return [*figures, figure("histogram", "Values of the noises", "value", "count", values)]


def _image_figures(images: Figures) -> list[Part]:
    figures = []
    if "frechet" in images:
        cells = [images["none"]["inner_frechet"], images["frechet"], images["projected"]["inner_frechet"]]
        halves = series("halves", ["none, inner", "none against projected", "projected, inner"], cells)
        figures.append(
            figure("dots", "Frechet distance of images, between halves", "", "distance in the scorer's features", [halves],
                   note="The marks span the least and the largest of ten random halvings.")
        )  # fmt: skip
    methods = ["none", "projected"]
    diversity = series("diversity", methods, [images[name]["diversity"] for name in methods])
    title = "Pairwise diversity within a prompt"
    return [*figures, figure("dots", title, "", "root mean square difference", [diversity])]


def _image_table(result: Judged, images: Figures) -> Part:
    rows = []
    for name in ("none", "projected"):
        entry = images[name]
        rows.append(
            {
                "images": name,
                "inner Frechet": entry["inner_frechet"],
                "Frechet to none": images.get("frechet") if name == "projected" else None,
                "inception-like": entry["inception_like"]["score"],
                "entropy of an answer": entry["inception_like"]["certain"],
                "of the mean answer": entry["inception_like"]["spread"],
                "diversity": entry["diversity"],
                "every word holds": result.methods[name]["strict"],
                "invalid": entry["failures"],
            }
        )
    note = (
        "Frechet distances between random halves, of the scorer's features: mean, least and largest. Inception-like: exp of "
        "the mean KL between an answer of the scorer and the mean of all, its ten digits being the classes: 1 to 10."
    )
    return table("Images", rows, note, ["every word holds", "invalid"])


def _noise_table(means: dict[str, Figures], noises: list[Figures]) -> Part:
    rows = [
        {
            "noises": words,
            "MMD²": means[name]["mmd"],
            "prompts beyond chance": f"{means[name]['beyond_chance']} of {len(noises)}",
            "Jensen-Shannon, nats": means[name]["jensen_shannon"],
            "by channel, nats": means[name]["by_channel"],
        }
        for name, words in COMPARISONS.items()
    ]
    note = (
        f"{noises[0]['noises']} noises of each of {len(noises)} prompts; well-scored: {noises[0]['well_scored']} of each. Mean "
        "over prompts with its interval; beyond chance: above what 95 % of random permutations give."
    )
    return table("Noises", rows, note)
