"""The words of a prompt and their sub-tokens: word j, and u_j as the mean over its sub-tokens.

Words are counted by numbered rules. A stored image keeps the number of its rules, so that its scores stay on their words
when the rules change; `moved` maps words from one set of rules to another.

Rules 2, the current ones:

=================  ====================================================================================================
word               a letter or digit and the letters, digits and marks that follow; never marks alone
inside a word      a single apostrophe, a hyphen (also U+2010 and U+2011, and the soft hyphen U+00AD), a joiner (U+200C,
                   U+200D, U+2060), or the dot of Catalan's "l·l"
number             digits with a single . , : or / between them, or a no-break space before three of them: "12,500", "1.5",
                   ".5"
relation           one word ("above", "on") or a phrase as one unit ("next to", "to the left of"); encoders and scorers read
                   it by its head ("next", "left"), which is the word of rules 1
negation           "no", "not", "never", "without", "free of", "...n't" and the like with the words that they deny, as one
                   unit: "no red numbers", "not on"; 9 where the image lacks them. After a quotation mark they are text in
                   the image
nouns and verbs    "can" and "show" are scored as nouns ("a can of beans"), "picture" and "image" except where they only
                   open the prompt ("a picture of")
scripts            Chinese, Japanese, Thai, Lao, Khmer and Burmese are written without spaces: the text between two marks of
                   punctuation is one word
WebUI syntax       not words: weights "(red:1.3)" are read as "red"; "<lora:name:0.8>", "embedding:name", "BREAK" and "AND"
                   are left out
function words     "a", "of" and the like are counted, so that indices follow the prompt, but not scored
=================  ====================================================================================================

Rules 1: a word is a run of letters, digits and marks with single apostrophes or hyphens inside.

After the words there is one more unit, *nothing else* (kind "extra"): its score is 9 where the image shows nothing that
the prompt does not ask for, no repeats and no artefacts, and 0 where they spoil the image.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

MAX_PROMPT = 2000
CURRENT = 2  # the rules for new images
# changes with this file: kinds of words that were kept under another version are out of date
VERSION = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:16]
EXTRA = "extra"  # kind of the unit after the words
NOTHING_ELSE = "nothing else"  # its text
NEGATION = "negation"
KINDS = ("object", "colour", "count", "size", "relation", NEGATION, "other", EXTRA)  # of scored units


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


_LEXICON = {
    "colour": _set("""red orange yellow green blue purple pink black white grey gray brown cyan magenta violet turquoise
        teal beige maroon navy gold golden silver lime indigo crimson scarlet olive tan"""),
    "object": _set("""circle circles disc disk discs disks square squares triangle triangles star stars heart hearts
        cross crosses ring rings rectangle rectangles diamond diamonds pentagon pentagons hexagon hexagons oval ovals
        ellipse ellipses cube cubes sphere spheres cone cones cylinder cylinders pyramid pyramids"""),
    "relation": _set("""above below left right under over behind front inside outside beside beneath underneath between
        near around atop across opposite top bottom"""),
    "size": _set("small large big tiny huge little giant tall short wide narrow enormous"),
    "count": _set("""one two three four five six seven eight nine ten eleven twelve dozen single double pair several
        many few both"""),
}  # fmt: skip
_FUNCTION = _set(
    """a an the of to is are was were be been being am and or but nor with at by for from as it its it's i you he she we
    they them him her his their our your my this that these those there there's here which who whose whom where when
    while what has have had do does did would could just only also so then than too very s up off out placed located
    each some any other another"""
)
_FIRST_FUNCTION = _FUNCTION | _set(  # of rules 1
    """in on into onto next will can may picture pictures image images photo photos photograph photographs scene showing
    shows show shown depicting depicts depicted containing contains sits sitting stands standing lies side against"""
)
_MORE_RELATIONS = _set(
    "on in into onto against along through towards toward within upon beyond amid among amongst alongside amidst"
)
_RELATIONS = _LEXICON["relation"] | _MORE_RELATIONS
_SIDES = [
    *"left right top bottom front back rear side middle center centre edge inside outside foot background foreground".split(),
    *(
        f"{far} {side}{end}"
        for far in ("far", "top", "bottom", "upper", "lower", "immediate")
        for side in ("left", "right")
        for end in ("", " side", " corner")
    ),
    *(f"{side} {end}" for side in ("left", "right") for end in ("side", "hand side", "edge", "corner")),
]
_PHRASES = frozenset(
    tuple(phrase.split())
    for phrase in [
        *(f"{way} {side}{of}" for way in ("to the", "on the", "at the", "in the") for side in _SIDES for of in ("", " of")),
        *(f"{way} {side}{of}" for way in ("in", "on", "at", "to")
          for side in ("left", "right", "top", "front", "back", "side", "bottom") for of in ("", " of")),
        *(f"{side} of" for side in ("left", "right", "inside", "outside", "left side", "right side", "out", "off")),
        *(f"{near} to" for near in ("next", "close", "near", "adjacent", "opposite", "on", "in")),
        *(f"on {which} of" for which in ("each side", "both sides", "either side")),
        "close by", "hidden by", "hidden behind", "surrounded by", "up against", "in between", "side by side", "side by side with", "far from", "away from", "far away from",
    ]
)  # fmt: skip
_LONGEST = max(map(len, _PHRASES))
_LITTLE = _FUNCTION | _set("in on")  # never the head of a phrase of relation
_NEGATORS = _set("no not without cannot never neither")
_NEGATING = frozenset({("devoid", "of"), ("free", "of"), ("free", "from"), ("none", "of")})
_DEGREES = _set("very too so")
_QUOTES = "\"'“”„‘‚«»「『"
_DETERMINERS = _set("a an the any some my your his her its their our")
_PICTURES = _set("picture pictures image images scene depiction")
_AFTER_PICTURE = _set("of showing shows depicting depicts containing contains with that which where")
_NOUNS = _set("can will may might must show shows does being")  # that are verbs as well
_BE = _set("is are was were be been am")
_VERBS = _NOUNS | _set("shown showing depicting depicts depicted containing contains")
_AFTER_NOUN = _set("of and or with for from is are") | {""}
_INNER = {1: "'’-", 2: "'’-\u2010\u2011\u200c\u200d\u00ad\u2060"}
_UNSPACED = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR")
_THOUSAND = re.compile(r"\d{3}(?!\d)")
_SYNTAX = re.compile(
    r"<\w+:[^<>]*>|\bembedding:\S+|(?<![\w-])(?:BREAK|AND)(?![\w-])"
    r"|(?<!\d):\s*[-+]?\d*\.?\d+(?=\s*[)\]])|(?<=\d):\s*[-+]?\d*\.\d+(?=\s*[)\]])"  # "(7:1.3)", not "(16:9)"
    r"|(?<!\d):\s*[-+]?\d*\.\d+(?=\s*(?:AND\b|$))"
)


@dataclass(frozen=True)
class Word:
    """One word: its index among the prompt's words, its text, its character span, its kind, and whether it is scored. kind
    is one of KINDS, or "function"; *nothing else* has an empty span at the end of the prompt."""

    index: int
    text: str
    start: int
    end: int
    kind: str
    scored: bool

    @property
    def head(self) -> tuple[int, int]:
        """The span that encoders and scorers read: the main word of a relation phrase ("left" of "to the left of"), else all
        of it. So models trained by rules 1 read a relation as they were trained."""
        if self.kind == "relation":
            tokens = [token for token in re.finditer(r"\S+", self.text) if token[0].casefold() not in _LITTLE]
            known = [token for token in tokens if token[0].casefold() in _LEXICON["relation"]]
            for token in [*known, *tokens][:1]:
                return self.start + token.start(), self.start + token.end()
        return self.start, self.end


@dataclass(frozen=True)
class Located:
    """A word in one tokenizer's window.

    tokens: positions of its sub-tokens in the encoded prompt, counted from the opening special token.
    seen:   whether all sub-tokens are inside the window, so that the text encoder reads the whole word.
    known:  whether no sub-token is the tokenizer's unknown token.
    """

    tokens: tuple[int, ...]
    seen: bool
    known: bool


def check_prompt(prompt: object) -> str:
    """The prompt in Unicode's composed form (NFC); ValueError with a sentence for one that cannot be used."""
    if not isinstance(prompt, str):
        raise ValueError(f"The prompt must be text, but it is a {type(prompt).__name__}: write a sentence.")
    if not prompt.strip():
        raise ValueError("The prompt is empty: write what the image should show.")
    if len(prompt) > MAX_PROMPT:
        raise ValueError(f"The prompt has {len(prompt)} characters, more than {MAX_PROMPT}: shorten it.")
    for place, char in enumerate(prompt):
        if unicodedata.category(char) in ("Cc", "Cs"):
            raise ValueError(
                f"The prompt has a control character (U+{ord(char):04X}) at place {place + 1}: "
                "remove it and keep the prompt on one line."
            )
    return composed(prompt)


def composed(prompt: str) -> str:
    """The prompt in Unicode's composed form (NFC), as stored for new images."""
    return unicodedata.normalize("NFC", prompt)


def split(prompt: str, rules: int = CURRENT) -> list[Word]:
    """All words of a prompt in order, function words included; ValueError for unknown rules."""
    if rules not in _INNER:
        raise ValueError(
            f"Words counted by rules {rules} are not known to this version, which knows {sorted(_INNER)}: update it."
        )
    text = prompt if rules == 1 else _SYNTAX.sub(lambda syntax: " " * len(syntax[0]), prompt)
    tokens = list(_tokens(text, rules))
    folded = [text[start:end].casefold().replace("’", "'") for start, end in tokens]
    follows = [text[a:b].isspace() for (_, a), (b, _) in pairwise(tokens)] + [False]  # only space to the next
    words: list[Word] = []
    first = 0
    while first < len(tokens):
        if rules == 1:
            size, kind = 1, _first_kind(folded[first])
        else:
            written = tokens[first][0] > 0 and text[tokens[first][0] - 1] in _QUOTES
            size, kind = _unit(folded, follows, first, written)
        start, end = tokens[first][0], tokens[first + size - 1][1]
        words.append(Word(len(words), prompt[start:end], start, end, kind, kind != "function"))
        first += size
    return words


def units(prompt: str, rules: int = CURRENT) -> list[Word]:
    """The units of an image: all words of the prompt, then *nothing else*, unless the prompt has no scored word."""
    words = split(prompt, rules)
    if not any(word.scored for word in words):
        return words
    return [*words, Word(len(words), NOTHING_ELSE, len(prompt), len(prompt), EXTRA, True)]


def units_of(sample: Mapping[str, Any]) -> list[Word]:
    """The units of a stored image (its prompt, n_words and word_rules); an old one lacks *nothing else*."""
    return units(sample["prompt"], sample["word_rules"])[: sample["n_words"]]


@lru_cache(maxsize=65536)
def moved(prompt: str, rules: int) -> dict[int, int]:
    """Map from indices by some rules to those by the current ones, of the scored units that correspond one to one: "left" to
    "to the left of", but none of the words of "no red numbers"."""
    old, new = scored(units(prompt, rules)), scored(units(prompt))
    if rules == CURRENT:
        return {word.index: word.index for word in old}
    pairs = [
        (a.index, b.index)
        for a in old
        for b in new
        if (a.start < b.end and b.start < a.end) or (a.kind == b.kind == EXTRA)
    ]
    olds, news = [a for a, _ in pairs], [b for _, b in pairs]
    return {a: b for a, b in pairs if olds.count(a) == news.count(b) == 1}


def advice(prompt: str) -> list[str]:
    """Sentences about surprising effects of a prompt's words."""
    sentences = []
    if syntax := _SYNTAX.findall(prompt):
        sentences.append(
            f"{', '.join(map(repr, dict.fromkeys(syntax)))} is syntax of other tools: it is not scored, and here it has no "
            "effect but as text; take it out, or switch weights on for (word:1.3)."
        )
    if any(_unspaced(char) for char in prompt):
        sentences.append(
            "Words of this script are written without spaces and cannot be told apart here: each stretch between spaces "
            "or punctuation is scored as one word."
        )
    return sentences


def scored(words: Sequence[Word]) -> list[Word]:
    """The words that carry a score."""
    return [word for word in words if word.scored]


def locate(tokenizer: Any, prompt: str, words: Sequence[Word], window: int | None = None) -> list[Located]:
    """The sub-tokens of every word in the prompt as this tokenizer's text encoder gets it, cut to `window` tokens where that
    is less than the tokenizer's own limit. *Nothing else* has none: it is about the whole prompt."""
    limit = getattr(tokenizer, "model_max_length", None)
    if limit is not None and limit < 100_000:  # number of tokens that are read
        window = min(int(limit), window or int(limit))
    if getattr(tokenizer, "is_fast", False):
        cut, _ = _spans(tokenizer, prompt, window)
        whole, unknown = _spans(tokenizer, prompt, None)
        rows = []
        for word in words:
            tokens = tuple(i for i, span in enumerate(cut) if _overlap(span, word))
            every = [i for i, span in enumerate(whole) if _overlap(span, word)]
            rows.append((tokens, len(every), any(unknown[i] for i in every)))
    else:
        rows = _by_prefix(tokenizer, prompt, words, window)
    return [
        Located((), seen=True, known=True)
        if word.kind == EXTRA
        else Located(t, seen=bool(t) and len(t) == n, known=n > 0 and not any_unknown)
        for word, (t, n, any_unknown) in zip(words, rows, strict=True)
    ]


def weights(located: Sequence[Located], length: int) -> Tensor:
    """Averaging weights (J, L): 1/n at each of word j's n sub-tokens; zeros outside the window and for *nothing else*."""
    out = torch.zeros(len(located), length)
    for j, place in enumerate(located):
        tokens = [t for t in place.tokens if t < length]
        if tokens:
            out[j, tokens] = 1.0 / len(tokens)
    return out


def _tokens(text: str, rules: int) -> Iterator[tuple[int, int]]:
    """Spans of the runs of letters and digits that form words."""
    start: int | None = None
    for i in range(len(text) + 1):
        inside = i < len(text) and unicodedata.category(text[i])[0] in "LNM"
        if start is None and rules > 1:
            inside = (inside and unicodedata.category(text[i])[0] != "M") or _leads(text, i)
        elif inside and start is not None and rules > 1 and _unspaced(text[i]) != _unspaced(text[i - 1]):
            if unicodedata.category(text[i])[0] != "M":  # a mark belongs to what it stands on
                yield start, i
                start = i
        elif not inside and start is not None and i + 1 < len(text):
            inside = _joins(text, i, rules)
        if inside and start is None:
            start = i
        elif not inside and start is not None:
            yield start, i
            start = None


def _leads(text: str, at: int) -> bool:
    """Whether the point at a position begins a number: ".5"."""
    return (
        text[at : at + 1] == "."
        and text[at + 1 : at + 2].isdecimal()
        and not text[max(0, at - 1) : at].strip()
    )


def _joins(text: str, at: int, rules: int) -> bool:
    """Whether the character at a position, which is no letter, is inside a word or a number."""
    before, char, after = tuple(text[at - 1 : at + 2])
    if char in _INNER[rules]:
        return unicodedata.category(after)[0] in "LNM"
    if rules == 1:
        return False
    if char == "·":
        return before in "lL" and after in "lL"
    if char in "\u00a0\u202f":
        return before.isdecimal() and _THOUSAND.match(text, at + 1) is not None
    return char in ".,:/" and before.isdecimal() and after.isdecimal()


@lru_cache(maxsize=4096)
def _unspaced(char: str) -> bool:
    """Whether a letter is of a script without spaces between words."""
    if char <= "\u0e00":
        return False
    name = unicodedata.name(char, "")
    return char in "々〆〇" or "\uff66" <= char <= "\uff9f" or name.startswith(_UNSPACED)


def _unit(folded: Sequence[str], follows: Sequence[bool], first: int, written: bool) -> tuple[int, str]:
    """Number of tokens and kind of the unit at a token (rules 2). written: after a quotation mark, denying nothing."""
    if size := _phrase(folded, follows, first):
        return size, "relation"
    if size := 0 if written else _denial(folded, follows, first):
        last = at = ends = first + size - 1
        while follows[at] and at - first < 8:
            at += 1
            word, phrase = folded[at], _phrase(folded, follows, at)
            if word in _DETERMINERS or word in _DEGREES or (word in ("or", "nor") and last > ends):
                continue
            if last == ends and (phrase or word in _RELATIONS):
                last = at + max(1, phrase) - 1
                break
            if word in _FUNCTION or word in _RELATIONS or phrase or _denial(folded, follows, at):
                break
            last = at
        return (last - first + 1, NEGATION) if last > ends else (1, "function")
    before = folded[first - 1] if first and follows[first - 1] else ""
    after = folded[first + 1] if follows[first] and not _phrase(folded, follows, first + 1) else ""
    opens = all(word in _FUNCTION for word in folded[:first])
    return 1, _kind(folded[first], before, after, opens)


def _phrase(folded: Sequence[str], follows: Sequence[bool], first: int) -> int:
    """Number of tokens of the longest relation phrase that begins at a token; 0 for none."""
    size = 1
    while size < _LONGEST and follows[first + size - 1]:
        size += 1
    return next((n for n in range(size, 1, -1) if tuple(folded[first : first + n]) in _PHRASES), 0)


def _denial(folded: Sequence[str], follows: Sequence[bool], first: int) -> int:
    """Number of tokens of the negator that begins at a token: 0, 1 or 2."""
    if folded[first] in _NEGATORS or folded[first].endswith("n't"):
        return 1
    return 2 if follows[first] and tuple(folded[first : first + 2]) in _NEGATING else 0


def _kind(word: str, before: str, after: str, opens: bool) -> str:
    """The kind of a single word between two others ("" for none, or for a phrase). opens: only function words precede it."""
    if all(unicodedata.category(char)[0] == "N" or char in ".,:/'-\u00a0\u202f" for char in word):
        return "count"
    if word in _PICTURES and after in _AFTER_PICTURE and opens:
        return "function"
    if word in _VERBS:
        counted = before in _DETERMINERS or (word == "does" and before in _LEXICON["count"])
        closes = word != "does" and (after in _AFTER_NOUN or after in _RELATIONS)
        noun = word in _NOUNS and (counted or closes) and not (word == "being" and before in _BE)
        return "other" if noun else "function"
    for name in (word, word.rpartition("-")[2]):
        if name in _RELATIONS:
            return "relation"
        for kind, words in _LEXICON.items():
            if name in words:
                return kind
    return "function" if word in _FUNCTION else "other"


def _first_kind(word: str) -> str:
    """The kind of a word by rules 1."""
    if word in _FIRST_FUNCTION:
        return "function"
    kinds = (kind for kind, words in _LEXICON.items() if word in words)
    return "count" if word.isdecimal() else next(kinds, "other")


def _overlap(span: tuple[int, int], word: Word) -> bool:
    """Whether a token's span overlaps the head of a word."""
    start, end = word.head
    return span[0] < span[1] and span[0] < end and span[1] > start


def _spans(tokenizer: Any, prompt: str, window: int | None) -> tuple[list[tuple[int, int]], list[bool]]:
    """Character span of every token ((0, 0) for special ones), and whether it is the unknown token."""
    cut = {"truncation": True, "max_length": window} if window else {"verbose": False}
    coded = tokenizer(prompt, return_offsets_mapping=True, **cut)
    unknown = [token == tokenizer.unk_token_id for token in coded["input_ids"]]
    return [tuple(span) for span in coded["offset_mapping"]], unknown


def _by_prefix(
    tokenizer: Any, prompt: str, words: Sequence[Word], window: int | None
) -> list[tuple[tuple[int, ...], int, bool]]:
    """`locate` for tokenizers without offsets: the tokens of a word are those by which the prompt up to its end is longer than
    the prompt up to its start. Works because these tokenizers never join two words in one token."""

    def bare(text: str) -> list[int]:
        return list(tokenizer(text, add_special_tokens=False)["input_ids"]) if text.strip() else []

    ids, framed = bare(prompt), list(tokenizer(prompt)["input_ids"])
    opening = next((i for i in range(len(framed) - len(ids) + 1) if framed[i : i + len(ids)] == ids), 0)
    room = len(ids) if window is None else window - (len(framed) - len(ids))
    rows = []
    for word in words:
        start, end = word.head
        first, last = len(bare(prompt[:start].rstrip())), len(bare(prompt[:end]))
        tokens = tuple(opening + i for i in range(first, min(last, room)))
        rows.append((tokens, last - first, tokenizer.unk_token_id in ids[first:last]))
    return rows
