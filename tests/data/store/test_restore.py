"""Backup and restore while the store is in use: what was replaced is kept, and what is no backup changes nothing."""

import shutil
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from sqlite_utils import Database

from data.store import Store, StoreError
from data.store.samples import COLUMNS
from data.store.schema import migrations
from tests.conftest import folder_in_memory


@pytest.fixture(scope="module")
def corrected(module_store, sample_row):
    """A store with one correction, its backup, and another correction since: to be copied."""
    (sample,) = module_store.samples.add([sample_row()])
    module_store.scores.set(sample, 1, 3, "ann")
    path = module_store.database.vacuum_into(module_store.database.path.with_name("backup.db"))
    module_store.scores.set(sample, 1, 8, "ann")
    return module_store, sample, path


@pytest.fixture
def backed(corrected, copy_of, quick_path):
    made, sample, path = corrected
    (quick_path / "kept").mkdir()
    return copy_of(made), sample, Path(shutil.copy(path, quick_path / "kept"))


def score(store, sample):
    return store.scores.current(sample)[1]["people"]["ann"]


def test_a_backup_comes_back_and_what_it_replaced_is_kept_beside_it(backed):
    store, sample, path = backed
    found = store.restoring.restore(path)
    assert (found["scores"], found["before"]["scores"]) == (1, 2)
    assert score(store, sample) == 3
    replaced = Store(store.database.path.with_name(found["replaced"]))
    assert score(replaced, sample) == 8
    store.scores.set(sample, 1, 5, "ann")  # and it can be written to
    store.restoring.check()
    with sqlite3.connect(store.database.path) as db:
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert not list(store.database.path.parent.glob(".restore*"))


def test_people_who_work_meanwhile_wait_and_lose_nothing_that_was_acknowledged(backed):
    store, sample, path = backed
    acknowledged, stop = [], threading.Event()

    def work(n):
        own = Store(store.database.path)
        while not stop.is_set():
            acknowledged.append(own.scores.set(sample, n, len(acknowledged) % 10, f"p{n}")["id"])
            own.scores.current(sample)

    def more(count, working):
        """Wait for so many more; what went wrong is raised."""
        seen = len(acknowledged)
        while len(acknowledged) < seen + count:
            for one in working:
                if one.done():
                    one.result()

    with ThreadPoolExecutor(3) as pool:
        working = [pool.submit(work, n) for n in range(3)]
        try:
            more(20, working)
            replaced = [store.restoring.restore(path)["replaced"] for _ in range(3)]
            more(10, working)
        finally:
            stop.set()
    assert [one.result() for one in working] == [None] * 3
    kept = set()
    for name in [*replaced, store.database.path.name]:
        with closing(sqlite3.connect(store.database.path.with_name(name))) as db:
            kept |= {id for (id,) in db.execute("SELECT id FROM scores")}
    assert set(acknowledged) <= kept
    store.restoring.check()


@pytest.mark.parametrize("state", ["queued", "running"])
@pytest.mark.parametrize("kind", ["projector run", "grid"])
def test_while_a_run_or_a_grid_is_on_nothing_is_restored(backed, kind, state):
    store, sample, path = backed
    if kind == "grid":
        id, end = store.grids.add({"prompt": "a cat"}, "ann"), store.grids.update
    else:
        id, end = store.runs.new("projector", {}), lambda run, state: store.runs.update(run, state=state)
    end(id, state)
    with pytest.raises(ValueError, match=f"(?i){kind} \\({id}\\) is on"):
        store.restoring.restore(path)
    assert score(store, sample) == 8
    end(id, "stopped")
    store.restoring.restore(path)
    assert store.runs.find() == []


def test_what_was_on_when_the_backup_was_made_is_interrupted_afterwards(store, quick_path):
    run, grid = store.runs.new("projector", {}), store.grids.add({"prompt": "a cat"}, "ann")
    store.runs.claim(run, 1)
    path = store.database.vacuum_into(quick_path / "backup.db")
    store.runs.update(run, state="done")
    store.grids.update(grid, "done")
    store.restoring.restore(path)
    assert store.runs.get(run)["state"] == store.grids.get(grid)["state"] == "interrupted"
    assert Store(path).runs.get(run)["state"] == "running"  # the backup itself is only read


def sql(statement):
    """A change of a file by SQL."""

    def change(path):
        with closing(sqlite3.connect(path)) as db, db:
            db.execute(statement)

    return change


NEWER = "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES ('studio', 'm999', 'x')"
NO_BACKUPS = {
    "gone": (lambda path: path.unlink(), "cannot be read"),
    "empty": (lambda path: path.write_bytes(b""), "is no database"),
    "a zip": (lambda path: path.write_bytes(b"PK\x03\x04" * 99), "is no database"),
    "cut": (lambda path: path.write_bytes(path.read_bytes()[:-4096]), "cannot be restored"),
    "torn": (lambda path: path.write_bytes(path.read_bytes()[:12288] + b"\x07" * 12288 + path.read_bytes()[24576:]),
             "cannot be restored"),
    "newer": (sql(NEWER), "newer version"),
    "another's": (lambda path: (path.unlink(), sql("CREATE TABLE t (a)")(path)), "another program"),
    "dangling": (sql("INSERT INTO uncertainty VALUES ('nothere', 1.0)"), "points at nothing"),
}  # fmt: skip


@pytest.mark.parametrize("name", NO_BACKUPS)
def test_what_is_no_backup_is_refused_and_nothing_is_changed(backed, name):
    store, sample, path = backed
    change, says = NO_BACKUPS[name]
    change(path)
    for look in (store.restoring.check_backup, store.restoring.restore):
        with pytest.raises(ValueError, match=says):
            look(path)
    with pytest.raises(ValueError, match="the database itself"):
        store.restoring.restore(store.database.path)
    assert score(store, sample) == 8
    assert not [*store.database.path.parent.glob("*replaced*"), *store.database.path.parent.glob(".restore*")]


def test_an_error_in_the_middle_leaves_the_old_content(backed, monkeypatch):
    """A disk that fails is made by a connection whose copying fails: no test can pull the plug of a real one."""
    store, sample, path = backed

    class Failing(sqlite3.Connection):
        def backup(self, *given, **named):
            raise sqlite3.OperationalError("disk I/O error")

    real = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *a, **k: real(*a, **{**k, "factory": Failing}))
    with pytest.raises(StoreError, match="failed to read or write"):
        store.restoring.restore(path)
    monkeypatch.undo()
    assert score(store, sample) == 8
    store.scores.set(sample, 1, 9, "ann")


def test_a_follower_that_was_under_way_does_not_pass_by_what_comes_after_a_restore(backed):
    store, sample, path = backed
    for digit in range(5):
        store.scores.set(sample, 2, digit, "ann")
    counted, (_, upto) = store.judgements.judged(), store.cursors.corrections_after(0)
    store.restoring.restore(path)  # while what was read is being sent
    store.cursors.move("webhook", upto)
    store.scores.set(sample, 1, 9, "ann")
    after = store.cursors.corrections_after(store.cursors.get("webhook"))[0]
    assert [event["score"] for event in after] == [9]
    for digit in range(5):  # as many events as before, and others
        store.scores.set(sample, 2, digit, "ann")
    assert store.judgements.judged() != counted


def changed(path, statement):
    """Rows of a file changed under its own schema, as whoever makes a file can: without triggers and CHECKs for a while."""
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("PRAGMA ignore_check_constraints = ON")
        triggers = db.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for name, _ in triggers:
            db.execute(f"DROP TRIGGER {name}")
        db.execute(statement)
        for _, sql in triggers:
            db.execute(sql)


@pytest.fixture(scope="module")
def everything(sample_row):
    """A store with something of everything that people say, to be copied."""
    with folder_in_memory() as folder:
        yield filled(Store(Path(folder) / "studio.db"), sample_row)


@pytest.fixture
def told(everything, copy_of, quick_path):
    """(store, its backup)."""
    store = copy_of(everything)
    return store, store.database.vacuum_into(quick_path / "kept" / "told.db")


def filled(store, sample_row):
    samples = store.samples.add([sample_row(id="a"), sample_row(id="b", seed=2)])
    spread = [0.1] * 10
    store.scores.add(
        [{"sample": "a", "word_index": 1, "source": "vlm", "scorer": "v", "distribution": spread}]
    )
    store.scores.set("a", 1, 3, "ann")
    store.scores.set("a", 1, 4, "bob")
    store.scores.undo("a", "bob")
    store.remarks.flag("a", "ann", "cut off")
    store.gold.set("a", 2, 9, "ann")
    store.queue.come_back(store.queue.submit("a", "ann")["id"], "ann")
    store.votes.add(*samples, "left", "ann")
    run = store.runs.new("reward", {"steps": 1}, id="r")
    store.runs.update(run, state="done", checkpoint="runs/r/reward", checkpoint_sha256="0" * 64)
    store.runs.promote(run, "ann")
    store.grids.update(store.grids.add({"prompt": "a cat"}, "ann", id="g"), "done")
    store.people.claim("ann", "0" * 64)
    store.audit.note("ann", "import", "file")
    note = {"sample": "a", "word_index": 3, "scorer": "v", "scorer_version": "1", "reason": "no digit"}
    store.missing.add([note])
    store.leases.hold("b", "bob")
    store.cursors.move("webhook")
    answer = {"shown": "a", "place": "b", "left": True, "error": "", "says": "", "word": None}
    store.receipts.give("0" * 64, 3, answer)
    store.foreseen.keep_kinds({"a cat": ["object"]})
    store.foreseen.keep({"a": (1.5, 0.5, "1")}, "reward")
    return store


ROWS = {
    "an image out of the folder": ("UPDATE samples SET image_path = '../secret.txt'", "samples, row 'a': image_path"),
    "an image at a place of its own": ("UPDATE samples SET image_path = '/etc/passwd'", "samples, row 'a'"),
    "an image that is none": ("UPDATE samples SET image_path = 'studio.db'", "must name an image"),
    "a sample with a folder's name": (
        f"INSERT INTO samples ({', '.join(COLUMNS)}) SELECT '..', {', '.join(COLUMNS[1:])} FROM samples LIMIT 1",
        "id must be",
    ),
    "a prompt that is too long": (f"UPDATE samples SET prompt = '{'x' * 2001}'", "CHECK|prompt has 2001"),
    "a time with markup": ("UPDATE samples SET created = '<img src=x>'", "created must be a time"),
    "a remark's kind with markup": ("UPDATE remarks SET kind = '<img src=x onerror=alert(1)>'", "CHECK|kind"),
    "a remark of a time with markup": ("UPDATE remarks SET created = '<b>'", "remarks, row .*created"),
    "a flag that is too long": (f"UPDATE remarks SET text = '{'x' * 201}'", "text has 201"),
    "a score past the prompt": ("UPDATE scores SET word_index = 99", "word_index 99 is past"),
    "a distribution of words": (
        """UPDATE scores SET distribution = '["a",0,0,0,0,0,0,0,0,1]' WHERE source = 'vlm'""",
        "distribution",
    ),
    "a person's weight": ("UPDATE scores SET weight = 5000", "CHECK|weight"),
    "an endless entropy": ("UPDATE scores SET entropy = 9e999 WHERE source = 'vlm'", "entropy"),
    "half a hidden state": ("UPDATE scores SET features = x'00' WHERE source = 'vlm'", "features"),
    "an undo of somebody else's": (
        "UPDATE scores SET who = 'eve' WHERE undoes IS NOT NULL",
        "supersedes names no earlier event|undoes names",
    ),
    "an undo of what comes later": (
        "UPDATE scores SET undoes = id, supersedes = NULL WHERE undoes IS NOT NULL",
        "undoes names no earlier event",
    ),
    "a submit that takes itself back": (
        "UPDATE submissions SET undoes = id WHERE undoes IS NOT NULL",
        "no earlier submit or skip",
    ),
    "a step without a name": ("UPDATE scores SET step = ''", "scores, row .*step"),
    "a submit before all": ("UPDATE submissions SET after = -1", "submissions, row .*after"),
    "gold past the prompt": ("UPDATE gold SET word_index = 50", "gold, row .*word_index"),
    "a vote by nobody": ("UPDATE preferences SET who = ' '", "preferences, row .*who is empty"),
    "a promotion of nothing": ("UPDATE promotions SET run = NULL", "CHECK|run"),
    "a run called .": ("INSERT INTO runs (id, kind, config, state, created) SELECT '.', kind, config, state, created "
                       + "FROM runs", "runs, row '.': id must be"),
    "a checkpoint out of the folder": ("UPDATE runs SET checkpoint = '../..'", "checkpoint must be a path"),
    "a checkpoint elsewhere": ("UPDATE runs SET checkpoint = '/home'", "checkpoint must be a path"),
    "a run's settings that are a list": ("UPDATE runs SET config = '[1]'", "config must be a dict"),
    "a question that is no object": ("UPDATE grids SET config = '[]'", "grids, row 'g': config"),
    "a log with a list": ("UPDATE audit SET detail = '7'", "detail must be a JSON object"),
    "a key's digest that is none": (f"UPDATE people SET key_sha256 = '{'<' * 64}'", "people, row .*key_sha256"),
    "a lease for ever": ("UPDATE leases SET expires = 'never'", "expires must be a time"),
    "an answer that is a list": ("UPDATE receipts SET answer = '[]'", "receipts, row .*answer must be a JSON object"),
    "an answer that moves": ("UPDATE receipts SET answer = json_set(answer, '$.left', 7)", "receipts, row .*left"),
    "an endless mean": ("UPDATE means SET mean = 9e999", "means, row 'a': mean"),
    "two stores": ("INSERT INTO store SELECT * FROM store", "store: there must be one row"),
    "a text that is none": ("UPDATE missing SET reason = CAST(x'ff41' AS TEXT)", "decode|text"),
}  # fmt: skip


@pytest.mark.parametrize("name", ["nothing", *ROWS])
def test_a_row_that_no_import_would_take_is_in_no_backup_that_can_be_restored(told, name):
    store, path = told
    statement, says = ROWS.get(name, ("", ""))
    changed(path, statement)
    if name == "nothing":
        assert store.restoring.check_backup(path)["remarks"] == 1
        store.scores.undo("a", "ann")
        assert store.restoring.restore(path)["scores"] == 4
        return
    before = store.labels.snapshot()
    for look in (store.restoring.check_backup, store.restoring.restore):
        with pytest.raises(
            ValueError, match=f"told.db cannot be restored, and nothing was changed: .*({says})"
        ):
            look(path)
    assert store.labels.snapshot() == before and not list(store.database.path.parent.glob(".restore*"))


def rewritten(table, old, new):
    """The text of a table changed in the schema."""
    return (
        "PRAGMA writable_schema = ON",
        f"UPDATE sqlite_master SET sql = replace(sql, '{old}', '{new}') WHERE name = '{table}'",
    )


SCHEMAS = {
    "a CHECK fewer": (rewritten("remarks", "CHECK (kind IN (''flag'', ''note''))", ""), "another table remarks"),
    "a table that is not strict": (rewritten("samples", "STRICT", ""), "another table samples"),
    "a trigger more": (["CREATE TRIGGER t AFTER INSERT ON scores BEGIN DELETE FROM runs; END"],
                       "an additional trigger t of scores"),
    "a trigger fewer": (["DROP TRIGGER scores_no_update"], "no trigger scores_no_update of scores"),
    "another trigger": (
        ["DROP TRIGGER runs_keep", "CREATE TRIGGER runs_keep BEFORE DELETE ON runs BEGIN SELECT RAISE(IGNORE); END"],
        "another trigger runs_keep"),
    "another view": (["DROP VIEW current_human", "CREATE VIEW current_human AS SELECT randomblob(1e9) AS sample"],
                     "another view current_human"),
    "a view for a table": (["DROP TABLE kinds", "CREATE VIEW kinds AS SELECT prompt, '<b>' AS kind FROM samples"],
                           "another view kinds"),
    "an index fewer": (["DROP INDEX scores_lane"], "no index scores_lane of scores"),
    "a table more": (["CREATE TABLE more (a)"], "an additional table more"),
    "a column more": (["ALTER TABLE samples ADD COLUMN g TEXT AS (upper(prompt))"], "another table samples"),
    "a migration fewer": (["DELETE FROM _sqlite_migrations WHERE name = 'm004_people'"], "its migrations have a gap"),
    "an older level by its own word": (["DELETE FROM _sqlite_migrations WHERE name >= 'm016'"],
                                       "another|additional"),
}  # fmt: skip


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_backup_whose_schema_is_another_is_refused(backed, name):
    store, sample, path = backed
    statements, says = SCHEMAS[name]
    with closing(sqlite3.connect(path)) as db, db:
        for statement in statements:
            db.execute(statement)
    for look in (store.restoring.check_backup, store.restoring.restore):
        with pytest.raises(ValueError, match=f"its schema is not this app's .*{says}"):
            look(path)
    assert score(store, sample) == 8


def test_texts_of_another_encoding_are_refused(backed, quick_path):
    store, sample, path = backed
    other = quick_path / "other.db"
    with closing(sqlite3.connect(other)) as db, closing(sqlite3.connect(path)) as of:
        db.execute("PRAGMA encoding = 'UTF-16le'")
        for line in of.iterdump():
            if "sqlite_sequence" not in line and not line.startswith(("BEGIN", "COMMIT")):
                db.execute(line)
        db.commit()
    with pytest.raises(ValueError, match="its texts are not UTF-8"):
        store.restoring.restore(other)
    assert score(store, sample) == 8


@pytest.mark.parametrize(("size", "mode"), [(512, "wal"), (1024, "delete"), (8192, "delete"), (65536, "wal")])
def test_a_backup_of_another_page_size_comes_back(backed, size, mode):
    store, sample, path = backed
    with closing(sqlite3.connect(path)) as db:
        for statement in (f"PRAGMA page_size = {size}", "VACUUM", f"PRAGMA journal_mode = {mode}", "ANALYZE"):
            db.execute(statement)
    assert store.restoring.check_backup(path)["scores"] == 1
    assert store.restoring.restore(path)["scores"] == 1 and score(store, sample) == 3
    store.scores.set(sample, 1, 9, "ann")
    store.restoring.check()
    with closing(sqlite3.connect(store.database.path)) as db:
        kept = [db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_size", "journal_mode")]
    assert kept == [4096, "wal"]


@pytest.mark.parametrize("level", ["m002_missing", "m005_seeds", "m009_confirmed"])
def test_a_backup_of_an_older_level_is_held_against_the_schema_of_that_level(store, quick_path, level):
    old = quick_path / "old.db"
    with closing(sqlite3.connect(old)) as connection, connection:
        db = Database(connection)
        migrations.apply(db, stop_before=level)
        db.execute("INSERT INTO store VALUES ('one', '2026-01-31T12:00:00.000000Z')")
    assert store.restoring.check_backup(old)["samples"] == 0
    with closing(sqlite3.connect(old)) as db:
        db.execute("DROP INDEX samples_prompt")
    with pytest.raises(ValueError, match="no index samples_prompt"):
        store.restoring.restore(old)
