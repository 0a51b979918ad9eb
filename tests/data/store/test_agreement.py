"""Agreement against published figures and against cases whose answer is plain, and the rows that it is counted on."""

import random

import pytest

from data.store.agreement import PAUSE, difference, pace, pairs, reliability, with_vlm

# Krippendorff (2011), "Computing Krippendorff's Alpha-Reliability", section E: four observers, twelve units
PUBLISHED = ["123321412...", "1233224125.3", ".3332342251.", "12332441251."]


ENCYCLOPEDIA = [".....34121133.3", "1.213343.......", "..21344.21133.4"]


def judged(rows, vlm=None):
    """Judgements from a line for each person, a character for each word; a point is a word that was left out."""
    return [
        {"sample": "s", "word_index": i, "who": f"person {who}", "score": int(score), "vlm": vlm}
        for who, line in enumerate(rows)
        for i, score in enumerate(line)
        if score != "."
    ]


DICE = random.Random(0)


@pytest.mark.parametrize(
    ("lines", "ordinal", "interval"),
    [
        (PUBLISHED, pytest.approx(0.815, abs=5e-4), pytest.approx(0.849, abs=5e-4)),
        (ENCYCLOPEDIA, pytest.approx(0.807, abs=5e-3), pytest.approx(0.811, abs=5e-4)),
        (["0918273645"] * 2, pytest.approx(1), pytest.approx(1)),
        (["".join(DICE.choices("0123456789", k=5000)) for _ in range(2)], *[pytest.approx(0, abs=0.04)] * 2),
    ],
    ids=["Krippendorff", "the encyclopedia", "the same", "guesses"],
)
def test_alpha_is_that_of_published_examples_and_of_plain_cases(lines, ordinal, interval):
    found = reliability(judged(lines))
    assert (found["ordinal"], found["interval"]) == (ordinal, interval)
    assert (found["people"], found["why"]) == (len(lines), "")


def test_two_who_say_the_opposite_have_alpha_below_zero():
    found = reliability(judged(["0918", "9081"]))
    assert found["ordinal"] < -0.5 and found["interval"] < -0.5


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


def test_each_two_people_who_share_words_are_a_pair_and_the_most_shared_comes_first():
    found = pairs(judged(["1234..", "123456", "....57", "......"]))
    assert [(p["people"], p["words"]) for p in found] == [
        (["person 0", "person 1"], 4),
        (["person 1", "person 2"], 2),
    ]
    assert (found[0]["exact"], found[0]["spearman"], found[0]["ordinal"]) == (1, pytest.approx(1), 1)
    assert (found[1]["exact"], found[1]["mean_absolute"], found[1]["spearman"]) == (0.5, 0.5, None)


def test_the_difference_is_counted_in_points_and_in_ranks():
    found = difference([0, 3, 6, 9], [0, 2, 9, 6])
    assert (found["words"], found["exact"], found["mean_absolute"]) == (4, 0.25, 1.75)
    assert found["spearman"] == pytest.approx(0.8)
    assert difference([9, 8, 7], [1, 2, 3])["spearman"] == pytest.approx(-1)


@pytest.mark.parametrize(
    ("one", "other", "says"),
    [([], [], "no word"), ([1, 2], [1, 3], "needs 3"), ([1, 1, 1], [1, 2, 3], "the same score")],
)
def test_a_rank_correlation_that_says_nothing_is_none(one, other, says):
    found = difference(one, other)
    assert found["spearman"] is None and says in found["why"]


def test_words_that_the_vlm_has_not_scored_do_not_count_against_it():
    rows = judged(["12"], vlm=1) + judged(["999"])
    assert (with_vlm(rows)["words"], with_vlm(rows)["exact"]) == (2, 0.5)
    assert "scored none" in with_vlm(judged(["12"]))["why"]


def walked(*steps):
    """Steps at seconds after noon."""
    return [
        {
            "who": "ann",
            "sample": sample,
            "action": action,
            "created": f"2026-01-31T12:{at // 60:02d}:{at % 60:02d}.000000Z",
            "seq": seq,
        }
        for seq, (at, action, sample) in enumerate(steps)
    ]


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
    assert found["hours"] == pytest.approx(60 / 3600)
    assert found["per_hour"] == pytest.approx(2 * 60)
    assert (found["sets"], found["undos"], found["clears"]) == (4, 1, 0)
    assert (found["submitted"], found["skipped"]) == (1, 1)
    assert (found["first"][11:19], found["last"][11:19]) == ("12:00:00", "12:17:00")


def test_a_pause_is_longer_than_its_bound():
    bound = int(PAUSE)
    assert pace(walked((0, "set", "a"), (bound, "set", "a")))["per_hour"] == 3600 / PAUSE
    assert pace(walked((0, "set", "a"), (bound + 1, "set", "a")))["per_hour"] is None


def test_a_sample_that_was_skipped_and_then_done_is_not_skipped():
    found = pace(walked((0, "skip", "a"), (5, "submit", "a")))
    assert (found["submitted"], found["skipped"]) == (1, 0)
    back = walked((0, "skip", "a"), (5, "submit", "a"))[::-1]  # by a clock that was set back in between
    assert (pace(back)["submitted"], pace(back)["skipped"]) == (1, 0)


def test_who_did_nothing_has_no_rate():
    assert pace([])["per_hour"] is None and pace([])["first"] is None


def test_the_stores_judgements_are_what_stands_beside_the_vlms_latest_score(store, sample_row, peaked):
    a, b = store.samples.add([sample_row(seed=i) for i in range(2)])
    store.scores.add([{"sample": a, "word_index": 1, "source": "vlm", "score": 2}])
    store.scores.add([{"sample": a, "word_index": 1, "source": "vlm", "distribution": peaked(6)}])
    for score in (3, 4):
        store.scores.set(a, 1, score, "ann", word="red")
    store.scores.set(a, 1, 9, "bob")
    store.scores.set(b, 1, 5, "ann")
    store.scores.set(b, 2, 5, "ann")
    store.scores.clear(b, 2, "ann")
    store.scores.set(b, 1, 0, "detector", source="simulated")
    found = [
        (r["sample"], r["who"], r["word_index"], r["score"], r["vlm"]) for r in store.judgements.scores()
    ]
    assert found == [(a, "ann", 1, 4, 6), (a, "bob", 1, 9, 6), (b, "ann", 1, 5, None)]
    assert {r["word"] for r in store.judgements.scores() if r["sample"] == a} == {"red"}


def test_the_stores_steps_are_all_that_people_did_in_order(store, sample_row):
    (a,) = store.samples.add([sample_row()])
    store.scores.set(a, 1, 3, "ann")
    store.scores.clear(a, 1, "ann")
    store.scores.undo(None, "ann")
    store.queue.submit(a, "ann")
    store.queue.skip(a, "bob")
    store.scores.set(a, 1, 0, "detector", source="simulated")
    store.queue.submit(a, "detector")
    assert [(s["who"], s["action"]) for s in store.judgements.steps()] == [
        ("ann", "set"),
        ("ann", "clear"),
        ("ann", "undo"),
        ("ann", "submit"),
        ("bob", "skip"),
    ]
