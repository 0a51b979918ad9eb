"""Opening, migrating, damage, backups: the file is never harmed, and every refusal is a sentence."""

import os
import sqlite3
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from types import SimpleNamespace

import pytest

from data.store import Store, StoreError
from data.store.connections import Idle
from tests.forked import forked


def test_an_append_only_table_refuses_update_delete_and_replace(store, sample_row):
    (id,) = store.samples.add([sample_row()])
    store.scores.set(id, 1, 3, "ann")
    store.queue.submit(id, "ann")
    store.votes.add(id, store.samples.add([sample_row(seed=2)])[0], "left", "ann")
    store.remarks.flag(id, "ann", "cut off")
    store.gold.set(id, 1, 3, "ann")
    with closing(sqlite3.connect(store.database.path)) as db:
        for table in ("samples", "scores", "submissions", "preferences", "remarks", "audit", "gold"):
            columns = [c[1] for c in db.execute(f"PRAGMA table_info({table})") if c[1] != "seq"]
            names = ", ".join(columns)
            changes = [f"UPDATE {table} SET created = 'x'", f"DELETE FROM {table}"]
            if "id" in columns:
                changes.append(f"INSERT OR REPLACE INTO {table} ({names}) SELECT {names} FROM {table}")
            for sql in changes:
                with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                    db.execute(sql)


def test_a_write_that_fails_halfway_leaves_nothing(store, sample_row):
    with pytest.raises(ValueError, match="n_words"):
        store.samples.add([sample_row(), sample_row(n_words=-1)])
    with pytest.raises(ValueError, match="stored already"):
        store.samples.add([sample_row(id="a"), sample_row(id="a")])
    assert store.samples.count() == 0


def test_operations_within_writing_are_one_transaction(store, sample_row):
    """With all that they read; seen by nobody else before its end, and all or nothing."""
    other = Store(store.database.path)
    with pytest.raises(RuntimeError), store.database.writing():
        (lost,) = store.samples.add([sample_row(seed=1)])
        assert store.samples.get(lost)["seed"] == 1
        raise RuntimeError("halfway")
    with store.database.writing():
        (kept,) = store.samples.add([sample_row(seed=2)])
        store.scores.set(kept, 1, 5, "ann")
        assert other.samples.find() == []
    assert [s["seed"] for s in other.samples.find()] == [2] and len(other.scores.history("ann")) == 1


def test_a_part_that_fails_is_rolled_back_alone_however_deep(store, sample_row):
    def part(n, deep):
        with store.database.writing() as db:
            store.samples.add([sample_row(seed=n)])
            if n == deep:
                db.execute("INSERT INTO samples (id) VALUES ('x')")
            part(n + 1, deep)

    for deep in (1, 2, 3):
        with store.database.writing():
            store.samples.add([sample_row(seed=10 * deep)])
            with pytest.raises(StoreError, match="refused this"):
                part(1, deep)
            store.samples.add([sample_row(seed=10 * deep + 9)])
    assert sorted(s["seed"] for s in store.samples.find()) == [10, 19, 20, 29, 30, 39]
    with pytest.raises(ValueError, match="remove it"), store.database.writing() as db:
        db.execute("SELECT ?", ("\ud800",))


DAMAGE = {
    "header": lambda good: b"this is a text file and no database, long enough to be looked at" * 40,
    "pages": lambda good: good[:4096] + b"\x5a" * (len(good) - 4096),
    "schema": lambda good: good[:100] + b"\xff" * 3996 + good[4096:],
}


def test_another_thread_is_no_part_of_what_this_one_writes(store, sample_row):
    with ThreadPoolExecutor(1) as other:
        with store.database.writing():
            store.samples.add([sample_row(seed=1)])
            assert other.submit(store.samples.find).result() == []
            written = other.submit(store.samples.add, [sample_row(seed=2)])
        assert written.result() and len(store.samples.find()) == 2


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_refused_with_a_sentence_and_left_as_it_is(store, sample_row, damage):
    ids = store.samples.add([sample_row(seed=i) for i in range(50)])
    store.scores.add({"sample": id, "word_index": 1, "source": "vlm", "score": 3} for id in ids)
    store.database.close()
    before = DAMAGE[damage](store.database.path.read_bytes())
    store.database.path.write_bytes(before)
    with pytest.raises(StoreError, match=r"studio\.db is damaged .* backup copy"):
        again = Store(store.database.path)
        again.restoring.check()
        again.labels.current()
    assert store.database.path.read_bytes() == before


def test_newer_code_another_program_or_a_folder_is_refused_and_keeps_every_byte(store, quick_path):
    with closing(sqlite3.connect(store.database.path)) as db, db:
        db.execute(
            "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES ('studio', 'm999_x', '')"
        )
    (quick_path / "others").mkdir()
    other = quick_path / "others" / "other.db"
    with closing(sqlite3.connect(other)) as db, db:
        db.execute("CREATE TABLE bills (id)")
    before = other.read_bytes()
    for path, says in (
        (store.database.path, "newer version .*m999_x.* Update the app"),
        (other, "another program"),
        (quick_path, "is a folder"),
    ):
        with pytest.raises(StoreError, match=says):
            Store(path)
    assert other.read_bytes() == before and [p.name for p in other.parent.iterdir()] == ["other.db"]


@pytest.fixture
def logged(store, sample_row, quick_path):
    """The files of a store whose last changes are in its log alone, as a process that was killed leaves them."""
    store.samples.add([sample_row(id="a")])
    folder = quick_path / "left"
    folder.mkdir()
    with store.database.reading():  # keeps the log from being emptied
        store.scores.set("a", 1, 7, "ann")
        for path in quick_path.glob("studio.db*"):
            (folder / path.name).write_bytes(path.read_bytes())
    assert (folder / "studio.db-wal").stat().st_size > 0
    return folder / "studio.db"


def emptied(path):
    path.write_bytes(b"")


def of_no_tables(path):
    path.unlink()
    with closing(sqlite3.connect(path.with_name("x.db"))) as db:
        db.execute("PRAGMA user_version = 1")
    path.with_name("x.db").rename(path)


ACCIDENTS = {
    "holds nothing: emptied": emptied,
    "is gone": os.unlink,
    "holds nothing: no tables": of_no_tables,
}


@pytest.mark.parametrize("accident", ACCIDENTS)
@pytest.mark.parametrize("backups", [0, 5])
def test_a_database_that_was_emptied_by_accident_is_no_new_one(logged, accident, backups):
    kept = {path.name: path.read_bytes() for path in logged.parent.iterdir()}
    (logged.parent / "backups").mkdir()
    for n in range(backups):
        path = logged.parent / "backups" / f"studio-{n}.db"
        path.write_bytes(b"a backup")
        os.utime(path, (n, n))
    ACCIDENTS[accident](logged)
    before = logged.read_bytes() if logged.exists() else None
    says = f"studio.db {accident.split(':')[0]}, and studio.db-wal beside it may hold what was in it"
    with pytest.raises(StoreError, match=says) as refused:
        Store(logged)
    named = "backups/studio-4.db, backups/studio-3.db, backups/studio-2.db"
    assert (f"copy a backup there ({named})" if backups else "if you have one") in str(refused.value)
    assert (logged.read_bytes() if logged.exists() else None) == before
    assert logged.with_name("studio.db-wal").read_bytes() == kept["studio.db-wal"]
    logged.write_bytes(kept["studio.db"])  # what was lost is put back beside its log
    logged.with_name("studio.db-shm").unlink(missing_ok=True)
    assert [event["score"] for event in Store(logged).scores.history("ann")] == [7]


@pytest.mark.parametrize("make", [emptied, of_no_tables], ids=["no bytes", "no tables"])
def test_a_file_without_our_schema_is_never_written_to(quick_path, make):
    path = quick_path / "studio.db"
    path.touch()
    make(path)
    before = path.read_bytes()
    with pytest.raises(StoreError, match=r"emptied or lost by accident.* Move studio\.db away"):
        Store(path)
    assert path.read_bytes() == before


def test_many_begin_a_store_at_once(quick_path, sample_row):
    def begin(n):
        return Store(quick_path / "new.db").samples.add([sample_row(seed=n)])

    with ThreadPoolExecutor(8) as pool:
        assert len(list(pool.map(begin, range(8)))) == 8
    assert Store(quick_path / "new.db").samples.count() == 8
    assert not list(quick_path.glob(".work*"))


def test_a_database_that_goes_away_is_not_made_anew(store):
    for path in store.database.path.parent.glob("studio.db*"):
        path.unlink()
    with pytest.raises(StoreError, match="is gone"):
        store.samples.find()
    assert not store.database.path.exists()


def test_a_backup_is_a_whole_store_also_while_others_write_and_overwrites_nothing(
    store, sample_row, quick_path
):
    (id,) = store.samples.add([sample_row()])
    store.scores.set(id, 1, 3, "ann")
    with store.database.writing() as db:
        db.execute("INSERT INTO cursors VALUES ('x', 1, 'now')")
        copy = store.database.vacuum_into(quick_path / "backups" / "copy.db")
    assert [e["score"] for e in Store(copy).scores.history("ann")] == [3]
    assert Store(copy).labels.snapshot() == store.labels.snapshot() and Store(copy).cursors.get("x") is None
    with pytest.raises(ValueError, match="exists already"):
        store.database.vacuum_into(copy)
    assert not [p.name for p in copy.parent.iterdir() if "partial" in p.name]
    assert store.restoring.check_backup(copy)["samples"] == 1


FIRST_RUN = {"id": "r", "kind": "projector", "config": "{}", "state": "done", "created": "2026"}


def test_a_word_without_a_readable_answer_is_kept_as_missing_and_not_asked_again(store, sample_row):
    (id,) = store.samples.add([sample_row()])
    assert store.samples.count(scorer_version="v1") == 1
    note = {"sample": id, "word_index": 1, "scorer": "s", "scorer_version": "v1", "reason": "no digit"}
    assert store.missing.add([note]) == 1
    assert [(m["word_index"], m["reason"]) for m in store.missing.find(id)] == [(1, "no digit")]
    assert store.samples.count(scorer_version="v1") == 0 and store.samples.count(scorer_version="v2") == 1
    with pytest.raises(ValueError, match="past the sample's"):
        store.missing.add([note, note | {"word_index": 99}])
    assert len(store.missing.find(id)) == 1


def test_what_a_forked_worker_writes_stays_whatever_its_parent_closes(store, sample_row):
    """The parent's last connection took the log away that the worker wrote to."""
    (sample,) = store.samples.add([sample_row()])
    (asks, asked), (tells, told) = os.pipe(), os.pipe()

    def work():
        for word in range(6):
            store.scores.set(sample, word, 7, "ann")
            os.write(told, b"x")
            os.read(asks, 1)

    child = forked(work)
    for n in range(6):
        os.read(tells, 1)
        (lambda: None, store.restoring.check, lambda: store.scores.set(sample, 6, 1, "bob"))[n % 3]()
        store.database.close()
        os.write(asked, b"x")
    child.join()
    assert [event["word_index"] for event in store.scores.history("ann")] == [5, 4, 3, 2, 1, 0]
    store.restoring.check()


class Held(SimpleNamespace):
    """In place of a connection to a database, which notes that it was closed."""


def held(closed):
    return Held(conn=SimpleNamespace(in_transaction=False, close=lambda: closed.append(1)))


def test_a_store_that_is_let_go_while_its_connections_are_looked_through_stops_nobody(tmp_path, monkeypatch):
    """Garbage is looked for wherever something is made, under the lock as well, and what finds the store closes them."""
    idle, closed = Idle(tmp_path / "flag"), []

    def timer(*_):
        idle.close()  # to make one is where the store is found to be garbage
        return SimpleNamespace(start=lambda: None)

    monkeypatch.setattr("data.store.connections.Timer", timer)
    keeping = threading.Thread(target=idle.keep, args=(held(closed), (1, 1)), daemon=True)
    keeping.start()
    keeping.join(10)
    assert not keeping.is_alive() and closed


def test_connections_of_all_who_were_forked_from_stay_open_in_a_worker_of_a_worker(tmp_path, monkeypatch):
    """To close one there would take the locks of the process that it is of."""
    idle, closed, known = Idle(tmp_path / "flag"), [], []
    for generation in range(2):
        monkeypatch.setattr("data.store.connections.os.getpid", lambda generation=generation: generation)
        connection = held(closed)
        known.append(weakref.ref(connection))
        idle.keep(connection, (1, 1))
        del connection
    monkeypatch.setattr("data.store.connections.os.getpid", lambda: 2)
    idle.close()
    assert all(one() is not None for one in known) and not closed


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda s: s.remarks.find(10**30), "A number is too large for the store: .* nothing was changed"),
        (lambda s: s.desk.scored_since("s", 2**63), "A number is too large for the store"),
        (lambda s: s.gold.scores(-(10**30)), "A number is too large for the store"),
        (lambda s: s.remarks.find("a\ud800"), r"A text holds a character that is no text \('\\ud800'\): remove it"),
        (lambda s: s.samples.get("\udfff"), "character that is no text|must be"),
    ],
)  # fmt: skip
def test_what_sqlite_cannot_hold_is_refused_with_a_sentence_and_the_store_goes_on(store, ask, says):
    with pytest.raises(ValueError, match=says) as found:
        ask(store)
    assert str(found.value).endswith(".") and not isinstance(found.value, UnicodeError)
    assert store.remarks.find() == [] and store.samples.count() == 0
