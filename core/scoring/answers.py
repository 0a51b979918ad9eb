"""What an endpoint's answer says of words (DESIGN section 2: s_j), read strictly: a digit that is surely one, or nothing.

Two read-outs. *logprobs*: one token was asked for, and the probabilities of the ten digits at its place are read, as
`core.scoring.vlm` reads them. *schema*: a JSON object with one digit a word was asked for. Where the model thinks aloud
first, its answer is what follows the closing tag. Nothing is looked for in prose, and no text is trimmed, mended or
rounded: an answer that is not exactly what was asked for is `Unreadable`. An object that breaks the schema at one word
breaks it as a whole, since no server that kept to the schema wrote it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from core.scoring.scores import DIGITS, unsure

SLACK = 1e-2  # rounding of the server: how far a sum of probabilities may be above 1
LONGEST_REASON = 140  # characters of the server's own words that are shown
THOUGHT_END = re.compile(r"</(?:think|thinking|thought)>\s*|\[/THINK\]\s*|◁/think▷\s*")
NAMES = {str(digit): digit for digit in range(DIGITS)}


class Unreadable(ValueError):
    """An answer that says nothing of the words, and why. The server's own words are in it only where it refuses the
    question (`reason_of`)."""


class CutShort(Unreadable):
    """An answer that its bound on tokens ended before there was anything to read."""


def digit_distribution(body: bytes) -> np.ndarray:
    """p(digit) (10,) at the position of a one-token answer, renormalised over the digits."""
    choice = choice_of(body)
    text, thought = answer(choice)
    logprobs = choice.get("logprobs")
    tokens = logprobs.get("content") if isinstance(logprobs, dict) else None
    if thought and isinstance(tokens, list):
        tokens = tokens[-1:]
    if not isinstance(tokens, list) or len(tokens) != 1 or not isinstance(tokens[0], dict):
        raise Unreadable("the answer has no probabilities of exactly one token")
    if text not in NAMES or tokens[0].get("token") != text:
        raise Unreadable("the answer is not one digit")
    _probability(tokens[0])
    listed = tokens[0].get("top_logprobs")
    if not isinstance(listed, list):
        raise Unreadable("the answer lists no probabilities")
    found, total, seen = np.zeros(DIGITS), 0.0, set()
    for entry in listed:
        probability = _probability(entry)
        total += probability
        if entry["token"] in NAMES:
            if entry["token"] in seen:
                raise Unreadable("the answer lists a digit twice")
            seen.add(entry["token"])
            found[NAMES[entry["token"]]] = probability
    if total > 1 + SLACK:
        raise Unreadable("the probabilities of the answer sum to more than 1")
    if why := unsure(found.sum()):
        raise Unreadable(why)
    if text not in seen:
        raise Unreadable("the digit of the answer is not among those with a probability")
    return found / found.sum()


def digits_of(body: bytes, words: Sequence[int]) -> dict[int, int]:
    """{word index: digit} from an answer that is a JSON object with exactly these words as its keys."""
    choice = choice_of(body)
    try:
        said = _json(answer(choice)[0], parse_int=_digit, parse_float=_digit)
    except Unreadable:
        if choice.get("finish_reason") == "length":
            raise CutShort("the answer is cut off before its end") from None
        raise
    if not isinstance(said, dict):
        raise Unreadable("the answer is no JSON object")
    if set(said) != {str(word) for word in words}:
        raise Unreadable("the answer leaves out a word or has one that was not asked for")
    if any(type(value) is not int for value in said.values()):
        raise Unreadable("the answer has something else than a digit for a word")
    return {word: said[str(word)] for word in words}


def choice_of(body: bytes) -> dict[str, Any]:
    """The one choice of a chat completion."""
    try:
        whole = _json(body.decode("utf-8"))
    except UnicodeDecodeError:
        raise Unreadable("the answer is not UTF-8") from None
    choices = whole.get("choices") if isinstance(whole, dict) else None
    if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], dict):
        raise Unreadable("the answer is no chat completion with one choice")
    return choices[0]


def answer(choice: dict[str, Any]) -> tuple[str, bool]:
    """The text of a choice, of parts the text parts together, after the thought where there is one; and whether there is."""
    message = choice.get("message")
    text = message.get("content") if isinstance(message, dict) else None
    thought = False
    if isinstance(text, list) and all(isinstance(part, dict) for part in text):
        texts = [part.get("text") for part in text if part.get("type") in ("text", "output_text")]
        thought = len(texts) < len(text)
        text = "".join(texts) if texts and all(isinstance(part, str) for part in texts) else None
    if not isinstance(text, str):
        raise Unreadable("the answer has no text")
    end = THOUGHT_END.search(text)
    return (text[end.end() :], True) if end else (text, thought)


def reason_of(body: bytes, key: str = "") -> str:
    """Why a server refuses a question, in its own words without the key: one line, cut; "" where it says nothing."""
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        said = body.decode("utf-8", "replace")
    place = ""
    while isinstance(said, (dict, list)):
        if isinstance(said, list):  # one error, or pydantic's list of all
            said = said[0] if said else ""
            continue
        if isinstance(said.get("loc"), list):
            place = ".".join(str(k) for k in said["loc"] if isinstance(k, (str, int))) + ": "
        said = next((said[name] for name in ("message", "error", "detail", "msg") if said.get(name)), "")
    line = " ".join("".join(c if c.isprintable() else " " for c in f"{place}{said or ''}").split())
    line = line.replace(key, "...") if key else line
    return line if len(line) <= LONGEST_REASON else line[: LONGEST_REASON - 1] + "…"


def _probability(entry: Any) -> float:
    """The probability of a listed token."""
    token, logprob = (entry.get("token"), entry.get("logprob")) if isinstance(entry, dict) else (None, None)
    if not isinstance(token, str) or isinstance(logprob, bool) or not isinstance(logprob, (int, float)):
        raise Unreadable("the answer lists something else than tokens and their probabilities")
    try:
        value = float(logprob)
    except OverflowError:
        value = math.nan
    if not math.isfinite(value) or value > SLACK:
        raise Unreadable("the answer has a logarithm of a probability that is none")
    return math.exp(min(value, 0.0))


def _json(text: str, **hooks: Any) -> Any:
    """JSON as the standard has it: no NaN, and no key twice in an object."""
    try:
        return json.loads(text, object_pairs_hook=_once, parse_constant=_none_such, **hooks)
    except Unreadable:
        raise
    except (ValueError, RecursionError):
        raise Unreadable("the answer is not JSON") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise Unreadable("the answer has a key twice")
    return found


def _none_such(text: str) -> Any:
    raise Unreadable(f"the answer holds {text}, which is not JSON")


def _digit(text: str) -> int:
    if text not in NAMES:
        raise Unreadable(f"the answer holds a number that is no digit from 0 to {DIGITS - 1}")
    return NAMES[text]
