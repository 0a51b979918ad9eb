"""The queue: who is shown what next, and how far each person is."""

import random

import pytest

from data.store.checks import entropy


def fill(store, sample_row, peaks, peaked, **changes):
    """One sample for each tuple of peaks; word i of it has a VLM score that is sure by peaks[i]."""
    ids = store.samples.add([sample_row(seed=i, **changes) for i in range(len(peaks))])
    store.scores.add(
        {"sample": id, "word_index": w, "source": "vlm", "distribution": peaked(3, p)}
        for id, row in zip(ids, peaks)
        for w, p in enumerate(row)
    )
    return ids


def test_a_new_vlm_score_changes_the_order(store, sample_row, peaked):
    a, b = fill(store, sample_row, [(0.2,), (0.5,)], peaked)
    store.scores.add([{"sample": a, "word_index": 0, "source": "vlm", "distribution": peaked(3, 0.99)}])
    assert store.queue.next("ann")["id"] == b


def test_the_order_equals_that_of_a_plain_sum_over_everything(store, sample_row, peaked):
    """Against the definition: mean entropy over the words that this person has not corrected."""
    dice = random.Random(5)
    peaks = [tuple(dice.uniform(0.15, 0.99) for _ in range(3)) for _ in range(12)]
    ids = fill(store, sample_row, peaks, peaked)
    corrected = {(i, w) for i in range(12) for w in range(3) if dice.random() < 0.25}
    for i, w in corrected:
        store.scores.set(ids[i], w, 1, "ann")
    wanted = []
    for i, row in enumerate(peaks):
        left = [entropy(peaked(3, p)) for w, p in enumerate(row) if (i, w) not in corrected]
        if left:
            wanted.append((sum(left) / len(left), ids[i]))
    for value, id in sorted(wanted, reverse=True):
        sample = store.queue.next("ann")
        assert (sample["id"], sample["entropy"]) == (id, pytest.approx(value, rel=1e-4))
        dice.choice((store.queue.submit, store.queue.skip))(id, "ann")
    assert store.queue.next("ann") is None and store.queue.next("bob")


def test_other_orders(store, sample_row, peaked):
    ids = fill(store, sample_row, [(0.2,), (0.9,), (0.5,)], peaked)
    (unscored,) = store.samples.add([sample_row(seed=9)])
    assert store.queue.next("ann", "newest")["id"] == unscored
    assert store.queue.next("ann", "newest", exclude=unscored)["id"] == ids[2]
    drawn = {store.queue.next("ann", "random")["id"] for _ in range(60)}
    assert drawn == {*ids, unscored}
    with pytest.raises(ValueError, match="uncertainty, random, newest"):
        store.queue.next("ann", "oldest")


@pytest.mark.parametrize("order", ["uncertainty", "random", "newest"])
def test_the_queue_is_filtered_and_leaves_out_what_cannot_be_shown(store, sample_row, peaked, order):
    fill(store, sample_row, [(0.1,)], peaked, image_path=None, image_sha256=None)
    (mine,) = fill(store, sample_row, [(0.9,)], peaked, prompt_set="mine", method="projected")
    (held,) = fill(store, sample_row, [(0.2,)], peaked, split="heldout")
    assert store.queue.next("ann", order, prompt_set="mine")["id"] == mine
    assert store.queue.next("ann", order, method="projected", split="train")["id"] == mine
    assert store.queue.next("ann", order, split=["heldout"])["id"] == held
    assert store.queue.next("ann", order, split="validation") is None
    assert store.queue.next("ann", order, exclude=held, split="heldout") is None
    with pytest.raises(ValueError, match="filtered by"):
        store.queue.next("ann", order, colour="red")


def test_progress_counts_this_persons_work(store, sample_row, peaked):
    a, b, c, _ = fill(store, sample_row, [(0.5, 0.5)] * 4, peaked)
    store.samples.add([sample_row(seed=7)])
    for word in (0, 1):
        store.scores.set(a, word, 3, "ann")
    store.scores.set(b, 0, 3, "ann")
    store.scores.clear(b, 0, "ann")
    store.scores.set(c, 0, 3, "bob")
    store.queue.submit(a, "ann")
    store.queue.skip(b, "ann")
    store.queue.skip(c, "ann")
    store.queue.submit(c, "ann")
    assert store.tallies.progress("ann") == {
        "samples": 5,
        "scored": 4,
        "submitted": 2,
        "skipped": 1,
        "remaining": 2,
        "corrected_words": 2,
        "corrected_samples": 1,
    }
    assert store.tallies.progress("ann", split="heldout")["samples"] == 0


@pytest.mark.parametrize("who", ["", " ", "w" * 81, None, 3, "a\x00"])
def test_a_name_that_is_none_is_refused(store, sample_row, who):
    (a,) = store.samples.add([sample_row()])
    for call in (
        lambda: store.queue.submit(a, who),
        lambda: store.queue.next(who),
        lambda: store.tallies.progress(who),
    ):
        with pytest.raises(ValueError, match="who"):
            call()
    with pytest.raises(ValueError, match="no sample"):
        store.queue.skip("nothere", "ann")


def test_what_was_begun_long_ago_waits_with_the_untouched(store, sample_row, peaked, monkeypatch):
    from data.store import queue

    monkeypatch.setattr(queue, "RECENT", 2)
    ids = store.samples.add(sample_row(seed=i) for i in range(5))
    store.scores.add(
        {"sample": id, "word_index": w, "source": "vlm", "distribution": peaked(3, 0.9 - 0.1 * i)}
        for i, id in enumerate(ids)
        for w in (1, 2)
    )
    store.scores.set(ids[4], 1, 5, "ann")
    for word in (1, 2, 1):
        store.scores.set(ids[0], word, 2 + word, "ann")
    store.scores.set(ids[0], 1, 9, "ann")
    assert store.queue.next("ann")["id"] == ids[4]
    store.queue.submit(ids[4], "ann")
    assert store.queue.next("ann")["id"] == ids[3]
