"""A search of the library begins with its narrowest part, and finds what a look at every sample would find."""

import itertools
import random

import pytest

from data.store import library
from data.store.library import SORTS, plan_search

VALUES = {
    "text": ["star", "red", "s07", "nothing"],
    "prompt_set": ["", "mine"],
    "split": ["train"],
    "method": ["none", "pag", "nobody's"],
    "projector_run": ["r", "x"],
    "seed": [3],
    "who": ["*", "ann", "nobody"],
    "remark": ["flag"],
    "disagreement": [3.0],
    "mean_from": [3.5],
    "mean_to": [3.5],
}


@pytest.fixture(scope="module")
def full(module_store, sample_row, peaked):
    """Only read by the tests."""
    store = module_store
    store.runs.new("projector", {}, id="r")
    dice = random.Random(4)
    for i in range(40):
        method = dice.choice(["none", "none", "pag", "projected"])
        store.samples.add([
            sample_row(id=f"s{i:02d}", prompt=f"a {dice.choice(['red', 'blue'])} {dice.choice(['star', 'ring'])}",
                       prompt_set=dice.choice(["", "mine"]), method=method, seed=dice.randrange(6),
                       projector_run="r" if method == "projected" else None,
                       split=dice.choice(["train", "train", "heldout"]))
        ])  # fmt: skip
        said = {"sample": f"s{i:02d}", "word_index": 1, "source": "vlm"}
        store.scores.add([{**said, "distribution": peaked(3, 0.2 + i / 60)}])
    for i in range(0, 40, 3):
        store.scores.set(f"s{i:02d}", 1, 1, "ann")
    for i in range(0, 40, 4):
        store.scores.set(f"s{i:02d}", 1, 6, "bob")
    for i in range(0, 40, 5):
        store.remarks.flag(f"s{i:02d}", "ann", "cut off")
    return store


def holds(store, sample, name, value):
    """Whether a part of a search holds of a sample, without SQL."""
    number = int(sample["id"][1:])
    people = {"ann": number % 3 == 0, "bob": number % 4 == 0}
    return {
        "text": lambda: value in sample["prompt"] or value == sample["id"],
        "who": lambda: any(people.values()) if value == "*" else people.get(value, False),
        "remark": lambda: number % 5 == 0,
        "disagreement": lambda: number % 12 == 0,
        "mean_from": lambda: sample["mean"] >= value,
        "mean_to": lambda: sample["mean"] <= value,
    }.get(name, lambda: sample[name] == value)()


PAIRS = [
    dict(zip(names, values, strict=True))
    for names in itertools.combinations(VALUES, 2)
    for values in itertools.product(*(VALUES[name] for name in names))
]


@pytest.mark.parametrize("few", [20_000, 8, 1], ids=["narrow", "some", "walked"])
@pytest.mark.parametrize("sort", SORTS)
def test_any_two_parts_find_what_they_leave_in_the_order_asked_for(full, sort, few, monkeypatch):
    """Each order takes another part of the pairs."""
    monkeypatch.setattr(library, "FEW", few)
    if few == 1:
        monkeypatch.setattr(library, "COUNTED", 2)
    whole = full.library.search(sort=sort, limit=1000)["samples"]
    for asked in PAIRS[list(SORTS).index(sort) % 4 :: 4]:
        left = [s["id"] for s in whole if all(holds(full, s, k, v) for k, v in asked.items())]
        found = full.library.search(sort=sort, limit=1000, **asked)
        assert [s["id"] for s in found["samples"]] == left, asked
        assert found["count"] == min(len(left), library.COUNTED), asked


@pytest.mark.parametrize(
    ("asked", "begins"),
    [
        ({"split": "train", "remark": "flag"}, "remarks"),
        ({"split": "train", "who": "ann"}, "scores WHERE who"),
        ({"text": "a", "method": "nobody's"}, "pools"),
        ({"text": "s07", "split": "train"}, "prompt IN"),
        ({"seed": 3, "prompt_set": "mine"}, "samples_seed"),
        ({"text": "a", "disagreement": 8.0}, "disagreement"),
        ({"text": "a", "mean_from": 8.0}, "means"),
    ],
    ids=str,
)
def test_a_search_begins_with_its_narrowest_part(full, asked, begins):
    filters = {name: value for name, value in asked.items() if name != "text"}
    with full.database.reading() as db:
        found = plan_search(db, asked.get("text", ""), filters)
    assert begins in found.source
