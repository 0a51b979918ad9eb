"""Files of finished batches: taken over whole or not at all, and twice is the same as once."""

import pytest

from data.exchange import shards


@pytest.fixture
def batch(sample_row, peaked, tmp_path):
    """A function (kind, rows) -> the batch as it is read from its file."""

    def make(kind, rows):
        path = tmp_path / "batch.json"
        path.write_bytes(shards.written(kind, rows))
        return shards.read(path)

    return make


def test_samples_scores_and_missing_words_are_taken_over_once(store, batch, sample_row, peaked):
    said = {"sample": "one", "word_index": 1, "word": "red", "source": "vlm", "scorer_version": "v1"}
    parts = [
        batch("samples", [sample_row(id="one")]),
        batch("events", [{**said, "score": 7, "distribution": peaked(7), "features": b"\x00\x3c" * 8}]),
        batch("missing", [{"sample": "one", "word_index": 2, "scorer_version": "v1", "reason": "prose"}]),
    ]
    for _ in range(2):
        for part in parts:
            shards.take_over(store, part)
    assert store.samples.count() == 1
    assert store.scores.current("one")[1]["vlm"]["distribution"] == pytest.approx(peaked(7))
    with store.database.reading() as db:
        assert [tuple(row) for row in db.execute("SELECT features FROM scores")] == [(b"\x00\x3c" * 8,)]
        assert db.execute("SELECT count(*) FROM uncertainty").fetchone()[0] == 1
    assert [note["reason"] for note in store.missing.find("one")] == ["prose"]
    assert parts[1].ids() == {"one"}


def test_a_batch_that_points_at_nothing_leaves_nothing(store, batch, sample_row):
    found = batch("samples", [sample_row(id="one"), sample_row(id="two", projector_run="nowhere")])
    with pytest.raises(ValueError, match="is no run"):
        shards.take_over(store, found)
    assert store.samples.count() == 0


def test_a_file_that_is_no_batch_is_a_sentence(tmp_path):
    for content in (
        b"", b"[]", b'{"samples": [{"prompt": "a"}]}', b'{"samples": 1}', b'{"events": [1]}', b'{"missing": [{}]}',
        b'{"events": [{"features": "%"}]}', b'{"samples": [{"image_path": "../x"}]}',
    ):  # fmt: skip
        (tmp_path / "batch.json").write_bytes(content)
        with pytest.raises(ValueError, match="delete it"):
            shards.read(tmp_path / "batch.json")
