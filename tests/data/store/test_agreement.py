"""Agreement against published figures and against cases whose answer is plain, and the rows that it is counted on."""

import random

import pytest

from data.store.agreement import (
    PAUSE,
    apart,
    beside,
    contested,
    difference,
    pace,
    pairs,
    reliability,
    with_gold,
    with_others,
    with_vlm,
)

# Krippendorff (2011), "Computing Krippendorff's Alpha-Reliability", section E: four observers, twelve units
PUBLISHED = ["123321412...", "1233224125.3", ".3332342251.", "12332441251."]
ENCYCLOPEDIA = [".....34121133.3", "1.213343.......", "..21344.21133.4"]
DICE = random.Random(0)


def judged(rows, vlm=None):
    """Judgements from a line for each person, a character for each word; a point is a word that was left out."""
    return [
        {"sample": "s", "word_index": i, "who": f"person {who}", "score": int(score), "vlm": vlm}
        for who, line in enumerate(rows)
        for i, score in enumerate(line)
        if score != "."
    ]


@pytest.mark.parametrize(
    ("lines", "ordinal", "interval"),
    [
        (PUBLISHED, pytest.approx(0.815, abs=5e-4), pytest.approx(0.849, abs=5e-4)),
        (ENCYCLOPEDIA, pytest.approx(0.807, abs=5e-3), pytest.approx(0.811, abs=5e-4)),
        (["0918273645"] * 2, pytest.approx(1), pytest.approx(1)),
        (["".join(DICE.choices("0123456789", k=5000)) for _ in range(2)], *[pytest.approx(0, abs=0.04)] * 2),
        (["0918", "9081"], *[pytest.approx(-0.75, abs=0.25)] * 2),
    ],
    ids=["Krippendorff", "the encyclopedia", "the same", "guesses", "the opposite"],
)
def test_alpha_is_that_of_published_examples_and_of_plain_cases(lines, ordinal, interval):
    found = reliability(judged(lines))
    assert (found["ordinal"], found["interval"]) == (ordinal, interval)
    assert (found["people"], found["why"]) == (len(lines), "")


@pytest.mark.parametrize(
    ("lines", "words", "says"),
    [
        ([], 0, "No person has scored"),
        (["123"], 0, "Only one person"),
        (["12..", "..34"], 0, "No word was scored by two"),
        (["777", "777"], 3, "Every score is 7"),
    ],
)
def test_where_alpha_cannot_be_had_it_is_none_and_a_sentence_says_why(lines, words, says):
    found = reliability(judged(lines))
    assert (found["ordinal"], found["interval"], found["words"]) == (None, None, words)
    assert says in found["why"] and found["why"].endswith(".")


def test_alpha_of_very_many_words_is_of_some_drawn_at_random():
    many = judged(["".join(str(word * 7 % 10) for word in range(300))] * 2)
    whole, drawn = reliability(many), reliability(many, 50)
    assert (whole["words"], whole["drawn"], drawn["words"], drawn["drawn"]) == (300, 300, 300, 50)
    assert drawn["ordinal"] == pytest.approx(1) and drawn == reliability(many, 50)
    assert pairs(many, 50)[0]["drawn"] == 50


def test_each_two_people_who_share_words_are_a_pair_and_the_most_shared_comes_first():
    found = pairs(judged(["1234..", "123456", "....57", "......"]))
    assert [(p["people"], p["words"]) for p in found] == [
        (["person 0", "person 1"], 4),
        (["person 1", "person 2"], 2),
    ]
    assert (found[0]["exact"], found[0]["spearman"], found[0]["ordinal"]) == (1, pytest.approx(1), 1)
    assert (found[1]["exact"], found[1]["mean_absolute"], found[1]["spearman"]) == (0.5, 0.5, None)


def test_the_difference_is_counted_in_points_and_in_ranks_where_these_say_something():
    found = difference([0, 3, 6, 9], [0, 2, 9, 6])
    assert (found["words"], found["exact"], found["mean_absolute"]) == (4, 0.25, 1.75)
    assert found["spearman"] == pytest.approx(0.8)
    assert difference([9, 8, 7], [1, 2, 3])["spearman"] == pytest.approx(-1)
    few, many = ([1, 2], [1, 3], "needs 3"), ([1, 1, 1], [1, 2, 3], "the same score")
    for one, other, says in (([], [], "no word"), few, many):
        found = difference(one, other)
        assert found["spearman"] is None and says in found["why"]
    rows = judged(["12"], vlm=1) + judged(["999"])  # what the VLM has not scored does not count against it
    assert (with_vlm(rows)["words"], with_vlm(rows)["exact"]) == (2, 0.5)
    assert "scored none" in with_vlm(judged(["12"]))["why"]


def walked(*steps):
    """Steps at seconds after noon."""
    return [
        {"who": "ann", "sample": sample, "action": action, "seq": seq,
         "created": f"2026-01-31T12:{at // 60:02d}:{at % 60:02d}.000000Z"}
        for seq, (at, action, sample) in enumerate(steps)
    ]  # fmt: skip


def test_the_rate_counts_time_at_work_and_leaves_out_pauses():
    found = pace(
        walked(
            (0, "set", "a"),  # what it took is not known
            (10, "set", "a"),
            (20, "undo", "a"),
            (30, "set", "a"),
            (40, "submit", "a"),
            (1000, "set", "b"),  # after a pause: again not known
            (1020, "skip", "b"),
        )
    )
    assert (found["hours"], found["per_hour"]) == (pytest.approx(60 / 3600), pytest.approx(2 * 60))
    assert (found["sets"], found["undos"], found["clears"]) == (4, 1, 0)
    assert (found["submitted"], found["skipped"]) == (1, 1)
    assert (found["first"][11:19], found["last"][11:19]) == ("12:00:00", "12:17:00")
    for seconds, rate in ((int(PAUSE), 3600 / PAUSE), (int(PAUSE) + 1, None)):
        assert pace(walked((0, "set", "a"), (seconds, "set", "a")))["per_hour"] == rate
    back = walked((0, "skip", "a"), (5, "submit", "a"))  # is not skipped, also by a clock that was set back
    assert [(pace(s)["submitted"], pace(s)["skipped"]) for s in (back, back[::-1])] == [(1, 0)] * 2
    assert pace([])["per_hour"] is None and pace([])["first"] is None


SAID = [
    {"sample": "s", "word_index": word, "word": f"w{word}", "prompt": "p", "who": who, "score": score, "seq": seq,
     "vlm": None, "gold": 7 if word == 1 else None, "gold_by": "ann" if word == 1 else None}
    for seq, (who, word, score) in enumerate(
        [("ann", 1, 9), ("bob", 1, 7), ("cyd", 1, 2), ("ann", 2, 3), ("bob", 2, 3), ("ann", 3, 0), ("cyd", 3, 8),
         ("bob", 4, 1), ("ann", 5, 1), ("bob", 5, 4)]
    )
]  # fmt: skip


def of(who):
    return [j for j in beside(SAID) if j["who"] == who]


def test_a_person_is_held_against_gold_that_somebody_else_set_and_against_the_median_of_the_others():
    assert with_gold(of("ann"))["why"] == "No gold word that somebody else set was scored here."
    assert with_gold(of("ann"))["exact"] is None
    assert (with_gold(of("bob"))["words"], with_gold(of("bob"))["exact"]) == (1, 1)
    assert with_gold(of("cyd"))["mean_absolute"] == 5
    assert [j["others"] for j in beside(SAID)] == [2, 2, 7, 3, 3, 8, 0, None, 4, 1]
    found = with_others(of("ann"))
    assert (found["words"], found["exact"], found["mean_absolute"]) == (4, 1 / 4, 4.5)
    assert with_others(of("dan"))["why"] == "Nobody else has scored these words."


def test_words_on_which_people_are_apart_are_listed_and_a_persons_disagreements_with_gold_first():
    found = apart(SAID)
    assert [(one["word_index"], one["points"]) for one in found] == [(3, 8), (5, 3)]  # word 1 has gold
    assert found[0]["said"] == [["ann", 0], ["cyd", 8]]
    assert apart(SAID, least=9) == [] and len(apart(SAID, most=1)) == 1
    assert [(c["word_index"], c["score"], c["against"], c["by"]) for c in contested(of("cyd"))] == [
        (3, 8, 0, "others"),
        (1, 2, 7, "gold"),
    ]
    assert [(c["word_index"], c["by"]) for c in contested(of("ann"))] == [(i, "others") for i in (5, 3, 1)]
    assert {c["by"] for c in contested(of("cyd"), golden=False)} == {"others"}


def test_the_stores_judgements_are_what_stands_beside_the_vlms_latest_score_and_gold(
    store, sample_row, peaked
):
    a, b = store.samples.add([sample_row(seed=i) for i in range(2)])
    before = store.judgements.judged()
    store.scores.add([{"sample": a, "word_index": 1, "source": "vlm", "score": 2}])
    store.scores.add([{"sample": a, "word_index": 1, "source": "vlm", "distribution": peaked(6)}])
    for score in (3, 4):
        store.scores.set(a, 1, score, "ann", word="red")
    store.scores.set(a, 1, 9, "bob")
    store.scores.set(b, 1, 5, "ann")
    store.scores.set(b, 2, 5, "ann")
    store.scores.clear(b, 2, "ann")
    store.scores.set(b, 1, 0, "detector", source="simulated")
    store.gold.set(b, 1, 7, "ann")
    rows = store.judgements.scores()
    assert [(r["sample"], r["who"], r["word_index"], r["score"], r["vlm"], r["gold"]) for r in rows] == [
        (a, "ann", 1, 4, 6, None),
        (a, "bob", 1, 9, 6, None),
        (b, "ann", 1, 5, None, 7),
    ]
    assert {r["word"] for r in rows if r["sample"] == a} == {"red"}
    assert store.judgements.judged() != before
    assert [r["sample"] for r in store.judgements.scores(3)] == [b]  # of the latest events alone
    assert store.judgements.said_of(a, 1) == [("ann", 4), ("bob", 9)]
    store.gold.set(b, 1, None, "ann")
    assert {(r["gold"], r["gold_by"]) for r in store.judgements.scores()} == {(None, None)}


def test_the_stores_steps_are_all_that_people_did_in_order(store, sample_row):
    (a,) = store.samples.add([sample_row()])
    store.scores.set(a, 1, 3, "ann")
    store.scores.clear(a, 1, "ann")
    store.scores.undo(None, "ann")
    store.queue.submit(a, "ann")
    store.queue.skip(a, "bob")
    store.scores.set(a, 1, 0, "detector", source="simulated")
    store.queue.submit(a, "detector")
    steps = [(s["who"], s["action"]) for s in store.judgements.steps()]
    assert steps == [("ann", "set"), ("ann", "clear"), ("ann", "undo"), ("ann", "submit"), ("bob", "skip")]
