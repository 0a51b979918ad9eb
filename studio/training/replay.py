"""Labels kept with the models: VLM scores that are replayed, so that retraining on new labels does not forget the old.

A checkpoint folder of tensors, S samples and N scored words: prompt (S,) rows of meta['prompts'], seed (S,), first
(S + 1,) where each sample's words begin, word (N,) places in the prompt, distribution (N, 10) in 255ths. Optional:
features (N, F) the scorer's hidden states in steps of scale (F,), picture (S, C, H, W) the latents of the images in steps
of picture_scale (C,), and for samples of projected noise that noise itself, noise (M, C, H, W), with noise_row (S,), -1
where the seed draws it.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from core import checkpoint
from core.training.data import Sample
from core.words import CURRENT, moved
from studio.images.latents import latents_of
from studio.images.making import noises_of
from studio.images.prompts import split_of
from studio.training.sampled import own_way, sampling_of, usable

if TYPE_CHECKING:
    from studio.studio import Studio

KIND = "labels"


@dataclass(frozen=True)
class Replay:
    """The tensors in NumPy; `distribution` as float32 that sums to 1."""

    prompts: list[str]
    prompt: np.ndarray
    seed: np.ndarray
    first: np.ndarray
    word: np.ndarray
    distribution: np.ndarray
    features: np.ndarray | None
    noise: Tensor | None
    noise_row: np.ndarray
    meta: dict[str, Any]
    picture: Tensor | None = None  # float16

    def __len__(self) -> int:
        return len(self.prompt)

    @classmethod
    def load(cls, folder: Path | str) -> Replay:
        """Read a folder; CheckpointError where it is missing or damaged."""
        manifest = checkpoint.verify(folder)
        if manifest["kind"] != KIND:
            raise checkpoint.CheckpointError(
                f"{folder} holds no labels: choose another folder by STUDIO_LABELS."
            )
        tensors = checkpoint.load_tensors(folder)
        arrays = {name: value.numpy() for name, value in tensors.items()}
        distribution = arrays["distribution"].astype(np.float32)
        distribution /= distribution.sum(-1, keepdims=True)
        features = arrays["features"].astype(np.float32) * arrays["scale"] if "features" in arrays else None
        rows = arrays.get("noise_row", np.full(len(arrays["prompt"]), -1))
        meta, picture = manifest["meta"], tensors.get("picture")
        if picture is not None:
            picture = (picture * tensors["picture_scale"][:, None, None]).half()
        prompt, seed, first, word = (arrays[name] for name in ("prompt", "seed", "first", "word"))
        noise, prompts = tensors.get("noise"), meta["prompts"]
        return cls(prompts, prompt, seed, first, word, distribution, features, noise, rows, meta, picture)

    def save(self, folder: Path | str) -> dict[str, Any]:
        """Write it to a folder; the manifest."""
        arrays = {
            "prompt": self.prompt.astype(np.int32),
            "seed": self.seed.astype(np.int64),
            "first": self.first.astype(np.int32),
            "word": self.word.astype(np.uint8),
            "distribution": in_255ths(self.distribution),
        }
        if self.features is not None and len(self.features):
            scale = np.abs(self.features).max(0).clip(1e-6) / 127
            arrays |= {
                "features": np.round(self.features / scale).astype(np.int8),
                "scale": scale.astype(np.float32),
            }
        if self.noise is not None:
            arrays["noise_row"] = self.noise_row.astype(np.int32)
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        if self.noise is not None:
            tensors["noise"] = self.noise.half()
        if self.picture is not None:
            picture = self.picture.float()
            steps = picture.abs().amax((0, 2, 3)).clamp_min(1e-6) / 127
            tensors["picture"] = (picture / steps[:, None, None]).round().to(torch.int8)
            tensors["picture_scale"] = steps
        return checkpoint.save(tensors, folder, {**self.meta, "prompts": self.prompts}, kind=KIND)

    @property
    def rules(self) -> int:
        """The rules by which the prompts' words are counted."""
        return self.meta.get("word_rules", 1)

    @property
    def sampling(self) -> dict[str, Any]:
        """How the images were sampled, as far as it is known: an earlier folder says steps and guidance alone, and was made
        before there were negative prompts."""
        earlier = {
            name: values[0] for name in ("steps", "guidance") if len(values := self.meta.get(name, [])) == 1
        }
        return self.meta.get("sampling") or {**earlier, "negative": ""}

    def of(self, split: str) -> np.ndarray:
        """The samples (rows) whose prompts are of a split."""
        splits = self.meta.get("splits") or [split_of(prompt) for prompt in self.prompts]
        return np.flatnonzero((np.array(splits) == split)[self.prompt])

    def samples(self, rows: np.ndarray) -> list[Sample]:
        """Samples (rows) to train on."""
        samples = []
        for s in rows.tolist():
            prompt = self.prompts[self.prompt[s]]
            places = moved(prompt, self.rules)
            labels = {
                places[int(self.word[n])]: (self.distribution[n].tolist(), 1.0)
                for n in range(self.first[s], self.first[s + 1])
                if int(self.word[n]) in places
            }
            at = int(self.noise_row[s])
            noise = self.noise[at].float() if at >= 0 and self.noise is not None else None
            picture = self.picture[s].float() if self.picture is not None else None
            samples.append(Sample(prompt, int(self.seed[s]), labels, noise, picture))
        return samples


def in_255ths(distribution: np.ndarray) -> np.ndarray:
    """Distributions (N, 10) as uint8 that sum to 255: rounded down, the rest to the largest remainders."""
    exact = distribution.astype(np.float64) / distribution.sum(-1, keepdims=True) * 255
    counts = np.floor(exact).astype(np.int64)
    rank = np.argsort(np.argsort(counts - exact, axis=-1, kind="stable"), axis=-1)
    return (counts + (rank < (255 - counts.sum(-1, keepdims=True)))).astype(np.uint8)


def gather(
    studio: Studio,
    splits: tuple[str, ...] = ("train", "validation"),
    features: bool = True,
    most: int | None = None,
    pictures: bool = True,
) -> Replay:
    """The store's samples of the backbone in use, in its size, without LoRA files and weights in the prompt, that the VLM has
    scored: of these the ones whose steps, guidance, scheduler and negative prompt most of them have, as in training. most: of
    training prompts, drawn at random but always the same."""
    diffuser = studio.models.diffuser()
    filters: dict[str, Any] = {
        "split": list(splits), "method": ["none", "projected"], "backbone_revision": diffuser.revision
    }  # fmt: skip
    scored = studio.store.samples.find(scored=True, limit=10_000_000, newest=False, **filters)
    rows: list[Mapping[str, Any]] = [
        row
        for row in scored
        if (row["height"], row["width"]) == diffuser.size and row["loras"] == "[]" and not row["weighted"]
    ]
    sampling = sampling_of(rows, own_way(studio))
    rows, others = usable(rows, sampling)
    if most is not None:
        trained = [i for i, row in enumerate(rows) if row["split"] == "train"]
        left_out = set(np.random.default_rng(0).permutation(trained)[most:].tolist())
        rows = [row for i, row in enumerate(rows) if i not in left_out]
    noises = noises_of(studio.models, studio.store, [row for row in rows if row["method"] == "projected"])
    rows = [row for row in rows if row["method"] == "none" or row["id"] in noises]
    latents = latents_of(studio, rows) if pictures else {}
    if latents:  # every sample of a replay has a picture, or none has
        rows = [row for row in rows if row["id"] in latents]
    if not rows:
        raise ValueError(
            "There is no scored sample of this backbone and size in the store: collect and score some first."
        )
    words: dict[str, list[dict[str, Any]]] = {row["id"]: [] for row in rows}
    for event in itertools.chain.from_iterable(map(studio.store.labels.vlm_scores, splits)):
        index = moved(event["prompt"], event["word_rules"]).get(event["word_index"])
        if index is not None and event["sample"] in words:
            words[event["sample"]].append({**event, "word_index": index})
    rows = [row for row in rows if words[row["id"]]]
    by_sample = [sorted(words[row["id"]], key=lambda event: event["word_index"]) for row in rows]
    events = list(itertools.chain.from_iterable(by_sample))
    split_of_prompt = {row["prompt"]: row["split"] for row in rows}
    prompt_rows = {prompt: i for i, prompt in enumerate(split_of_prompt)}
    noise_rows = {id: i for i, id in enumerate(row["id"] for row in rows if row["id"] in noises)}
    hidden = None
    if features and all(event["features"] for event in events):
        states = [np.frombuffer(event["features"], np.float16) for event in events]
        hidden = np.stack(states).astype(np.float32)
    return Replay(
        list(prompt_rows),
        np.array([prompt_rows[row["prompt"]] for row in rows]),
        np.array([row["seed"] for row in rows]),
        np.cumsum([0, *map(len, by_sample)]),
        np.array([event["word_index"] for event in events]),
        np.array([event["distribution"] for event in events], np.float32),
        hidden,
        torch.stack([noises[id] for id in noise_rows]) if noise_rows else None,
        np.array([noise_rows.get(row["id"], -1) for row in rows]),
        {
            "splits": list(split_of_prompt.values()),
            "backbone_revision": diffuser.revision,
            "scorer_versions": sorted({event["scorer_version"] for event in events}),
            "steps": sorted({row["steps"] for row in rows}),
            "guidance": sorted({row["guidance"] for row in rows}),
            "sampling": sampling,
            "left_out": others,
            "shape": list(diffuser.latent_shape()),
            "word_rules": CURRENT,
        },
        torch.stack([latents[row["id"]] for row in rows]) if latents else None,
    )
