"""What a submit confirms: a source of its own, below what people typed, taken back with the submit, and nobody's score."""

import csv

import pytest

from data.exchange.folder import card
from data.exchange.jsonl import export_labels
from data.exchange.table import export_csv
from data.store import Store
from tests.data.exchanging import fake_units, importers

import_labels, import_csv, *_ = importers(fake_units(text="w{}"))


def shown(*scores):
    """Scores of the words 0, 1, ... as they were shown."""
    return [{"word_index": i, "word": f"w{i}", "score": s} for i, s in enumerate(scores) if s is not None]


def vlm(store, sample, *scores):
    store.scores.add(
        {"sample": sample, "word_index": i, "word": f"w{i}", "source": "vlm", "score": s}
        for i, s in enumerate(scores)
    )


def labels(store, sample):
    return [(x["word_index"], x["source"], x["score"]) for x in store.labels.current(ids=[sample])]


@pytest.fixture
def scored(store, sample_row):
    """Two samples of three words that the VLM scored."""
    for id in store.samples.add(sample_row(id=f"s{i}", seed=i) for i in range(2)):
        vlm(store, id, 9, 2, 7)
    return store


def test_a_typed_score_stands_before_a_confirmed_one_and_that_before_all_machines(scored):
    scored.scores.set("s0", 1, 6, "detector", source="simulated")
    scored.queue.submit("s0", "ann", shown(9, 2))
    assert labels(scored, "s0") == [(0, "confirmed", 9), (1, "confirmed", 2), (2, "vlm", 7)]
    for who, score in (("bob", 8), ("cyd", 5), ("dan", 9)):
        scored.queue.submit("s0", who, shown(None, score))
    assert (1, "confirmed", 5) in labels(scored, "s0")  # the lower median
    with scored.database.reading() as db:
        assert db.execute("SELECT mean FROM means WHERE sample = 's0'").fetchone() == (7.0,)
    scored.scores.set("s0", 1, 4, "bob")
    assert labels(scored, "s0") == [(0, "confirmed", 9), (1, "human", 4), (2, "vlm", 7)]
    sql = "SELECT word_index, source, score FROM labels WHERE sample = 's0' ORDER BY word_index"
    with scored.database.reading() as db:
        assert db.execute(sql).fetchall() == labels(scored, "s0")


def test_a_confirmed_score_is_nobodys_score(scored):
    scored.queue.submit("s0", "ann", shown(9, 2, 7))
    scored.scores.set("s0", 0, 1, "bob")
    assert scored.tallies.count_corrected() == 1 and scored.scores.first_corrections(10) == 1
    assert scored.tallies.progress("ann")["corrected_words"] == 0
    assert [x["who"] for x in scored.judgements.scores()] == ["bob"]
    assert scored.scores.history("ann") == [] and scored.judgements.said_of("s0", 1) == []
    with scored.database.reading() as db:
        assert db.execute("SELECT count(*) FROM disagreement").fetchone() == (0,)
    assert scored.scores.undo(None, "ann") is None  # the submit is what is undone


def test_what_was_confirmed_goes_with_the_submit_that_is_taken_back(scored):
    first = scored.queue.submit("s0", "ann", shown(9, 2))
    second = scored.queue.submit("s0", "ann", shown(9, 5))
    other = [scored.queue.submit("s1", "ann", shown(score)) for score in (3, 5)]
    assert labels(scored, "s0")[1] == (1, "confirmed", 5)
    scored.queue.come_back(second["id"], "ann")
    assert labels(scored, "s0")[:2] == [(0, "confirmed", 9), (1, "confirmed", 2)]
    scored.queue.come_back(first["id"], "ann")
    assert {source for _, source, _ in labels(scored, "s0")} == {"vlm"}
    scored.queue.come_back(other[0]["id"], "ann")  # the earlier one: the later confirmation stands
    assert labels(scored, "s1")[0] == (0, "confirmed", 5)
    scored.queue.come_back(other[1]["id"], "ann")
    assert labels(scored, "s1")[0] == (0, "vlm", 9)


def test_a_submit_with_a_bad_confirmation_is_none_and_nobody_confirms_word_by_word(scored):
    for given, said in (
        ({"word_index": 99, "score": 3}, "past the sample"),
        ({"word_index": 0, "score": 10}, "score"),
        ({"word_index": 0}, "needs a score"),
        ({"word_index": 0, "distribution": [0.1] * 10}, "not a distribution"),
    ):
        with pytest.raises(ValueError, match=said):
            scored.queue.submit("s0", "ann", [*shown(9), given])
    with pytest.raises(ValueError, match="source"):
        scored.scores.set("s0", 0, 9, "ann", source="confirmed")
    with pytest.raises(ValueError, match="who"):
        scored.scores.add([{"sample": "s0", "word_index": 0, "source": "confirmed", "score": 9}])
    assert scored.tallies.progress("ann")["submitted"] == 0 and labels(scored, "s0")[0] == (0, "vlm", 9)


def judged(store, **asked):
    return {
        id: {i: (x["source"], x["score"]) for i, x in words.items()}
        for id, words in store.labels.judged_images(**asked)["images"].items()
    }


def test_an_image_is_judged_where_each_word_that_the_vlm_scored_was_typed_or_confirmed(scored):
    last = scored.labels.snapshot()["last"]
    scored.scores.set("s0", 1, 8, "ann")
    assert scored.labels.judged_images() == {"images": {}, "left_out": {"samples": 1, "words": 1}}
    assert [x["judged"] for x in scored.labels.corrections()] == [False]
    done = scored.queue.submit("s0", "ann", shown(9, None, 7))
    assert scored.labels.judged_images()["left_out"] == {"samples": 0, "words": 0}
    assert judged(scored) == {"s0": {0: ("confirmed", 9), 1: ("human", 8), 2: ("confirmed", 7)}}
    assert judged(scored, last=last) == judged(scored, split="heldout") == {}
    said = [(x["judged"], x["source"]) for x in scored.labels.corrections()]
    assert said == [(True, "confirmed"), (True, "human"), (True, "confirmed")]
    scored.queue.come_back(done["id"], "ann")
    assert judged(scored) == {}


def test_several_people_gold_and_the_simulated_annotator_may_judge_an_image_together(scored):
    scored.scores.set("s0", 0, 9, "ann")
    scored.gold.set("s0", 1, 0, "boss")
    scored.scores.set("s0", 2, 7, "detector", source="simulated")
    assert judged(scored) == {"s0": {0: ("human", 9), 1: ("gold", 0), 2: ("simulated", 7)}}
    left = {"images": {}, "left_out": {"samples": 1, "words": 2}}
    assert scored.labels.judged_images(include_simulated=False) == left
    assert judged(scored, gold=0) == {}


def test_a_file_of_labels_keeps_who_confirmed_and_what(scored, quick_path):
    scored.queue.come_back(scored.queue.submit("s0", "ann", shown(9, 2))["id"], "ann")
    scored.queue.submit("s1", "ann", shown(9, 2, 7))
    export_labels(scored, quick_path / "a.jsonl")
    other = Store(quick_path / "other.db")
    import_labels(other, quick_path / "a.jsonl")
    export_labels(other, quick_path / "b.jsonl")
    assert (quick_path / "a.jsonl").read_bytes() == (quick_path / "b.jsonl").read_bytes()
    assert labels(other, "s1") == labels(scored, "s1") and labels(other, "s0") == labels(scored, "s0")
    last = other.desk.last_left("ann")
    other.queue.come_back(last["id"], "ann")
    assert {source for _, source, _ in labels(other, "s1")} == {"vlm"}


def test_the_other_formats_say_that_a_label_was_confirmed_and_take_nothing_back_for_typed(scored, quick_path):
    scored.queue.submit("s0", "ann", shown(9, 2))
    scored.queue.submit("s0", "bob", shown(9))
    export_csv(scored, quick_path / "a.csv")
    with open(quick_path / "a.csv", encoding="utf-8", newline="") as file:
        sources = [row["source"] for row in csv.DictReader(file) if row["sample"] == "s0"]
    assert sources == ["confirmed", "confirmed", "vlm"]
    assert import_csv(scored, quick_path / "a.csv", "cyd")["changes"] == []
    figures = {"splits": {"train": {"images": 1, "words": 3}}, "sources": {"confirmed": 2, "vlm": 1}, "prompts": 1,
               "backbones": [], "scorers": [], "left_out": 0}  # fmt: skip
    assert "- `confirmed`, 2 words: people who saw the score that stood there" in card(
        "t", "cc0-1.0", figures
    )
