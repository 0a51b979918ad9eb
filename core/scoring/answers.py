"""Strict parsing of an endpoint's answers into word scores s_j: a digit that is certain, or nothing.

Two read-outs. *logprobs*: one token was requested, and the probabilities of the ten digits at its position are read, as in
`core.scoring.vlm`. *schema*: a JSON object with one digit a word was requested. Where the model thinks aloud first, its
answer is what follows the closing tag. Prose is not searched, and no text is trimmed, repaired or rounded: an answer that
is not exactly what was requested is `Unreadable`. An object that breaks the schema at one word is rejected as a whole,
since a server that kept to the schema did not write it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from core.scoring.scores import DIGITS, unsure

SLACK = 1e-2  # by which a sum of probabilities may exceed 1, for rounding
LONGEST_REASON = 140  # characters of the server's own words that are shown
THOUGHT_END = re.compile(r"</(?:think|thinking|thought)>\s*|\[/THINK\]\s*|◁/think▷\s*")
NAMES = {str(digit): digit for digit in range(DIGITS)}


class Unreadable(ValueError):
    """An answer without readable scores; the message says why, in the server's words only in `reason_of`."""


class CutShort(Unreadable):
    """An answer that its token limit cut off before it could be read."""


def digit_distribution(body: bytes) -> np.ndarray:
    """p(digit) (10,) at the position of a one-token answer, normalised over the digits."""
    choice = choice_of(body)
    (text, thought), logprobs = answer(choice), choice.get("logprobs")
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
    probabilities = [(entry, _probability(entry)) for entry in listed]
    digits = [(NAMES[entry["token"]], p) for entry, p in probabilities if entry["token"] in NAMES]
    p = np.zeros(DIGITS)
    for digit, probability in digits:
        p[digit] = probability
    if len(dict(digits)) < len(digits):
        raise Unreadable("the answer lists a digit twice")
    if sum(probability for _, probability in probabilities) > 1 + SLACK:
        raise Unreadable("the probabilities of the answer sum to more than 1")
    if why := unsure(p.sum()):
        raise Unreadable(why)
    if NAMES[text] not in dict(digits):
        raise Unreadable("the digit of the answer is not among those with a probability")
    return p / p.sum()


def digits_of(body: bytes, words: Sequence[int]) -> dict[int, int]:
    """{word index: digit} from an answer that is a JSON object with exactly these words as its keys."""
    choice = choice_of(body)
    try:
        scores = _json(answer(choice)[0], parse_int=_digit, parse_float=_digit)
    except Unreadable:
        if choice.get("finish_reason") == "length":
            raise CutShort("the answer is cut off before its end") from None
        raise
    if not isinstance(scores, dict):
        raise Unreadable("the answer is no JSON object")
    if set(scores) != {str(word) for word in words}:
        raise Unreadable("the answer leaves out a word or has one that was not asked for")
    if any(type(value) is not int for value in scores.values()):
        raise Unreadable("the answer has something else than a digit for a word")
    return {word: scores[str(word)] for word in words}


def choice_of(body: bytes) -> dict[str, Any]:
    """The single choice of a chat completion."""
    try:
        whole = _json(body.decode("utf-8"))
    except UnicodeDecodeError:
        raise Unreadable("the answer is not UTF-8") from None
    choices = whole.get("choices") if isinstance(whole, dict) else None
    if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], dict):
        raise Unreadable("the answer is no chat completion with one choice")
    return choices[0]


def answer(choice: dict[str, Any]) -> tuple[str, bool]:
    """The text of a choice after a thought, text parts joined; and whether there was a thought."""
    message = choice.get("message")
    text = message.get("content") if isinstance(message, dict) else None
    thought = False
    if isinstance(text, list) and all(isinstance(item, dict) for item in text):
        texts = [item.get("text") for item in text if item.get("type") in ("text", "output_text")]
        thought = len(texts) < len(text)
        text = "".join(texts) if texts and all(isinstance(piece, str) for piece in texts) else None
    if not isinstance(text, str):
        raise Unreadable("the answer has no text")
    end = THOUGHT_END.search(text)
    return (text[end.end() :], True) if end else (text, thought)


def reason_of(body: bytes, key: str = "") -> str:
    """A server's reason for refusing a question, in its own words without the key: one line, truncated; "" without one."""
    try:
        error = json.loads(body)
    except (ValueError, RecursionError):
        error = body.decode("utf-8", "replace")
    place = ""
    while isinstance(error, (dict, list)):
        if isinstance(error, list):  # one error, or pydantic's list of all
            error = error[0] if error else ""
            continue
        if isinstance(error.get("loc"), list):
            place = ".".join(str(k) for k in error["loc"] if isinstance(k, (str, int))) + ": "
        error = next((error[name] for name in ("message", "error", "detail", "msg") if error.get(name)), "")
    line = " ".join("".join(c if c.isprintable() else " " for c in f"{place}{error or ''}").split())
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
    """Standard JSON: no NaN, and no duplicate key in an object."""
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_not_json, **hooks)
    except Unreadable:
        raise
    except (ValueError, RecursionError):
        raise Unreadable("the answer is not JSON") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        raise Unreadable("the answer has a key twice")
    return content


def _not_json(text: str) -> Any:
    raise Unreadable(f"the answer holds {text}, which is not JSON")


def _digit(text: str) -> int:
    if text not in NAMES:
        raise Unreadable(f"the answer holds a number that is no digit from 0 to {DIGITS - 1}")
    return NAMES[text]
