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
    for arguments in (("nothere",), (name, 0), (name, True), (name, 5, "huge")):
        with pytest.raises(ValueError, match=r"There is no|n must be"):
            load(*arguments)


def test_a_file_is_read_a_prompt_a_line_without_comments_and_doubles(tmp_path):
    path = tmp_path / "mine.txt"
    text = "\ufeff# mine\n\n a red circle \nein Stern ★\n# no\na red circle\nun café\nun cafe\u0301"
    for end in ("\n", "\r\n", "\r"):
        path.write_bytes(text.replace("\n", end).encode())
        assert read(path) == ["a red circle", "ein Stern ★", "un café"]
    path.write_text("#1 dad mug in red\n# no\n## no\n##no\n#\n#\tno\n  # no\n#hashtag\n#️⃣ a key\na # sign\n")
    assert read(path) == ["#1 dad mug in red", "#hashtag", "#️⃣ a key", "a # sign"]


CONTROLS = ["\x1b", "\x07", "\x0b", "\x85", "\x7f"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a\nb\n\xff\xfe", r"mine\.txt, line 3: not UTF-8"),
        (b"a\n" + b"x" * 2001, r"mine\.txt, line 2: 2001 characters"),
        (b"a\x00b", r"line 1: not a text file"),
        (b"", "holds no prompt"),
        (b"# only this\n\n", "holds no prompt"),
        (None, "cannot be read"),
        (b"a star\r\ra\tb", r"mine\.txt, line 3: a tab at place 2 of the prompt; put a space there"),
        *(
            (f"a\na{c}b".encode(), rf"line 2: a control character \(U\+{ord(c):04X}\) at place 2")
            for c in CONTROLS
        ),
        *(
            ("a red circle\na star\n".encode(coding), r"line 1: the file is UTF-16; save it as UTF-8\.$")
            for coding in ("utf-16", "utf-16-le", "utf-16-be")
        ),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_with_its_line(tmp_path, content, said):
    if content is not None:
        (tmp_path / "mine.txt").write_bytes(content)
    with pytest.raises(ValueError, match=said):
        read(tmp_path / "mine.txt")
