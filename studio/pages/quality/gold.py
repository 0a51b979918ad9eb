"""Gold on the page Quality: disagreements, a panel to set the gold score of a word, and the scores that are set.

Where there are administrators, only they set and see gold, or it would be no check. The audit log has what was set.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr

from studio.components import notices
from studio.components.table import Table, heads, number, picked, rows
from studio.pages import shared
from studio.pages.memory import Memory
from studio.pages.people import Rights
from studio.pages.shared import ASKED, Update, shows_errors
from studio.studio import SampleView, Studio
from studio.times import moment

SHOWN = 40  # disagreements in the table
LISTED = 200  # gold words in the table
DIGITS = [str(score) for score in range(10)]
NONE = "On no word without gold do people differ by two points or more. There is nothing to settle."
NO_GOLD = "No word has a gold score yet. Settle a disagreement, or choose words of the image that is open in Annotate."
NOT_YOURS = "Gold is set and seen by administrators only: it is what annotators are held against, unseen."
ASK = "Choose a word people are apart on, a gold word, or take the image that is open in Annotate."
# on a narrow page the panel stands below the list
TO_PANEL = "() => document.getElementById('gold-panel')?.scrollIntoView({block: 'nearest'})"


@dataclass
class GoldPart:
    """``listed``: an update of ``lists`` from the figures; ``sample``: what is open; ``opens``: opens it in Annotate;
    ``changed``: gold was set or taken back."""

    lists: list[Any]
    listed: Callable[..., Update]
    sample: gr.Textbox
    opens: gr.Button
    changed: list[Any]


def build(studio: Studio, memory: Memory, rights: Rights, look: Callable[[], Any]) -> GoldPart:
    """look(): the figures that are known, or None."""
    sample = gr.Textbox(visible=False)
    about = shared.html()
    with gr.Row(equal_height=False):
        with gr.Column(scale=5, min_width=300):
            apart = Table(caption="Where people are furthest apart", elem_id="gold-apart")
        with gr.Column(scale=5, min_width=300, elem_id="gold-panel"):
            hint = shared.html(notices.empty(ASK))
            with gr.Column(visible=False) as panel:
                picture = shared.image("gold-image")
                said = shared.html(elem_id="gold-said")
                words = gr.Radio([], label="Word", elem_id="gold-words")
                score = gr.Radio(
                    DIGITS, label="The right score: 0 not at all, 9 fully shown", elem_id="gold-score"
                )
                with gr.Row():
                    settle = gr.Button("Set as gold", variant="primary", elem_id="set-gold")
                    back = gr.Button("Take gold back", elem_id="take-gold-back", visible=False)
                rights.admins(says=NOT_YOURS)  # score and buttons are not shown to others
                opens = gr.Button("Open in Annotate", elem_id="gold-open")
            here = gr.Button("Take the image open in Annotate", elem_id="gold-here")
    table = Table(caption="Gold, the newest first", elem_id="gold-table")

    panel_parts = [sample, hint, panel, picture, said, words, settle, score, back]
    lists = [about, apart, table]

    def listed(figures: Mapping[str, Any] | None, golden: bool, chosen: str = "") -> Update:
        """Disagreements and gold; golden: for one who may see gold; chosen: the key of the row that is open."""
        standing = studio.store.gold.scores(limit=LISTED)
        settled = {_key(one) for one in standing}
        wide = [one for one in (figures or {}).get("apart", []) if _key(one) not in settled]
        return {
            about: _about(studio),
            apart: _apart(wide[:SHOWN], chosen),
            table: _standing(standing if golden else [], golden, chosen),
        }

    def shown(id: str, index: int | None, golden: bool) -> Update:
        """The panel with this sample, and this word of it chosen; golden: for one who may see gold."""
        view = studio.annotation.sample(id)
        choices = [(_word(word), str(word.index)) for word in view.words if word.scored]
        if not choices:
            raise ValueError("No word of this image carries a score: choose another image.")
        keys = [key for _, key in choices]
        chosen = str(index) if str(index) in keys else keys[0]
        return {
            sample: id,
            hint: gr.update(visible=False),
            panel: gr.update(visible=True),
            picture: shared.picture(view.image_path),
            said: _said(studio, view, int(chosen), golden),
            words: gr.update(choices=choices, value=chosen),
            settle: gr.update(visible=golden),
            **standing_score(id, int(chosen), golden),
        }

    def standing_score(id: str, index: int, golden: bool) -> Update:
        """The score to choose, and Take back."""
        stands = _gold_of(studio, id, index, golden)
        return {
            score: gr.update(value=None if stands is None else str(stands["score"]), visible=golden),
            back: gr.update(visible=stands is not None),
        }

    @shows_errors
    def pick(kept: Any, event: gr.EventData, profile: gr.OAuthProfile | None) -> Update:
        key, golden, figures = picked(event._data), shared.manages(studio, kept, profile), look()
        standing = studio.store.gold.scores(limit=LISTED) if golden else []
        for word in [*(figures or {}).get("apart", []), *standing]:
            if _key(word) == key:
                return {**shown(word["sample"], word["word_index"], golden), **listed(figures, golden, key)}
        raise ValueError("That word is no longer listed: choose another one.")

    @shows_errors
    def take(open_one: Any, kept: Any, profile: gr.OAuthProfile | None) -> Update:
        if not isinstance(open_one, str) or not open_one:
            raise ValueError("No image is open in Annotate: open one there first.")
        return shown(open_one, None, shared.manages(studio, kept, profile))

    @shows_errors
    def turn(id: Any, word: Any, kept: Any, profile: gr.OAuthProfile | None) -> Update:
        """Another word of the same image. Not its score: one may have been chosen meanwhile."""
        index, golden = _index(word), shared.manages(studio, kept, profile)
        return {
            said: _said(studio, studio.annotation.sample(id), index, golden),
            back: standing_score(id, index, golden)[back],
        }

    def put(id: Any, word: Any, digit: int | None, kept: Any, profile: Any) -> Update:
        index = _index(word)
        studio.annotation.set_gold(id, index, digit, shared.admin(studio, kept, profile))
        key = _key({"sample": id, "word_index": index})
        return {**shown(id, index, True), **listed(look(), True, key)}

    @shows_errors
    def set_it(id: Any, word: Any, digit: Any, kept: Any, profile: gr.OAuthProfile | None) -> Update:
        if digit not in DIGITS:
            raise ValueError("Choose the right score first, from 0 (not at all) to 9 (fully shown).")
        return put(id, word, int(digit), kept, profile)

    @shows_errors
    def take_back(id: Any, word: Any, kept: Any, profile: gr.OAuthProfile | None) -> Update:
        return put(id, word, None, kept, profile)

    for listing in (apart, table):
        listing.pick(pick, memory.who, [*panel_parts, *lists], **ASKED).success(None, None, None, js=TO_PANEL)
    here.click(take, [memory.sample, memory.who], panel_parts, **ASKED)
    words.input(None, None, score, js="() => null")
    words.input(turn, [sample, words, memory.who], [said, back], **ASKED)
    changed = [
        settle.click(set_it, [sample, words, score, memory.who], [*panel_parts, *lists], **ASKED),
        back.click(take_back, [sample, words, memory.who], [*panel_parts, *lists], **ASKED),
    ]
    return GoldPart(lists, listed, sample, opens, [one.success for one in changed])


def _index(word: Any) -> int:
    if not isinstance(word, str) or not word.isascii() or not word.isdecimal() or len(word) > 4:
        raise ValueError("Choose a word first.")
    return int(word)


def _key(one: Mapping[str, Any]) -> str:
    """The key of a row: an id may be as long as a key can be."""
    return hashlib.sha256(f"{one['sample']} {one['word_index']}".encode()).hexdigest()[:32]


def _word(word: Any) -> str:
    """A word to choose, with its score and whose that is."""
    if word.score is None:
        return word.text
    return f"{word.text} ({'VLM' if word.human is None else 'people'} {word.score})"


def _gold_of(studio: Studio, id: str, index: int, golden: bool) -> dict[str, Any] | None:
    """The gold of a word, for one who may see it."""
    return next((one for one in studio.store.gold.scores(id) if golden and one["word_index"] == index), None)


def _said(studio: Studio, view: SampleView, index: int, golden: bool) -> str:
    """The prompt, and everybody's score of one of its words."""
    word = next((word for word in view.words if word.index == index), None)
    if word is None:
        raise ValueError("That image has no such word: choose another one.")
    said = studio.store.judgements.said_of(view.id, index)
    parts = [f"<li>{escape(who)} <b>{score}</b></li>" for who, score in said]
    if word.vlm is not None:
        parts.append(f'<li class="quiet">the VLM <b>{word.vlm}</b></li>')
    stands = _gold_of(studio, view.id, index, golden)
    if stands is not None:
        badge = f'<span class="badge good">gold {stands["score"]}</span>'
        parts.append(f"<li>{badge} set by {escape(stands['who'])}</li>")
    body = "".join(parts) or '<li class="quiet">Nobody has scored this word yet.</li>'
    return (
        f'<p class="ask">{escape(view.prompt)}</p><p class="quiet">“{escape(word.text)}” as people score it:</p>'
        f'<ul class="quality-said">{body}</ul>'
    )


def _about(studio: Studio) -> str:
    counts, every = studio.store.gold.count(), studio.settings.gold_every
    have = f"{counts['words']:,} words of {counts['samples']:,} images carry gold scores."
    how = (
        f"About one in {every} images that a person is given is one of these, and looks like any other; nobody is given "
        "gold of their own."
        if every
        else "STUDIO_GOLD_EVERY is 0: they are not put into people's queues."
    )
    return notices.quiet(f"{have} {how} A gold score is the label of its word in every training from now on.")


def _apart(wide: Sequence[Mapping[str, Any]], chosen: str = "") -> dict[str, Any]:
    head, body = heads("word", "prompt", "#people say", "#VLM"), []
    for one in wide:
        people = ", ".join(str(score) for _, score in one["said"][:8])
        vlm = "–" if one["vlm"] is None else one["vlm"]
        body.append([one["word"] or "–", one["prompt"], number(people), number(vlm)])
    return rows(head, body, keys=[*map(_key, wide)], empty=NONE, chosen=chosen)


def _standing(standing: Sequence[Mapping[str, Any]], golden: bool, chosen: str = "") -> dict[str, Any]:
    head = heads("word", "#gold", "prompt", "set by", "when")
    body = [
        [one["word"] or "–", number(one["score"]), one["prompt"], one["who"], moment(one["created"])]
        for one in standing
    ]
    none = NO_GOLD if golden else NOT_YOURS
    return rows(head, body, keys=[*map(_key, standing)], empty=none, chosen=chosen)
