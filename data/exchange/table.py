"""The label of every word as CSV, a row a word, for spreadsheets and data frames; *nothing else* is a row like any other.

A cell of text that a spreadsheet would run as a formula (it begins with = + - @ or their full-width forms, also after
quotes and what cannot be seen, or with a tab, a carriage return or a line feed) gets an apostrophe in front. So does
each part of a cell after a comma, a semicolon, a tab or a line's end, as a spreadsheet that separates by these would cut
the cell there. So does a part that begins with an apostrophe itself, and that makes it exact to undo: take one
apostrophe away from every part of a cell of text that begins with one.

Lost: the events behind the labels (who said what, and when), the scorer's hidden states, the runs, and what
makes an image again beside its seed.

A score that people confirmed has the source ``confirmed``. A table comes in as one person's scores, all of them given: sample, word_index and score (0 to 9, **9 = fully shown**) are needed, word and
prompt are checked where they are there, and the other columns of an export are passed over. A row without a score says
nothing. What a spreadsheet or a data frame does to the file is undone: a byte order mark, semicolons or tabs between the
cells, 7.0 for 7, NaN for a gap, and the apostrophes.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from data.exchange.jsonl import whole_file
from data.exchange.staging import staging
from data.exchange.taking import Taking, digit, refused
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
    """What a spreadsheet shows rather than runs; None is an empty cell, numbers stay numbers."""
    return DANGEROUS.sub("'", value) if isinstance(value, str) else value


def plain(value: str) -> str:
    """A cell of text as it was before ``cell``."""
    return re.sub(rf"{PART}'", "", value)


def export_csv(store: Store, path: str | Path) -> dict[str, int]:
    """Write the file whole or not at all (UTF-8, RFC 4180); returns {samples, words}.

    ``score`` is the label's whole score, empty where it has only a ``distribution`` (JSON, ten numbers).
    ``expected`` is the one number for both, 0 to 9, the distribution's mean where there is one; 9 = fully shown.
    """
    labels = store.labels.current(include_calibrated=True)
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


# -- import

NEEDED = ("sample", "word_index", "score")
GAPS = ("", "nan", "<na>")  # a cell without a value, as spreadsheets and data frames write it
LONGEST_ROW = 1 << 20


class Place:
    """The line that is being read, for the error message; and the bytes of its row so far."""

    number = bytes = 0


def _lines(file: BinaryIO, place: Place) -> Iterator[str]:
    """Lines of text with their ends, none of them endless."""
    while raw := file.readline(LONGEST_ROW + 1):
        place.number += 1
        place.bytes += len(raw)
        if place.bytes > LONGEST_ROW:
            what = "line" if place.bytes == len(raw) else "row, of several lines in quotation marks,"
            raise ValueError(f"the {what} is longer than {LONGEST_ROW} bytes.")
        text = decoded(raw, first=place.number == 1)
        if "\x00" in text:
            raise ValueError("not text; save the table as CSV UTF-8.")
        yield text


def _rows(lines: Iterator[str], place: Place) -> Iterator[tuple[int, list[str]]]:
    """(line number, cells) of every row that is not empty, the head first."""
    head = next(lines, "")
    delimiter = max(",;\t", key=head.count)
    rest = iter([head])

    def all_lines() -> Iterator[str]:
        yield from rest
        yield from lines

    table = csv.reader(all_lines(), delimiter=delimiter, strict=True)
    while True:
        try:
            cells = next(table)
            place.bytes = 0
        except StopIteration:
            return
        except csv.Error as error:
            raise ValueError(f"not a row of CSV ({error}).") from None
        if any(value.strip() for value in cells):
            yield table.line_num, cells


def _whole(name: str, value: str) -> int:
    """A whole number from a cell: 7, or 7.0 as spreadsheets and data frames write it."""
    digits = re.fullmatch(r"\s*([0-9]{1,9})(\.0*)?\s*", value)
    if not digits:
        raise ValueError(f"{name} must be a whole number, not {checks.shown(value)}.")
    return int(digits[1])


def import_csv(
    store: Store, path: str | Path, who: str, dry_run: bool = False, *, units: Units
) -> dict[str, Any]:
    """Take over the scores that say something else than the store, all of them or nothing; returns what
    ``import_words`` does. ImportRefused names line and reason."""
    path, place = Path(path), Place()
    checks.text("who", who)

    csv.field_size_limit(LONGEST_ROW)
    with (
        refused(path.name, lambda: place.number or 1),
        open(path, "rb") as file,
        staging(store, path.name) as stage,
    ):
        found = _rows(_lines(file, place), place)
        _, head = next(found, (1, []))
        names = [name.strip() for name in head]
        lacking = [name for name in NEEDED if name not in names]
        if lacking:
            raise ValueError(f"there is no column {lacking[0]}; the first row must name {', '.join(NEEDED)}.")
        odd = [name for name in names if name not in COLUMNS or names.count(name) > 1]
        if odd:
            raise ValueError(f"the column {checks.shown(odd[0])} is not known or there twice; remove it.")
        taking = Taking(stage, who, "from csv", units)
        for number, cells in found:
            if len(cells) != len(names):
                raise ValueError(f"the row has {len(cells)} cells, and the first one has {len(names)}.")
            given = dict(zip(names, cells))
            if given["score"].strip().lower() in GAPS:
                continue
            score = checks.score(_whole("score", given["score"]))
            prompt, word = (
                "" if (value := given.get(name, "")).strip().lower() in GAPS else value
                for name in ("prompt", "word")
            )
            # earlier versions marked the beginning of a cell alone
            prompts = (plain(prompt), prompt.removeprefix("'")) if prompt else ()
            sample = taking.sample(plain(given["sample"]).strip(), *prompts)
            index = _whole("word_index", given["word_index"])
            taking.word(number, sample, index, plain(word), score, digit(score))
        return taking.finish(dry_run)
