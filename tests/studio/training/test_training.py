"""Training runs: one at a time, gone on with where they were, judged on what was held out, promoted only by people."""

import hashlib
import json
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from core import checkpoint
from core.networks.reward import PictureReader, RewardModel
from core.training.loop import FitResult
from core.training.reward import StageResult, evaluate_reward
from data.prompts import load
from data.store import RunBusy, StoreError
from studio.experiments.evaluation import evaluate
from studio.training import datasets, heldout, replay, stages
from studio.training.configs import FIELDS, check_config
from studio.training.runs import RunLog, training_lock
from tests.studio.trained import CYCLE, PROJECTOR, REWARD, WARMUP
from tests.tiny import STEPS, change_settings


def test_a_bad_configuration_is_refused_before_a_run_is_made(studio):
    for kind, config, says in (
        ("magic", {}, "cannot be trained"),
        ("reward", {"speed": 1}, "no setting"),
        ("reward", {"reward_steps": 0}, "out of range"),
        ("reward", {"reward_steps": "many"}, "not a whole number"),
        ("reward", {"reward_rate": float("nan")}, "not a number"),
        ("reward", {"start": "yesterday"}, "choose used or fresh"),
        ("reward", {"calibrated": "perhaps"}, "neither true nor false"),
    ):
        with pytest.raises(ValueError, match=says):
            studio.training.train(kind, config)
    assert studio.runs.find() == []
    for call, says in (
        (lambda: studio.training.train("reward", run_id="nothing"), "no run"),
        (lambda: studio.runs.promote("nothing", "Ann"), "no run"),
        (lambda: studio.runs.status("nothing"), "no run"),
        (lambda: studio.runs.rollback("projector", "Ann"), "No projector has been promoted"),
        (lambda: studio.runs.rollback("warmup", "Ann"), "cannot be rolled back"),
        (
            lambda: studio.training.train("reward", {"replay": 0, "sources": "corrections"}),
            "nothing to train on",
        ),
        (lambda: studio.training.train("calibrator"), "press Done on each"),
    ):
        with pytest.raises(ValueError, match=says):
            call()


def test_a_run_leaves_its_progress_its_checkpoint_and_its_labels(labelled):
    seen = []
    run = labelled.training.train("reward", {"seed": 3, **REWARD}, on_progress=seen.append)
    assert (run["state"], run["promoted"]) == ("done", False)
    assert seen[-1]["step"] == seen[-1]["total"] == 3
    log = RunLog(labelled.runs.folder(run["id"]))
    assert log.progress()[-1]["metrics"]["cross_entropy"] > 0
    assert checkpoint.digest(labelled.settings.home / run["checkpoint"]) == run["checkpoint_sha256"]
    assert len(labelled.store.labels.current(snapshot=run["labels"])) == run["labels"]["count"]
    assert run["metrics"]["labels"]["simulated"] == labelled.status()["corrections"] >= 40
    assert set(run["metrics"]["heldout"]["difference"]["words"]) == {"estimate", "low", "high"}
    assert run["metrics"]["parts"]["foresight"]["foreseen"]
    assert not run["metrics"]["note"].startswith("Without")
    assert (log.folder / "reward" / "teacher" / "reader").is_dir()


def test_foresight_is_not_learned_from_a_few_images_and_that_is_said(labelled, monkeypatch):
    monkeypatch.setattr(stages, "FEWEST_PICTURES", 10_000)
    plain = labelled.training.train("reward", REWARD)
    assert plain["state"] == "done" and "10000" in plain["metrics"]["note"]
    assert not (labelled.runs.folder(plain["id"]) / "reward" / "teacher").exists()


def test_a_stopped_run_goes_on_and_ends_in_the_same_bits_as_one_that_was_not(labelled):
    def stop(line):
        RunLog(labelled.runs.folder(first)).ask_to_stop()  # as anyone can, through its folder

    whole, first = labelled.training.train("warmup", WARMUP), labelled.runs.new("warmup", WARMUP)
    stopped = labelled.training.train("warmup", run_id=first, on_progress=stop)
    assert stopped["state"] == "stopped" and "resume it" in stopped["message"]
    assert not RunLog(labelled.runs.folder(first)).stop_asked()
    second = labelled.training.train("warmup", run_id=first)
    assert second["state"] == "done"
    files = [
        checkpoint.verify(labelled.settings.home / run["checkpoint"])["files"] for run in (whole, second)
    ]
    one, other = ({k: v for k, v in names.items() if k.endswith("safetensors")} for names in files)
    assert one == other and one


def test_a_second_training_is_refused_while_one_is_on_and_neither_is_lost(labelled):
    refused = []

    def meanwhile(line):
        if not refused:
            with pytest.raises(RunBusy, match="is on") as found:
                labelled.training.train("warmup", WARMUP)
            refused.append(str(found.value))

    run = labelled.training.train("warmup", WARMUP, on_progress=meanwhile)
    assert run["state"] == "done" and run["id"] in refused[0]


def test_a_run_that_fails_says_why_and_can_be_gone_on_with(studio):
    reward = studio.settings.reward
    change_settings(studio, reward=studio.settings.home / "nowhere")
    with pytest.raises(ValueError, match="no reward model"):
        studio.training.train("projector", {**PROJECTOR, "heldout_prompts": 0})
    failed = studio.runs.find()[0]
    assert failed["state"] == "failed" and "no reward model" in failed["message"]
    change_settings(studio, reward=reward)
    assert studio.training.train("projector", run_id=failed["id"])["state"] == "done"


def test_the_cycle_goes_from_corrections_to_models_that_can_be_used_and_taken_back(loop):
    studio, run = loop
    assert run["state"] == "done"
    heldout = run["metrics"]["heldout"]
    assert (heldout["judge"], heldout["independent"], heldout["images"]) == ("detector", True, 6)
    for part in ("none", "before", "after", "difference", "against_none"):
        assert {"words", "strict"} <= set(heldout[part])
    assert run["metrics"]["labels"]["replay"] > 0 and run["metrics"]["calibrator"]["fitted"]
    trained = {row["prompt"] for row in studio.store.labels.current(split="train")}
    assert not trained & set(load("shapes_heldout", 3))
    json.dumps(run["metrics"], allow_nan=False)

    studio.runs.promote(run["id"], "Ann", force=True)
    using = studio.models.using("projector")
    assert using.name == f"{run['id']}-projector"
    assert studio.models.using("reward").name == f"{run['id']}-reward"
    assert studio.runs.get(run["id"])["promoted"]
    assert studio.store.runs.promotions()[0]["who"] == "Ann"
    (row,) = made = studio.store.samples.find(
        ids=studio.collecting.collect(["a red circle"], 1, "projected", steps=STEPS, strength=0.5)
    )
    assert row["projector_run"] == using.run
    noise = datasets.noises_of(studio.models, studio.store, made)[row["id"]]  # that it is trained on with
    assert hashlib.sha256(noise.contiguous().numpy().tobytes()).hexdigest() == row["noise_sha256"]
    assert studio.runs.rollback("cycle", "Bea") is None
    assert studio.models.using("projector").name == "shipped"


def measured_run(studio, change, used=None, after=0.5, key="k", **more):
    """A projector's run that is done, with a held-out result of these figures; its id."""
    run = studio.store.runs.new("projector", {"used": {"projector": used}})
    words = [{"words": {"estimate": value, "low": None, "high": None}} for value in (change, after)]
    figures = {
        "of": "prompts and seeds", "judge": "detector", "independent": True, "base": "before", "key": key,
        "difference": words[0] | more, "after": words[1],
    }  # fmt: skip
    folder = studio.settings.projector
    studio.store.runs.update(run, state="done", metrics={"heldout": figures}, checkpoint=str(folder),
                            checkpoint_sha256=checkpoint.digest(folder))  # fmt: skip
    return run


def test_what_is_worse_on_held_out_prompts_is_promoted_only_by_force(studio):
    def refused(run, says):
        before = studio.store.runs.promotions()
        with pytest.raises(ValueError, match=says):
            studio.runs.promote(run, "Ann")
        assert studio.store.runs.promotions() == before

    refused(
        measured_run(studio, None, after=None), "nobody knows whether it is better"
    )  # no image could be judged
    worse, better = measured_run(studio, -0.01), measured_run(studio, 0.02, after=0.6)
    refused(worse, "is worse")
    assert studio.runs.promote(better, "Ann")["promoted"]
    # measured against what is no longer in use: the same prompts and seeds decide, else nobody knows
    refused(measured_run(studio, 0.05, after=0.55), "is worse")
    refused(measured_run(studio, 0.05, after=0.9, key="other"), "another model")
    best = measured_run(studio, 0.05, after=0.7)
    assert studio.runs.promote(best, "Ann")["promoted"]
    refused(measured_run(studio, 0.05, after=None), "nobody knows")
    assert studio.runs.promote(worse, "Ann", force=True)["promoted"]
    assert studio.runs.rollback("projector", "Ann")["id"] == best
    actions = ["rollback", "promote", "promote", "promote"]
    assert [p["action"] for p in studio.store.runs.promotions()] == actions
    assert [line["action"] for line in studio.store.audit.entries()] == actions


@pytest.mark.parametrize(("high", "promoted"), [(-0.01, False), (0.01, True), (None, True)])
def test_better_words_with_surely_fewer_whole_images_are_promoted_only_by_force(studio, high, promoted):
    run = measured_run(studio, 0.02, clean={"estimate": -0.05, "low": -0.1, "high": high})
    if not promoted:
        with pytest.raises(ValueError, match=r"fewer are whole than of what is in use, by 5.0 points"):
            studio.runs.promote(run, "Ann")
    assert studio.runs.promote(run, "Ann", force=not promoted)["promoted"]


def test_of_many_who_roll_back_at_once_each_takes_one_off(studio):
    runs = [measured_run(studio, 0.02) for _ in range(3)]
    for run in runs:
        studio.runs.promote(run, "Ann", force=True)
    with ThreadPoolExecutor(3) as threads:
        found = list(threads.map(lambda n: studio.runs.rollback("projector", f"Ann {n}"), range(3)))
    assert None in found and {run["id"] for run in found if run} == set(runs[:2])
    assert studio.store.runs.promoted("projector") is None


def test_kept_labels_are_read_as_they_were_written_and_fewer_are_the_same_every_time(labelled, tmp_path):
    kept, some, again = (replay.gather(labelled, most=most) for most in (None, 5, 5))
    assert len(some.of("train")) == 5 < len(kept.of("train"))
    assert len(some.of("validation")) == len(kept.of("validation"))
    assert np.array_equal(some.seed, again.seed)
    kept.save(tmp_path / "labels")
    read = replay.Replay.load(tmp_path / "labels")
    assert read.prompts == kept.prompts and read.seed.tolist() == kept.seed.tolist()
    assert abs(read.distribution - kept.distribution).max() < 1 / 200
    assert abs(read.features - kept.features).max() < abs(kept.features).max() / 100
    assert {s.prompt for s in read.samples(read.of("validation"))} <= set(load("shapes_validation", 2))
    (tmp_path / "labels" / "weights.safetensors").write_bytes(b"x")
    with pytest.raises(ValueError, match="damaged"):
        replay.Replay.load(tmp_path / "labels")


def test_what_one_scorer_judged_does_not_stand_for_another(studio, monkeypatch):
    """The other scorer is the same one under another revision: only its verdicts' place matters here."""

    def judged():
        after = studio.models.using("projector").model
        return heldout.before_after(studio, ["a red fish"], 1, None, after, steps=STEPS, guidance=0.0)

    first, again = judged(), judged()
    monkeypatch.setattr(type(studio.models.scorer()), "version", "another")
    assert first["judge"] == "scorer"
    assert first["key"] == again["key"] != judged()["key"]


def test_a_model_in_use_that_cannot_be_read_stops_only_a_run_that_would_go_on_from_it(labelled, tmp_path):
    shutil.copytree(labelled.settings.reward, tmp_path / "reward")
    (tmp_path / "reward" / "manifest.json").write_text("{")
    change_settings(labelled, reward=tmp_path / "reward")
    config = {**REWARD, "reward_steps": 1}
    with pytest.raises(ValueError, match="manifest"):
        labelled.training.train("reward", config)
    assert labelled.training.train("reward", {**config, "start": "fresh"})["state"] == "done"


def test_a_reward_model_with_a_teacher_goes_on_from_its_own_reading_and_a_new_one_from_the_teachers(
    labelled, monkeypatch
):
    began, real, config = [], stages.train_reward, {**REWARD, "reward_steps": 1}

    def flat(state):
        return torch.cat([value.float().flatten() for value in state.values()])

    def moved(model, *given, **more):
        """Training as it is, which leaves the reading at some distance from where it began."""
        read = model.reading().state_dict()
        began.append(flat(read))
        result = real(model, *given, **more)
        with torch.no_grad():
            for name, value in model.named_parameters():
                if name in read:
                    value += 0.01
        return result

    def made(run):
        folder = labelled.runs.folder(run["id"]) / "reward"
        reader = PictureReader.from_pretrained(folder / "teacher" / "reader")
        return flat(RewardModel.from_pretrained(folder).reading().state_dict()), flat(reader.state_dict())

    monkeypatch.setattr(stages, "train_reward", moved)
    first = labelled.training.train("reward", config)
    own, teachers = made(first)
    assert torch.allclose(began[0], teachers, atol=1e-3) and not torch.allclose(own, teachers, atol=5e-3)
    labelled.runs.promote(first["id"], "Ann", force=True)
    labelled.training.train("reward", config)
    assert torch.allclose(began[1], own, atol=1e-3)
    fresh = labelled.training.train("reward", {**config, "start": "fresh"})
    assert torch.allclose(began[2], made(fresh)[1], atol=1e-3)


@pytest.mark.parametrize("kind", FIELDS)
def test_every_kind_has_defaults_with_a_meaning(studio, kind):
    for name, (default, meaning) in studio.runs.defaults(kind).items():
        assert meaning and check_config(kind, {name: default})[name] == default


def test_a_run_whose_process_died_is_interrupted_and_one_that_lives_is_not(studio):
    run = studio.runs.new("warmup", WARMUP)
    studio.store.runs.claim(run, 2**22 - 1)
    with training_lock(studio.settings.home) as free:
        assert free
        assert studio.runs.sweep() == []
        assert studio.runs.get(run)["state"] == "running"
    assert studio.runs.sweep() == [run]
    assert studio.runs.find()[0]["state"] == "interrupted"
    assert studio.training.train("warmup", run_id=run)["state"] == "done"


def test_the_cycle_without_corrections_leaves_the_calibrator_out(scored):
    run = scored.training.train("cycle", {**CYCLE, "heldout_prompts": 0})
    assert run["metrics"]["calibrator"] == {**run["metrics"]["calibrator"], "fitted": False}
    assert "heldout" not in run["metrics"]
    with pytest.raises(ValueError, match="no held-out result"):
        scored.runs.promote(run["id"], "Ann")


@pytest.mark.parametrize("broken", ["promote", "note_audit"])
@pytest.mark.parametrize("act", ["promote", "rollback"])
def test_a_cycle_is_put_into_use_and_taken_back_with_all_its_parts_or_not_at_all(
    studio, monkeypatch, act, broken
):
    """The parts are rows without models: what is tested is which of them are in use."""
    cycle = studio.store.runs.new("cycle", {"used": {"projector": None}})
    done = {"state": "done", "checkpoint": "x", "checkpoint_sha256": "0" * 64}
    for kind in ("reward", "projector"):
        part = studio.store.runs.new(kind, {"cycle": cycle}, cycle, id=f"{cycle}-{kind}")
        studio.store.runs.update(part, metrics={"use": True}, **done)
    studio.store.runs.update(cycle, metrics={}, **done)
    calls = {
        "promote": lambda: studio.runs.promote(cycle, "Ann", force=True),
        "rollback": lambda: studio.runs.rollback("cycle", "Ann"),
    }
    if act == "rollback":
        calls["promote"]()
        broken = {"promote": "rollback"}.get(broken, broken)
    records, method = (studio.store.audit, "note") if broken == "note_audit" else (studio.store.runs, broken)
    real, tried = getattr(records, method), []
    before = studio.store.runs.promotions(), studio.store.audit.entries()

    def fails_after_the_first(*given):
        tried.append(given)
        if broken == "note_audit" or len(tried) > 2:
            raise StoreError("The disk of studio.db is full; nothing was changed.")
        return real(*given)

    with monkeypatch.context() as full:
        full.setattr(records, method, fails_after_the_first)
        with pytest.raises(StoreError):
            calls[act]()
    assert (studio.store.runs.promotions(), studio.store.audit.entries()) == before
    calls[act]()
    assert {kind for kind in ("cycle", "reward", "projector") if studio.store.runs.promoted(kind)} == (
        {"cycle", "reward", "projector"} if act == "promote" else set()
    )


def test_prompts_that_were_trained_on_are_never_counted(scored):
    mine = [row["prompt"] for row in scored.store.samples.find()][:1]
    with pytest.raises(ValueError, match="was trained on"):
        evaluate(scored, "alignment", {"seeds": 1}, prompts=mine)


def test_what_was_in_use_is_compared_as_it_was_before_training(labelled, monkeypatch):
    """The training is a fake: a real one of a few steps may well keep the weights that it began with."""

    def spoil(model, train, validation, settings, **_):
        torch.nn.init.normal_(model.classify[-1].weight)
        done = FitResult(settings.steps, settings.steps)
        return StageResult(done, evaluate_reward(model, validation), settings.steps)

    monkeypatch.setattr(stages, "train_reward", spoil)
    found = labelled.training.train("reward", {"reward_steps": 1, "pictures": False})["metrics"]
    assert found["validation"]["before"]["cross_entropy"] < found["validation"]["after"]["cross_entropy"]
    assert found["heldout"]["difference"]["words"]["estimate"] < 0
