"""data/store/schema.py: a store of any earlier level opens with all that it holds and becomes as a new one is."""

import pytest
from sqlite_utils import Database

from data.store import Store, StoreError
from data.store.schema import migrations
from tests.data.store.test_database import FIRST_RUN

SCHEMA = "SELECT name, sql FROM sqlite_master WHERE type IN ('table', 'view', 'trigger', 'index')"
LEVELS = [migration.name for migration in migrations.pending(Database(memory=True))][1:]


def figures(store):
    with store.database.reading() as db:
        return {
            "disagreement": db.execute("SELECT sample, points FROM disagreement").fetchall(),
            "means": db.execute("SELECT sample, mean FROM means").fetchall(),
            "pools": db.execute(
                "SELECT split, method, projector_run, samples FROM pools ORDER BY method"
            ).fetchall(),
        }


@pytest.mark.parametrize("level", LEVELS)
def test_a_store_of_any_earlier_level_opens_with_its_rows_and_their_figures(older_store, sample_row, level):
    moved = {"method": "projected", "projector_run": "r"}
    samples = [
        sample_row(id="a", backbone_revision="b1"),
        sample_row(id="b", seed=2, backbone_revision="b1", **moved),
    ]
    event = {"sample": "a", "word_index": 0, "word": "a", "kind": "set", "scorer": "", "scorer_version": "", "weight": 1,
             "created": "2026-01-01T00:00:00.000000Z"}  # fmt: skip
    said = [("vlm", "", 3), ("human", "ann", 9), ("human", "bob", 4)]
    scores = [{**event, "id": f"e{i}", "source": a, "who": b, "score": c} for i, (a, b, c) in enumerate(said)]
    path = older_store(level, samples, runs=[FIRST_RUN], scores=scores)
    store, new = Store(path), Store(path.with_name("new.db"))
    store.restoring.check()
    assert [s["projector_run"] for s in store.samples.find()] == ["r", None]
    made_with = {(s["negative"], s["weighted"], s["loras"]) for s in store.samples.find()}
    assert made_with == {("", "", "[]")}  # before there were such options
    assert store.runs.get("r")["kind"] == "projector" and len(store.scores.history("ann")) == 1
    assert [(x["source"], x["score"]) for x in store.labels.current()] == [("human", 4)]
    pools = [("train", "none", "", 1), ("train", "projected", "r", 1)]
    kept = {"means": [("a", 4.0)], "disagreement": [("a", 5.0)], "pools": pools}
    assert figures(store) == kept
    with store.database.reading() as db, new.database.reading() as other:
        assert dict(db.execute(SCHEMA)) == dict(other.execute(SCHEMA))
    store.queue.submit("b", "cyd", [{"word_index": 0, "word": "a", "score": 6}])
    assert store.runs.get(store.runs.new("experiment", {}))["kind"] == "experiment"
    with pytest.raises(StoreError, match="CHECK"), store.database.writing() as db:
        db.execute("INSERT INTO runs (id, kind, config, state, created) VALUES ('x', 'y', '{}', 'done', '')")


def test_figures_from_before_there_was_a_promise_are_worked_out_anew(older_store, sample_row):
    samples = [sample_row(id="a", backbone_revision="b1"), sample_row(id="b", backbone_revision="b1")]
    unsure = [{"sample": id, "entropy": 0.5} for id in "ab"]
    foreseen = [{"sample": id, "points": 3.0, "model": "r1 "} for id in "ab"]
    store = Store(older_store("m010_rounds", samples, uncertainty=unsure, foreseen=foreseen))
    assert store.foreseen.missing("r1", "b1") == ["b", "a"]
    assert store.queue.next("ann", "projected") is None


def test_brackets_of_a_negative_prompt_beside_weights_are_escaped_as_they_weighed_nothing(
    older_store, sample_row
):
    samples = [
        sample_row(id="a", weighted="a (red:1.3) cat", negative=r"(bad:1.3) \ [hands]"),
        sample_row(id="b", weighted="", negative="(bad:1.3)"),
        sample_row(id="c", weighted="a (red:1.3) cat", negative="(" * 1999),
    ]
    store = Store(older_store("m016_kinds", samples))
    negatives = [row["negative"] for row in store.samples.find(newest=False)]
    assert negatives == [r"\(bad:1.3\) \\ \[hands\]", "(bad:1.3)", "(" * 1999]
    with pytest.raises(StoreError, match="append-only"), store.database.writing() as db:
        db.execute("UPDATE samples SET negative = ''")
