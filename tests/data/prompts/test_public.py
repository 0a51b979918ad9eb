"""The public prompt sets: their formats on small files made here, and the real ones where they are at hand."""

import json
from itertools import pairwise
from pathlib import Path

import pytest

from core.words import check_prompt, split
from data.prompts.public import read_public, read_set, set_name
from data.store.checks import PROMPT_LENGTH

SHARED = Path(__file__).resolve().parents[4] / "shared/prompts"
REAL = {  # entries: (folder, distinct prompts); T2I-CompBench, DSG and TIFA hold some twice
    "geneval": ("geneval", 553),
    "t2i-compbench": ("t2i-compbench", 7957),
    "partiprompts": ("parti", 1632),
    "dsg": ("dsg", 1059),
    "tifa": ("tifa", 4079),
    "dpg": ("dpg-bench", 1065),
}
needs_sets = pytest.mark.skipif(
    not SHARED.is_dir(), reason="the public prompt sets are not at hand (../shared/prompts is absent)"
)


def written(folder, **files):
    """Writes files, their names with __ for the dot, and returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        data = content if isinstance(content, bytes) else content.encode()
        (folder / name.replace("__", ".")).write_bytes(data)
    return folder


GENEVAL = '{"tag": "counting", "prompt": "two cats"}\n{"tag": "colors", "prompt": "a red cat"}\n{"prompt": "two cats"}\n'
PARTI = (
    'Prompt\tCategory\tChallenge\tNote\n"a" sign\tFood & Beverage\tBasic\tn\n a cat \tAnimals\tQuantity\t\n'
)
DSG = 'item_id,text,proposition_id\nwhoops_5,"a cat, red",1\nwhoops_5,"a cat, red",2\nvrd_1,a dog ,1\n'
TIFA = json.dumps([{"id": "coco_1", "caption": "a cat "}, {"id": "drawbench_2", "caption": "a dög"}])


COLOURS = {
    "color_train__txt": "a red cat\r\na cat\r\n",
    "color_val__txt": "#1 cat\r\na cat\r\n",
    "other__txt": "no",
}
THREE = {"3d_spatial_val__txt": "a cat", "color_train__txt": "a dog\n", "shape_val__txt": "a cow"}


@pytest.mark.parametrize(
    ("name", "files", "prompts", "part", "of_part"),
    [
        (
            "geneval",
            {"evaluation_metadata__jsonl": GENEVAL},
            ["two cats", "a red cat"],
            "counting",
            ["two cats"],
        ),
        ("partiprompts", {"PartiPrompts__tsv": PARTI}, ['"a" sign', "a cat"], "food-beverage", ['"a" sign']),
        ("partiprompts", {"PartiPrompts__tsv": PARTI}, ['"a" sign', "a cat"], "Quantity", ["a cat"]),
        ("dsg", {"dsg-1k-anns__csv": DSG}, ["a cat, red", "a dog"], "vrd", ["a dog"]),
        ("tifa", {"tifa_v1__0_text_inputs__json": TIFA}, ["a cat", "a dög"], "coco", ["a cat"]),
        ("t2i-compbench", COLOURS, ["a red cat", "a cat", "#1 cat"], "color_val", ["#1 cat", "a cat"]),
        ("t2i-compbench", THREE, ["a dog", "a cow", "a cat"], "val", ["a cow", "a cat"]),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_set_is_read_in_its_own_format_and_by_its_parts(tmp_path, name, files, prompts, part, of_part):
    folder = written(tmp_path / "set", **files)
    assert read_set(f"{name}:{folder}") == prompts
    assert read_set(f"{name}/{part}:{folder}") == of_part
    assert all(read_public(name, folder).values()), "every prompt has its parts"
    assert set_name(f"{name.upper()}/{part}:{tmp_path}") == f"{name}/{part}"


def test_a_prompt_that_stands_in_two_parts_belongs_to_both(tmp_path):
    folder = written(tmp_path / "set", color_val__txt="a red cat\n", shape_val__txt="a red cat\na cube\n")
    assert read_public("t2i-compbench", folder) == {
        "a red cat": ("color_val", "color", "val", "shape_val", "shape"),
        "a cube": ("shape_val", "shape", "val"),
    }


def test_dpg_and_geneval_are_read_from_one_file_from_a_prompt_a_file_and_from_a_clone(tmp_path, monkeypatch):
    jsonl = '{"id": "0", "prompt": "a cat"}\n\n{"id": "1", "prompt": "a dog"}'
    one = written(tmp_path / "one", dpg_prompts__jsonl=jsonl)
    many = written(tmp_path / "clone/dpg_bench/prompts", b__txt="a dog\n", a__txt="\ufeffa cat,\r\non a mat")
    written(tmp_path / "clone", requirements__txt="torch")
    assert read_set(f"dpg:{one}") == ["a cat", "a dog"]
    assert read_set(f"dpg:{many}") == read_set(f"dpg:{tmp_path / 'clone'}") == ["a cat, on a mat", "a dog"]
    written(tmp_path / "prompts", generation_prompts__txt="two cats\n\na red cat\n")
    for folder in (tmp_path, tmp_path / "prompts"):
        assert read_set(f"GenEval:{folder}") == ["two cats", "a red cat"]
    monkeypatch.chdir(written(tmp_path, mine__txt="a cat\n"))
    (tmp_path / "geneval:mine").write_text("a dog\n")  # a plain file stays one, also with a colon in its name
    assert read_set("mine.txt") == read_set(tmp_path / "mine.txt") == ["a cat"]
    assert read_set("geneval:mine") == ["a dog"] and set_name(tmp_path / "mine.txt") == "mine.txt"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("genevl:FOLDER", r"no prompt set 'genevl'; known sets are geneval, .* dpg"),
        ("geneval:FOLDER/nothere", r"no folder .*djghosh13/geneval.*MIT.*clone it"),
        ("dsg:FOLDER", r"holds no dsg-1k-anns\.csv.*j-min/DSG.*Apache-2\.0"),
        ("geneval/dancing:FOLDER", r"GenEval has no part 'dancing': it has counting, colors\."),
        (r"C:\mine.txt", r"cannot be read"),
        (r"c:mine.txt", r"cannot be read"),
    ],
)
def test_what_is_no_set_is_refused_with_what_to_do(tmp_path, text, says):
    folder = written(tmp_path / "set", evaluation_metadata__jsonl=GENEVAL)
    with pytest.raises(ValueError, match=says):
        read_set(text.replace("FOLDER", str(folder)))


META, TSV = "evaluation_metadata__jsonl", "PartiPrompts__tsv"
ANNS, INPUTS = "dsg-1k-anns__csv", "tifa_v1__0_text_inputs__json"


@pytest.mark.parametrize(
    ("name", "files", "says"),
    [
        ("geneval", {META: '{"prompt": "a"}\n{"prompt": '}, r"jsonl, line 2: not JSON"),
        ("geneval", {META: '{"prompt": "a"}\n[1]'}, r"line 2: no prompt .*djghosh13/geneval"),
        ("geneval", {META: '{"prompt": 7}'}, r"line 1: no prompt where GenEval has one"),
        ("geneval", {META: "[" * 100_000}, r"line 1: not JSON"),
        ("geneval", {META: ""}, r"holds no prompt"),
        ("geneval", {"generation_prompts__txt": b"a\n\xff"}, r"line 2: not UTF-8"),
        ("t2i-compbench", {"color_val__txt": "a\n" + "x" * (PROMPT_LENGTH + 1)}, r"color_val\.txt, line 2: 2001 characters"),
        ("partiprompts", {TSV: PARTI + "a\tb\n"}, r"line 4: not CSV \(2 columns instead of 4\); .*parti"),
        ("partiprompts", {TSV: "Text\tCategory\na\tb"}, r"line 1: there is no column Prompt and no Ch"),
        ("dsg", {ANNS: DSG + "vrd_2,a cow\n"}, r"line 5: not CSV \(2 columns instead of "),
        ("dsg", {ANNS: DSG + 'vrd_2,"a cow,1\n'}, r"line \d: not CSV"),
        ("dsg", {ANNS: "a,b\n"}, r"line 1: there is no column item_id and no text"),
        ("tifa", {INPUTS: '[\n{"caption": "a"},\n}'}, r"json, line 3: not JSON"),
        ("tifa", {INPUTS: '{"a": 1}'}, r"not a list"),
        ("tifa", {INPUTS: '[{"caption": "a"}, {"id": 3}]'}, r"entry 2: no prompt"),
        ("dpg", {"0__txt": "a", "1__txt": "\n"}, r"1\.txt: no prompt"),
        *(
            ("dpg", {"dpg_prompts__jsonl": json.dumps({"prompt": text})},
             r"dpg_prompts\.jsonl, line 1: a (tab|control character) .*at place 2")
            for text in ("a\tcat", "a\ncat", "a\ud800cat")
        ),
    ],
)  # fmt: skip
def test_a_damaged_file_is_refused_with_its_line(tmp_path, name, files, says):
    with pytest.raises(ValueError, match=says):
        read_set(f"{name}:{written(tmp_path / 'set', **files)}")


@pytest.mark.parametrize(
    ("name", "file", "content"),
    [
        ("geneval", "evaluation_metadata__jsonl", GENEVAL),
        ("geneval", "generation_prompts__txt", "two cats\na red cat\n"),
        ("partiprompts", "PartiPrompts__tsv", PARTI),
        ("dsg", "dsg-1k-anns__csv", DSG),
        ("tifa", "tifa_v1__0_text_inputs__json", TIFA),
    ],
)
def test_a_set_with_a_byte_order_mark_is_read_and_one_in_utf_16_is_refused(tmp_path, name, file, content):
    plain = read_set(f"{name}:{written(tmp_path / 'plain', **{file: content})}")
    marked = written(tmp_path / "marked", **{file: ("\ufeff" + content).replace("\n", "\r").encode()})
    assert read_set(f"{name}:{marked}") == plain
    with pytest.raises(ValueError, match=r", line 1: the file is UTF-16; save it as UTF-8\.$"):
        read_set(f"{name}:{written(tmp_path / 'wide', **{file: content.encode('utf-16')})}")


@needs_sets
@pytest.mark.parametrize("name", REAL)
def test_the_real_set_has_its_published_number_of_prompts(name):
    folder, count = REAL[name]
    found = read_public(name, SHARED / folder)
    assert len(found) == count
    assert name == "dpg" or all(found.values())


@needs_sets
def test_the_parts_of_the_real_sets_have_their_published_sizes():
    for part, count in {
        "geneval/counting:geneval": 80, "geneval/two_object:geneval": 99, "geneval/position:geneval": 100,
        "t2i-compbench/color_val:t2i-compbench": 300, "t2i-compbench/val:t2i-compbench": 2400, "tifa/drawbench:tifa": 161,
    }.items():  # fmt: skip
        name, folder = part.split(":")
        assert len(read_set(f"{name}:{SHARED / folder}")) == count


@needs_sets
def test_every_public_prompt_can_be_used_and_taken_apart_into_words():
    seen = 0
    for name, (folder, _) in REAL.items():
        for prompt in read_public(name, SHARED / folder):
            words = split(check_prompt(prompt))
            assert words and [w.index for w in words] == list(range(len(words)))
            assert all(prompt[w.start : w.end] == w.text for w in words)
            assert all(a.end <= b.start for a, b in pairwise(words))
            assert words[0].start >= 0 and words[-1].end <= len(prompt)
            seen += 1
    assert seen == sum(count for _, count in REAL.values())
