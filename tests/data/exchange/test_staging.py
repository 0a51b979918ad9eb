"""An import is read and checked beside the store: others write meanwhile, and the lock is held only to write."""

import os
import sqlite3
import threading
from contextlib import closing
from hashlib import sha256

import pytest

from data.exchange import jsonl
from data.exchange.folder import export_folder
from data.exchange.jsonl import ImportRefused, export_labels
from data.exchange.pairs import export_dpo, import_dpo
from data.exchange.parquet import export_parquet
from data.exchange.words import RICHHF, export_words
from data.store import Store, StoreError
from data.store.scores import refresh_figures
from tests.data.exchanging import fake_units, importers

import_labels, import_csv, import_words, import_parquet, import_folder = importers(fake_units())


@pytest.fixture
def full(store, sample_row, peaked, quick_path):
    """Three images with files and scores of the VLM; a person's scores of two of them."""
    (quick_path / "images").mkdir()
    for i in range(3):
        (quick_path / f"images/{i}.png").write_bytes(bytes([i]))
        path = {"image_path": f"images/{i}.png", "image_sha256": sha256(bytes([i])).hexdigest()}
        store.samples.add([sample_row(id=f"s{i}", seed=i, **path)])
        vlm = {"sample": f"s{i}", "source": "vlm", "scorer": "v", "scorer_version": "1"}
        store.scores.add([{**vlm, "word_index": w, "word": "x", "distribution": peaked(w)} for w in range(4)])
    store.scores.set("s0", 1, 2, "ann", word="x")
    store.scores.set("s1", 1, 7, "bob", word="x")
    return store


CSV = "sample,word_index,score\n" + "".join(
    f"s{i},{w},{(3 * i + w) % 10}\n" for i in range(3) for w in range(4)
)


def written(full, folder, kind):
    """A file of this format, and what takes it over."""
    path = folder / f"in.{kind}"
    if kind == "csv":
        path.write_text(CSV)
        return lambda store, dry: import_csv(store, path, "cyd", dry)
    if kind == "jsonl":
        export_labels(full, path)
        return lambda store, dry: import_labels(store, path, None, dry)
    if kind == "richhf":
        export_words(full, path, RICHHF)
        return lambda store, dry: import_words(store, path, RICHHF, "cyd", dry)
    if kind == "dpo":
        export_dpo(full, path)
        return lambda store, dry: import_dpo(store, path, "cyd", dry)
    if kind == "parquet":
        export_parquet(full, path)
        return lambda store, dry: import_parquet(store, path, "cyd", dry)
    export_folder(full, path, folder)
    return lambda store, dry: import_folder(store, path, "cyd", dry)


KINDS = ["csv", "jsonl", "richhf", "dpo", "parquet", "folder"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_dry_run_needs_no_lock_and_the_schema_stays_as_it_was(full, quick_path, kind):
    def schema():
        with closing(sqlite3.connect(full.database.path)) as db:
            return sorted(db.execute("SELECT type, name, sql FROM sqlite_master").fetchall(), key=str)

    before, take = schema(), written(full, quick_path, kind)
    with closing(sqlite3.connect(full.database.path)) as other:
        other.execute("BEGIN IMMEDIATE")  # somebody writes, for as long as it takes
        other.execute("INSERT INTO cursors VALUES ('x', 1, 'now')")
        assert take(full, True)["changes"] is not None
    take(full, False)
    assert schema() == before
    full.restoring.check_backup(full.database.vacuum_into(quick_path / "copy.db"))


def during(path, content, work):
    """Send the content through a pipe, half of it before ``work()``, which is done while the reader waits for the rest."""
    os.mkfifo(path)

    def send():
        half = len(content) // 2
        with open(path, "wb") as pipe:
            pipe.write(content[:half])
            pipe.flush()
            work()
            pipe.write(content[half:])

    thread = threading.Thread(target=send)
    thread.start()
    return thread


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="a system without named pipes")
@pytest.mark.parametrize("kind", ["csv", "jsonl", "richhf", "dpo"])
def test_while_a_file_is_read_others_write(full, quick_path, sample_row, kind):
    take, said = written(full, quick_path, kind), []
    content = (quick_path / f"in.{kind}").read_bytes()
    (quick_path / f"in.{kind}").unlink()
    full.samples.add([sample_row(id="another", seed=9)])

    def key():
        said.append(Store(full.database.path).scores.set("another", 1, 5, "eve")["id"])

    thread = during(quick_path / f"in.{kind}", content, key)
    take(full, False)
    thread.join()
    assert [event["id"] for event in full.scores.history("eve")] == said != []


def figures(store):
    with store.database.reading() as db:
        return [
            db.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall() for table in ("means", "disagreement")
        ]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="a system without named pipes")
def test_what_others_say_meanwhile_counts_as_said_before(full, quick_path):
    def keys():
        other = Store(full.database.path)
        other.scores.set("s0", 0, 9, "dora", word="x")
        other.scores.set("s1", 2, 5, "cyd", word="x")  # the same as the file says
        other.scores.set("s2", 2, 1, "cyd", word="x")

    thread = during(quick_path / "in.csv", CSV.encode(), keys)
    import_csv(full, quick_path / "in.csv", "cyd")
    thread.join()
    events = full.scores.history("cyd", sample="s1")
    assert [(e["word_index"], e["score"]) for e in events if e["word_index"] == 2] == [(2, 5)]
    after, before = (e for e in full.scores.history("cyd", sample="s2") if e["word_index"] == 2)
    assert (before["score"], after["score"], after["supersedes"]) == (1, 8, before["id"])
    assert {(x["sample"], x["word_index"]): x["score"] for x in full.labels.current()}["s0", 0] == 0
    kept = figures(full)
    with full.database.writing() as db:
        refresh_figures(db, ["s0", "s1", "s2"])
    assert figures(full) == kept
    full.restoring.check()


def test_scores_that_come_in_leave_what_keys_would(full, quick_path):
    (quick_path / "in.csv").write_text(CSV)
    copy = Store(full.database.vacuum_into(quick_path / "copy.db"))
    import_csv(full, quick_path / "in.csv", "cyd")
    for line in CSV.splitlines()[1:]:
        sample, word, score = line.split(",")
        people = copy.scores.current(sample)[int(word)]["people"]
        if int(score) not in people.values():
            copy.scores.set(sample, int(word), int(score), "cyd")
    assert figures(copy) == figures(full)
    for one in (copy, full):  # what keeps the figures goes on
        one.scores.set("s0", 3, 0, "eve")
    assert figures(copy) == figures(full)
    first, other = (
        [(x["sample"], x["word_index"], x["score"]) for x in s.labels.current()] for s in (copy, full)
    )
    assert first == other


@pytest.mark.parametrize("kind", ["csv", "jsonl", "dpo"])
def test_a_disk_that_fails_at_the_end_leaves_nothing(full, quick_path, kind):
    """The disk is a trigger that refuses a row: no test can fill a real one."""
    take = written(full, quick_path, kind)
    target = Store(quick_path / "other.db") if kind == "jsonl" else full
    table = {"dpo": "preferences"}.get(kind, "scores")
    with closing(sqlite3.connect(target.database.path)) as db, db:
        db.execute(
            f"CREATE TRIGGER full AFTER INSERT ON {table} WHEN (SELECT count(*) FROM {table}) % 4 = 1 "
            "BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END"
        )
    before = target.labels.snapshot(), target.votes.find(), target.samples.count(), figures(target)
    with pytest.raises(StoreError, match="disk of .* is full; nothing was changed"):
        take(target, False)
    assert (target.labels.snapshot(), target.votes.find(), target.samples.count(), figures(target)) == before
    with closing(sqlite3.connect(target.database.path)) as db, db:
        assert db.execute("SELECT count(*) FROM sqlite_master WHERE name = 'scores_means'").fetchone() == (1,)
        db.execute("DROP TRIGGER full")
    take(target, False)
    target.restoring.check()


def between(monkeypatch, work):
    """Somebody writes after the file has been checked and before it is written, the first ``len(work)`` times."""
    real, left = jsonl.LabelImport.finish, list(work)

    def finish(self):
        found = real(self)
        if left:
            left.pop(0)()
        return found

    monkeypatch.setattr(jsonl.LabelImport, "finish", finish)


def test_what_is_undone_meanwhile_is_not_undone_twice(full, quick_path, monkeypatch):
    other = Store(full.database.vacuum_into(quick_path / "other.db"))
    other.scores.undo("s0", "ann")
    export_labels(other, quick_path / "in.jsonl")
    between(monkeypatch, [lambda: Store(full.database.path).scores.undo("s0", "ann")])
    with pytest.raises(ImportRefused, match="undone twice"):
        import_labels(full, quick_path / "in.jsonl")
    assert len(full.scores.history("ann")) == 2


def test_an_import_of_the_same_file_meanwhile_is_the_same_as_before(full, quick_path, monkeypatch):
    export_labels(full, quick_path / "in.jsonl")
    other = Store(quick_path / "other.db")
    between(monkeypatch, [lambda: import_labels(Store(other.database.path), quick_path / "in.jsonl")])
    found = import_labels(other, quick_path / "in.jsonl")
    assert (found["samples"], found["samples_known"], found["events"]) == (0, 3, 0)
    assert other.labels.snapshot()["sha256"] == full.labels.snapshot()["sha256"]


def test_however_often_others_import_an_import_comes_to_its_end(full, quick_path, monkeypatch):
    other = Store(full.database.vacuum_into(quick_path / "other.db"))
    other.scores.set("s2", 1, 4, "ann")
    export_labels(other, quick_path / "in.jsonl")
    (quick_path / "in.csv").write_text(CSV)
    left = ["cyd", "dora", "eve"]

    def another():
        import_csv(Store(full.database.path), quick_path / "in.csv", left.pop(0))

    between(monkeypatch, [another, another])
    assert import_labels(full, quick_path / "in.jsonl")["events"] == 1
    assert left == ["eve"] and full.scores.current("s2")[1]["people"]["ann"] == 4


def test_a_store_that_was_replaced_meanwhile_gets_nothing(full, quick_path, monkeypatch):
    kept = full.database.vacuum_into(quick_path / "kept.db")
    full.scores.set("s0", 3, 1, "eve")
    export_labels(full, quick_path / "in.jsonl")
    between(monkeypatch, [lambda: Store(full.database.path).restoring.restore(kept)])
    monkeypatch.setattr("data.store.database.BUSY_SECONDS", 0.5)
    full.database.close()
    with pytest.raises(
        StoreError, match="stayed in use"
    ):  # the restore is what waits in vain: the import reads
        import_labels(full, quick_path / "in.jsonl")
