"""What the page Seeds fills its form with, and that a vote which comes twice counts once."""

from __future__ import annotations

import dataclasses
import random
from types import SimpleNamespace

import pytest

from studio.grids.grid import GridView, Variant, check_grid
from studio.images.options import NONE
from studio.interface import linked
from studio.pages.seeds import form as seeds_form
from studio.pages.seeds.vote import Sittings
from studio.settings import Settings

SETTINGS = Settings()
METHODS = [
    ("none", "none"),
    ("projected (in use: shipped)", "projected"),
    ("projected, run r1", "projected:r1"),
]


def view(asked):
    return GridView("g", asked.prompt, asked.seeds, asked.variants, "done", "", 0, asked.total, None, [])


def test_a_grid_fills_the_form_so_that_the_same_grid_comes_of_it():
    asked = check_grid("a red star", "1-3, 9", ["none", "projected:r1"], "0.5,1", "3,5", "10")
    fields = seeds_form.of_grid(view(asked), METHODS)
    assert fields[:3] == ["a red star", "1-3, 9", ["none", "projected:r1"]]
    same = dataclasses.replace(asked, options=NONE)
    assert seeds_form.request_of(SETTINGS, *fields) == same
    assert fields[6:] == ["", "", "", "", [], False]  # the model's own, and no options
    in_use = dataclasses.replace(asked, variants=[Variant("projected", "projected", "shipped", 1.0)])
    assert seeds_form.of_grid(view(in_use), METHODS)[2] == ["projected"]


def test_a_picture_fills_the_form_beside_the_same_without_projector():
    told = {"prompt": "a red star", "seed": 7, "steps": 20, "guidance": 4.0, "width": 64, "height": 64,
            "method": "projected", "strength": 0.5, "run": "r1"}  # fmt: skip
    fields, note = seeds_form.of_picture(told, METHODS)
    assert fields[:8] == ["a red star", "7", ["none", "projected:r1"], "0.5", "4", "20", "64", "64"]
    assert (fields[8:], note) == (["", "", [], False], "")
    seeds_form.request_of(SETTINGS, *fields)
    fields, _ = seeds_form.of_picture({"prompt": "a red star", "seed": None}, METHODS)
    assert fields[1:3] == ["1-8", ["none"]]
    seeds_form.request_of(SETTINGS, *fields)


def test_randomise_keeps_how_many_seeds_there_are_and_the_plan_counts_the_images():
    found = seeds_form.drawn_anew("3, 8-10", random.Random(0))
    assert len(check_grid("red", found, ["none"]).seeds) == 4
    assert "-" not in seeds_form.drawn_anew("5", random.Random(0))
    assert len(check_grid("red", seeds_form.drawn_anew("what"), ["none"]).seeds) == seeds_form.MANY
    none = ["", "", "", "", "", "", [], False]
    said = seeds_form.planned(SETTINGS, "a red star", "1-4", ["none", "projected"], "0.5,1", *none)
    assert "4 seeds × 3 columns = 12 images" in said
    wrong = seeds_form.planned(SETTINGS, "a red star", "<b>x</b>", ["none"], "1", *none)
    assert "<b>" not in wrong and "seeds" in wrong


def test_a_link_that_can_be_no_id_gets_a_sentence():
    asked, given = SimpleNamespace(query_params={"grid": " abc "}), {}
    assert linked(asked, "grid") == "abc" and linked(SimpleNamespace(query_params=given), "grid") == ""
    asked.query_params["grid"] = "x" * 65
    with pytest.raises(ValueError, match="copy the whole link"):
        linked(asked, "grid")


class Votes:
    """Stands in for the studio, whose votes need images: two pairs, each asked until it is answered."""

    def __init__(self):
        self.kept, self.votes = [], self

    def next(self, grid, who, base, other):
        if len(self.kept) == 2:
            return None
        left, right = (SimpleNamespace(id=f"{name}{len(self.kept)}", image_path=None) for name in "ab")
        return SimpleNamespace(left=left, right=right, left_over=2 - len(self.kept))

    def add(self, left, right, choice, who):
        self.kept.append((left, right, choice, who))

    def tally(self, grid, base, other):
        return {"base": len(self.kept), "other": 0, "tie": 0, "none": 0, "share": {}}


def test_a_vote_that_comes_twice_counts_once_and_the_methods_are_told_at_the_end():
    studio = Votes()
    sittings = Sittings(studio)
    first = sittings.begin(view(check_grid("a red star", "1-2")), 0, 1, "ann")
    assert not any("projected" in str(value) for value in first.values())
    second = sittings.cast(first["round"], first["token"], "left")
    again = sittings.cast(first["round"], first["token"], "right")
    assert studio.kept == [("a0", "b0", "left", "ann")]
    assert second["done"] == again["done"] == 1
    last = sittings.cast(first["round"], again["token"], "tie")
    assert (last["over"], last["result"]["names"]) == (True, ["none", "projected"])
    with pytest.raises(ValueError, match="begin again"):
        sittings.cast("unknown", "token", "left")
