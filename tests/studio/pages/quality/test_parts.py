"""The figures of the page Quality: what they show, what they leave out, and names that are hostile."""

from __future__ import annotations

from studio.pages.quality import parts


def kind(name, alpha):
    return {"kind": name, "ordinal": alpha, "words": 10, "people": 2}


def pair(a, b, alpha):
    return {"people": [a, b], "ordinal": alpha}


def test_kinds_without_alpha_are_left_out_and_without_any_there_is_no_figure():
    assert parts.alpha_by_kind([kind("all", None)], 0.667, 0.8) is None
    figure = parts.alpha_by_kind([kind("all", 0.9), kind("count", None)], 0.667, 0.8)
    assert list(figure.data[0].x) == [0.9]
    said = " ".join(annotation.text for annotation in figure.layout.annotations)
    assert "good from 0.8" in said
    assert "usable from 0.667" in said


def test_the_matrix_has_each_two_people_on_both_sides_and_names_as_text():
    people = ["Ann", "<img src=x onerror=alert(1)>", "Cyd"]
    assert parts.matrix([pair("Ann", "Cyd", None)], people) is None
    figure = parts.matrix([pair("Ann", people[1], 0.5), pair("Ann", "Cyd", -0.1)], people)
    z = figure.data[0].z
    assert (z[0][1], z[1][0], z[0][2], z[1][2], z[0][0]) == (0.5, 0.5, -0.1, None, None)
    assert "<img" not in figure.to_json()


def test_scores_are_shares_of_what_each_gave():
    assert parts.scores([0] * 10, [1] * 10, "Ann") is None
    figure = parts.scores([1, 3] + [0] * 8, [10] * 10, "Ann")
    assert list(figure.data[0].y)[:2] == [25, 75]
    assert set(figure.data[1].y) == {10}
