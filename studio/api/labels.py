"""Endpoints for people and programs that correct word scores: the queue, the scores, the steps back."""

from typing import Annotated, Any, Literal

import gradio as gr

from data.store.queue import LEASE_SECONDS
from studio.access.identity import read_kept
from studio.api.answers import WordIndex, columns, plain, stated
from studio.doors import WRITERS, SampleId, endpoint
from studio.numbers import whole
from studio.pages import shared
from studio.studio import SampleView, Studio

NONE_LEFT = "There is no image left that this order and these filters would give you now."


@endpoint()
def sign_in(
    studio: Studio, name: Annotated[str, "the name to write under; '' for an anonymous id"] = ""
) -> dict[str, str]:
    """A key to write with. A name belongs to whoever first wrote under it: keep the key to come back under the name.

    Returns: who: the key, which the other endpoints take; name: the name that goes with it
    """
    who = studio.people.renamed(name, None) if name.strip() else studio.people.issue(None)
    kept = read_kept(who)
    assert kept is not None
    return {"who": who, "name": kept.name}


@endpoint(WRITERS)
def next_item(
    studio: Studio,
    who: str,
    order: Annotated[
        Literal["uncertainty", "disagreement", "reward", "projected", "random", "newest"], "what comes first"
    ] = "uncertainty",
    prompt: Annotated[str | None, "only images of this prompt"] = None,
    prompt_set: Annotated[str | None, "only prompts of this set"] = None,
    method: Annotated[str | None, "only images made so: none, projected, ..."] = None,
    run: Annotated[str | None, "only images of this run's projector"] = None,
    kind: Annotated[
        str | None, "only prompts with a word of this kind: object, colour, relation, count, ..."
    ] = None,
    overlap: Annotated[
        int | None, "how many people may be given the same image; null for any number, one after the other"
    ] = None,
    exclude: Annotated[str | None, "the id of a sample that should not come"] = None,
) -> dict[str, Any]:
    """The image whose words this person should correct next. For ten minutes nobody else is given it.

    Returns: sample: as of the endpoint sample, or null where none is left; why: how it was chosen, or why there is none
    """
    filters = stated(prompt=prompt, prompt_set=prompt_set, method=method, projector_run=run, kind=kind)
    view = studio.annotation.next(who, order, exclude, overlap=overlap, lease=LEASE_SECONDS, **filters)
    if view is None:
        return {"sample": None, "why": NONE_LEFT}
    return {"sample": plain(view), "why": studio.annotation.why_next(order)}


@endpoint(WRITERS)
def set_score(
    studio: Studio,
    sample: SampleId,
    word: Annotated[
        int,
        "the word's index in the prompt, as in the sample's words; it must be one that is scored, \"nothing else\" among them",
    ],
    score: Annotated[int, "0 (not at all) to 9 (fully)"],
    who: str,
) -> dict[str, Any]:
    """Say how well a word shows in an image. It is on disk when this returns.

    Returns: sample: the id; word: the index; score: what stands now of this person; total: the sample's mean score 0..9
    """
    return _word(studio.annotation.correct(sample, word, whole("score", score, 0, 9), who), word)


@endpoint(WRITERS)
def clear_score(studio: Studio, sample: SampleId, word: WordIndex, who: str) -> dict[str, Any]:
    """Take this person's score of a word back.

    Returns: sample: the id; word: the index; score: null; total: the sample's mean score 0..9
    """
    return _word(studio.annotation.correct(sample, word, None, who), word)


@endpoint(WRITERS)
def accept(studio: Studio, sample: SampleId, who: str) -> dict[str, Any]:
    """Say of every shown score of an image that it is right: each becomes this person's own.

    Returns: the sample
    """
    return plain(studio.annotation.accept(sample, who))


@endpoint(WRITERS)
def undo(
    studio: Studio, who: str, sample: Annotated[str | None, "only steps on this sample; null for any"] = None
) -> dict[str, Any]:
    """Undo this person's last score, submit (with what it confirmed) or skip; called again, it goes further back.

    Returns: sample: the sample that the step was on, or null where nothing is left to undo
    """
    view = studio.annotation.undo(who, sample)
    return {"sample": plain(view) if view else None}


@endpoint(WRITERS)
def submit(studio: Studio, sample: SampleId, who: str) -> dict[str, Any]:
    """This person is done with an image, also where nothing was wrong with it. The scores that stand there, and that
    this person did not give, are confirmed by that, unless STUDIO_CONFIRM says no.

    Returns: sample: the id; done: submitted
    """
    studio.annotation.submit(sample, who)
    return {"sample": sample, "done": "submitted"}


@endpoint(WRITERS)
def skip(studio: Studio, sample: SampleId, who: str) -> dict[str, Any]:
    """This person does not want to judge an image: it does not come again.

    Returns: sample: the id; done: skipped
    """
    studio.annotation.submit(sample, who, "skip")
    return {"sample": sample, "done": "skipped"}


@endpoint(WRITERS)
def flag(
    studio: Studio,
    sample: SampleId,
    reason: Annotated[str, "what is wrong; '' takes the flag back"],
    who: str,
) -> dict[str, Any]:
    """Say that something is wrong with an image itself.

    Returns: sample: the id; flag: the reason that stands now, or ''
    """
    store = studio.store
    if isinstance(reason, str) and not reason.strip():
        store.remarks.unflag(sample, who)
        return {"sample": sample, "flag": ""}
    return {"sample": sample, "flag": store.remarks.flag(sample, who, reason)["text"]}


@endpoint(WRITERS)
def note(
    studio: Studio, sample: SampleId, text: Annotated[str, "the note; '' takes it back"], who: str
) -> dict[str, Any]:
    """Write a note on an image.

    Returns: sample: the id; note: the note that stands now, or ''
    """
    stands = studio.store.remarks.note(sample, who, text)
    return {"sample": sample, "note": stands["text"] if stands else ""}


@endpoint()
def progress(
    studio: Studio,
    who: str = "",
    prompt_set: Annotated[str | None, "only prompts of this set"] = None,
    method: Annotated[str | None, "only images made so"] = None,
    overlap: Annotated[int | None, "how many people may be given the same image, for what is left"] = None,
    profile: gr.OAuthProfile | None = None,
) -> dict[str, Any]:
    """How far this person, and all together, are with the images that are trained on.

    Returns: samples, scored, submitted, skipped, remaining, corrected_words, corrected_samples: this person's; all: images that anyone has submitted; left: that this person may still be given; per_hour: this person's pace in the past hour, or null
    """
    name = shared.person(who, profile)
    filters = stated(prompt_set=prompt_set, method=method)
    queue = studio.store.tallies.queue(name, overlap, **{"split": "train", **filters})
    queue.pop("mine")  # as submitted
    return {**studio.annotation.progress(name, **filters), **queue}


@endpoint()
def history(
    studio: Studio,
    who: str,
    limit: Annotated[int, "steps in the answer, 1000 at most"] = 50,
    profile: gr.OAuthProfile | None = None,
) -> list[dict[str, Any]]:
    """This person's steps, the newest first.

    Returns: steps: [{sample, word_index, word, action: set, clear or undo, score, before, undone, prompt, seed, created}]
    """
    steps = studio.annotation.history(shared.person(who, profile), whole("limit", limit, 1, 1000))
    return columns(steps, "sample word_index word action score before undone prompt seed created")


def _word(view: SampleView, word: int) -> dict[str, Any]:
    return {"sample": view.id, "word": word, "score": view.words[word].human, "total": view.total}
