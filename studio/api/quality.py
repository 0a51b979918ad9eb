"""Endpoints for the quality of the labels: agreement, a person's figures, gold; and the names that belong to people."""

from datetime import UTC, datetime
from typing import Any

import gradio as gr

from studio.annotation.quality import person_of, without_gold
from studio.numbers import plain, whole
from studio.pages import shared
from studio.studio import Studio

PATIENCE = 60.0  # seconds that an answer waits for figures that know of everything


class Quality:
    """Expects the studio."""

    def __init__(self, studio: Studio) -> None:
        self._studio = studio

    def agreement(
        self, apart: int = 40, who: str = "", profile: gr.OAuthProfile | None = None
    ) -> dict[str, Any]:
        """How far people agree on word scores: Krippendorff's alpha by kind of word and by pair, and each person with the VLM, with gold and with the others. In a large store of the latest 100,000 steps.

        Parameters:
            apart: words in the answer on which people are furthest apart, 1000 at most
            who: from sign_in; where there are administrators, gold is in the answers of theirs only

        Returns:
            kinds: [{kind, words, people, ordinal, interval: alpha | null, why}], the first of all words; pairs: [{people, words, ordinal, interval, exact: share of equal scores, mean_absolute, why}]; people: [as annotator]; apart: [{sample, word_index, word, prompt, said: [[who, score]], vlm, ...}]; gold: {words, samples}; scores: counted; cut: whether there are older ones; as_of: when (UTC); newer: whether there are scores that are not counted yet
        """
        most = whole("apart", apart, 0, 1000)
        found, about = self._figures(who, profile)
        return plain({**found, "apart": found["apart"][:most], **about})

    def annotator(self, name: str, who: str = "", profile: gr.OAuthProfile | None = None) -> dict[str, Any]:
        """How one person works and agrees.

        Parameters:
            name: as agreement lists it
            who: from sign_in; where there are administrators, gold is in the answers of theirs only

        Returns:
            who, words: whose score stands, samples, scores: how often each of 0-9 was given, kinds: words of each, vlm, gold, others: {kind, or all: {words, exact, mean_absolute, spearman, why}}, pairs, contested: the words furthest from gold or from the others, first, last, hours, per_hour, sets, clears, undos, submitted, skipped
        """
        return plain(person_of(self._figures(who, profile)[0], name))

    def gold(
        self,
        sample: str | None = None,
        limit: int = 200,
        who: str = "",
        profile: gr.OAuthProfile | None = None,
    ) -> list[dict[str, Any]]:
        """The gold scores that stand, the newest first. For those who may manage the studio, where there are such.

        Parameters:
            sample: only of this sample
            limit: words in the answer, 1000 at most
            who: from sign_in

        Returns:
            gold: [{sample, word_index, word, score, who, created, prompt}]
        """
        if not shared.manages(self._studio, who, profile):
            shared.admin(self._studio, who, profile)  # which says why not
        return self._studio.store.gold.scores(sample, whole("limit", limit, 1, 1000))

    def set_gold(
        self,
        sample: str,
        word: int,
        score: int | None,
        who: str = "",
        profile: gr.OAuthProfile | None = None,
    ) -> dict[str, Any]:
        """Say that this score of a word is right: it is the word's label in every training from now on. For those who may manage the studio.

        Parameters:
            sample: the sample's id
            word: the word's index in the prompt
            score: 0 (not at all) to 9 (fully); null takes the gold back
            who: from sign_in

        Returns:
            sample: the id; word: the index; gold: the score that stands now, or null
        """
        name = shared.admin(self._studio, who, profile)
        digit = None if score is None else whole("score", score, 0, 9)
        found = self._studio.annotation.set_gold(sample, word, digit, name)
        return {"sample": sample, "word": word, "gold": found["score"] if found else None}

    def people(
        self, limit: int = 1000, who: str = "", profile: gr.OAuthProfile | None = None
    ) -> list[dict[str, Any]]:
        """The names that belong to somebody, the newest first. For those who may manage the studio.

        Parameters:
            limit: names in the answer, 10000 at most
            who: from sign_in

        Returns:
            people: [{name, created}]
        """
        shared.admin(self._studio, who, profile)
        return self._studio.store.people.find(whole("limit", limit, 1, 10_000))

    def release_name(
        self, name: str, who: str = "", profile: gr.OAuthProfile | None = None
    ) -> dict[str, Any]:
        """Free a name whose key was lost: it goes to the next one who writes under it. For those who may manage the studio.

        Parameters:
            name: the name
            who: from sign_in

        Returns:
            released: the name
        """
        self._studio.store.people.release(name, shared.admin(self._studio, who, profile))
        return {"released": name}

    def _figures(self, who: str, profile: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """The figures that this caller may see, and of when they are; ValueError where they cannot be worked out."""
        look = self._studio.figures.settled(PATIENCE)
        if look.problem or look.value is None or look.at is None:
            raise ValueError(look.problem or "The figures are still being worked out: ask again in a minute.")
        as_of = datetime.fromtimestamp(look.at, UTC).isoformat(timespec="seconds")
        found = look.value
        if not shared.manages(self._studio, who, profile):
            found = without_gold(found, shared.known(self._studio, who, profile))
        return found, {"as_of": as_of, "newer": look.stale}
