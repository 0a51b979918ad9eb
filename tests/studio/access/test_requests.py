"""What a page or a command line may ask for, and the sentence for each thing that it may not."""

import math

import pytest

from studio.images.views import check_request

GOOD = {"prompt": "a red circle", "seeds": "7"}


BAD = {
    "empty": [{"prompt": ""}, {"prompt": "   "}],
    "must be text": [{"prompt": None}, {"prompt": 3}],
    "shorten": [{"prompt": "x" * 2001}],
    "control character": [{"prompt": "a red\x00circle"}],
    "no word that could be scored": [{"prompt": "of the and"}],
    "no seed": [{"seeds": ""}, {"seeds": []}],
    "8 at most": [{"seeds": list(range(9))}],
    "give 1 to 8": [{"seeds": "1-9"}, {"seeds": "9-1"}],
    "not a whole number": [
        *({"seeds": seeds} for seeds in ("one", "1.5", [1.5], "-1", True, math.nan)),
        *({"steps": steps} for steps in (2.5, "many", math.inf)), {"width": "wide"},
    ],
    "not a number": [{"guidance": math.nan}, {"guidance": None}, {"strength": math.inf}, {"strength": [1]}],
    "out of range": [
        {"seeds": -1}, {"seeds": 2**32}, {"steps": 0}, {"steps": 101}, {"guidance": -0.1}, {"guidance": 21},
        {"strength": 1.01}, {"strength": -1}, {"height": 7}, {"height": 4096},
    ],
    "multiple of 8": [{"width": 100}],
}  # fmt: skip


@pytest.mark.parametrize(
    ("says", "change"), [(says, one) for says, changes in BAD.items() for one in changes]
)
def test_bad_input_is_refused_with_a_sentence(change, says):
    with pytest.raises(ValueError, match=says) as found:
        check_request(**{**GOOD, **change})
    assert str(found.value).endswith(".") or ":" in str(found.value)
    assert len(str(found.value)) < 300


@pytest.mark.parametrize(
    ("raw", "seeds"),
    [(7, [7]), (" 7, 8;9 ", [7, 8, 9]), ("10-12 3", [10, 11, 12, 3]), ([1, "2", 3.0], [1, 2, 3]), ("5 5 5", [5]),
     (2**32 - 1, [2**32 - 1])],
)  # fmt: skip
def test_seeds_are_read_from_what_people_write(raw, seeds):
    request = check_request(
        "a red circle", raw, steps="5", guidance="3.5", strength=0, width=64, height="128"
    )
    assert request.seeds == seeds
    assert (request.steps, request.guidance, request.strength) == (5, 3.5, 0.0)
    assert (request.width, request.height) == (64, 128)
    assert check_request(**GOOD).width is None
