"""Endpoints for the quality of the labels: agreement, a person's figures, gold; and the names that belong to people."""

from datetime import UTC, datetime
from typing import Annotated, Any

import gradio as gr

from studio.annotation.quality import person_of, without_gold
from studio.api.answers import FIGURES, Viewer, WordIndex
from studio.doors import ADMINISTRATORS, GOLD, SampleId, endpoint
from studio.numbers import plain, whole
from studio.pages import shared
from studio.studio import Studio

PATIENCE = 60.0  # seconds that an answer waits for figures that know of everything


@endpoint(line=FIGURES)
def agreement(
    studio: Studio,
    apart: Annotated[int, "words in the answer on which people are furthest apart, 1000 at most"] = 40,
    who: Viewer = "",
    profile: gr.OAuthProfile | None = None,
) -> dict[str, Any]:
    """How far people agree on word scores: Krippendorff's alpha by kind of word and by pair, and each person with the VLM, with gold and with the others. In a large store of the latest 100,000 steps.

    Returns: kinds: [{kind, words, people, ordinal, interval: alpha | null, why}], the first of all words; pairs: [{people, words, ordinal, interval, exact: share of equal scores, mean_absolute, why}]; people: [as annotator]; apart: [{sample, word_index, word, prompt, said: [[who, score]], vlm, ...}]; gold: {words, samples}; scores: counted; cut: whether there are older ones; as_of: when (UTC); newer: whether there are scores that are not counted yet
    """
    most = whole("apart", apart, 0, 1000)
    figures, about = _figures(studio, who, profile)
    return plain({**figures, "apart": figures["apart"][:most], **about})


@endpoint(line=FIGURES)
def annotator(
    studio: Studio,
    name: Annotated[str, "as agreement lists it"],
    who: Viewer = "",
    profile: gr.OAuthProfile | None = None,
) -> dict[str, Any]:
    """How one person works and agrees.

    Returns: who, words: whose score stands, samples, scores: how often each of 0-9 was given, kinds: words of each, vlm, gold, others: {kind, or all: {words, exact, mean_absolute, spearman, why}}, pairs, contested: the words furthest from gold or from the others, first, last, hours, per_hour, sets, clears, undos, submitted, skipped
    """
    return plain(person_of(_figures(studio, who, profile)[0], name))


@endpoint(GOLD)
def gold(
    studio: Studio,
    sample: Annotated[str | None, "only of this sample"] = None,
    limit: Annotated[int, "words in the answer, 1000 at most"] = 200,
    who: str = "",
) -> list[dict[str, Any]]:
    """The gold scores that stand, the newest first. For those who may manage the studio, where there are such.

    Returns: gold: [{sample, word_index, word, score, who, created, prompt}]
    """
    return studio.store.gold.scores(sample, whole("limit", limit, 1, 1000))


@endpoint(ADMINISTRATORS)
def set_gold(
    studio: Studio,
    sample: SampleId,
    word: WordIndex,
    score: Annotated[int | None, "0 (not at all) to 9 (fully); null takes the gold back"],
    who: str = "",
) -> dict[str, Any]:
    """Say that this score of a word is right: it is the word's label in every training from now on.

    Returns: sample: the id; word: the index; gold: the score that stands now, or null
    """
    digit = None if score is None else whole("score", score, 0, 9)
    stands = studio.annotation.set_gold(sample, word, digit, who)
    return {"sample": sample, "word": word, "gold": stands["score"] if stands else None}


@endpoint(ADMINISTRATORS)
def people(
    studio: Studio, limit: Annotated[int, "names in the answer, 10000 at most"] = 1000, who: str = ""
) -> list[dict[str, Any]]:
    """The names that belong to somebody, the newest first.

    Returns: people: [{name, created}]
    """
    return studio.store.people.find(whole("limit", limit, 1, 10_000))


@endpoint(ADMINISTRATORS)
def release_name(studio: Studio, name: Annotated[str, "the name"], who: str = "") -> dict[str, Any]:
    """Free a name whose key was lost: it goes to the next one who writes under it.

    Returns: released: the name
    """
    studio.store.people.release(name, who)
    return {"released": name}


def _figures(studio: Studio, who: str, profile: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The figures that this caller may see, and of when they are; ValueError where they cannot be worked out."""
    look = studio.figures.settled(PATIENCE)
    if look.problem or look.value is None or look.at is None:
        raise ValueError(look.problem or "The figures are still being worked out: ask again in a minute.")
    as_of = datetime.fromtimestamp(look.at, UTC).isoformat(timespec="seconds")
    figures = look.value
    if not shared.manages(studio, who, profile):
        figures = without_gold(figures, shared.known(studio, who, profile))
    return figures, {"as_of": as_of, "newer": look.stale}
