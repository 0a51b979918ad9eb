"""What an annotator's page asks: what people said last, the steps to go back over, and what filters can be chosen."""

from __future__ import annotations

import pytest


@pytest.fixture
def two(store, sample_row):
    return store.add_samples(
        [sample_row(seed=1, prompt_set="shapes"), sample_row(seed=2, prompt="a blue star")]
    )


def test_what_each_person_said_last_of_each_word(store, two):
    store.set_score(two[0], 1, 3, "ann")
    store.set_score(two[0], 1, 5, "ann")
    store.set_score(two[0], 1, 4, "bob")
    store.set_score(two[0], 0, 9, "bob")
    store.clear_score(two[0], 0, "bob")
    said = {(s["who"], s["word_index"]): s["score"] for s in store.said(two[0])}
    assert said == {("ann", 1): 5, ("bob", 1): 4, ("bob", 0): None}
    assert store.said(two[1]) == []
    with pytest.raises(ValueError, match="no sample"):
        store.said("nothing")


def test_the_last_step_is_the_last_score_that_is_not_undone(store, two):
    assert store.last_step("ann") is None
    store.set_score(two[0], 0, 3, "ann")
    store.set_score(two[1], 0, 3, "ann")
    store.set_score(two[0], 1, 3, "bob")
    assert store.last_step("ann")["sample"] == two[1]
    store.undo(None, "ann")
    assert store.last_step("ann")["sample"] == two[0]
    store.undo(None, "ann")
    assert store.last_step("ann") is None


def test_the_sample_that_was_left_last_can_be_gone_back_over_any_number_of_times(store, two):
    store.submit(two[0], "ann")
    store.skip(two[1], "ann")
    store.submit(two[1], "bob")
    last = store.last_left("ann")
    assert (last["sample"], last["kind"]) == (two[1], "skip")
    assert store.last_left("ann", but=two[1])["sample"] == two[0]
    before = store.last_left("ann", before=last["created"])
    assert before["sample"] == two[0]
    assert store.last_left("ann", before=before["created"]) is None


def test_scores_of_one_sample_that_were_written_at_one_time_are_undone_as_one_step(store, two):
    store.set_score(two[0], 1, 2, "ann")
    event = {"sample": two[0], "source": "human", "who": "ann", "created": "2030-01-01T00:00:00.000000Z"}
    store.add_scores({**event, "word_index": i, "word": "w", "score": 7} for i in (0, 1))
    store.undo(None, "ann")
    assert {i: w["human"] and w["human"]["score"] for i, w in store.current(two[0], "ann").items()} == {
        0: None,
        1: 2,
    }
    store.undo(None, "ann")
    assert store.last_step("ann") is None


def test_filters_offer_what_there_is_to_train_on(store, sample_row, two):
    store.add_samples([sample_row(seed=3, prompt_set="secret", split="heldout")])
    assert store.choices("prompt_set") == ["shapes"]
    assert store.choices("method") == ["none"]
    assert store.choices("prompt", 1) == ["a blue star"]
    with pytest.raises(ValueError, match="filter"):
        store.choices("image_path; DROP TABLE samples")
