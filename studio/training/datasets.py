"""Training data: the store's labels of a run's snapshot, weighted, beside the labels kept with the models.

A correction weighs more than a scorer's label, as it is rare and right; `correction_weight` says how much more.
Only prompts of the split 'train' are trained on, and only those of 'validation' decide when to stop.

The picture that a noise becomes depends on the sampling, so labels of images that were sampled differently are not
mixed: trained on are images of the backbone in use and of the working size, and of these the ones whose steps, guidance,
scheduler and negative prompt most labelled images have (of two equally common ways the studio's own). Left out are those
with LoRA files, which are another backbone, and those with weights in the prompt. People's labels count only on
images that are judged as a whole (``data.store.labels``). A run's metrics hold what was left out, and why.
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
from studio.images.options import NONE, default_options
from studio.images.scoring import kind_of
from studio.training.configs import CORRECTED
from studio.training.replay import Replay

if TYPE_CHECKING:
    from studio.studio import Studio

log = logging.getLogger("studio")
ENOUGH = 100  # labels of people on validation prompts from which they, not the scorer's, choose a model
PARTLY = "judged in part"  # the one reason for which only the scores of people are left out
SAMPLING = ("steps", "guidance", "sampler", "negative")


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


class Usable(NamedTuple):
    """Samples to train on. counts: labels by source; left_out: how many images, by reason; sampling: of the others."""

    samples: list[Sample]
    counts: dict[str, int]
    left_out: dict[str, int]
    sampling: dict[str, Any]


def sampling_of(samples: Sequence[Mapping[str, Any]], own: Mapping[str, Any]) -> dict[str, Any]:
    """The steps, guidance, scheduler and negative prompt that most of these samples were made with; of two equally common ways ``own``. A
    sample without a scheduler counts as made with the own one."""
    default = tuple(own[name] for name in SAMPLING)
    ways = Counter(
        (s["steps"], s["guidance"], s["sampler"] or own["sampler"], s["negative"]) for s in samples
    )
    if not ways:
        return dict(zip(SAMPLING, default, strict=True))
    # a tie is broken by the settings themselves, so that a resumed run takes the same ones
    chosen = max(
        ways, key=lambda way: (ways[way], sum(a == b for a, b in zip(way, default, strict=True)), way)
    )
    return dict(zip(SAMPLING, chosen, strict=True))


def usable(
    samples: Sequence[Mapping[str, Any]], wanted: Mapping[str, Any]
) -> tuple[list[Mapping[str, Any]], dict[str, int]]:
    """The samples that have all these settings (columns of a sample), and how many have not, by the first that differs,
    as a reason of ``left_out_said``. A sample without a scheduler, as an imported one may be, is kept."""
    kept: list[Mapping[str, Any]] = []
    left_out: Counter[str] = Counter()
    for sample in samples:
        names = [name for name in wanted if name != "sampler" or sample["sampler"]]
        other = next((name for name in names if sample[name] != wanted[name]), None)
        if other:
            left_out[_why(other, sample, wanted)] += 1
        else:
            kept.append(sample)
    return kept, dict(left_out)


def _why(name: str, sample: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """Why a sample with another setting is left out."""
    if name == "backbone_revision":
        return "made with another backbone"
    if name in ("height", "width"):
        return (
            f"made at {sample['width']}x{sample['height']} pixels, not {wanted['width']}x{wanted['height']}"
        )
    if name in ("loras", "weighted"):
        return {"loras": "made with LoRA files", "weighted": "made from a prompt with weights"}[name]
    if name == "negative":
        return f"made with {_against(sample[name])}, others with {_against(wanted[name])}"
    text = {"steps": "{} steps", "guidance": "guidance {:g}", "sampler": "the scheduler {}"}[name]
    return f"made with {text.format(sample[name])}, others with {text.format(wanted[name])}"


def _against(negative: str) -> str:
    return f"the negative prompt {negative[:60]!r}" if negative else "no negative prompt"


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


def left_out_said(left_out: Mapping[str, int]) -> str:
    """What was left out, in a sentence or two, or ''."""
    reasons = [f"{count} {why}" for why, count in sorted(left_out.items()) if why != PARTLY]
    sentences = [f"Labelled images that were left out: {'; '.join(reasons)}."] if reasons else []
    if partly := left_out.get(PARTLY):
        sentences.append(
            f"Left out: people's scores of {'1 image' if partly == 1 else f'{partly} images'} of which other words were "
            "neither scored nor confirmed; open them again and press Done."
        )
    return " ".join(sentences)


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
    options = default_options(studio.settings)
    own = {
        **studio.models.sampling(), "sampler": sampler_of(diffuser, options), "negative": options.negative
    }  # fmt: skip
    sampling = sampling or sampling_of(images, own)
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
    return Labels(data, validation_data, counts, prompts, left_out, sampling, chosen_by)


def texts_for(studio: Studio, prompts: Sequence[str]) -> Texts:
    """Encoded prompts to train a projector on."""
    return Texts.encode(studio.models.diffuser().encode, prompts)
