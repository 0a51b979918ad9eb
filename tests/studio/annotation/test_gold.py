"""Gold in people's queues: how often, to whom, and that nothing gives it away; and kinds of word as a filter."""

import dataclasses
from collections import Counter

import pytest

from studio.annotation import labelling
from studio.annotation.labelling import gold_is_due
from tests.tiny import change_settings


@pytest.fixture
def every(scored):
    """A function that sets STUDIO_GOLD_EVERY of the studio."""

    def use(count):
        change_settings(scored, gold_every=count)
        return scored

    return use


@pytest.mark.parametrize("count", [1, 2, 10])
def test_gold_is_due_once_in_each_stretch_at_a_place_that_differs(count):
    for who in ("ann", "bob"):
        due = [gold_is_due(who, done, count) for done in range(20 * count)]
        assert [sum(due[at : at + count]) for at in range(0, len(due), count)] == [1] * 20
    if count == 10:
        places = [done % 10 for done in range(400) if gold_is_due("ann", done, 10)]
        assert len(Counter(places)) > 5
    assert not gold_is_due("ann", 0, 0)


def test_a_gold_image_comes_among_the_others_and_looks_like_them(every):
    studio = every(4)
    ids = [row["id"] for row in studio.store.samples.find(limit=100)]
    golden = [id for id in ids if id != studio.annotation.next("probe", lease=None).id][:3]
    for id in golden:
        view = studio.annotation.sample(id)
        word = next(w for w in view.words if w.scored)
        before = dataclasses.asdict(studio.annotation.sample(id, "bob"))
        studio.annotation.set_gold(id, word.index, 9, "ann")
        assert dataclasses.asdict(studio.annotation.sample(id, "bob")) == before
    given = []
    while view := studio.annotation.next("bob", "newest"):
        assert studio.annotation.next("bob", "newest").id == view.id  # a reload shows the same
        given.append(view.id)
        studio.annotation.submit(view.id, "bob")
    assert sorted(given) == sorted(ids)
    out_of_turn = [i for i, id in enumerate(given) if id in golden and gold_is_due("bob", i, 4)]
    assert out_of_turn


def test_without_gold_or_where_it_is_never_due_the_queue_is_as_ever(every):
    studio = every(1)
    usual = studio.annotation.next("bob", "newest", lease=None).id
    oldest = studio.store.samples.find(limit=1, newest=False)[0]["id"]
    word = next(w for w in studio.annotation.sample(oldest).words if w.scored)
    studio.annotation.set_gold(oldest, word.index, 9, "ann")
    assert studio.annotation.next("bob", "newest", lease=None).id == oldest
    assert studio.annotation.next("ann", "newest", lease=None).id == usual  # she set it
    assert every(0).annotation.next("bob", "newest", lease=None).id == usual


def test_gold_is_set_on_words_that_carry_a_score_by_a_name_that_may_be_used(scored):
    view = scored.annotation.sample(scored.store.samples.find(limit=1)[0]["id"])
    silent = next(w for w in view.words if not w.scored)
    word = next(w for w in view.words if w.scored)
    for index, score, who, says in (
        (silent.index, 3, "ann", "carries no score"),
        (word.index, 12, "ann", "9"),
        (word.index, 3, "vlm", "taken by the studio"),
    ):
        with pytest.raises(ValueError, match=says):
            scored.annotation.set_gold(view.id, index, score, who)
    assert scored.annotation.set_gold(view.id, word.index, 3, "ann")["word"] == word.text
    assert scored.annotation.set_gold(view.id, word.index, None, "ann") is None


def test_the_queue_can_be_filtered_by_kind_of_word_at_once_and_after_new_prompts(
    scored, sample_row, monkeypatch
):
    (bare,) = scored.store.samples.add([sample_row(prompt="of the")])
    (dogs,) = scored.store.samples.add([sample_row(prompt="two dogs")])
    assert scored.annotation.next("ann", "newest", kind="count", lease=None).id == dogs
    (later,) = scored.store.samples.add([sample_row(prompt="three cats")])
    assert scored.annotation.next("ann", "newest", kind="count", lease=None).id == later
    assert scored.annotation.next("ann", "newest", kind="colour", lease=None).id not in (bare, dogs, later)
    monkeypatch.setattr(labelling, "PROMPTS_AT_ONCE", 1)
    many = scored.store.samples.add([sample_row(prompt=f"{n} cats") for n in (4, 5, 6)])
    scored.annotation.next("ann", "newest", kind="count")
    scored.annotation.kinds._thread.join()
    assert scored.annotation.progress("ann", kind="count")["samples"] == 2 + len(many)
