"""The Parquet table and the dataset folder come in again as one person's scores."""

import zipfile
from hashlib import sha256

import numpy as np
import pandas
import pytest
from PIL import Image

from core.words import units_of
from data.exchange.folder import export_folder
from data.exchange.jsonl import ImportRefused, export_labels
from data.exchange.parquet import export_parquet
from data.store import Store
from tests.data.exchanging import importers

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


import_labels, import_csv, _, import_parquet, import_folder = importers(units_of)


@pytest.fixture
def full(store, sample_row, peaked, quick_path):
    """Two images, a word with a person's score, one with the VLM's distribution alone."""
    images = quick_path / "images"
    images.mkdir()
    rows = []
    for i, name in enumerate("ab"):
        Image.new("RGB", (8, 8), (i, 0, 0)).save(images / f"{name}.png")
        digest = sha256((images / f"{name}.png").read_bytes()).hexdigest()
        rows.append(sample_row(id=name, seed=i, image_path=f"images/{name}.png", image_sha256=digest))
    store.samples.add(rows)
    vlm = {"word_index": 2, "word": "circle", "source": "vlm", "scorer": "vlm", "distribution": peaked(7)}
    store.scores.add([{"sample": name, **vlm} for name in "ab"])
    store.scores.set("a", 1, 3, "ann", word="red")
    store.scores.set("b", 1, 9, "bob", word="red")
    return store


@pytest.fixture
def other(full, quick_path):
    """A store of the same images, in which nobody but the VLM has said anything that stands."""
    store = Store(quick_path / "other.db")
    export_labels(full, quick_path / "all.jsonl")
    import_labels(store, quick_path / "all.jsonl")
    for name, who in (("a", "ann"), ("b", "bob")):
        store.scores.undo(name, who)
    return store


def human(store):
    return {
        (x["sample"], x["word_index"]): x["score"] for x in store.labels.current() if x["source"] == "human"
    }


SAID = {("a", 1): 3, ("b", 1): 9}


def written(full, quick_path, kind):
    if kind == "parquet":
        export_parquet(full, quick_path / "words.parquet")
        return import_parquet, quick_path / "words.parquet"
    export_folder(full, quick_path / "out", quick_path)
    if kind == "folder":
        return import_folder, quick_path / "out"
    with zipfile.ZipFile(quick_path / "out.zip", "w") as archive:
        for file in (quick_path / "out").rglob("*"):
            archive.write(file, file.relative_to(quick_path / "out").as_posix())
    return import_folder, quick_path / "out.zip"


@pytest.mark.parametrize("kind", ["parquet", "folder", "zip"])
def test_whole_scores_come_back_as_one_persons_and_a_second_time_changes_nothing(
    full, other, quick_path, kind
):
    take, path = written(full, quick_path, kind)
    told = take(other, path, "cyd", True)
    assert (told["new"] + told["changed"], human(other)) == (2, {})
    assert take(other, path, "cyd") == told and human(other) == SAID
    again = take(other, path, "cyd")
    assert (again["new"], again["changed"]) == (0, 0)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"score": 10}, "row 2: score"),
        ({"sample": "nobody"}, "nobody"),
        ({"word_index": -1}, "word_index"),
        ({"prompt": "another"}, "another prompt"),
    ],
)
def test_a_bad_table_is_refused_whole_with_row_and_reason(full, quick_path, changes, said):
    good = {"sample": "a", "word_index": 1, "score": 3}
    bad = [{**dict.fromkeys(changes), **good}, {**good, "word_index": 2, **changes}]
    for rows, says in ((bad, said), ([{"sample": "a", "word_index": 1}], "no column score")):
        pq.write_table(pa.Table.from_pylist(rows), quick_path / "bad.parquet")
        with pytest.raises(ImportRefused, match=says):
            import_parquet(full, quick_path / "bad.parquet", "cyd")
    assert human(full) == SAID
    (quick_path / "text").write_bytes(b"no table" * 100)
    with zipfile.ZipFile(quick_path / "empty.zip", "w") as archive:
        archive.writestr("train/else.txt", "x")
    for take, name in ((import_parquet, "text"), (import_folder, "text"), (import_folder, "empty.zip")):
        with pytest.raises(ValueError, match="can be read|no split"):
            take(full, quick_path / name, "cyd")


def data_frame(path, **columns):
    """A table as pandas writes it: a column of whole numbers with a gap is one of floats, and the gap is NaN or null."""
    frame = pandas.DataFrame({"sample": ["a", "a", "b", "b"], **columns})
    if path.suffix == ".csv":
        frame.to_csv(path, index=False, na_rep="NaN")
    else:
        frame.to_parquet(path)


GAPS = {
    "floats": {"word_index": [1, 2, 1, 2], "score": [3, None, 9, None]},
    "both floats": {"word_index": [1.0, None, 1.0, 2.0], "score": [3.0, None, 9.0, float("nan")]},
    "float32": {"word_index": np.array([1, 2, 1, 2], "float32"), "score": np.array([3, np.nan, 9, np.nan], "float32")},
    "nullable": {"word_index": [1, 2, 1, 2], "score": pandas.array([3, None, 9, None], "Int64")},
    "gaps in text": {"word_index": [1, 2, 1, 2], "score": [3, None, 9, None], "word": ["red", None, None, "circle"]},
    "no text at all": {"word_index": [1, 2, 1, 2], "score": [3, None, 9, None], "word": [float("nan")] * 4},
}  # fmt: skip


@pytest.mark.parametrize("ending", ["parquet", "csv"])
@pytest.mark.parametrize("name", GAPS)
def test_whole_numbers_that_pandas_made_floats_are_whole_and_gaps_are_gaps(other, quick_path, name, ending):
    path = quick_path / f"frame.{ending}"
    data_frame(path, **GAPS[name])
    (import_csv if ending == "csv" else import_parquet)(other, path, "cyd")
    assert human(other) == SAID


@pytest.mark.parametrize("ending", ["parquet", "csv"])
@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"word_index": [1, 2, 1, 2], "score": [3, 3.5, 9, None]}, "score must be a whole number.*, not '?3.5'?"),
        ({"word_index": [1, 2.5, 1, 2], "score": [3, 4, 9, None]}, "word_index must be a whole number.*, not '?2.5'?"),
        ({"word_index": [1, None, 1, 2], "score": [3, 4, 9, None]}, "word_index must be a whole number"),
        ({"word_index": [1, 2, 1, 2], "score": [3, 10.0, 9, None]}, "score must be from 0 to 9, not 10"),
        ({"word_index": [1, 2, 1, 2], "score": [3, float("inf"), 9, None]}, "score must be a whole number"),
    ],
)  # fmt: skip
def test_a_float_that_is_no_whole_number_is_refused_with_its_row_and_column(
    other, quick_path, columns, says, ending
):
    path = quick_path / f"frame.{ending}"
    data_frame(path, **columns)
    where = "line 3" if ending == "csv" else "row 2"  # the head is a line of a CSV file
    with pytest.raises(ImportRefused, match=f"frame.{ending}, {where}: {says}"):
        (import_csv if ending == "csv" else import_parquet)(other, path, "cyd")
    assert human(other) == {}
