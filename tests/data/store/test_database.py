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


def raw(store):
    return sqlite3.connect(store.database.path)


def test_every_operation_syncs_and_checks_foreign_keys(store):
    for mode in (store.database.reading, store.database.writing):
        with mode() as db:
            assert db.execute("PRAGMA synchronous").fetchone()[0] == 2
            assert db.execute("PRAGMA foreign_keys").fetchone()[0] == 1


@pytest.mark.parametrize(
    "table", ["samples", "scores", "submissions", "preferences", "remarks", "audit", "gold"]
)
def test_an_append_only_table_refuses_update_delete_and_replace(store, sample_row, table):
    (id,) = store.samples.add([sample_row()])
    store.scores.set(id, 1, 3, "ann")
    store.queue.submit(id, "ann")
    store.votes.add(id, store.samples.add([sample_row(seed=2)])[0], "left", "ann")
    store.remarks.flag(id, "ann", "cut off")
    store.gold.set(id, 1, 3, "ann")
    with raw(store) as db:
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


def damage_header(path):
    path.write_bytes(b"this is a text file and no database, long enough to be looked at" * 40)


def damage_pages(path):
    data = bytearray(path.read_bytes())
    data[4096:] = b"\x5a" * (len(data) - 4096)
    path.write_bytes(data)


def damage_schema(path):
    data = bytearray(path.read_bytes())
    data[100:4096] = b"\xff" * 3996
    path.write_bytes(data)


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


@pytest.mark.parametrize("deep", [1, 2, 3])
def test_a_part_that_fails_is_rolled_back_alone_however_deep(store, sample_row, deep):
    def part(n):
        with store.database.writing() as db:
            store.samples.add([sample_row(seed=n)])
            if n == deep:
                db.execute("INSERT INTO samples (id) VALUES ('x')")
            part(n + 1)

    with store.database.writing():
        store.samples.add([sample_row(seed=0)])
        with pytest.raises(StoreError, match="refused this"):
            part(1)
        store.samples.add([sample_row(seed=9)])
    assert sorted(s["seed"] for s in store.samples.find()) == [0, 9]
    with (
        pytest.raises(ValueError, match="remove it"),
        store.database.writing() as db,
        store.database.writing(),
    ):
        db.execute("SELECT ?", ("\ud800",))


def test_another_thread_is_no_part_of_what_this_one_writes(store, sample_row):
    with ThreadPoolExecutor(1) as other:
        with store.database.writing():
            store.samples.add([sample_row(seed=1)])
            assert other.submit(store.samples.find).result() == []
            written = other.submit(store.samples.add, [sample_row(seed=2)])
        assert written.result() and len(store.samples.find()) == 2


@pytest.mark.parametrize("damage", [damage_header, damage_pages, damage_schema])
def test_a_damaged_file_is_refused_with_a_sentence_and_left_as_it_is(store, sample_row, damage):
    ids = store.samples.add([sample_row(seed=i) for i in range(50)])
    store.scores.add({"sample": id, "word_index": 1, "source": "vlm", "score": 3} for id in ids)
    store.database.close()
    damage(store.database.path)
    before = store.database.path.read_bytes()
    with pytest.raises(StoreError, match=r"studio\.db is damaged .* backup copy"):
        again = Store(store.database.path)
        again.restoring.check()
        again.labels.current()
    assert store.database.path.read_bytes() == before


def test_a_database_from_newer_code_is_refused(store):
    with raw(store) as db:
        db.execute(
            "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES ('studio', 'm999_x', '')"
        )
    with pytest.raises(StoreError, match="newer version .*m999_x.* Update the app"):
        Store(store.database.path)


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


@pytest.mark.parametrize(
    ("accident", "says"),
    [
        (emptied, "studio.db holds nothing, and studio.db-wal beside it may hold what was in it"),
        (os.unlink, "studio.db is gone, and studio.db-wal beside it may hold what was in it"),
        (of_no_tables, "studio.db holds nothing, and studio.db-wal"),
    ],
    ids=["emptied", "gone", "no tables"],
)
@pytest.mark.parametrize("backups", [0, 5])
def test_a_database_that_was_emptied_by_accident_is_no_new_one(logged, accident, says, backups):
    kept = {path.name: path.read_bytes() for path in logged.parent.iterdir()}
    (logged.parent / "backups").mkdir()
    for n in range(backups):
        path = logged.parent / "backups" / f"studio-{n}.db"
        path.write_bytes(b"a backup")
        os.utime(path, (n, n))
    accident(logged)
    before = logged.read_bytes() if logged.exists() else None
    with pytest.raises(StoreError, match=says) as refused:
        Store(logged)
    named = ", ".join(f"backups/studio-{n}.db" for n in range(backups)[:-4:-1])
    assert (
        f"copy a backup there ({named})" in str(refused.value)
        if backups
        else "if you have one" in str(refused.value)
    )
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


def test_the_database_of_another_program_keeps_every_byte(quick_path):
    path = quick_path / "other.db"
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("CREATE TABLE bills (id)")
    before = path.read_bytes()
    with pytest.raises(StoreError, match="another program"):
        Store(path)
    assert path.read_bytes() == before and [p.name for p in quick_path.iterdir()] == ["other.db"]


def test_many_begin_a_store_at_once(quick_path, sample_row):
    made, wrong = [], []

    def begin(n):
        try:
            made.append(Store(quick_path / "new.db").samples.add([sample_row(seed=n)])[0])
        except Exception as error:  # noqa: BLE001 - whatever it is, the test fails by it
            wrong.append(error)

    threads = [threading.Thread(target=begin, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and Store(quick_path / "new.db").samples.count() == 8
    assert not list(quick_path.glob(".work*"))


def test_a_folder_in_place_of_a_file_is_refused(quick_path):
    with pytest.raises(StoreError, match="is a folder"):
        Store(quick_path)


def test_a_database_that_goes_away_is_not_made_anew(store):
    for path in store.database.path.parent.glob("studio.db*"):
        path.unlink()
    with pytest.raises(StoreError, match="is gone"):
        store.samples.find()
    assert not store.database.path.exists()


def test_a_backup_is_a_whole_store_and_overwrites_nothing(store, sample_row, quick_path):
    (id,) = store.samples.add([sample_row()])
    store.scores.set(id, 1, 3, "ann")
    copy = store.database.vacuum_into(quick_path / "backups" / "copy.db")
    assert [e["score"] for e in Store(copy).scores.history("ann")] == [3]
    assert Store(copy).labels.snapshot() == store.labels.snapshot()
    with pytest.raises(ValueError, match="exists already"):
        store.database.vacuum_into(copy)
    assert sorted(p.name for p in copy.parent.iterdir() if "partial" in p.name) == []


FIRST_RUN = {"id": "r", "kind": "projector", "config": "{}", "state": "done", "created": "2026"}


def test_a_store_of_the_first_schema_is_migrated_with_its_rows(older_store, sample_row):
    path = older_store("m002_missing", runs=[FIRST_RUN])
    store = Store(path)
    (id,) = store.samples.add([sample_row(projector_run="r", method="projected")])
    for kind in ("lora", "experiment"):
        assert store.runs.get(store.runs.new(kind, {}))["kind"] == kind
    store.restoring.check()
    with pytest.raises(StoreError, match="CHECK"), store.database.writing() as db:
        db.execute("INSERT INTO runs (id, kind, config, state, created) VALUES ('x', 'y', '{}', 'done', '')")
    assert Store(path).samples.get(id)["projector_run"] == "r" and store.runs.get("r")["kind"] == "projector"


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


def test_a_forked_worker_opens_a_connection_of_its_own(store, sample_row):
    (sample,) = store.samples.add([sample_row()])
    forked(store.scores.set, sample, 1, 7, "ann").join()
    assert [event["score"] for event in store.scores.history("ann")] == [7]
    store.scores.set(sample, 1, 8, "ann")
    store.restoring.check()


@pytest.mark.parametrize("parent", ["close", "check", "write"])
def test_what_a_forked_worker_writes_stays_whatever_its_parent_closes(store, sample_row, parent):
    """The parent's last connection took the log away that the worker wrote to."""
    (sample,) = store.samples.add([sample_row()])
    acts = {
        "close": store.database.close,
        "check": lambda: (store.restoring.check(), store.database.close()),
        "write": lambda: (store.scores.set(sample, 6, 1, "bob"), store.database.close()),
    }
    (asks, asked), (tells, told) = os.pipe(), os.pipe()

    def work():
        for word in range(5):
            store.scores.set(sample, word, 7, "ann")
            os.write(told, b"x")
            os.read(asks, 1)

    child = forked(work)
    for _ in range(5):
        os.read(tells, 1)
        acts[parent]()
        os.write(asked, b"x")
    child.join()
    assert [event["word_index"] for event in store.scores.history("ann")] == [4, 3, 2, 1, 0]
    store.restoring.check()


def test_a_store_that_is_let_go_while_its_connections_are_looked_through_stops_nobody(tmp_path, monkeypatch):
    """Garbage is looked for wherever something is made, under the lock as well, and what finds the store closes them."""
    idle = Idle(tmp_path / "flag")

    class Found:
        """In place of the timer: to make one is where the store is found to be garbage."""

        daemon = False

        def __init__(self, *_):
            idle.close()

        def start(self):
            pass

    monkeypatch.setattr("data.store.connections.Timer", Found)
    closed = []
    db = SimpleNamespace(conn=SimpleNamespace(in_transaction=False, close=lambda: closed.append(1)))
    keeping = threading.Thread(target=idle.keep, args=(db, (1, 1)), daemon=True)
    keeping.start()
    keeping.join(10)
    assert not keeping.is_alive() and closed


def test_connections_of_all_who_were_forked_from_stay_open_in_a_worker_of_a_worker(tmp_path, monkeypatch):
    """To close one there would take the locks of the process that it is of."""
    idle, closed = Idle(tmp_path / "flag"), []

    class Connection(SimpleNamespace):
        """In place of one to a database, which says when it is closed."""

    held = [
        Connection(conn=SimpleNamespace(in_transaction=False, close=lambda: closed.append(1))) for _ in "ab"
    ]
    for generation, db in enumerate(held):
        monkeypatch.setattr("data.store.connections.os.getpid", lambda generation=generation: generation)
        idle.keep(db, (1, 1))
    known = [weakref.ref(db) for db in held]
    held.clear()
    del db
    monkeypatch.setattr("data.store.connections.os.getpid", lambda: 2)
    idle.close()
    assert all(one() is not None for one in known) and not closed


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (
            lambda store: store.remarks.find(10**30),
            "A number is too large for the store: .* nothing was changed",
        ),
        (lambda store: store.desk.scored_since("s", 2**63), "A number is too large for the store"),
        (lambda store: store.gold.scores(-(10**30)), "A number is too large for the store"),
        (
            lambda store: store.remarks.find("a\ud800"),
            r"A text holds a character that is no text \('\\ud800'\): remove it",
        ),
        (lambda store: store.samples.get("\udfff"), "character that is no text|must be"),
    ],
)
def test_what_sqlite_cannot_hold_is_refused_with_a_sentence_and_the_store_goes_on(store, ask, says):
    with pytest.raises(ValueError, match=says) as found:
        ask(store)
    assert str(found.value).endswith(".") and not isinstance(found.value, UnicodeError)
    assert store.remarks.find() == [] and store.samples.count() == 0
