"""What a page or a command line may ask for, and the sentence for each thing that it may not."""

import math

import pytest

from studio.images.views import check_request, seeds_from

GOOD = {"prompt": "a red circle", "seeds": "7"}

BAD = [
    ({"prompt": ""}, "empty"),
    ({"prompt": "   "}, "empty"),
    ({"prompt": None}, "must be text"),
    ({"prompt": 3}, "must be text"),
    ({"prompt": "x" * 2001}, "shorten"),
    ({"prompt": "a red\x00circle"}, "control character"),
    ({"prompt": "of the and"}, "no word that could be scored"),
    ({"seeds": ""}, "no seed"),
    ({"seeds": []}, "no seed"),
    ({"seeds": "one"}, "not a whole number"),
    ({"seeds": "1.5"}, "not a whole number"),
    ({"seeds": [1.5]}, "not a whole number"),
    ({"seeds": -1}, "out of range"),
    ({"seeds": "-1"}, "not a whole number"),
    ({"seeds": 2**32}, "out of range"),
    ({"seeds": True}, "not a whole number"),
    ({"seeds": math.nan}, "not a whole number"),
    ({"seeds": list(range(9))}, "8 at most"),
    ({"seeds": "1-9"}, "give 1 to 8"),
    ({"seeds": "9-1"}, "give 1 to 8"),
    ({"steps": 0}, "out of range"),
    ({"steps": 101}, "out of range"),
    ({"steps": 2.5}, "not a whole number"),
    ({"steps": "many"}, "not a whole number"),
    ({"steps": math.inf}, "not a whole number"),
    ({"guidance": math.nan}, "not a number"),
    ({"guidance": "nan"}, "not a number"),
    ({"guidance": -0.1}, "out of range"),
    ({"guidance": 21}, "out of range"),
    ({"guidance": None}, "not a number"),
    ({"strength": 1.01}, "out of range"),
    ({"strength": -1}, "out of range"),
    ({"strength": math.inf}, "not a number"),
    ({"strength": [1]}, "not a number"),
    ({"width": 100}, "multiple of 8"),
    ({"height": 7}, "out of range"),
    ({"height": 4096}, "out of range"),
    ({"width": "wide"}, "not a whole number"),
]


@pytest.mark.parametrize(("change", "says"), BAD, ids=[repr(c)[:50] for c, _ in BAD])
def test_bad_input_is_refused_with_a_sentence(change, says):
    with pytest.raises(ValueError, match=says) as found:
        check_request(**{**GOOD, **change})
    assert str(found.value).endswith(".") or ":" in str(found.value)
    assert len(str(found.value)) < 300


@pytest.mark.parametrize(
    ("raw", "seeds"),
    [
        (7, [7]),
        ("7", [7]),
        (" 7, 8;9 ", [7, 8, 9]),
        ("10-12 3", [10, 11, 12, 3]),
        ([1, "2", 3.0], [1, 2, 3]),
        ("5 5 5", [5]),
        (2**32 - 1, [2**32 - 1]),
    ],
)
def test_seeds_are_read_from_what_people_write(raw, seeds):
    assert seeds_from(raw) == seeds


def test_a_request_fills_in_what_is_not_given_and_keeps_what_is():
    request = check_request(**GOOD, steps="5", guidance="3.5", strength=0, width=64, height="128")
    assert (request.steps, request.guidance, request.strength) == (5, 3.5, 0.0)
    assert (request.width, request.height, request.seeds) == (64, 128, [7])
    assert check_request(**GOOD).width is None
