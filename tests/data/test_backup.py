"""Backup and restore while the store is in use: what was replaced is kept, and what is no backup changes nothing."""

from __future__ import annotations

import sqlite3
import threading

import pytest

from data.store import Store, StoreError


@pytest.fixture
def backed(store, sample_row, quick_path):
    """A store with one correction, its backup, and another correction since."""
    (sample,) = store.add_samples([sample_row()])
    store.set_score(sample, 1, 3, "ann")
    path = store.vacuum_into(quick_path / "kept" / "backup.db")
    store.set_score(sample, 1, 8, "ann")
    return store, sample, path


def score(store, sample):
    return store.current(sample)[1]["people"]["ann"]


def test_a_backup_comes_back_and_what_it_replaced_is_kept_beside_it(backed):
    store, sample, path = backed
    found = store.restore(path)
    assert (found["scores"], found["before"]["scores"]) == (1, 2)
    assert score(store, sample) == 3
    replaced = Store(store.path.with_name(found["replaced"]))
    assert score(replaced, sample) == 8
    store.set_score(sample, 1, 5, "ann")  # and it can be written to
    store.check()
    with sqlite3.connect(store.path) as db:
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert not list(store.path.parent.glob(".restore*"))


def test_people_who_work_meanwhile_wait_and_lose_nothing_that_was_acknowledged(backed):
    store, sample, path = backed
    acknowledged, wrong, stop = [], [], threading.Event()

    def work(n):
        own = Store(store.path)
        while not stop.is_set():
            try:
                acknowledged.append(own.set_score(sample, n, len(acknowledged) % 10, f"p{n}")["id"])
                own.current(sample)
            except Exception as error:  # noqa: BLE001 - whatever it is, the test fails by it
                wrong.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    while len(acknowledged) < 20:
        pass
    replaced = [store.restore(path)["replaced"] for _ in range(3)]
    seen = len(acknowledged)
    while len(acknowledged) < seen + 10:
        pass
    stop.set()
    for thread in threads:
        thread.join()
    assert not wrong
    kept = set()
    for name in [*replaced, store.path.name]:
        with sqlite3.connect(store.path.with_name(name)) as db:
            kept |= {id for (id,) in db.execute("SELECT id FROM scores")}
    assert set(acknowledged) <= kept
    store.check()


def test_a_backup_can_be_made_while_others_write(store, sample_row, quick_path):
    (sample,) = store.add_samples([sample_row()])
    with store.writing() as db:
        db.execute("INSERT INTO cursors VALUES ('x', 1, 'now')")
        path = store.vacuum_into(quick_path / "backup.db")
    assert Store(path).cursor("x") is None
    with pytest.raises(ValueError, match="exists already"):
        store.vacuum_into(path)
    assert store.check_backup(path)["samples"] == 1
    assert store.sample(sample)


@pytest.mark.parametrize("state", ["queued", "running"])
def test_while_a_run_is_on_nothing_is_restored(backed, state):
    store, sample, path = backed
    run = store.new_run("projector", {})
    store.update_run(run, state=state)
    with pytest.raises(ValueError, match=f"projector run \\({run}\\) is on"):
        store.restore(path)
    assert score(store, sample) == 8
    store.update_run(run, state="stopped")
    store.restore(path)
    assert store.runs() == []


def test_a_run_that_was_on_when_the_backup_was_made_is_interrupted_afterwards(store, quick_path):
    run = store.new_run("projector", {})
    store.claim_run(run, 1)
    path = store.vacuum_into(quick_path / "backup.db")
    store.update_run(run, state="done")
    store.restore(path)
    assert store.run(run)["state"] == "interrupted"
    assert Store(path).run(run)["state"] == "running"  # the backup itself is only read


def cut(path):
    path.write_bytes(path.read_bytes()[:-4096])


def torn(path):
    content = bytearray(path.read_bytes())
    content[4096 * 3 : 4096 * 6] = b"\x07" * 4096 * 3
    path.write_bytes(content)


def newer(path):
    with sqlite3.connect(path) as db:
        db.execute(
            "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES ('studio', 'm999', 'x')"
        )


def of_another(path):
    path.unlink()
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE t (a)")


def dangling(path):
    with sqlite3.connect(path) as db:
        db.execute("INSERT INTO uncertainty VALUES ('nothere', 1.0)")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda path: path.unlink(), "cannot be read"),
        (lambda path: path.write_bytes(b""), "is no database"),
        (lambda path: path.write_bytes(b"PK\x03\x04" * 99), "is no database"),
        (cut, "cannot be restored"),
        (torn, "cannot be restored"),
        (newer, "newer version"),
        (of_another, "another program"),
        (dangling, "points at nothing"),
    ],
    ids=["gone", "empty", "a zip", "cut", "torn", "newer", "another's", "dangling"],
)
def test_what_is_no_backup_is_refused_and_nothing_is_changed(backed, change, says):
    store, sample, path = backed
    change(path)
    for look in (store.check_backup, store.restore):
        with pytest.raises(ValueError, match=says):
            look(path)
    assert score(store, sample) == 8
    assert not list(store.path.parent.glob("*replaced*")) and not list(store.path.parent.glob(".restore*"))


def test_the_database_itself_is_no_backup(backed):
    store, _, _ = backed
    with pytest.raises(ValueError, match="the database itself"):
        store.restore(store.path)


def test_an_error_in_the_middle_leaves_the_old_content(backed, monkeypatch):
    """A disk that fails is made by a connection whose copying fails: no test can pull the plug of a real one."""
    store, sample, path = backed

    class Failing(sqlite3.Connection):
        def backup(self, *given, **named):
            raise sqlite3.OperationalError("disk I/O error")

    real = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *a, **k: real(*a, **{**k, "factory": Failing}))
    with pytest.raises(StoreError, match="failed to read or write"):
        store.restore(path)
    monkeypatch.undo()
    assert score(store, sample) == 8
    store.set_score(sample, 1, 9, "ann")


@pytest.mark.parametrize("state", ["queued", "running"])
def test_nothing_is_restored_while_a_grid_is_being_made(backed, state):
    store, sample, path = backed
    grid = store.add_grid({"prompt": "a cat"}, "ann")
    store.update_grid(grid, state)
    with pytest.raises(ValueError, match=f"A grid \\({grid}\\) is on"):
        store.restore(path)
    assert score(store, sample) == 8
    store.update_grid(grid, "stopped")
    store.restore(path)


def test_a_grid_that_was_on_when_the_backup_was_made_comes_back_as_interrupted(backed):
    store, _, path = backed
    grid = store.add_grid({"prompt": "a cat"}, "ann")
    kept = store.vacuum_into(path.with_name("later.db"))
    store.update_grid(grid, "done")
    store.restore(kept)
    assert store.grid(grid)["state"] == "interrupted"


def test_a_follower_that_was_under_way_does_not_pass_by_what_comes_after_a_restore(backed):
    store, sample, path = backed
    for digit in range(5):
        store.set_score(sample, 2, digit, "ann")
    _, upto = store.corrections_after(0)
    store.restore(path)  # while what was read is being sent
    store.move_cursor("webhook", upto)
    store.set_score(sample, 1, 9, "ann")
    assert [event["score"] for event in store.corrections_after(store.cursor("webhook"))[0]] == [9]


def test_figures_that_were_counted_before_a_restore_are_known_to_be_old(backed):
    store, sample, path = backed
    before = store.judged()
    store.restore(path)
    store.set_score(sample, 1, 5, "ann")  # as many events as before, and another one
    assert store.judged() != before
