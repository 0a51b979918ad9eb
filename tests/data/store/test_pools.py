"""Pools count the samples that the queue's filters tell apart, and every filter finds what it would find without them."""

from __future__ import annotations

import itertools
import random

import pytest
from sqlite_utils import Database

from data.store import Store, queue, schema
from data.store.database import insert, now
from data.store.queue import ORDERS

KINDS = {"a red star": ["colour", "object"], "two stars": ["count", "object"], "a star": ["object"]}
VALUES = {
    "prompt": ["a red star", "nothing"],
    "prompt_set": ["", "mine", "other"],
    "method": ["none", "pag", "nobody's"],
    "projector_run": ["r", "x"],
    "split": ["train", "heldout"],
    "backbone": ["one", "two"],
    "kind": ["colour", "count", "size"],
}


def drawn(sample_row, count=40):
    """Rows of samples, drawn from one seed: some pools have many, some one, some none."""
    dice = random.Random(5)
    return [
        sample_row(
            id=f"s{i:02d}",
            prompt=dice.choice(list(KINDS)),
            prompt_set=dice.choice(["", "mine"]),
            method=(method := dice.choice(["none", "none", "pag", "projected"])),
            projector_run="r" if method == "projected" else None,
            split=dice.choice(["train", "train", "heldout"]),
            backbone=dice.choice(["one", "one", "two"]),
            seed=i,
        )
        for i in range(count)
    ]


@pytest.fixture
def full(store, sample_row, peaked):
    store.runs.new("projector", {}, id="r")
    rows = drawn(sample_row)
    store.samples.add(rows)
    for i, r in enumerate(rows):
        said = {"sample": r["id"], "word_index": 0}
        store.scores.add([{**said, "source": "vlm", "distribution": peaked(3, 0.2 + i / 60)}])
        store.scores.add(
            [{**said, "source": "human", "who": who, "score": s} for who, s in (("x", 1), ("y", 4))]
        )
    store.foreseen.keep({r["id"]: (1 + i / 40, i / 40, "1") for i, r in enumerate(rows)}, "reward")
    store.foreseen.keep_kinds(KINDS)
    return store


def counted(store):
    """What the pools say, and what they should say."""
    names = "split, prompt_set, method, backbone"
    with store.database.reading() as db:
        kept = db.execute(f"SELECT {names}, projector_run, samples FROM pools").fetchall()
        there = db.execute(
            f"SELECT {names}, coalesce(projector_run, ''), count(*) FROM samples GROUP BY 1, 2, 3, 4, 5"
        ).fetchall()
    return sorted(kept), sorted(there)


def test_the_pools_count_every_sample(full, sample_row):
    kept, there = counted(full)
    assert kept == there and len(kept) > 10
    full.samples.add([sample_row(method="new"), sample_row(method="new", seed=2)])
    assert ("train", "", "new", "data/models/diffuser", "", 2) in counted(full)[0]
    with pytest.raises(ValueError, match="stored already"):
        full.samples.add([sample_row(method="newer"), sample_row(id="s00")])
    kept, there = counted(full)
    assert kept == there


def test_a_store_from_before_the_pools_is_counted(quick_path, sample_row, before_word_rules):
    db = Database(quick_path / "old.db")
    schema.migrations.apply(db, stop_before="m007_pools")
    insert(db, "store", {"id": "s", "created": now()})
    insert(db, "runs", {"id": "r", "kind": "projector", "config": "{}", "state": "done", "created": now()})
    for record in drawn(sample_row):
        insert(db, "samples", before_word_rules(record))
    db.conn.commit()
    db.close()
    kept, there = counted(Store(quick_path / "old.db"))
    assert kept == there and sum(pool[-1] for pool in kept) == 40


def given(store, order, filters, **more):
    found = store.queue.next("ann", order, **filters, **more)
    return found and found["id"]


@pytest.mark.parametrize(("few", "share"), [(0, 5), (0, 1), (3, 2), (1000, 5)])
@pytest.mark.parametrize("order", ORDERS)
def test_any_two_filters_find_what_they_leave_however_it_is_found(full, order, few, share, monkeypatch):
    """The reference is a look at every sample."""
    monkeypatch.setattr(queue, "FEW", few)
    monkeypatch.setattr(queue, "SHARE", share)
    samples = full.samples.find(limit=1000)
    figure = {
        "uncertainty": lambda s: -int(s["id"][1:]),
        "reward": lambda s: int(s["id"][1:]),
        "projected": lambda s: (s["method"] == "projected", int(s["id"][1:])),
        "newest": lambda s: s["seq"],
    }.get(order)
    for one, other in itertools.combinations(VALUES, 2):
        for values in itertools.product(VALUES[one], VALUES[other]):
            filters = dict(zip((one, other), values, strict=True))
            left = [
                s
                for s in samples
                if all(v in KINDS[s["prompt"]] if k == "kind" else s[k] == v for k, v in filters.items())
            ]
            found = given(full, order, filters)
            assert (found in {s["id"] for s in left}) if left else found is None, filters
            if figure and left:
                assert found == max(left, key=figure)["id"], filters
    assert given(full, order, {"method": ["pag", "projected"], "projector_run": ["r"]}) is not None


@pytest.mark.parametrize("filters", [{"method": "nobody's"}, {"prompt_set": "mine", "projector_run": "x"}])
@pytest.mark.parametrize("order", ORDERS)
def test_where_a_filter_leaves_nothing_no_sample_is_looked_at(full, order, filters, monkeypatch):
    looked = []

    def spy(db, sql, values=()):
        plan = [r[3] for r in db.execute(f"EXPLAIN QUERY PLAN {sql}", values)]
        looked.extend(step for step in plan if step.startswith("SCAN") and "json_each" not in step)
        return real(db, sql, values)

    real = queue.rows
    monkeypatch.setattr(queue, "rows", spy)
    assert full.queue.next("ann", order, **filters) is None
    assert not [step for step in looked if not step.startswith(("SCAN b", "SCAN CONSTANT ROW"))], looked
