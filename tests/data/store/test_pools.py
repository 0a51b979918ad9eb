"""Pools count the samples that the queue's filters tell apart, and every filter finds what it would find without them."""

import itertools
import random

import pytest

from data.store import queue
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


@pytest.fixture(scope="module")
def full(module_store, sample_row, peaked):
    """Read by all tests of this module; what one adds, is another's too."""
    store = module_store
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


def test_the_pools_count_every_sample(full, sample_row, copy_of):
    full = copy_of(full)
    kept, there = counted(full)
    assert kept == there and len(kept) > 10
    full.samples.add([sample_row(method="new"), sample_row(method="new", seed=2)])
    assert ("train", "", "new", "data/models/diffuser", "", 2) in counted(full)[0]
    with pytest.raises(ValueError, match="stored already"):
        full.samples.add([sample_row(method="newer"), sample_row(id="s00")])
    kept, there = counted(full)
    assert kept == there


PAIRS = [
    dict(zip(names, values, strict=True))
    for names in itertools.combinations(VALUES, 2)
    for values in itertools.product(*(VALUES[name] for name in names))
]


@pytest.mark.parametrize(("few", "share"), [(0, 5), (0, 1), (3, 2), (1000, 5)])
@pytest.mark.parametrize("order", ORDERS)
def test_any_two_filters_find_what_they_leave_however_it_is_found(full, order, few, share, monkeypatch):
    """The reference is a look at every sample; each order takes another part of the pairs."""
    monkeypatch.setattr(queue, "FEW", few)
    monkeypatch.setattr(queue, "SHARE", share)
    samples = full.samples.find(limit=1000)
    figure = {
        "uncertainty": lambda s: -int(s["id"][1:]),
        "reward": lambda s: int(s["id"][1:]),
        "projected": lambda s: (s["method"] == "projected", int(s["id"][1:])),
        "newest": lambda s: s["seq"],
    }.get(order)

    def holds(sample, name, value):
        return value in KINDS[sample["prompt"]] if name == "kind" else sample[name] == value

    for filters in PAIRS[list(ORDERS).index(order) % 3 :: 3]:
        left = [s for s in samples if all(holds(s, *one) for one in filters.items())]
        found = (full.queue.next("ann", order, **filters) or {}).get("id")
        assert (found in {s["id"] for s in left}) if left else found is None, filters
        if figure and left:
            assert found == max(left, key=figure)["id"], filters
    assert full.queue.next("ann", order, method=["pag", "projected"], projector_run=["r"])
