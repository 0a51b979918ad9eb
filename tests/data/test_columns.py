"""The Parquet table and the dataset folder come in again as one person's scores."""

from __future__ import annotations

import zipfile

import pytest

from data.exchange import ImportRefused
from data.formats import export_folder, export_parquet, import_folder, import_parquet
from data.store import Store

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


@pytest.fixture
def full(store, sample_row, peaked, quick_path):
    """Two images, a word with a person's score, one with the VLM's distribution alone."""
    images = quick_path / "images"
    images.mkdir()
    from hashlib import sha256

    from PIL import Image

    rows = []
    for i, name in enumerate("ab"):
        Image.new("RGB", (8, 8), (i, 0, 0)).save(images / f"{name}.png")
        digest = sha256((images / f"{name}.png").read_bytes()).hexdigest()
        rows.append(sample_row(id=name, seed=i, image_path=f"images/{name}.png", image_sha256=digest))
    store.add_samples(rows)
    vlm = {"word_index": 2, "word": "circle", "source": "vlm", "scorer": "vlm", "distribution": peaked(7)}
    store.add_scores([{"sample": name, **vlm} for name in "ab"])
    store.set_score("a", 1, 3, "ann", word="red")
    store.set_score("b", 1, 9, "bob", word="red")
    return store


@pytest.fixture
def other(full, quick_path):
    """A store of the same images in which nobody has said anything yet."""
    from data.exchange import export_labels, import_labels

    store = Store(quick_path / "other.db")
    export_labels(full, quick_path / "all.jsonl")
    import_labels(store, quick_path / "all.jsonl")
    for name in "ab":
        store.undo(name, "ann" if name == "a" else "bob")
    return store


def human(store) -> int:
    with store.reading() as db:
        return db.execute("SELECT count(*) FROM scores WHERE source = 'human'").fetchone()[0]


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
    assert (told["new"] + told["changed"], human(other)) == (2, 4)  # two that were set and undone
    found = take(other, path, "cyd")
    assert found["new"] + found["changed"] == 2
    labels = {(x["sample"], x["word_index"]): x["score"] for x in other.labels() if x["source"] == "human"}
    assert labels == {("a", 1): 3, ("b", 1): 9}
    again = take(other, path, "cyd")
    assert (again["new"], again["changed"]) == (0, 0)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"sample": "a", "word_index": 1}], "no column score"),
        (
            [{"sample": "a", "word_index": 1, "score": 3}, {"sample": "a", "word_index": 1, "score": 10}],
            "line 2: score",
        ),
        ([{"sample": "nobody", "word_index": 1, "score": 3}], "nobody"),
        ([{"sample": "a", "word_index": -1, "score": 3}], "word_index"),
        ([{"sample": 7, "word_index": 1, "score": 3}], "sample must be text"),
        ([{"sample": "a", "word_index": 1, "score": 3, "prompt": "another"}], "another prompt"),
    ],
)
def test_a_bad_table_is_refused_whole_with_row_and_reason(full, quick_path, rows, said):
    before = human(full)
    pq.write_table(pa.Table.from_pylist(rows), quick_path / "bad.parquet")
    with pytest.raises(ImportRefused, match=said):
        import_parquet(full, quick_path / "bad.parquet", "cyd")
    assert human(full) == before


@pytest.mark.parametrize("take", [import_parquet, import_folder])
def test_what_is_no_such_file_is_a_sentence(full, quick_path, take):
    (quick_path / "text").write_bytes(b"no table" * 100)
    with pytest.raises(ValueError, match="can be read|no split"):
        take(full, quick_path / "text", "cyd")
    with zipfile.ZipFile(quick_path / "empty.zip", "w") as archive:
        archive.writestr("train/else.txt", "x")
    with pytest.raises(ValueError, match="no split|can be read"):
        take(full, quick_path / "empty.zip", "cyd")
