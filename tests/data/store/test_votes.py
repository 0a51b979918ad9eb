"""Blind votes are kept as they were given, and a person's last one on a pair stands, however it lay."""

import pytest


@pytest.fixture
def pair(store, sample_row):
    return store.samples.add([sample_row(), sample_row(method="projected", strength=1.0)])


def choices(votes):
    return [(vote["who"], vote["left_sample"], vote["choice"]) for vote in votes]


def test_the_last_vote_of_a_person_on_a_pair_stands_however_it_lay(store, sample_row, pair):
    a, b = pair
    (c,) = store.samples.add([sample_row()])
    store.votes.add(a, b, "left", "ann")
    store.votes.add(a, b, "tie", "bob")
    store.votes.add(b, a, "left", "ann")
    store.votes.add(a, c, "none", "ann")
    assert choices(store.votes.find([a, b])) == [("bob", a, "tie"), ("ann", b, "left")]  # both lie in these
    assert choices(store.votes.find(who="ann")) == [("ann", b, "left"), ("ann", a, "none")]
    assert len(store.votes.find([a, b, c])) == 3 and store.votes.find([]) == []


def test_a_vote_is_between_two_images_of_one_prompt(store, sample_row, pair):
    (elsewhere,) = store.samples.add([sample_row(prompt="a blue square", n_words=3)])
    for left, right, why in [
        (pair[0], pair[0], "one and the same"),
        (pair[0], elsewhere, "different prompts"),
        (pair[0], "nowhere", "no sample"),
    ]:
        with pytest.raises(ValueError, match=why):
            store.votes.add(left, right, "left", "ann")
    for choice, who in (("both", "ann"), ("", "ann"), (None, "ann"), ("left", ""), ("left", 7)):
        with pytest.raises(ValueError):
            store.votes.add(*pair, choice, who)
    assert store.votes.find() == []
