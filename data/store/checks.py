"""Checks of values before they reach SQL, and of the shape of JSON.

Values arrive over HTTP and from files as well as from our own code, so each function raises a ValueError that names the
value and says what would be accepted. SQLite's STRICT types and CHECKs are a second line behind them.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

PROMPT_LENGTH = 2000
NAME_LENGTH = 80
SEED_LIMIT = 2**63
FEATURE_BYTES = 65536
NO_TEXT = re.compile("[\x00\ud800-\udfff]")

Shape = Callable[[str, Any], Any]
"""A check (name, value) of a column or a part of some JSON: returns the value as it is kept, or raises a ValueError that
names it."""


def shown(value: Any) -> str:
    """The value as an error message shows it, no longer than a line."""
    try:
        text = ascii(value)
    except ValueError:  # a whole number of thousands of digits
        text = "a number too large to be shown"
    return text if len(text) <= 60 else text[:57] + "..."


def text(name: str, value: Any, longest: int = NAME_LENGTH, empty: bool = False) -> str:
    """A string of at most ``longest`` characters that SQLite can keep and give back."""
    if not isinstance(value, str):
        raise ValueError(f"{name} must be text, not {shown(value)}.")
    if len(value) > longest:
        raise ValueError(f"{name} has {len(value)} characters; shorten it to {longest} at most.")
    if not empty and not value.strip():
        raise ValueError(f"{name} is empty; give it a text.")
    if NO_TEXT.search(value):
        raise ValueError(f"{name} holds a character that is no text ({shown(value)}); remove it.")
    return value


def integer(name: str, value: Any, low: int, high: int) -> int:
    """An int in low..high; a bool or a float is refused, numpy's and torch's integers become Python's."""
    if hasattr(value, "tolist"):  # of a bool, too, and of several numbers a list
        value = value.tolist()
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise ValueError(f"{name} must be a whole number from {low} to {high}, not {shown(value)}.")
    number = value.__index__()
    if not low <= number <= high:
        raise ValueError(f"{name} must be from {low} to {high}, not {shown(number)}.")
    return number


def number(name: str, value: Any, low: float, high: float) -> float:
    """A finite float in low..high."""
    if isinstance(value, (bool, str, bytes)) or not hasattr(value, "__float__"):
        raise ValueError(f"{name} must be a number from {low:g} to {high:g}, not {shown(value)}.")
    try:
        result = float(value)
    except OverflowError:  # a whole number of hundreds of digits
        result = math.inf
    if not math.isfinite(result) or not low <= result <= high:
        raise ValueError(f"{name} must be a number from {low:g} to {high:g}, not {shown(value)}.")
    return result


def one_of(name: str, value: Any, allowed: Sequence[str]) -> str:
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, not {shown(value)}.")
    return value


def names(given: Iterable[str], allowed: Iterable[str], sentence: str) -> None:
    """ValueError where a name is not allowed: the sentence, with {0} for the first such name and {1} for the allowed ones."""
    for name in sorted(set(given).difference(allowed)):
        raise ValueError(sentence.format(shown(name), ", ".join(allowed)))


def matching(pattern: str, what: str) -> Shape:
    """A text that is wholly of a pattern; ``what`` names it in the message."""
    compiled = re.compile(pattern)

    def check(name: str, value: Any) -> str:
        if not isinstance(value, str) or not compiled.fullmatch(value):
            raise ValueError(f"{name} must be {what}, not {shown(value)}.")
        return value

    return check


# "." and ".." are folders
identifier = matching(
    r"(?!\.{1,2}$)[A-Za-z0-9_.-]{1,64}", "1 to 64 letters, digits, '-', '_' or '.', and no folder's name"
)
sha256 = matching(r"[0-9a-f]{64}", "a sha256 of 64 hexadecimal digits")
time = matching(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", "a time such as 2026-01-31T12:00:00.000000Z")


def run_id(name: str, value: Any) -> str:
    """An identifier that names a run's folder, which must not be hidden: hidden folders are about to be deleted."""
    if identifier(name, value).startswith("."):
        raise ValueError(f"{name} must not begin with '.', as a hidden folder does: {shown(value)}.")
    return value


def relative_path(name: str, value: Any) -> str:
    """A path inside the app's own folder: an imported file must not point anywhere else."""
    path = text(name, value, 300)
    if "\\" in path or ":" in path or any(p in ("", ".", "..") for p in path.split("/")):
        raise ValueError(f"{name} must be a path relative to the app's folder, without '..': {shown(path)}.")
    return path


def distribution(name: str, value: Any) -> list[float]:
    """Ten probabilities of the scores 0..9 that sum to 1, kept to six significant digits."""
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise ValueError(f"{name} must be ten numbers, not {shown(value)}.")
    values = [number(f"{name}[{i}]", p, 0.0, 1.0 + 1e-3) for i, p in enumerate(value)]
    if len(values) != 10:
        raise ValueError(f"{name} has {len(values)} numbers; give ten, one for each score 0..9.")
    total = math.fsum(values)
    if abs(total - 1.0) > 1e-3:
        raise ValueError(f"{name} sums to {total:.4f}; it must sum to 1.")
    return [min(1.0, float(f"{p:.6g}")) for p in values]


def features(name: str, value: Any) -> bytes:
    """The scorer's hidden state: float16 bytes, or a float16 array with ``tobytes``."""
    if not isinstance(value, (bytes, bytearray, memoryview)):
        if str(getattr(value, "dtype", "")) != "float16" or not hasattr(value, "tobytes"):
            raise ValueError(f"{name} must be bytes or a float16 array, not {shown(type(value).__name__)}.")
        value = value.tobytes()
    data = bytes(value)
    if not data or len(data) % 2 or len(data) > FEATURE_BYTES:
        raise ValueError(f"{name} has {len(data)} bytes; give float16 values, {FEATURE_BYTES} bytes at most.")
    return data


def as_json(name: str, value: Any, longest: int = 4_000_000) -> str:
    """Compact JSON with sorted keys. NaN and infinity are refused, as JSON has none."""
    try:
        encoded = json.dumps(
            value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False
        )
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{name} cannot be written as JSON: {error}.") from None
    return text(name, encoded, longest)


def entropy(probabilities: Sequence[float]) -> float:
    """Shannon entropy in nats: 0 for a certain scorer, log 10 = 2.30 for a uniform distribution."""
    return max(0.0, -math.fsum(p * math.log(p) for p in probabilities if p > 0))


seed = partial(integer, "seed", low=0, high=SEED_LIMIT - 1)
score = partial(integer, "score", low=0, high=9)


def complete(entry: Mapping[str, Any]) -> dict[str, Any]:
    """A row from elsewhere as a dict, with the id and time that the store would make for a new one."""
    for name in ("id", "created"):
        if entry.get(name) is None:
            raise ValueError(f"{name} is missing.")
    return dict(entry)


figure: Shape = partial(number, low=-1e12, high=1e12)
count: Shape = partial(integer, low=0, high=2**62)
any_text: Shape = partial(text, longest=10_000, empty=True)


def words(longest: int = NAME_LENGTH) -> Shape:
    """A text that may be empty."""
    return partial(text, longest=longest, empty=True)


def choice(*allowed: str) -> Shape:
    """One of these texts."""
    return partial(one_of, allowed=allowed)


def columns(entry: Mapping[str, Any], shapes: Mapping[str, Shape]) -> dict[str, Any]:
    """A row with these columns, each checked."""
    return {name: shape(name, entry.get(name)) for name, shape in shapes.items()}


def entry(given: Mapping[str, Any], shapes: Mapping[str, Shape], sample: str = "") -> dict[str, Any]:
    """A row from elsewhere (``complete``) with these columns, about a sample; ValueError names the field that is wrong."""
    return columns({**complete(given), "sample": sample}, shapes)


def flag(name: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be true or false, not {shown(value)}.")


def maybe(shape: Shape) -> Shape:
    """This shape, or null."""
    return lambda name, value: None if value is None else shape(name, value)


def each(shape: Shape, *needed: str) -> Shape:
    """A JSON object whose values all have this shape, with at least the needed keys."""

    def check(name: str, value: Any) -> None:
        record(dict.fromkeys(needed, shape))(name, value)
        for key, item in value.items():
            shape(f"{name}.{key[:40]}", item)

    return check


def items(shape: Shape) -> Shape:
    """A JSON array whose items all have this shape."""

    def check(name: str, value: Any) -> None:
        if not isinstance(value, list):
            raise ValueError(f"{name} must be a list, not {shown(value)}.")
        for place, item in enumerate(value):
            shape(f"{name}[{place}]", item)

    return check


def record(needed: Mapping[str, Shape], optional: Mapping[str, Shape] | None = None) -> Shape:
    """A JSON object with these fields; further ones are free."""

    def check(name: str, value: Any) -> None:
        if not isinstance(value, Mapping):
            raise ValueError(f"{name} must be a JSON object, not {shown(value)}.")
        for field, shape in {**needed, **(optional or {})}.items():
            if field in value:
                shape(f"{name}.{field}", value[field])
            elif field in needed:
                raise ValueError(f"{name}.{field} is missing.")

    return check
