"""An import goes into the store in pieces, others write between them, and all of it comes in however it is interrupted."""

import sqlite3
from contextlib import closing

import pytest

from data.exchange import staging
from data.exchange.jsonl import ImportRefused, export_labels
from data.store import Store, StoreError, imports
from data.store.scores import refresh_figures
from tests import forked
from tests.data.exchanging import fake_units, importers
from tests.forked import die

import_labels, import_csv, *_ = importers(fake_units())
SAMPLES, WORDS = 4, 4
CSV = "sample,word_index,score\n" + "".join(
    f"s{i},{w},{(3 * i + w) % 10}\n" for i in range(SAMPLES) for w in range(WORDS)
)


@pytest.fixture
def small(monkeypatch):
    """Pieces of one sample's words."""
    monkeypatch.setattr(imports, "PIECE", WORDS)
    monkeypatch.setattr(imports, "LEAST", WORDS)


@pytest.fixture
def full(store, sample_row, peaked):
    """Four images with scores of the VLM, a person's scores of two of them, and a file with scores of all."""
    for i in range(SAMPLES):
        store.samples.add([sample_row(id=f"s{i}", seed=i)])
        vlm = {"sample": f"s{i}", "source": "vlm", "scorer": "v", "scorer_version": "1", "word": "x"}
        store.scores.add([{**vlm, "word_index": w, "distribution": peaked(w)} for w in range(WORDS)])
    store.scores.set("s0", 1, 2, "ann", word="x")
    store.scores.set("s1", 1, 7, "bob", word="x")
    store.database.path.with_name("in.csv").write_text(CSV)
    return store


def table(store):
    return store.database.path.with_name("in.csv")


def between(monkeypatch, *work):
    """Do each in turn between two pieces of an import, the first after its first piece."""
    left = list(work)
    monkeypatch.setattr(imports.time, "sleep", lambda seconds: left.pop(0)() if left else None)
    return left


def said(store, who="cyd"):
    """(sample, word, score, what stood there before) of a person's events, in order."""
    with store.database.reading() as db:
        return db.execute(
            """SELECT e.sample, e.word_index, e.score, b.score FROM scores e LEFT JOIN scores b ON b.id = e.supersedes
            WHERE e.who = ? ORDER BY e.seq""",
            (who,),
        ).fetchall()


def figures(store):
    with store.database.reading() as db:
        return [
            db.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall()
            for table in ("means", "disagreement", "uncertainty", "pools")
        ]


def check_figures(store):
    """They are what is worked out from scratch."""
    kept = figures(store)
    with store.database.writing() as db:
        for figure in ("means", "disagreement", "uncertainty"):
            db.execute(f"DELETE FROM {figure}")
        refresh_figures(db, [f"s{i}" for i in range(SAMPLES)])
        db.execute(imports.DISAGREEMENT.format(which="1"))
    assert figures(store) == kept
    store.restoring.check()


def left(store):
    """What lies beside the store of an import."""
    folder = store.database.path.with_name(f"{store.database.path.name}.imports")
    return [path.name for path in folder.iterdir()] if folder.exists() else None


EVENTS = [(f"s{i}", w, (3 * i + w) % 10, None) for i in range(SAMPLES) for w in range(WORDS)]


def whole(store):
    """All of the file is in, once, as an import in one piece leaves it."""
    assert said(store) == EVENTS
    with store.database.reading() as db:
        assert db.execute("SELECT name, total, done FROM imports").fetchall() == [("in.csv", 16, 16)]
    assert left(store) is None
    check_figures(store)


def test_others_write_between_the_pieces(full, small, monkeypatch):
    keys = [lambda n=n: Store(full.database.path).scores.set("s0", 2, n, "eve", word="x") for n in range(3)]
    assert between(monkeypatch, *keys) == keys
    import_csv(full, table(full), "cyd")
    with full.database.reading() as db:
        order = "".join(
            who[0] for (who,) in db.execute("SELECT who FROM scores WHERE who IN ('cyd', 'eve') ORDER BY seq")
        )
    assert order == "ccccecccceccccecccc"
    whole(full)


def test_a_piece_holds_the_lock_for_a_bounded_time(full, monkeypatch):
    sizes, real = [], imports._write_piece
    monkeypatch.setattr(imports, "PIECE", 8)
    monkeypatch.setattr(imports, "LEAST", 2)

    def slow(db, after, upto, exact):
        sizes.append(upto - after)
        real(db, after, upto, exact)
        imports.time.sleep(imports.HOLD * 2)

    monkeypatch.setattr(imports, "_write_piece", slow)
    import_csv(full, table(full), "cyd")
    assert sizes[0] == 8 and sizes[1] < 4 and sum(sizes) == 16
    whole(full)


def test_what_a_person_says_between_the_pieces_counts_as_said_before(full, small, monkeypatch):
    def keys():
        other = Store(full.database.path)
        other.scores.set("s3", 0, 9, "cyd", word="x")  # the same as the file says
        other.scores.set("s3", 1, 5, "cyd", word="x")
        other.scores.set("s3", 2, 7, "dora", word="x")

    between(monkeypatch, keys)
    import_csv(full, table(full), "cyd")
    events = [event[1:] for event in said(full) if event[0] == "s3"]
    assert events == [(0, 9, None), (1, 5, None), (1, 0, 5), (2, 1, None), (3, 2, None)]
    assert full.scores.current("s3")[2]["people"] == {"dora": 7, "cyd": 1}
    check_figures(full)


def dies(store, when):
    """An import that is killed at this point."""
    seen, write, out = [], imports._write_piece, staging.Staging._copy_out
    imports.PIECE = imports.LEAST = WORDS

    def piece(*given):
        write(*given)
        seen.append(given)
        if when == f"in piece {len(seen)}":
            die()

    def copy_out(self, *given):
        out(self, *given)
        if when == "before it begins":
            die()

    imports._write_piece, staging.Staging._copy_out = piece, copy_out
    imports.time.sleep = lambda seconds: when == f"after piece {len(seen)}" and die()
    import_csv(store, table(store), "cyd")


def killed(store, when):
    """An import in a process of its own, which is killed at this point."""
    forked.killed(dies, store, when)
    store.database.close()


@pytest.mark.parametrize(
    ("when", "there"),
    [("after piece 1", 4), ("in piece 2", 4), ("after piece 2", 8), ("in piece 4", 12)],
)
def test_what_a_killed_process_left_is_taken_over(full, when, there):
    killed(full, when)
    assert len(said(full)) == there
    check_figures(full)
    Store(full.database.path).imports.finish()
    whole(full)
    assert [(x["action"], x["subject"], x["detail"]) for x in full.audit.entries()] == [
        ("import", "in.csv", {"resumed": True, "rows": 16})
    ]
    Store(full.database.path).imports.finish()
    whole(full)


@pytest.mark.parametrize("when", ["before it begins", "in piece 1"])
def test_nothing_comes_in_of_an_import_that_was_killed_before_its_first_piece(full, when):
    before = full.labels.snapshot()
    killed(full, when)
    assert len(left(full)) >= 1
    full.imports.finish()
    assert (full.labels.snapshot(), left(full), full.audit.entries()) == (before, None, [])
    import_csv(full, table(full), "cyd")
    whole(full)


def test_the_next_import_comes_after_what_was_left(full):
    killed(full, "after piece 2")
    found = import_csv(full, table(full), "cyd")
    assert found["new"] + found["changed"] == 8  # it was looked at before
    assert said(full) == EVENTS
    check_figures(full)


def test_an_import_that_is_on_is_left_alone(full, small, monkeypatch):
    def another():
        Store(full.database.path).imports.finish()
        assert len(said(full)) == 4
        monkeypatch.setattr(imports, "PATIENCE", 0)
        with pytest.raises(StoreError, match="Another import is on"):
            import_csv(Store(full.database.path), table(full), "dora")

    assert between(monkeypatch, another)
    import_csv(full, table(full), "cyd")
    assert said(full, "dora") == []
    whole(full)


def test_a_disk_that_fails_in_the_middle_leaves_the_rest_for_later(full, small, monkeypatch):
    """The disk is a trigger that refuses a row: no test can fill a real one."""
    with closing(sqlite3.connect(full.database.path)) as db, db:
        db.execute(
            "CREATE TRIGGER full AFTER INSERT ON scores WHEN NEW.who = 'cyd' AND NEW.sample = 's2' "
            "BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END"
        )
    with pytest.raises(StoreError) as refused:
        import_csv(full, table(full), "cyd")
    assert str(refused.value) == (
        "8 of 16 rows of in.csv were taken over when this happened: The disk of studio.db is full. Free some space and try "
        "again. The rest is taken over when the studio next starts, or before the next import."
    )
    assert len(said(full)) == 8 and len(left(full)) == 1
    check_figures(full)
    with pytest.raises(StoreError, match="disk of studio.db is full"):
        full.imports.finish()
    with closing(sqlite3.connect(full.database.path)) as db, db:
        db.execute("DROP TRIGGER full")
    full.imports.finish()
    whole(full)


def test_a_backup_that_replaces_the_store_does_not_get_the_rest(full, small, monkeypatch):
    kept = full.database.vacuum_into(full.database.path.with_name("kept.db"))
    before = full.labels.snapshot()
    assert between(monkeypatch, lambda: full.restoring.restore(kept))
    with pytest.raises(StoreError, match="replaced by a backup meanwhile. Nothing was imported"):
        import_csv(full, table(full), "cyd")
    full.imports.finish()
    assert (full.labels.snapshot(), said(full), left(full)) == (before, [], None)
    check_figures(full)


def test_a_backup_that_was_made_meanwhile_holds_a_part_and_gets_no_more(full, small, monkeypatch):
    kept = full.database.path.with_name("kept.db")
    assert between(monkeypatch, lambda: full.database.vacuum_into(kept))
    import_csv(full, table(full), "cyd")
    full.restoring.restore(kept)
    full.imports.finish()
    assert len(said(full)) == 4
    check_figures(full)
    import_csv(full, table(full), "cyd")
    assert len(said(full)) == 16


def test_an_unfinished_import_without_its_file_is_dropped_and_logged(full, caplog):
    killed(full, "after piece 2")
    (file,) = full.database.path.with_name("studio.db.imports").iterdir()
    file.unlink()
    full.imports.finish()
    assert "The rest of an import is lost (in.csv, 8 of 16 rows are in)" in caplog.text
    assert (len(said(full)), left(full)) == (8, None)
    caplog.clear()
    full.imports.finish()
    assert not caplog.records
    check_figures(full)


def test_a_file_with_everything_comes_back_byte_for_byte_in_pieces(full, small, monkeypatch, quick_path):
    full.scores.undo("s0", "ann")
    full.scores.set("s3", 0, 1, "ann")
    full.queue.submit("s3", "ann")
    full.queue.come_back("s3", "ann")
    full.scores.set("s0", 0, 3, "bob")
    export_labels(full, quick_path / "in.jsonl")
    other = Store(quick_path / "other.db")
    import_labels(other, quick_path / "in.jsonl")
    export_labels(other, quick_path / "out.jsonl")
    assert (quick_path / "in.jsonl").read_bytes() == (quick_path / "out.jsonl").read_bytes()
    assert figures(other) == figures(full)
    with other.database.reading() as db:
        (total,) = db.execute("SELECT total FROM imports").fetchone()
    assert total > 4 * imports.PIECE


def test_what_is_undone_between_the_pieces_is_undone_once(full, small, monkeypatch, quick_path):
    other = Store(full.database.vacuum_into(quick_path / "other.db"))
    for word in (0, 2, 3):
        other.scores.set("s0", word, 5, "bob", word="x")
    other.scores.set("s2", 0, 5, "bob", word="x")
    other.queue.submit("s1", "bob")
    other.scores.undo("s0", "ann")
    export_labels(other, quick_path / "in.jsonl")
    assert between(monkeypatch, lambda: Store(full.database.path).scores.undo("s0", "ann"))
    import_labels(full, quick_path / "in.jsonl")
    assert [(e[1], e[2]) for e in said(full, "ann")] == [(1, 2), (1, None), (1, None)]
    check_figures(full)
    full.restoring.check_backup(full.database.vacuum_into(quick_path / "kept.db"))


@pytest.mark.parametrize("dry", [False, True])
def test_bad_input_leaves_every_byte_as_it_was(full, small, dry):
    full.database.close()
    files = {path.name: path.read_bytes() for path in full.database.path.parent.iterdir()}
    table(full).write_text(CSV + "s0,99,1\n")
    with pytest.raises(ImportRefused, match="line 18: "):
        import_csv(full, table(full), "cyd", dry)
    full.database.close()
    table(full).write_text(CSV)
    assert {path.name: path.read_bytes() for path in full.database.path.parent.iterdir()} == files


def test_the_same_file_again_finds_all_of_it_there_though_only_a_part_was(
    full, small, monkeypatch, quick_path
):
    class Killed(BaseException):
        pass

    def die():
        raise Killed

    export_labels(full, quick_path / "in.jsonl")
    other = Store(quick_path / "other.db")
    between(monkeypatch, die)
    with pytest.raises(Killed):
        import_labels(other, quick_path / "in.jsonl")
    assert other.samples.count() == SAMPLES and left(other)
    found = import_labels(other, quick_path / "in.jsonl")
    assert (found["samples_known"], found["events"], found["events_known"]) == (SAMPLES, 0, 18)
    assert other.labels.snapshot()["sha256"] == full.labels.snapshot()["sha256"] and left(other) is None
    assert figures(other) == figures(full)
