"""Chips: the words of a prompt with their scores 0..9, read-only or corrected key by key.

A correction leaves the browser as a packet of numbered operations, which ``studio.annotation.inbox`` reads and applies.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from studio.components import source
from studio.components.scripted import Scripted
from studio.images.views import WordView

START = '\nwatch("value", () => receive());\nreceive();\n'

# of a WordView
FIELDS = tuple("index text kind scored seen known vlm expected calibrated human by score uncertain".split())


def chips(
    words: Sequence[WordView],
    *,
    sample: str = "",
    before: Sequence[WordView] = (),
    hidden: Collection[int] = (),
    others: Mapping[int, Sequence[Mapping[str, Any]]] | None = None,
    **more: Any,
) -> dict[str, Any]:
    """The component's value for some words. ``before``: the same words of the image to compare with; each scored word
    then carries ``change``, its score here less its score there, and ``change_by``, whose scores those are.
    ``hidden``: indices of words whose scores are withheld; ``others``: what other people have said of a word
    meanwhile, [{who, score}]."""
    earlier = {w.index: w for w in before}
    shown = []
    for word in words:
        entry = {name: getattr(word, name) for name in FIELDS}
        then, entry["change"], entry["change_by"] = earlier.get(word.index), None, ""
        if then is not None and then.score is not None and word.score is not None:
            entry["change"] = word.score - then.score
            entry["change_by"] = "the VLM" if word.human is None and then.human is None else "corrections"
        entry["hidden"], entry["others"] = word.index in hidden, list((others or {}).get(word.index, ()))
        shown.append(entry)
    return {"sample": sample, "compared": bool(before), "words": shown, **more}


class WordScores(Scripted):
    """Chips. Value: what ``chips`` makes, or None. With ``editable`` it has four events. ``edit`` carries a packet
    (``studio.annotation.inbox.read_packet``), and ``digit`` one of digits alone on the shown sample; the answer is a value
    with ``ack`` (``inbox.Result.ack``), and without words where ``same`` says that the page knows them. ``look`` asks
    whether the shown sample has changed, ``rested`` comes with an item or a pause, in which to count."""

    SCRIPT = source("elements.js", "buttons.js", "word_scores/word_scores.js")
    TEMPLATE = '<div class="word-scores"></div>'

    def __init__(
        self, value: dict[str, Any] | None = None, *, editable: bool = False, **options: Any
    ) -> None:
        # read-only chips do without the larger part of the script
        script = self.SCRIPT if editable else self.SCRIPT.partition("// ---- corrections ----")[0]
        super().__init__(value, constants={"editable": editable}, script=script + START, **options)
