"""Blind votes are kept as they were given, and a person's last one on a pair stands, however it lay."""

import pytest


@pytest.fixture
def pair(store, sample_row):
    return store.add_samples([sample_row(), sample_row(method="projected", strength=1.0)])


def choices(votes):
    return [(vote["who"], vote["left_sample"], vote["choice"]) for vote in votes]


def test_the_last_vote_of_a_person_on_a_pair_stands_however_it_lay(store, pair):
    a, b = pair
    store.add_preference(a, b, "left", "ann")
    store.add_preference(a, b, "tie", "bob")
    store.add_preference(b, a, "left", "ann")
    assert choices(store.preferences()) == [("bob", a, "tie"), ("ann", b, "left")]
    assert choices(store.preferences(who="ann")) == [("ann", b, "left")]


def test_votes_are_asked_for_by_the_samples_that_both_lie_in(store, sample_row, pair):
    a, b = pair
    (c,) = store.add_samples([sample_row()])
    store.add_preference(a, b, "none", "ann")
    store.add_preference(a, c, "left", "ann")
    assert choices(store.preferences([a, b])) == [("ann", a, "none")]
    assert len(store.preferences([a, b, c])) == 2
    assert store.preferences([]) == []


def test_a_vote_is_between_two_images_of_one_prompt(store, sample_row, pair):
    (elsewhere,) = store.add_samples([sample_row(prompt="a blue square", n_words=3)])
    for left, right, why in [
        (pair[0], pair[0], "one and the same"),
        (pair[0], elsewhere, "different prompts"),
        (pair[0], "nowhere", "no sample"),
    ]:
        with pytest.raises(ValueError, match=why):
            store.add_preference(left, right, "left", "ann")
    assert store.preferences() == []


@pytest.mark.parametrize(
    ("choice", "who"), [("both", "ann"), ("", "ann"), (None, "ann"), ("left", ""), ("left", 7)]
)
def test_what_is_no_vote_is_refused(store, pair, choice, who):
    with pytest.raises(ValueError):
        store.add_preference(*pair, choice, who)
