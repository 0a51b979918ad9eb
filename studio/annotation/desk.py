"""An annotator's desk: the view that one person has of a sample, and the way back over that person's steps.

In blind mode no score of anyone or anything else leaves the server for a word that this person has not scored yet.
"""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from data.store import Store
from studio.access.identity import check_name, is_anonymous
from studio.images.views import SampleView

if TYPE_CHECKING:
    from studio.studio import Studio

SAYS = {
    "submit": "Back to the image that you submitted last: it is not submitted any more.",
    "skip": "Back to the image that you skipped last: it is not skipped any more.",
}


@dataclass(frozen=True)
class Item:
    """A sample as one person may see it. hidden: indices of words whose scores are kept back; others: other people's scores
    of a word since this person opened it or scored it, {index: [{who, score}]}; flag and note: this person's, '' for none;
    flags: other people's, [{who, text}]; who: as ``display_name``; mark: see ``mark``."""

    view: SampleView
    mark: str
    hidden: frozenset[int] = frozenset()
    others: dict[int, list[dict[str, Any]]] = field(default_factory=dict)
    flag: str = ""
    note: str = ""
    flags: list[dict[str, str]] = field(default_factory=list)

    @property
    def last(self) -> int:
        """The number of the sample's last score."""
        return int(self.mark.partition(".")[0])


@dataclass(frozen=True)
class Back:
    """A step back: the sample that it led to, and the word whose score was undone, if one was."""

    sample: str
    says: str = ""
    word: int | None = None


def item(studio: Studio, sample: str, who: str, blind: bool = False, opened: int | None = None) -> Item:
    """This person's view of a sample. opened: the number of its last score when it came on the screen."""
    at = mark(studio, sample, who)  # before the rest, so that what changes meanwhile is noticed
    view, remarks = studio.annotation.sample(sample, who), studio.store.remarks.find(sample)
    scores = studio.store.desk.said(sample)
    mine = {s["word_index"]: s["seq"] for s in scores if s["who"] == who}
    my_remarks = {r["kind"]: r["text"] for r in remarks if r["who"] == who}
    flag, note = my_remarks.get("flag", ""), my_remarks.get("note", "")
    if blind:
        hidden = frozenset(w.index for w in view.words if w.scored and w.index not in mine)
        words = [w.blank() if w.index in hidden else w for w in view.words]
        view = replace(view, words=words, total=None if hidden else view.total)
        return Item(view, at, hidden, flag=flag, note=note)
    others: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for s in scores:
        since = min((x for x in (mine.get(s["word_index"]), opened) if x is not None), default=s["seq"])
        if s["who"] != who and s["score"] is not None and s["seq"] > since:
            others[s["word_index"]].append({"who": display_name(s["who"]), "score": s["score"]})
    flags = [
        {"who": display_name(r["who"]), "text": r["text"]}
        for r in remarks
        if r["kind"] == "flag" and r["who"] != who
    ]
    return Item(view, at, others=dict(others), flag=flag, note=note, flags=flags)


def display_name(who: str) -> str:
    """The name of another person, as annotators see it."""
    return "somebody" if is_anonymous(who) else who


def mark(studio: Studio, sample: str, who: str) -> str:
    """A version of what this person is shown of a sample, apart from blind mode: "score.remark.model.person", that is the
    numbers of its last score and remark, whether the model is loaded that knows which words it reads, and the person."""
    score, remark = studio.store.desk.mark(sample)
    return f"{score}.{remark}.{int(studio.models.loaded_diffuser is not None)}.{zlib.crc32(who.encode())}"


def marked(studio: Studio, sample: str, who: str, before: str, own: Collection[int]) -> str | None:
    """The mark of a sample if nothing but this person's own scores (their numbers) came since the mark ``before``, else
    None."""
    after = mark(studio, sample, who)
    (score, *others), (last, *same) = before.split("."), after.split(".")
    if others != same or int(last) < int(score):  # less: a backup was restored
        return None
    return after if studio.store.desk.scored_since(sample, int(score)) <= set(own) else None


def accept(studio: Studio, sample: str, who: str, blind: bool = False) -> None:
    """Make each shown score this person's own."""
    studio.annotation.accept(sample, who, but=item(studio, sample, who, blind).hidden)


def clean(studio: Studio, sample: str, who: str, blind: bool = False) -> None:
    """Submit an image in which nothing is wrong, and confirm every word; ValueError where a word shows no score."""
    shown = item(studio, sample, who, blind)
    if shown.hidden:
        raise ValueError(
            "In blind mode nothing can be said of scores that you have not seen: give each word yours, or turn "
            "blind mode off."
        )
    bare = next((w.text for w in shown.view.words if w.scored and w.score is None), None)
    if bare is not None:
        raise ValueError(f'The word "{bare}" has no score that could be right: give it one.')
    studio.annotation.submit(sample, who, confirm=True)


def submit(studio: Studio, sample: str, who: str, blind: bool = False) -> None:
    """Submit an image; the scores that this person was shown and left unchanged are confirmed, unless the settings say no."""
    hidden = item(studio, sample, who, blind).hidden if blind else ()
    studio.annotation.submit(sample, who, but=hidden)


def back(store: Store, who: str, sample: str | None = None) -> Back | None:
    """Undo this person's last step (on ``sample``, or anywhere); None where there is none.

    A step is a score, or the submit or skip of a sample, which then can be done again.
    """
    who = check_name(who)
    with store.database.writing():
        step, left = store.desk.last_step(who, sample), store.desk.last_left(who, sample)
        if left and (step is None or left["after"] >= step["seq"]):
            store.queue.come_back(left["id"], who)
            store.leases.hold(left["sample"], who)
            return Back(left["sample"], SAYS[left["kind"]])
        event = store.scores.undo(step["sample"], who) if step else None
    return Back(event["sample"], word=event["word_index"]) if event else None
