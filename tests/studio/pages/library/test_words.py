"""Labels in the Library: found by word, kind and score, and where they differ from the VLM."""

from __future__ import annotations

import pytest

from studio.pages.library import words as library_words
from studio.pages.library.words import WordFilter


def word(index, text, label, vlm, source="human"):
    return {"index": index, "word": text, "label": label, "source": source, "vlm": vlm, "people": {}}


SAMPLES = [
    {"id": "a", "prompt": "a red circle", "word_rules": 2, "seed": 1, "words": [word(1, "red", 9, 2), word(2, "circle", 5, 5)]},
    {"id": "b", "prompt": "a blue star", "word_rules": 2, "seed": 2, "words": [word(1, "blue", None, None), word(2, "star", 3, 4)]},
]  # fmt: skip


@pytest.mark.parametrize(
    ("word_filter", "wanted"),
    [
        (WordFilter(), ["red", "circle", "blue", "star"]),
        (WordFilter(word="ir"), ["circle"]),
        (WordFilter(kind="colour"), ["red", "blue"]),
        (WordFilter(low=3, high=5), ["circle", "star"]),
        (WordFilter(differs=True), ["red", "star"]),
        (WordFilter(order="apart"), ["red", "star", "circle", "blue"]),
        (WordFilter(order="low"), ["star", "circle", "red"]),
        (WordFilter(order="high"), ["red", "circle", "star"]),
    ],
)
def test_words_are_found_by_text_kind_label_and_difference(word_filter, wanted):
    assert [one["word"] for _, one in library_words.chosen(SAMPLES, word_filter)] == wanted


def test_the_count_is_of_words_and_says_where_they_were_looked_for():
    found = library_words.chosen(SAMPLES, WordFilter(kind="colour"))
    said = library_words.count(found, 2, {"count": 2, "more": False}, 0)
    assert "2 words, in 2 images of 2 found, page 1" in said
    assert [row["key"] for row in library_words.lines(found, "")["rows"]] == ["a", "b"]


def test_what_a_page_sends_is_read_and_what_cannot_be_asked_is_refused_in_a_sentence():
    assert WordFilter.read(" Red ", None, "2", "9", True, "apart") == WordFilter(
        "red", "", 2, 9, True, "apart"
    )
    good = {"word": "", "kind": "", "low": 0, "high": 9, "differs": False, "order": "images"}
    for wrong in (
        {"word": "x" * 101},
        {"kind": "x"},
        {"low": 5, "high": 4},
        {"low": -1},
        {"order": "x"},
        {"word": 7},
    ):
        with pytest.raises(ValueError, match=r"\.$"):
            WordFilter.read(*{**good, **wrong}.values())
