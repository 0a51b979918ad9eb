"""Endpoints for people and programs that correct word scores: the queue, the scores, the steps back."""

from typing import Any, Literal

import gradio as gr

from data.store.queue import LEASE_SECONDS
from studio.access.identity import read_kept
from studio.api.answers import plain, writer
from studio.numbers import whole
from studio.pages import shared
from studio.studio import SampleView, Studio

NONE_LEFT = "There is no image left that this order and these filters would give you now."


class Labelling:
    """Expects the studio."""

    def __init__(self, studio: Studio) -> None:
        self._studio = studio

    def sign_in(self, name: str = "") -> dict[str, str]:
        """A key to write with. A name belongs to whoever first wrote under it: keep the key to come back under the name.

        Parameters:
            name: the name to write under; '' for an anonymous id

        Returns:
            who: the key, which the other endpoints take; name: the name that goes with it
        """
        studio = self._studio
        who = studio.people.renamed(name, None) if name.strip() else studio.people.issue(None)
        kept = read_kept(who)
        assert kept is not None
        return {"who": who, "name": kept.name}

    def next_item(
        self,
        who: str,
        order: Literal[
            "uncertainty", "disagreement", "reward", "projected", "random", "newest"
        ] = "uncertainty",
        prompt: str | None = None,
        prompt_set: str | None = None,
        method: str | None = None,
        run: str | None = None,
        kind: str | None = None,
        overlap: int | None = None,
        exclude: str | None = None,
        profile: gr.OAuthProfile | None = None,
    ) -> dict[str, Any]:
        """The image whose words this person should correct next. For ten minutes nobody else is given it.

        Parameters:
            who: from sign_in
            order: what comes first
            prompt: only images of this prompt
            prompt_set: only prompts of this set
            method: only images made so: none, projected, ...
            run: only images of this run's projector
            kind: only prompts with a word of this kind: object, colour, relation, count, ...
            overlap: how many people may be given the same image; null for any number, one after the other
            exclude: the id of a sample that should not come

        Returns:
            sample: as of the endpoint sample, or null where none is left; why: how it was chosen, or why there is none
        """
        name = writer(self._studio, who, profile)
        given = {
            "prompt": prompt,
            "prompt_set": prompt_set,
            "method": method,
            "projector_run": run,
            "kind": kind,
        }
        filters = {key: value for key, value in given.items() if value is not None}
        view = self._studio.annotation.next(
            name, order, exclude, overlap=overlap, lease=LEASE_SECONDS, **filters
        )
        if view is None:
            return {"sample": None, "why": NONE_LEFT}
        return {"sample": plain(view), "why": self._studio.annotation.why_next(order)}

    def set_score(
        self, sample: str, word: int, score: int, who: str, profile: gr.OAuthProfile | None = None
    ) -> dict[str, Any]:
        """Say how well a word shows in an image. It is on disk when this returns.

        Parameters:
            sample: the sample's id
            word: the word's index in the prompt, as in the sample's words; it must be one that is scored, "nothing else" among them
            score: 0 (not at all) to 9 (fully)
            who: from sign_in

        Returns:
            sample: the id; word: the index; score: what stands now of this person; total: the sample's mean score 0..9
        """
        name = writer(self._studio, who, profile)
        return _word(self._studio.annotation.correct(sample, word, whole("score", score, 0, 9), name), word)

    def clear_score(
        self, sample: str, word: int, who: str, profile: gr.OAuthProfile | None = None
    ) -> dict[str, Any]:
        """Take this person's score of a word back.

        Parameters:
            sample: the sample's id
            word: the word's index in the prompt
            who: from sign_in

        Returns:
            sample: the id; word: the index; score: null; total: the sample's mean score 0..9
        """
        name = writer(self._studio, who, profile)
        return _word(self._studio.annotation.correct(sample, word, None, name), word)

    def accept(self, sample: str, who: str, profile: gr.OAuthProfile | None = None) -> dict[str, Any]:
        """Say of every shown score of an image that it is right: each becomes this person's own.

        Parameters:
            sample: the sample's id
            who: from sign_in

        Returns:
            the sample
        """
        return plain(self._studio.annotation.accept(sample, writer(self._studio, who, profile)))

    def undo(
        self, who: str, sample: str | None = None, profile: gr.OAuthProfile | None = None
    ) -> dict[str, Any]:
        """Undo this person's last score, submit (with what it confirmed) or skip; called again, it goes further back.

        Parameters:
            who: from sign_in
            sample: only steps on this sample; null for any

        Returns:
            sample: the sample that the step was on, or null where nothing is left to undo
        """
        view = self._studio.annotation.undo(writer(self._studio, who, profile), sample)
        return {"sample": plain(view) if view else None}

    def submit(self, sample: str, who: str, profile: gr.OAuthProfile | None = None) -> dict[str, Any]:
        """This person is done with an image, also where nothing was wrong with it. The scores that stand there, and that
        this person did not give, are confirmed by that, unless STUDIO_CONFIRM says no.

        Parameters:
            sample: the sample's id
            who: from sign_in

        Returns:
            sample: the id; done: submitted
        """
        self._studio.annotation.submit(sample, writer(self._studio, who, profile))
        return {"sample": sample, "done": "submitted"}

    def skip(self, sample: str, who: str, profile: gr.OAuthProfile | None = None) -> dict[str, Any]:
        """This person does not want to judge an image: it does not come again.

        Parameters:
            sample: the sample's id
            who: from sign_in

        Returns:
            sample: the id; done: skipped
        """
        self._studio.annotation.submit(sample, writer(self._studio, who, profile), "skip")
        return {"sample": sample, "done": "skipped"}

    def flag(
        self, sample: str, reason: str, who: str, profile: gr.OAuthProfile | None = None
    ) -> dict[str, Any]:
        """Say that something is wrong with an image itself.

        Parameters:
            sample: the sample's id
            reason: what is wrong; '' takes the flag back
            who: from sign_in

        Returns:
            sample: the id; flag: the reason that stands now, or ''
        """
        name, store = writer(self._studio, who, profile), self._studio.store
        if isinstance(reason, str) and not reason.strip():
            store.remarks.unflag(sample, name)
            return {"sample": sample, "flag": ""}
        return {"sample": sample, "flag": store.remarks.flag(sample, name, reason)["text"]}

    def note(
        self, sample: str, text: str, who: str, profile: gr.OAuthProfile | None = None
    ) -> dict[str, Any]:
        """Write a note on an image.

        Parameters:
            sample: the sample's id
            text: the note; '' takes it back
            who: from sign_in

        Returns:
            sample: the id; note: the note that stands now, or ''
        """
        said = self._studio.store.remarks.note(sample, writer(self._studio, who, profile), text)
        return {"sample": sample, "note": said["text"] if said else ""}

    def progress(
        self,
        who: str = "",
        prompt_set: str | None = None,
        method: str | None = None,
        overlap: int | None = None,
        profile: gr.OAuthProfile | None = None,
    ) -> dict[str, Any]:
        """How far this person, and all together, are with the images that are trained on.

        Parameters:
            who: from sign_in
            prompt_set: only prompts of this set
            method: only images made so
            overlap: how many people may be given the same image, for what is left

        Returns:
            samples, scored, submitted, skipped, remaining, corrected_words, corrected_samples: this person's; all: images that anyone has submitted; left: that this person may still be given; per_hour: this person's pace in the past hour, or null
        """
        name = shared.person(who, profile)
        given = {"prompt_set": prompt_set, "method": method}
        filters = {key: value for key, value in given.items() if value is not None}
        queue = self._studio.store.tallies.queue(name, overlap, **{"split": "train", **filters})
        queue.pop("mine")  # as submitted
        return {**self._studio.annotation.progress(name, **filters), **queue}

    def history(
        self, who: str, limit: int = 50, profile: gr.OAuthProfile | None = None
    ) -> list[dict[str, Any]]:
        """This person's steps, the newest first.

        Parameters:
            who: from sign_in
            limit: steps in the answer, 1000 at most

        Returns:
            steps: [{sample, word_index, word, action: set, clear or undo, score, before, undone, prompt, seed, created}]
        """
        steps = self._studio.annotation.history(shared.person(who, profile), whole("limit", limit, 1, 1000))
        told = "sample word_index word action score before undone prompt seed created".split()
        return [{name: step[name] for name in told} for step in steps]


def _word(view: SampleView, word: int) -> dict[str, Any]:
    return {"sample": view.id, "word": word, "score": view.words[word].human, "total": view.total}
