"""The chips' value, and the packets of a page: each operation once, in order, whatever comes over HTTP."""

from __future__ import annotations

import re

import pytest

from studio.annotation.inbox import read_packet
from studio.components.word_scores import WordScores, chips
from studio.images.views import WordView

CLIENT = "0123456789abcdef"


def packet(*operations, client=CLIENT, sample="one"):
    return {"client": client, "sample": sample, "operations": list(operations)}


def set_word(revision, word=0, score=5):
    return {"revision": revision, "kind": "set", "word": word, "score": score}


def test_chips_carry_the_change_against_the_other_image_and_whose_scores_it_is_of():
    before = [
        WordView(0, "a", "function", False),
        WordView(1, "red", "colour", True, score=7),
        WordView(2, "star", "object", True, score=7, human=7),
    ]
    after = [
        before[0],
        WordView(1, "red", "colour", True, score=4),
        WordView(2, "star", "object", True, score=4),
    ]
    found = chips(after, before=before)["words"]
    assert [(word["change"], word["change_by"]) for word in found] == [
        (None, ""), (-3, "the VLM"), (-3, "corrections"),
    ]  # fmt: skip
    assert {(word["change"], word["change_by"]) for word in chips(after)["words"]} == {(None, "")}


def test_a_packet_is_read_as_the_page_sent_it():
    found = read_packet(packet(set_word(1, 2, 9), {"revision": 2, "kind": "undo"}))
    assert [(o.revision, o.kind, o.word, o.score) for o in found.operations] == [
        (1, "set", 2, 9),
        (2, "undo", None, None),
    ]


@pytest.mark.parametrize(
    "data",
    [
        *(None, [], {}, packet(), packet("set"), packet({"revision": 1, "kind": "drop table"})),
        *(packet(set_word(1), client=client) for client in ("short", "x" * 65)),
        *(packet(set_word(1), sample=sample) for sample in ("", "x" * 65)),
        packet(*[set_word(i) for i in range(1, 202)]),
        packet(set_word(0)),
        *(packet(set_word(1, score=score)) for score in (10, -1, True, float("nan"), "5")),
        *(packet(set_word(1, word=word)) for word in (1000, None)),
    ],
)
def test_what_no_page_of_ours_would_send_is_refused(data):
    with pytest.raises(ValueError, match="correction"):
        read_packet(data)


def test_no_template_interpolates():
    component = WordScores(chips([]), render=False)
    assert not re.search(r"\$\{|\{\{", f"{component.html_template} {component.css_template}")
