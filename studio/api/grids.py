"""Endpoints for grids of images, as the page Seeds has them, and for the blind votes between two of their columns."""

from dataclasses import asdict
from typing import Any, Literal

import gradio as gr

from studio.access.limits import limits
from studio.api.answers import content, file, keyed, writer
from studio.grids.grid import check_grid, grid_change
from studio.images import pictures
from studio.numbers import whole
from studio.pages import shared
from studio.studio import Studio


class Gridding:
    """Expects the studio."""

    def __init__(self, studio: Studio) -> None:
        self._studio = studio

    def grid_methods(self) -> list[dict[str, str]]:
        """The ways to make images that a grid can have as columns here.

        Returns:
            methods: [{method: as start_grid takes it, name}]
        """
        return [{"method": value, "name": name} for name, value in self._studio.grids.methods()]

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
        return self._studio.grids.start(request, shared.proven(self._studio, keyed(who, profile), profile))

    def grids(self, limit: int = 20) -> list[dict[str, Any]]:
        """The latest grids, the newest first.

        Parameters:
            limit: grids in the answer, 200 at most

        Returns:
            grids: [{id, prompt, state, message, done: images of total, created, who}]
        """
        return self._studio.grids.find(whole("limit", limit, 1, 200))

    def grid(self, grid: str, base: int = 0, other: int = 1) -> dict[str, Any]:
        """A grid as it is now.

        Parameters:
            grid: the grid's id
            base: the variant that another one is compared with, by its place
            other: the variant that is compared with it

        Returns:
            id, prompt, seeds, variants: [{name, method, run, strength, guidance, steps}], state: queued, running, stopped, interrupted, done or failed, message, done: images of total, left: seconds, cells: [{seed, variant: a place among variants, sample: its id | null, total: its mean score 0..9 | null}], change: of the other variant against the base: {gain: {estimate, low, high}, wins, ties, losses, won: the share of wins {estimate, low, high}, broken: seeds, mended: seeds, words} | null
        """
        view = self._studio.grids.get(grid)
        cells = [
            {
                "seed": cell.seed,
                "variant": cell.variant,
                "sample": cell.sample.id if cell.sample else None,
                "total": cell.sample.total if cell.sample else None,
            }
            for cell in view.cells
        ]
        change = grid_change(view, base, other) if len(view.variants) > 1 and view.done else None
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
        self._studio.grids.stop(grid, shared.tender(self._studio, grid, keyed(who, profile), profile))
        return grid

    def resume_grid(self, grid: str, who: str, profile: gr.OAuthProfile | None = None) -> str:
        """Go on with a grid that was stopped, interrupted or has failed, or make again what has gone from one. For
        who started it, and for administrators.

        Parameters:
            grid: the grid's id
            who: from sign_in

        Returns:
            the grid's id
        """
        limits(self._studio, profile).check_grid(self._studio.grids.request(grid), self._studio.store)
        self._studio.grids.resume(grid, shared.tender(self._studio, grid, keyed(who, profile), profile))
        return grid

    def grid_zip(self, grid: str) -> dict[str, Any]:
        """The images of a grid, with their text, and a manifest with every score.

        Parameters:
            grid: the grid's id

        Returns:
            the zip
        """
        found = self._studio.grids.get(grid).id
        with shared.room() as made:
            return file(self._studio.grid_files.zip(found, made / f"grid-{found}.zip"))

    def next_vote(
        self, grid: str, who: str, base: int = 0, other: int = 1, profile: gr.OAuthProfile | None = None
    ) -> dict[str, Any]:
        """Two images of one seed from two variants of a grid, without saying which is which; answer with cast_vote.

        Parameters:
            grid: the grid's id
            who: from sign_in
            base: one variant, by its place
            other: the other variant

        Returns:
            vote: the question's id, or null where this person has voted on all; prompt; left, right: images; left_over: questions that are left, this one too
        """
        return self._asked(grid, writer(self._studio, who, profile), base, other)

    def cast_vote(
        self,
        grid: str,
        vote: str,
        choice: Literal["left", "right", "tie", "none"],
        who: str,
        base: int = 0,
        other: int = 1,
        profile: gr.OAuthProfile | None = None,
    ) -> dict[str, Any]:
        """Say which of two images shows the prompt better. Of a person's votes on the same two the last one counts.

        Parameters:
            grid: the grid's id
            vote: the question's id, from next_vote
            choice: left, right, tie (as good) or none (neither is any good)
            who: from sign_in
            base: as in next_vote
            other: as in next_vote

        Returns:
            the next question, as next_vote answers
        """
        name = writer(self._studio, who, profile)
        self._studio.votes.add(*self._studio.votes.asked(grid, vote, name, base, other), choice, name)
        return self._asked(grid, name, base, other)

    def votes(self, grid: str, base: int = 0, other: int = 1) -> dict[str, Any]:
        """What all people's blind votes between two variants of a grid say.

        Parameters:
            grid: the grid's id
            base: one variant, by its place
            other: the other variant

        Returns:
            base, other, tie, none: votes for each; voters: people; share: of the other variant, {estimate, low, high}, a tie counting half; names: of the two variants
        """
        found = self._studio.votes.tally(grid, base, other)
        variants = self._studio.grids.request(grid).variants
        places = [whole("variant", at, 0, len(variants) - 1) for at in (base, other)]
        return {**found, "names": [variants[at].name for at in places]}

    def _asked(self, grid: str, who: str, base: int, other: int) -> dict[str, Any]:
        found = self._studio.votes.next(grid, who, base, other)
        if found is None:
            prompt = self._studio.grids.request(grid).prompt
            return {"vote": None, "prompt": prompt, "left": None, "right": None, "left_over": 0}
        sides = {"left": found.left, "right": found.right}
        bodies = {side: pictures.without_text(view.image_path or "") for side, view in sides.items()}
        shown = {side: content(body, f"{side}.png") if body else None for side, body in bodies.items()}
        return {"vote": found.id, "prompt": found.left.prompt, **shown, "left_over": found.left_over}
