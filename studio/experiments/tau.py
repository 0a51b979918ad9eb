"""Experiment *tau*: projectors trained with several weights tau of the constraint (and of the one on what a prompt's noises
share), and the projector in use at several strengths: alignment, what it costs in diversity, KL from N(0, I), Frechet
distance of the images, and the share of invalid ones (equation of L_final: L_qdpo + tau constraint).

KL is that of each latent value over the noises of a prompt (core.evaluation.distribution.gaussian_kl), not within one
noise: what a projector adds alike to every noise of a prompt is seen only there. A projector of each tau is trained by the
reward model in use, for the same steps, on the same prompts and noises. What counts as an invalid image:
core.evaluation.distribution.
"""

from __future__ import annotations

import copy
from functools import partial
from typing import TYPE_CHECKING, Any

from core import checkpoint
from core.evaluation.base import Method
from core.evaluation.distribution import gaussian_kl
from core.evaluation.experiments import DRIFT_ITEMS
from core.evaluation.methods import Projected
from core.noise import draw, drift
from core.progress import Stopped
from core.training.projector import WarmupConfig, train_warmup
from studio.experiments.common import (
    PICTURED,
    Judged,
    before_after,
    evaluation_seeds,
    heldout_prompts,
    judged,
    noises_of,
    trained_projector,
)
from studio.experiments.fields import numbers
from studio.experiments.parts import WHOLE, Part, clear, compared, few, figure, report, series, share, table
from studio.images.prompts import seeds_for
from studio.training.datasets import texts_for
from studio.training.runs import Job
from studio.training.stages import about, begin, used_model

if TYPE_CHECKING:
    from core.networks.projector import NoiseProjector
    from core.training.data import Texts

KL_PROMPTS = 3
FRONTIER = {
    "tau": "trained with tau",
    "shared": "and a shared pattern that counts",
    "strength": "in use, at a strength",
}
Row = dict[str, Any]  # the figures of a projector
Groups = dict[str, dict[float, Row]]  # of FRONTIER: the rows by the value that differs


def run(job: Job) -> dict[str, Any]:
    prompts, studio, config = heldout_prompts(job), job.studio, job.config
    taus, strengths = numbers(config["taus"]), [s for s in numbers(config["strengths"]) if s > 0]
    # a run of an earlier version has no such field
    shared = [s for s in numbers(config.get("shared", "0")) if s > 0]
    weights = {("tau", tau): (tau, 0.0) for tau in taus} | {("shared", s): (taus[0], s) for s in shared}
    trainings: Row = {}
    methods: dict[tuple[str, float], Method] = {}
    for (of, value), pair in weights.items():
        name = f"{of} {value:g}"
        trainings[name] = job.stage(name, partial(train, job, of, value, *pair))
        projector = studio.models.open("projector", job.folder / f"{of}-{value:g}")
        methods[of, value] = Projected(projector, name=name)
    used = used_model(job, "projector")
    if used is not None:
        methods |= {("strength", s): Projected(used, s, f"strength {s:g}") for s in strengths}
    result = judged(job, "tau", list(methods.values()), prompts)
    kl = {
        method.name: job.stage(f"KL of {method.name}", partial(over_seeds, job, method, prompts))
        for method in [Method(), *methods.values()]
    }
    white = unprojected(job, prompts) | kl["none"]
    usual = measured(result, "none", white) | {"cosine": 1.0}
    groups: Groups = {of: {} for of in FRONTIER}
    for (of, value), method in methods.items():
        moved = result.methods[method.name]["drift"] | kl[method.name]
        groups[of][value] = measured(result, method.name, moved)
    rows = {f"{of} {value:g}": row for of, group in groups.items() for value, row in group.items()}
    ends = [methods["tau", tau] for tau in sorted({taus[0], taus[-1]})]
    figures = [
        *_frontier(groups),
        *(f for of in ("tau", "strength") for f in _figures(of, groups[of], usual)),
    ]
    pictures = before_after(job, [Method(), *ends], prompts[:PICTURED])
    data = {
        "measured": rows, "inner_frechet_none": usual["frechet"], "drift_none": white, "trainings": trainings,
        "alignment": result.report,
    }  # fmt: skip
    answer, tables = _answer(result, groups, usual), [_table({"none": usual, **rows})]
    return report(result.judge, answer, figures, tables, [pictures], data)


def train(job: Job, of: str, value: float, tau: float, shared: float) -> dict[str, Any]:
    """Train a projector with these weights, saved in the run's folder by the value that differs. Raises Stopped."""
    texts = texts_for(job.studio, job.studio.prompts.of("train", job.config["train_prompts"]))
    model, stage, weights = start(job, texts), f"training with {of} {value:g}", {"tau": tau, "shared": shared}
    return trained_projector(job, f"{of}-{value:g}", model, texts, stage, weights, tau=tau, shared=shared)


def start(job: Job, texts: Texts) -> NoiseProjector:
    """The projector to train: the one in use, or a fresh one of its shape, warmed up once for all."""
    used = used_model(job, "projector")
    if job.config["start"] == "used" and used is not None:
        return copy.deepcopy(used).requires_grad_(True).train()
    folder = job.folder / "warmup"

    def warm() -> dict[str, Any]:
        fresh = begin(job, "projector", used, fresh=True)
        settings = WarmupConfig(steps=job.config["warmup_steps"], seed=job.config["seed"])
        result = train_warmup(
            fresh, texts, job.studio.models.diffuser().latent_shape(), settings, folder=job.folder / "warmup-state",
            on_progress=job.watch("warm-up"), stop=job.stopped,
        )  # fmt: skip
        if result.fit.stopped:
            raise Stopped
        checkpoint.save(fresh, folder, about(job))
        return {"metrics": result.metrics}

    job.stage("warmup", warm)
    return job.studio.models.open("projector", folder).requires_grad_(True).train()


def measured(result: Judged, name: str, moved: dict[str, float]) -> Row:
    """The figures of a method: alignment against none, drift, Frechet distance, failures, diversity that is kept."""
    entry, usual = result.methods[name], result.methods["none"]["diversity"]["estimate"]
    distances, diversity = result.frechet("none", name), entry["diversity"]["estimate"]
    return {
        "strict": entry["strict"],
        "difference": result.gain(name),
        "clean": entry["clean"],
        "clean_difference": result.gain(name, "clean"),
        "words": result.gain(name, "words"),
        "std": moved["std"],
        "correlation": moved["spatial_correlation"],
        "cosine": moved["cosine"],
        "kl": moved["kl"],
        "frechet": sum(distances) / len(distances) if distances else None,
        "failures": result.failures(name),
        "diversity": entry["diversity"],
        "kept": diversity / usual if usual and diversity is not None else None,
    }


def unprojected(job: Job, prompts: list[str]) -> dict[str, float]:
    """The drift of unprojected noise: what white noise of that size gives, since an item's moments vary by chance."""
    seeds = [seed for row in evaluation_seeds(job, prompts) for seed in row][:DRIFT_ITEMS]
    noise = draw(seeds, job.studio.models.diffuser().latent_shape())
    return drift(noise, noise)


def over_seeds(job: Job, method: Method, prompts: list[str]) -> dict[str, float]:
    """{kl: that of a method's noises from N(0, I)}, the mean over the first prompts; no image is made."""
    count, batch = job.config["noises"], job.config["batch"]
    values = []
    for prompt in prompts[:KL_PROMPTS]:
        noises = noises_of(job, method, prompt, seeds_for(prompt, count, evaluation=True), batch)
        values.append(gaussian_kl(noises.flatten(1).numpy()))
    return {"kl": sum(values) / len(values)}


def _answer(result: Judged, groups: Groups, usual: Row) -> list[str]:
    outcome = f"an {WHOLE}"
    lines = [f"Without projection {outcome} in {share(usual['clean'])} of the images."]
    for of, group in groups.items():
        for value, row in group.items():
            gain = compared(f"{of} {value:g}".capitalize(), row["clean_difference"], "with none", outcome)
            kept = "" if row["kept"] is None else f" Diversity {row['kept']:.2f} of that without it,"
            lines.append(
                f"{gain}{kept} KL {row['kl']:.4f} nats a value (white noise {usual['kl']:.4f}), invalid images "
                f"{share(row['failures'])}."
            )
        if len(group) > 1 and not any(clear(row["clean_difference"]) for row in group.values()):
            lines.append(f"No {of} differs from none beyond what chance gives.")
    return lines + few(len(result.prompts))


def _frontier(groups: Groups) -> list[Part]:
    """Gain against diversity: a point a projector, from the most diverse on."""
    lines = []
    for of, group in groups.items():
        points = [(value, row) for value, row in group.items() if row["kept"] is not None]
        points.sort(key=lambda point: -point[1]["kept"])
        if points:
            gains, names = (
                [row["clean_difference"] for _, row in points],
                [f"{of} {value:g}" for value, _ in points],
            )
            lines.append(series(FRONTIER[of], [row["kept"] for _, row in points], gains, names))
    if not lines:
        return []
    title = "What is gained, over the diversity that is left"
    return [figure("line", title, "diversity within a prompt, as a share of that with none", "images that are whole, against none",
                   lines, reference=0.0, reference_name="none", written=True)]  # fmt: skip


def _figures(of: str, group: dict[float, Row], usual: Row) -> list[Part]:
    """Every figure over the value in which the projectors differ."""
    if not group:
        return []
    x = sorted(group)
    scale = {"log_x": True} if of == "tau" and min(x) > 0 else {}

    def cells(key: str) -> list[Any]:
        return [group[value][key] for value in x]

    gains = [
        series("every word holds", x, cells("difference")),
        series("and nothing else is there", x, cells("clean_difference")),
    ]
    failures = [series("invalid", x, cells("failures"))]
    figures = [
        figure("line", f"Against none, over {of}", of, "difference", gains, reference=0.0, reference_name="none", **scale),
        figure("line", f"Invalid images over {of}", of, "share", failures, **scale),
    ]  # fmt: skip
    for key, title, unit, name in (
        ("kl", "KL from N(0, I)", "nats a value", "white noise"),
        ("frechet", "Frechet distance of the images", "between halves", "two halves of none"),
    ):
        if None not in cells(key):
            line = {"name": key, "x": x, "y": cells(key)}
            reference = {} if usual[key] is None else {"reference": usual[key], "reference_name": name}
            figures.append(figure("line", f"{title} over {of}", of, unit, [line], **scale, **reference))
    return figures


def _table(rows: dict[str, Row]) -> Part:
    columns = {
        "every word holds": "strict",
        "against none": "difference",
        "and nothing else": "clean",
        "the same against none": "clean_difference",
        "KL": "kl",
        "std": "std",
        "spatial correlation": "correlation",
        "cosine with the input": "cosine",
        "Frechet distance": "frechet",
        "invalid": "failures",
        "diversity": "diversity",
    }
    lines = [{"projector": name, **{c: row[key] for c, key in columns.items()}} for name, row in rows.items()]
    note = (
        "KL: nats a value, of each noise's own mean and variance. Frechet distance: between half of none's images and the "
        "other half of the projector's; in the line of none, between its own halves. Invalid: not finite, of one colour, or "
        "latents that spread far outside of none's."
    )
    shares = [*list(columns)[:4], "invalid"]
    return table("Weight of the constraint and strength", lines, note, shares)
