"""What an annotator's page asks: what people said last, the steps to go back over, and what filters can be chosen."""

import pytest

from data.store.agreement import pace


@pytest.fixture
def two(store, sample_row):
    return store.samples.add(
        [sample_row(seed=1, prompt_set="shapes"), sample_row(seed=2, prompt="a blue star")]
    )


def test_what_each_person_said_last_of_each_word(store, two):
    store.scores.set(two[0], 1, 3, "ann")
    store.scores.set(two[0], 1, 5, "ann")
    store.scores.set(two[0], 1, 4, "bob")
    store.scores.set(two[0], 0, 9, "bob")
    store.scores.clear(two[0], 0, "bob")
    said = {(s["who"], s["word_index"]): s["score"] for s in store.desk.said(two[0])}
    assert said == {("ann", 1): 5, ("bob", 1): 4, ("bob", 0): None}
    assert store.desk.said(two[1]) == []
    with pytest.raises(ValueError, match="no sample"):
        store.desk.said("nothing")


def test_submits_and_skips_are_taken_back_one_after_the_other_the_last_one_first(store, two):
    store.queue.submit(two[0], "ann")
    store.queue.skip(two[0], "ann")
    store.queue.skip(two[1], "ann")
    store.queue.submit(two[1], "bob")
    assert store.desk.last_left("ann", two[0])["sample"] == two[0]
    gone_back = []
    while left := store.desk.last_left("ann"):
        back = store.queue.come_back(left["id"], "ann")
        assert back["undoes"] == left["id"]
        gone_back.append((left["sample"], left["kind"], back["kind"]))
    assert gone_back == [(two[1], "skip", "open"), (two[0], "skip", "submit"), (two[0], "submit", "open")]
    assert store.desk.last_left("bob")["sample"] == two[1]


def test_nothing_is_taken_back_twice_nor_for_somebody_else_nor_a_taking_back(store, two):
    left = store.queue.submit(two[0], "ann")
    assert store.queue.come_back(left["id"], "bob") is None
    back = store.queue.come_back(left["id"], "ann")
    assert store.queue.come_back(left["id"], "ann") is None
    assert store.queue.come_back(back["id"], "ann") is None
    assert store.queue.come_back("nothing", "ann") is None


@pytest.mark.parametrize("leave", ["submit", "skip"])
def test_what_was_taken_back_counts_nowhere(store, two, peaked, leave):
    """Progress, queue, overlap, rate and the figures of a person, as if it had never been left."""
    row = {"word_index": 0, "word": "red", "source": "vlm", "distribution": peaked(3, 0.5)}
    store.scores.add({**row, "sample": id} for id in two)
    store.gold.set(two[1], 0, 4, "gus")

    def figures():
        bob = [store.tallies.queue("bob", overlap=n) for n in (None, 1, 2)]
        given = [store.queue.next(who, "newest", overlap=1) for who in ("ann", "bob")]
        begun = store.queue.next("ann")
        worked = pace([s for s in store.judgements.steps() if s["who"] == "ann"])
        return (
            store.tallies.progress("ann"), store.tallies.queue("ann"), bob, store.gold.done("ann"), [x and x["id"] for x in given],
            begun and begun["id"], worked["submitted"], worked["skipped"], store.gold.next("ann")["id"],
        )  # fmt: skip

    store.scores.set(two[1], 0, 3, "ann")
    before = figures()
    left = getattr(store.queue, leave)(two[1], "ann")
    assert store.gold.next("ann") is None and store.gold.done("ann") == 1
    store.queue.come_back(left["id"], "ann")
    assert figures() == before
    assert [(e["what"], e["text"]) for e in store.library.events(two[1])][:2] == [
        ("undo", leave),
        (leave, ""),
    ]
    assert pace([s for s in store.judgements.steps() if s["who"] == "ann"])["undos"] == 1
    store.queue.submit(two[1], "ann")
    assert (
        store.tallies.queue("ann")["mine"],
        store.gold.done("ann"),
        store.tallies.queue("ann")["per_hour"],
    ) == (1, 1, None)


def test_scores_of_one_sample_that_were_written_at_one_time_are_undone_as_one_step(store, two):
    store.scores.set(two[0], 1, 2, "ann")
    event = {"sample": two[0], "source": "human", "who": "ann", "created": "2030-01-01T00:00:00.000000Z"}
    store.scores.add({**event, "word_index": i, "word": "w", "score": 7} for i in (0, 1))
    store.scores.undo(None, "ann")
    assert {
        i: w["human"] and w["human"]["score"] for i, w in store.scores.current(two[0], "ann").items()
    } == {
        0: None,
        1: 2,
    }
    store.scores.undo(None, "ann")
    assert store.desk.last_step("ann") is None


def test_whatever_the_clock_says_the_last_step_is_undone_first_and_alone(store, two, bad_clock):
    store.scores.set(two[0], 0, 3, "ann")
    store.scores.set(two[0], 1, 4, "ann")
    store.scores.set(two[1], 0, 5, "ann")
    together = {"sample": two[1], "source": "human", "who": "ann", "word": "w", "score": 7}
    store.scores.add({**together, "word_index": i} for i in (1, 2, 3))
    gone_back = []
    while event := store.scores.undo(None, "ann"):
        said = [sum(e["kind"] == "set" for e in standing(store, id)) for id in two]
        gone_back.append((event["sample"], said))
    assert gone_back == [(two[1], [2, 1]), (two[1], [2, 0]), (two[0], [1, 0]), (two[0], [0, 0])]


def standing(store, sample):
    with store.database.reading() as db:
        names = "kind", "word_index", "score"
        sql = f"SELECT {', '.join(names)} FROM latest WHERE sample = ? AND source = 'human'"
        return [dict(zip(names, r)) for r in db.execute(sql, (sample,))]


def test_whatever_the_clock_says_submits_are_taken_back_the_last_first_with_what_each_confirmed(
    store, two, bad_clock
):
    confirmed = [{"word_index": 0, "word": "red", "score": 9}]
    for sample in (two[0], two[1], two[0]):
        store.queue.submit(sample, "ann", confirmed)

    def left():
        return [(store.scores.current(id).get(0) or {}).get("confirmed") is not None for id in two]

    gone_back = []
    while last := store.desk.last_left("ann"):
        store.queue.come_back(last["id"], "ann")
        gone_back.append((last["sample"], left()))
    assert gone_back == [(two[0], [True, True]), (two[1], [True, False]), (two[0], [False, False])]
    assert pace([s for s in store.judgements.steps() if s["who"] == "ann"])["submitted"] == 0


def test_of_rows_without_an_order_of_their_own_the_times_decide(store, two):
    """As those of a store that an earlier version made, or of an import."""
    with store.database.writing() as db:
        for n, who in ((1, "ann"), (3, "ann"), (2, "bob")):
            db.execute(
                """INSERT INTO scores (id, sample, word_index, word, source, who, kind, score, scorer, scorer_version,
                weight, created) VALUES (?, ?, ?, '', 'human', ?, 'set', 5, '', '', 1, ?)""",
                (f"e{n}", two[0], n, who, f"2026-01-01T00:00:0{n}.000000Z"),
            )
        db.execute(
            "INSERT INTO submissions (id, sample, who, kind, created) VALUES ('s', ?, 'ann', 'submit', ?)",
            (two[0], "2026-01-01T00:00:02.000000Z"),
        )
    assert store.desk.last_left("ann")["after"] == 1 < store.desk.last_step("ann")["seq"] == 2
    store.scores.undo(None, "ann")
    assert store.desk.last_left("ann")["after"] >= store.desk.last_step("ann")["seq"]


def test_filters_offer_what_there_is_to_train_on(store, sample_row, two):
    store.samples.add([sample_row(seed=3, prompt_set="secret", split="heldout")])
    assert store.desk.choices("prompt_set") == ["shapes"]
    assert store.desk.choices("method") == ["none"]
    assert store.desk.choices("prompt", 1) == ["a blue star"]
    with pytest.raises(ValueError, match="filter"):
        store.desk.choices("image_path; DROP TABLE samples")
