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

from typing import Any

import numpy as np
import torch
from torch import Tensor

from core.evaluation.distribution import (
    half_frechet,
    histogram,
    inception_like,
    jensen_shannon,
    mmd_test,
)
from core.evaluation.methods import Projected, none, whole
from core.metrics import mean_interval
from core.noise import draw, drift
from studio.experiments.common import (
    Judged,
    before_after,
    compared,
    counted,
    evaluation_seeds,
    few,
    figure,
    heldout_prompts,
    interval,
    judge_sentence,
    judged,
    need,
    series,
    span,
    table,
)
from studio.images.prompts import seeds_for
from studio.training.runs import Job

PARTS = {
    "white": "projected against N(0, I)",
    "white reference": "N(0, I) against N(0, I)",
    "well": "projected against well-scored",
    "well reference": "N(0, I) against well-scored",
}
SHOWN = 1000  # values of each prompt in the report's histogram


def run(job: Job) -> dict[str, Any]:
    prompts = heldout_prompts(job)
    method = Projected(need(job, "projector"), job.config["strength"], "projected")
    found = judged(job, "shift", [method], prompts, evaluation_seeds(job, prompts))
    well = [well_scored(record, job.config["well"]) for record in found.records["none"]]
    count = counted(job, "noises", len(prompts))
    noises = []
    for row, prompt in enumerate(prompts):
        noises.append(job.stage(f"noise {row}", lambda p=prompt, w=well[row]: of_noise(job, method, p, w)))
        count(row + 1)
    images = of_images(found)
    some = prompts[:4]
    pictures = before_after(
        job, [none(), method], some, [row[0] for row in evaluation_seeds(job, some)], ["none", "projected"]
    )
    summary = summed(noises)
    return {
        "judge": found.judge,
        "answer": _answer(found, images, summary, noises),
        "figures": _figures(found, images, prompts, noises),
        "tables": [_image_table(found, images), _noise_table(summary, noises)],
        "pictures": [pictures],
        "data": {
            "images": images,
            "noises": {
                prompt: {name: value for name, value in noise.items() if name != "values"}
                for prompt, noise in zip(prompts, noises, strict=True)
            },
            "alignment": found.report,
        },
    }


def well_scored(record: dict[str, Any], share: float) -> list[int]:
    """The seeds of the best share of a prompt's images, two at least, by the scorer's whole score; those that it could not
    score wholly come last."""
    prompt = record["prompt"]
    scores = [whole([expected for _, expected, _ in words], prompt=prompt) for words in record["scores"]]
    best = np.argsort(scores, kind="stable")[::-1][: max(2, round(share * len(scores)))]
    return [record["used"][i] for i in best]


def of_noise(job: Job, method: Projected, prompt: str, well: list[int]) -> dict[str, Any]:
    """Divergences of one prompt's noises, and their drift."""
    studio, count = job.studio, job.config["noises"]
    shape = studio.models.diffuser().latent_shape()
    first = job.config["seeds"]  # after those of the images: a well-scored noise is not met again
    own, other, third = (
        seeds_for(prompt, count, evaluation=True, first=first + part * count) for part in range(3)
    )
    moved = project(job, method, prompt, own, shape)
    noise, white, more, good = (draw(seeds, shape) for seeds in (own, other, third, well))
    sets = {
        "white": (moved, white),
        "white reference": (more, white),
        "well": (moved, good),
        "well reference": (more, good),
    }
    found: dict[str, Any] = {part: compare(*pair, seed=job.config["seed"]) for part, pair in sets.items()}
    picked = np.random.default_rng(job.config["seed"]).choice(
        moved.numel(), min(SHOWN, moved.numel()), replace=False
    )
    found["values"] = {
        name: np.round(tensor.flatten().numpy()[picked], 3).tolist()
        for name, tensor in (("projected", moved), ("N(0, I)", white))
    }
    return {**found, "drift": drift(moved, noise), "noises": count, "well_scored": len(well)}


def project(
    job: Job, method: Projected, prompt: str, seeds: list[int], shape: tuple[int, int, int]
) -> Tensor:
    """The projected noises (N, C, H, W) of a prompt."""
    with job.studio.models.lock:
        text, parts = job.studio.models.diffuser().encode([prompt]), []
        for at in range(0, len(seeds), 64):
            job.check()
            some = seeds[at : at + 64]
            parts.append(method.start(text.take([0] * len(some)), some, shape).noise)
    return torch.cat(parts)


def compare(a: Tensor, b: Tensor, seed: int = 0) -> dict[str, float]:
    """MMD of two sets of noises (N, C, H, W), what it stays below by chance, and Jensen-Shannon divergences in nats."""
    x, y = a.flatten(1).numpy(), b.flatten(1).numpy()
    channels = [
        jensen_shannon(histogram(a[:, c].numpy()), histogram(b[:, c].numpy())) for c in range(a.shape[1])
    ]
    value, level = mmd_test(x, y, seed=seed)
    return {
        "mmd": value,
        "mmd_level": level,
        "jensen_shannon": jensen_shannon(histogram(x), histogram(y)),
        "by_channel": float(np.mean(channels)),
    }


def of_images(found: Judged) -> dict[str, Any]:
    """Figures of the images of each method, and of the one against the other."""
    out: dict[str, Any] = {}
    groups, features = found.groups("none"), {name: found.features(name) for name in ("none", "projected")}
    for name in ("none", "projected"):
        own = features[name]
        out[name] = {
            "inner_frechet": spread_of(half_frechet(own, own, groups)) if own is not None else None,
            "inception_like": inception_like(found.answers(name)),
            "diversity": found.methods[name]["diversity"],
            "failures": found.failures(name),
        }
    if features["none"] is not None and features["projected"] is not None:
        out["frechet"] = spread_of(half_frechet(features["none"], features["projected"], groups))
    return out


def spread_of(values: list[float]) -> dict[str, float | None]:
    """The mean over random halves, and between what they lie."""
    if not values:
        return {"estimate": None, "low": None, "high": None}
    return {"estimate": float(np.mean(values)), "low": min(values), "high": max(values)}


def summed(noises: list[dict[str, Any]]) -> dict[str, dict[str, dict[str, float | None]]]:
    """Each divergence's mean over prompts, with its interval; and the share of prompts where chance would not give it."""
    out: dict[str, Any] = {}
    for part in PARTS:
        rows = [noise[part] for noise in noises]
        out[part] = {
            key: interval(mean_interval(np.array([row[key] for row in rows]), range(len(rows))))
            for key in ("mmd", "jensen_shannon", "by_channel")
        }
        out[part]["beyond_chance"] = sum(row["mmd"] > row["mmd_level"] for row in rows)
    return out


def _answer(found: Judged, images: dict, summary: dict, noises: list[dict]) -> list[str]:
    lines, n = [], len(noises)
    for part, against in (("white", "N(0, I)"), ("well", "the noises of well-scored images")):
        own, reference = summary[part], summary[f"{part} reference"]
        lines.append(
            f"Projected noise against {against}: MMD² {_small(own['mmd'])}, where N(0, I) itself gives {_small(reference['mmd'])}; "
            f"beyond chance for {own['beyond_chance']} of {n} prompts (N(0, I): {reference['beyond_chance']})."
        )
        lines.append(
            f"Jensen-Shannon divergence from {against}: {_small(own['jensen_shannon'])} nats, N(0, I) itself {_small(reference['jensen_shannon'])}."
        )
    pairs = [[noise[key]["mmd"] for noise in noises] for key in ("well", "well reference")]
    nearer = interval(mean_interval(np.subtract(*map(np.array, pairs)), range(n)))
    if nearer["high"] is not None and nearer["high"] < 0:
        lines.append("So projection moves the noises towards those of well-scored images.")
    else:
        lines.append("That projection moves the noises towards those of well-scored images is not shown.")
    if "frechet" in images:
        lines.append(
            f"Frechet distance of the images with and without projection {span(images['frechet'])}, between halves; two halves "
            f"without projection {span(images['none']['inner_frechet'])}, with it {span(images['projected']['inner_frechet'])}."
        )
    scores = [images[name]["inception_like"]["score"] for name in ("none", "projected")]
    lines.append(f"Inception-like score {scores[0]:.2f} without and {scores[1]:.2f} with projection.")
    lines.append(
        f"Diversity within a prompt {span(images['none']['diversity'])} without and {span(images['projected']['diversity'])} with projection."
    )
    lines.append(
        compared(
            "With projection, every word holding", found.methods["projected"]["difference"]["strict"], "none"
        )
    )
    return lines + few(n) + judge_sentence(found.judge)


def _small(cell: dict[str, Any]) -> str:
    return (
        "-" if cell["estimate"] is None else f"{cell['estimate']:.2e} [{cell['low']:.2e}, {cell['high']:.2e}]"
    )


def _figures(found: Judged, images: dict, prompts: list[str], noises: list[dict]) -> list[dict[str, Any]]:
    out = []
    for key, title, unit in (
        ("mmd", "MMD of noises, by prompt", "squared MMD"),
        ("jensen_shannon", "Jensen-Shannon divergence of noises, by prompt", "nats"),
    ):
        rows = [
            {"name": words, "x": prompts, "y": [noise[part][key] for noise in noises]}
            for part, words in PARTS.items()
        ]
        out.append(
            figure(
                "dots",
                title,
                "",
                unit,
                rows,
                note="Compare each with its reference, N(0, I), of the same size.",
            )
        )
    values = {
        name: [v for noise in noises for v in noise["values"][name]] for name in ("N(0, I)", "projected")
    }
    out.append(
        figure(
            "histogram",
            "Values of the noises",
            "value",
            "count",
            [{"name": k, "values": v} for k, v in values.items()],
        )
    )
    if "frechet" in images:
        cells = [images["none"]["inner_frechet"], images["frechet"], images["projected"]["inner_frechet"]]
        names = ["none, inner", "none against projected", "projected, inner"]
        out.append(
            figure("dots", "Frechet distance of images, between halves", "", "distance in the scorer's features", [series("halves", names, cells)],
                   note="The marks span the least and the largest of ten random halvings.")
        )  # fmt: skip
    cells = [images[name]["diversity"] for name in ("none", "projected")]
    out.append(
        figure(
            "dots",
            "Pairwise diversity within a prompt",
            "",
            "root mean square difference",
            [series("diversity", ["none", "projected"], cells)],
        )
    )
    return out


def _image_table(found: Judged, images: dict) -> dict[str, Any]:
    rows = []
    for name in ("none", "projected"):
        part, entry = images[name], found.methods[name]
        rows.append(
            [name, part["inner_frechet"], images.get("frechet") if name == "projected" else None,
             part["inception_like"]["score"], part["inception_like"]["certain"], part["inception_like"]["spread"],
             part["diversity"], entry["strict"], part["failures"]]
        )  # fmt: skip
    columns = ["images", "inner Frechet", "Frechet to none", "inception-like", "entropy of an answer", "of the mean answer",
               "diversity", "every word holds", "invalid"]  # fmt: skip
    note = (
        "Frechet distances between random halves, of the scorer's features: mean, least and largest. Inception-like: exp of "
        "the mean KL between an answer of the scorer and the mean of all, its ten digits being the classes: 1 to 10."
    )
    return table("Images", columns, rows, note, ["every word holds", "invalid"])


def _noise_table(summary: dict, noises: list[dict]) -> dict[str, Any]:
    rows = [
        [
            words,
            part["mmd"],
            f"{part['beyond_chance']} of {len(noises)}",
            part["jensen_shannon"],
            part["by_channel"],
        ]
        for words, part in ((words, summary[key]) for key, words in PARTS.items())
    ]
    columns = ["noises", "MMD²", "prompts beyond chance", "Jensen-Shannon, nats", "by channel, nats"]
    note = (
        f"{noises[0]['noises']} noises of each of {len(noises)} prompts; well-scored: {noises[0]['well_scored']} of each. Mean "
        "over prompts with its interval; beyond chance: above what 95 % of random permutations give."
    )
    return table("Noises", columns, rows, note)
