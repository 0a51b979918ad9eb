"""Endpoints for what goes out of the store as a whole and comes into it: export, import, push, backup, restore; and the
log of who did so. What stands behind them stands behind the page Library too (``studio.exchange.transfer``)."""

from pathlib import Path
from typing import Annotated, Any

import gradio as gr

from studio.access.waiting import CARRYING
from studio.api.answers import GivenFile, file, given, keyed
from studio.doors import ADMINISTRATORS, InFormat, OutFormat, endpoint
from studio.exchange import transfer
from studio.exchange import webhook as hook
from studio.numbers import whole
from studio.pages import shared
from studio.studio import Studio

BackupName = Annotated[str, "its name, from backups"]
DryRun = Annotated[bool, "true says what it holds and changes nothing; false restores it"]


@endpoint(ADMINISTRATORS, CARRYING)
def export(
    studio: Studio,
    format: Annotated[
        OutFormat,
        "jsonl (everything, can be imported again), csv, parquet, dataset (a zip with images and a card), dpo (pairs, from labels), votes (pairs, from blind votes), richhf (1 = aligned, 0 = misaligned) or rapidata (high = worse)",
    ] = "jsonl",
    who: str = "",
    features: Annotated[bool, "of jsonl, with the VLM's hidden states, which are most of the bytes"] = True,
    licence: Annotated[str, "of a dataset's card, for example cc-by-4.0"] = "",
) -> dict[str, Any]:
    """All labels as a file.

    Returns: the file
    """
    with shared.room() as made:
        path, _ = transfer.export_into(studio, format, made, who, features=features, licence=licence)
        return file(path)


@endpoint(ADMINISTRATORS, CARRYING)
def import_(
    studio: Studio,
    key: str,
    file: Annotated[GivenFile, "the file"],
    format: Annotated[
        InFormat,
        "jsonl says itself who said what; of csv, parquet, dataset (a zip), dpo, richhf and rapidata all becomes this person's scores or votes",
    ] = "jsonl",
    dry_run: Annotated[bool, "true says what would change and keeps nothing; false takes it over"] = True,
    who: str = "",
    profile: gr.OAuthProfile | None = None,
) -> dict[str, Any]:
    """Take over a file of labels, all of it or nothing; done again, it changes nothing. Unless dry_run is false it only says what would change.

    Returns: text: a sentence; kept: whether it was taken over; counts: by name; changes: [{line, sample, word_index, word, before, after}], or of dpo [{line, prompt, chosen_sample, rejected_sample, before, after}]; more: changes that are not listed
    """
    if format != "jsonl":
        keyed(key, profile)  # the scores become this person's, who must be the same one in the dry run
    taken = transfer.import_file(studio, format, given(file), who, dry_run=dry_run)
    counts = {"counts": taken.counts, "changes": taken.changes, "more": taken.more}
    return {"text": taken.text, "kept": not dry_run, **counts}


@endpoint(ADMINISTRATORS, CARRYING)
def push(
    studio: Studio,
    repository: Annotated[str, "owner/name; it is made where there is none"],
    token: Annotated[str, "of the Hub, with the right to write; it is used once and kept nowhere"],
    private: Annotated[bool, "false allows a repository that everybody can read"] = True,
    licence: Annotated[str, "for the card, for example cc-by-4.0"] = "",
    who: str = "",
    request: gr.Request | None = None,
) -> dict[str, Any]:
    """Push images, words and a dataset card to a dataset repository of the Hugging Face Hub.

    Returns: url; samples, words: what was pushed; left_out: images whose file is gone; splits
    """
    shared.forget(request, token)
    return transfer.push(studio, repository, token, who, private=private, licence=licence)


@endpoint()
def backups(studio: Studio) -> list[dict[str, Any]]:
    """The backups of the database that lie in the studio's folder, the newest first.

    Returns: backups: [{name, bytes, created}]
    """
    return transfer.kept_backups(studio)


@endpoint(ADMINISTRATORS, CARRYING)
def backup(studio: Studio, who: str = "") -> dict[str, Any]:
    """Copy the database as it is now, while others write; images and models are files beside it.

    Returns: name: for download_backup and restore; bytes
    """
    made = transfer.new_backup(studio, who)
    return {"name": made.name, "bytes": made.stat().st_size}


@endpoint(ADMINISTRATORS, CARRYING)
def download_backup(studio: Studio, backup: BackupName, who: str = "") -> dict[str, Any]:
    """A backup as a file.

    Returns: the file
    """
    return file(transfer.backup_named(studio, backup))


@endpoint(ADMINISTRATORS, CARRYING)
def restore(studio: Studio, backup: BackupName, dry_run: DryRun = True, who: str = "") -> dict[str, Any]:
    """Put a backup of the studio's folder in the place of the database; what it replaces is kept beside it. Unless dry_run is false it is only checked. Refused while a run or a grid is on.

    Returns: text: a sentence; restored: whether it was; samples, scores, runs, remarks, preferences: what it holds
    """
    return _restored(studio, transfer.backup_named(studio, backup), dry_run, who)


@endpoint(ADMINISTRATORS, CARRYING)
def restore_file(
    studio: Studio, file: Annotated[GivenFile, "the backup"], dry_run: DryRun = True, who: str = ""
) -> dict[str, Any]:
    """The same with a backup that is sent.

    Returns: as restore
    """
    return _restored(studio, given(file), dry_run, who)


def _restored(studio: Studio, path: Path, dry_run: bool, who: str) -> dict[str, Any]:
    counts = studio.store.restoring.check_backup(path) if dry_run else transfer.restore(studio, path, who)
    return {"text": transfer.restored(counts), "restored": not dry_run, **counts}


@endpoint()
def audit(
    studio: Studio,
    limit: Annotated[int, "lines in the answer, 1000 at most"] = 50,
    offset: Annotated[int, "lines to pass over"] = 0,
    who: Annotated[
        str, "from sign_in; where there are administrators, only theirs say of what gold was set"
    ] = "",
    profile: gr.OAuthProfile | None = None,
) -> list[dict[str, Any]]:
    """Who did what to the store as a whole, the newest first.

    Returns: lines: [{seq, who: '' is the studio itself, action, subject, detail, created}]
    """
    page = whole("limit", limit, 1, 1000), whole("offset", offset, 0, 10**9)
    return transfer.log(studio, *page, gold=shared.manages(studio, who, profile))


@endpoint()
def webhook(studio: Studio) -> dict[str, Any]:
    """How the webhook stands to which people's new scores are posted.

    Returns: address: without its path, '' where none is set; on; problem; sent: scores since the start; last: when; waiting: scores, 1000 at most
    """
    return hook.status(studio)
