"""`export` and `import`: the format by name or by the file's ending, and what an import would change."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from studio.__main__ import main
from studio.cli import commands
from studio.grids.grid import Grids
from studio.training.runs import Runs


@pytest.fixture
def cli(store, sample_row, quick_path, monkeypatch, capsys):
    """cli("export", ...) -> (exit code, stdout, stderr). The studio is a fake with nothing but the store: these
    commands touch nothing else."""
    (sample,) = store.samples.add([sample_row()])
    store.scores.set(sample, 1, 7, "ann", word="red")
    settings = SimpleNamespace(home=quick_path, webhook="")
    grids = Grids(None, SimpleNamespace(store=store, settings=settings, models=None))
    runs = Runs(settings, store, None, {})
    studio = SimpleNamespace(store=store, settings=settings, runs=runs, grids=grids)
    monkeypatch.setattr(commands, "studio_of", lambda home: studio)

    def run(*arguments):
        code = main([str(a) for a in arguments])
        out = capsys.readouterr()
        return code, out.out, out.err

    return run


@pytest.mark.parametrize(
    ("name", "options", "begins"),
    [
        ("a", [], b'{"format":"noise-projection-studio/labels"'),
        ("a.CSV", [], b"sample,prompt,"),
        ("a.parquet", [], b"PAR1"),
        ("a.csv", ["--format", "jsonl"], b'{"format":"noise-projection-studio/labels"'),
        ("a.jsonl", ["--format", "richhf"], b'{"format":"noise-projection-studio/richhf-words"'),
    ],
)
def test_the_format_is_the_one_that_is_named_else_that_of_the_ending(cli, quick_path, name, options, begins):
    code, out, _ = cli("export", quick_path / name, *options)
    assert (code, out.startswith("Written: ")) == (0, True)
    assert (quick_path / name).read_bytes().startswith(begins)


def test_a_dry_run_says_what_would_change(cli, store, quick_path):
    path = quick_path / "a.jsonl"
    cli("export", path, "--format", "richhf")
    header, record = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
    path.write_text(json.dumps(header) + "\n" + json.dumps(record | {"aligned": [0]}) + "\n")
    options = ["import", path, "--format", "richhf", "--who", "bob"]
    for more, verb in ((["--dry-run"], "Would be taken over"), ([], "Taken over")):
        assert len(store.labels.current()[0]["events"]) == 1
        code, out, _ = cli(*options, *more)
        assert (code, out.splitlines()) == (0, [
            f"{verb}: 0 new and 1 changed words; 0 say the same already.",
            f"  line 2: word 1 'red' of {record['sample']}: 7 -> 0",
        ])  # fmt: skip
    assert store.scores.current(record["sample"])[1]["people"] == {"ann": 7, "bob": 0}
    assert "0 new and 0 changed words; 1 say the same" in cli(*options)[1]


def test_a_label_that_is_not_of_the_prompts_words_is_refused_and_cannot_command_the_terminal(
    cli, store, sample_row, quick_path
):
    store.samples.add([sample_row(id="b", seed=9)])
    (quick_path / "a.csv").write_text("sample,word_index,word,score\nb,1,=red\x1b[2J,9\n")
    code, _, err = cli("import", quick_path / "a.csv", "--format", "csv", "--who", "bob")
    assert (
        code == 2
        and (
            r"a.csv, line 2: word 1 of the prompt is 'red', not '=red\x1b[2J'. The prompt's words are: 0 a, 1 red, 2 circle, "
            "3 above, 4 a, 5 blue, 6 square. Nothing was imported."
        )
        in err
    )
    assert store.labels.current(ids=["b"]) == []


def test_samples_are_searched_ordered_and_bounded_by_their_mean_score(cli, store, sample_row):
    store.samples.add([sample_row(id="low", seed=8)])
    store.scores.set("low", 1, 2, "bob")
    (other,) = [s["id"] for s in store.samples.find() if s["id"] != "low"]

    def found(*asked):
        return [line.split()[0] for line in cli("samples", *asked)[1].splitlines()[:-1]]

    assert found("RED circle", "--by", "ann", "--sort", "prompt") == [other]
    assert found("--sort", "lowest") == ["low", other] and found("--sort", "highest") == [other, "low"]
    assert found("--mean-from", "2.5") == [other] and found("--mean-to", "2.5") == ["low"]
    for wrong, says in (
        (("--mean-from", "11"), "mean_from must be a number from 0 to 9"),
        (("--sort", "best"), "best"),
    ):
        code, _, err = cli("samples", *wrong)
        assert code == 2 and says in err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["export", "a.csv", "--licence", "mit"], "--licence belongs to dataset"),
        (["export", "a", "--format", "dataset"], "no labelled image whose file is there"),
        (["export", "a.csv", "--no-features"], "--no-features belongs to jsonl"),
        (["export", "a", "--format", "xml"], "is not one of"),
        (["import", "a", "--who", "bob"], "--who belongs to the other"),
        (["import", "a", "--format", "richhf", "--images", "b"], "--images belongs to jsonl"),
        (["import", "a", "--format", "votes"], "is not one of"),
        (["import", "nothere", "--format", "richhf"], "cannot be read"),
        (["import", "nothere", "--format", "richhf", "--who", "vlm"], "taken by the studio"),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else "",
)
def test_what_does_not_go_together_is_a_sentence(cli, quick_path, monkeypatch, arguments, says):
    monkeypatch.chdir(quick_path)
    code, _, err = cli(*arguments)
    assert code == 2
    assert says in err
    assert len(err.strip().splitlines()) == 1
    assert not list(quick_path.glob("a*"))


def test_a_long_list_of_changes_is_cut_and_json_has_it_whole(cli, store, sample_row, quick_path):
    ids = store.samples.add([sample_row(seed=i) for i in range(5, 10)])
    for id in ids:
        for index in (1, 2, 3, 5, 6):
            store.scores.set(id, index, 7, "ann")
    path, result = quick_path / "a.jsonl", quick_path / "result.json"
    cli("export", path, "--format", "richhf")
    path.write_bytes(path.read_bytes().replace(b'"aligned":[1,1,1,1,1]', b'"aligned":[0,0,0,0,0]'))
    _, out, _ = cli("import", path, "--format", "richhf", "--who", "bob", "--dry-run", "--json", result)
    assert len(out.splitlines()) == 1 + 20 + 1
    assert out.endswith("and 5 more; --json has them all.\n")
    assert len(json.loads(result.read_text())["changes"]) == 25


def test_backup_restore_and_the_log_by_the_command_line(cli, store, quick_path):
    path = quick_path / "backup.db"
    assert cli("backup", path, "--who", "ann")[0] == 0
    (sample,) = [s["id"] for s in store.samples.find()]
    store.scores.set(sample, 1, 1, "ann")
    assert cli("restore", path, "--check")[1].startswith("It can be restored: 1 images, 1 scores")
    code, out, _ = cli("restore", path, "--who", "bob")
    assert code == 0 and "kept in studio.replaced-" in out
    assert store.scores.current(sample)[1]["people"] == {"ann": 7}
    assert cli("audit")[1].splitlines()[0].split("  ")[1:3] == ["'bob'", "restore"]
    code, _, err = cli("backup", path)
    assert code == 2 and "exists already" in err


def test_push_and_webhook_say_what_they_lack(cli, monkeypatch):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    assert "There is no token" in cli("push", "ann/words")[2]
    assert "No webhook is set" in cli("webhook", "--once")[2]
