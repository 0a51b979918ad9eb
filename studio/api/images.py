"""Endpoints for images: make a comparison, look at what is stored, take the labels out.

No ``from __future__ import annotations`` in this package: Gradio reads the types of what is returned as they are.
"""

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import gradio as gr

from data.database import new_id
from data.exchange import export_labels
from data.formats import RAPIDATA, RICHHF, export_csv, export_dpo, export_words
from studio.api.answers import file, folder, keyed, picture, plain, writer
from studio.checks import shown, whole
from studio.grids import check_grid, grid_change
from studio.limits import limits
from studio.service import Studio, check_request
from studio.tabs import shared

PATIENCE = 600.0  # seconds that a comparison waits for the models to be loaded
MOST = 200  # samples in one answer
TOLD = (
    "id prompt prompt_set split seed method strength steps guidance width height created mean people flags words"
).split()  # of a sample that was found
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
        text: str = "",
        sort: Literal["newest", "oldest", "uncertain", "disagreement", "prompt", "seed"] = "newest",
        prompt_set: str | None = None,
        split: Literal["train", "validation", "heldout"] | None = None,
        method: str | None = None,
        run: str | None = None,
        seed: int | None = None,
        scored_by: str | None = None,
        remark: Literal["flag", "note"] | None = None,
        disagreement: float | None = None,
        limit: int = 24,
        after: list[Any] | None = None,
        who: str = "",
        profile: gr.OAuthProfile | None = None,
    ) -> dict[str, Any]:
        """Stored samples, a page at a time, as the Library shows them.

        Parameters:
            text: words of the prompt, or the id of a sample
            sort: the order
            prompt_set: the set that the prompt is from
            split: what it is used for: train, validation or heldout
            method: how the noise was made: none, projected, ...
            run: the id of the run whose projector it was made with
            seed: its seed
            scored_by: who has scored a word of it; * for anyone
            remark: flag or note, where one stands
            disagreement: people differ by so many points or more
            limit: samples in the answer, 200 at most
            after: what the page before answered as next
            who: from sign_in; where there are administrators, gold is in the labels of theirs only

        Returns:
            samples: [{id, prompt, prompt_set, split, seed, method, strength, steps, guidance, width, height, created, mean: its mean score 0..9, people, flags, words: [{index, word, label, source: gold, human, simulated, calibrated or vlm, vlm, people}]}]; count: of all that match, 10,000 at most; more: whether there are more than that; next: give it as after, null at the end
        """
        given = {
            "prompt_set": prompt_set,
            "split": split,
            "method": method,
            "projector_run": run,
            "seed": seed,
            "who": scored_by,
            "remark": remark,
            "disagreement": disagreement,
        }
        filters = {name: value for name, value in given.items() if value is not None}
        found = self._studio.store.search(
            text,
            sort=sort,
            after=after,
            limit=whole("limit", limit, 1, MOST),
            gold=shared.manages(self._studio, who, profile),
            **filters,
        )
        samples = [{name: row[name] for name in TOLD} for row in found["samples"]]
        return {**found, "samples": samples}

    def start_grid(
        self,
        prompt: str,
        who: str,
        seeds: str = "1-8",
        methods: str = "none,projected",
        strengths: str = "1",
        guidance: str = "",
        steps: str = "",
        profile: gr.OAuthProfile | None = None,
    ) -> str:
        """Make a grid of images in the background, seeds against ways to make them; look at it with the endpoint grid.

        Parameters:
            prompt: what the images should show
            who: from sign_in
            seeds: the rows, such as "1-16" or "7, 9"
            methods: the columns: none, projected, projected:RUN, pag, autoguidance, lora, ... with commas between
            strengths: of what is projected, such as "0,0.5,1"
            guidance: values such as "3,5,7"; empty for the model's own
            steps: values such as "10-30 (+10)"; empty for the model's own

        Returns:
            the grid's id
        """
        request = check_grid(prompt, seeds, methods, strengths, guidance, steps)
        limits(self._studio, profile).check_grid(request, self._studio.store)
        return self._studio.start_grid(request, writer(self._studio, who, profile))

    def grid(self, grid: str) -> dict[str, Any]:
        """A grid as it is now.

        Parameters:
            grid: the grid's id

        Returns:
            id, prompt, seeds, variants: [{name, method, run, strength, guidance, steps}], state: queued, running, stopped, interrupted, done or failed, message, done: images of total, left: seconds, cells: [{seed, variant: a place among variants, sample: its id | null, total: its mean score 0..9 | null}], change: of the second variant against the first: {gain: {estimate, low, high}, wins, ties, losses, broken: seeds, mended: seeds, words} | null
        """
        view = self._studio.grid(grid)
        cells = [
            {
                "seed": cell.seed,
                "variant": cell.variant,
                "sample": cell.sample.id if cell.sample else None,
                "total": cell.sample.total if cell.sample else None,
            }
            for cell in view.cells
        ]
        change = grid_change(view) if len(view.variants) > 1 and view.done else None
        told = "id prompt seeds state message done total left".split()
        return {
            **{name: getattr(view, name) for name in told},
            "variants": [asdict(variant) for variant in view.variants],
            "cells": cells,
            "change": change,
        }

    def stop_grid(self, grid: str, who: str, profile: gr.OAuthProfile | None = None) -> str:
        """Stop a grid after the step that it is in; what is made is kept. For who started it, and for administrators.

        Parameters:
            grid: the grid's id
            who: from sign_in

        Returns:
            the grid's id
        """
        self._studio.stop_grid(grid, shared.tender(self._studio, grid, keyed(who, profile), profile))
        return grid

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
