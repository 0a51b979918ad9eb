"""Training data: the store's labels of a run's snapshot, weighted, beside the labels kept with the models.

A correction weighs more than a scorer's label, as it is rare and right; `correction_weight` says how much more.
Only prompts of the split 'train' are trained on, and only those of 'validation' decide when to stop.

The picture that a noise becomes depends on the sampling, so labels of images that were sampled differently are not
mixed: trained on are images of the backbone in use and of the working size, and of these the ones whose steps, guidance,
scheduler and negative prompt most labelled images have (of two equally common ways the studio's own). Left out are those
with LoRA files, which are another backbone, and those with weights in the prompt. People's labels count only on
images that are judged as a whole (``data.store.labels``). A run's metrics hold what was left out, and why.

The labels kept with the models are of one way of sampling, too. They are not used beside images of another negative prompt;
of other steps, guidance or scheduler they are, and a run's metrics say so.
"""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from core.checkpoint import CheckpointError
from core.training.data import RewardData, Sample, Texts
from core.words import moved
from studio.access.places import shortened
from studio.images.latents import latents_of
from studio.images.making import noises_of
from studio.images.options import NONE
from studio.images.scoring import kind_of
from studio.training.configs import CORRECTED
from studio.training.replay import Replay
from studio.training.sampled import PARTLY, against, left_out_said, own_way, sampling_of, usable

if TYPE_CHECKING:
    from studio.studio import Studio

log = logging.getLogger("studio")
ENOUGH = 100  # labels of people on validation prompts from which they, not the scorer's, choose a model


@dataclass(frozen=True)
class Labels:
    """Training and validation labels. counts: labels by source; prompts: of the training labels; left_out: how many
    labelled images of training prompts, by reason; sampling: of the others; chosen_by: whose labels the validation ones
    are, people or scorer."""

    train: RewardData
    validation: RewardData
    counts: dict[str, int]
    prompts: list[str]
    left_out: dict[str, int]
    sampling: dict[str, Any]
    chosen_by: str = "scorer"
    replayed: dict[str, Any] = field(default_factory=dict)
    note: str = ""


class Usable(NamedTuple):
    """Samples to train on. counts: labels by source; left_out: how many images, by reason; sampling: of the others."""

    samples: list[Sample]
    counts: dict[str, int]
    left_out: dict[str, int]
    sampling: dict[str, Any]


def _noise_unknown(sample: Mapping[str, Any]) -> str:
    """Why the noise of a sample cannot be made again."""
    if sample["method"] == "projected":
        return "made from the noise of a projector that is gone"
    return f"made by {sample['method']}"


def judged_rows(
    rows: Sequence[Mapping[str, Any]], judged: Collection[str]
) -> tuple[list[Mapping[str, Any]], dict[str, int]]:
    """The labels (one row a word) without those of people on images that are not judged as a whole, and how many images
    that concerns; the scorer's labels stay. judged: ids of the images judged as a whole."""
    partly = {row["sample"] for row in rows if row["source"] in CORRECTED} - set(judged)
    kept = [row for row in rows if row["sample"] not in partly or row["source"] not in CORRECTED]
    return kept, {PARTLY: len(partly)} if partly else {}


def replay_of(studio: Studio) -> tuple[Replay | None, str]:
    """The labels kept with the models, or None and a sentence why they are not used."""
    try:
        replay = Replay.load(studio.settings.labels)
    except CheckpointError as error:
        return None, f"{shortened(str(error))} The labels of STUDIO_LABELS are not used."
    diffuser = studio.models.diffuser()
    if replay.meta.get("backbone_revision") != diffuser.revision:
        return None, "The labels of STUDIO_LABELS were made with another backbone; they are not used."
    shape = list(diffuser.latent_shape())
    if replay.meta.get("shape", shape) != shape:
        return None, "The labels of STUDIO_LABELS were made at another image size; they are not used."
    return replay, ""


def store_samples(
    studio: Studio,
    rows: Sequence[Mapping[str, Any]],
    correction_weight: float,
    with_pictures: bool = False,
    on_part: Callable[[int, int], None] | None = None,
    sampling: Mapping[str, Any] | None = None,
) -> Usable:
    """Samples from the store's labels (one row a word), of the images that are ``usable``: sampled as ``sampling`` says,
    None for the most common way. with_pictures: with the latents of their images."""
    diffuser = studio.models.diffuser()
    ids = list(dict.fromkeys(row["sample"] for row in rows))
    images: list[Mapping[str, Any]] = []
    for at in range(0, len(ids), 500):
        images += studio.store.samples.find(ids=ids[at : at + 500], limit=500)
    height, width = diffuser.size
    # with LoRA files it is another backbone, and weights change what is drawn of a prompt but not its text
    ours = {"backbone_revision": diffuser.revision, "height": height, "width": width, **NONE.columns()}
    images, left_out = usable(images, {name: ours[name] for name in ours if name != "negative"})
    sampling = sampling or sampling_of(images, own_way(studio))
    images, others = usable(images, sampling)
    left_out |= others
    projected = [image for image in images if image["method"] == "projected"]
    noises = noises_of(studio.models, studio.store, projected)
    kept = {image["id"]: image for image in images if image["method"] == "none" or image["id"] in noises}
    left_out |= Counter(_noise_unknown(image) for image in images if image["id"] not in kept)
    labels: dict[str, dict[int, tuple[Any, float]]] = defaultdict(dict)
    counts: Counter[str] = Counter()
    judged: set[str] = set()
    for row in rows:
        if row["sample"] in kept and kind_of(row) is not None:
            corrected = row["source"] in CORRECTED
            place = moved(row["prompt"], row["word_rules"]).get(row["word_index"])
            if place is None:  # a part of what is one unit today
                continue
            label = row["distribution"] if row["distribution"] is not None else row["score"]
            labels[row["sample"]][place] = (label, row["weight"] * (correction_weight if corrected else 1.0))
            counts[row["source"]] += 1
            if corrected:
                judged.add(row["sample"])
    pictures = latents_of(studio, [kept[id] for id in labels], on_part) if with_pictures else {}
    samples = [
        Sample(kept[id]["prompt"], kept[id]["seed"], by_word, noises.get(id), pictures.get(id), id in judged)
        for id, by_word in labels.items()
    ]
    return Usable(samples, dict(counts), left_out, dict(sampling))


def labels_for(
    studio: Studio,
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

    Validation labels are those of people if there are ENOUGH, else those kept with the models, else the store's."""
    diffuser, pictures = studio.models.diffuser(), (with_pictures, on_part)

    def judged(
        rows: Sequence[Mapping[str, Any]], **filters: Any
    ) -> tuple[list[Mapping[str, Any]], dict[str, int]]:
        return judged_rows(rows, studio.store.labels.judged_images(**filters)["images"])

    events = {"last": snapshot["last"], "gold": snapshot.get("gold", 0)}
    rows, partly = judged(studio.store.labels.current(snapshot=snapshot), split="train", **events)
    train, counts, left_out, sampling = store_samples(studio, rows, correction_weight, *pictures)
    left_out |= partly
    rows, _ = judged(studio.store.labels.current(split="validation"), split="validation")
    unseen = store_samples(studio, rows, 1.0, *pictures, sampling).samples
    by_people = [sample for sample in unseen if sample.judged]
    enough = sum(len(sample.labels) for sample in by_people) >= ENOUGH
    validation = by_people if enough else []
    note = ""
    if train and replay is not None and replay.sampling["negative"] != sampling["negative"]:
        note = (
            f"The labels of STUDIO_LABELS are of images made with {against(replay.sampling['negative'])}, the others with "
            f"{against(sampling['negative'])}; they are not used. Write others by python -m studio labels."
        )
        replay = None
    if replay is not None:
        rng = np.random.default_rng(seed)

        def drawn(split: str, most: int) -> list[Sample]:
            candidates = replay.of(split)
            return replay.samples(np.sort(rng.choice(candidates, min(most, len(candidates)), replace=False)))

        old = drawn("train", replay_samples)
        train, counts["replay"] = train + old, sum(len(sample.labels) for sample in old)
        validation = validation or drawn("validation", 1000)
    validation = validation or unseen
    if not train:
        why = "There is nothing to train on: collect and score samples of training prompts first."
        raise ValueError(f"{why} {left_out_said(left_out)}".strip())
    texts = Texts.encode(diffuser.encode, [sample.prompt for sample in train + validation])
    data = RewardData.build(train, texts, diffuser.latent_shape())
    if validation:
        validation_data = RewardData.build(validation, texts, diffuser.latent_shape())
    else:
        data, validation_data = data.split(0.15, seed)
    prompts = list(dict.fromkeys(sample.prompt for sample in train))
    chosen_by = "people" if enough else "scorer"
    replayed = replay.sampling if replay is not None else {}
    return Labels(data, validation_data, counts, prompts, left_out, sampling, chosen_by, replayed, note)


def texts_for(studio: Studio, prompts: Sequence[str]) -> Texts:
    """Encoded prompts to train a projector on."""
    return Texts.encode(studio.models.diffuser().encode, prompts)
