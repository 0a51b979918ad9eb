"""The values of the grid, the viewer and the vote: what the page has is not sent again, and what comes back is not trusted."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import gradio_client.utils
import pytest

from studio.components.grid import (
    AT_ONCE,
    SeedGrid,
    grid_value,
    no_grid,
    read_ask,
    stamp_of,
    strongest,
)
from studio.components.viewer import PairViewer, side
from studio.components.vote import BlindVote, read_vote
from studio.grids.grid import Cell, GridView, Variant
from studio.images.options import LoraFile, SamplingOptions
from studio.images.views import SampleView, WordView

HOSTILE = "<img src=x onerror=alert(1)>"


def sample(id: str, score: int = 7, total: float | None = 7.0) -> SampleView:
    words = [WordView(0, "a", "function", False), WordView(1, HOSTILE, "other", True, score=score)]
    return SampleView(id, f"a {HOSTILE}", 2**62, "none", 0.0, 20, 4.0, "there.png", words, total)


def view(made: int, seeds: int = 20) -> GridView:
    variants = [Variant("none"), Variant("projected", "projected", "shipped", 1.0)]
    cells = [Cell(i, i // 2, i % 2, sample(f"s{i}") if i < made else None) for i in range(seeds * 2)]
    return GridView("g", f"a {HOSTILE}", [2**62 + i for i in range(seeds)], variants, "running", "", made, seeds * 2,
                    math.inf, cells)  # fmt: skip


def test_an_answer_holds_so_many_pictures_and_says_that_there_are_more():
    first = grid_value(view(30), lambda one: "data:,")
    assert (len(first["cells"]), first["more"]) == (AT_ONCE, True)
    have = {str(cell["place"]): cell["stamp"] for cell in first["cells"]}
    ask = read_ask({"grid": "g", "have": have, "base": 0, "other": 1})
    second = grid_value(view(30), lambda one: "data:,", ask)
    assert [cell["place"] for cell in second["cells"]] == list(range(AT_ONCE, 30))
    assert not second["more"]


def test_what_all_images_of_a_grid_were_made_with_is_in_its_head():
    assert grid_value(view(2), lambda one: None)["made"] == ""
    files = (LoraFile("style.safetensors", 0.5, "0" * 64),)
    options = SamplingOptions("a (green:1.4) star", "DDIMScheduler", files, f"a (very:1.2) {HOSTILE}")
    assert grid_value(replace(view(2), options=options), lambda one: None)["made"] == (
        f"prompt with weights: a (very:1.2) {HOSTILE}; negative prompt with weights: a (green:1.4) star; "
        "LoRA: style.safetensors (0.5); scheduler: DDIMScheduler"
    )


def test_a_cell_whose_score_was_corrected_is_sent_again():
    assert stamp_of(sample("one", 7)) != stamp_of(sample("one", 8))
    ask = read_ask({"grid": "g", "have": {"0": stamp_of(sample("s0", 2)), "1": stamp_of(sample("s1"))}})
    assert [cell["place"] for cell in grid_value(view(2), lambda one: None, ask)["cells"]] == [0]


def test_what_a_page_has_of_another_grid_counts_for_nothing():
    ask = read_ask({"grid": "other", "have": {"0": stamp_of(sample("s0"))}})
    assert len(grid_value(view(2), lambda one: None, ask)["cells"]) == 2


def test_seeds_and_numbers_are_what_json_and_a_browser_can_hold():
    assert grid_value(view(1), lambda one: None, tends=False)["tends"] is False
    assert grid_value(view(1), lambda one: None, votes="Not here.")["votes"] == "Not here."
    value = grid_value(view(1), lambda one: None)
    assert value["seeds"][0] == str(2**62)
    assert value["left"] is None
    assert no_grid("gone")["problem"] == "gone"


@pytest.mark.parametrize(
    "data",
    [None, [], "x", {"grid": 5}, {"grid": "x" * 65}, {"grid": "g", "have": [1]},
     {"have": {"-1": "a", "²": "b", "0": 7}}, {"base": -1, "other": 10**9}, {"base": True, "other": 0.5}],
)  # fmt: skip
def test_an_ask_that_no_page_sends_counts_as_not_said(data):
    ask = read_ask(data)
    assert ask.have == {}
    assert (ask.base, ask.other, ask.fresh) == (0, 1, False)


def test_the_strongest_projected_column_is_compared_first():
    def first(*variants):
        return strongest(replace(view(0), variants=list(variants)))

    half, whole = (Variant(f"projected {s}", "projected", "shipped", s) for s in (0.5, 1.0))
    assert first(Variant("none"), half, whole) == 2
    assert first(Variant("none"), whole, half) == 1
    assert first(Variant("none"), whole, Variant("pag", "pag")) == 1
    assert first(Variant("none"), Variant("pag", "pag"), Variant("autoguidance", "autoguidance")) == 2
    assert first(whole) == first(whole, Variant("none")) == 1


def test_a_side_tells_its_words_against_the_other_ones_and_a_strength_only_where_something_is_projected():
    found = side("projected", sample("two", 3), b"png", sample("one", 7))
    assert [(word["text"], word["change"]) for word in found["words"]] == [(HOSTILE, -4)]
    assert found["picture"].startswith("data:image/png;base64,")
    assert found["seed"] == str(2**62)
    assert side("none", sample("one"), None)["picture"] is None
    for method in ("none", "pag", "pag+projected"):
        made = side(method, replace(sample("one"), method=method, strength=0.5), None)["made"]
        assert ("strength 0.5" in made) is (method == "pag+projected")


@pytest.mark.parametrize("part", [SeedGrid, PairViewer, BlindVote])
def test_a_value_that_is_no_dict_is_none_the_schema_can_be_read_and_no_template_interpolates(part):
    component = part()
    assert component.preprocess("x") is None
    assert gradio_client.utils.json_schema_to_python_type(component.api_info())
    assert not re.search(r"\$\{|\{\{", f"{component.html_template} {component.css_template}")


@pytest.mark.parametrize(
    "data",
    [None, {}, {"round": "r", "token": "t"}, {"round": "r", "token": "t", "choice": "both"},
     {"round": "", "token": "t", "choice": "left"}, {"round": "r", "token": 5, "choice": "left"}],
)  # fmt: skip
def test_a_vote_that_no_page_sends_is_refused(data):
    with pytest.raises(ValueError, match="reload the page"):
        read_vote(data)
    assert read_vote({"round": "r", "token": "t", "choice": "tie"}) == ("r", "t", "tie")
