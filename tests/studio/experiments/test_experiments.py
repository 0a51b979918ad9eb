"""Each experiment at the smallest size: it gives a whole report, and is stopped and gone on with to the same one."""

import base64
import functools
import json
import math
import shutil
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from core import checkpoint
from core.words import NOTHING_ELSE
from data.prompts import load
from studio.__main__ import main
from studio.cli import commands
from studio.experiments import EXPERIMENTS, alignment, check_experiment, corrections, report_of, unfinished
from studio.experiments.evaluation import evaluate
from studio.experiments.shift import well_scored
from studio.training import runs
from studio.training.calibration import kind_of
from tests.tiny import STEPS, change_settings

FEW = {"prompts": 3, "seeds": 2, "steps": STEPS}
SMALL = {
    "fidelity": {**FEW, "simulated": 8},
    "single": {"prompts": 3, "seen": 2, "unseen": 2, "train_steps": 3, "batch": 4, "steps": STEPS},
    "shift": {**FEW, "noises": 6, "well": 0.5},
    "tau": {**FEW, "taus": "0.1,100", "strengths": "0.5,1", "train_steps": 2, "batch": 4, "train_prompts": 4,
            "noises": 8},
    "alignment": {**FEW, "lora_prompts": 2, "lora_seeds": 1, "lora_steps": 2,
                  "methods": "projected,best-of-2,best-of-8,best-noise-of-2,pag,lora+projected,best-of-2+projected"},
    "corrections": {**FEW, "counts": "0,12", "repeats": 1, "pool_prompts": 6, "replay": 0, "reward_steps": 2,
                    "foresight_steps": 2, "reader_steps": 2, "projector_steps": 2, "train_prompts": 4},
}  # fmt: skip
PARTS = {"experiment", "title", "question", "answer", "judge", "config", "backbone", "backbone_revision", "scorer",
         "seconds", "created", "figures", "tables", "pictures", "data"}  # fmt: skip
COSTS = {"seconds", "scoring_seconds", "created", "used", "peak_memory"}


def conducted(studio, name, run_id=None, **hooks):
    run = studio.training.train("experiment", {"name": name, **SMALL[name]}, run_id, **hooks)
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


@pytest.fixture(scope="module")
def once(grown):
    """A function that conducts an experiment, once for all tests: its studio, run, report, and the images denoised for it."""

    @functools.cache
    def conduct(name):
        studio = grown()
        with counted(studio) as made:
            return studio, *conducted(studio, name), sum(made)

    return conduct


@contextmanager
def counted(studio):
    """A list that gets the size of each batch of images that is denoised to its end."""
    made, sample = [], type(studio.models.diffuser()).sample

    def counting(diffuser, text, noise, *args, **named):
        latents = sample(diffuser, text, noise, *args, **named)
        made.append(len(noise))
        return latents

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(studio.models.diffuser()), "sample", counting)
        yield made


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_that_is_stopped_goes_on_and_makes_nothing_twice(studio, name, once):
    _, run, report, all_of_them = once(name)
    found, again = None, None
    with counted(studio) as made:
        for most in (1, 4, 7, 10_000):  # reports of progress after which it is stopped
            lines = []
            part, found = conducted(
                studio, name, again, on_progress=lines.append, stop=lambda n=most, seen=lines: len(seen) >= n
            )
            again = part["id"]
            assert unfinished(studio, {"name": name, **SMALL[name]}) == (again if found is None else None)
            if found:
                break
            assert part["state"] == "stopped"
    assert (sum(made), len(studio.runs.find(kind="experiment"))) == (all_of_them, 1)
    assert without_times(found["data"]) == without_times(report["data"])
    assert without_times(found["figures"])[:1] == without_times(report["figures"])[:1]

    # only fidelity's samples, of held-out prompts, belong into the user's store
    splits = {row["split"] for row in studio.store.samples.find()}
    assert splits == ({"heldout"} if name == "fidelity" else set())
    assert set(report) == PARTS
    assert (report["experiment"], report["title"]) == (name, EXPERIMENTS[name].title)
    assert run["metrics"]["answer"] == report["answer"]
    assert all(sentence.endswith((".", ".”")) for sentence in report["answer"])
    json.dumps(report, allow_nan=False)
    for figure in report["figures"]:
        check_figure(figure)
    for table in report["tables"]:
        assert all(len(row) == len(table["columns"]) for row in table["rows"]), table["title"]
        assert set(table["percent"]) <= set(table["columns"])
    settings = ["prompts", SMALL[name]["prompts"], EXPERIMENTS[name].fields["prompts"].full]
    assert settings in report["tables"][-1]["rows"]
    for pictures in report["pictures"]:
        assert len(pictures["items"]) % pictures["columns"] == 0
        assert all(base64.b64decode(item["png"]).startswith(b"\x89PNG") for item in pictures["items"])


def test_fidelity_agrees_with_the_evaluation_and_its_corrections_are_never_trained_on(once):
    studio, _, report, _ = once("fidelity")
    parts, evaluated = report["data"]["parts"], evaluate(studio, "fidelity", FEW)["vlm"]
    for figure in ("pearson", "within_prompt", "auc"):
        assert parts["vlm"][figure]["estimate"] == pytest.approx(evaluated[figure]["estimate"], abs=1e-4)
    assert parts["vlm"]["confusion"] == evaluated["confusion"]
    judged = studio.store.labels.corrections(split="heldout")
    whole = {
        (row["sample"], word.index)
        for row in judged
        for word in studio.annotation.sample(row["sample"]).words
        if word.scored
    }
    assert {(row["sample"], row["word_index"]) for row in judged} == whole
    assert report["data"]["simulated"]["words"] == len(judged) >= 8
    words = [row for row in judged if row["word"] != NOTHING_ELSE]  # which this reward model was not taught
    assert parts["simulated"]["words"] == len(words) < len(judged)
    assert {row["split"] for row in studio.store.samples.find()} == {"heldout"}
    assert studio.store.labels.corrections(split="train") == []
    assert studio.store.labels.snapshot(split="train")["count"] == 0
    for row in studio.store.samples.find(limit=4):  # people are compared where they have corrected a word
        word = next(w for w in studio.annotation.sample(row["id"]).words if w.scored)
        studio.annotation.correct(row["id"], word.index, 3, "Ann")
    _, report = conducted(studio, "fidelity")
    typed = [row for row in studio.store.labels.corrections(split="heldout") if row["source"] == "simulated"]
    assert {row["sample"] for row in typed} <= {
        row["sample"] for row in judged
    }  # those that are there are taken
    assert report["data"]["parts"]["human"]["words"] == 4
    assert not any("stands in for people" in sentence for sentence in report["answer"])


def test_a_run_that_was_begun_at_another_size_is_neither_mixed_nor_gone_on_with(studio, monkeypatch):
    lines = []
    run = conducted(studio, "shift", on_progress=lines.append, stop=lambda: len(lines) >= 1)[0]["id"]
    assert unfinished(studio, {"name": "shift", **SMALL["shift"]}) == run
    monkeypatch.setattr(studio.models.diffuser(), "size", (64, 32))
    assert unfinished(studio, {"name": "shift", **SMALL["shift"]}) is None
    with pytest.raises(ValueError, match="begun with other images.*start it anew"):
        conducted(studio, "shift", run)
    monkeypatch.undo()
    assert conducted(studio, "shift", run)[1]


def test_alignment_goes_on_with_the_models_that_were_in_use_when_it_was_begun(studio):
    few = {"name": "alignment", **FEW, "methods": "projected,best-noise-of-2"}
    lines, used = [], studio.settings.projector
    run = studio.training.train("experiment", few, on_progress=lines.append, stop=lambda: len(lines) >= 2)[
        "id"
    ]
    folder = studio.settings.home / "newer"
    newer = studio.models.open("projector", used)
    newer.out.weight.data *= 2
    checkpoint.save(newer, folder)
    trained = studio.store.runs.new("projector", {})
    studio.store.runs.update(
        trained, state="done", checkpoint="newer", checkpoint_sha256=checkpoint.digest(folder)
    )
    studio.runs.promote(trained, "Ann", force=True)
    assert studio.models.using("projector").run == trained
    assert studio.training.train("experiment", None, run)["state"] == "done"


def test_alignment_leaves_out_a_guidance_at_which_the_negative_prompt_has_no_effect(studio):
    change_settings(studio, negative="a green star")
    used = {"lora": "", "projector": "", "reward": ""}
    config = {
        "methods": "cfg-1, cfg-3",
        "strength": 1.0,
        "seeds": 2,
        "steps": 2,
        "guidance": 4.0,
        "used": used,
    }
    methods, left_out = alignment.chosen(SimpleNamespace(config=config, studio=studio))
    assert [method.name for method in methods] == ["cfg-3"]
    assert list(left_out) == ["cfg-1"] and "negative prompt has no effect" in left_out["cfg-1"]


def test_alignment_says_which_methods_it_left_out_and_why(once):
    studio, _, report, _ = once("alignment")
    why = "It needs 8 seeds of each prompt, and there are 2."
    assert set(report["data"]["left_out"]) == {"best-of-8"}
    assert report["tables"][-2]["rows"] == [["best-of-8", why]]
    names = [row[0] for row in report["tables"][0]["rows"]]
    assert names[:3] == ["none", "projected", "best-of-2"] and len(names) == 7
    with pytest.raises(ValueError, match="None of these methods"):
        studio.training.train("experiment", {"name": "alignment", **FEW, "methods": "best-of-64"})


def test_a_larger_tau_keeps_the_noise_nearer_to_where_it_was(studio):
    more = {"train_steps": 12, "rate": 0.01, "taus": "0.1,1000", "shared": "0,100", "prompts": 2}
    run = studio.training.train("experiment", {"name": "tau", **SMALL["tau"], **more})
    report = report_of(studio, run)
    rows = report["data"]["measured"]
    assert rows["tau 1000"]["cosine"] > rows["tau 0.1"]["cosine"]
    assert rows["tau 1000"]["kl"] < rows["tau 0.1"]["kl"]
    assert set(rows) == {"tau 0.1", "tau 1000", "shared 100", "strength 0.5", "strength 1"}
    assert rows["strength 0.5"]["cosine"] > rows["strength 1"]["cosine"]
    assert rows["shared 100"] != rows["tau 0.1"]
    titles = [figure["title"] for figure in report["figures"]]
    assert len(titles) == len(set(titles)) == 9
    frontier = report["figures"][0]["series"]
    points = {text: x for one in frontier for x, text in zip(one["x"], one["text"], strict=True)}
    assert points == {name: row["kept"] for name, row in rows.items()}
    assert all(one["x"] == sorted(one["x"], reverse=True) for one in frontier)


def test_the_single_prompt_is_the_one_that_was_given_and_its_seeds_are_kept_apart(studio):
    chosen = {**SMALL["single"], "prompt": "a red circle"}
    report = report_of(studio, studio.training.train("experiment", {"name": "single", **chosen}))
    assert report["data"]["prompt"]["prompt"] == "a red circle"
    seen, unseen = (report["data"][part]["settings"]["seeds"][0] for part in ("seen", "unseen"))
    assert max(seen) < 2**31 <= min(unseen)


def test_the_shift_of_no_projection_is_that_of_white_noise(studio):
    chosen = {**SMALL["shift"], "strength": 0.0, "noises": 40}
    report = report_of(studio, studio.training.train("experiment", {"name": "shift", **chosen}))
    for noise in report["data"]["noises"].values():
        assert abs(noise["white"]["mmd"]) < 0.02
        assert noise["drift"]["distance"] == 0
    images = report["data"]["images"]
    assert images["none"]["inner_frechet"] == images["projected"]["inner_frechet"] == images["frechet"]
    assert images["none"]["failures"]["estimate"] == 0


def test_an_image_without_all_its_scores_is_never_well_scored():
    """The second image lacks *nothing else*, the third all."""
    scores = [
        [[1, 0.2, 2], [2, 0.3, 3], [3, 0.2, 2]],
        [[1, 1.0, 9], [2, 1.0, 9]],
        [],
        [[1, 0.1, 1], [2, 0.9, 8], [3, 0.9, 8]],
    ]
    record = {"prompt": "a red circle", "scores": scores, "used": [10, 11, 12, 13]}
    assert sorted(well_scored(record, 0.5)) == [10, 13]


def test_a_cell_that_was_killed_while_its_checkpoints_were_cleared_away_is_gone_on_with(studio, monkeypatch):
    """The kill is an interrupt in the middle of removing a folder."""
    real = shutil.rmtree

    def dying(path, **named):
        if path.name != "runs":
            return real(path, **named)
        real(next(path.iterdir()) / "projector")
        raise KeyboardInterrupt

    one = {"name": "corrections", **SMALL["corrections"], "counts": "0"}
    monkeypatch.setattr(corrections.shutil, "rmtree", dying)
    with pytest.raises(KeyboardInterrupt):
        studio.training.train("experiment", one)
    monkeypatch.undo()
    assert studio.training.train("experiment", None, studio.runs.find()[0]["id"])["state"] == "done"


def test_a_placebo_gives_each_kind_of_word_the_same_digits_in_other_places(scored):
    def digits():
        found = {}
        for row in scored.store.labels.current(split="train"):
            if row["source"] == "simulated":
                found.setdefault(kind_of(row), {})[row["sample"], row["word_index"]] = row["score"]
        return found

    scored.annotation.simulate(count=40)
    before = digits()
    changed = corrections.permute(scored, seed=0)
    after = digits()
    for kind in before.keys() | after.keys():
        assert sorted(before[kind].values()) == sorted(after[kind].values())
        assert set(before[kind]) == set(after[kind])
    assert changed == sum(after[kind][at] != digit for kind in before for at, digit in before[kind].items())


def test_corrections_are_judged_beside_a_placebo_and_another_prompts_text(once):
    report = once("corrections")[2]
    data, rows = report["data"], {row[0]: row for row in report["tables"][1]["rows"]}
    assert {row["method"] for row in data["placebo"]} == {"placebo of 12 corrections, seed 0"}
    assert {row["method"] for row in data["other_text"]} == {"12 corrections, seed 0, another prompt's text"}
    assert {"none", "before", "0", "12", "12, placebo"} < set(rows)
    assert {
        ("12 corrections", "0 corrections"), ("placebo", "0 corrections"), ("another prompt's text", "none"),
    } < {(line["what"], line["against"]) for line in data["differences"]}  # fmt: skip
    assert report["answer"][0].startswith("After 12 corrections: ")
    assert any("nothing else is there" in sentence for sentence in report["answer"])


def test_prompts_that_the_detector_cannot_judge_are_judged_by_the_scorer_and_that_is_said(studio):
    chosen = {**FEW, "methods": "projected,best-of-2", "given": ["a red fish", "two blue birds"]}
    run = studio.training.train("experiment", {"name": "alignment", **chosen, "prompt_source": "mine.txt"})
    report = report_of(studio, run)
    assert (report["judge"], report["config"]["given"]) == ("scorer", 2)
    assert any("not independent" in sentence for sentence in report["answer"])
    assert any("chosen by the judge itself" in sentence for sentence in report["answer"])


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"name": "magic"}, "no experiment"),
        ({"name": "tau", "speed": 1}, "no setting"),
        ({"name": "tau", "size": "huge"}, "choose reduced or full"),
        ({"name": "tau", "taus": "0.1,many"}, "not a number"),
        ({"name": "tau", "taus": ""}, "no list of numbers"),
        ({"name": "corrections", "counts": "0.5"}, "not a whole number"),
        ({"name": "alignment", "methods": "x" * 500}, "too long"),
        ({"name": "shift", "seeds": 0}, "out of range"),
        ({"name": "shift", "given": []}, "at least one"),
    ],
)
def test_a_bad_setting_is_refused_before_a_run_is_made(studio, config, says):
    with pytest.raises(ValueError, match=says):
        studio.training.train("experiment", config)
    assert studio.runs.find() == []


def test_full_size_fills_in_what_was_not_set():
    full = check_experiment({"name": "fidelity", "size": "full", "prompts": "4"})
    assert (full["prompts"], full["seeds"]) == (4, 100)
    counts = check_experiment({"name": "corrections", "size": "full"})["counts"]
    assert counts == "0,100,300,1000"
    assert check_experiment({"name": "tau", "taus": " 100, 0.1 ,100"})["taus"] == "100,0.1"


def test_the_command_goes_on_where_it_was_and_copies_the_report(studio, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(commands, "studio_of", lambda given: studio)
    mine = load("shapes_heldout", 5)[-1]
    (tmp_path / "mine.txt").write_text(f"{mine}\n")
    words = ["experiment", "shift", "--prompts", str(tmp_path / "mine.txt"), "--out", str(tmp_path / "kept")]
    for field, value in {**SMALL["shift"]}.items():
        words += ["--set", f"{field}={value}"]
    stopped, _ = conducted(studio, "shift", stop=lambda: True)
    assert main(words) == 0
    out = capsys.readouterr()
    assert "Going on" not in out.err and EXPERIMENTS["shift"].question in out.out
    report = json.loads((tmp_path / "kept" / "report.json").read_text())
    assert (report["config"]["prompt_source"], list(report["data"]["noises"])) == ("mine.txt", [mine])
    own = [word for word in words if word not in ("--prompts", str(tmp_path / "mine.txt"))]
    assert main(own) == 0
    assert stopped["id"] in capsys.readouterr().err
    assert studio.runs.get(stopped["id"])["state"] == "done"
    assert main(["experiment", "tau", "--run", stopped["id"]]) == 2
    assert main(["experiment", "shift", "--run", stopped["id"], "--set", "seeds=3"]) == 2
    assert "keeps its settings" in capsys.readouterr().err


def test_a_job_of_its_own_runs_the_experiment_by_its_name(studio, monkeypatch):
    """The process is a fake: that a job outlives the page is tested with a training."""
    started = []

    class Process:
        pid = 2**22 - 1

        def __init__(self, words, **_):
            started.append(words)

        def wait(self):
            return 0

    monkeypatch.setattr(runs.subprocess, "Popen", Process)
    run = studio.runs.start("experiment", {"name": "shift", **SMALL["shift"]})
    assert started[0][3:] == ["experiment", "shift", "--run", run]
