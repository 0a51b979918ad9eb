"""Endpoints for what goes out of the store as a whole and comes into it: export, import, push, backup, restore; and the
log of who did so. What stands behind them stands behind the page Library too (``studio.exchange.transfer``)."""

from pathlib import Path
from typing import Any, Literal

import gradio as gr

from studio.api.answers import GivenFile, file, given, keyed
from studio.exchange import transfer, webhook
from studio.numbers import whole
from studio.pages import shared
from studio.studio import Studio


class Carrying:
    """Expects the studio."""

    def __init__(self, studio: Studio) -> None:
        self._studio = studio

    def export(
        self,
        format: Literal["jsonl", "csv", "parquet", "dataset", "dpo", "votes", "richhf", "rapidata"] = "jsonl",
        who: str = "",
        features: bool = True,
        licence: str = "",
        profile: gr.OAuthProfile | None = None,
    ) -> dict[str, Any]:
        """All labels as a file. For those who may manage the studio.

        Parameters:
            format: jsonl (everything, can be imported again), csv, parquet, dataset (a zip with images and a card), dpo (pairs, from labels), votes (pairs, from blind votes), richhf (1 = aligned, 0 = misaligned) or rapidata (high = worse)
            who: from sign_in
            features: of jsonl, with the VLM's hidden states, which are most of the bytes
            licence: of a dataset's card, for example cc-by-4.0

        Returns:
            the file
        """
        name = shared.admin(self._studio, who, profile)
        with shared.room() as made:
            path, _ = transfer.export_into(
                self._studio, format, made, name, features=features is not False, licence=licence
            )
            return file(path)

    def import_(
        self,
        file: GivenFile,
        format: Literal["jsonl", "csv", "parquet", "dataset", "dpo", "richhf", "rapidata"] = "jsonl",
        dry_run: bool = True,
        who: str = "",
        profile: gr.OAuthProfile | None = None,
    ) -> dict[str, Any]:
        """Take over a file of labels, all of it or nothing; done again, it changes nothing. Unless dry_run is false it only says what would change. For those who may manage the studio.

        Parameters:
            file: the file
            format: jsonl says itself who said what; of csv, parquet, dataset (a zip), dpo, richhf and rapidata all becomes this person's scores or votes
            dry_run: true says what would change and keeps nothing; false takes it over
            who: from sign_in

        Returns:
            text: a sentence; kept: whether it was taken over; counts: by name; changes: [{line, sample, word_index, word, before, after}], or of dpo [{line, prompt, chosen_sample, rejected_sample, before, after}]; more: changes that are not listed
        """
        name = shared.admin(self._studio, who, profile)
        if format != "jsonl":
            keyed(who, profile)  # the scores become this person's, who must be the same one in the dry run
        dry = dry_run is not False
        found = transfer.import_file(self._studio, format, given(file), name, dry_run=dry)
        told = {"text": found.text, "kept": not dry, "counts": found.counts}
        return {**told, "changes": found.changes, "more": found.more}

    def push(
        self,
        repository: str,
        token: str,
        private: bool = True,
        licence: str = "",
        who: str = "",
        profile: gr.OAuthProfile | None = None,
        request: gr.Request | None = None,
    ) -> dict[str, Any]:
        """Push images, words and a dataset card to a dataset repository of the Hugging Face Hub. For those who may manage the studio.

        Parameters:
            repository: owner/name; it is made where there is none
            token: of the Hub, with the right to write; it is used once and kept nowhere
            private: false allows a repository that everybody can read
            licence: for the card, for example cc-by-4.0
            who: from sign_in

        Returns:
            url; samples, words: what was pushed; left_out: images whose file is gone; splits
        """
        shared.forget(request, token)
        name = shared.admin(self._studio, who, profile)
        return transfer.push(
            self._studio, repository, token, name, private=private is not False, licence=licence
        )

    def backups(self) -> list[dict[str, Any]]:
        """The backups of the database that lie in the studio's folder, the newest first.

        Returns:
            backups: [{name, bytes, created}]
        """
        return transfer.kept_backups(self._studio)

    def backup(self, who: str = "", profile: gr.OAuthProfile | None = None) -> dict[str, Any]:
        """Copy the database as it is now, while others write; images and models are files beside it. For those who may manage the studio.

        Parameters:
            who: from sign_in

        Returns:
            name: for download_backup and restore; bytes
        """
        made = transfer.new_backup(self._studio, shared.admin(self._studio, who, profile))
        return {"name": made.name, "bytes": made.stat().st_size}

    def download_backup(
        self, backup: str, who: str = "", profile: gr.OAuthProfile | None = None
    ) -> dict[str, Any]:
        """A backup as a file. For those who may manage the studio.

        Parameters:
            backup: its name, from backups
            who: from sign_in

        Returns:
            the file
        """
        shared.admin(self._studio, who, profile)
        return file(transfer.backup_named(self._studio, backup))

    def restore(
        self, backup: str, dry_run: bool = True, who: str = "", profile: gr.OAuthProfile | None = None
    ) -> dict[str, Any]:
        """Put a backup of the studio's folder in the place of the database; what it replaces is kept beside it. Unless dry_run is false it is only checked. Refused while a run or a grid is on. For those who may manage the studio.

        Parameters:
            backup: its name, from backups
            dry_run: true says what it holds and changes nothing; false restores it
            who: from sign_in

        Returns:
            text: a sentence; restored: whether it was; samples, scores, runs, remarks, preferences: what it holds
        """
        name = shared.admin(self._studio, who, profile)
        return self._restored(transfer.backup_named(self._studio, backup), dry_run, name)

    def restore_file(
        self, file: GivenFile, dry_run: bool = True, who: str = "", profile: gr.OAuthProfile | None = None
    ) -> dict[str, Any]:
        """The same with a backup that is sent. For those who may manage the studio.

        Parameters:
            file: the backup
            dry_run: true says what it holds and changes nothing; false restores it
            who: from sign_in

        Returns:
            as restore
        """
        name = shared.admin(self._studio, who, profile)
        return self._restored(given(file), dry_run, name)

    def _restored(self, path: Path, dry_run: Any, who: str) -> dict[str, Any]:
        if dry_run is not False:
            found: dict[str, Any] = self._studio.store.restoring.check_backup(path)
        else:
            found = transfer.restore(self._studio, path, who)
        return {"text": transfer.restored(found), "restored": dry_run is False, **found}

    def audit(
        self, limit: int = 50, offset: int = 0, who: str = "", profile: gr.OAuthProfile | None = None
    ) -> list[dict[str, Any]]:
        """Who did what to the store as a whole, the newest first.

        Parameters:
            limit: lines in the answer, 1000 at most
            offset: lines to pass over
            who: from sign_in; where there are administrators, only theirs say of what gold was set

        Returns:
            lines: [{seq, who: '' is the studio itself, action, subject, detail, created}]
        """
        found = whole("limit", limit, 1, 1000), whole("offset", offset, 0, 10**9)
        return transfer.log(self._studio, *found, gold=shared.manages(self._studio, who, profile))

    def webhook(self) -> dict[str, Any]:
        """How the webhook stands to which people's new scores are posted.

        Returns:
            address: without its path, '' where none is set; on; problem; sent: scores since the start; last: when; waiting: scores, 1000 at most
        """
        return webhook.status(self._studio)
