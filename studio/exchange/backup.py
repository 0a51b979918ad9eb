"""Back-ups of the store in durable storage (STUDIO_BACKUP): a folder, such as a mounted bucket, or a dataset on the Hub.

A round is ``VACUUM INTO``, safe while others write, then the files that the back-up lacks: images and the checkpoints of
finished runs, none of which ever changes; the database comes last, so that a back-up never names a file that it lacks. A
round that fails is shown on the page, tried again, and harms nothing. A place with another store's back-up is never
written to. An empty STUDIO_HOME begins with the back-up.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

from core.jsonfile import parsed
from data.store import Store, StoreError
from data.store.database import now, store_id
from data.store.locks import work_folder
from data.store.restore import checked_copy
from studio.access.places import is_dataset, shortened
from studio.settings import Settings

log = logging.getLogger("studio")
DATABASE, MARK = "studio.db", "noise-projection-studio.json"
AT_ONCE = 500  # files in one commit to the Hub


class Folder:
    """A folder. Each file is copied under another name first, so that no half of one is taken for the whole."""

    def __init__(self, path: str) -> None:
        self.path = Path(path)

    def names(self) -> set[str]:
        return {p.relative_to(self.path).as_posix() for p in self.path.rglob("*") if p.is_file()}

    def read(self, name: str) -> bytes | None:
        try:
            return (self.path / name).read_bytes()
        except FileNotFoundError:
            return None

    def put(self, files: Mapping[str, Path]) -> None:
        for name, source in files.items():
            target = self.path / name
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = target.with_name(f"{target.name}.partial")
            shutil.copyfile(source, partial)
            os.replace(partial, target)

    def fetch(self, folder: Path) -> None:
        shutil.copytree(self.path, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.partial"))


class Dataset:
    """A private dataset on the Hugging Face Hub, by the token in HF_TOKEN."""

    def __init__(self, repo: str) -> None:
        from huggingface_hub import HfApi

        self.repo, self.api = repo, HfApi()

    def names(self) -> set[str]:
        self.api.create_repo(self.repo, repo_type="dataset", private=True, exist_ok=True)
        return set(self.api.list_repo_files(self.repo, repo_type="dataset"))

    def read(self, name: str) -> bytes | None:
        from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError

        try:
            return Path(self.api.hf_hub_download(self.repo, name, repo_type="dataset")).read_bytes()
        except (EntryNotFoundError, RepositoryNotFoundError):
            return None

    def put(self, files: Mapping[str, Path]) -> None:
        from huggingface_hub import CommitOperationAdd

        adds = [CommitOperationAdd(name, str(source)) for name, source in files.items()]
        for first in range(0, len(adds), AT_ONCE):
            self.api.create_commit(
                self.repo, adds[first : first + AT_ONCE], commit_message="Back-up", repo_type="dataset"
            )

    def fetch(self, folder: Path) -> None:
        self.api.snapshot_download(self.repo, repo_type="dataset", local_dir=folder)


def place_of(settings: Settings) -> Folder | Dataset:
    return Dataset(settings.backup) if is_dataset(settings.backup) else Folder(settings.backup)


def restore(settings: Settings, place: Folder | Dataset | None = None) -> str:
    """Begin an empty home with the back-up. What went wrong, in a sentence; '' for nothing."""
    # a WAL alone: its database was lost by accident
    wal = settings.database.with_name(f"{settings.database.name}-wal")
    if not settings.backup or settings.restore != "yes" or settings.database.exists() or wal.exists():
        return ""
    try:
        place = place or place_of(settings)
        if place.read(MARK) is None:
            return ""
        settings.home.mkdir(parents=True, exist_ok=True)
        with work_folder(settings.home) as work:
            fetched = work / "fetched"
            place.fetch(fetched)
            with checked_copy(fetched / DATABASE, fetched) as copy:
                copy.close()  # all of it is in the one file that goes to the home
                # the database comes last: with it the home is no longer empty
                for name in ("images", "runs"):
                    if (fetched / name).is_dir():
                        shutil.copytree(fetched / name, settings.home / name, dirs_exist_ok=True)
                os.replace(copy.path, settings.database)
        Store(settings.database).audit.note("", "restore", shortened(settings.backup))
    except Exception as error:  # noqa: BLE001 - the studio starts all the same
        log.warning("The back-up in %s was not restored: %s", settings.backup, error)
        return (
            "The back-up could not be restored, so the studio began empty; nothing in the back-up was changed. "
            f"{_why(error)}"
        )
    return ""


class Backup:
    """The rounds of one studio, in a thread of their own. problem: why the last one failed, or ''; last: when the last one
    ended, as the store writes times."""

    def __init__(
        self, settings: Settings, store: Store, problem: str = "", place: Folder | Dataset | None = None
    ) -> None:
        self.settings, self.store, self.problem, self.last = settings, store, problem, ""
        self._place, self._done, self._noted = place, "", False
        self._lock, self._end = threading.Lock(), threading.Event()

    def start(self) -> Backup:
        if self.settings.backup:
            threading.Thread(target=self._rounds, name="backup", daemon=True).start()
        return self

    def _rounds(self) -> None:
        while not self._end.wait(60.0 * self.settings.backup_minutes):
            self.round()

    def close(self) -> None:
        """Make a last round, when the server ends."""
        self._end.set()
        if self.settings.backup:
            self.round()

    def round(self) -> bool:
        """Copy what is new, if anything changed; whether a copy was made. Never raises."""
        with self._lock:
            try:
                return self._round()
            except Exception as error:  # noqa: BLE001 - shown on the page
                log.warning("The back-up to %s failed: %s", self.settings.backup, error)
                self.problem = f"The last back-up failed; it is tried again every {self.settings.backup_minutes} minutes. {_why(error)}"
                return False

    def _round(self) -> bool:
        self.store.database.refuse_damaged()  # the last copy is undamaged
        stamp = self._stamp()
        if stamp == self._done:
            return False
        place = self._place = self._place or place_of(self.settings)
        with self.store.database.reading() as db:
            mark = {"store": store_id(db)}
        names = place.names()
        other = place.read(MARK) if MARK in names else None
        if other is not None and parsed(other, dict, MARK).get("store") != mark["store"]:
            raise ValueError(
                "STUDIO_BACKUP holds the copy of another studio, which is left alone: give another place, or start "
                "with an empty STUDIO_HOME and STUDIO_RESTORE=yes to go on from that copy."
            )
        if not self._noted:  # before the copy, so that later writes change the stamp
            self.store.audit.note("", "backup", shortened(self.settings.backup))
            self._noted, stamp = True, self._stamp()
        with work_folder(self.settings.home) as folder:
            copy = self.store.database.vacuum_into(folder / DATABASE)
            (folder / MARK).write_text(json.dumps(mark), encoding="utf-8")
            place.put({name: path for name, path in self._files() if name not in names})
            place.put({DATABASE: copy, MARK: folder / MARK})
        self.problem, self.last, self._done = "", now(), stamp
        return True

    def _stamp(self) -> str:
        """A text that changes whenever anything in the store does."""
        path = str(self.settings.database)
        stats = [os.stat(p) for p in (path, f"{path}-wal") if os.path.exists(p)]
        return json.dumps([(s.st_mtime_ns, s.st_size) for s in stats])

    def _files(self) -> Iterator[tuple[str, Path]]:
        """Files that never change: images, and the checkpoints of finished runs."""
        home = self.settings.home
        folders = [self.settings.images]
        for run in self.store.runs.find(state="done", limit=100_000):
            if run["checkpoint"] and not Path(run["checkpoint"]).is_absolute():
                folders.append(home / run["checkpoint"])
        for folder in folders:
            for path in sorted(folder.rglob("*")):
                if path.is_file() and not path.name.endswith((".tmp", ".partial")):
                    yield path.relative_to(home).as_posix(), path


def _why(error: Exception) -> str:
    """The sentence of an error of ours, else its class alone: a server's answer may hold an address or a name."""
    if isinstance(error, (ValueError, StoreError)) and str(error).endswith("."):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return f"({error.strerror}.)"
    return f"({type(error).__name__}; the log says more. Check STUDIO_BACKUP, HF_TOKEN and the network.)"
