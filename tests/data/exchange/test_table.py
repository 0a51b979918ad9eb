"""Tables of scores and preference pairs coming in: which way is better, what spreadsheets do, and what is refused."""

import csv
import json

import pytest

from data.exchange.jsonl import ImportRefused
from data.exchange.pairs import export_dpo, export_votes, import_dpo
from data.exchange.table import export_csv
from tests.data.exchanging import fake_units, importers, unsaid

PROMPT = '=SUM(1),"a"\nb; ü'
WORDS = ["=1+1", "'x", "blue"]


_, import_csv, *_ = importers(fake_units(WORDS))  # words that a spreadsheet would run


@pytest.fixture
def full(store, sample_row):
    for i in range(4):
        store.samples.add(
            [sample_row(id=f"s{i}", prompt=PROMPT, seed=i, n_words=3, image_path=f"images/{i}.png")]
        )
        for index, word in enumerate(WORDS):
            store.scores.set(f"s{i}", index, 2 * i + 1, "ann", word=word)
    return store


@pytest.fixture
def bare(full, quick_path):
    return unsaid(full, quick_path)


# -- tables


def test_a_table_there_and_back_keeps_whole_scores_nine_stays_nine(full, bare, quick_path):
    path = quick_path / "a.csv"
    export_csv(full, path)
    assert import_csv(full, path, "bob")["changes"] == []
    found = import_csv(bare, path, "bob", dry_run=True)
    assert (found["new"], found["changed"], found["samples"]) == (12, 0, 4) and bare.labels.current() == []
    assert import_csv(bare, path, "bob") == found
    first, other = ([(x["word"], x["score"]) for x in s.labels.current()] for s in (bare, full))
    assert first == other
    assert {(x["source"], x["scorer"]) for x in bare.labels.current()} == {("human", "from csv")}
    after = bare.labels.snapshot()
    assert import_csv(bare, path, "bob")["same"] == 12 and bare.labels.snapshot() == after


def test_a_digit_of_the_vlm_comes_back_as_no_correction_and_its_expected_is_its_distributions_mean(
    full, quick_path, sample_row, peaked
):
    full.samples.add([sample_row(id="v", n_words=1)])
    event = {"sample": "v", "source": "vlm", "scorer": "tiny", "distribution": peaked(9, 0.55), "score": 9}
    full.scores.add([{**event, "word_index": 0, "word": WORDS[0]}])
    path = quick_path / "a.csv"
    export_csv(full, path)
    with open(path, encoding="utf-8", newline="") as file:
        (row,) = (row for row in csv.DictReader(file) if row["sample"] == "v")
    spread = json.loads(row["distribution"])
    assert float(row["expected"]) == pytest.approx(sum(k * p for k, p in enumerate(spread)), abs=1e-3)
    assert import_csv(full, path, "bob", dry_run=True)["changes"] == []


def test_what_a_spreadsheet_does_to_a_table_is_undone(full, quick_path):
    path = quick_path / "a.csv"
    path.write_bytes("\ufeffsample;word_index;score\r\ns0;0;9.0\r\n\r\ns1;1;\r\ns2;2;5\r\n".encode())
    found = import_csv(full, path, "bob")
    changes = [(c["line"], c["sample"], c["word_index"], c["before"], c["after"]) for c in found["changes"]]
    assert changes == [(2, "s0", 0, 1.0, 9)]
    assert (found["words"], found["same"]) == (
        2,
        1,
    )  # s2's third word is 5 already; a row without a score says nothing
    path.write_text("sample\tword_index\tscore\ns0\t0\t9\n")
    assert import_csv(full, path, "bob")["same"] == 1


WRONG_ROWS = [
    ({"score": "10"}, "score must be from 0 to 9"),
    ({"score": "4.5"}, "score must be a whole number"),
    ({"score": "-1"}, "score must be a whole number"),
    ({"score": "NaN0"}, "score must be a whole number"),
    ({"score": "٣"}, "score must be a whole number"),
    ({"sample": "nothere"}, "no sample nothere"),
    ({"sample": "../x"}, "sample must be"),
    ({"prompt": "another"}, "another prompt"),
    ({"word": "another"}, "word 1 of the prompt is"),
    ({"word_index": "7"}, "word_index 7 is past"),
    ({"word_index": "x"}, "word_index must be a whole number"),
    ({"word_index": "0", "word": "'=1+1"}, "there twice"),
]


def test_a_wrong_row_is_named_by_its_line_and_nothing_is_taken_over(full, quick_path):
    path, before = quick_path / "a.csv", full.labels.snapshot()
    export_csv(full, path)
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for change, said in WRONG_ROWS:
        with open(path, "w", encoding="utf-8", newline="") as file:
            table = csv.DictWriter(file, list(rows[0]))
            table.writeheader()
            table.writerows([*rows[:4], {**rows[4], **change}, *rows[5:]])
        with pytest.raises(ImportRefused, match="Nothing was imported") as refused:
            import_csv(full, path, "bob")
        assert said in str(refused.value)
        # the prompt has a line break: each row is two lines
        assert refused.value.line == (10 if said == "another prompt" else 11)
    assert full.labels.snapshot() == before


def test_a_file_that_is_no_table_is_refused(full, quick_path):
    path, head = quick_path / "a.csv", b"sample,word_index,score\n"
    for content, line, said in (
        (b"", 1, "there is no column sample"),
        (b"sample,score\n", 1, "there is no column word_index"),
        (b"sample,word_index,score,colour\n", 1, "'colour' is not known"),
        (b"sample,word_index,score,score\n", 1, "there twice"),
        (head + b"s0,0\n", 2, "the row has 2 cells"),
        (head + b's0,0,"9\n', 2, "not a row of CSV"),
        (head + b"\xff,0,9\n", 2, "not UTF-8"),
        (b"\x50\x4b\x03\x04\x00", 1, "not text"),
        (head + b"s0,0," + b"9" * (1 << 21), 2, "longer than"),
    ):
        path.write_bytes(content)
        with pytest.raises(ImportRefused, match=said) as refused:
            import_csv(full, path, "bob")
        assert refused.value.line == line
    with pytest.raises(ValueError, match="cannot be read"):
        import_csv(full, quick_path / "nothere.csv", "bob")


# -- pairs


def votes(store):
    with store.database.reading() as db:
        return db.execute(
            "SELECT left_sample, right_sample, choice, who FROM preferences ORDER BY seq"
        ).fetchall()


def test_chosen_is_the_better_image_and_becomes_a_vote_for_it(full, quick_path):
    path = quick_path / "a.jsonl"
    export_dpo(full, path)  # labels: s3 best, s0 worst
    dry = import_dpo(full, path, "bob", dry_run=True)
    assert (dry["pairs"], dry["new"], votes(full)) == (2, 2, [])
    assert import_dpo(full, path, "bob") == dry
    assert votes(full) == [("s3", "s0", "left", "bob"), ("s2", "s1", "left", "bob")]
    again = import_dpo(full, path, "bob")
    assert (again["same"], again["changes"], len(votes(full))) == (2, [], 2)
    turned = written(quick_path, [{"prompt": PROMPT, "chosen": "images/0.png", "rejected": "images/3.png"}])
    (change,) = import_dpo(full, turned, "bob", dry_run=True)[
        "changes"
    ]  # images are found by their path, too
    assert (change["before"], change["after"]) == ("rejected", "chosen")
    assert import_dpo(full, turned, "eve")["new"] == 1 and votes(full)[-1] == ("s0", "s3", "left", "eve")


def test_votes_go_out_and_come_back_as_the_same_lines_without_their_ties_and_names(full, bare, quick_path):
    import_dpo(full, written(quick_path, [pair("s3", "s0"), pair("s1", "s2")]), "bob")
    import_dpo(full, written(quick_path, [pair("s2", "s1")]), "bob")  # changed their mind
    assert export_votes(full, quick_path / "a.jsonl") == {"samples": 4, "pairs": 2}
    import_dpo(bare, quick_path / "a.jsonl", "carol")
    export_votes(bare, quick_path / "b.jsonl")
    assert (quick_path / "a.jsonl").read_bytes() == (quick_path / "b.jsonl").read_bytes()
    found = [json.loads(line) for line in (quick_path / "a.jsonl").read_text().splitlines()]
    assert [(p["chosen_sample"], p["rejected_sample"]) for p in found] == [("s3", "s0"), ("s2", "s1")]
    assert "bob" not in (quick_path / "a.jsonl").read_text()


def pair(chosen, rejected, /, **more):
    return {"prompt": PROMPT, "chosen_sample": chosen, "rejected_sample": rejected, **more}


def written(folder, lines):
    path = folder / "pairs.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_a_wrong_pair_is_named_by_its_line_and_nothing_is_taken_over(full, quick_path):
    paths = {"prompt": PROMPT, "chosen": "images/9.png", "rejected": "images/0.png"}
    for line, said in (
        (pair("s1", "s1"), "the same image"),
        (pair("s1", "nothere"), "no sample nothere"),
        (pair("s1", "s2", colour=1), "unknown field 'colour'"),
        (pair("s1", "s2", chosen="images/9.png"), "another image in the store"),
        ({**pair("s1", "s2"), "prompt": "x"}, "another prompt"),
        (paths, "no images of this prompt"),
        ({**paths, "chosen": "../../etc/passwd"}, "without '..'"),
        (pair("s3", "s0"), "in the file twice"),
        (pair("s0", "s3"), "in the file twice"),
    ):
        path = written(quick_path, [pair("s3", "s0"), line])
        with pytest.raises(ImportRefused, match="line 2: .*Nothing was imported") as refused:
            import_dpo(full, path, "bob")
        assert said in str(refused.value)
    assert votes(full) == []
