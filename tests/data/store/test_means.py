"""The mean score that is kept of each sample is that of its labels, whatever was said, taken back or brought in."""

import random

import pytest

from data.store.labels import expected
from data.store.library import labels_of


def assert_right(store):
    """Against the labels themselves, one by one."""
    wanted = {}
    with store.database.reading() as db:
        ids = [id for (id,) in db.execute("SELECT id FROM samples")]
        for place, gold in enumerate((False, True)):
            said = {}
            for (sample, _), label in labels_of(db, ids, gold).items():
                said.setdefault(sample, []).append(expected(label))
            for sample, values in said.items():
                wanted.setdefault(sample, [None, None])[place] = pytest.approx(
                    sum(values) / len(values), abs=2e-6
                )
    assert kept(store) == wanted


def kept(store):
    with store.database.reading() as db:
        return {sample: row for sample, *row in db.execute("SELECT sample, mean, golden FROM means")}


@pytest.fixture
def full(store, sample_row, peaked):
    """Six samples of which anything was said: by machines, several people, the simulated annotator, and as gold."""
    dice = random.Random(7)
    ids = store.samples.add(sample_row(id=f"s{i}", seed=i) for i in range(6))

    def step():
        who, sample, word = dice.choice(("ann", "bob", "cyd")), dice.choice(ids), 1 + dice.randrange(3)
        what = dice.randrange(12)
        said = {"sample": sample, "word_index": word}
        if what < 4:
            store.scores.set(sample, word, dice.randrange(10), who)
        elif what == 4:
            store.scores.clear(sample, word, who)
        elif what == 5:
            store.scores.undo(dice.choice((None, sample)), who)
        elif what == 6:
            source = dice.choice(("vlm", "calibrated"))
            store.scores.add([{**said, "source": source, "distribution": peaked(dice.randrange(10), 0.4)}])
        elif what == 7:
            store.scores.add([{**said, "source": "vlm", "score": dice.randrange(10)}])
        elif what == 8:
            store.scores.set(sample, word, dice.randrange(10), f"detector{word % 2}", source="simulated")
        elif what == 9:
            done = store.queue.submit(sample, who, [{"word_index": word, "score": dice.randrange(10)}])
            if dice.random() < 0.3:
                store.queue.come_back(done["id"], who)
        else:
            store.gold.set(sample, word, dice.choice((None, *range(10))), who)

    store.step = step
    return store


def test_the_mean_is_right_after_every_step(full):
    for _ in range(80):
        full.step()
        assert_right(full)


def test_a_sample_of_which_all_was_taken_back_has_no_mean(store, sample_row):
    (id,) = store.samples.add([sample_row()])
    store.scores.set(id, 1, 4, "ann")
    store.gold.set(id, 2, 7, "ann")
    assert kept(store) == {id: [4.0, 5.5]}
    store.scores.undo(id, "ann")
    assert kept(store) == {id: [None, 7.0]}
    store.gold.set(id, 2, None, "ann")
    assert kept(store) == {}
