"""The axes of a grid: ranges, their product without repeats, and a sentence for whatever is wrong."""

import time

import pytest

from studio.grids.axes import axis, check_grid

PROMPT = "a red circle above a blue square"


def names(**given):
    return [variant.name for variant in check_grid(PROMPT, **given).variants]


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("1-4", [1, 2, 3, 4]),
        (" 7, 8 9;10 ", [7, 8, 9, 10]),
        ("3, 1-3, 3", [3, 1, 2]),
        ("10-20 (+5)", [10, 15, 20]),
        ("1-10 [4]", [1, 4, 7, 10]),
        ("5-5", [5]),
        ("4294967295", [4294967295]),
        ([1, "2-3", 4.0], [1, 2, 3, 4]),
        (7, [7]),
    ],
)
def test_seeds_are_numbers_and_ranges(text, values):
    assert check_grid(PROMPT, text).seeds == values


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("0,0.5,1", [0, 0.5, 1]),
        ("0-1 (+0.25)", [0, 0.25, 0.5, 0.75, 1]),
        ("0-1(+0.1)", [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1]),
        ("0 - 1 [3]", [0, 0.5, 1]),
        ("", []),
        (None, []),
    ],
)
def test_other_axes_have_fractions(text, values):
    assert axis("strengths", text, float) == values


def test_the_variants_are_the_product_and_strength_0_is_none():
    assert names(strengths="0,0.5,1") == ["none", "projected 0.5", "projected 1"]
    assert names(methods="projected", strengths="0") == ["none"]
    assert names(methods="pag,pag+projected", strengths="0,1") == ["pag", "pag + projected 1"]
    found = names(methods="none, projected", guidances="3,7", steps="10,20")
    assert found[:2] == ["none, guidance 3, 10 steps", "projected, guidance 3, 10 steps"]
    assert len(found) == len(set(found)) == 8


def test_a_method_may_name_its_run_and_its_strength():
    one, two = check_grid(PROMPT, methods=["projected:abc", "projected-0.5:shipped"]).variants
    assert (one.method, one.run, one.strength) == ("projected", "abc", 1.0)
    assert (two.method, two.run, two.strength) == ("projected", "shipped", 0.5)
    assert (
        check_grid(PROMPT, methods="none,NONE, none").variants == check_grid(PROMPT, methods="none").variants
    )


def test_a_choice_of_noise_is_a_column_of_its_own_however_it_is_written():
    assert names(methods="none, BEST-NOISE-OF-08, best-noise-of-8,pag+best-noise-of-4-by-reward") == [
        "none", "best-noise-of-8", "pag + best-noise-of-4-by-reward",
    ]  # fmt: skip
    (one,) = check_grid(PROMPT, methods="best-noise-of-8:abc", strengths="0,1").variants
    assert (one.method, one.run, one.strength) == ("best-noise-of-8", "abc", 0.0)


def test_every_cell_counts_toward_the_limit():
    assert check_grid(PROMPT, "1-256", "none").total == 256
    with pytest.raises(ValueError, match="129 x 2 = 258 images, and 256 is the most"):
        check_grid(PROMPT, "1-129")
    with pytest.raises(ValueError, match="16 is the most"):
        check_grid(PROMPT, "1-16", most=16)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"seeds": ""}, "There is no seed"),
        ({"seeds": "1-"}, "no numbers or ranges"),
        ({"seeds": "one"}, "no numbers or ranges"),
        ({"seeds": "-1"}, "no numbers or ranges"),
        ({"seeds": "5-2"}, "runs backwards"),
        ({"seeds": "1.5"}, "not a whole number"),
        ({"seeds": "4294967296"}, "out of range"),
        ({"seeds": "9" * 30}, "no numbers or ranges"),
        ({"seeds": "0-4294967295"}, "more than 256 seeds"),
        ({"seeds": "1-9 (+0)"}, "step 0"),
        ({"seeds": "1-9 [999999]"}, "count of the seeds"),
        ({"seeds": "1 <b>x</b>"}, "no numbers or ranges"),
        ({"seeds": {"a": 1}}, "not a whole number"),
        ({"seeds": [float("nan")]}, "not a whole number"),
        ({"seeds": list(range(300))}, "more than 256"),
        ({"strengths": "0-1 (+0.000000001)"}, "more than 256 strengths"),
        ({"strengths": "1.5"}, "out of range"),
        ({"guidances": "21"}, "out of range"),
        ({"steps": "0"}, "out of range"),
        ({"steps": "2.5"}, "not a whole number"),
        ({"methods": ""}, "There is no method"),
        ({"methods": 5}, "no list"),
        ({"methods": "magic"}, "There is no method 'magic'"),
        ({"methods": "best-of-4"}, "chooses among several images"),
        ({"methods": "lora+projected"}, "two trained models"),
        ({"methods": "none:abc"}, "no trained model"),
        ({"methods": "projected:../../etc"}, "run must be"),
        ({"methods": "projected-2"}, "out of range"),
        ({"width": 100}, "multiple of 8"),
        ({"height": "wide"}, "not a whole number"),
    ],
)
def test_a_bad_axis_is_answered_with_a_sentence(given, why):
    with pytest.raises(ValueError, match=why) as found:
        check_grid(PROMPT, **given)
    assert len(str(found.value)) < 300 and str(found.value).endswith(".")


@pytest.mark.parametrize("prompt", ["", None, "a of the", "one\ntwo", "x" * 5000])
def test_a_prompt_that_cannot_be_scored_is_refused(prompt):
    with pytest.raises(ValueError):
        check_grid(prompt)


def test_long_axes_are_refused_before_their_product_is_made():
    began = time.monotonic()
    with pytest.raises(ValueError, match="more than 256 images even for one seed"):
        check_grid(PROMPT, "1", ["projected"], "0-1 (+0.004)", "0-20 (+0.08)", "1-100")
    assert time.monotonic() - began < 0.5


def test_a_side_that_is_left_empty_is_the_models_own():
    found = check_grid(PROMPT, width="", height=" ")
    assert (found.width, found.height) == (None, None)
    assert check_grid(PROMPT, width=" 64 ").width == 64


def test_an_unknown_method_is_answered_with_those_that_a_grid_takes():
    with pytest.raises(ValueError, match="Known here are: none, projected, ") as found:
        check_grid(PROMPT, methods="foo")
    assert "best-of" not in str(found.value) and "best-noise-of-N" in str(found.value)
