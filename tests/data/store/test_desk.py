"""What an annotator's page asks: what people said last, the steps to go back over, and what filters can be chosen."""

import pytest

from data.exchange.jsonl import export_labels
from data.store import desk
from data.store.agreement import pace
from data.store.desk import KEPT_DAYS, page_digest


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


def test_submits_and_skips_are_taken_back_one_after_the_other_the_last_one_first_and_once(store, two):
    store.queue.submit(two[0], "ann")
    store.queue.skip(two[0], "ann")
    last = store.queue.skip(two[1], "ann")
    store.queue.submit(two[1], "bob")
    assert store.desk.last_left("ann", two[0])["sample"] == two[0]
    assert store.queue.come_back(last["id"], "bob") is store.queue.come_back("nothing", "ann") is None
    gone_back = []
    while left := store.desk.last_left("ann"):
        back = store.queue.come_back(left["id"], "ann")
        assert back["undoes"] == left["id"]
        assert store.queue.come_back(left["id"], "ann") is store.queue.come_back(back["id"], "ann") is None
        gone_back.append((left["sample"], left["kind"], back["kind"]))
    assert gone_back == [(two[1], "skip", "open"), (two[0], "skip", "submit"), (two[0], "submit", "open")]
    assert store.desk.last_left("bob")["sample"] == two[1]


@pytest.mark.parametrize("leave", ["submit", "skip"])
def test_what_was_taken_back_counts_nowhere(store, two, peaked, leave):
    """Progress, queue, overlap, rate and the figures of a person, as if it had never been left."""
    row = {"word_index": 0, "word": "red", "source": "vlm", "distribution": peaked(3, 0.5)}
    store.scores.add({**row, "sample": id} for id in two)
    store.gold.set(two[1], 0, 4, "gus")

    def worked():
        return pace([s for s in store.judgements.steps() if s["who"] == "ann"])

    def figures():
        given = [store.queue.next(who, "newest", overlap=1) for who in ("ann", "bob")]
        given += [store.queue.next("ann"), store.gold.next("ann")]
        return (
            [x and x["id"] for x in given], [store.tallies.queue("bob", overlap=n) for n in (None, 1, 2)],
            store.tallies.progress("ann"), store.tallies.queue("ann"), store.gold.done("ann"),
            worked()["submitted"], worked()["skipped"],
        )  # fmt: skip

    store.scores.set(two[1], 0, 3, "ann")
    before = figures()
    left = getattr(store.queue, leave)(two[1], "ann")
    assert store.gold.next("ann") is None and store.gold.done("ann") == 1
    store.queue.come_back(left["id"], "ann")
    assert figures() == before and worked()["undos"] == 1
    events = [(e["what"], e["text"]) for e in store.library.events(two[1])]
    assert events[:2] == [("undo", leave), (leave, "")]
    store.queue.submit(two[1], "ann")
    queue = store.tallies.queue("ann")
    assert (queue["mine"], store.gold.done("ann"), queue["per_hour"]) == (1, 1, None)


def test_whatever_the_clock_says_the_last_step_is_undone_first_and_alone(store, two, bad_clock):
    """Scores of one sample that were written at one time are one step."""
    store.scores.set(two[0], 0, 3, "ann")
    store.scores.set(two[0], 1, 4, "ann")
    store.scores.set(two[1], 0, 5, "ann")
    together = {"sample": two[1], "source": "human", "who": "ann", "word": "w", "score": 7}
    store.scores.add({**together, "word_index": i} for i in (1, 2, 3))
    gone_back = []
    while event := store.scores.undo(None, "ann"):
        said = [sum(e["score"] is not None for e in store.desk.said(id)) for id in two]
        gone_back.append((event["sample"], said))
    assert gone_back == [(two[1], [2, 1]), (two[1], [2, 0]), (two[0], [1, 0]), (two[0], [0, 0])]
    assert store.desk.last_step("ann") is None


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


# -- receipts of what a page sent: kept for each page and person, removed when old, and never exported

ANSWER = {"shown": "a", "place": "b", "left": True, "error": "", "says": "", "word": None}
PAGE = page_digest("0123456789abcdef", "ann")


def receipts(store):
    with store.database.reading() as db:
        return {row[0]: row for row in db.execute("SELECT page_sha256, * FROM receipts")}


def test_the_last_receipt_of_a_page_stands_and_says_nothing_of_who_wrote(store, sample_row, quick_path):
    assert store.receipts.get(PAGE) is None
    for revision in (1, 2, 7):
        store.receipts.give(PAGE, revision, {**ANSWER, "word": revision})
    assert store.receipts.get(PAGE) == {"revision": 7, "answer": {**ANSWER, "word": 7}}
    assert store.receipts.get(page_digest("0123456789abcdef", "bob")) is None
    assert receipts(store).keys() == {PAGE}
    for wrong in (
        {"left": 1},
        {"place": None},
        {"word": -1},
        {"error": "x" * 2001},
        {"says": 3},
        {"shown": "x" * 65},
    ):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            store.receipts.give(page_digest("another", "ann"), 1, {**ANSWER, **wrong})
    kept = str(receipts(store))
    assert receipts(store).keys() == {PAGE} and "ann" not in kept and "0123456789abcdef" not in kept
    store.samples.add([sample_row()])
    export_labels(store, quick_path / "out.jsonl")
    assert PAGE not in (quick_path / "out.jsonl").read_text()


def test_pages_that_were_silent_for_long_are_forgotten_when_a_new_one_comes(store, monkeypatch):
    now = desk.now
    for days in (0, KEPT_DAYS - 1, KEPT_DAYS + 1):
        monkeypatch.setattr(desk, "now", lambda seconds=0, ago=days: now(seconds - 86400 * ago))
        store.receipts.give(page_digest("page", str(days)), 1, ANSWER)
    monkeypatch.undo()
    store.receipts.give(page_digest("page", "0"), 2, ANSWER)
    assert len(receipts(store)) == 3  # one that is known costs no search
    store.receipts.give(PAGE, 1, ANSWER)
    assert receipts(store).keys() == {PAGE, *(page_digest("page", str(d)) for d in (0, KEPT_DAYS - 1))}
