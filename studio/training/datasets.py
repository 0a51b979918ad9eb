"""What a training run sees: the store's labels of its snapshot, weighted, beside the labels kept with the models.

A correction weighs more than a scorer's label, as it is rare and right; `correction_weight` says how much more.
Only prompts of the split 'train' are trained on, and only those of 'validation' decide when to stop.

Which picture a noise becomes depends on how it is sampled, so labels of images that were made in other ways are not
mixed: trained on are images of the backbone in use and of the working size, and of these the ones whose steps, guidance
and scheduler most labelled images have (of two ways as common the studio's own). So whoever makes all images in one way
of their own trains on them, and nobody trains on two ways at once. Of what people said, only images that are judged as a
whole count (``data.store.labels``). A run's metrics hold what was left out, and why.
"""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from core.checkpoint import CheckpointError
from core.training.data import RewardData, Sample, Texts
from core.words import moved
from studio.access.places import shortened
from studio.images.latents import latents_of
from studio.images.making import noises_of, sampler_of
from studio.training.calibration import kind_of
from studio.training.replay import Replay

if TYPE_CHECKING:
    from studio.studio import Studio

log = logging.getLogger("studio")
CORRECTED = ("human", "confirmed", "simulated")
ENOUGH = 100  # labels of people on validation prompts, by which a model is chosen rather than by the scorer's
SAMPLING = ("steps", "guidance", "sampler")


@dataclass(frozen=True)
class Labels:
    """Training and validation labels, what they came from (labels by source), the prompts that were trained on, how many
    labelled images of training prompts were left out, by the reason, how the others were sampled, and whose labels the
    validation ones are: people or scorer."""

    train: RewardData
    validation: RewardData
    counts: dict[str, int]
    prompts: list[str]
    left_out: dict[str, int]
    sampling: dict[str, Any]
    chosen_by: str = "scorer"


class Usable(NamedTuple):
    """Samples to train on, their labels by source, how many images were left out, by the reason, and how the others were
    sampled."""

    samples: list[Sample]
    counts: dict[str, int]
    left_out: dict[str, int]
    sampling: dict[str, Any]


def sampling_of(samples: Sequence[Mapping[str, Any]], own: Mapping[str, Any]) -> dict[str, Any]:
    """The steps, guidance and scheduler that most of these samples were made with; of two as common, ``own``. A sample
    that does not say its scheduler counts as made with the own one."""
    usual = tuple(own[name] for name in SAMPLING)
    ways = Counter((s["steps"], s["guidance"], s["sampler"] or own["sampler"]) for s in samples)
    if not ways:
        return dict(zip(SAMPLING, usual, strict=True))
    # what is left is decided by the settings themselves, lest a run that is gone on with take others
    chosen = max(ways, key=lambda way: (ways[way], sum(a == b for a, b in zip(way, usual, strict=True)), way))
    return dict(zip(SAMPLING, chosen, strict=True))


def usable(
    samples: Sequence[Mapping[str, Any]], wanted: Mapping[str, Any]
) -> tuple[list[Mapping[str, Any]], dict[str, int]]:
    """The samples that have all these settings (columns of a sample), and how many have not, by the first that is
    another, as ``told`` says it. A sample that does not say its scheduler, as one from elsewhere may not, is kept."""
    kept, left = [], Counter()
    for sample in samples:
        unsaid = {"sampler"} if not sample["sampler"] else set()
        other = next((name for name in wanted if sample[name] != wanted[name] and name not in unsaid), None)
        if other:
            left[_made(other, sample, wanted)] += 1
        else:
            kept.append(sample)
    return kept, dict(left)


def _made(name: str, sample: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """Why a sample is left out."""
    if name == "backbone_revision":
        return "made with another backbone"
    if name in ("height", "width"):
        return (
            f"made at {sample['width']}x{sample['height']} pixels, not {wanted['width']}x{wanted['height']}"
        )
    text = {"steps": "{} steps", "guidance": "guidance {:g}", "sampler": "the scheduler {}"}[name]
    return f"made with {text.format(sample[name])}, others with {text.format(wanted[name])}"


def _noise_unknown(sample: Mapping[str, Any]) -> str:
    """Why the noise of a sample cannot be had again."""
    if sample["method"] == "projected":
        return "made from the noise of a projector that is gone"
    return f"made by {sample['method']}"


PARTLY = "judged in part"  # the one reason for which only the scores of people are left out


def judged_rows(
    rows: Sequence[Mapping[str, Any]], judged: Collection[str]
) -> tuple[list[Mapping[str, Any]], dict[str, int]]:
    """The labels (one row a word) without those of people on images that are not judged as a whole, whose ids ``judged``
    holds; and how many images that concerns. What the scorer said of such an image stays."""
    left = {row["sample"] for row in rows if row["source"] in CORRECTED} - set(judged)
    kept = [row for row in rows if row["sample"] not in left or row["source"] not in CORRECTED]
    return kept, {PARTLY: len(left)} if left else {}


def told(left_out: Mapping[str, int]) -> str:
    """What was left out, in a sentence or two, or ''."""
    parts = [f"{count} {why}" for why, count in sorted(left_out.items()) if why != PARTLY]
    says = [f"Labelled images that were left out: {'; '.join(parts)}."] if parts else []
    if partly := left_out.get(PARTLY):
        says.append(
            f"Left out: people's scores of {'1 image' if partly == 1 else f'{partly} images'} of which other words were "
            "neither scored nor confirmed; open them again and press Done."
        )
    return " ".join(says)


def replay_of(studio: Studio) -> tuple[Replay | None, str]:
    """The labels kept with the models, or None and the sentence that says why they are not used."""
    try:
        replay = Replay.load(studio.settings.labels)
    except CheckpointError as error:
        return None, f"{shortened(str(error))} The labels of STUDIO_LABELS are not used."
    revision = studio.models.diffuser().revision
    if replay.meta.get("backbone_revision") != revision:
        return (
            None,
            "The labels of STUDIO_LABELS were made with another backbone; they are not used.",
        )
    shape = list(studio.models.diffuser().latent_shape())
    if replay.meta.get("shape", shape) != shape:
        return (
            None,
            "The labels of STUDIO_LABELS were made at another image size; they are not used.",
        )
    return replay, ""


def store_samples(
    studio: Studio,
    rows: Sequence[Mapping[str, Any]],
    correction_weight: float,
    with_pictures: bool = False,
    on_part: Callable[[int, int], None] | None = None,
    sampling: Mapping[str, Any] | None = None,
) -> Usable:
    """Samples from the store's labels (one row a word), with the latents of their images if these are asked for, of the
    images that are ``usable``: made in the way ``sampling``, or in the most common one where it is None."""
    diffuser = studio.models.diffuser()
    ids = list(dict.fromkeys(row["sample"] for row in rows))
    every: list[Mapping[str, Any]] = []
    for at in range(0, len(ids), 500):
        every += studio.store.samples.find(ids=ids[at : at + 500], limit=500)
    height, width = diffuser.size
    here, left = usable(every, {"backbone_revision": diffuser.revision, "height": height, "width": width})
    own = {**studio.models.sampling(), "sampler": sampler_of(diffuser)}
    sampling = sampling or sampling_of(here, own)
    here, more = usable(here, sampling)
    infos, left = {info["id"]: info for info in here}, left | more
    noises = noises_of(
        studio.models, studio.store, [info for info in infos.values() if info["method"] == "projected"]
    )
    kept = {id for id, info in infos.items() if info["method"] == "none" or id in noises}
    left |= Counter(_noise_unknown(info) for id, info in infos.items() if id not in kept)
    labels: dict[str, dict[int, tuple[Any, float]]] = defaultdict(dict)
    counts: dict[str, int] = defaultdict(int)
    judged: set[str] = set()
    for row in rows:
        if row["sample"] in kept and kind_of(row) is not None:
            weight = row["weight"] * (correction_weight if row["source"] in CORRECTED else 1.0)
            said = row["distribution"] if row["distribution"] is not None else row["score"]
            place = moved(row["prompt"], row["word_rules"]).get(row["word_index"])
            if place is None:  # a part of what is one unit today
                continue
            labels[row["sample"]][place] = (said, weight)
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
    return Usable(samples, dict(counts), left, dict(sampling))


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

    Validation labels are those of people where there are ENOUGH, else those kept with the models, else the store's."""
    diffuser, shown = studio.models.diffuser(), (with_pictures, on_part)

    def whole(rows: Sequence[Mapping[str, Any]], **of: Any) -> tuple[list[Mapping[str, Any]], dict[str, int]]:
        return judged_rows(rows, studio.store.labels.judged_images(**of)["images"])

    events = {"last": snapshot["last"], "gold": snapshot.get("gold", 0)}
    rows, partly = whole(studio.store.labels.current(snapshot=snapshot), split="train", **events)
    train, counts, left, sampling = store_samples(studio, rows, correction_weight, *shown)
    held_rows, _ = whole(studio.store.labels.current(split="validation"), split="validation")
    held = store_samples(studio, held_rows, 1.0, *shown, sampling).samples
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
        why = "There is nothing to train on: collect and score samples of training prompts first."
        raise ValueError(f"{why} {told(left | partly)}".strip())
    texts = Texts.encode(diffuser.encode, [sample.prompt for sample in train + validation])
    data = RewardData.build(train, texts, diffuser.latent_shape())
    if validation:
        judged = RewardData.build(validation, texts, diffuser.latent_shape())
    else:
        data, judged = data.split(0.15, seed)
    prompts = list(dict.fromkeys(sample.prompt for sample in train))
    return Labels(data, judged, counts, prompts, left | partly, sampling, "people" if enough else "scorer")


def texts_for(studio: Studio, prompts: Sequence[str]) -> Texts:
    """Encoded prompts to train a projector on."""
    return Texts.encode(studio.models.diffuser().encode, prompts)
