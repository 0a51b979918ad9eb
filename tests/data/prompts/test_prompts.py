"""Prompt sets: our own from the grammar, a user's from a file."""

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


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_a_line_ends_with_any_of_the_three_line_ends(tmp_path, end):
    path = tmp_path / "mine.txt"
    path.write_bytes(end.join([b"\xef\xbb\xbfa red circle", b"", b"# no", b" a star", b"a tab\there"]))
    with pytest.raises(
        ValueError, match=r"mine\.txt, line 5: a tab at place 6 of the prompt; put a space there"
    ):
        read(path)
    path.write_bytes(path.read_bytes().replace(b"\t", b" "))
    assert read(path) == ["a red circle", "a star", "a tab here"]


@pytest.mark.parametrize("char", ["\t", "\x1b", "\x07", "\x0b", "\x85", "\x7f"])
def test_a_control_character_is_named_with_file_and_line(tmp_path, char):
    path = tmp_path / "mine.txt"
    path.write_bytes("\n".join([*(f"a red circle {i}" for i in range(20)), f"a{char}b"]).encode())
    name = "a tab" if char == "\t" else rf"a control character \(U\+{ord(char):04X}\)"
    with pytest.raises(ValueError, match=rf"mine\.txt, line 21: {name} at place 2"):
        read(path)


def test_only_a_number_sign_that_stands_alone_or_twice_begins_a_comment(tmp_path):
    path = tmp_path / "mine.txt"
    path.write_text("#1 dad mug in red\n# no\n## no\n##no\n#\n#\tno\n  # no\n#hashtag\n#️⃣ a key\na # sign\n")
    assert read(path) == ["#1 dad mug in red", "#hashtag", "#️⃣ a key", "a # sign"]


@pytest.mark.parametrize("coding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_a_file_in_utf_16_is_refused_with_what_to_do(tmp_path, coding):
    path = tmp_path / "mine.txt"
    path.write_bytes("a red circle\na star\n".encode(coding))
    with pytest.raises(ValueError, match=r"mine\.txt, line 1: the file is UTF-16; save it as UTF-8\.$"):
        read(path)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ValueError, match="cannot be read"):
        read(tmp_path / "nothere.txt")


def test_both_forms_of_a_prompt_are_one_line_of_a_file(tmp_path):
    (tmp_path / "mine.txt").write_text("un café\nun cafe\u0301\n", encoding="utf-8")
    assert read(tmp_path / "mine.txt") == ["un café"]
