"""The words of a prompt and their sub-tokens: word j, and u_j as the mean over its sub-tokens.

A word is a run of letters, digits and combining marks, with single apostrophes or hyphens inside it. Words that
carry no meaning ("a", "of") are kept, so that indices follow the prompt, but they are not scored. After the words
stands one more unit, *nothing else* (kind "extra"): its score is 9 where the image shows nothing that the prompt does
not ask for, no repeats and no artefacts, and 0 where the image is spoiled by them.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

MAX_PROMPT = 2000

_LEXICON = {
    "colour": """red orange yellow green blue purple pink black white grey gray brown cyan magenta violet turquoise
        teal beige maroon navy gold golden silver lime indigo crimson scarlet olive tan""",
    "object": """circle circles disc disk discs disks square squares triangle triangles star stars heart hearts cross
        crosses ring rings rectangle rectangles diamond diamonds pentagon pentagons hexagon hexagons oval ovals
        ellipse ellipses cube cubes sphere spheres cone cones cylinder cylinders pyramid pyramids""",
    "relation": """above below left right under over behind front inside outside beside beneath underneath between
        near around atop across opposite top bottom""",
    "size": "small large big tiny huge little giant tall short wide narrow enormous",
    "count": """one two three four five six seven eight nine ten eleven twelve dozen single double pair several many
        few both""",
    "function": """a an the of to is are was were be been being am and or but nor with in on at by for from as into
        onto it its it's i you he she we they them him her his their our your my this that these those there there's
        here which who whose whom where when while what has have had do does did will would can could may just only
        also so then than too very s up off out next picture pictures image images photo photos photograph
        photographs scene showing shows show shown depicting depicts depicted containing contains placed sits
        sitting stands standing lies located side each some any other another against""",
}
_KINDS = {word: kind for kind, words in _LEXICON.items() for word in words.split()}
_INNER = "'’-"
EXTRA = "extra"  # the kind of the unit after the words
NOTHING_ELSE = "nothing else"  # and its text


@dataclass(frozen=True)
class Word:
    """One word: its place among the prompt's words, its text, its character span, its kind, and whether it is
    scored. kind is colour, object, relation, size, count, function or other; extra for *nothing else*, whose span is
    empty and lies at the end of the prompt."""

    index: int
    text: str
    start: int
    end: int
    kind: str
    scored: bool


@dataclass(frozen=True)
class Located:
    """Where a word stands in one tokenizer's window.

    tokens: positions of its sub-tokens in the encoded prompt, counted with the opening special token.
    seen:   every sub-token is inside the window, so the text encoder reads the whole word.
    known:  no sub-token is the tokenizer's unknown token.
    """

    tokens: tuple[int, ...]
    seen: bool
    known: bool


def check_prompt(prompt: object) -> str:
    """The prompt itself; ValueError with a sentence for one that cannot be used."""
    if not isinstance(prompt, str):
        raise ValueError(f"The prompt must be text, but it is a {type(prompt).__name__}: write a sentence.")
    if not prompt.strip():
        raise ValueError("The prompt is empty: write what the image should show.")
    if len(prompt) > MAX_PROMPT:
        raise ValueError(
            f"The prompt has {len(prompt)} characters and at most {MAX_PROMPT} are allowed: shorten it."
        )
    for place, char in enumerate(prompt):
        if unicodedata.category(char) in ("Cc", "Cs"):
            raise ValueError(
                f"The prompt has a control character (U+{ord(char):04X}) at place {place + 1}: "
                "remove it and keep the prompt on one line."
            )
    return prompt


def split(prompt: str) -> list[Word]:
    """All words of a prompt in order, function words too."""
    spans, start, size = [], None, len(prompt)
    for i in range(size + 1):
        inside = i < size and _is_word(prompt[i])
        if (
            not inside
            and start is not None
            and i + 1 < size
            and prompt[i] in _INNER
            and _is_word(prompt[i + 1])
        ):
            inside = True
        if inside and start is None:
            start = i
        elif not inside and start is not None:
            spans.append((start, i))
            start = None
    words = []
    for index, (start, end) in enumerate(spans):
        kind = kind_of(prompt[start:end])
        words.append(Word(index, prompt[start:end], start, end, kind, kind != "function"))
    return words


def units(prompt: str) -> list[Word]:
    """What is scored of an image: all words of the prompt, then *nothing else*. A prompt without a scored word has no
    such unit either."""
    words = split(prompt)
    if not any(word.scored for word in words):
        return words
    return [*words, Word(len(words), NOTHING_ELSE, len(prompt), len(prompt), EXTRA, True)]


def stored_units(prompt: str, count: int) -> list[Word]:
    """The units of an image that was stored with `count` of them: one stored before there was *nothing else* has the
    words alone."""
    return units(prompt)[:count]


def kind_of(text: str) -> str:
    """The kind of a single word, by the lexicon; digits count, and what no list holds is other."""
    folded = text.casefold().replace("’", "'")
    return "count" if folded.isdecimal() else _KINDS.get(folded, "other")


def scored(words: Sequence[Word]) -> list[Word]:
    """The words that carry a score."""
    return [word for word in words if word.scored]


def locate(tokenizer: Any, prompt: str, words: Sequence[Word]) -> list[Located]:
    """The sub-tokens of every word, in the prompt as this tokenizer's text encoder gets it (cut to its window). *Nothing
    else* has none of its own: it is about the whole prompt, of which something is always read."""
    window = window_of(tokenizer)
    if getattr(tokenizer, "is_fast", False):
        cut, _ = _spans(tokenizer, prompt, window)
        whole, unknown = _spans(tokenizer, prompt, None)
        found = []
        for word in words:
            tokens = tuple(i for i, span in enumerate(cut) if _meet(span, word))
            every = [i for i, span in enumerate(whole) if _meet(span, word)]
            found.append((tokens, len(every), any(unknown[i] for i in every)))
    else:
        found = _by_prefix(tokenizer, prompt, words, window)
    return [
        Located((), seen=True, known=True)
        if word.kind == EXTRA
        else Located(t, seen=bool(t) and len(t) == n, known=n > 0 and not lost)
        for word, (t, n, lost) in zip(words, found, strict=True)
    ]


def weights(located: Sequence[Located], length: int) -> Tensor:
    """Averaging weights (J, L): row j has 1/n at each of word j's n sub-tokens; a word that is out has zeros, and so has
    *nothing else*."""
    out = torch.zeros(len(located), length)
    for j, place in enumerate(located):
        tokens = [t for t in place.tokens if t < length]
        if tokens:
            out[j, tokens] = 1.0 / len(tokens)
    return out


def window_of(tokenizer: Any) -> int | None:
    """How many tokens the text encoder reads; None where the tokenizer names no limit."""
    limit = getattr(tokenizer, "model_max_length", None)
    return int(limit) if limit is not None and limit < 100_000 else None


def _is_word(char: str) -> bool:
    return unicodedata.category(char)[0] in "LNM"


def _meet(span: tuple[int, int], word: Word) -> bool:
    return span[0] < span[1] and span[0] < word.end and span[1] > word.start


def _spans(tokenizer: Any, prompt: str, window: int | None) -> tuple[list[tuple[int, int]], list[bool]]:
    """Character span of every token ((0, 0) for special ones), and which tokens are unknown."""
    cut = {"truncation": True, "max_length": window} if window else {"verbose": False}
    coded = tokenizer(prompt, return_offsets_mapping=True, **cut)
    unknown = [token == tokenizer.unk_token_id for token in coded["input_ids"]]
    return [tuple(span) for span in coded["offset_mapping"]], unknown


def _by_prefix(
    tokenizer: Any, prompt: str, words: Sequence[Word], window: int | None
) -> list[tuple[tuple[int, ...], int, bool]]:
    """For tokenizers without offsets: the tokens a word adds are those by which the prompt up to its end is
    longer than the prompt up to its start. Works because these tokenizers never join two words in one token."""

    def bare(text: str) -> list[int]:
        return list(tokenizer(text, add_special_tokens=False)["input_ids"]) if text.strip() else []

    ids, framed = bare(prompt), list(tokenizer(prompt)["input_ids"])
    opening = next((i for i in range(len(framed) - len(ids) + 1) if framed[i : i + len(ids)] == ids), 0)
    room = len(ids) if window is None else window - (len(framed) - len(ids))
    found = []
    for word in words:
        first, last = len(bare(prompt[: word.start].rstrip())), len(bare(prompt[: word.end]))
        tokens = tuple(opening + i for i in range(first, min(last, room)))
        found.append((tokens, last - first, tokenizer.unk_token_id in ids[first:last]))
    return found
