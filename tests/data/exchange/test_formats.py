"""Labels as other tools want them: what each format says, what it loses, and what an import takes and refuses."""

import csv
import io
import itertools
import json
import random

import pytest

from data.exchange.jsonl import ImportRefused
from data.exchange.pairs import export_dpo
from data.exchange.table import COLUMNS, cell, export_csv, plain
from data.exchange.words import RAPIDATA, RICHHF, export_words
from data.store import Store
from tests.data.exchanging import fake_units, importers, unsaid

WORDS = ["=HYPERLINK(0)", "<script>alert(1)</script>", '\u202e"\u2028,;\r\n', "'@x", "\x1b[2J青"]
PROMPT = '@SUM(1+1)|cmd "a",\n\tb\r\u2028 <img src=x onerror=alert(1)> 青 \x1b[31m'


units = fake_units(WORDS)  # with what no word of a prompt can hold
import_labels, import_csv, import_words, *_ = importers(units)
BOTH = pytest.mark.parametrize("kind", [RICHHF, RAPIDATA], ids=lambda kind: kind.name)


@pytest.fixture
def full(hostile, copy_of):
    return copy_of(hostile)


@pytest.fixture(scope="module")
def hostile(module_store, sample_row, peaked):
    """Four samples of a hostile prompt, VLM's distributions of hostile words, and people with hostile names."""
    store = module_store
    rows = [sample_row(prompt=PROMPT, seed=i, n_words=5, image_path=f"images/{i}.png") for i in range(4)]
    ids = store.samples.add(rows)
    for i, id in enumerate(ids):
        for index, word in enumerate(WORDS):
            event = {"sample": id, "word_index": index, "word": word, "source": "vlm", "scorer": "=tiny"}
            store.scores.add([{**event, "distribution": peaked(2 * i + 1, 0.8)}])
    store.scores.set(ids[0], 0, 7, "=ann'\"--")
    store.scores.set(ids[0], 1, 3, "bob")
    store.scores.set(ids[0], 2, 4, "ann")
    store.scores.set(ids[0], 2, 5, "bob")  # of 4 and 5 the lower
    return store


@pytest.fixture
def bare(full, quick_path):
    return unsaid(full, quick_path)


def lines(path):
    return [json.loads(line) for line in path.read_bytes().split(b"\n") if line]


def write(path, records):
    path.write_bytes(b"".join(json.dumps(r).encode() + b"\n" for r in records))


# -- CSV


HOSTILE = [
    'red;=HYPERLINK("http://x","y")',
    "red\t=1+1",
    "red,=1+1",
    "red;\t=1+1",
    "red\n=1+1",
    "\u00a0=1+1",
    "\u200b+1",
    "\ufeff-1",
    "\u2060\u3000 @SUM(1)",
    "red; \u200b=1+1",
    'red;"=1+1',
    "red;＝1+1",
    "red;'=1+1",
    ";;'';='",
    "a cat, 'quoted', it's - a 5-star; 'one'",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_no_spreadsheet_finds_a_formula_in_an_exported_table_however_it_separates_cells(
    store, sample_row, quick_path, text
):
    store.samples.add([sample_row(id="s", prompt=text, prompt_set=text, n_words=5, sampler=text)])
    store.scores.set("s", 0, 7, "ann", word=text)
    path = quick_path / "a.csv"
    export_csv(store, path)
    content = path.read_text(encoding="utf-8")
    unseen = "".join(map(chr, range(0x2000, 0x2070))) + '\ufeff\u00ad\u3000"'
    for separator in ",;\t":
        # with quotes minded, and a line a row
        for lines in (io.StringIO(content, newline=""), content.splitlines()):
            for value in itertools.chain.from_iterable(csv.reader(lines, delimiter=separator)):
                assert not value.lstrip().lstrip(unseen).lstrip().startswith(tuple("=+-@＝＋－＠")), value
    _, take, *_ = importers(fake_units([text]))
    taken = take(store, path, "bob")
    assert (taken["same"], taken["changes"]) == (1, [])


def test_csv_has_a_row_a_word_and_its_text_is_as_it_was_without_the_apostrophes(full, quick_path):
    path = quick_path / "a.csv"
    assert export_csv(full, path) == {"samples": 4, "words": 20}
    with open(path, encoding="utf-8", newline="") as file:
        found = list(csv.DictReader(file))
    assert list(found[0]) == COLUMNS
    kept = [{k: v.removeprefix("'") for k, v in row.items()} for row in found]
    assert [row["word"] for row in kept[:5]] == WORDS
    assert {row["prompt"] for row in kept} == {PROMPT}
    for row, label in zip(kept, full.labels.current(), strict=True):
        assert (row["sample"], row["source"]) == (label["sample"], label["source"])
        assert (int(row["score"]) if row["score"] else None) == label["score"]
        assert (json.loads(row["distribution"]) if row["distribution"] else None) == label["distribution"]
    assert [row["expected"] for row in kept[:3]] == ["7.0", "3.0", "4.0"]
    dice = random.Random(1)
    for _ in range(5000):
        text = "".join(dice.choices("'=-,;\t\n\r \"a\u00a0\u200b", k=dice.randrange(9)))
        assert plain(cell(text)) == text


def test_a_table_of_an_earlier_version_is_read_whose_cells_were_marked_at_their_beginning_alone(
    store, sample_row, quick_path
):
    prompt = "'red';'blue',=1"
    store.samples.add([sample_row(id="s", prompt=prompt, n_words=2)])
    (quick_path / "a.csv").write_text(
        f'sample,prompt,word_index,score\ns,"\'{prompt}",0,9\n', encoding="utf-8"
    )
    assert import_csv(store, quick_path / "a.csv", "bob")["new"] == 1


# -- DPO


def test_pairs_put_the_best_image_of_a_prompt_before_the_worst_each_image_once(full, quick_path):
    path = quick_path / "a.jsonl"
    assert export_dpo(full, path) == {"samples": 4, "pairs": 2}
    first, second = lines(path)
    # the people's 7, 3 and 4 put image 0 (the VLM's lowest) before image 1
    assert (first["chosen"], first["rejected"]) == ("images/3.png", "images/1.png")
    assert (second["chosen"], second["rejected"]) == ("images/2.png", "images/0.png")
    assert {first["prompt"], second["prompt"]} == {PROMPT}
    assert 1 >= first["margin"] > second["margin"] > 0


def test_the_margin_is_over_the_words_that_both_images_have_labels_for(store, sample_row, quick_path):
    a, b = store.samples.add([sample_row(seed=i, image_path=f"images/{i}.png") for i in range(2)])
    for id, index, score in ((a, 0, 9), (b, 0, 3), (a, 1, 9), (b, 2, 9)):
        store.scores.set(id, index, score, "ann")
    export_dpo(store, quick_path / "a.jsonl")
    (pair,) = lines(quick_path / "a.jsonl")
    assert pair["margin"] == pytest.approx(6 / 9, abs=1e-4)
    assert (pair["chosen_sample"], pair["rejected_sample"]) == (a, b)


@pytest.mark.parametrize(
    "change",
    [None, {"prompt": "another prompt"}, {"split": "heldout"}, {"image_path": None, "image_sha256": None}],
)
def test_no_pair_is_made_of_a_tie_or_of_what_cannot_be_compared(store, sample_row, quick_path, change):
    a, b = store.samples.add([sample_row(), sample_row(seed=2, **change or {})])
    store.scores.set(a, 0, 9, "ann")
    store.scores.set(b, 0, 0 if change else 9, "ann")
    assert export_dpo(store, quick_path / "a.jsonl")["pairs"] == 0
    assert (quick_path / "a.jsonl").read_bytes() == b""


# -- words: polarity


def test_in_richhf_1_is_aligned_and_0_is_misaligned(full, quick_path):
    export_words(full, quick_path / "a.jsonl", RICHHF)
    header, first, *_, last = lines(quick_path / "a.jsonl")
    assert header["polarity"] == "1 = aligned (the image shows the word), 0 = misaligned"
    assert first["words"] == WORDS
    assert first["aligned"] == [1, 0, 0, 0, 0]  # 7, 3, 4 by people; mostly 1 by the VLM
    assert last["aligned"] == [1] * 5  # mostly 7
    assert [RICHHF.score(value) for value in (0, 1)] == [0, 9]


def test_in_rapidata_a_higher_score_is_worse(full, quick_path):
    export_words(full, quick_path / "a.jsonl", RAPIDATA)
    header, first, *_, last = lines(quick_path / "a.jsonl")
    assert header["polarity"].startswith("higher = worse: 0 = the image fully shows the word, 9 = not at all")
    pairs = json.loads(first["word_scores"])
    assert [word for word, _ in pairs] == WORDS
    assert [score for _, score in pairs[:3]] == [2, 6, 5]
    assert all(
        worse > better for (_, worse), (_, better) in zip(pairs[3:], json.loads(last["word_scores"])[3:])
    )
    assert [RAPIDATA.score(value) for value in (0, 2.4, 4.5, 9)] == [9, 7, 5, 0]
    assert (RAPIDATA.value(9.0000004), RAPIDATA.value(0)) == (0, 9)


# -- words: round trips


def test_richhf_there_and_back_keeps_the_side_of_each_word_and_loses_all_between(full, bare, quick_path):
    export_words(full, quick_path / "a.jsonl", RICHHF)
    assert import_words(bare, quick_path / "a.jsonl", RICHHF, "ann")["new"] == 20
    found = bare.labels.current()
    assert {x["score"] for x in found} == {0, 9}
    assert {(x["source"], x["scorer"]) for x in found} == {("human", "from richhf-words")}
    assert all(x["distribution"] is None for x in found)
    export_words(bare, quick_path / "b.jsonl", RICHHF)
    assert (quick_path / "a.jsonl").read_bytes() == (quick_path / "b.jsonl").read_bytes()


def test_rapidata_there_and_back_keeps_whole_scores_and_rounds_the_others(full, bare, quick_path):
    export_words(full, quick_path / "a.jsonl", RAPIDATA)
    import_words(bare, quick_path / "a.jsonl", RAPIDATA, "ann")
    for before, after in zip(full.labels.current(), bare.labels.current(), strict=True):
        if before["score"] is not None:
            assert after["score"] == before["score"]
        else:
            mean = sum(k * p for k, p in enumerate(before["distribution"]))
            assert abs(after["score"] - mean) <= 0.5
    export_words(bare, quick_path / "b.jsonl", RAPIDATA)
    assert import_words(bare, quick_path / "b.jsonl", RAPIDATA, "bob")["same"] == 20


@BOTH
def test_only_the_words_that_were_changed_come_back_and_a_second_import_adds_nothing(full, quick_path, kind):
    path = quick_path / "a.jsonl"
    export_words(full, path, kind)
    found = lines(path)
    if kind is RICHHF:
        found[1]["aligned"][0] = 0
    else:
        pairs = json.loads(found[1]["word_scores"])
        found[1]["word_scores"] = json.dumps([[pairs[0][0], 9], *pairs[1:]])
    write(path, found)
    dry = import_words(full, path, kind, "carol", dry_run=True)
    sample = found[1]["sample"]
    change = {"line": 2, "sample": sample, "word_index": 0, "word": WORDS[0], "before": 7.0, "after": 0}
    assert (dry["changes"], dry["changed"], dry["new"], dry["same"]) == ([change], 1, 0, 19)
    assert full.scores.current(sample)[0]["people"] == {"=ann'\"--": 7}
    assert import_words(full, path, kind, "carol") == dry
    assert full.scores.current(sample)[0]["people"] == {"=ann'\"--": 7, "carol": 0}
    after = full.labels.snapshot()
    assert import_words(full, path, kind, "carol")["changes"] == []
    assert full.labels.snapshot() == after
    undone = full.scores.undo(None, "carol")
    assert undone and (undone["kind"], undone["word_index"]) == ("clear", 0)


# -- words: what is refused


def edit(**changes):
    return lambda record: {**record, **changes}


def twice(record):
    words = [*WORDS[:4], WORDS[3]]
    said = {"words": words} if "words" in record else {"word_scores": json.dumps([[w, 1] for w in words])}
    return {**record, "word_index": [0, 1, 2, 3, 3], **said}


WRONG = {
    "no sample": (edit(sample="nothere"), "no sample nothere"),
    "a sample that is no name": (edit(sample=["x"]), "sample must be"),
    "another prompt": (edit(prompt="another"), "another prompt"),
    "an unknown field": (edit(colour=1), "unknown field 'colour'"),
    "a word past the prompt": (edit(word_index=[0, 1, 2, 3, 5]), "word_index 5 is past"),
    "a place twice": (twice, "there twice"),
    "a place too few": (edit(word_index=[0, 1, 2, 3]), "4 places, 5 words and 5 values"),
    "places that are no list": (edit(word_index="01234"), "word_index must be a list"),
}
WRONG_RICHHF = {
    "a mark of 2": (edit(aligned=[1, 0, 2, 0, 0]), "aligned must be from 0 to 1"),
    "a mark that is true": (edit(aligned=[True, 0, 1, 0, 0]), "aligned must be a whole number"),
    "another word": (edit(words=["red", *WORDS[1:]]), "word 0 of the prompt is '=HYPERLINK"),
    "a word that is a number": (edit(words=[5, *WORDS[1:]]), "a word must be text"),
    "half a character": (edit(words=["\ud800", *WORDS[1:]]), "no text"),
    "the other format": (edit(word_scores="[]"), "unknown field 'word_scores'"),
}
WRONG_RAPIDATA = {
    "no text": (edit(word_scores=[["red", 1]]), "word_scores must be text"),
    "text that is no JSON": (edit(word_scores="[["), "word_scores must be text"),
    "nested too deep": (edit(word_scores="[" * 100_000), "word_scores must be text"),
    "a triple": (edit(word_scores='[["red",1,2]]'), "word_scores must be text"),
    "NaN": (edit(word_scores=json.dumps([[w, float("nan")] for w in WORDS])), "number from 0 to 9"),
    "too high": (edit(word_scores=json.dumps([[w, 9.1] for w in WORDS])), "number from 0 to 9"),
    "below 0": (edit(word_scores=json.dumps([[w, -0.1] for w in WORDS])), "number from 0 to 9"),
    "hundreds of digits": (edit(word_scores=json.dumps([[w, 10**400] for w in WORDS])), "number from 0 to 9"),
}
CASES = [
    (kind, *case)
    for kind, own in ((RICHHF, WRONG_RICHHF), (RAPIDATA, WRONG_RAPIDATA))
    for case in {**WRONG, **own}.items()
]


@pytest.mark.parametrize(("kind", "name", "case"), CASES, ids=[f"{k.name}: {name}" for k, name, _ in CASES])
def test_a_wrong_line_is_named_and_nothing_is_taken_over(full, bare, quick_path, kind, name, case):
    change, said = case
    path = quick_path / "a.jsonl"
    export_words(full, path, kind)
    found = lines(path)
    found[3] = change(found[3])
    write(path, found)
    with pytest.raises(ImportRefused, match="Nothing was imported") as refused:
        import_words(bare, path, kind, "ann")
    assert said in str(refused.value) and refused.value.line == 4
    assert bare.labels.current() == []


BROKEN = {
    "empty": (lambda raw: b"", "line 1: the file is empty"),
    "no header": (lambda raw: raw.split(b"\n", 1)[1], "line 1: its header's format"),
    "another version": (
        lambda raw: raw.replace(b'"version":1', b'"version":2', 1),
        "line 1: its header's version",
    ),
    "another polarity": (lambda raw: raw.replace(b"0 = ", b"1 = ", 1), "line 1: its header's polarity"),
    "cut": (lambda raw: raw + b'{"sample":', "line 6: not JSON"),
    "no UTF-8": (lambda raw: raw + b"\xff", "line 6: not UTF-8"),
    "twice": (lambda raw: raw + raw.split(b"\n")[1], "line 6: the sample .* in the file twice"),
}


@BOTH
def test_a_file_that_is_not_quite_one_is_refused_with_the_line(full, bare, quick_path, kind):
    path, other = quick_path / "a.jsonl", RAPIDATA if kind is RICHHF else RICHHF
    export_words(full, path, kind)
    good = path.read_bytes()
    for name, (change, said) in BROKEN.items():
        path.write_bytes(change(good))
        with pytest.raises(ImportRefused, match=said):
            import_words(bare, path, kind, "ann")
        assert bare.labels.current() == [], name
    path.write_bytes(good)
    for file, other_kind, who, said in (
        (path, other, "ann", "format"),
        (path, kind, " ", "who is empty"),
        (quick_path / "nothere.jsonl", kind, "ann", "cannot be read"),
    ):
        with pytest.raises(ValueError, match=said):
            import_words(bare, file, other_kind, who)


WRITERS = {
    "table": export_csv,
    "pairs": export_dpo,
    "words": lambda store, path: export_words(store, path, RICHHF),
}


@pytest.mark.parametrize("module", WRITERS)
def test_an_export_that_fails_leaves_the_older_file_and_an_empty_store_gives_an_empty_one(
    full, quick_path, monkeypatch, module
):
    path = quick_path / "deep/a"
    assert set(WRITERS[module](Store(quick_path / "empty.db"), path).values()) == {0}
    before = path.read_bytes()
    monkeypatch.setattr(f"data.exchange.{module}.expected", lambda label: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        WRITERS[module](full, path)
    assert path.read_bytes() == before and [p.name for p in path.parent.iterdir()] == ["a"]
