"""Each experiment at the smallest size: it gives a whole report, and is stopped and gone on with to the same one."""

import json
import math

import pytest

from studio.experiments import EXPERIMENTS, check_experiment, report_of, unfinished
from tests.tiny import STEPS

FEW = {"prompts": 3, "seeds": 2, "steps": STEPS}
SMALL = {
    "fidelity": {**FEW, "simulated": 8},
    "single": {"prompts": 3, "seen": 2, "unseen": 2, "train_steps": 3, "batch": 4, "steps": STEPS},
    "shift": {**FEW, "noises": 6, "well": 0.5},
    "tau": {**FEW, "taus": "0.1,100", "strengths": "0.5,1", "train_steps": 2, "batch": 4, "train_prompts": 4},
    "alignment": {**FEW, "methods": "projected,best-of-2,best-of-8,best-noise-of-2,best-of-2+projected"},
    "corrections": {**FEW, "counts": "0,12", "repeats": 1, "pool_prompts": 6, "replay": 0, "reward_steps": 2,
                    "projector_steps": 2, "train_prompts": 4},
}  # fmt: skip
PARTS = {"experiment", "title", "question", "answer", "judge", "config", "backbone", "backbone_revision", "scorer",
         "seconds", "created", "figures", "tables", "pictures", "data"}  # fmt: skip
COSTS = {"seconds", "scoring_seconds", "created", "used"}


def conducted(studio, name, run_id=None, **hooks):
    run = studio.train("experiment", {"name": name, **SMALL[name]}, run_id, **hooks)
    return run, (report_of(studio, run) if run["state"] == "done" else None)


def without_times(value):
    """What does not change when the same is done twice: all but what the clock says."""
    if isinstance(value, dict):
        return {
            k: without_times(v) for k, v in value.items() if k not in COSTS and not k.startswith("seconds")
        }
    if isinstance(value, list):
        return [without_times(v) for v in value]
    return value


def check_figure(figure):
    assert figure["kind"] in ("dots", "line", "scatter", "bars", "heatmap", "histogram")
    assert figure["title"] and {"x", "y", "series"} <= set(figure)
    if figure["kind"] == "heatmap":
        assert [len(row) for row in figure["z"]] == [len(figure["columns"])] * len(figure["rows"])
    for line in figure["series"]:
        assert line["name"]
        if figure["kind"] == "histogram":
            assert all(math.isfinite(v) for v in line["values"])
            continue
        for key in ("y", "low", "high", "text"):
            assert len(line.get(key, line["x"])) == len(line["x"]), (figure["title"], key)


@pytest.fixture
def reports(studio):
    return {}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_that_is_stopped_goes_on_to_the_report_of_one_that_was_not(studio, name):
    run, report = conducted(studio, name)
    assert set(report) == PARTS and report["experiment"] == name
    assert report["answer"] and all(s.endswith((".", "”.")) for s in report["answer"])
    json.dumps(report, allow_nan=False)
    for figure in report["figures"]:
        check_figure(figure)
    for table in report["tables"]:
        assert all(len(row) == len(table["columns"]) for row in table["rows"]), table["title"]
        assert set(table["percent"]) <= set(table["columns"])
    assert run["metrics"]["answer"] == report["answer"]

    studio.settings.home.joinpath("evaluations").mkdir(exist_ok=True)
    lines, again = [0], None
    for after in (2, 5, 9):
        lines[0] = 0

        def count(line):
            lines[0] += 1

        part, found = conducted(
            studio, name, again, on_progress=count, stop=lambda after=after: lines[0] >= after
        )
        again = part["id"]
        if found:
            break
        assert part["state"] == "stopped"
    assert unfinished(studio, {"name": name, **SMALL[name]}) in (again, None)
    if not found:
        _, found = conducted(studio, name, again)
    assert without_times(found)["answer"] == without_times(report)["answer"]
    assert without_times(found["tables"]) == without_times(report["tables"]) or name == "alignment"
