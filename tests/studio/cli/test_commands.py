"""The command line: the same services, a sentence for what is wrong, and the whole result as JSON."""

import json
import os
import signal

import numpy as np
import pytest

from studio.__main__ import main
from studio.cli import commands
from studio.cli.console import duration
from studio.numbers import plain
from studio.training import runs
from tests.tiny import STEPS


@pytest.fixture
def cli(studio, monkeypatch, capsys, tmp_path):
    """cli("score", ...) -> (exit code, result of --json, stdout, stderr), on the test's studio."""
    monkeypatch.setattr(commands, "studio_of", lambda home: studio)

    def run(*arguments, file=True):
        path = tmp_path / "result.json"
        path.unlink(missing_ok=True)
        code = main([*arguments, *(["--json", str(path)] if file else [])])
        out = capsys.readouterr()
        return code, json.loads(path.read_text()) if path.exists() else None, out.out, out.err

    return run


def test_the_whole_way_by_commands(cli, tmp_path):
    code, found, out, _ = cli("collect", "--count", "6", "--seeds", "2", "--steps", str(STEPS))
    assert (code, len(found["samples"]), found["scored"]) == (0, 12, 12)
    assert "12 samples" in out
    assert cli("score")[1] == {"scored": 0}
    code, found, _, _ = cli("correct", "--count", "20")
    assert code == 0 and 20 <= found["words"] == found["typed"] < 27
    given = [f"--set={name}" for name in ("reward_steps=2", "reward-batch=4", "foresight_steps=0")]
    code, run, out, _ = cli("train", "reward", *given)
    assert (code, run["state"]) == (0, "done") and "held-out labels" in out
    assert cli("runs")[1][0]["id"] == run["id"]
    assert cli("runs", run["id"])[1]["state"] == "done"
    assert cli("promote", run["id"], "--force", "--who", "Ann")[1]["promoted"]
    assert cli("rollback", "reward")[1] is None
    assert cli("status")[1]["corrections"] == found["words"]
    given = [f"--set={name}" for name in ("prompts=2", "seeds=2", f"steps={STEPS}")]
    code, _, out, _ = cli("evaluate", "alignment", *given, "--set=best_of=2")
    assert code == 0 and "| none |" in out and "Judge: detector" in out
    assert "Pearson" in cli("evaluate", "fidelity", *given)[2]
    file = str(tmp_path / "labels.jsonl")
    assert cli("export", file)[1]["samples"] == 16
    assert cli("import", file, "--dry-run")[0] == 0
    assert cli("labels", str(tmp_path / "kept"))[1]["samples"] == 12


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("dance", "No such command"),
        ("collect --count many", "valid integer"),
        ("collect --count 0", "n must be"),
        ("collect --set mine", "no prompt set"),
        ("collect --prompts /nowhere/p.txt", "cannot be read"),
        ("collect --prompts genevl:/nowhere", "known sets are geneval"),
        ("collect --method magic", "not known"),
        ("collect --seeds -1", "out of range"),
        ("evaluate fidelity --prompts dsg:/nowhere", "j-min/DSG"),
        ("evaluate alignment --set seeds=0", "out of range"),
        ("score nothing", "no sample"),
        ("train reward --set steps", "no setting"),
        ("train reward --set speed=1", "no setting"),
        ("train reward --run nothing", "no run"),
        ("train reward --run x --set seed=1", "keeps its settings"),
        ("train everything", "No such command"),
        ("correct --order best", "order"),
        ("import /nowhere.jsonl", "cannot be read"),
        ("promote nothing --who vlm", "taken by the studio"),
        ("rollback everything", "cannot be rolled back"),
        ("runs nothing", "no run"),
        ("stop nothing", "no run"),
        ("pretrain scorer --set steps=many", "not a whole number"),
        ("status --json /nowhere/deep/file.json", "does not exist"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(cli, arguments, says):
    code, result, out, err = cli(*arguments.split(), file=False)
    assert code == 2 and says in err and "Traceback" not in err
    assert len(err.strip().splitlines()) == 1
    assert result is None and not out


def test_a_damaged_database_and_a_wrong_setting_are_a_sentence(monkeypatch, capsys, tmp_path):
    (tmp_path / "studio.db").write_bytes(b"no database at all" * 100)
    assert main(["status", "--home", str(tmp_path)]) == 2
    assert "damaged" in capsys.readouterr().err
    assert (tmp_path / "studio.db").read_bytes().startswith(b"no database")
    monkeypatch.setenv("STUDIO_BATCH", "no")
    assert main(["status"]) == 2
    assert "STUDIO_BATCH" in capsys.readouterr().err


def test_prompts_are_a_file_or_a_public_set_and_count_limits_them(cli, studio, tmp_path):
    file, folder = tmp_path / "generation_prompts.txt", f"geneval:{tmp_path}"
    file.write_text("two cats\na red circle\na blue square\n")

    def collected(*given):
        return cli("collect", "--steps", str(STEPS), "--no-score", "--prompts", *given)[1]["prompts"]

    assert (collected(folder, "--count", "2"), collected(folder), collected(str(file))) == (2, 3, 3)
    assert {row["prompt_set"] for row in studio.store.samples.find()} == {"geneval"}
    file.write_text("three dogs\na red ring\n")  # not collected, so not trained on
    given = [
        f"--set={name}" for name in ("prompts=1", "seeds=1", f"steps={STEPS}", "best_of=2", "projected=false")
    ]
    code, report, _, err = cli("evaluate", "alignment", "--prompts", folder, *given)
    assert code == 0, err
    assert report["config"]["prompts_given"] and report["prompts"] == 1


def test_ctrl_c_stops_after_the_step_and_says_how_to_go_on(cli, monkeypatch):
    report = runs.Job.watch

    def interrupting(job, stage):
        inner = report(job, stage)

        def on_progress(progress):
            inner(progress)
            if progress.step == 2:
                os.kill(os.getpid(), signal.SIGINT)

        return on_progress

    monkeypatch.setattr(runs.Job, "watch", interrupting)
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        code, run, _, err = cli("train", "warmup", "--set", "warmup_steps=500", "--set", "prompts=4")
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert (code, run["state"]) == (130, "stopped")
    assert f"train warmup --run {run['id']}" in err


def test_results_become_json_whatever_they_hold():
    assert plain({1: (np.float32(0.5), float("nan"), None, np.arange(2))}) == {"1": [0.5, None, None, [0, 1]]}
    assert [duration(s) for s in (12, 200, 7500)] == ["12 s", "3 min", "2 h 5 min"]
