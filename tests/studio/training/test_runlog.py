"""The folder of a run, as a disk or a person may have left it: the page shows what is whole."""

import json

import pytest

from core.progress import Progress
from studio.components import figures
from studio.experiments import report_of
from studio.pages import runs
from studio.studio import Studio
from studio.training.runs import PROGRESS, STAGES, RunLog
from tests import tiny

GOOD = {"time": 1.0, "stage": "reward", "step": 1, "total": 2, "left": 3.0, "metrics": {"loss": 0.5}}


@pytest.fixture
def run(tmp_path):
    """A studio without models, a run, and its log with one report."""
    studio = Studio(tiny.settings_at(tmp_path / "home", tmp_path / "models"))
    run = studio.store.runs.new("reward", {})
    log = RunLog(studio.runs.folder(run))
    log.start()
    log.report("reward", Progress(1, 1, {"loss": 0.5}, 0, 0))
    return studio, run, log


@pytest.mark.parametrize(
    "line",
    ["123", "[]", "null", '"x"', "{", "{}", "[" * 100_000, json.dumps({**GOOD, "step": "1"}), json.dumps({**GOOD, "stage": [1]}),
     json.dumps({**GOOD, "metrics": {"loss": "much"}}), json.dumps({**GOOD, "metrics": 7}), json.dumps({**GOOD, "left": []}),
     json.dumps({**GOOD, "total": None}), json.dumps({**GOOD, "metrics": {"loss": 10**400}})],
)  # fmt: skip
def test_a_line_that_is_no_report_is_left_out(run, line):
    studio, id, log = run
    with (log.folder / PROGRESS).open("a") as file:
        file.write(f"{line}\n")
    state = studio.runs.status(id)
    assert len(state["history"]) == 1 and state["step"] == 1
    assert figures.curves(state["history"]) and runs.how_far(state)


def test_damaged_stages_and_those_without_a_result_are_done_again(run):
    _, _, log = run
    for content in ("[]", "123", "null", "{", "", '"x"', "\x00"):
        (log.folder / STAGES).write_text(content)
        assert log.done() == {}
    assert log.finish("reward", {"a": 1}) == {"a": 1} and log.done() == {"reward": {"a": 1}}
    (log.folder / STAGES).write_text('{"reward": 7, "projector": {"a": 1}, "labels": null}')
    assert log.done() == {"projector": {"a": 1}}


def test_a_damaged_report_of_an_experiment_is_a_sentence(run):
    studio, _, _ = run
    id = studio.store.runs.new("experiment", {"name": "tau"})
    studio.store.runs.update(id, state="done")
    studio.runs.folder(id).mkdir(parents=True)
    for content in ("[]", "123", "{", ""):
        (studio.runs.folder(id) / "report.json").write_text(content)
        with pytest.raises(ValueError, match=r"report\.json is damaged.* Run the experiment again\."):
            report_of(studio, studio.runs.get(id))
