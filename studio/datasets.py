"""What a training run sees: the store's labels of its snapshot, weighted, beside the labels kept with the models.

A correction weighs more than a scorer's label, as it is rare and right; `correction_weight` says how much more.
Only prompts of the split 'train' are trained on, and only those of 'validation' decide when to stop.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from core.checkpoint import CheckpointError
from core.noise import draw
from core.training.data import RewardData, Sample, Texts
from studio.calibration import kind_of
from studio.latents import latents_of
from studio.making import encode
from studio.models import Using
from studio.replay import Replay

log = logging.getLogger("studio")
CORRECTED = ("human", "simulated", "confirmed")
ENOUGH = 100  # labels of people on validation prompts, by which a model is chosen rather than by the scorer's


@dataclass(frozen=True)
class Labels:
    """Training and validation labels, what they came from, the prompts that were trained on, and whose labels the
    validation ones are: people or scorer."""

    train: RewardData
    validation: RewardData
    counts: dict[str, int]
    prompts: list[str]
    chosen_by: str = "scorer"


def noises_of(studio: Any, rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
    """The projected noise (C, H, W) of samples, made again by the projector that made them; samples whose projector
    is gone are left out, with a line in the log."""
    groups: dict[tuple[str, float, int, int], list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row["projector_run"], row["strength"], row["height"], row["width"]].append(row)
    diffuser, found = studio.models.diffuser(), {}
    for (run, strength, height, width), members in groups.items():
        shape = diffuser.latent_shape(height, width)
        try:
            model = None
            if strength > 0:
                model = studio.models.open("projector", studio.models.folder_of(studio.store.run(run)))
        except ValueError as error:
            log.warning("%d samples of projected noise are left out: %s", len(members), error)
            continue
        for at in range(0, len(members), 64):
            part = members[at : at + 64]
            seeds = [row["seed"] for row in part]
            noise = draw(seeds, shape)
            if model is not None:
                text = encode(diffuser, [row["prompt"] for row in part])
                noise = studio.project(Using(model), noise, text, seeds, strength)
            found.update((row["id"], value) for row, value in zip(part, noise, strict=True))
    return found


def replay_of(studio: Any) -> tuple[Replay | None, str]:
    """The labels kept with the models, or None and the sentence that says why they are not used."""
    try:
        replay = Replay.load(studio.settings.labels)
    except CheckpointError as error:
        return None, str(error)
    revision = studio.models.diffuser().revision
    if replay.meta.get("backbone_revision") != revision:
        return (
            None,
            f"The labels in {studio.settings.labels} were made with another backbone; they are not used.",
        )
    shape = list(studio.models.diffuser().latent_shape())
    if replay.meta.get("shape", shape) != shape:
        return (
            None,
            f"The labels in {studio.settings.labels} were made at another image size; they are not used.",
        )
    return replay, ""


def store_samples(
    studio: Any,
    rows: Sequence[Mapping[str, Any]],
    correction_weight: float,
    with_pictures: bool = False,
    on_part: Callable[[int, int], None] | None = None,
) -> tuple[list[Sample], dict[str, int]]:
    """Samples from the store's labels (one row a word) of the backbone in use and of the working size; with the
    latents of their images if these are asked for."""
    revision, shape = studio.models.diffuser().revision, studio.models.diffuser().latent_shape()
    ids = list(dict.fromkeys(row["sample"] for row in rows))
    infos: dict[str, Mapping[str, Any]] = {}
    for at in range(0, len(ids), 500):
        for info in studio.store.samples(ids=ids[at : at + 500], limit=500):
            size = studio.models.diffuser().latent_shape(info["height"], info["width"])
            if info["backbone_revision"] == revision and size == shape:
                infos[info["id"]] = info
    noises = noises_of(studio, [info for info in infos.values() if info["method"] == "projected"])
    kept = {id for id, info in infos.items() if info["method"] == "none" or id in noises}
    labels: dict[str, dict[int, tuple[Any, float]]] = defaultdict(dict)
    counts: dict[str, int] = defaultdict(int)
    judged: set[str] = set()
    for row in rows:
        if row["sample"] in kept and kind_of(row) is not None:
            weight = row["weight"] * (correction_weight if row["source"] in CORRECTED else 1.0)
            said = row["distribution"] if row["distribution"] is not None else row["score"]
            labels[row["sample"]][row["word_index"]] = (said, weight)
            counts[row["source"]] += 1
            if row["source"] in CORRECTED:
                judged.add(row["sample"])
    shown = latents_of(studio, [infos[id] for id in labels], on_part) if with_pictures else {}
    samples = [
        Sample(
            infos[id]["prompt"], infos[id]["seed"], labels[id], noises.get(id), shown.get(id), id in judged
        )
        for id in labels
    ]
    return samples, dict(counts)


def labels_for(
    studio: Any,
    snapshot: Mapping[str, Any],
    *,
    correction_weight: float,
    replay: Replay | None,
    replay_samples: int,
    seed: int,
    with_pictures: bool = True,
    on_part: Callable[[int, int], None] | None = None,
) -> Labels:
    """The labels of a run, with the latents of the images; ValueError where there are too few.

    Validation labels are those of people where there are ENOUGH, else those kept with the models, else the store's."""
    diffuser, shown = studio.models.diffuser(), (with_pictures, on_part)
    train, counts = store_samples(studio, studio.store.labels(snapshot=snapshot), correction_weight, *shown)
    held, _ = store_samples(studio, studio.store.labels(split="validation"), 1.0, *shown)
    by_people = [sample for sample in held if sample.judged]
    enough = sum(len(sample.labels) for sample in by_people) >= ENOUGH
    validation = by_people if enough else []
    if replay is not None:
        rows = replay.of("train")
        rng = np.random.default_rng(seed)
        chosen = np.sort(rng.choice(rows, min(replay_samples, len(rows)), replace=False))
        old = replay.samples(chosen)
        train, counts["replay"] = train + old, sum(len(sample.labels) for sample in old)
        rows = replay.of("validation")
        if not validation:
            validation = replay.samples(np.sort(rng.choice(rows, min(1000, len(rows)), replace=False)))
    validation = validation or held
    if not train:
        raise ValueError("There is nothing to train on: collect and score samples of training prompts first.")
    texts = Texts.encode(diffuser.encode, [sample.prompt for sample in train + validation])
    data = RewardData.build(train, texts, diffuser.latent_shape())
    if validation:
        judged = RewardData.build(validation, texts, diffuser.latent_shape())
    else:
        data, judged = data.split(0.15, seed)
    prompts = list(dict.fromkeys(sample.prompt for sample in train))
    return Labels(data, judged, counts, prompts, "people" if enough else "scorer")


def texts_for(studio: Any, prompts: Sequence[str]) -> Texts:
    """Encoded prompts to train a projector on."""
    return Texts.encode(studio.models.diffuser().encode, prompts)
