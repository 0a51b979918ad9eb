"""Endpoints for images: make a comparison, and look at what is stored and at all that was said of it.

No ``from __future__ import annotations`` in this package: Gradio reads the types of what is returned as they are.
"""

import time
from typing import Any, Literal

import gradio as gr

from studio.access.limits import limits
from studio.api.answers import GivenFile, content, given, picture, plain
from studio.images import png_text
from studio.numbers import whole
from studio.pages import shared
from studio.studio import Studio, check_request

PATIENCE = 600.0  # seconds that a comparison waits for the models to be loaded
MOST = 200  # samples in one answer
TOLD = (
    "id prompt prompt_set split seed method strength steps guidance width height created mean people flags words"
).split()  # of a sample that was found


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
        noise: str = "projected",
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
            noise: projected, or best-noise-of-8 for the best of so many noises, chosen before anything is drawn

        Returns:
            pairs: for each seed {seed, none, projected: or of the chosen noise, whose seed it has}; each a sample {id, prompt, seed, method, strength, steps, guidance, total: the mean score 0..9, words: [{index, text, kind, scored, score: 0..9, human, vlm, expected, uncertain, ...}], the last of kind extra, "nothing else", about the whole image, image: a file}; projected is null where no projector (or reward model) is in use. message: a sentence, or ''.
        """
        own = self._studio.models.sampling()
        asked = check_request(
            prompt,
            seeds,
            own["steps"] if steps is None else steps,
            own["guidance"] if guidance is None else guidance,
            strength,
            noise=noise,
        )
        limits(self._studio, profile).check_request(asked, self._studio.store)
        began = time.monotonic()
        while not self._loading.over:
            if time.monotonic() - began > PATIENCE:
                raise ValueError("The models are still loading: try again in a few minutes.")
            time.sleep(0.2)
        if self._loading.problem:
            raise ValueError(self._loading.problem)
        *_, last = self._studio.comparison.compare(asked)
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
            the sample: {id, prompt, seed, method, strength, steps, guidance, total, words, image}; after the words stands one of kind extra, "nothing else", 9 where the image shows nothing that the prompt does not ask for; images of earlier versions lack it
        """
        name = shared.person(who, profile) if who else None
        return plain(self._studio.annotation.sample(sample, name))

    def image(self, sample: str, text: bool = False) -> dict[str, Any]:
        """The image of a sample, as a PNG file.

        Parameters:
            sample: the sample's id
            text: with the text that the WebUI of AUTOMATIC1111 reads: prompt, seed, steps and so on

        Returns:
            the file
        """
        view = self._studio.annotation.sample(sample)
        return (
            content(self._studio.grid_files.png(view.id), f"{view.id}.png") if text is True else picture(view)
        )

    def read_image(self, file: GivenFile) -> dict[str, Any]:
        """How a PNG says that it was made, whether this studio, the WebUI of AUTOMATIC1111 or a tool whose JSON is known wrote it.

        Parameters:
            file: the PNG

        Returns:
            prompt, seed, steps, guidance, width, height, method, strength, run: what is not said is null; source: studio, webui or json; note: what of it cannot be used here, or ''
        """
        return png_text.read_png(given(file))

    def sample_history(
        self, sample: str, limit: int = 200, who: str = "", profile: gr.OAuthProfile | None = None
    ) -> dict[str, Any]:
        """All that was said of an image, by whom and when.

        Parameters:
            sample: the sample's id
            limit: steps in the answer, 1000 at most
            who: from sign_in; where there are administrators, gold is in the answers of theirs only

        Returns:
            events: the newest first, [{created, who, source, what: set, clear, undo, submit, skip, flag, note, gold, preferred, ..., word_index, word, before, after, text}]; remarks: flags and notes that stand, [{kind, who, text, created}]
        """
        store = self._studio.store
        golden = shared.manages(self._studio, who, profile)
        events = store.library.events(sample, whole("limit", limit, 1, 1000), gold=golden)
        told = "kind who text created".split()
        remarks = [{name: one[name] for name in told} for one in store.remarks.find(sample=sample)]
        return {"events": events, "remarks": remarks}

    def search(
        self,
        text: str = "",
        sort: Literal[
            "newest", "oldest", "uncertain", "disagreement", "lowest", "highest", "prompt", "seed"
        ] = "newest",
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
        mean_from: float | None = None,
        mean_to: float | None = None,
        profile: gr.OAuthProfile | None = None,
    ) -> dict[str, Any]:
        """Stored samples, a page at a time, as the Library shows them.

        Parameters:
            text: words of the prompt, or the id of a sample
            sort: the order; lowest and highest are of the mean score
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
            who: from sign_in; where there are administrators, gold is in the labels and mean scores of theirs only
            mean_from: a mean score of so much or more, 0 to 9
            mean_to: a mean score of so much or less

        Returns:
            samples: [{id, prompt, prompt_set, split, seed, method, strength, steps, guidance, width, height, created, mean: its mean score 0..9, people, flags, words: [{index, word, label, source: gold, human, simulated, calibrated or vlm, vlm, people}]}]; count: of all that match, 10,000 at most; more: whether there are more than that; next: give it as after, null at the end
        """
        asked = {
            "prompt_set": prompt_set,
            "split": split,
            "method": method,
            "projector_run": run,
            "seed": seed,
            "who": scored_by,
            "remark": remark,
            "disagreement": disagreement,
            "mean_from": mean_from,
            "mean_to": mean_to,
        }
        filters = {name: value for name, value in asked.items() if value is not None}
        found = self._studio.store.library.search(
            text,
            sort=sort,
            after=after,
            limit=whole("limit", limit, 1, MOST),
            gold=shared.manages(self._studio, who, profile),
            **filters,
        )
        samples = [{name: row[name] for name in TOLD} for row in found["samples"]]
        return {**found, "samples": samples}

    def choices(self) -> dict[str, list[str]]:
        """What the filters of the endpoint search can be set to now.

        Returns:
            prompt_set, split, method, run, scored_by: the values of each
        """
        found = self._studio.store.library.choices()
        return {
            {"projector_run": "run", "who": "scored_by"}.get(name, name): values
            for name, values in found.items()
        }
