"""Prompt sets: our own from the grammar, a user's from a file."""

from __future__ import annotations

import pytest

from data.prompts import SETS, load, read
from data.shapes.scenes import parse


@pytest.mark.parametrize("name", SETS)
def test_a_set_of_ours_holds_distinct_prompts_of_its_split_and_is_always_the_same(name):
    prompts = load(name, 30)
    assert len(set(prompts)) == 30
    assert {parse(p).split for p in prompts} == {SETS[name]}
    assert prompts == load(name, 30)
    assert prompts[:10] == load(name, 10)
    assert prompts != load(name, 30, seed=1)


@pytest.mark.parametrize(
    "arguments", [("nothere",), ("shapes_train", 0), ("shapes_train", True), ("shapes_train", 5, "huge")]
)
def test_a_set_that_is_none_is_refused(arguments):
    with pytest.raises(ValueError, match=r"There is no|n must be"):
        load(*arguments)


def test_a_file_is_read_a_prompt_a_line_without_comments_and_doubles(tmp_path):
    path = tmp_path / "mine.txt"
    path.write_bytes("\ufeff# mine\r\n\r\n a red circle \r\nein Stern ★\n# no\na red circle".encode())
    assert read(path) == ["a red circle", "ein Stern ★"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a\nb\n\xff\xfe", r"mine\.txt, line 3: not UTF-8"),
        (b"a\n" + b"x" * 2001, r"mine\.txt, line 2: 2001 characters"),
        (b"a\x00b", r"line 1: not a text file"),
        (b"", "holds no prompt"),
        (b"# only this\n\n", "holds no prompt"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_with_its_line(tmp_path, content, said):
    path = tmp_path / "mine.txt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=said):
        read(path)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ValueError, match="cannot be read"):
        read(tmp_path / "nothere.txt")
