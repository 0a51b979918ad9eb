"""*Nothing else*, the unit after a prompt's words, in the store and in every format: it travels as one more word, or is left
out by formats that have no place for it; a sample that was stored before it lacks it."""

from hashlib import sha256

import pytest
from PIL import Image

from core import words
from data.exchange.folder import export_folder
from data.exchange.jsonl import ImportRefused, export_labels
from data.exchange.parquet import export_parquet
from data.exchange.table import export_csv
from data.exchange.words import RAPIDATA, RICHHF, export_words
from data.store import Store
from data.store.scores import NOTHING_ELSE
from tests.data.exchanging import importers, unsaid

PROMPT = "a red circle"
import_labels, import_csv, import_words, import_parquet, import_folder = importers(words.units_of)
NEW, OLD = "new", "old"


@pytest.fixture
def bare(full, quick_path):
    return unsaid(full, quick_path)


@pytest.fixture
def full(store, sample_row, quick_path):
    """One sample with *nothing else* after its three words, one that was stored before there was any."""
    rows = []
    for seed, (id, count) in enumerate({NEW: 4, OLD: 3}.items()):
        path = quick_path / "images" / f"{id}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8), (seed, 0, 0)).save(path)
        digest = sha256(path.read_bytes()).hexdigest()
        rows.append(sample_row(id=id, prompt=PROMPT, seed=seed, n_words=count, image_path=f"images/{id}.png", image_sha256=digest))  # fmt: skip
    store.samples.add(rows)
    for id in (NEW, OLD):
        store.scores.set(id, 1, 7, "ann", word="red")
        store.scores.set(id, 2, 8, "ann", word="circle")
    store.scores.set(NEW, 3, 2, "ann", word=NOTHING_ELSE)
    return store


def labels(store):
    return [(x["sample"], x["word_index"], x["word"], x["score"]) for x in store.labels.current()]


def test_it_is_the_last_of_a_sample_and_no_other_and_one_stored_before_has_no_place_for_it(full):
    assert NOTHING_ELSE == words.NOTHING_ELSE
    for refuse, says in (
        (lambda: full.scores.set(OLD, 3, 9, "ann", word=NOTHING_ELSE), "past the sample's 3 words"),
        (lambda: full.scores.set(NEW, 1, 9, "ann", word=NOTHING_ELSE), "stands after the words"),
        (
            lambda: full.scores.add(
                [{"sample": NEW, "word_index": 0, "word": NOTHING_ELSE, "source": "vlm", "score": 1}]
            ),
            "stands after the words",
        ),
        (lambda: full.gold.set(NEW, 2, 9, "ann", word=NOTHING_ELSE), "stands after the words"),
    ):
        with pytest.raises(ValueError, match=says):
            refuse()
    assert labels(full)[-1] == (OLD, 2, "circle", 8)
    assert full.gold.set(NEW, 3, 3, "ann", word=NOTHING_ELSE)["score"] == 3


@pytest.mark.parametrize(
    ("write", "take"),
    [
        (lambda store, path, home: export_csv(store, path), import_csv),
        (lambda store, path, home: export_parquet(store, path), import_parquet),
        (lambda store, path, home: export_folder(store, path, home), import_folder),
    ],
    ids=["csv", "parquet", "dataset"],
)
def test_tables_and_datasets_carry_it_as_one_more_word_both_ways(full, bare, quick_path, write, take):
    export_labels(full, quick_path / "a.jsonl")
    text = (quick_path / "a.jsonl").read_text()
    (quick_path / "a.jsonl").write_text(text.replace('"word_index":3', '"word_index":1'))
    with pytest.raises(ImportRefused, match="line 2.*word_index 1"):
        import_labels(Store(quick_path / "other.db"), quick_path / "a.jsonl")
    assert write(full, quick_path / "out", quick_path)["words"] == 5
    found = take(bare, quick_path / "out", "bob")
    assert (found["new"], found["changed"]) == (5, 0)
    assert labels(bare) == labels(full)
    assert take(bare, quick_path / "out", "bob")["same"] == 5


def test_a_table_that_scores_it_where_a_sample_lacks_it_is_refused(full, bare, quick_path):
    path = quick_path / "a.csv"
    for line, said in (("old,3", "past the sample's 3 words"), ("new,2", "stands after the words")):
        path.write_text(f"sample,word_index,word,score\n{line},{NOTHING_ELSE},9\n")
        with pytest.raises(ImportRefused, match=said):
            import_csv(bare, path, "bob")
    assert bare.labels.current() == []


@pytest.mark.parametrize("kind", [RICHHF, RAPIDATA], ids=lambda kind: kind.name)
def test_formats_of_words_alone_leave_it_out_and_count_it(full, bare, quick_path, kind):
    path = quick_path / "a.jsonl"
    assert export_words(full, path, kind) == {"samples": 2, "words": 4, "nothing_else_left_out": 1}
    assert NOTHING_ELSE not in path.read_text()
    assert import_words(bare, path, kind, "bob")["new"] == 4
    assert {index for _, index, *_ in labels(bare)} == {1, 2}
    for word in (1, 2):  # a sample of which it alone is said is no line
        full.scores.clear(NEW, word, "ann")
    assert export_words(full, path, kind) == {"samples": 1, "words": 2, "nothing_else_left_out": 1}
