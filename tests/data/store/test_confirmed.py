"""What a submit confirms: a source of its own, below what people typed, taken back with the submit, and nobody's score."""

import csv
import sqlite3

import pytest

from data.exchange.folder import card
from data.exchange.formats import export_csv
from data.exchange.jsonl import export_labels
from data.store import Store
from data.store.library import labels_of
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
    scored.scores.set("s0", 1, 4, "bob")
    assert labels(scored, "s0") == [(0, "confirmed", 9), (1, "human", 4), (2, "vlm", 7)]
    with scored.database.reading() as db:
        seen = db.execute(
            "SELECT word_index, source, score FROM labels WHERE sample = 's0' ORDER BY word_index"
        )
        assert seen.fetchall() == labels(scored, "s0")
        row = db.execute(
            "SELECT confirmed, human, people FROM current_scores WHERE sample = 's0' AND word_index = 1"
        )
        assert row.fetchone() == (2.0, 4.0, 1)


def test_of_several_who_confirmed_the_lower_median_counts(scored):
    for who, score in (("ann", 2), ("bob", 8), ("cyd", 5), ("dan", 9)):
        scored.queue.submit("s0", who, shown(None, score))
    assert (1, "confirmed", 5) in labels(scored, "s0")


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
    assert labels(scored, "s0")[1] == (1, "confirmed", 5)
    scored.queue.come_back(second["id"], "ann")
    assert labels(scored, "s0")[:2] == [(0, "confirmed", 9), (1, "confirmed", 2)]
    scored.queue.come_back(first["id"], "ann")
    assert {source for _, source, _ in labels(scored, "s0")} == {"vlm"}


def test_the_later_confirmation_stands_when_an_earlier_submit_is_taken_back(scored):
    first, second = scored.queue.submit("s0", "ann", shown(3)), scored.queue.submit("s0", "ann", shown(5))
    scored.queue.come_back(first["id"], "ann")
    assert labels(scored, "s0")[0] == (0, "confirmed", 5)
    scored.queue.come_back(second["id"], "ann")
    assert labels(scored, "s0")[0] == (0, "vlm", 9)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([{"word_index": 99, "score": 3}], "past the sample"),
        ([{"word_index": 0, "score": 10}], "score"),
        ([{"word_index": 0}], "needs a score"),
        ([{"word_index": 0, "distribution": [0.1] * 10}], "not a distribution"),
    ],
)
def test_a_submit_with_a_bad_confirmation_is_none(scored, given, said):
    with pytest.raises(ValueError, match=said):
        scored.queue.submit("s0", "ann", [*shown(9), *given])
    assert scored.tallies.progress("ann")["submitted"] == 0 and labels(scored, "s0")[0] == (0, "vlm", 9)


def test_nobody_confirms_word_by_word(scored):
    with pytest.raises(ValueError, match="source"):
        scored.scores.set("s0", 0, 9, "ann", source="confirmed")
    with pytest.raises(ValueError, match="who"):
        scored.scores.add([{"sample": "s0", "word_index": 0, "source": "confirmed", "score": 9}])


def test_the_mean_of_a_sample_counts_what_was_confirmed(scored):
    scored.queue.submit("s0", "ann", shown(9, 2, 4))
    scored.queue.submit("s0", "bob", shown(9, 2, 0))
    with scored.database.reading() as db:
        kept = db.execute("SELECT mean FROM means WHERE sample = 's0'").fetchone()[0]
        found = [x["score"] for x in labels_of(db, ["s0"]).values()]
    assert found == [9, 2, 0] and kept == pytest.approx(11 / 3, abs=1e-6)


def test_an_image_is_judged_where_each_word_that_the_vlm_scored_was_typed_or_confirmed(scored):
    scored.scores.set("s0", 1, 8, "ann")
    assert scored.labels.judged_images() == {"images": {}, "left_out": {"samples": 1, "words": 1}}
    assert [x["judged"] for x in scored.labels.corrections()] == [False]
    done = scored.queue.submit("s0", "ann", shown(9, None, 7))
    found = scored.labels.judged_images()
    assert found["left_out"] == {"samples": 0, "words": 0}
    said = found["images"]["s0"]
    assert {i: (x["source"], x["score"]) for i, x in said.items()} == {
        0: ("confirmed", 9), 1: ("human", 8), 2: ("confirmed", 7),
    }  # fmt: skip
    assert [(x["judged"], x["source"]) for x in scored.labels.corrections()] == [
        (True, "confirmed"), (True, "human"), (True, "confirmed"),
    ]  # fmt: skip
    scored.queue.come_back(done["id"], "ann")
    assert scored.labels.judged_images()["images"] == {}


def test_several_people_gold_and_the_simulated_annotator_may_judge_an_image_together(scored):
    scored.scores.set("s0", 0, 9, "ann")
    scored.gold.set("s0", 1, 0, "boss")
    scored.scores.set("s0", 2, 7, "detector", source="simulated")
    assert {i: x["source"] for i, x in scored.labels.judged_images()["images"]["s0"].items()} == {
        0: "human", 1: "gold", 2: "simulated",
    }  # fmt: skip
    assert scored.labels.judged_images(include_simulated=False) == {
        "images": {},
        "left_out": {"samples": 1, "words": 2},
    }
    assert scored.labels.judged_images(gold=0)["images"] == {}


def test_what_was_judged_can_be_asked_of_an_earlier_time(scored):
    last = scored.labels.snapshot()["last"]
    scored.queue.submit("s1", "ann", shown(9, 2, 7))
    assert set(scored.labels.judged_images()["images"]) == {"s1"}
    assert (
        scored.labels.judged_images(last=last)["images"]
        == {}
        == scored.labels.judged_images(split="heldout")["images"]
    )


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


def test_a_store_of_before_opens_with_all_that_it_holds(quick_path, sample_row, older_store):
    said = {"sample": "s0", "word_index": 0, "word": "w0", "kind": "set", "scorer": "", "scorer_version": "", "weight": 1,
            "created": "2026"}  # fmt: skip
    events = [("vlm", "", 3), ("human", "ann", 8), ("human", "bob", 4)]
    rows = [{**said, "id": f"e{i}", "source": a, "who": b, "score": c} for i, (a, b, c) in enumerate(events)]
    path = older_store("m009_confirmed", [sample_row(id="s0")], scores=rows)
    with sqlite3.connect(path) as db, pytest.raises(sqlite3.IntegrityError):
        db.execute("UPDATE scores SET source = 'confirmed'")
    store = Store(path)
    store.restoring.check()
    assert labels(store, "s0") == [(0, "human", 4)]
    vlm(store, "s0", 3, 6)
    store.queue.submit("s0", "cyd", shown(None, 6))
    assert labels(store, "s0") == [(0, "human", 4), (1, "confirmed", 6)]
    schema = "SELECT name, sql FROM sqlite_master WHERE type IN ('table', 'view', 'trigger')"
    with store.database.reading() as db, Store(quick_path / "new.db").database.reading() as new:
        assert db.execute("SELECT mean FROM means").fetchone() == (5.0,)
        assert dict(db.execute(schema)) == dict(new.execute(schema))
