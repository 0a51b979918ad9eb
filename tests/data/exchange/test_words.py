"""A label from elsewhere is of a word of its prompt, whatever the format: no label comes to another word, or to one that is
not scored."""

import json
from functools import partial

import pytest

from core.words import units, units_of
from data.exchange.folder import import_folder
from data.exchange.jsonl import ImportRefused, export_labels, import_labels
from data.exchange.parquet import import_parquet
from data.exchange.table import import_csv
from data.exchange.words import RAPIDATA, RICHHF, import_words
from data.store import Store

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

PROMPT = "a black & white cat on a red mat"  # 0 a, 1 black, 2 white, 3 cat, 4 on, 5 a, 6 red, 7 mat, 8 nothing else
OWN = "The prompt's words are: 0 a, 1 black, 2 white, 3 cat, 4 on, 5 a, 6 red, 7 mat, 8 nothing else."


@pytest.fixture
def images(store, sample_row):
    """A function that stores an image of a prompt, which nobody has scored."""

    def make(prompt=PROMPT, rules=1):
        count = len(units(prompt, rules))
        store.samples.add([sample_row(id="s", prompt=prompt, n_words=count, word_rules=rules)])
        return store

    return make


def csv(folder, index, word, score=9):
    path = folder / "a.csv"
    path.write_text(f"sample,word_index,word,score\ns,{index},{word},{score}\n", encoding="utf-8")
    return lambda store: import_csv(store, path, "bob", units=units_of)


def parquet(folder, index, word, score=9):
    path = folder / "a.parquet"
    row = {"sample": "s", "word_index": index, "word": word, "score": score}
    pq.write_table(pa.Table.from_pylist([row]), path)
    return lambda store: import_parquet(store, path, "bob", units=units_of)


def dataset(folder, index, word, score=9):
    (folder / "out/train").mkdir(parents=True)
    rows = [{"id": "s", "words": [{"index": index, "word": word, "score": score}]}]
    pq.write_table(pa.Table.from_pylist(rows), folder / "out/train/metadata.parquet")
    return lambda store: import_folder(store, folder / "out", "bob", units=units_of)


def jsonl(folder, index, word, score=9, part="events"):
    def take(store):
        other, path = Store(folder / "other.db"), folder / "a.jsonl"
        other.samples.add([{k: v for k, v in s.items() if k != "seq"} for s in store.samples.find()])
        if part == "events":
            other.scores.set("s", index, score, "bob", word=word)
        else:
            other.gold.set("s", index, score, "bob", word=word)
        export_labels(other, path)
        return import_labels(store, path, units=units_of)

    return take


def marks(folder, kind, prompt, words, values, places=None):
    path = folder / "a.jsonl"
    line = {"sample": "s", "prompt": prompt, "word_index": places or list(range(len(words)))}
    said = kind.pack(list(words), list(values))
    path.write_text(f"{json.dumps(kind.header)}\n{json.dumps({**line, **said})}\n", encoding="utf-8")
    return lambda store: import_words(store, path, kind, "bob", units=units_of)


def labels(store):
    return {x["word_index"]: (x["word"], x["score"]) for x in store.labels.current()}


FORMATS = {
    "csv": csv,
    "parquet": parquet,
    "dataset": dataset,
    "jsonl": jsonl,
    "gold": partial(jsonl, part="gold"),
}


@pytest.mark.parametrize("format", FORMATS)
def test_a_row_that_is_not_of_the_prompts_words_is_refused_with_them(images, quick_path, format):
    store = images()
    for n, (index, word, says) in enumerate((
        (6, "elephant", "word 6 of the prompt is 'red', not 'elephant'."),
        (3, "white", "word 3 of the prompt is 'cat', not 'white'."),
        (2, "&", "word 2 of the prompt is 'white', not '&'."),
        (8, "mat", "word 8 of the prompt is 'nothing else', not 'mat'."),
        (0, "a", "word 0, 'a', takes no score; leave it out."),
        (4, "", "word 4, 'on', takes no score; leave it out."),
    )):  # fmt: skip
        (quick_path / str(n)).mkdir()
        with pytest.raises(ImportRefused) as refused:
            FORMATS[format](quick_path / str(n), index, word)(store)
        assert str(refused.value).endswith(f"{says} {OWN} Nothing was imported.")
        assert refused.value.line in (1, 2) and labels(store) == {}
    if format in ("csv", "parquet", "dataset"):
        (quick_path / "past").mkdir()
        with pytest.raises(
            ImportRefused, match=r"word_index 9 is past .* The prompt's words are: 0 a, 1 black"
        ):
            FORMATS[format](quick_path / "past", 9, "mat")(store)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(("index", "word"), [(7, "mat"), (7, ""), (8, "nothing else"), (3, "CAT")])
def test_a_row_that_is_of_them_is_taken_over(images, quick_path, format, index, word):
    store = images()
    FORMATS[format](quick_path, index, word)(store)
    assert {i: score for i, (_, score) in labels(store).items()} == {index: 9}


def test_a_word_is_the_same_however_its_accents_are_composed(images, quick_path):
    store = images("un café rouge")
    for word in ("café", "cafe\u0301"):
        csv(quick_path, 1, word)(store)
        assert labels(store) == {1: ("café", 9)}


def test_the_words_of_a_long_prompt_do_not_make_a_long_message(images, quick_path):
    says = r"word 150 of the prompt is 'w150', not 'x'.*, \d+ w?\d* \.\.\.\."
    with pytest.raises(ImportRefused, match=says) as refused:
        csv(quick_path, 150, "x")(images(" ".join(f"w{i}" for i in range(300))))
    assert len(str(refused.value)) < 800


CUTS = {
    "at spaces": (PROMPT, PROMPT.split(" "), {3: 0}, {1: 9, 2: 0, 3: 9, 6: 9, 7: 9}, 4),
    "at spaces, with signs at words": ("A red cat, (on a mat).", "A red cat, (on a mat).".split(), {2: 0}, {1: 9, 2: 0, 5: 9}, 3),
    "signs apart": ("a red cat, on a mat.", ["a", "red", "cat", ",", "on", "a", "mat", "."], {6: 0}, {1: 9, 2: 9, 5: 0}, 5),
    "parts of a word": ("a t-shirt, red", ["a", "t", "-", "shirt", ",", "red"], {5: 0}, {1: 9, 2: 0}, 2),
    "in small letters": ("Two Cats & Dogs", ["two", "cats", "&", "dogs"], {1: 0}, {0: 9, 1: 0, 2: 9}, 1),
    "the same word twice": ("red & red mat", ["red", "&", "red", "mat"], {2: 0}, {0: 9, 1: 0, 2: 9}, 1),
    "a word cut in two, of which one part is bad": ("a t-shirt", ["a", "t", "-", "shirt"], {1: 0}, {1: 0}, 1),
    "as ours": ("a red cat", ["a", "red", "cat"], {0: 0}, {1: 9, 2: 9}, 1),
}  # fmt: skip


@pytest.mark.parametrize("kind", [RICHHF, RAPIDATA], ids=lambda kind: kind.name)
@pytest.mark.parametrize("name", CUTS)
def test_words_that_another_tool_cut_are_placed_by_their_characters(images, quick_path, name, kind):
    prompt, words, bad, wanted, left = CUTS[name]
    good, worst = kind.value(9), kind.value(0)
    store = images(prompt)
    values = [worst if i in bad else good for i in range(len(words))]
    found = marks(quick_path, kind, prompt, words, values)(store)
    assert {i: score for i, (_, score) in labels(store).items()} == wanted
    assert found["not_scored"] == left
    assert all(word == units(prompt, 1)[i].text for i, (word, _) in labels(store).items())


@pytest.mark.parametrize("marks_of_phrase", [(1, 0), (0, 1), (0, 0)])
def test_a_phrase_takes_the_worst_mark_of_its_words(images, quick_path, marks_of_phrase):
    prompt, store = "a cat next to a mat", images("a cat next to a mat", rules=2)
    marks(quick_path, RICHHF, prompt, prompt.split(), [1, 1, *marks_of_phrase, 1, 1])(store)
    assert labels(store) == {1: ("cat", 9), 2: ("next to", 0), 4: ("mat", 9)}


@pytest.mark.parametrize(
    ("prompt", "words", "values", "places", "says"),
    [
        (PROMPT, ["white", "mat"], [0, 1], [3, 8], "word 3 of the prompt is 'cat', not 'white'."),
        (PROMPT, ["black", "&", "white"], [1, 1, 0], None, "word 0 of the prompt is 'a', not 'black'."),
        (PROMPT, [*PROMPT.split()[:8], "hat"], [1] * 9, None, "word 2 of the prompt is 'white', not '&'."),
        (PROMPT, [*PROMPT.split(), "now"], [1] * 10, None, "word 2 of the prompt is 'white', not '&'."),
        ("a red/blue cat", ["a", "red/blue", "cat"], [1, 0, 1], None, "'red/blue' holds several words; mark them apart."),
    ],
)  # fmt: skip
def test_words_whose_place_cannot_be_told_are_refused_whole(
    images, quick_path, prompt, words, values, places, says
):
    store = images(prompt)
    with pytest.raises(
        ImportRefused, match=r"line 2: .*The prompt's words are: 0 a, 1 .*Nothing was imported"
    ) as refused:
        marks(quick_path, RICHHF, prompt, words, values, places)(store)
    assert says in str(refused.value)
    assert labels(store) == {}
