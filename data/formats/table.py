"""The label of every word as CSV, a row a word, for spreadsheets and data frames.

A cell of text that a spreadsheet would run as a formula (it begins with = + - @, their full-width forms, a tab,
a carriage return or a line feed) gets an apostrophe in front. So does a cell that begins with an apostrophe
itself, and that makes it exact to undo: take one leading apostrophe away from every cell of text that has one.

Lost: the events behind the labels (who said what, and when), the scorer's hidden states, the runs, and what
makes an image again beside its seed. Nothing reads this file back; JSONL does that.
"""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

from data.exchange import whole_file
from data.labels import expected
from data.store import Store

COLUMNS = (
    "sample prompt prompt_set split seed method strength projector_run backbone word_index word source score "
    "distribution expected weight scorer scorer_version"
).split()
DANGEROUS = tuple("=+-@\t\r\n＝＋－＠'")


def cell(value: Any) -> Any:
    """What a spreadsheet shows rather than runs; None is an empty cell, numbers stay numbers."""
    if isinstance(value, str) and value.startswith(DANGEROUS):
        return "'" + value
    return value


def export_csv(store: Store, path: str | Path) -> dict[str, int]:
    """Write the file whole or not at all (UTF-8, RFC 4180); returns {samples, words}.

    ``score`` is the label's whole score; where it has a ``distribution`` instead (JSON, ten numbers),
    ``score`` is empty. ``expected`` is the one number for both, 0 to 9; 9 = the word is fully shown.
    """
    labels = store.labels(include_calibrated=True)
    with whole_file(path) as raw:
        file = io.TextIOWrapper(raw, encoding="utf-8", newline="", write_through=True)
        table = csv.writer(file)
        table.writerow(COLUMNS)
        for label in labels:
            distribution = label["distribution"] and json.dumps(label["distribution"])
            row = {**label, "distribution": distribution, "expected": round(expected(label), 4)}
            table.writerow([cell(row[name]) for name in COLUMNS])
        file.detach()
    return {"samples": len({x["sample"] for x in labels}), "words": len(labels)}
