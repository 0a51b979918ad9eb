"""Gold: set and taken back, noted in the audit log, before all else in training, and slipped into people's queues."""

import json

import pytest

from core.words import units_of
from data.exchange.pairs import export_dpo
from data.exchange.table import export_csv
from data.exchange.words import RAPIDATA, export_words, import_words
from data.store import StoreError
from data.store.labels import RULE


@pytest.fixture
def sample(store, sample_row):
    return store.samples.add([sample_row()])[0]


def scores(store, **filters):
    return {x["word_index"]: (x["source"], x["score"]) for x in store.labels.current(**filters)}


def test_gold_is_set_changed_and_taken_back_and_each_change_noted(store, sample):
    first = store.gold.set(sample, 1, 7, "ann", "red")
    assert (first["word"], first["score"], first["who"]) == ("red", 7, "ann")
    assert store.gold.set(sample, 1, 7, "bob") == first  # it stands already
    store.gold.set(sample, 1, 2, "bob")
    store.gold.set(sample, 2, 9, "ann", "circle")
    found = [(g["word_index"], g["word"], g["score"], g["who"]) for g in store.gold.scores(sample)]
    assert found == [(2, "circle", 9, "ann"), (1, "red", 2, "bob")]
    assert store.gold.count() == {"words": 2, "samples": 1}
    assert store.gold.set(sample, 1, None, "ann") is store.gold.set(sample, 1, None, "ann") is None
    assert [g["word_index"] for g in store.gold.scores()] == [2]
    assert store.gold.scores(limit=0) == []
    lines = store.audit.entries()
    assert [(x["who"], x["action"], x["subject"]) for x in lines] == [
        (who, "gold", sample) for who in ("ann", "ann", "bob", "ann")
    ]
    assert lines[0]["detail"] == {"word_index": 1, "word": "red", "before": 2, "score": None}


def test_gold_that_makes_no_sense_is_refused(store, sample):
    for id, word, score, who, says in (
        (sample, 7, 3, "ann", "past the sample's 7 words"),
        (sample, -1, 3, "ann", "word_index"),
        (sample, 1, 10, "ann", "score"),
        (sample, 1, True, "ann", "score"),
        (sample, 1, 3, "", "who"),
        ("nothere", 1, 3, "ann", "no sample"),
    ):
        with pytest.raises(ValueError, match=says):
            store.gold.set(id, word, score, who)
    assert (store.gold.scores(), store.audit.entries()) == ([], [])


def test_gold_is_the_label_before_all_that_people_and_scorers_say(store, sample):
    store.scores.add([{"sample": sample, "word_index": w, "source": "vlm", "score": 1} for w in (1, 2)])
    for who, score in (("ann", 4), ("bob", 5), ("cyd", 6)):
        store.scores.set(sample, 1, score, who)
    store.gold.set(sample, 1, 9, "ann", "red")
    store.gold.set(sample, 5, 0, "ann", "blue")  # nobody has scored it
    assert scores(store) == {1: ("human", 9), 2: ("vlm", 1), 5: ("human", 0)}
    assert list(scores(store)) == [1, 2, 5]
    assert scores(store, sources=["vlm"]) == {1: ("vlm", 1), 2: ("vlm", 1)}
    assert scores(store, split="heldout") == {}
    assert [(x["scorer"], x["weight"], x["word"]) for x in store.labels.current(sources=["human"])] == [
        ("gold", 1.0, "red"),
        ("gold", 1.0, "blue"),
    ]
    assert [(x["word_index"], x["score"], x["vlm"]["score"]) for x in store.labels.corrections()] == [
        (1, 9, 1)
    ]
    store.gold.set(sample, 1, None, "ann")
    assert scores(store)[1] == ("human", 5)


def test_a_snapshot_keeps_its_gold_and_one_from_before_gold_has_none(store, sample):
    store.scores.set(sample, 1, 4, "ann")
    old = {k: v for k, v in store.labels.snapshot().items() if k != "gold"} | {"rule": "lower median"}
    store.gold.set(sample, 1, 9, "ann")
    kept = json.loads(json.dumps(store.labels.snapshot()))
    assert kept["rule"] == RULE
    assert kept["gold"] == 1
    store.gold.set(sample, 1, 2, "bob")
    store.gold.set(sample, 2, 3, "bob")
    assert [x["score"] for x in store.labels.current(kept)] == [9]
    assert [x["score"] for x in store.labels.current(old)] == [4]
    assert [x["score"] for x in store.labels.current()] == [2, 3]
    with pytest.raises(StoreError, match="lacks events"):
        store.labels.current({**kept, "gold": 0})
    with pytest.raises(ValueError, match="gold"):
        store.labels.current({**kept, "gold": -1})
    assert store.labels.corrections(gold=0) == []


def test_every_export_of_labels_writes_the_gold_score(store, sample_row, quick_path):
    a, b = store.samples.add([sample_row(seed=i, image_path=f"images/{i}.png") for i in range(2)])
    for id in (a, b):
        store.scores.set(id, 1, 5, "ann", word="red")
    store.gold.set(b, 1, 9, "ann")
    export_csv(store, quick_path / "a.csv")
    assert ",red,human,9,,9.0,1.0,gold," in (quick_path / "a.csv").read_text()
    export_dpo(store, quick_path / "dpo.jsonl")
    assert json.loads((quick_path / "dpo.jsonl").read_text())["chosen_sample"] == b
    export_words(store, quick_path / "words.jsonl", RAPIDATA)
    assert '[[\\"red\\", 0.0]]' in (quick_path / "words.jsonl").read_text()
    found = import_words(store, quick_path / "words.jsonl", RAPIDATA, "bob", units=units_of)
    assert (found["same"], found["changes"]) == (2, [])


def given(store, who, **more):
    found = store.gold.next(who, **more)
    return found and found["id"]


def test_gold_is_given_once_to_each_but_those_who_set_it(store, sample_row):
    a, b, _plain = store.samples.add([sample_row(seed=i) for i in range(3)])
    assert given(store, "bob") is None
    for id in (a, b):
        store.gold.set(id, 1, 5, "ann")
    assert given(store, "ann") is None
    first = given(store, "bob", lease=60)
    assert given(store, "bob") == first  # in an order that lasts
    assert given(store, "cyd", lease=60) == ({a, b} - {first}).pop()  # what others hold is left out
    assert given(store, "dan") is None
    store.queue.submit(first, "bob")
    store.queue.skip(({a, b} - {first}).pop(), "cyd")
    assert given(store, "bob") == ({a, b} - {first}).pop()
    assert given(store, "bob", exclude=({a, b} - {first}).pop()) is None
    assert store.gold.done("bob") == 1
    store.gold.set(first, 1, None, "ann")
    assert given(store, "dan") == ({a, b} - {first}).pop()
    (mine,) = store.samples.add([sample_row(seed=9, prompt_set="mine")])
    (lost,) = store.samples.add([sample_row(seed=10, prompt_set="mine", image_path=None, image_sha256=None)])
    for id in (lost, mine):
        store.gold.set(id, 1, 5, "ann")
    assert given(store, "eve", prompt_set="mine") == mine
    assert given(store, "eve", prompt_set="other") is given(store, "eve", split="heldout") is None
    with pytest.raises(ValueError, match="filtered by"):
        store.gold.next("eve", colour="red")
