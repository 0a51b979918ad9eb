"""Checked requests, and views of samples as pages and files show them.

All scores here are on the scale of the digits, 0..9, expected scores too, so that they can be compared.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from core.families import ORDINARY
from core.noise import check_seed
from core.words import CURRENT, EXTRA, locate, units
from studio.images.methods import CHOOSING, named, parse
from studio.images.options import SamplingOptions
from studio.images.prompts import scorable
from studio.numbers import real, shown, whole
from studio.settings import SIDES

if TYPE_CHECKING:
    from core.diffusion import Diffuser

MAX_SEEDS = 8
SEED_LIMIT = 2**32  # of the pages and of pictures' parameters: a browser has no whole numbers of 63 bits
STEPS = (1, 100)
GUIDANCE = (0.0, 20.0)
NOISES = (2, 64)  # from which the noise of one image may be chosen
DEFAULT_STEPS, DEFAULT_GUIDANCE = ORDINARY.steps, ORDINARY.guidance


@dataclass(frozen=True)
class Request:
    """A comparison to make. width and height None: the backbone's own size. noise: where the second image of a seed
    starts: "projected", or "best-noise-of-N". options: None for the studio's own."""

    prompt: str
    seeds: list[int]
    steps: int = DEFAULT_STEPS
    guidance: float = DEFAULT_GUIDANCE
    strength: float = 1.0
    width: int | None = None
    height: int | None = None
    noise: str = "projected"
    options: SamplingOptions | None = None


@dataclass(frozen=True)
class WordView:
    """One word of a prompt under one image, or *nothing else* (kind extra) after the words; every score is 0..9, or None
    without one.

    index counts all words of the prompt, unscored ones too. seen: inside the text encoder's window; known: in its
    vocabulary. vlm: the VLM's digit; expected: its expected score; calibrated: the calibrated scorer's digit; human: a
    correction, a person's or else the simulated annotator's, and `by` whom; score: the one to show, the correction or
    else the VLM's. uncertain: how undecided the VLM was, 0 sure .. 1 no idea.
    """

    index: int
    text: str
    kind: str
    scored: bool
    seen: bool = True
    known: bool = True
    vlm: int | None = None
    expected: float | None = None
    calibrated: int | None = None
    human: int | None = None
    by: str | None = None
    score: int | None = None
    uncertain: float = 0.0

    def blank(self) -> WordView:
        """The word without its scores."""
        return WordView(self.index, self.text, self.kind, self.scored, self.seen, self.known)


@dataclass(frozen=True)
class SampleView:
    """One image and its words; *nothing else* is missing from images of earlier versions. image_path is absolute, None if
    the file is gone. total: the mean over the scored words of the correction, else of the expected score, 0..9; None while
    nothing is scored."""

    id: str
    prompt: str
    seed: int
    method: str
    strength: float
    steps: int
    guidance: float
    image_path: str | None
    words: list[WordView]
    total: float | None
    word_rules: int = CURRENT  # those by which the words are counted


def value_of(word: WordView) -> float | None:
    """A word's score 0..9 as it counts in a total: the correction, else the expected score."""
    if not word.scored:
        return None
    return float(word.human) if word.human is not None else word.expected


def shared(one: SampleView, other: SampleView) -> list[tuple[WordView, WordView]]:
    """The units that two images of a prompt both have: the words, and *nothing else* unless one of them lacks it."""
    return list(zip(one.words, other.words, strict=False))


def total_of(words: Sequence[WordView]) -> float | None:
    """The mean score 0..9 of an image's words; None while nothing is scored."""
    values = [value for value in map(value_of, words) if value is not None]
    return float(np.mean(values)) if values else None


def totals(one: SampleView, other: SampleView) -> tuple[float | None, float | None]:
    """The totals of two images of a prompt over their `shared` units; None where they differ by more than *nothing else*."""
    if len(one.words) == len(other.words):
        return one.total, other.total
    fewest, most = sorted((one.words, other.words), key=len)
    if [word.kind for word in most[len(fewest) :]] != [EXTRA]:
        return None, None
    return total_of(one.words[: len(fewest)]), total_of(other.words[: len(fewest)])


@dataclass(frozen=True)
class Pair:
    """The images of a seed's own noise and of the projected noise, or of the best of several noises, which is a plain image
    of that or another seed. `projected` is None where there is no model to use."""

    seed: int
    none: SampleView
    projected: SampleView | None

    @property
    def chosen(self) -> bool:
        """Whether the second image's noise was chosen instead of projected."""
        return self.projected is not None and "projected" not in self.projected.method.split("+")


@dataclass(frozen=True)
class CompareUpdate:
    """Progress of a comparison. stage: encode, denoise, decode, score, done or stopped; step of total while denoising.

    previews: a (none, projected) pair of small uint8 RGB pictures for each seed, projected None without a projector.
    pairs: stored images, from 'decode' on, with scores at 'done'. message: a sentence, or ''.
    """

    stage: str
    step: int = 0
    total: int = 0
    previews: list[tuple[np.ndarray, np.ndarray | None]] | None = None
    pairs: list[Pair] = field(default_factory=list)
    message: str = ""


def seed_from(value: Any) -> int:
    """A seed of a page; ValueError for a bad one."""
    return check_seed(value, SEED_LIMIT)


def seeds_from(raw: Any) -> list[int]:
    """Seeds from a number, a sequence, or text such as "7, 8 9" and "10-13"; without repeats, in order."""
    items: Sequence[Any] = raw if isinstance(raw, Sequence) else [raw]
    if isinstance(raw, str):
        items = [text for text in re.split(r"[\s,;]+", raw.strip()) if text]
    seeds: dict[int, None] = {}
    for item in items:
        if isinstance(item, float) and item.is_integer():
            item = int(item)
        span = re.fullmatch(r"(\d{1,10})-(\d{1,10})", item) if isinstance(item, str) else None
        if span:
            first, last = seed_from(span[1]), seed_from(span[2])
            if not 0 <= last - first < MAX_SEEDS:
                raise ValueError(
                    f"The seeds {shown(item)} are {last - first + 1}: give 1 to {MAX_SEEDS}, low to high."
                )
            seeds.update(dict.fromkeys(range(first, last + 1)))
        else:
            seeds[seed_from(item)] = None
        if len(seeds) > MAX_SEEDS:
            raise ValueError(f"There are more than {MAX_SEEDS} seeds: give {MAX_SEEDS} at most.")
    if not seeds:
        raise ValueError("There is no seed: give at least one whole number, for example 7.")
    return list(seeds)


def check_request(
    prompt: Any,
    seeds: Any,
    steps: Any = DEFAULT_STEPS,
    guidance: Any = DEFAULT_GUIDANCE,
    strength: Any = 1.0,
    width: Any = None,
    height: Any = None,
    noise: Any = "projected",
    options: SamplingOptions | None = None,
) -> Request:
    """A Request from the inputs of a page or a command line; ValueError with a sentence for each bad one."""
    return Request(
        scorable(prompt), seeds_from(seeds), whole("number of steps", steps, *STEPS),
        real("guidance", guidance, *GUIDANCE), real("strength", strength, 0.0, 1.0),
        check_side("width", width), check_side("height", height), noise_choice(noise), options,
    )  # fmt: skip


def noise_choice(name: Any) -> str:
    """The noise of a comparison's second image: "projected", or "best-noise-of-N" with N as a plain number."""
    if name == "projected":
        return name
    try:
        ((part, number),) = parse(name)
    except ValueError:
        part, number = "", None
    if part not in CHOOSING:
        raise ValueError(f"The noise {shown(name)} is not known: give projected or best-noise-of-8.")
    return named(part, whole("number of noises", number, *NOISES))


def check_side(name: str, value: Any) -> int | None:
    """A side of an image in pixels, or None for the backbone's own; ValueError with a sentence for a bad one."""
    side = None if value is None else whole(name, value, *SIDES)
    if side is not None and side % 8:
        raise ValueError(
            f"The {name} {side} is not a multiple of 8: use {side - side % 8} or {side + 8 - side % 8}."
        )
    return side


def word_views(prompt: str, diffuser: Diffuser | None, rules: int = CURRENT) -> list[WordView]:
    """The words of a prompt and *nothing else*; without a diffuser all count as seen and known."""
    words = units(prompt, rules)
    places = [locate(tokenizer, prompt, words) for tokenizer in (diffuser.tokenizers if diffuser else [])]
    views = []
    for i, word in enumerate(words):
        seen, known = all(place[i].seen for place in places), all(place[i].known for place in places)
        views.append(WordView(word.index, word.text, word.kind, word.scored, seen, known))
    return views


def unknown_words(words: Sequence[WordView]) -> list[str]:
    """Sentences for the words that the model cannot show."""
    unknown = [w.text for w in words if w.scored and not w.known]
    unread = [w.text for w in words if w.scored and w.known and not w.seen]
    notes = {
        "The model never saw the words {}; it cannot be expected to show them. Use words it knows.": unknown,
        "The prompt is too long for the model, which does not read {}. Shorten it.": unread,
    }
    return [note.format(", ".join(dict.fromkeys(texts[:8]))) for note, texts in notes.items() if texts]
