"""The figures of the page Quality: what they show, what they leave out, and names that are hostile."""

from __future__ import annotations

from studio.pages.quality import parts


def test_a_figure_shows_what_there_is_and_is_left_out_where_there_is_nothing():
    kinds = [
        {"kind": name, "ordinal": alpha, "words": 10, "people": 2}
        for name, alpha in (("all", 0.9), ("count", None))
    ]
    assert parts.alpha_by_kind(kinds[1:], 0.667, 0.8) is None
    figure = parts.alpha_by_kind(kinds, 0.667, 0.8)
    assert list(figure.data[0].x) == [0.9]
    said = " ".join(annotation.text for annotation in figure.layout.annotations)
    assert "good from 0.8" in said and "usable from 0.667" in said
    assert parts.scores([0] * 10, [1] * 10, "Ann") is None
    figure = parts.scores([1, 3] + [0] * 8, [10] * 10, "Ann")
    assert list(figure.data[0].y)[:2] == [25, 75] and set(figure.data[1].y) == {10}


def pair(a, b, alpha):
    return {"people": [a, b], "ordinal": alpha}


def test_the_matrix_has_each_two_people_on_both_sides_and_names_as_text():
    people = ["Ann", "<img src=x onerror=alert(1)>", "Cyd"]
    assert parts.matrix([pair("Ann", "Cyd", None)], people) is None
    figure = parts.matrix([pair("Ann", people[1], 0.5), pair("Ann", "Cyd", -0.1)], people)
    z = figure.data[0].z
    assert (z[0][1], z[1][0], z[0][2], z[1][2], z[0][0]) == (0.5, 0.5, -0.1, None, None)
    assert "<img" not in figure.to_json()
