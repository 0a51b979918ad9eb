"""Agreement with gold and with the others, the words on which people are apart, and alpha of words drawn at random."""

import pytest

from data.store.agreement import apart, beside, contested, pairs, reliability, with_gold, with_others


def judged(*rows):
    """Judgements from (who, word, score, gold, who set it)."""
    return [
        {"sample": "s", "word_index": word, "word": f"w{word}", "prompt": "p", "who": who, "score": score,
         "seq": seq, "vlm": None, "gold": gold, "gold_by": by}
        for seq, (who, word, score, gold, by) in enumerate(rows)
    ]  # fmt: skip


SAID = judged(
    ("ann", 1, 9, 7, "ann"),
    ("bob", 1, 7, 7, "ann"),
    ("cyd", 1, 2, 7, "ann"),
    ("ann", 2, 3, None, None),
    ("bob", 2, 3, None, None),
    ("ann", 3, 0, None, None),
    ("cyd", 3, 8, None, None),
    ("bob", 4, 1, None, None),
)


def of(who, judgements=SAID):
    return [j for j in beside(judgements) if j["who"] == who]


def test_a_person_is_held_against_gold_that_somebody_else_set():
    assert with_gold(of("ann"))["why"] == "No gold word that somebody else set was scored here."
    assert with_gold(of("ann"))["exact"] is None
    assert (with_gold(of("bob"))["words"], with_gold(of("bob"))["exact"]) == (1, 1)
    assert with_gold(of("cyd"))["mean_absolute"] == 5


def test_the_others_are_their_median():
    assert [(j["who"], j["word_index"], j["others"]) for j in beside(SAID)] == [
        ("ann", 1, 2),
        ("bob", 1, 2),
        ("cyd", 1, 7),
        ("ann", 2, 3),
        ("bob", 2, 3),
        ("ann", 3, 8),
        ("cyd", 3, 0),
        ("bob", 4, None),
    ]
    found = with_others(of("ann"))
    assert (found["words"], found["exact"], found["mean_absolute"]) == (3, 1 / 3, 5)
    assert with_others(of("dan"))["why"] == "Nobody else has scored these words."


def test_words_without_gold_on_which_people_are_apart_are_listed_the_furthest_first():
    more = [*SAID, *judged(("ann", 5, 1, None, None), ("bob", 5, 4, None, None))]
    found = apart(more)
    assert [(one["word_index"], one["points"]) for one in found] == [(3, 8), (5, 3)]
    assert found[0]["said"] == [["ann", 0], ["cyd", 8]]
    assert apart(more, least=9) == []
    assert len(apart(more, most=1)) == 1


def test_a_persons_disagreements_are_with_gold_first_and_the_newest_first():
    assert [(c["word_index"], c["score"], c["against"], c["by"]) for c in contested(of("cyd"))] == [
        (3, 8, 0, "others"),
        (1, 2, 7, "gold"),
    ]
    assert [(c["word_index"], c["by"]) for c in contested(of("ann"))] == [(3, "others"), (1, "others")]
    without = contested(of("cyd"), golden=False)
    assert {c["by"] for c in without} == {"others"} and without != contested(of("cyd"))


def test_alpha_of_very_many_words_is_of_some_drawn_at_random():
    many = judged(
        *((who, word, (word * 7) % 10, None, None) for word in range(300) for who in ("ann", "bob"))
    )
    whole, drawn = reliability(many), reliability(many, 50)
    assert (whole["words"], whole["drawn"], drawn["words"], drawn["drawn"]) == (300, 300, 300, 50)
    assert drawn["ordinal"] == pytest.approx(1)
    assert drawn == reliability(many, 50)
    assert pairs(many, 50)[0]["drawn"] == 50


def test_the_latest_steps_alone_can_be_asked_for(store, sample_row):
    (a,) = store.samples.add([sample_row()])
    before = store.judgements.judged()
    for who, word in (("ann", 1), ("ann", 2), ("bob", 2)):
        store.scores.set(a, word, 5, who)
    store.queue.submit(a, "ann")
    store.gold.set(a, 2, 7, "ann")
    assert store.judgements.judged() != before
    assert [(j["who"], j["word_index"], j["gold"]) for j in store.judgements.scores(2)] == [
        ("ann", 2, 7),
        ("bob", 2, 7),
    ]
    assert len(store.judgements.scores()) == len(store.judgements.scores(10)) == 3
    assert [step["action"] for step in store.judgements.steps(1)] == ["set", "submit"]
    assert store.judgements.said_of(a, 2) == [("ann", 5), ("bob", 5)]
    store.scores.clear(a, 2, "ann")
    assert store.judgements.said_of(a, 2) == [("bob", 5)]
    store.gold.set(a, 2, None, "ann")
    assert [(j["gold"], j["gold_by"]) for j in store.judgements.scores()] == [(None, None)] * 2
