import json

import numpy as np
import pytest

from core.evaluation.base import Method, Settings
from core.evaluation.experiments import alignment, seeds_for
from core.evaluation.methods import BestOf, Projected
from core.evaluation.report import chosen_distance, markdown
from core.progress import Stopped

SHORT = Settings(steps=1, batch=4)
SEEDS = [11, 12, 13, 14]


@pytest.fixture(scope="module")
def run(diffuser, networks, world):
    """A function that runs the experiment of this file; what it is given replaces the defaults."""

    def run(**changes):
        given = {
            "methods": [Method(), Projected(networks[0]), BestOf(2), BestOf(4), BestOf(1)],
            "prompts": world["prompts"],
            "seeds": SEEDS,
            "judge": world["judge"],
            "scorer": world["scorer"](),
            "settings": SHORT,
            "draws": 200,
        }
        given |= changes
        return alignment(diffuser, **given)

    return run


@pytest.fixture(scope="module")
def report(run):
    return run()


def test_the_report_goes_to_json_and_has_every_method(report):
    again = json.loads(json.dumps(report, allow_nan=False))
    assert list(again["methods"]) == ["none", "projected", "best-of-2", "best-of-4", "best-of-1"]
    assert again["prompts"] == 3 and again["images"] == 12 and again["judged"] == 8
    assert markdown(report).count("\n") == 6 and "| best-of-2 |" in markdown(report)
    assert report["scorer"]["words"] == 4 * (2 + 5) and report["scorer"]["mae"] < 1e-4
    assert set(report["scorer"]["kinds"]) == {"colour", "object", "relation"}


def test_figures_are_those_of_the_judge_on_the_very_images(report, diffuser, world):
    made = [Method().run(diffuser, [prompt] * 4, SEEDS, SHORT).images for prompt in world["prompts"][:2]]
    values = np.array([world["brightness"](image) for image in np.concatenate(made)])
    entry = report["methods"]["none"]
    assert entry["strict"]["estimate"] == pytest.approx((values > 0.5).mean())
    assert entry["words"]["estimate"] == pytest.approx(values.mean())
    assert entry["kinds"]["relation"]["estimate"] == pytest.approx(values[4:].mean())
    assert entry["extra"]["estimate"] == 1 and "difference" not in entry


def test_best_of_one_is_none_and_more_is_better_where_the_scorer_sees_what_the_judge_sees(report):
    entries = report["methods"]
    assert entries["best-of-1"]["difference"]["strict"] == {"estimate": 0, "low": 0, "high": 0}
    rising = [entries[name]["words"]["estimate"] for name in ("none", "best-of-2", "best-of-4")]
    assert rising == sorted(rising) and rising[0] < rising[2]
    assert entries["best-of-4"]["strict"]["estimate"] == pytest.approx(
        report["ceiling"]["best-of-4"]["estimate"]
    )
    assert entries["best-of-4"]["win_tie_loss"]["loss"] == 0


def test_differences_costs_drift_and_diversity_are_reported(report):
    none, moved, best = (report["methods"][name] for name in ("none", "projected", "best-of-4"))
    for figure in ("strict", "words", "scorer"):
        difference = moved[figure]["estimate"] - none[figure]["estimate"]
        assert moved["difference"][figure]["estimate"] == pytest.approx(difference)
    assert sum(moved["win_tie_loss"].values()) == 8
    assert none["network_calls"] == moved["network_calls"] == 2 and moved["other_calls"] == {"projector": 1}
    assert best["network_calls"] == 8 and best["other_calls"] == {"scorer": 4}
    assert best["seconds"] == pytest.approx(4 * (none["seconds"] + none["scoring_seconds"]))
    assert moved["drift"]["items"] == 12 and moved["drift"]["distance"] > 0
    assert "drift" not in none and moved["frechet"] >= 0 and 0 < none["diversity"]["estimate"] < 1
    assert best["diversity"]["estimate"] is None  # one image of a prompt is always the choice
    assert chosen_distance(np.full((3, 3), 1 / 3), [1.0, 2.0, 3.0]) == pytest.approx(2)


def test_the_peak_memory_is_the_maximum_over_batches_and_none_for_old_journals(run, tmp_path):
    few = {"prompts": ["a star", "a red circle"], "methods": [BestOf(2)], "folder": tmp_path}
    run(**few)
    journal = tmp_path / "items.jsonl"
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    records = [line for line in lines if "items" in line]
    assert all("peak_memory" in record for record in records)
    records[0]["peak_memory"], records[1]["peak_memory"] = 3_000_000, 41_000_000
    journal.write_text("".join(json.dumps(line) + "\n" for line in lines))
    result = run(**few)
    assert [entry["peak_memory"] for entry in result["methods"].values()] == [41_000_000] * 2
    assert "| peak MB |" in markdown(result) and "| 41 |" in markdown(result)
    for record in records:
        del record["peak_memory"]
    journal.write_text("".join(json.dumps(line) + "\n" for line in lines))
    old = run(**few)
    assert old["methods"]["none"]["peak_memory"] is None and "| - |" in markdown(old)


def test_a_stopped_experiment_resumes(run, report, world, tmp_path):
    first, second, left = world["scorer"](), world["scorer"](), [3]

    def soon():
        left[0] -= 1
        return left[0] < 0

    with pytest.raises(Stopped):
        run(scorer=first, folder=tmp_path, stop=soon)
    assert 0 < first.seen < 24
    journal = tmp_path / "items.jsonl"
    journal.write_bytes(journal.read_bytes() + b'{"method": "none", "pro')  # a kill in the middle of a line
    seen = []
    again = run(scorer=second, folder=tmp_path, on_progress=seen.append)
    assert first.seen + second.seen == 24 and seen[-1].step == seen[-1].total == 24
    assert seen[0].step > 4
    for name, entry in report["methods"].items():
        assert again["methods"][name]["strict"] == entry["strict"]
        assert again["methods"][name]["diversity"] == entry["diversity"]


def test_another_experiment_is_refused_in_the_same_folder(run, networks, tmp_path):
    few = {"methods": [Projected(networks[0])], "prompts": ["a star"], "folder": tmp_path}
    run(**few)
    with pytest.raises(ValueError, match=r"other settings \(steps\)"):
        run(**few | {"settings": Settings(steps=2)})
    with pytest.raises(ValueError, match="another 'projected'"):
        run(**few | {"methods": [Projected(networks[0], 0.5, name="projected")]})
    (tmp_path / "items.jsonl").write_text("nonsense\n")
    with pytest.raises(ValueError, match="damaged"):
        run(**few)


@pytest.mark.parametrize(
    "changes, says",
    [
        ({"prompts": []}, "no prompt"),
        ({"seeds": [1, 1]}, "twice"),
        ({"seeds": []}, "no seed"),
        ({"seeds": [[1]]}, "1 lists of seeds for 3"),
        ({"methods": [BestOf(5)]}, "needs 5 seeds"),
        ({"scorer": None}, "needs a scorer"),
    ],
)
def test_bad_input_is_refused_with_a_sentence(run, changes, says):
    with pytest.raises(ValueError, match=says):
        run(**changes)


def test_two_methods_of_one_name_are_refused(run, networks):
    twins = [Projected(networks[0], 0.5, name="x"), Projected(networks[0], 1.0, name="x")]
    with pytest.raises(ValueError, match="'x'"):
        run(methods=twins)


def test_a_single_image_other_seeds_for_each_prompt_and_a_method_as_a_base_are_reported(run, networks):
    result = run(methods=[Method(), Projected(networks[0])], prompts=["a red circle"], seeds=[11])
    entry = json.loads(json.dumps(result, allow_nan=False))["methods"]["projected"]
    assert "frechet" not in entry and result["images"] == 1
    assert entry["difference"]["words"]["estimate"] is not None and entry["diversity"]["estimate"] is None
    prompts = ["a star", "a red circle"]
    seeds = seeds_for(prompts, 2, 100)
    moved = [BestOf(2, base=Projected(networks[0])), Projected(networks[0])]
    result = run(methods=moved, prompts=prompts, seeds=seeds)
    assert result["settings"]["seeds"] == seeds == [[100, 101], [102, 103]] and result["images"] == 4
    assert list(result["methods"]) == ["none", "projected", "best-of-2 + projected"]
