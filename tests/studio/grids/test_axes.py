"""The axes of a grid: ranges, their product without repeats, and a sentence for whatever is wrong."""

import time

import pytest

from studio.grids.axes import axis, check_grid

PROMPT = "a red circle above a blue square"


def names(**given):
    return [variant.name for variant in check_grid(PROMPT, **given).variants]


@pytest.mark.parametrize(
    ("text", "values"),
    [("1-4", [1, 2, 3, 4]), (" 7, 8 9;10 ", [7, 8, 9, 10]), ("3, 1-3, 3", [3, 1, 2]), ("10-20 (+5)", [10, 15, 20]),
     ("1-10 [4]", [1, 4, 7, 10]), ("5-5", [5]), ("4294967295", [4294967295]), ([1, "2-3", 4.0], [1, 2, 3, 4]), (7, [7])],
)  # fmt: skip
def test_seeds_are_numbers_and_ranges(text, values):
    assert check_grid(PROMPT, text).seeds == values


@pytest.mark.parametrize(
    ("text", "values"),
    [("0,0.5,1", [0, 0.5, 1]), ("0-1 (+0.25)", [0, 0.25, 0.5, 0.75, 1]), ("0 - 1 [3]", [0, 0.5, 1]), ("", []), (None, []),
     ("0-1(+0.1)", [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1])],
)  # fmt: skip
def test_other_axes_have_fractions(text, values):
    assert axis("strengths", text, float) == values


def test_a_method_may_name_its_run_and_its_strength_and_a_choice_of_noise_is_a_column_of_its_own():
    one, two = check_grid(PROMPT, methods=["projected:abc", "projected-0.5:shipped"]).variants
    assert (one.method, one.run, one.strength) == ("projected", "abc", 1.0)
    assert (two.method, two.run, two.strength) == ("projected", "shipped", 0.5)
    assert names(methods="none,NONE, BEST-NOISE-OF-08, best-noise-of-8,pag+best-noise-of-4-by-reward") == [
        "none", "best-noise-of-8", "pag + best-noise-of-4-by-reward",
    ]  # fmt: skip
    (one,) = check_grid(PROMPT, methods="best-noise-of-8:abc", strengths="0,1").variants
    assert (one.method, one.run, one.strength) == ("best-noise-of-8", "abc", 0.0)
    found = check_grid(PROMPT, width="", height=" ")
    assert (found.width, found.height) == (None, None)
    assert check_grid(PROMPT, width=" 64 ").width == 64


def test_the_variants_are_the_product_and_strength_0_is_none():
    assert names(strengths="0,0.5,1") == ["none", "projected 0.5", "projected 1"]
    assert names(methods="projected", strengths="0") == ["none"]
    assert names(methods="pag,pag+projected", strengths="0,1") == ["pag", "pag + projected 1"]
    found = names(methods="none, projected", guidances="3,7", steps="10,20")
    assert found[:2] == ["none, guidance 3, 10 steps", "projected, guidance 3, 10 steps"]
    assert len(found) == len(set(found)) == 8


def test_every_cell_counts_toward_the_limit():
    assert check_grid(PROMPT, "1-256", "none").total == 256
    with pytest.raises(ValueError, match="129 x 2 = 258 images, and 256 is the most"):
        check_grid(PROMPT, "1-129")
    with pytest.raises(ValueError, match="16 is the most"):
        check_grid(PROMPT, "1-16", most=16)


BAD = {
    "There is no seed": [{"seeds": ""}],
    "no numbers or ranges": [{"seeds": seeds} for seeds in ("1-", "-1", "9" * 30)],
    "runs backwards": [{"seeds": "5-2"}],
    "not a whole number": [
        *({"seeds": seeds} for seeds in ("1.5", {"a": 1}, [float("nan")])), {"steps": "2.5"}, {"height": "wide"},
    ],
    "out of range": [
        {"seeds": "4294967296"}, {"strengths": "1.5"}, {"guidances": "21"}, {"methods": "projected-2"},
        {"methods": "best-noise-of-1"},
    ],
    "more than 256": [
        {"seeds": "0-4294967295"}, {"seeds": list(range(300))}, {"strengths": "0-1 (+0.000000001)"},
        # before their product is made
        {"seeds": "1", "strengths": "0-1 (+0.004)", "guidances": "0-20 (+0.08)", "steps": "1-100"},
    ],
    "step 0": [{"seeds": "1-9 (+0)"}],
    "count of the seeds": [{"seeds": "1-9 [999999]"}],
    "There is no method": [{"methods": ""}, {"methods": "best-noise-of"}],
    r"There is no method 'magic'.*Known here are: none, projected, (?!.* best-of-).*best-noise-of-N": [{"methods": "magic"}],
    "no list": [{"methods": 5}],
    "chooses among several images": [{"methods": "best-of-4"}],
    "two trained models": [{"methods": "best-noise-of-2+projected"}],
    "no trained model": [{"methods": "none:abc"}],
    "run must be": [{"methods": "projected:../../etc"}],
    "multiple of 8": [{"width": 100}],
    r"\.$": [{"prompt": prompt} for prompt in ("", None, "a of the", "one\ntwo", "x" * 5000)],
}  # fmt: skip


@pytest.mark.parametrize(("why", "given"), [(why, one) for why, given in BAD.items() for one in given])
def test_a_bad_axis_is_answered_with_a_sentence_at_once(given, why):
    began = time.monotonic()
    with pytest.raises(ValueError, match=why) as found:
        check_grid(**{"prompt": PROMPT, **given})
    assert len(str(found.value)) < 300 and str(found.value).endswith(".")
    assert time.monotonic() - began < 0.5
