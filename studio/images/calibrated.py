"""What a calibrator says of words that the scorer has scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from core.scoring.calibrator import Calibrator
from core.words import CURRENT, EXTRA, NOTHING_ELSE, units


@lru_cache(maxsize=65536)
def kinds_of(prompt: str, rules: int = CURRENT) -> tuple[str, ...]:
    """The kind of every word of a prompt, by its place, and extra for *nothing else* after them."""
    return tuple(word.kind for word in units(prompt, rules))


def kind_of(row: Mapping[str, Any]) -> str | None:
    """The kind of a label's word; None past the prompt's end, as a store that was imported may count words in another
    way."""
    kinds = kinds_of(row["prompt"], row["word_rules"])
    kind = kinds[row["word_index"]] if row["word_index"] < len(kinds) else None
    return None if kind == EXTRA and row["word"] not in ("", NOTHING_ELSE) else kind


def hidden_of(event: Mapping[str, Any]) -> np.ndarray | None:
    return np.frombuffer(event["features"], np.float16).astype(np.float64) if event["features"] else None


def events_for(
    model: Calibrator, kinds: Sequence[str], name: str, rows: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Score events of source 'calibrated' for the scorer's own (as `store.labels.vlm_scores` gives them)."""
    usable = [
        row
        for row in rows
        if row["scorer_version"] == model.scorer
        and row["distribution"] is not None
        and kind_of(row) in kinds
        and (row["features"] or not model.report["hidden"])
    ]
    if not usable:
        return []
    hidden = np.stack([hidden_of(row) for row in usable]) if model.report["hidden"] else None
    spread = np.array([row["distribution"] for row in usable])
    given = model.apply(spread, hidden, [kind_of(row) for row in usable])
    return [
        {
            "sample": row["sample"],
            "word_index": row["word_index"],
            "word": row["word"],
            "source": "calibrated",
            "score": int(p.argmax()),
            "distribution": p.tolist(),
            "scorer": name,
            "scorer_version": f"{name}/{row['scorer_version']}"[:200],
        }
        for row, p in zip(usable, given, strict=True)
    ]
