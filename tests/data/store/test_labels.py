"""Labels: which score counts, and snapshots that give the same labels for ever."""

import json
import random

import pytest

from data.store import Store, StoreError
from data.store.labels import RULE, agreed, expected


@pytest.fixture
def sample(store, sample_row):
    return store.samples.add([sample_row(noise_sha256="b" * 64, seed=2**63 - 1)])[0]


def say(store, sample, source, score, who="", word_index=1, **more):
    event = {"sample": sample, "word_index": word_index, "word": "red", "source": source, "score": score}
    store.scores.add([{**event, "who": who, **more}])


SAID = {
    "vlm": ("vlm", 1, ""),
    "calibrated": ("calibrated", 2, ""),
    "simulated": ("simulated", 3, "detector"),
    "human": ("human", 4, "ann"),
}


@pytest.mark.parametrize(
    ("sources", "filters", "wanted"),
    [
        (["vlm"], {}, ("vlm", 1)),
        (["vlm", "calibrated"], {}, ("vlm", 1)),
        (["vlm", "calibrated"], {"include_calibrated": True}, ("calibrated", 2)),
        (["simulated", "vlm", "calibrated"], {"include_calibrated": True}, ("simulated", 3)),
        (["human", "simulated", "vlm", "calibrated"], {"include_calibrated": True}, ("human", 4)),
        (["human", "vlm"], {"sources": ["vlm"]}, ("vlm", 1)),
        (["human", "simulated", "vlm"], {"sources": ["vlm", "simulated"]}, ("simulated", 3)),
        (["calibrated"], {}, None),
        (["vlm"], {"split": "heldout"}, None),
        (["vlm"], {"split": "train", "method": ["none", "projected"]}, ("vlm", 1)),
    ],
)
def test_the_most_trusted_source_gives_the_label(store, sample, sources, filters, wanted):
    for source in sources:
        say(store, sample, *SAID[source])
    found = store.labels.current(**filters)
    assert [(x["source"], x["score"]) for x in found] == ([wanted] if wanted else [])


def test_a_label_carries_what_training_needs(store, sample, peaked):
    say(store, sample, "vlm", 7, distribution=peaked(7), weight=0.5, scorer="tiny", scorer_version="3")
    (row,) = store.labels.current()
    assert (row["sample"], row["word_index"], row["word"], row["weight"]) == (sample, 1, "red", 0.5)
    assert (row["prompt"], row["seed"]) == ("a red circle above a blue square", 2**63 - 1)
    assert (row["method"], row["projector_run"], row["noise_sha256"]) == ("none", None, "b" * 64)
    assert sum(row["distribution"]) == pytest.approx(1, abs=1e-4)
    assert json.dumps(row)


def test_a_correction_that_was_taken_back_or_undone_does_not_count(store, sample):
    say(store, sample, *SAID["vlm"])
    store.scores.set(sample, 1, 9, "ann")
    store.scores.clear(sample, 1, "ann")
    assert store.labels.current()[0]["source"] == "vlm"
    store.scores.undo(None, "ann")
    assert (store.labels.current()[0]["source"], store.labels.current()[0]["score"]) == ("human", 9)
    store.scores.undo(None, "ann")
    assert store.labels.current()[0]["source"] == "vlm"


def test_of_several_people_the_median_counts_and_of_two_middle_scores_the_lower(store, sample_row):
    cases = {(3,): 3, (3, 5): 3, (5, 3): 3, (9, 3, 3): 3, (4, 3): 3, (0, 9): 0, (8, 2, 9, 5): 5, (7, 7): 7}
    ids = store.samples.add([sample_row(seed=i) for i in range(len(cases))])
    for id, (scores, score) in zip(ids, cases.items(), strict=True):
        assert agreed(scores) == score
        for i, s in enumerate(scores):
            store.scores.set(id, 1, s, f"person {i}", weight=1 + i)
        (row,) = store.labels.current(ids=[id])
        assert (row["score"], row["distribution"]) == (score, None)
        assert row["weight"] == 1 + (len(scores) - 1) / 2 and len(row["events"]) == len(scores)
    store.scores.clear(ids[3], 1, "person 1")  # who no longer counts: of 9 and 3 the lower
    assert store.labels.current(ids=[ids[3]])[0]["score"] == 3
    store.scores.clear(ids[3], 1, "person 2")
    assert store.labels.current(ids=[ids[3]])[0]["score"] == 9


def test_a_snapshot_gives_the_same_labels_after_more_was_said(store, sample_row, peaked, quick_path):
    dice = random.Random(3)
    ids = store.samples.add([sample_row(seed=i) for i in range(6)])

    def chatter(n):
        for _ in range(n):
            sample, word = dice.choice(ids), dice.randrange(4)
            move = dice.randrange(5)
            if move == 0:
                say(store, sample, "vlm", None, word_index=word, distribution=peaked(dice.randrange(10)))
            elif move == 1:
                say(store, sample, "calibrated", dice.randrange(10), word_index=word)
            elif move == 2:
                store.scores.undo(None, "ann")
            else:
                store.scores.set(sample, word, dice.randrange(10), dice.choice(["ann", "bob"]))

    chatter(60)
    kept = []
    for filters in ({}, {"include_calibrated": True}, {"sources": ["vlm"]}, {"ids": ids[:2]}):
        kept.append(
            (json.loads(json.dumps(store.labels.snapshot(**filters))), store.labels.current(**filters))
        )
    chatter(60)
    store.samples.add([sample_row(seed=99)])
    copy = Store(store.database.vacuum_into(quick_path / "copy.db"))
    for snapshot, labels in kept:
        assert snapshot["count"] == len(labels) == sum(snapshot["sources"].values())
        assert store.labels.current(snapshot) == labels
        assert copy.labels.current(snapshot) == labels
    assert store.labels.current() != kept[0][1]


def test_a_snapshot_that_cannot_be_given_again_is_refused(store, sample, quick_path):
    say(store, sample, *SAID["vlm"])
    snapshot = store.labels.snapshot()
    with pytest.raises(StoreError, match="another database"):
        Store(quick_path / "other.db").labels.current(snapshot)
    with pytest.raises(StoreError, match="not those of the snapshot"):
        store.labels.current({**snapshot, "sha256": "0" * 64})
    older = {k: v for k, v in snapshot.items() if k != "rule"}
    assert snapshot["rule"] == RULE and store.labels.current(older) == store.labels.current(snapshot)
    with pytest.raises(StoreError, match="another rule"):
        store.labels.current({**older, "sha256": "0" * 64})
    with pytest.raises(ValueError, match="its own filters"):
        store.labels.current(snapshot, split="train")


def test_corrections_pair_what_people_said_with_what_the_scorer_computed(store, sample_row, peaked):
    a, b, c = store.samples.add([sample_row(seed=i) for i in range(3)])
    for s in (a, b):
        say(store, s, "vlm", 1, distribution=peaked(1), features=b"\x00\x3c" * 4)
    say(store, a, "vlm", 2, distribution=peaked(2), features=b"\x00\x40" * 4, scorer_version="2")
    store.scores.set(a, 1, 8, "ann")
    store.scores.set(c, 1, 8, "ann")  # never scored by the VLM: nothing to learn from
    store.scores.set(b, 1, 5, "detector", source="simulated")
    found = store.labels.corrections()
    assert [(x["sample"], x["source"], x["score"], x["vlm"]["score"]) for x in found] == [
        (a, "human", 8, 2),
        (b, "simulated", 5, 1),
    ]
    assert found[0]["vlm"]["features"] == b"\x00\x40" * 4
    assert found[0]["vlm"]["distribution"][2] == pytest.approx(0.91)
    assert [x["sample"] for x in store.labels.corrections(include_simulated=False)] == [a]
    assert store.labels.corrections(split="heldout") == []


def test_labels_are_in_order_and_the_views_and_pages_agree_with_them(store, sample_row):
    ids = store.samples.add([sample_row(seed=i) for i in range(4)])
    for source, n in (("vlm", 4), ("calibrated", 3), ("simulated", 2), ("human", 1)):
        for s in ids[:n][::-1]:
            say(store, s, *SAID[source])
            say(store, s, *SAID[source][:1], 6, SAID[source][2], word_index=0)
    store.scores.set(ids[3], 1, 4, "ann")
    store.scores.clear(ids[3], 1, "ann")
    with store.database.reading() as db:
        view = db.execute("SELECT sample, word_index, source, score FROM labels").fetchall()
        people = db.execute("SELECT sample, who, score FROM current_human WHERE word_index = 1").fetchall()
        side = db.execute("SELECT vlm, calibrated, simulated, human, people FROM current_scores").fetchall()
    labels = store.labels.current(include_calibrated=True)
    assert [(x["sample"], x["word_index"]) for x in labels] == [(s, w) for s in ids for w in (0, 1)]
    assert sorted(view) == sorted((x["sample"], x["word_index"], x["source"], x["score"]) for x in labels)
    assert people == [(ids[0], "ann", 4)]
    assert (1, 2, 3.0, 4.0, 1) in side and (1, None, None, None, 0) in side
    say(store, ids[0], "vlm", 9)  # of which the latest alone is read, in pages
    assert [x["score"] for x in store.labels.vlm_scores(page=3)] == [1, 6, 1, 6, 1, 6, 6, 9]
    for filters in ({"sources": ["oracle"]}, {"split": "test"}, {"colour": "red"}):
        with pytest.raises(ValueError):
            store.labels.current(**filters)


def test_a_label_with_a_distribution_counts_as_its_mean_not_as_its_digit(peaked):
    """The VLM says its likeliest digit too; a file that gave 9 beside a distribution of mean 7.2 contradicted itself."""
    said = {"score": 9, "distribution": peaked(9, 0.55)}
    assert expected(said) == pytest.approx(9 * 0.55 + 36 * 0.05)
    assert expected({"score": None, "distribution": said["distribution"]}) == expected(said)
    assert expected({"score": 9, "distribution": None}) == 9.0
