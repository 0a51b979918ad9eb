"""Copies of the store in a place that lasts, and a home that begins with one."""

import dataclasses
import os
import shutil
import sqlite3
from pathlib import Path

import pytest

from data.store import Store
from studio.exchange import backup
from studio.exchange.backup import DATABASE, MARK, Backup, Folder, restore
from studio.settings import Settings


class Broken(Folder):
    """A place whose network is down: no test can reach the Hub."""

    def put(self, files):
        raise ConnectionError("https://user:token@example.org refused")


class Hub:
    """The part of ``huggingface_hub.HfApi`` that is used, on a folder: no test can reach the Hub."""

    def __init__(self, folder):
        self.folder, self.commits = folder, []

    def create_repo(self, repo, *, repo_type, private, exist_ok):
        assert (repo, repo_type, private, exist_ok) == ("ann/copies", "dataset", True, True)

    def list_repo_files(self, repo, *, repo_type):
        return sorted(Folder(self.folder).names())

    def create_commit(self, repo, operations, *, commit_message, repo_type):
        self.commits.append([one.path_in_repo for one in operations])
        Folder(self.folder).put({one.path_in_repo: Path(one.path_or_fileobj) for one in operations})

    def hf_hub_download(self, repo, name, *, repo_type):
        from huggingface_hub.errors import EntryNotFoundError

        if not (self.folder / name).exists():
            raise EntryNotFoundError(name)
        return str(self.folder / name)

    def snapshot_download(self, repo, *, repo_type, local_dir):
        shutil.copytree(self.folder, local_dir, dirs_exist_ok=True)


@pytest.fixture
def made(quick_path, sample_row):
    """Settings of a home with an image, a correction and a run with a checkpoint, and its store."""
    settings = Settings(home=quick_path / "home", backup=str(quick_path / "copies"))
    store = Store(settings.database)
    (sample,) = store.samples.add([sample_row()])
    store.scores.set(sample, 1, 5, "Ann")
    run = store.runs.new("reward", {})
    store.runs.update(run, state="done", checkpoint=f"runs/{run}/reward", checkpoint_sha256="0" * 64)
    for name in (
        "images/one.png",
        f"runs/{run}/reward/model.safetensors",
        f"runs/{run}/reward-state/state.pt",
    ):
        (settings.home / name).parent.mkdir(parents=True, exist_ok=True)
        (settings.home / name).write_bytes(name.encode())
    (settings.home / "secret").write_text("not to be carried away")
    return settings, store


def corrections(settings):
    with sqlite3.connect(settings.database) as db:
        return db.execute("SELECT who, score FROM scores WHERE source = 'human'").fetchall()


def test_what_is_lost_comes_back_with_its_images_and_checkpoints_and_without_what_was_on(made):
    settings, store = made
    waiting, running = store.runs.new("reward", {}), store.runs.new("projector", {})
    store.runs.claim(running, os.getpid())
    grid = store.grids.add({"prompt": "a cat"}, "Ann")
    Backup(settings, store).start().close()  # the last round is made when the server ends
    copies = Path(settings.backup)
    assert not (copies / "secret").exists()
    assert not list(copies.rglob("*.pt"))  # what training goes on from is large, and not needed
    shutil.rmtree(settings.home)
    assert restore(settings) == ""
    assert corrections(settings) == [("Ann", 5)] and (settings.home / "images/one.png").is_file()
    assert list(settings.home.rglob("model.safetensors")) and not list(settings.home.glob("restore-*"))
    found = Store(settings.database)
    assert [line["action"] for line in found.audit.entries()] == ["restore", "backup"]
    assert {found.runs.get(run)["state"] for run in (waiting, running)} == {"interrupted"}
    assert found.grids.get(grid)["state"] == "interrupted"


def test_a_home_that_is_not_empty_is_left_as_it_is_and_one_without_a_wanted_copy_begins_empty(
    made, quick_path
):
    settings, store = made
    new = Settings(home=quick_path / "new", backup=str(quick_path / "nothing"))
    assert restore(new) == ""
    Backup(settings, store).round()
    store.scores.set(store.samples.find(limit=1)[0]["id"], 1, 9, "Ann")
    assert restore(settings) == "" and corrections(settings) == [("Ann", 5), ("Ann", 9)]
    assert restore(dataclasses.replace(new, backup=settings.backup, restore="no")) == ""
    assert not new.home.exists()


def test_the_copy_of_another_studio_is_never_overwritten_nor_one_that_is_whole_by_a_damaged_store(
    made, quick_path
):
    settings, store = made
    rounds = Backup(settings, store)
    assert rounds.round()
    other = Backup(settings, Store(quick_path / "other" / "studio.db"))
    store.scores.set(store.samples.find()[0]["id"], 1, 9, "Ann")
    store.database.damage = "The database studio.db is damaged."  # as a check or a write has found
    before = {path: path.read_bytes() for path in Path(settings.backup).rglob("*") if path.is_file()}
    for one, why in ((other, "copy of another studio"), (rounds, "is damaged")):
        assert not one.round() and why in one.problem
    assert {path: path.read_bytes() for path in Path(settings.backup).rglob("*") if path.is_file()} == before


def test_only_what_is_new_is_copied_and_nothing_where_nothing_changed(made, quick_path):
    settings, store = made
    rounds = Backup(settings, store)
    assert rounds.round() and not rounds.round()
    (image,) = Path(settings.backup).rglob("one.png")
    before = os.stat(image).st_mtime_ns, os.stat(image).st_ino
    (settings.home / "images/two.png").write_bytes(b"2")
    store.scores.set(store.samples.find(limit=1)[0]["id"], 1, 6, "Ann")
    assert rounds.round() and (image.parent / "two.png").is_file()
    assert (os.stat(image).st_mtime_ns, os.stat(image).st_ino) == before


def test_a_round_that_fails_is_told_without_secrets_and_the_next_one_mends_it(made):
    settings, store = made
    rounds = Backup(settings, store, place=Broken(settings.backup))
    assert not rounds.round()
    assert "last back-up failed" in rounds.problem and "token@" not in rounds.problem
    rounds._place = None
    assert rounds.round() and rounds.problem == ""
    assert list(settings.home.glob("backup-*")) == []


def test_a_damaged_copy_is_told_and_kept_and_the_studio_begins_empty(made):
    settings, store = made
    Backup(settings, store).round()
    copy = Path(settings.backup) / DATABASE
    copy.write_bytes(b"no database" * 1000)
    shutil.rmtree(settings.home)
    said = restore(settings)
    assert "could not be restored" in said and "damaged" in said
    assert not settings.database.exists() and copy.read_bytes().startswith(b"no database")
    rounds = Backup(settings, Store(settings.database), said)
    assert rounds.problem == said and not rounds.round() and copy.read_bytes().startswith(b"no database")


def test_a_dataset_on_the_hub_keeps_and_gives_back_the_same(made, quick_path, monkeypatch):
    settings, store = made
    monkeypatch.setattr(backup, "AT_ONCE", 1)
    place = backup.Dataset("ann/copies")
    place.api = Hub(quick_path / "hub")
    rounds = Backup(settings, store, place=place)
    assert rounds.round(), rounds.problem
    assert [len(names) for names in place.api.commits] == [1] * 4 and place.api.commits[-1] == [MARK]
    shutil.rmtree(settings.home)
    assert restore(settings, place) == "" and corrections(settings) == [("Ann", 5)]


def test_what_is_said_during_the_first_round_is_in_the_next_one(made):
    settings, store = made

    class Slow(Folder):
        """A place to which the first copy takes a while: somebody corrects a word meanwhile."""

        def put(self, files):
            if DATABASE in files and not (self.path / DATABASE).exists():
                store.scores.set(store.samples.find()[0]["id"], 1, 9, "Bea")
            super().put(files)

    rounds = Backup(settings, store, place=Slow(settings.backup))
    assert rounds.round()
    assert rounds.round()
    assert not rounds.round()
    with sqlite3.connect(Path(settings.backup) / DATABASE) as db:
        assert ("Bea", 9) in db.execute("SELECT who, score FROM scores").fetchall()
