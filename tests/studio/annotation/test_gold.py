"""Gold in people's queues: how often, to whom, and that nothing gives it away; and kinds of word as a filter."""

import pytest

from studio.annotation import labelling
from studio.annotation.labelling import gold_is_due
from tests.tiny import change_settings


@pytest.mark.parametrize("count", [1, 2, 10])
def test_gold_is_due_once_in_each_stretch_at_a_place_that_differs(count):
    for who in ("ann", "bob"):
        due = [gold_is_due(who, done, count) for done in range(20 * count)]
        assert [sum(due[at : at + count]) for at in range(0, len(due), count)] == [1] * 20
    if count == 10:
        assert len({done % 10 for done in range(400) if gold_is_due("ann", done, 10)}) > 5
    assert not gold_is_due("ann", 0, 0)


def test_a_gold_image_comes_among_the_others_and_looks_like_them(scored):
    change_settings(scored, gold_every=4)
    ids = [row["id"] for row in scored.store.samples.find(limit=100)]
    golden = [id for id in ids if id != scored.annotation.next("probe", lease=None).id][:3]
    for id in golden:
        word = next(w for w in scored.annotation.sample(id).words if w.scored)
        before = scored.annotation.sample(id, "bob")
        scored.annotation.set_gold(id, word.index, 9, "ann")
        assert scored.annotation.sample(id, "bob") == before
    given = []
    while view := scored.annotation.next("bob", "newest"):
        assert scored.annotation.next("bob", "newest").id == view.id  # a reload shows the same
        given.append(view.id)
        scored.annotation.submit(view.id, "bob")
    assert sorted(given) == sorted(ids)
    assert any(id in golden and gold_is_due("bob", i, 4) for i, id in enumerate(given))  # out of its turn


def test_without_gold_or_where_it_is_never_due_the_queue_is_as_ever(scored):
    def next_for(who, every):
        change_settings(scored, gold_every=every)
        return scored.annotation.next(who, "newest", lease=None).id

    usual = next_for("bob", 1)
    oldest = scored.store.samples.find(limit=1, newest=False)[0]["id"]
    word = next(w for w in scored.annotation.sample(oldest).words if w.scored)
    scored.annotation.set_gold(oldest, word.index, 9, "ann")
    assert next_for("bob", 1) == oldest
    assert next_for("ann", 1) == next_for("bob", 0) == usual  # she set it


def test_the_queue_can_be_filtered_by_kind_of_word_at_once_and_after_new_prompts(
    scored, sample_row, monkeypatch
):
    def add(*prompts):
        return scored.store.samples.add([sample_row(prompt=prompt) for prompt in prompts])

    def next_of(kind):
        return scored.annotation.next("ann", "newest", kind=kind, lease=None).id

    bare, dogs = add("of the", "two dogs")
    assert next_of("count") == dogs
    (later,) = add("three cats")
    assert next_of("count") == later
    assert next_of("colour") not in (bare, dogs, later)
    monkeypatch.setattr(labelling, "PROMPTS_AT_ONCE", 1)
    add("4 cats", "5 cats", "6 cats")
    next_of("count")
    scored.annotation.kinds._thread.join()
    assert scored.annotation.progress("ann", kind="count")["samples"] == 2 + 3
