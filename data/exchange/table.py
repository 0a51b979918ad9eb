"""Labels as CSV, one row per word (*nothing else* is a row like any other), for spreadsheets and data frames; out and in again.

A cell of text that a spreadsheet would run as a formula (it begins with = + - @ or their full-width forms, also after
quotes and invisible characters, or with a tab, a carriage return or a line feed) gets an apostrophe in front. So does each
part of a cell after a comma, a semicolon, a tab or a line end, where a spreadsheet might cut the cell, and each part that
begins with an apostrophe itself, so that removing one from every part restores the text.

Lost: the events behind the labels, the scorer's hidden states, the runs, and what makes an image again beside its seed.

A table comes in as one person's scores: sample, word_index and score (0 to 9, **9 = fully shown**) are needed, word and prompt
are checked where present, and other columns of an export are ignored. A row without a score is skipped. What spreadsheets and
data frames change is undone: a byte order mark, semicolons or tabs between the cells, 7.0 for 7, NaN for a gap, apostrophes.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

from data.exchange.jsonl import whole_file
from data.exchange.staging import Place, Row, import_rows
from data.exchange.text import decoded
from data.store import Store, checks
from data.store.labels import expected
from data.store.scores import Units

COLUMNS = (
    "sample prompt prompt_set split seed method strength projector_run backbone word_index word source score "
    "distribution expected weight scorer scorer_version"
).split()
PART = r"(?:\A|(?<=[,;\t\r\n]))"  # where a part of a cell begins
UNSEEN = r"(?:[^\S\t\r\n]|[\"\u00ad\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff])*"
DANGEROUS = re.compile(rf"{PART}(?='|{UNSEEN}[=+\-@＝＋－＠])|\A(?=[\t\r\n])")


def cell(value: Any) -> Any:
    """A value that a spreadsheet shows rather than runs; None is an empty cell, numbers stay numbers."""
    return DANGEROUS.sub("'", value) if isinstance(value, str) else value


def plain(value: str) -> str:
    """The inverse of ``cell`` for text."""
    return re.sub(rf"{PART}'", "", value)


def row_of(label: Mapping[str, Any]) -> dict[str, Any]:
    """A label as a row of the table."""
    return {name: label[name] if name != "expected" else round(expected(label), 4) for name in COLUMNS}


def count_labels(labels: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    return {"samples": len({label["sample"] for label in labels}), "words": len(labels)}


def export_csv(store: Store, path: str | Path) -> dict[str, int]:
    """Write the file whole or not at all (UTF-8, RFC 4180); returns {samples, words}.

    ``score`` is the label's whole score, empty where it has only a ``distribution`` (JSON, ten numbers). ``expected`` is one
    number for both, 0 to 9, the distribution's mean where there is one; 9 = fully shown.
    """
    labels = store.labels.current(include_calibrated=True)
    with whole_file(path) as raw:
        file = io.TextIOWrapper(raw, encoding="utf-8", newline="", write_through=True)
        table = csv.writer(file)
        table.writerow(COLUMNS)
        for label in labels:
            row = row_of(label)
            row["distribution"] = row["distribution"] and json.dumps(row["distribution"])
            table.writerow(map(cell, row.values()))
        file.detach()
    return count_labels(labels)


NEEDED = ("sample", "word_index", "score")
GAPS = ("", "nan", "<na>")  # a cell without a value, as spreadsheets and data frames write it
LONGEST_ROW = 1 << 20


def _rows(file: BinaryIO, place: Place) -> Iterator[list[str]]:
    """The cells of every non-empty row, the header first; ValueError where a row is too long or no CSV."""
    size = 0  # of the row so far

    def lines() -> Iterator[str]:
        nonlocal size
        place.number = 0
        while raw := file.readline(LONGEST_ROW + 1):
            place.number += 1
            size += len(raw)
            if size > LONGEST_ROW:
                what = "line" if size == len(raw) else "row, of several lines in quotation marks,"
                raise ValueError(f"the {what} is longer than {LONGEST_ROW} bytes.")
            text = decoded(raw, first=place.number == 1)
            if "\x00" in text:
                raise ValueError("not text; save the table as CSV UTF-8.")
            yield text

    every = lines()
    head = next(every, "")
    csv.field_size_limit(LONGEST_ROW)
    try:
        for cells in csv.reader(chain([head], every), delimiter=max(",;\t", key=head.count), strict=True):
            size = 0
            if any(value.strip() for value in cells):
                yield cells
    except csv.Error as error:
        raise ValueError(f"not a row of CSV ({error}).") from None


def _whole(name: str, value: str) -> int:
    """A whole number from a cell: 7, or 7.0 as spreadsheets and data frames write it."""
    digits = re.fullmatch(r"\s*([0-9]{1,9})(\.0*)?\s*", value)
    if not digits:
        raise ValueError(f"{name} must be a whole number, not {checks.shown(value)}.")
    return int(digits[1])


def import_csv(
    store: Store, path: str | Path, who: str, dry_run: bool = False, *, units: Units
) -> dict[str, Any]:
    """Import the scores that differ from the store, all or none, as ``import_words`` does. ImportRefused names line and reason."""
    return import_rows(store, path, who, dry_run, units, "from csv", _scores, "line")


def _scores(path: Path, place: Place) -> Iterator[Row]:
    with path.open("rb") as file:
        rows = _rows(file, place)
        names = [name.strip() for name in next(rows, [])]
        missing = [name for name in NEEDED if name not in names]
        if missing:
            raise ValueError(f"there is no column {missing[0]}; the first row must name {', '.join(NEEDED)}.")
        unusable = [name for name in names if name not in COLUMNS or names.count(name) > 1]
        if unusable:
            raise ValueError(
                f"the column {checks.shown(unusable[0])} is not known or there twice; remove it."
            )
        for cells in rows:
            if len(cells) != len(names):
                raise ValueError(f"the row has {len(cells)} cells, and the first one has {len(names)}.")
            row = {name: "" if cell.strip().lower() in GAPS else cell for name, cell in zip(names, cells)}
            if row["score"]:
                score, index = (_whole(name, row[name]) for name in ("score", "word_index"))
                prompt = row.get("prompt")
                # earlier versions added an apostrophe at the start of a cell only
                prompts = (plain(prompt), prompt.removeprefix("'")) if prompt else None
                yield plain(row["sample"]).strip(), index, plain(row.get("word", "")), prompts, score
