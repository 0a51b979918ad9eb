"""Endpoints for images: make a comparison, look at what is stored, take the labels out.

No ``from __future__ import annotations`` in this package: Gradio reads the types of what is returned as they are.
"""

import time
from pathlib import Path
from typing import Any, Literal

import gradio as gr

from data.database import new_id
from data.exchange import export_labels
from data.formats import RAPIDATA, RICHHF, export_csv, export_dpo, export_words
from studio.api.answers import file, folder, picture, plain
from studio.checks import shown, whole
from studio.limits import limits
from studio.service import Studio, check_request
from studio.tabs import shared

PATIENCE = 600.0  # seconds that a comparison waits for the models to be loaded
MOST = 200  # samples in one answer
FORMATS = {"jsonl": "jsonl", "csv": "csv", "dpo": "jsonl", "richhf": "jsonl", "rapidata": "jsonl"}


class Images:
    """Expects the studio, and its models on their way."""

    def __init__(self, studio: Studio, loading: shared.Loading) -> None:
        self._studio, self._loading = studio, loading

    def compare(
        self,
        prompt: str,
        seeds: str = "7",
        strength: float = 1.0,
        steps: int | None = None,
        guidance: float | None = None,
        profile: gr.OAuthProfile | None = None,
    ) -> dict[str, Any]:
        """Make images of a prompt without and with projected noise, from the same seeds, and score every word of each.

        The images are stored, and can be corrected like any other.

        Parameters:
            prompt: what the images should show
            seeds: seeds such as "7", "7, 12" or "1-4"
            strength: of the projection, from 0 (none) to 1
            steps: sampling steps, 1 to 100; null for the model's own
            guidance: 0 (none) to 20; null for the model's own

        Returns:
            pairs: for each seed {seed, none, projected}; each a sample {id, prompt, seed, method, strength, steps, guidance, total: the mean score 0..9, words: [{index, text, kind, scored, score: 0..9, human, vlm, expected, uncertain, ...}], image: a file}; projected is null where no projector is in use. message: a sentence, or ''.
        """
        own = self._studio.models.sampling()
        asked = check_request(
            prompt,
            seeds,
            own["steps"] if steps is None else steps,
            own["guidance"] if guidance is None else guidance,
            strength,
        )
        limits(self._studio, profile).check_request(asked, self._studio.store)
        began = time.monotonic()
        while not self._loading.over:
            if time.monotonic() - began > PATIENCE:
                raise ValueError("The models are still loading: try again in a few minutes.")
            time.sleep(0.2)
        if self._loading.problem:
            raise ValueError(self._loading.problem)
        *_, last = self._studio.compare(asked)
        pairs = [
            {"seed": p.seed, "none": plain(p.none), "projected": plain(p.projected) if p.projected else None}
            for p in last.pairs
        ]
        return {"pairs": pairs, "message": last.message}

    def sample(self, sample: str, who: str = "", profile: gr.OAuthProfile | None = None) -> dict[str, Any]:
        """A stored image and what stands for each of its words.

        Parameters:
            sample: the sample's id
            who: from sign_in; the corrections shown are then this person's

        Returns:
            the sample: {id, prompt, seed, method, strength, steps, guidance, total, words, image}
        """
        name = shared.person(who, profile) if who else None
        return plain(self._studio.sample(sample, name))

    def image(self, sample: str) -> dict[str, Any]:
        """The image of a sample, as a PNG file.

        Parameters:
            sample: the sample's id

        Returns:
            the file
        """
        return picture(self._studio.sample(sample))

    def search(
        self,
        prompt: str | None = None,
        prompt_set: str | None = None,
        split: Literal["train", "validation", "heldout"] | None = None,
        method: str | None = None,
        run: str | None = None,
        seed: int | None = None,
        limit: int = 50,
        offset: int = 0,
    ) -> dict[str, Any]:
        """Stored samples, the newest first, by any of these; without their words.

        Parameters:
            prompt: the whole prompt
            prompt_set: the set that the prompt is from
            split: what it is used for: train, validation or heldout
            method: how the noise was made: none, projected, ...
            run: the id of the run whose projector it was made with
            seed: its seed
            limit: samples in the answer, 200 at most
            offset: samples to pass by

        Returns:
            samples: [{id, prompt, prompt_set, split, seed, method, strength, steps, guidance, width, height, created}]; count: of all that match
        """
        given = {
            "prompt": prompt,
            "prompt_set": prompt_set,
            "split": split,
            "method": method,
            "projector_run": run,
            "seed": seed,
        }
        filters = {name: value for name, value in given.items() if value is not None}
        store = self._studio.store
        found = store.samples(limit=whole("limit", limit, 1, MOST), offset=offset, **filters)
        told = "id prompt prompt_set split seed method strength steps guidance width height created".split()
        samples = [{name: row[name] for name in told} for row in found]
        return {"samples": samples, "count": store.count_samples(**filters)}

    def export(
        self,
        format: Literal["jsonl", "csv", "dpo", "richhf", "rapidata"] = "jsonl",
        who: str = "",
        profile: gr.OAuthProfile | None = None,
    ) -> dict[str, Any]:
        """All labels as a file. For those who may manage the studio.

        Parameters:
            format: jsonl (everything, can be imported again), csv, dpo (pairs), richhf (binary words) or rapidata (word scores)
            who: from sign_in

        Returns:
            the file
        """
        name, store = shared.admin(self._studio, who, profile), self._studio.store
        if format not in FORMATS:
            raise ValueError(f"The format {shown(format)} is not known: choose one of {', '.join(FORMATS)}.")
        made = folder() / new_id() / f"{format}.{FORMATS[format]}"
        made.parent.mkdir()
        try:
            if format == "jsonl":
                count = export_labels(store, made)
            elif format == "csv":
                count = export_csv(store, made)
            elif format == "dpo":
                count = export_dpo(store, made)
            else:
                count = export_words(store, made, {"richhf": RICHHF, "rapidata": RAPIDATA}[format])
            store.note_audit(name, "export", format, dict(count))
            return file(made)
        finally:
            _remove(made)


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.parent.rmdir()
