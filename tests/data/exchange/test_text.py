"""A byte order mark is taken from every text format, and UTF-16 is refused in a sentence."""

import pytest

from core.words import units_of
from data.exchange.jsonl import ImportRefused, export_labels, import_labels
from data.exchange.pairs import export_dpo, import_dpo
from data.exchange.table import export_csv, import_csv
from data.exchange.text import decoded
from data.exchange.words import RAPIDATA, RICHHF, export_words, import_words


def words(kind):
    """Export and import of a format of words."""
    return (
        lambda store, path: export_words(store, path, kind),
        lambda store, path: import_words(store, path, kind, "bob", dry_run=True, units=units_of),
    )


FORMATS = {
    "jsonl": (export_labels, lambda store, path: import_labels(store, path, dry_run=True, units=units_of)),
    "csv": (export_csv, lambda store, path: import_csv(store, path, "bob", dry_run=True, units=units_of)),
    "dpo": (export_dpo, lambda store, path: import_dpo(store, path, "bob", dry_run=True)),
    "richhf": words(RICHHF),
    "rapidata": words(RAPIDATA),
}


@pytest.fixture
def labelled(store, sample_row):
    """Two images of one prompt, one word of each with a person's score."""
    for i, score in enumerate((2, 9)):
        (sample,) = store.samples.add([sample_row(seed=i, image_path=f"images/{i}.png")])
        store.scores.set(sample, 1, score, "ann", word="red")
    return store


@pytest.mark.parametrize("name", FORMATS)
def test_a_byte_order_mark_is_passed_over_and_utf_16_refused_with_what_to_do(labelled, quick_path, name):
    export, take = FORMATS[name]
    export(labelled, quick_path / "plain")
    (quick_path / "marked").write_bytes(b"\xef\xbb\xbf" + (quick_path / "plain").read_bytes())
    assert take(labelled, quick_path / "marked") == take(labelled, quick_path / "plain")
    says = r"wide, line 1: the file is UTF-16; save it as UTF-8\. Nothing was imported"
    for coding in ("utf-16", "utf-16-le", "utf-16-be"):
        (quick_path / "wide").write_bytes((quick_path / "plain").read_text(encoding="utf-8").encode(coding))
        with pytest.raises(ImportRefused, match=says):
            take(labelled, quick_path / "wide")


def test_other_files_are_taken_for_utf_8():
    for raw in (b"", b"a", b"\xef\xbb\xbf", "\ufeffü 青".encode(), b"PK\x03\x04\x00\x00"):
        assert decoded(raw, first=True) == raw.decode("utf-8-sig")
        assert decoded(raw, first=False) == raw.decode("utf-8")
