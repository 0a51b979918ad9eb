"""A store whose file was damaged: seen by the check at the start, only read from then on, restored from a backup."""

import random
import sqlite3
from contextlib import closing

import pytest

from data.exchange.jsonl import export_labels
from data.store import Store, StoreError

FLIPS = 100


@pytest.fixture
def filled(store, sample_row, peaked):
    """A small store with rows in many tables; its log is in the file."""
    ids = store.samples.add(
        [sample_row(id=f"s{i}", seed=i, prompt=f"a red circle above {i} squares") for i in range(20)]
    )
    store.scores.add(
        {"sample": id, "word_index": 1, "source": "vlm", "distribution": peaked(i % 10), "scorer": "v",
         "scorer_version": "1"} for i, id in enumerate(ids)
    )  # fmt: skip
    for id in ids[:9]:
        store.scores.set(id, 1, 7, "ann")
        store.queue.submit(id, "ann")
    store.remarks.note(ids[0], "ann", "a note")
    store.audit.note("ann", "import", "a file")
    store.runs.update(store.runs.new("reward", {"steps": 3}), state="done")
    emptied_log(store)
    return store


def emptied_log(store):
    with store.database._connected(once=True) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    store.database.close()


def overwrite(store, where, start, end, byte):
    """Bytes of the first page of a table or index, counted from the page's begin or end."""
    with closing(sqlite3.connect(store.database.path)) as db:
        (page,) = db.execute(f"SELECT rootpage FROM sqlite_master WHERE {where}").fetchone()
        (size,) = db.execute("PRAGMA page_size").fetchone()
    content = bytearray(store.database.path.read_bytes())
    page = range((page - 1) * size, page * size)[start:end]
    content[page.start : page.stop] = byte * len(page)
    store.database.path.write_bytes(content)


def damage_index(store):
    """Entries of an index that name other rows than the table has."""
    overwrite(store, "type = 'index' AND tbl_name = 'scores' AND sql IS NOT NULL", -40, None, b"\0")


def damage_table(store):
    """A page of a table that no export needs."""
    overwrite(store, "name = 'audit'", None, None, b"\x5a")


def content(path):
    """Every row of every table, and the schema."""
    with closing(sqlite3.connect(path)) as db:
        db.text_factory = bytes
        tables = [
            t for (t,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
        ]
        rows = [(t, row) for t in tables for row in db.execute(f'SELECT * FROM "{t.decode()}"')]
        return [*rows, *db.execute("SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY name")]


def whole(path):
    """Whether SQLite's own full check finds nothing."""
    with closing(sqlite3.connect(path)) as db:
        try:
            return list(db.execute("PRAGMA integrity_check")) == [("ok",)] and not list(
                db.execute("PRAGMA foreign_key_check")
            )
        except sqlite3.DatabaseError:
            return False


def damage_row(store):
    """A row that points at nothing."""
    with closing(sqlite3.connect(store.database.path)) as db, db:
        db.execute("INSERT INTO uncertainty VALUES ('nowhere', 1.0)")


def damage_schema(store):
    """A rule of the schema that is gone."""
    with closing(sqlite3.connect(store.database.path)) as db, db:
        (name,) = db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchone()
        db.execute(f"DROP TRIGGER {name}")


DAMAGES = [damage_index, damage_table, damage_row, damage_schema]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_store_is_only_read_still_exports_and_is_restored(filled, quick_path, damage):
    backup = filled.database.vacuum_into(quick_path / "backups" / "studio-1.db")
    export_labels(filled, quick_path / "whole.jsonl")
    filled.database.close()
    damage(filled)
    store = Store(filled.database.path)
    with pytest.raises(StoreError, match=r"is damaged .* restore a backup copy \(backups/studio-1.db\)"):
        store.restoring.check()
    for write in (
        lambda: store.scores.set("s1", 1, 3, "ann"),
        lambda: store.runs.new("reward", {}),
        lambda: store.queue.submit("s1", "ann"),
    ):
        with pytest.raises(StoreError, match="nothing is written to it"):
            write()
    with store.to_export() as readable:
        assert export_labels(readable, quick_path / "out.jsonl")["samples"] == 20
    assert (quick_path / "out.jsonl").read_bytes() == (quick_path / "whole.jsonl").read_bytes()
    store.audit.note("ann", "export", "out.jsonl")  # which cannot be noted, and stops nothing
    found = store.restoring.restore(backup)
    assert found["samples"] == 20 and store.database.damage == ""
    assert (quick_path / found["replaced"]).stat().st_size
    store.scores.set("s1", 1, 3, "ann")
    store.restoring.check()


def test_damage_that_a_write_meets_ends_writing(filled):
    damage_table(filled)
    store = Store(filled.database.path)
    with pytest.raises(StoreError, match="is damaged"):
        store.audit.note("ann", "import", "another file")
    with pytest.raises(StoreError, match="nothing is written to it"):
        store.scores.set("s1", 1, 3, "ann")
    assert len(store.samples.find()) == 20


def test_a_check_of_a_whole_store_changes_nothing_and_makes_way_for_a_restore(filled, monkeypatch):
    before = content(filled.database.path)
    filled.restoring.check()
    assert filled.database.damage == "" and content(filled.database.path) == before
    with closing(sqlite3.connect(filled.database.path)) as db, db:  # what the owner added is no damage
        db.execute("CREATE INDEX mine ON scores (created)")
        db.execute("CREATE TABLE notes_of_mine (text)")
        db.execute("CREATE VIEW mine_too AS SELECT * FROM notes_of_mine")
    store = Store(filled.database.path)
    store.restoring.check()
    store.scores.set("s1", 1, 3, "ann")
    monkeypatch.setattr(store.database._idle, "wanted", lambda: True)  # as when a restore waits for the file
    monkeypatch.setattr("data.store.restore.STEPS", 1)
    with pytest.raises(StoreError, match="interrupted"):
        store.restoring.check()
    assert store.database.damage == ""


def test_a_store_that_another_process_restored_is_written_to_again_after_a_check(filled, quick_path):
    backup = filled.database.vacuum_into(quick_path / "backups" / "studio-1.db")
    filled.database.close()
    damage_schema(filled)
    store, other = Store(filled.database.path), Store(filled.database.path)
    with pytest.raises(StoreError, match="is damaged"):
        store.restoring.check()
    other.restoring.restore(backup)
    with pytest.raises(StoreError, match="nothing is written to it"):
        store.scores.set("s1", 1, 3, "ann")
    store.restoring.check()
    store.scores.set("s1", 1, 3, "ann")
    assert store.database.damage == ""


def test_no_flipped_byte_passes_unseen_that_a_check_can_see(filled, quick_path):
    """What no check can see is another character in the middle of a text, of which SQLite keeps no sum: the file is whole."""
    good, before, rng = filled.database.path.read_bytes(), content(filled.database.path), random.Random(0)
    path, seen, unseen = quick_path / "flipped.db", 0, 0
    for _ in range(FLIPS):
        at = rng.randrange(len(good))
        path.write_bytes(good[:at] + bytes([good[at] ^ 1 << rng.randrange(8)]) + good[at + 1 :])
        try:
            store = Store(path)
            try:
                store.restoring.check()
                now = content(path)
                changed = [pair for pair in zip(before, now, strict=True) if pair[0] != pair[1]]
                assert len(changed) <= 1 and (not changed or whole(path)), f"byte {at}"
                unseen += len(changed)
            finally:
                store.database.close()
        except StoreError as error:
            assert "flipped.db" in str(error)
            seen += 1
        for name in ("-wal", "-shm"):
            path.with_name(path.name + name).unlink(missing_ok=True)
    assert seen + unseen < FLIPS and seen > unseen
