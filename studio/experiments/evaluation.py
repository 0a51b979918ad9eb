"""Evaluations that stand by themselves: how well methods align images, and how right reward model and scorer are.

Prompts are held out and seeds are of those that training never meets. What is made is kept, so an evaluation that was
stopped is resumed by the same call.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from core.evaluation.base import Settings as Sampling
from core.evaluation.choosing import weights_digest
from core.evaluation.experiments import alignment
from core.evaluation.fidelity import fidelity
from core.progress import Stopped
from core.words import composed, moved
from data.shapes.detect import accuracy
from studio.experiments.watching import Watching
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

BATCH = 500  # samples that are read from the store at a time
Settings = Mapping[str, Any]


def evaluate(
    studio: Studio,
    kind: str,
    config: dict[str, Any] | None = None,
    prompts: Sequence[str] | None = None,
    on_progress: Report | None = None,
    stop: Stop = None,
) -> dict[str, Any]:
    """Evaluate, and store the report as a run of kind 'evaluate'. Raises Stopped."""
    settings = check_evaluation(kind, with_own(EVALUATIONS.get(kind, {}), studio.models.sampling(), config))
    watching = Watching(on_progress, asked(stop))
    if kind == "detector":
        return _stored(studio, kind, settings, _detector(studio, settings, watching))
    if kind == "habits":
        return _stored(studio, kind, settings, _habits(settings, watching))
    candidates = list(prompts) if prompts else studio.prompts.of("heldout", settings["prompts"])
    heldout = unseen(studio, candidates)
    work = {"alignment": _alignment, "fidelity": _fidelity}[kind]
    report = work(studio, heldout, settings, watching)
    settings |= {"prompts_given": bool(prompts)}
    return _stored(studio, kind, settings, report | {"left_out": len(candidates) - len(heldout)})


def _stored(studio: Studio, kind: str, settings: Settings, figures: dict[str, Any]) -> dict[str, Any]:
    """Store a report in the folder of a run of kind 'evaluate'."""
    report = plain({**figures, "kind": kind, "config": settings})
    run = studio.store.runs.new("evaluate", {"kind": kind, **settings})
    (folder := studio.runs.folder(run)).mkdir(parents=True, exist_ok=True)
    pictures.write(folder / "report.json", json.dumps(report, indent=1).encode())
    metrics = {"evaluation": kind, "report": f"runs/{run}/report.json"}
    studio.store.runs.update(run, state="done", metrics=metrics)
    return {**report, "run": run}


def unseen(studio: Studio, prompts: Sequence[str]) -> list[str]:
    """Select the prompts that nothing is trained on or stopped by; ValueError where there is none."""
    if not prompts:
        raise ValueError(
            f"No prompt of {studio.prompts.source} is held out: give more prompts, or --prompts."
        )
    heldout = without(dict.fromkeys(map(composed, prompts)), trained_prompts(studio))
    heldout = [prompt for prompt in heldout if not studio.prompts.trains(prompt)]
    if not heldout:
        raise ValueError("Every one of these prompts was trained on: give others to judge by.")
    return heldout


def trained_prompts(studio: Studio) -> set[str]:
    """All prompts that training may have seen: those of samples of the training split, and those of the replay."""
    prompts = {row["prompt"] for row in studio.store.samples.find(split="train", limit=10_000_000)}
    replay, _ = replay_of(studio)
    if replay is not None:
        prompts |= {replay.prompts[int(p)] for p in replay.prompt[replay.of("train")]}
    return prompts


def scored_images(
    studio: Studio,
    prompts: Sequence[str],
    seeds: int,
    sampling: Settings,
    counter: Callable[[str], Callable[[int, int], None]],
    stop: Callable[[], bool],
    **options: Any,
) -> list[str]:
    """Make and score what is missing of the images of each prompt and `seeds` seeds; their samples' ids.

    sampling: with steps and guidance; options: of `collect`. Raises Stopped.
    """
    ids = studio.collecting.collect(
        prompts, seeds, steps=sampling["steps"], guidance=sampling["guidance"], on_progress=counter("images"),
        stop=stop, **options,
    )  # fmt: skip
    if not stop():
        studio.scoring.score(ids, counter("scores"), stop)
    if stop():
        raise Stopped
    return ids


# of `collect`: nothing trains on them
HELDOUT: dict[str, Any] = {"prompt_set": "heldout", "split": "heldout", "evaluation": True}


def samples_of(studio: Studio, ids: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of these samples in the store."""
    return [
        row
        for at in range(0, len(ids), BATCH)
        for row in studio.store.samples.find(ids=list(ids[at : at + BATCH]), limit=BATCH)
    ]


def labels_of(studio: Studio, row: Mapping[str, Any]) -> dict[str, Any]:
    """A sample's labels as `core.evaluation.fidelity` takes them: {prompt, seed, vlm: distributions, human, simulated:
    digits}, by the index that a word has today."""
    places = moved(row["prompt"], row["word_rules"])
    current = studio.store.scores.current(row["id"]).items()
    words = {places[index]: labels for index, labels in current if index in places}
    people = {
        source: {index: labels[source]["score"] for index, labels in words.items() if labels.get(source)}
        for source in ("human", "simulated")
    }
    spreads = {index: (labels.get("vlm") or {}).get("distribution") for index, labels in words.items()}
    vlm = {index: spread for index, spread in spreads.items() if spread}
    return {"prompt": row["prompt"], "seed": row["seed"], "vlm": vlm, **people}


def _alignment(studio: Studio, prompts: list[str], settings: Settings, watching: Watching) -> dict[str, Any]:
    """The methods of the settings, against none."""
    scorer, diffuser = studio.models.scorer(), studio.models.configured()
    names = ["projected"] if settings["projected"] else []
    names += [f"best-of-{n}" for n in (2, 4, 8, 16) if n <= min(settings["best_of"], settings["seeds"])]
    if settings["best_noise"] > 1:
        names.append(f"best-noise-of-{settings['best_noise']}")
    names += [name.strip() for name in settings["methods"].split(",") if name.strip()]
    methods = build(studio, dict.fromkeys(names), strength=settings["strength"])
    if settings["other_text"]:
        methods.append(other_text(studio, prompts, settings["strength"]))
    judge, who = judge_of(studio, prompts)
    sampling = Sampling(settings["steps"], settings["guidance"], batch=studio.settings.batch)
    seeds = [seeds_for(prompt, settings["seeds"], evaluation=True) for prompt in prompts]
    named = [diffuser.fingerprint, scorer.version, who, sampling.steps, sampling.guidance, prompts, seeds]
    named += [(method.name, method.fingerprint) for method in methods]
    digest = hashlib.sha256(json.dumps(named).encode()).hexdigest()
    with studio.models.lock:
        report = alignment(
            diffuser, methods, prompts, seeds, judge, scorer=scorer, settings=sampling,
            folder=studio.settings.home / "evaluations" / digest[:16], on_progress=watching.watch("images"),
            stop=watching.stop,
        )  # fmt: skip
    return {**report, "judge": who, "independent": who == "detector"}


def _fidelity(studio: Studio, prompts: list[str], settings: Settings, watching: Watching) -> dict[str, Any]:
    """The reward model and its teacher against scorer, people and judge."""
    using = studio.models.using("reward")
    if using.model is None:
        raise ValueError(using.problem)
    seeds, counter, stop = settings["seeds"], watching.counter, watching.stop
    ids = scored_images(studio, prompts, seeds, settings, counter, stop, **HELDOUT)
    samples = []
    for row in samples_of(studio, ids):
        truth = truth_of(
            row["prompt"], pictures.read(studio.settings.home / row["image_path"], row["image_sha256"])
        )
        samples.append(labels_of(studio, row) | {"truth": truth.units if truth else {}})
    diffuser, teacher = studio.models.diffuser(), studio.models.teacher(using).model
    with studio.models.lock:
        report = fidelity(using.model, diffuser, samples, stop=stop, teacher=teacher)
    return {**report, "reward": using.name, "weights": weights_digest(using.model)}


def _detector(studio: Studio, settings: Settings, watching: Watching) -> dict[str, Any]:
    """Accuracy of the judge on renders whose truth is known, before and after the backbone's autoencoder."""
    diffuser, total, done = studio.models.diffuser(), 2 * settings["renders"], 0

    def counted(image: np.ndarray) -> np.ndarray:
        nonlocal done
        watching.check()
        done += 1
        watching.report("renders", done, total)
        return image

    def round_trip(image: np.ndarray) -> np.ndarray:
        return diffuser.decode(diffuser.to_latents(counted(image)[None]))[0]

    args = (studio.settings.world, settings["renders"], settings["seed"])
    with studio.models.lock:
        return {"renders": accuracy(*args, counted), "round_trip": accuracy(*args, round_trip)}


def _habits(settings: Settings, watching: Watching) -> dict[str, Any]:
    """The calibrator by habits of annotators."""
    from studio.experiments.habits import habits  # with stores of its own, which no other evaluation needs

    def count(done: int, total: int) -> None:
        watching.report("worlds", done, total)
        if done < total:
            watching.check()

    return habits(settings, count)
