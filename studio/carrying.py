"""The commands that carry labels out of the store and into it: `export` and `import`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from studio import commands
from studio.commands import Result, person

OUT = ("jsonl", "csv", "dpo", "richhf", "rapidata")
IN = ("jsonl", "richhf", "rapidata")
SHOWN = 20  # changes that are listed; --json has all


def _words(name: str) -> Any:
    from data.formats import RAPIDATA, RICHHF

    return {"richhf": RICHHF, "rapidata": RAPIDATA}[name]


def export(given: argparse.Namespace, console: Any) -> Result:
    """All samples and labels as JSONL, or the labels as other tools want them (CSV, DPO pairs, RichHF, Rapidata)."""
    from data.exchange import export_labels
    from data.formats import export_csv, export_dpo, export_words

    ending = Path(given.file).suffix.lower()
    if given.format is None and ending == ".parquet":
        raise ValueError("Parquet is not written here: choose --format, for example csv, and convert that.")
    kind = given.format or ("csv" if ending == ".csv" else "jsonl")
    if given.no_features and kind != "jsonl":
        raise ValueError("--no-features belongs to jsonl; the other formats have no hidden states.")
    store = commands.studio_of(given).store
    if kind == "jsonl":
        count = export_labels(store, given.file, features=not given.no_features)
        return Result(count, "Written: {samples} samples, {events} scores, {runs} runs.".format(**count))
    if kind == "dpo":
        count = export_dpo(store, given.file)
        return Result(count, "Written: {pairs} pairs of {samples} samples.".format(**count))
    count = export_csv(store, given.file) if kind == "csv" else export_words(store, given.file, _words(kind))
    return Result(count, "Written: {words} words of {samples} samples.".format(**count))


def import_(given: argparse.Namespace, console: Any) -> Result:
    """Take over a file that `export` wrote, or one in RichHF's or Rapidata's format: all of it or nothing."""
    from data.exchange import import_labels
    from data.formats import import_words

    verb = "Would be taken over" if given.dry_run else "Taken over"
    if given.format == "jsonl":
        if given.who:
            raise ValueError("--who belongs to richhf and rapidata; jsonl says itself who said what.")
        store = commands.studio_of(given).store
        count = import_labels(store, given.file, given.images, given.dry_run)
        return Result(count, "{}: {samples} samples, {events} scores, {runs} runs.".format(verb, **count))
    if given.images:
        raise ValueError("--images belongs to jsonl; the other formats bring no samples.")
    store = commands.studio_of(given).store
    found = import_words(store, given.file, _words(given.format), person(given), given.dry_run)
    lines = ["{}: {new} new and {changed} changed words; {same} say the same already.".format(verb, **found)]
    lines += [_described(change) for change in found["changes"][:SHOWN]]
    if len(found["changes"]) > SHOWN:
        lines.append(f"  and {len(found['changes']) - SHOWN} more; --json has them all.")
    return Result(found, "\n".join(lines))


def _described(change: dict[str, Any]) -> str:
    """A change in a line; the word is foreign text, and is shown so that it cannot command a terminal."""
    from data.checks import shown

    before = "no label" if change["before"] is None else f"{change['before']:g}"
    return (
        f"  line {change['line']}: word {change['word_index']} {shown(change['word'])} of {change['sample']}: "
        f"{before} -> {change['after']}"
    )
