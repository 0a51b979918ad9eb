"""Receipts of what a page sent: kept per page and person, swept when old, and at home only."""

import json

import pytest

from data.exchange.jsonl import export_labels
from data.store import desk
from data.store.desk import KEPT_DAYS, page_digest

ANSWER = {"shown": "a", "place": "b", "left": True, "error": "", "says": "", "word": None}
PAGE = page_digest("0123456789abcdef", "ann")


def pages(store):
    with store.database.reading() as db:
        return {page for (page,) in db.execute("SELECT page_sha256 FROM receipts")}


def test_the_last_receipt_of_a_page_is_the_one_that_stands(store):
    assert store.receipts.get(PAGE) is None
    for revision in (1, 2, 7):
        store.receipts.give(PAGE, revision, {**ANSWER, "word": revision})
    assert store.receipts.get(PAGE) == {"revision": 7, "answer": {**ANSWER, "word": 7}}
    assert store.receipts.get(page_digest("0123456789abcdef", "bob")) is None
    assert pages(store) == {PAGE}


def test_pages_that_were_silent_for_long_are_forgotten_when_a_new_one_comes(store, monkeypatch):
    now = desk.now
    for days in (0, KEPT_DAYS - 1, KEPT_DAYS + 1):
        monkeypatch.setattr(desk, "now", lambda seconds=0, ago=days: now(seconds - 86400 * ago))
        store.receipts.give(page_digest("page", str(days)), 1, ANSWER)
    monkeypatch.undo()
    store.receipts.give(page_digest("page", "0"), 2, ANSWER)
    assert len(pages(store)) == 3  # one that is known costs no search
    store.receipts.give(PAGE, 1, ANSWER)
    assert pages(store) == {PAGE, *(page_digest("page", str(days)) for days in (0, KEPT_DAYS - 1))}


@pytest.mark.parametrize(
    "wrong",
    [{"left": 1}, {"place": None}, {"word": -1}, {"error": "x" * 2001}, {"says": 3}, {"shown": "x" * 65}],
)
def test_an_answer_that_no_page_was_given_is_not_kept(store, wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        store.receipts.give(PAGE, 1, {**ANSWER, **wrong})
    assert pages(store) == set()


def test_a_receipt_says_nothing_of_who_wrote_and_no_export_has_it(store, sample_row, quick_path):
    store.samples.add([sample_row()])
    store.receipts.give(PAGE, 1, ANSWER)
    with store.database.reading() as db:
        (kept,) = db.execute("SELECT * FROM receipts").fetchall()
    assert "ann" not in json.dumps(kept) and "0123456789abcdef" not in json.dumps(kept)
    export_labels(store, quick_path / "out.jsonl")
    assert PAGE not in (quick_path / "out.jsonl").read_text()
