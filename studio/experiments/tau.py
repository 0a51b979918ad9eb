"""Experiment *tau*: projectors trained with several weights tau of the constraint (and of the one on what a prompt's noises
share), and the projector in use at several strengths: alignment, what it costs in diversity, KL from N(0, I), Frechet
distance of the images, and the share of invalid ones (equation of L_final: L_qdpo + tau constraint).

KL is that of each latent value over the noises of a prompt (core.evaluation.distribution.gaussian_kl), not within one
noise: what a projector adds alike to every noise of a prompt is seen only there. A projector of each tau is trained by the reward model in use, for the same steps, on the same prompts and noises. What
counts as an invalid image: core.evaluation.distribution.
"""

from __future__ import annotations

import copy
import time
from typing import Any

import torch

from core import checkpoint
from core.evaluation.distribution import gaussian_kl, half_frechet
from core.evaluation.experiments import DRIFT_ITEMS
from core.evaluation.methods import Method, Projected, none
from core.noise import draw, drift
from core.training.loop import Stopped
from core.training.projector import ProjectorConfig, WarmupConfig, train_projector, train_warmup
from studio.experiments.common import (
    WHOLE,
    Judged,
    before_after,
    clear,
    compared,
    evaluation_seeds,
    few,
    figure,
    heldout_prompts,
    judge_sentence,
    judged,
    need,
    series,
    span,
    table,
)
from studio.experiments.fields import numbers
from studio.images.prompts import seeds_for
from studio.training.datasets import texts_for
from studio.training.runs import Job
from studio.training.stages import begin, used_model

KL_PROMPTS = 3
FRONTIER = {
    "tau": "trained with tau",
    "shared": "and a shared pattern that counts",
    "strength": "in use, at a strength",
}


def run(job: Job) -> dict[str, Any]:
    prompts, studio, config = heldout_prompts(job), job.studio, job.config
    taus, strengths = numbers(config["taus"]), [s for s in numbers(config["strengths"]) if s > 0]
    # a run of an earlier version has no such field
    shared = [s for s in numbers(config.get("shared", "0")) if s > 0]
    weights = {("tau", tau): (tau, 0.0) for tau in taus} | {("shared", s): (taus[0], s) for s in shared}
    trained = {
        f"{of} {value:g}": job.stage(f"{of} {value:g}", lambda at=(of, value): train(job, at, *weights[at]))
        for of, value in weights
    }
    groups: dict[str, dict[float, Method]] = {"tau": {}, "shared": {}, "strength": {}}
    for of, value in weights:
        model = studio.models.open("projector", job.folder / f"{of}-{value:g}")
        groups[of][value] = Projected(model, name=f"{of} {value:g}")
    used = used_model(job, "projector")
    if used is not None:
        groups["strength"] = {s: Projected(used, s, f"strength {s:g}") for s in strengths}
    methods = [method for group in groups.values() for method in group.values()]
    found = judged(job, "tau", methods, prompts, evaluation_seeds(job, prompts))
    kl = {
        m.name: job.stage(f"KL of {m.name}", lambda m=m: over_seeds(job, m, prompts))
        for m in [none(), *methods]
    }
    rows = {method.name: measured(found, method.name) | kl[method.name] for method in methods}
    floor, white = inner(found, "none"), unprojected(job, prompts) | kl["none"]
    shown = [none(), *(groups["tau"][tau] for tau in sorted({taus[0], taus[-1]}))]
    some = prompts[:3]
    pictures = before_after(
        job, shown, some, [row[0] for row in evaluation_seeds(job, some)], [m.name for m in shown]
    )
    return {
        "judge": found.judge,
        "answer": _answer(found, rows, groups, white),
        "figures": [
            *_frontier(found, rows, groups),
            *_figures(rows, "tau", groups["tau"], floor, white, True),
            *_figures(rows, "strength", groups["strength"], floor, white, False),
        ],
        "tables": [_table(found, rows, floor, white)],
        "pictures": [pictures],
        "data": {
            "measured": rows,
            "inner_frechet_none": floor,
            "drift_none": white,
            "trainings": trained,
            "alignment": found.report,
        },
    }


def train(job: Job, at: tuple[str, float], tau: float, shared: float) -> dict[str, Any]:
    """A projector trained with these weights, saved in the run's folder under what `at` names. Raises Stopped."""
    studio, config, began = job.studio, job.config, time.monotonic()
    of, value = at
    texts = texts_for(studio, studio.prompts.of("train", config["train_prompts"]))
    shape = studio.models.diffuser().latent_shape()
    settings = ProjectorConfig(
        steps=config["train_steps"],
        batch=config["batch"],
        rate=config["rate"],
        tau=tau,
        shared=shared,
        seed=config["seed"],
    )
    model = start(job, texts, shape)
    result = train_projector(
        model, need(job, "reward"), texts, shape, settings, folder=job.folder / f"{of}-{value:g}-state",
        on_progress=job.watch(f"training with {of} {value:g}"), stop=job.stopped,
    )  # fmt: skip
    if result.fit.stopped:
        raise Stopped
    checkpoint.save(
        model, job.folder / f"{of}-{value:g}", {"run": job.run["id"], "tau": tau, "shared": shared}
    )
    return {"metrics": result.metrics, "seconds": round(time.monotonic() - began, 1)}


def start(job: Job, texts: Any, shape: tuple[int, int, int]) -> Any:
    """What is trained on: the projector in use, or a fresh one of its shape, warmed up once for all."""
    used = used_model(job, "projector")
    if job.config["start"] == "used" and used is not None:
        return copy.deepcopy(used).requires_grad_(True).train()
    folder = job.folder / "warmup"

    def warm() -> dict[str, Any]:
        fresh = begin(job, "projector", used, fresh=True)
        settings = WarmupConfig(steps=job.config["warmup_steps"], seed=job.config["seed"])
        result = train_warmup(
            fresh, texts, shape, settings, folder=job.folder / "warmup-state", on_progress=job.watch("warm-up"),
            stop=job.stopped,
        )  # fmt: skip
        if result.fit.stopped:
            raise Stopped
        checkpoint.save(fresh, folder, {"run": job.run["id"]})
        return {"metrics": result.metrics}

    job.stage("warmup", warm)
    return job.studio.models.open("projector", folder).requires_grad_(True).train()


def measured(found: Judged, name: str) -> dict[str, Any]:
    """The figures of a method: alignment against none, drift of its noise, Frechet distance, failures, and what share of
    none's diversity is kept."""
    entry, usual = found.methods[name], found.methods["none"]["diversity"]["estimate"]
    diversity = entry["diversity"]["estimate"]
    return {
        "strict": entry["strict"],
        "difference": entry["difference"]["strict"],
        "clean": entry["clean"],
        "clean_difference": entry["difference"]["clean"],
        "words": entry["difference"]["words"],
        "std": entry["drift"]["std"],
        "correlation": entry["drift"]["spatial_correlation"],
        "cosine": entry["drift"]["cosine"],
        "frechet": inner(found, "none", name),
        "failures": found.failures(name),
        "diversity": entry["diversity"],
        "kept": diversity / usual if usual and diversity is not None else None,
    }


def unprojected(job: Job, prompts: list[str]) -> dict[str, float]:
    """The drift of the seeds' own noises: what white noise of that size gives, as an item's moments vary by chance."""
    seeds = [seed for row in evaluation_seeds(job, prompts) for seed in row][:DRIFT_ITEMS]
    noise = draw(seeds, job.studio.models.diffuser().latent_shape())
    return drift(noise, noise)


def over_seeds(job: Job, method: Method, prompts: list[str]) -> dict[str, float]:
    """{kl: of a method's noises of the first prompts from N(0, I)}, mean over the prompts; no image is made."""
    diffuser, count, found = job.studio.models.diffuser(), job.config["noises"], []
    shape = diffuser.latent_shape()
    for prompt in prompts[:KL_PROMPTS]:
        seeds, parts = seeds_for(prompt, count, evaluation=True), []
        for at in range(0, count, job.config["batch"]):
            some = seeds[at : at + job.config["batch"]]
            with job.studio.models.lock:
                parts.append(method.start(diffuser.encode([prompt]).take([0] * len(some)), some, shape).noise)
            job.check()
        found.append(gaussian_kl(torch.cat(parts).flatten(1).numpy()))
    return {"kl": sum(found) / len(found)}


def inner(found: Judged, a: str, b: str | None = None) -> float | None:
    """The mean Frechet distance of halves of a's images and the other halves of b's: a's own inner one without b."""
    first, second = found.features(a), found.features(b or a)
    if first is None or second is None:
        return None
    values = half_frechet(first, second, found.groups(a))
    return sum(values) / len(values) if values else None


def _answer(found: Judged, rows: dict[str, Any], groups: dict[str, dict], white: dict) -> list[str]:
    lines = [f"Without projection an {WHOLE} in {span(found.methods['none']['clean'], True)} of the images."]
    for of, methods in groups.items():
        for method in methods.values():
            row = rows[method.name]
            whole = compared(method.name.capitalize(), row["clean_difference"], "with none", f"an {WHOLE}")
            kept = "" if row["kept"] is None else f" Diversity {row['kept']:.2f} of that without it,"
            lines.append(
                f"{whole}{kept} KL {row['kl']:.4f} nats a value (white noise {white['kl']:.4f}), invalid images "
                f"{span(row['failures'], True)}."
            )
        if len(methods) > 1 and not any(clear(rows[m.name]["clean_difference"]) for m in methods.values()):
            lines.append(f"No {of} is told from none by so many images.")
    return lines + few(len(found.prompts)) + judge_sentence(found.judge)


def _frontier(found: Judged, rows: dict[str, Any], groups: dict[str, dict]) -> list[dict[str, Any]]:
    """What is gained over what diversity is left: a point a projector, from the most diverse on."""
    parts = []
    for of, methods in groups.items():
        known = [(rows[m.name], value) for value, m in methods.items() if rows[m.name]["kept"] is not None]
        known.sort(key=lambda pair: -pair[0]["kept"])
        if known:
            some = [row for row, _ in known]
            parts.append(
                series(FRONTIER[of], [row["kept"] for row in some], [row["clean_difference"] for row in some],
                       [f"{of} {value:g}" for _, value in known])
            )  # fmt: skip
    if not parts:
        return []
    title = "What is gained, over the diversity that is left"
    return [figure("line", title, "diversity within a prompt, as a share of that with none", "images that are whole, against none",
                   parts, reference=0.0, reference_name="none", written=True)]  # fmt: skip


def _figures(
    rows: dict[str, Any],
    of: str,
    methods: dict[float, Method],
    floor: float | None,
    white: dict[str, float],
    log: bool,
) -> list[dict[str, Any]]:
    if not methods:
        return []
    x = sorted(methods)
    parts = [rows[methods[value].name] for value in x]
    more = {"log_x": True} if log and min(x) > 0 else {}
    plain = [
        ("kl", f"KL from N(0, I) over {of}", "nats a value",
         {"reference": white["kl"], "reference_name": "white noise"}),
        ("frechet", f"Frechet distance of the images over {of}", "between halves",
         {"reference": floor, "reference_name": "two halves of none"} if floor is not None else {}),
    ]  # fmt: skip
    out = [
        figure("line", f"Against none, over {of}", of, "difference",
               [series("every word holds", x, [p["difference"] for p in parts]),
                series("and nothing else is there", x, [p["clean_difference"] for p in parts])],
               reference=0.0, reference_name="none", **more),
        figure("line", f"Invalid images over {of}", of, "share", [series("invalid", x, [p["failures"] for p in parts])], **more),
    ]  # fmt: skip
    for key, title, unit, extra in plain:
        if all(p[key] is not None for p in parts):
            out.append(
                figure(
                    "line",
                    title,
                    of,
                    unit,
                    [{"name": key, "x": x, "y": [p[key] for p in parts]}],
                    **more,
                    **extra,
                )
            )
    return out


def _table(
    found: Judged, rows: dict[str, Any], floor: float | None, white: dict[str, float]
) -> dict[str, Any]:
    columns = ["projector", "every word holds", "against none", "and nothing else", "the same against none", "KL", "std", "spatial correlation", "cosine with the input",
               "Frechet distance", "invalid", "diversity"]  # fmt: skip
    base = found.methods["none"]
    lines = [
        [
            "none",
            base["strict"],
            None,
            base["clean"],
            None,
            white["kl"],
            white["std"],
            white["spatial_correlation"],
            1.0,
            floor,
            found.failures("none"),
            base["diversity"],
        ]
    ]
    lines += [
        [name, r["strict"], r["difference"], r["clean"], r["clean_difference"], r["kl"], r["std"], r["correlation"], r["cosine"], r["frechet"], r["failures"],
         r["diversity"]]
        for name, r in rows.items()
    ]  # fmt: skip
    note = (
        "KL: nats a value, of each noise's own mean and variance. Frechet distance: between half of none's images and the "
        "other half of the projector's; in the line of none, between its own halves. Invalid: not finite, of one colour, or "
        "latents that spread far outside of none's."
    )
    return table(
        "Weight of the constraint and strength",
        columns,
        lines,
        note,
        [*columns[1:5], "invalid"],
    )
