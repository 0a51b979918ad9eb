"""Blind votes between two variants of a grid: which image of a seed is better, asked without saying which is which."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Any

from data.store.votes import CHOICES
from studio.access.identity import check_name
from studio.annotation.labelling import Annotation
from studio.grids.statistics import check_variants, mean_over_seeds
from studio.images.views import SampleView
from studio.numbers import shown


@dataclass(frozen=True)
class Vote:
    """A question: which of two images shows the prompt better? Neither says how it was made or scored.

    id: of the pair, whichever image is left; left_over: how many pairs this person has not voted on, this one included.
    """

    id: str
    left: SampleView
    right: SampleView
    left_over: int = 0


class Votes:
    """Blind votes: the next question of a person, their answers, the tally."""

    def __init__(self, annotation: Annotation) -> None:
        self.annotation, self.store = annotation, annotation.store

    def next(self, grid_id: str, who: str, base: int = 0, other: int = 1) -> Vote | None:
        """The next pair that this person has not voted on, or None. The sides and the order of the seeds are drawn for
        each person and pair, and stay as they are after a reload."""
        who, pairs = check_name(who), self._pairs_of(grid_id, base, other)
        done = {_pair(vote) for vote in self.store.votes.find(_ids(pairs), who)}
        todo = {seed: (_question(who, a, b), a, b) for seed, a, b in pairs if frozenset((a, b)) not in done}
        for question, a, b in sorted(todo.values()):
            left, right = (_blind(self.annotation.sample(id)) for id in _sides(who, a, b))
            if left.image_path and right.image_path:
                return Vote(question, left, right, left_over=len(todo))
        return None

    def asked(self, grid_id: str, vote_id: Any, who: str, base: int = 0, other: int = 1) -> tuple[str, str]:
        """(left sample, right sample) of a question that this person was asked, by its id; ValueError for another id."""
        who = check_name(who)
        for _, a, b in self._pairs_of(grid_id, base, other):
            if _question(who, a, b) == vote_id:
                return _sides(who, a, b)
        raise ValueError(f"You were not asked the vote {shown(vote_id)} in this grid: ask for the next one.")

    def add(self, left_sample: str, right_sample: str, choice: str, who: str) -> dict[str, Any]:
        """Store a vote: left, right, tie (as good) or none (neither is any good). A person's last one on a pair counts."""
        if choice not in CHOICES:
            raise ValueError(f"The vote {shown(choice)} is not known: choose one of {', '.join(CHOICES)}.")
        return self.store.votes.add(left_sample, right_sample, choice, check_name(who))

    def tally(self, grid_id: str, base: int = 0, other: int = 1) -> dict[str, Any]:
        """Counts of the votes that stand: {base, other, tie, none, voters: people, share: {estimate, low, high}}.

        share: of votes for the other variant, a tie counting half for each, without votes for none; its interval is by a
        bootstrap over seeds.
        """
        pairs = self._pairs_of(grid_id, base, other)
        by_pair = {frozenset((a, b)): (seed, b) for seed, a, b in pairs}
        counts, values, seeds, people = {"base": 0, "other": 0, "tie": 0, "none": 0}, [], [], set()
        for vote in self.store.votes.find(_ids(pairs)):
            if _pair(vote) not in by_pair:
                continue
            seed, others = by_pair[_pair(vote)]
            choice = vote["choice"]
            if choice in ("left", "right"):
                choice = "other" if vote[f"{choice}_sample"] == others else "base"
            counts[choice] += 1
            people.add(vote["who"])
            if choice != "none":
                values.append({"other": 1.0, "base": 0.0, "tie": 0.5}[choice])
                seeds.append(seed)
        return {**counts, "voters": len(people), "share": mean_over_seeds(values, seeds)}

    def _pairs_of(self, grid_id: str, base: Any, other: Any) -> list[tuple[int, str, str]]:
        """(seed, base's sample, other's sample) of the seeds that have two different images."""
        config, cells = self.store.grids.get(grid_id)["config"], self.store.grids.cells(grid_id)
        columns = len(config["variants"])
        base, other = check_variants(base, other, columns)
        both = [
            (seed, cells.get(row * columns + base), cells.get(row * columns + other))
            for row, seed in enumerate(config["seeds"])
        ]
        return [(seed, a, b) for seed, a, b in both if a and b and a != b]


def _ids(pairs: list[tuple[int, str, str]]) -> list[str]:
    return list(dict.fromkeys(id for _, a, b in pairs for id in (a, b)))


def _pair(vote: dict[str, Any]) -> frozenset[str]:
    return frozenset((vote["left_sample"], vote["right_sample"]))


def _draw(*names: str) -> str:
    """A repeatable draw that nobody can predict, as samples' ids are random."""
    return hashlib.sha256("\n".join(names).encode()).hexdigest()


def _question(who: str, a: str, b: str) -> str:
    """The id of the question about a pair that a person is asked; the questions are asked in the order of their ids."""
    return _draw(who, *sorted((a, b)))[:16]


def _sides(who: str, a: str, b: str) -> tuple[str, str]:
    """(left, right) of a pair for this person."""
    return (a, b) if _draw(who, a, b) < _draw(who, b, a) else (b, a)


def _blind(sample: SampleView) -> SampleView:
    """A sample without what tells how it was made or scored."""
    words = [word.blank() for word in sample.words]
    return replace(sample, method="", strength=0.0, guidance=0.0, steps=0, words=words, total=None)
