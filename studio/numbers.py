"""Numbers and texts from a page, a command line or a file, checked with a sentence for bad ones; and results for JSON."""

from __future__ import annotations

import dataclasses
import math
import re
from typing import Any, TypeGuard


def whole(name: str, value: Any, low: int, high: int) -> int:
    """A whole number in low..high from an int, a float without a fraction, or digits; ValueError with a sentence."""
    number: Any = value
    digits = isinstance(value, str) and re.fullmatch(r"\s*-?\d{1,18}\s*", value)
    if digits or (isinstance(value, float) and value.is_integer()):
        number = int(value)
    if isinstance(number, bool) or not hasattr(number, "__index__"):
        raise ValueError(f"The {name} {shown(value)} is not a whole number: use one from {low} to {high}.")
    if not low <= number.__index__() <= high:
        raise ValueError(
            f"The {name} {shown(value)} is out of range: use a whole number from {low} to {high}."
        )
    return number.__index__()


def real(name: str, value: Any, low: float, high: float) -> float:
    """A finite number in low..high, from a number or its text; ValueError with a sentence otherwise."""
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"The {name} {shown(value)} is not a number: use one from {low:g} to {high:g}.")
    if not low <= number <= high:
        raise ValueError(f"The {name} {shown(value)} is out of range: use a number from {low:g} to {high:g}.")
    return number


def text(name: str, value: Any, most: int) -> str:
    """A text of at most so many characters, stripped; ValueError with a sentence otherwise."""
    if not isinstance(value, str) or len(value) > most:
        raise ValueError(f"The {name} {shown(value)} is not a text of at most {most} characters: shorten it.")
    return value.strip()


def finite(value: Any) -> TypeGuard[float]:
    """Whether a value is a number, and neither infinite nor nan."""
    return isinstance(value, int | float) and math.isfinite(value)


def shown(value: Any) -> str:
    """The value for an error message, shortened to 40 characters."""
    text = ascii(value)
    return text if len(text) <= 40 else text[:37] + "..."


def plain(value: Any) -> Any:
    """A result for JSON: dataclasses and arrays as dicts and lists, None for a number that is not finite."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return plain(dataclasses.asdict(value))
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if finite(value) else None
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    return value if isinstance(value, (str, int, bool)) or value is None else str(value)
