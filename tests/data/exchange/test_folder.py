"""The Parquet file and the folder for `datasets`: what a stranger's tools read from them."""

import hashlib
import json

import pytest
import yaml
from PIL import Image

from data.exchange.folder import export_folder
from data.exchange.parquet import export_parquet
from data.store import Store

PROMPT = 'a "red"\n circle, <b>bold</b> \u2028 青 ---\n# title'


@pytest.fixture
def home(quick_path):
    """A home with four images."""
    (quick_path / "home/images").mkdir(parents=True)
    for i in range(4):
        Image.new("RGB", (8, 8), (i * 60, 0, 0)).save(quick_path / f"home/images/{i}.png")
    return quick_path / "home"


@pytest.fixture
def full(store, home, sample_row, peaked):
    """Images of two splits, one with a changed file, one without a file, one without a label."""
    rows = []
    for i, id in enumerate([".hidden", *"bcdef"]):
        path = home / "images" / f"{i}.png"
        sha = hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else "0" * 64
        image = {
            "image_path": f"images/{i}.png",
            "image_sha256": "1" * 64 if i == 3 else sha,
        }  # 3: changed since
        split = "train" if i < 2 else "heldout"
        rows.append(sample_row(id=id, prompt=PROMPT, seed=2**63 - 1 - i, split=split, **image))
    ids = store.samples.add(rows)
    vlm = {"word_index": 1, "word": "red", "source": "vlm", "scorer": "/srv/models/`tiny`"}
    store.scores.add([{"sample": id, **vlm, "distribution": peaked(7)} for id in ids[:5]])
    store.scores.set(ids[0], 1, 3, "ann")
    store.scores.set(ids[0], 2, 9, "bob", word="circle")
    return store


def test_parquet_has_a_row_a_word_with_types_and_says_its_polarity(full, quick_path):
    pq = pytest.importorskip("pyarrow.parquet")
    path = quick_path / "a.parquet"
    assert export_parquet(full, path) == {"samples": 5, "words": 6}
    table = pq.read_table(path)
    assert table.schema.metadata[b"polarity"].startswith(b"0 to 9; 9 = the image fully shows")
    found = table.to_pylist()
    assert (found[0]["seed"], found[0]["score"], found[0]["expected"]) == (2**63 - 1, 3, 3.0)
    assert found[2]["score"] is None and sum(found[2]["distribution"]) == pytest.approx(1)
    assert found[0]["prompt"] == PROMPT
    assert export_parquet(Store(quick_path / "empty.db"), path) == {"samples": 0, "words": 0}
    assert pq.read_table(path).num_rows == 0


def test_the_datasets_library_loads_the_folder_as_it_lies(full, home, quick_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(quick_path / "hf"))
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    found = export_folder(full, quick_path / "out", home, "cc-by-4.0")
    assert (found["samples"], found["words"], found["left_out"]) == (3, 4, 2)
    data = datasets.load_dataset(str(quick_path / "out"), cache_dir=str(quick_path / "cache"))
    assert {name: len(part) for name, part in data.items()} == {"train": 2, "heldout": 1}
    first = next(row for row in data["train"] if row["id"] == ".hidden")
    assert first["image"].size == (8, 8)
    assert (first["seed"], first["prompt"]) == (2**63 - 1, PROMPT)
    assert [(w["index"], w["word"], w["score"], w["source"], w["people"]) for w in first["words"]] == [
        (1, "red", 3, "human", 1),
        (2, "circle", 9, "human", 1),
    ]
    (held,) = data["heldout"]
    assert held["words"][0]["score"] is None and len(held["words"][0]["distribution"]) == 10


def test_the_images_are_the_very_bytes_and_the_card_counts_what_was_written(full, home, quick_path):
    export_folder(full, quick_path / "out", home)
    parquet = pytest.importorskip("pyarrow.parquet")
    (line,) = parquet.read_table(quick_path / "out/heldout/metadata.parquet").to_pylist()
    assert (quick_path / "out/heldout" / line["file_name"]).read_bytes() == (
        home / "images/2.png"
    ).read_bytes()
    text = (quick_path / "out/README.md").read_text(encoding="utf-8")
    front = yaml.safe_load(text.split("---\n")[1])
    assert front["license"] == "other" and front["license_name"] == "to-be-chosen"
    assert front["configs"][0]["data_files"][0] == {"split": "train", "path": "train/**"}
    assert front["size_categories"] == ["n<1K"]
    assert "No licence has been chosen yet" in text
    assert "9 = the image fully shows the word" in text
    assert "| train | 2 | 3 |" in text and "| heldout | 1 | 1 |" in text
    assert "`human`, 2 words" in text and "`vlm`, 2 words" in text
    assert "2 labelled images are left out" in text
    assert "ann" not in json.dumps(line) and "/srv" not in text


def test_no_folder_is_made_over_another_without_a_licences_id_or_a_labelled_image(full, home, quick_path):
    (quick_path / "out").mkdir()
    (quick_path / "out/mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="there already"):
        export_folder(full, quick_path / "out", home)
    assert [p.name for p in (quick_path / "out").iterdir()] == ["mine.txt"]
    for licence in ("CC BY", "mit\nx: y", "x" * 41, "-a"):
        with pytest.raises(ValueError, match="is no id of one"):
            export_folder(full, quick_path / "other", home, licence)
    with pytest.raises(ValueError, match="make and score some images first"):
        export_folder(Store(quick_path / "empty.db"), quick_path / "other", home)
    assert not list(quick_path.glob("*other*"))
