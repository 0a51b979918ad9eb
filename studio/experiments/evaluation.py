"""Evaluations that stand by themselves: how well methods align images, and how right reward model and scorer are.

Prompts are held out and seeds are of those that training never meets. What is made is kept, so an evaluation that was
stopped goes on where it was when it is asked for again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from core.evaluation.base import Settings as Sampling
from core.evaluation.choosing import weights_digest
from core.evaluation.experiments import alignment
from core.evaluation.fidelity import fidelity
from core.training.loop import Progress, Stopped
from core.words import composed, moved
from data.shapes.detect import accuracy
from studio.images import pictures
from studio.images.detecting import truth_of
from studio.images.methods import build, other_text
from studio.images.prompts import seeds_for, without
from studio.images.scoring import Stop, asked
from studio.numbers import plain
from studio.training.configs import EVALUATIONS, check_evaluation, with_own
from studio.training.datasets import replay_of
from studio.training.heldout import judge_of
from studio.training.runs import Report

if TYPE_CHECKING:
    from studio.studio import Studio


def evaluate(
    studio: Studio,
    kind: str,
    config: dict[str, Any] | None = None,
    prompts: Sequence[str] | None = None,
    on_progress: Report | None = None,
    stop: Stop = None,
) -> dict[str, Any]:
    """The report of an evaluation, also stored as a run of kind 'evaluate'. Raises Stopped."""
    settings = check_evaluation(kind, with_own(EVALUATIONS.get(kind, {}), studio.models.sampling(), config))
    if kind == "detector":
        return _stored(studio, kind, settings, _detector(studio, settings, on_progress, asked(stop)))
    if kind == "habits":
        return _stored(studio, kind, settings, _habits(settings, on_progress, asked(stop)))
    wanted = list(prompts) if prompts else studio.prompts.of("heldout", settings["prompts"])
    kept = unseen(studio, wanted)
    work = {"alignment": _alignment, "fidelity": _fidelity}[kind]
    report = work(studio, kept, settings, on_progress, asked(stop))
    settings |= {"prompts_given": bool(prompts)}
    return _stored(studio, kind, settings, report | {"left_out": len(wanted) - len(kept)})


def _habits(settings: dict[str, Any], on_progress: Report | None, stop: Any) -> dict[str, Any]:
    from studio.experiments.habits import habits  # with stores of its own, which no other evaluation needs

    def count(done: int, total: int) -> None:
        if on_progress:
            on_progress(_line("worlds", Progress(done, total, {}, 0, 0)))
        if stop() and done < total:
            raise Stopped

    return habits(settings, count)


def _stored(studio: Studio, kind: str, settings: dict[str, Any], report: dict[str, Any]) -> dict[str, Any]:
    """The report, kept in the folder of a run of kind 'evaluate'."""
    report = {**report, "kind": kind, "config": settings}
    run = studio.store.runs.new("evaluate", {"kind": kind, **settings})
    kept_report = plain(report)
    (folder := studio.runs.folder(run)).mkdir(parents=True, exist_ok=True)
    pictures.write(folder / "report.json", json.dumps(kept_report, indent=1).encode())
    studio.store.runs.update(
        run, state="done", metrics={"evaluation": kind, "report": f"runs/{run}/report.json"}
    )
    return {**kept_report, "run": run}


def unseen(studio: Studio, wanted: Sequence[str]) -> list[str]:
    """Those prompts that nothing is trained on or stopped by; ValueError where there is none."""
    if not wanted:
        raise ValueError(
            f"No prompt of {studio.prompts.source} is held out: give more prompts, or --prompts."
        )
    trained = trained_prompts(studio)
    kept = [p for p in without(dict.fromkeys(map(composed, wanted)), trained) if not studio.prompts.trains(p)]
    if not kept:
        raise ValueError("Every one of these prompts was trained on: give others to judge by.")
    return kept


def trained_prompts(studio: Studio) -> set[str]:
    """All prompts that training may have seen: those with labels of the training split, and those kept for replay."""
    rows = studio.store.samples.find(split="train", limit=10_000_000)
    replay, _ = replay_of(studio)
    old = {replay.prompts[int(p)] for p in replay.prompt[replay.of("train")]} if replay is not None else set()
    return old | {row["prompt"] for row in rows}


def _alignment(
    studio: Studio, prompts: list[str], settings: dict[str, Any], on_progress: Report | None, stop: Any
) -> dict[str, Any]:
    models = studio.models
    names = ["projected"] if settings["projected"] else []
    names += [f"best-of-{n}" for n in (2, 4, 8, 16) if n <= min(settings["best_of"], settings["seeds"])]
    if settings["best_noise"] > 1:
        names.append(f"best-noise-of-{settings['best_noise']}")
    names += [name.strip() for name in settings["methods"].split(",") if name.strip()]
    methods = build(studio, dict.fromkeys(names), strength=settings["strength"])
    if settings["other_text"]:
        methods.append(other_text(studio, prompts, settings["strength"]))
    judge, name = judge_of(studio, prompts)
    sampling = Sampling(settings["steps"], settings["guidance"], batch=studio.settings.batch)
    seeds = [seeds_for(prompt, settings["seeds"], evaluation=True) for prompt in prompts]
    scorer, diffuser = models.scorer(), models.diffuser()
    named = [
        diffuser.fingerprint,
        scorer.version,
        name,
        settings["steps"],
        settings["guidance"],
        prompts,
        seeds,
    ]
    named += [(method.name, method.fingerprint) for method in methods]
    folder = (
        studio.settings.home / "evaluations" / hashlib.sha256(json.dumps(named).encode()).hexdigest()[:16]
    )

    def report(progress: Progress) -> None:
        if on_progress:
            on_progress(_line("images", progress))

    with models.lock:
        found = alignment(
            diffuser, methods, prompts, seeds, judge, scorer=scorer, settings=sampling, folder=folder,
            on_progress=report, stop=stop,
        )  # fmt: skip
    return {**found, "judge": name, "independent": name == "detector"}


def _fidelity(
    studio: Studio, prompts: list[str], settings: dict[str, Any], on_progress: Report | None, stop: Any
) -> dict[str, Any]:
    models, using = studio.models, studio.models.using("reward")
    if using.model is None:
        raise ValueError(using.problem)

    def counter(stage: str) -> Any:
        return lambda done, total: (
            on_progress(_line(stage, Progress(done, total, {}, 0, 0))) if on_progress else None
        )

    ids = studio.collecting.collect(
        prompts, settings["seeds"], steps=settings["steps"], guidance=settings["guidance"], prompt_set="heldout",
        split="heldout", evaluation=True, on_progress=counter("images"), stop=stop,
    )  # fmt: skip
    studio.scoring.score(ids, counter("scores"), stop)
    if stop():
        raise Stopped
    samples = [_labelled(studio, row) for row in _rows(studio, ids)]
    teacher = models.teacher(using).model
    with models.lock:
        found = fidelity(using.model, models.diffuser(), samples, stop=stop, teacher=teacher)
    return {**found, "reward": using.name, "weights": weights_digest(using.model)}


def _detector(
    studio: Studio, settings: dict[str, Any], on_progress: Report | None, stop: Any
) -> dict[str, Any]:
    """How rightly the judge reads renders whose truth is known, also after the backbone's autoencoder had them."""
    diffuser, total, done = studio.models.diffuser(), 2 * settings["renders"], 0

    def counted(image: np.ndarray) -> np.ndarray:
        nonlocal done
        if stop():
            raise Stopped
        done += 1
        if on_progress:
            on_progress(_line("renders", Progress(done, total, {}, 0, 0)))
        return image

    def round_trip(image: np.ndarray) -> np.ndarray:
        return diffuser.decode(diffuser.to_latents(counted(image)[None]))[0]

    args = (studio.settings.world, settings["renders"], settings["seed"])
    with studio.models.lock:
        return {"renders": accuracy(*args, counted), "round_trip": accuracy(*args, round_trip)}


def _rows(studio: Studio, ids: Sequence[str]) -> list[dict[str, Any]]:
    return [
        row
        for at in range(0, len(ids), 500)
        for row in studio.store.samples.find(ids=list(ids[at : at + 500]), limit=500)
    ]


def _labelled(studio: Studio, row: dict[str, Any]) -> dict[str, Any]:
    """A sample as `core.evaluation.fidelity` takes it."""
    current = studio.store.scores.current(row["id"])
    places = moved(row["prompt"], row["word_rules"])
    current = {places[i]: said for i, said in current.items() if i in places}
    vlm = {i: said["vlm"]["distribution"] for i, said in current.items() if said["vlm"]}
    human = {i: said["human"]["score"] for i, said in current.items() if said["human"]}
    image = pictures.read(studio.settings.home / row["image_path"], row["image_sha256"])
    known = truth_of(row["prompt"], image)
    truth = known.units if known else {}
    return {"prompt": row["prompt"], "seed": row["seed"], "vlm": vlm, "human": human, "truth": truth}


def _line(stage: str, progress: Progress) -> dict[str, Any]:
    return {
        "stage": stage,
        "step": progress.step,
        "total": progress.total,
        "left": progress.left,
        "metrics": progress.metrics,
    }
