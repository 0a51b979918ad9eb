"""The commands that carry things out of the store as a whole and into it, look through it, and say who did so."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from studio.cli import commands
from studio.cli.commands import Result, person
from studio.times import moment

OUT = ("jsonl", "csv", "parquet", "dataset", "dpo", "votes", "richhf", "rapidata")
IN = ("jsonl", "csv", "parquet", "dataset", "dpo", "richhf", "rapidata")
ENDINGS = {".csv": "csv", ".parquet": "parquet"}
SHOWN = 20  # changes that are listed; --json has all


def export(given: argparse.Namespace, console: Any) -> Result:
    """All samples and labels as JSONL, or the labels as other tools want them (CSV, Parquet, a folder for datasets, DPO pairs, RichHF, Rapidata)."""
    from studio.exchange.transfer import export_file

    kind = given.format or ENDINGS.get(Path(given.file).suffix.lower(), "jsonl")
    if given.no_features and kind != "jsonl":
        raise ValueError("--no-features belongs to jsonl; the other formats have no hidden states.")
    if given.licence and kind != "dataset":
        raise ValueError("--licence belongs to dataset; the other formats have no card.")
    count = export_file(
        commands.studio_of(given),
        kind,
        given.file,
        person(given),
        features=not given.no_features,
        licence=given.licence or "",
    )
    if kind == "jsonl":
        return Result(count, "Written: {samples} samples, {events} scores, {runs} runs.".format(**count))
    if kind in ("dpo", "votes"):
        return Result(count, "Written: {pairs} pairs of {samples} samples.".format(**count))
    left = count.get("left_out")
    more = f" {left} images were left out: their files are gone or changed." if left else ""
    if apart := count.get("nothing_else_left_out"):
        more += f" {apart} scores of nothing else were left out: this format has no place for them."
    return Result(count, "Written: {words} words of {samples} samples.{}".format(more, **count))


def import_(given: argparse.Namespace, console: Any) -> Result:
    """Take over a file that `export` wrote, or one in another tool's format: all of it or nothing."""
    from studio.exchange.transfer import import_file

    if given.format == "jsonl" and given.who:
        raise ValueError("--who belongs to the other formats; jsonl says itself who said what.")
    if given.format != "jsonl" and given.images:
        raise ValueError("--images belongs to jsonl; the other formats bring no samples.")
    found = import_file(
        commands.studio_of(given),
        given.format,
        given.file,
        person(given),
        dry_run=given.dry_run,
        images=given.images,
    )
    lines = [found.text] + [described(change) for change in found.changes[:SHOWN]]
    left = len(found.changes) - SHOWN + found.more
    if left > 0:
        lines.append(f"  and {left} more; --json has {'the first of them' if found.more else 'them all'}.")
    return Result({**found.counts, "changes": found.changes}, "\n".join(lines))


def described(change: dict[str, Any]) -> str:
    """A change in a line; the word is foreign text, and is shown so that it cannot command a terminal."""
    from data.store.checks import shown

    if "chosen_sample" in change:
        before = f", before: {change['before']}" if change["before"] else ""
        return (
            f"  line {change['line']}: {change['chosen_sample']} before {change['rejected_sample']}{before}"
        )
    before = "no label" if change["before"] is None else f"{change['before']:g}"
    return (
        f"  line {change['line']}: word {change['word_index']} {shown(change['word'])} of {change['sample']}: "
        f"{before} -> {change['after']:g}"
    )


def backup(given: argparse.Namespace, console: Any) -> Result:
    """A copy of the database as it is now, while the app is in use."""
    from studio.exchange import transfer

    target = transfer.backup(commands.studio_of(given), given.file, person(given))
    size = target.stat().st_size
    return Result({"file": str(target), "bytes": size}, f"Written: {given.file}, {size / 1e6:.1f} MB.")


def restore(given: argparse.Namespace, console: Any) -> Result:
    """Put a backup in the place of the database; what it replaces is kept beside it."""
    from studio.exchange import transfer

    studio = commands.studio_of(given)
    if given.check:
        found = studio.store.restoring.check_backup(given.file)
        return Result(found, transfer.restored(found))
    found = transfer.restore(studio, given.file, person(given))
    return Result(found, transfer.restored(found))


def push(given: argparse.Namespace, console: Any) -> Result:
    """Push images, words and a dataset card to a dataset repository of the Hub; the token is HF_TOKEN."""
    from studio.exchange import transfer

    found = transfer.push(
        commands.studio_of(given),
        given.repository,
        os.environ.get("HF_TOKEN", ""),
        person(given),
        private=not given.public,
        licence=given.licence or "",
    )
    return Result(found, "{samples} images with {words} words are at {url}.".format(**found))


def audit(given: argparse.Namespace, console: Any) -> Result:
    """Who did what to the store as a whole, the newest first."""
    from data.store.checks import shown

    found = commands.studio_of(given).store.audit.entries(given.limit)
    lines = [
        f"{moment(line['created'])}  {shown(line['who'] or 'the studio')}  {line['action']}  {shown(line['subject'])}"
        for line in found
    ]
    return Result(found, "\n".join(lines) or "Nothing was done to the store as a whole yet.")


def samples(given: argparse.Namespace, console: Any) -> Result:
    """Search the samples, as the tab Library does."""
    from data.store.checks import shown

    asked = {name: getattr(given, name) for name in ("prompt_set", "split", "method", "remark", "seed")}
    found = commands.studio_of(given).store.library.search(
        given.text,
        sort=given.sort,
        limit=given.limit,
        projector_run=given.run_id,
        who=given.by,
        disagreement=given.disagreement,
        mean_from=given.mean_from,
        mean_to=given.mean_to,
        **asked,
    )
    lines = [
        f"{s['id']}  seed {s['seed']}  {s['method']}  {'-' if s['mean'] is None else format(s['mean'], '.1f')}  "
        f"{shown(s['prompt'])}"
        for s in found["samples"]
    ]
    more = "more than " if found["more"] else ""
    lines.append(f"{len(found['samples'])} of {more}{found['count']} samples.")
    return Result(found, "\n".join(lines))


def webhook(given: argparse.Namespace, console: Any) -> Result:
    """Post people's new scores to STUDIO_WEBHOOK without the app, until it is stopped; the app does so by itself."""
    from studio.exchange import webhook as hook

    studio = commands.studio_of(given)
    follower = hook.follower_of(studio)
    if follower is None:
        raise ValueError("No webhook is set: set STUDIO_WEBHOOK to an https address.")
    if given.once:
        try:
            while follower.step():
                pass
        except hook.Failed as error:
            raise ValueError(f"New labels do not reach the webhook: {error}") from None
    else:
        follower.start()
        console.stop.wait()
        follower.stop()
    return Result({"sent": follower.sent, "problem": follower.problem}, f"{follower.sent} scores were sent.")
