"""The command that makes a grid."""

import json
import zipfile

import pytest

from studio.__main__ import main
from studio.cli import commands, grid
from studio.cli.application import parse
from studio.cli.console import Console
from studio.doors import PROGRAM
from tests.tiny import STEPS

PROMPT = "a red circle above a blue square"


def run(studio, monkeypatch, *words):
    """The command on a studio whose models are loaded."""
    monkeypatch.setattr(commands, "studio_of", lambda home: studio)
    return parse(["grid", *words, "--who", "ann"]).run(Console())


def test_a_grid_is_made_packed_and_told(studio, monkeypatch, tmp_path):
    file = tmp_path / "grid.zip"
    found = run(studio, monkeypatch, PROMPT, "--seeds", "1-2", "--methods", "none,projected", "--strengths", "0,0.5,1",
                "--steps", str(STEPS), "--guidance", "4", "--zip", str(file))  # fmt: skip
    lines = found.text.splitlines()
    assert lines[0].endswith("6 of 6 images are there.")
    assert "projected 0.5" in lines[2] and "against none" in lines[2]
    assert (found.data["state"], len(found.data["cells"]), len(found.data["change"])) == ("done", 6, 2)
    assert len(zipfile.ZipFile(file).namelist()) == 7
    json.dumps(found.data)


def test_a_grid_and_a_collection_are_made_under_options(studio, monkeypatch, tmp_path):
    asked = ["--negative", "a green star", "--scheduler", "DPMSolverMultistepScheduler"]
    run(
        studio, monkeypatch, "a (red:1.3) circle", "--seeds", "1", "--steps", str(STEPS), *asked, "--weighted"
    )
    parse(["collect", "--count", "1", "--steps", str(STEPS), "--no-score", *asked]).run(Console())
    typed, count = ["a (red:1.3) star", "a blue circle", "a (blue:1.2) star"], studio.store.samples.count()
    (tmp_path / "own.txt").write_text("\n".join(typed))
    words = [
        "collect",
        "--prompts",
        str(tmp_path / "own.txt"),
        "--seeds",
        "2",
        "--steps",
        str(STEPS),
        "--no-score",
    ]
    ids, again = (parse([*words, "--weighted"]).run(Console()).data["samples"] for _ in range(2))
    assert again == ids and studio.store.samples.count() == count + 6
    own = {(row["prompt"], row["weighted"]) for row in studio.store.samples.find(ids=ids)}
    assert own == {("a red star", typed[0]), ("a blue circle", ""), ("a blue star", typed[2])}
    (tmp_path / "own.txt").write_text("a (red:1.3) star\na (red:1.2) star")
    with pytest.raises(ValueError, match="'a red star' is there with two sets of weights"):
        parse([*words, "--weighted"]).run(Console())
    rows = [row for row in studio.store.samples.find() if row["id"] not in ids]
    made_with = {(row["negative"], row["sampler"], row["weighted"]) for row in rows}
    assert made_with == {(asked[1], asked[3], text) for text in ("a (red:1.3) circle", "")}
    assert {row["prompt"] for row in rows if row["weighted"]} == {"a red circle"}


def test_a_grid_that_was_stopped_is_gone_on_with(studio, monkeypatch):
    console = Console()
    console.stop.set()
    monkeypatch.setattr(commands, "studio_of", lambda home: studio)
    monkeypatch.setattr(grid, "LOOK", 0.0)
    found = parse(["grid", PROMPT, "--seeds", "1-4", "--steps", str(STEPS)]).run(console)
    assert found.data["state"] == "stopped" and found.again.startswith(f"{PROGRAM} grid --resume ")
    assert run(studio, monkeypatch, "--resume", found.data["id"]).data["done"] == 8


@pytest.mark.parametrize(
    ("words", "why"),
    [([], "Give a prompt"), ([PROMPT, "--resume", "abc"], "Give a prompt"), ([PROMPT, "--seeds", "1-1000"], "more than 256"),
     (["--resume", "nowhere"], "There is no grid nowhere"), ([PROMPT, "--loras", "x"], "There is no LoRA 'x'"),
     ([PROMPT, "--scheduler", "x"], "There is no scheduler 'x'"), ([PROMPT, "--negative", "x" * 2001], "characters")],
)  # fmt: skip
def test_bad_arguments_are_one_sentence_and_exit_2(words, why, capsys):
    assert main(["grid", *words]) == 2
    assert why in capsys.readouterr().err
