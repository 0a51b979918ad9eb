"""A store whose file was damaged: seen by the check at the start, only read from then on, restored from a backup."""

import random
import sqlite3
from contextlib import closing

import pytest

from data.exchange.jsonl import export_labels
from data.store import Store, StoreError

FLIPS = 200


@pytest.fixture
def filled(store, sample_row, peaked):
    """A small store with rows in many tables; its log is in the file."""
    ids = store.add_samples(
        [sample_row(id=f"s{i}", seed=i, prompt=f"a red circle above {i} squares") for i in range(20)]
    )
    store.add_scores(
        {"sample": id, "word_index": 1, "source": "vlm", "distribution": peaked(i % 10), "scorer": "v",
         "scorer_version": "1"} for i, id in enumerate(ids)
    )  # fmt: skip
    for id in ids[:9]:
        store.set_score(id, 1, 7, "ann")
        store.submit(id, "ann")
    store.note(ids[0], "ann", "a note")
    store.note_audit("ann", "import", "a file")
    store.update_run(store.new_run("reward", {"steps": 3}), state="done")
    emptied_log(store)
    return store


def emptied_log(store):
    with store._connected(once=True) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    store.close()


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


def damage_index(store):
    """Entries of an index that name other rows than the table has."""
    with closing(sqlite3.connect(store.path)) as db:
        (page,) = db.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = ?", (an_index(store),)
        ).fetchone()
        (size,) = db.execute("PRAGMA page_size").fetchone()
    content = bytearray(store.path.read_bytes())
    content[page * size - 40 : page * size] = bytes(40)
    store.path.write_bytes(content)


def an_index(store):
    with closing(sqlite3.connect(store.path)) as db:
        sql = "SELECT name FROM sqlite_master WHERE type = 'index' AND tbl_name = 'scores' AND sql IS NOT NULL LIMIT 1"
        return db.execute(sql).fetchone()[0]


def damage_table(store):
    """A page of a table that no export needs."""
    with closing(sqlite3.connect(store.path)) as db:
        (page,) = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'audit'").fetchone()
        (size,) = db.execute("PRAGMA page_size").fetchone()
    content = bytearray(store.path.read_bytes())
    content[(page - 1) * size : page * size] = b"\x5a" * size
    store.path.write_bytes(content)


def damage_row(store):
    """A row that points at nothing."""
    with closing(sqlite3.connect(store.path)) as db, db:
        db.execute("INSERT INTO uncertainty VALUES ('nowhere', 1.0)")


def damage_schema(store):
    """A rule of the schema that is gone."""
    with closing(sqlite3.connect(store.path)) as db, db:
        (name,) = db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchone()
        db.execute(f"DROP TRIGGER {name}")


DAMAGES = [damage_index, damage_table, damage_row, damage_schema]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_store_is_only_read_still_exports_and_is_restored(filled, quick_path, damage):
    backup = filled.vacuum_into(quick_path / "backups" / "studio-1.db")
    export_labels(filled, quick_path / "whole.jsonl")
    filled.close()
    damage(filled)
    store = Store(filled.path)
    with pytest.raises(StoreError, match=r"is damaged .* restore a backup copy \(backups/studio-1.db\)"):
        store.check()
    for write in (
        lambda: store.set_score("s1", 1, 3, "ann"),
        lambda: store.new_run("reward", {}),
        lambda: store.submit("s1", "ann"),
    ):
        with pytest.raises(StoreError, match="nothing is written to it"):
            write()
    with store.to_export() as readable:
        assert export_labels(readable, quick_path / "out.jsonl")["samples"] == 20
    assert (quick_path / "out.jsonl").read_bytes() == (quick_path / "whole.jsonl").read_bytes()
    store.note_audit("ann", "export", "out.jsonl")  # which cannot be noted, and stops nothing
    found = store.restore(backup)
    assert found["samples"] == 20 and store.damage == ""
    assert (quick_path / found["replaced"]).stat().st_size
    store.set_score("s1", 1, 3, "ann")
    store.check()


def test_damage_that_a_write_meets_ends_writing(filled):
    damage_table(filled)
    store = Store(filled.path)
    with pytest.raises(StoreError, match="is damaged"):
        store.note_audit("ann", "import", "another file")
    with pytest.raises(StoreError, match="nothing is written to it"):
        store.set_score("s1", 1, 3, "ann")
    assert len(store.samples()) == 20


def test_tables_and_indexes_that_the_owner_added_are_no_damage(filled):
    with closing(sqlite3.connect(filled.path)) as db, db:
        db.execute("CREATE INDEX mine ON scores (created)")
        db.execute("CREATE TABLE notes_of_mine (text)")
        db.execute("CREATE VIEW mine_too AS SELECT * FROM notes_of_mine")
    store = Store(filled.path)
    store.check()
    store.set_score("s1", 1, 3, "ann")


def test_a_store_that_another_process_restored_is_written_to_again_after_a_check(filled, quick_path):
    backup = filled.vacuum_into(quick_path / "backups" / "studio-1.db")
    filled.close()
    damage_schema(filled)
    store, other = Store(filled.path), Store(filled.path)
    with pytest.raises(StoreError, match="is damaged"):
        store.check()
    other.restore(backup)
    with pytest.raises(StoreError, match="nothing is written to it"):
        store.set_score("s1", 1, 3, "ann")
    store.check()
    store.set_score("s1", 1, 3, "ann")
    assert store.damage == ""


def test_a_check_of_a_whole_store_changes_nothing_and_makes_way_for_a_restore(filled, monkeypatch):
    before = content(filled.path)
    filled.check()
    assert filled.damage == "" and content(filled.path) == before
    monkeypatch.setattr(filled._idle, "wanted", lambda: True)  # as when a restore waits for the file
    monkeypatch.setattr("data.store.restore.STEPS", 1)
    with pytest.raises(StoreError, match="interrupted"):
        filled.check()
    assert filled.damage == ""


def test_no_flipped_byte_passes_unseen_that_a_check_can_see(filled, quick_path):
    """What no check can see is another character in the middle of a text, of which SQLite keeps no sum: the file is whole."""
    good, before, rng = filled.path.read_bytes(), content(filled.path), random.Random(0)
    path, seen, unseen = quick_path / "flipped.db", 0, 0
    for _ in range(FLIPS):
        at = rng.randrange(len(good))
        path.write_bytes(good[:at] + bytes([good[at] ^ 1 << rng.randrange(8)]) + good[at + 1 :])
        try:
            store = Store(path)
            try:
                store.check()
                now = content(path)
                changed = [pair for pair in zip(before, now, strict=True) if pair[0] != pair[1]]
                assert len(changed) <= 1 and (not changed or whole(path)), f"byte {at}"
                unseen += len(changed)
            finally:
                store.close()
        except StoreError as error:
            assert "flipped.db" in str(error)
            seen += 1
        for name in ("-wal", "-shm"):
            path.with_name(path.name + name).unlink(missing_ok=True)
    assert seen + unseen < FLIPS and seen > unseen
