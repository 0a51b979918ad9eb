"""Gold scores on behalf of people: who sets them, and when an image that carries one comes up in somebody's queue."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from core.scoring.scores import check_digit
from studio.access.identity import check_name

if TYPE_CHECKING:
    from studio.annotation.labelling import Annotation


def set_gold(
    annotation: Annotation, sample: str, word_index: int, score: int | None, who: str
) -> dict[str, Any] | None:
    """Say that this score of a word is right, or take it back where it is None; the gold that stands, or None.

    The caller has made sure that `who` may write.
    """
    word = annotation.scored_word(sample, word_index)
    digit = None if score is None else check_digit(score)
    return annotation.store.gold.set(sample, word.index, digit, check_name(who), word=word.text)


def is_due(who: str, done: int, every: int) -> bool:
    """Whether a person who has done so many images is given gold now: once in each `every`, at a place that looks like
    chance and is the same after a reload."""
    if every < 1:
        return False
    stretch, place = divmod(done, every)
    drawn = hashlib.sha256(f"{who} {stretch}".encode()).digest()
    return int.from_bytes(drawn[:8], "big") % every == place


def next_gold(
    annotation: Annotation, who: str, exclude: str | None, lease: float | None, filters: Mapping[str, Any]
) -> dict[str, Any] | None:
    """The row of an image with gold, where one is due to this person and there is one that they have not done; they are
    not told. STUDIO_GOLD_EVERY says how often."""
    every = annotation.settings.gold_every
    if not is_due(who, annotation.store.gold.done(who), every):
        return None
    return annotation.store.gold.next(who, exclude, lease=lease, **filters)
