"""Training runs: one at a time, gone on with where they were, judged on what was held out, promoted only by people."""

import json
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from core import checkpoint
from core.networks.reward import PictureReader, RewardModel
from core.training.loop import FitResult
from core.training.reward import StageResult, evaluate_reward
from data.prompts import load
from data.store import StoreError
from studio.experiments.evaluation import evaluate
from studio.training import heldout, replay, stages
from studio.training.configs import FIELDS, check_config
from studio.training.runs import RunLog, training_lock
from tests.tiny import STEPS, change_settings

SMALL = {"prompts": 8, "seed": 3}
WARMUP = {**SMALL, "warmup_steps": 4}
PROJECTOR = {
    **WARMUP,
    "projector_steps": 3,
    "projector_batch": 4,
    "heldout_prompts": 3,
    "heldout_seeds": 2,
    "steps": STEPS,
}
REWARD = {"foresight_steps": 2, "reader_steps": 2, "reward_steps": 3, "reward_batch": 8}
CYCLE = {**PROJECTOR, **REWARD, "corrections_needed": 20}


def weights(folder):
    return {
        k: v["sha256"] for k, v in checkpoint.verify(folder)["files"].items() if k.endswith("safetensors")
    }


# ---- configurations


@pytest.mark.parametrize(
    ("kind", "config", "says"),
    [
        ("magic", {}, "cannot be trained"),
        ("reward", {"speed": 1}, "no setting"),
        ("reward", {"reward_steps": 0}, "out of range"),
        ("reward", {"reward_steps": "many"}, "not a whole number"),
        ("reward", {"reward_rate": float("nan")}, "not a number"),
        ("reward", {"start": "yesterday"}, "choose used or fresh"),
        ("reward", {"calibrated": "perhaps"}, "neither true nor false"),
        ("projector", {"tau": -1}, "out of range"),
    ],
)
def test_a_bad_configuration_is_refused_before_a_run_is_made(studio, kind, config, says):
    with pytest.raises(ValueError, match=says):
        studio.training.train(kind, config)
    assert studio.runs.find() == []


@pytest.mark.parametrize("kind", FIELDS)
def test_every_kind_has_defaults_with_a_meaning(studio, kind):
    for name, (default, meaning) in studio.runs.defaults(kind).items():
        assert meaning and check_config(kind, {name: default})[name] == default


# ---- runs


def test_a_run_leaves_its_progress_its_checkpoint_and_its_labels(labelled):
    seen = []
    run = labelled.training.train("reward", {"seed": 3, **REWARD}, on_progress=seen.append)
    assert (run["state"], run["promoted"]) == ("done", False)
    assert seen[-1]["step"] == seen[-1]["total"] == 3
    assert RunLog(labelled.runs.folder(run["id"])).progress()[-1]["metrics"]["cross_entropy"] > 0
    assert checkpoint.digest(labelled.settings.home / run["checkpoint"]) == run["checkpoint_sha256"]
    assert len(labelled.store.labels.current(snapshot=run["labels"])) == run["labels"]["count"]
    assert run["metrics"]["labels"]["simulated"] == labelled.status()["corrections"] >= 40
    assert set(run["metrics"]["heldout"]["difference"]["words"]) == {"estimate", "low", "high"}


def test_a_stopped_run_goes_on_and_ends_in_the_same_bits_as_one_that_was_not(labelled):
    stop, whole = threading.Event(), labelled.training.train("warmup", WARMUP)
    first = labelled.training.train("warmup", WARMUP, on_progress=lambda line: stop.set(), stop=stop)
    assert first["state"] == "stopped"
    assert "resume it" in first["message"]
    second = labelled.training.train("warmup", run_id=first["id"])
    assert second["state"] == "done"
    a, b = (labelled.settings.home / run["checkpoint"] for run in (whole, second))
    assert weights(a) == weights(b)


def test_anyone_can_ask_a_run_to_stop_through_its_folder(labelled):
    run = labelled.runs.new("warmup", {**WARMUP, "warmup_steps": 500})
    log = RunLog(labelled.runs.folder(run))
    found = labelled.training.train("warmup", run_id=run, on_progress=lambda line: log.ask_to_stop())
    assert found["state"] == "stopped"
    assert not log.stop_asked()


def test_a_second_training_is_refused_while_one_is_on_and_neither_is_lost(labelled):
    refused = []

    def meanwhile(line):
        if not refused:
            with pytest.raises(Exception, match="is on") as found:
                labelled.training.train("warmup", WARMUP)
            refused.append(str(found.value))

    run = labelled.training.train("warmup", WARMUP, on_progress=meanwhile)
    assert run["state"] == "done"
    assert run["id"] in refused[0]


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


def test_a_run_that_fails_says_why_and_can_be_gone_on_with(studio):

    good = studio.settings
    change_settings(studio, reward=good.home / "nowhere")
    with pytest.raises(ValueError, match="no reward model"):
        studio.training.train("projector", PROJECTOR)
    failed = studio.runs.find()[0]
    assert failed["state"] == "failed"
    assert "no reward model" in failed["message"]
    change_settings(studio, reward=good.reward)
    assert studio.training.train("projector", run_id=failed["id"])["state"] == "done"


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda s: s.training.train("reward", run_id="nothing"), "no run"),
        (lambda s: s.runs.promote("nothing", "Ann"), "no run"),
        (lambda s: s.runs.rollback("projector", "Ann"), "No projector has been promoted"),
        (lambda s: s.runs.rollback("warmup", "Ann"), "cannot be rolled back"),
        (
            lambda s: s.training.train("reward", {"replay": 0, "sources": "corrections"}),
            "nothing to train on",
        ),
        (lambda s: s.training.train("calibrator"), "press Done on each"),
        (lambda s: s.runs.status("nothing"), "no run"),
    ],
)
def test_what_cannot_be_is_a_sentence(studio, call, says):
    with pytest.raises(ValueError, match=says):
        call(studio)


# ---- the loop


def test_the_cycle_goes_from_corrections_to_models_that_can_be_used_and_taken_back(labelled):
    replay.gather(labelled).save(labelled.settings.labels)
    try:
        stop = threading.Event()
        first = labelled.training.train(
            "cycle",
            CYCLE,
            on_progress=lambda line: stop.set() if line["stage"] == "projector" else None,
            stop=stop,
        )
        assert first["state"] == "stopped"
        done = RunLog(labelled.runs.folder(first["id"])).done()
        assert {"calibrator", "reward"} <= set(done)
        run = labelled.training.train("cycle", run_id=first["id"])
    finally:
        shutil.rmtree(labelled.settings.labels)
    assert run["state"] == "done"
    heldout = run["metrics"]["heldout"]
    assert (heldout["judge"], heldout["independent"], heldout["images"]) == ("detector", True, 6)
    for part in ("none", "before", "after", "difference", "against_none"):
        assert {"words", "strict"} <= set(heldout[part])
    assert run["metrics"]["labels"]["replay"] > 0
    assert run["metrics"]["calibrator"]["fitted"]
    trained = {row["prompt"] for row in labelled.store.labels.current(split="train")}
    assert not trained & set(load("shapes_heldout", 3))
    json.dumps(run["metrics"], allow_nan=False)

    labelled.runs.promote(run["id"], "Ann", force=True)
    using = labelled.models.using("projector")
    assert using.name == f"{run['id']}-projector"
    assert labelled.models.using("reward").name == f"{run['id']}-reward"
    assert labelled.runs.get(run["id"])["promoted"]
    assert labelled.store.runs.promotions()[0]["who"] == "Ann"
    ids = labelled.collecting.collect(["a red circle"], 1, "projected", steps=STEPS)
    assert labelled.store.samples.get(ids[0])["projector_run"] == using.run
    assert labelled.runs.rollback("cycle", "Bea") is None
    assert labelled.models.using("projector").name == "shipped"


def test_the_cycle_without_corrections_leaves_the_calibrator_out(scored):
    run = scored.training.train("cycle", {**CYCLE, "heldout_prompts": 0})
    assert run["metrics"]["calibrator"] == {**run["metrics"]["calibrator"], "fitted": False}
    assert "heldout" not in run["metrics"]
    with pytest.raises(ValueError, match="no held-out result"):
        scored.runs.promote(run["id"], "Ann")


def words(estimate):
    """A figure without an interval."""
    return {"estimate": estimate, "low": None, "high": None}


def measured_run(studio, difference, used=None, after=0.5, key="k"):
    """A projector's run that is done, with a held-out result of these figures; its id."""
    run = studio.store.runs.new("projector", {"used": {"projector": used}})
    folder = studio.settings.projector
    figures = {
        "of": "prompts and seeds",
        "judge": "detector",
        "independent": True,
        "base": "before",
        "key": key,
        "difference": difference,
        "after": {"words": words(after)},
    }
    studio.store.runs.update(run, state="done", metrics={"heldout": figures}, checkpoint=str(folder),
                            checkpoint_sha256=checkpoint.digest(folder))  # fmt: skip
    return run


def test_what_is_worse_on_held_out_prompts_is_promoted_only_by_force(studio):
    def finished(difference, used=None, after=0.5, key="k"):
        return measured_run(studio, {"words": words(difference)}, used, after, key)

    with pytest.raises(ValueError, match="nobody knows whether it is better"):  # no image could be judged
        studio.runs.promote(finished(None, after=None), "Ann")
    worse, better = finished(-0.01), finished(0.02, after=0.6)
    with pytest.raises(ValueError, match="is worse"):
        studio.runs.promote(worse, "Ann")
    assert studio.store.runs.promoted("projector") is None
    assert studio.runs.promote(better, "Ann")["promoted"]
    # measured against what is no longer in use: the same prompts and seeds decide, else nobody knows
    with pytest.raises(ValueError, match="is worse"):
        studio.runs.promote(finished(0.05, after=0.55), "Ann")
    with pytest.raises(ValueError, match="another model"):
        studio.runs.promote(finished(0.05, after=0.9, key="other"), "Ann")
    best = finished(0.05, after=0.7)
    assert studio.runs.promote(best, "Ann")["promoted"]
    with pytest.raises(ValueError, match="nobody knows"):
        studio.runs.promote(finished(0.05, after=None), "Ann")
    assert studio.runs.promote(worse, "Ann", force=True)["promoted"]
    assert studio.runs.rollback("projector", "Ann")["id"] == best
    assert [p["action"] for p in studio.store.runs.promotions()] == [
        "rollback",
        "promote",
        "promote",
        "promote",
    ]
    noted = [line["action"] for line in studio.store.audit.entries()]
    assert noted == ["rollback", "promote", "promote", "promote"]


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


def test_of_many_who_roll_back_at_once_each_takes_one_off(studio):
    runs = [measured_run(studio, {"words": {"estimate": 0.02}}) for _ in range(3)]
    for run in runs:
        studio.runs.promote(run, "Ann", force=True)
    with ThreadPoolExecutor(3) as threads:
        found = list(threads.map(lambda n: studio.runs.rollback("projector", f"Ann {n}"), range(3)))
    assert [run and run["id"] for run in found if run] != [] and None in found
    assert {run["id"] for run in found if run} == set(runs[:2])
    assert studio.store.runs.promoted("projector") is None


@pytest.mark.parametrize(("high", "promoted"), [(-0.01, False), (0.01, True), (None, True)])
def test_better_words_with_surely_fewer_whole_images_are_promoted_only_by_force(studio, high, promoted):
    clean = {"estimate": -0.05, "low": -0.1, "high": high}
    run = measured_run(studio, {"words": words(0.02), "clean": clean})
    if promoted:
        assert studio.runs.promote(run, "Ann")["promoted"]
    else:
        with pytest.raises(ValueError, match=r"fewer are whole than of what is in use, by 5.0 points"):
            studio.runs.promote(run, "Ann")
        assert studio.runs.promote(run, "Ann", force=True)["promoted"]


def test_projected_samples_are_trained_on_with_the_noise_they_were_made_from(labelled):
    from studio.training.datasets import noises_of

    ids = labelled.collecting.collect(["a red circle"], 2, "projected", steps=STEPS, strength=0.5)
    rows = labelled.store.samples.find(ids=ids)
    found = noises_of(labelled.models, labelled.store, rows)
    import hashlib

    for row in rows:
        made = hashlib.sha256(found[row["id"]].contiguous().numpy().tobytes()).hexdigest()
        assert made == row["noise_sha256"]


def test_kept_labels_are_read_as_they_were_written(labelled, tmp_path):
    kept = replay.gather(labelled)
    kept.save(tmp_path / "labels")
    read = replay.Replay.load(tmp_path / "labels")
    assert read.prompts == kept.prompts
    assert read.seed.tolist() == kept.seed.tolist()
    assert abs(read.distribution - kept.distribution).max() < 1 / 200
    assert abs(read.features - kept.features).max() < abs(kept.features).max() / 100
    assert {s.prompt for s in read.samples(read.of("validation"))} <= set(load("shapes_validation", 2))
    (tmp_path / "labels" / "weights.safetensors").write_bytes(b"x")
    with pytest.raises(ValueError, match="damaged"):
        replay.Replay.load(tmp_path / "labels")


# ---- evaluations


def test_an_evaluation_compares_methods_on_prompts_that_were_not_trained_on(studio):
    settings = {"prompts": 3, "seeds": 2, "steps": STEPS, "best_of": 2}
    report = evaluate(studio, "alignment", settings)
    assert set(report["methods"]) == {"none", "projected", "best-of-2"}
    assert (report["judge"], report["independent"]) == ("detector", True)
    again = evaluate(studio, "alignment", settings)
    assert again["methods"]["none"]["strict"] == report["methods"]["none"]["strict"]
    assert studio.runs.get(report["run"])["kind"] == "evaluate"


def test_fidelity_is_measured_on_held_out_prompts_and_unseen_seeds(studio):
    report = evaluate(studio, "fidelity", {"prompts": 3, "seeds": 2, "steps": STEPS})
    assert report["samples"] == 6
    assert report["vlm"]["words"] > 6
    assert all(row["split"] == "heldout" and row["seed"] >= 2**31 for row in studio.store.samples.find())


def test_prompts_that_were_trained_on_are_never_counted(scored):
    mine = [row["prompt"] for row in scored.store.samples.find()][:1]
    with pytest.raises(ValueError, match="was trained on"):
        evaluate(scored, "alignment", {"seeds": 1}, prompts=mine)


def test_prompts_outside_the_shapes_world_are_judged_by_the_scorer_and_that_is_said(studio):
    settings = {"seeds": 2, "steps": STEPS, "best_of": 1}
    report = evaluate(studio, "alignment", settings, prompts=["a red fish"])
    assert (report["judge"], report["independent"]) == ("scorer", False)


def test_what_one_scorer_judged_does_not_stand_for_another(studio, monkeypatch):
    """The other scorer is the same one under another revision: only its verdicts' place matters here."""
    after = studio.models.using("projector").model
    given = ["a red fish"], 1, None, after
    first = heldout.before_after(studio, *given, steps=STEPS, guidance=0.0)
    again = heldout.before_after(studio, *given, steps=STEPS, guidance=0.0)
    monkeypatch.setattr(type(studio.models.scorer()), "version", "another")
    other = heldout.before_after(studio, *given, steps=STEPS, guidance=0.0)
    assert first["judge"] == "scorer"
    assert first["key"] == again["key"] != other["key"]


def test_kept_labels_can_be_fewer_and_are_then_the_same_every_time(labelled):
    all_of_them, some, again = (replay.gather(labelled, most=most) for most in (None, 5, 5))
    assert len(some.of("train")) == 5 < len(all_of_them.of("train"))
    assert len(some.of("validation")) == len(all_of_them.of("validation"))
    assert np.array_equal(some.seed, again.seed)


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


def test_a_model_in_use_that_cannot_be_read_stops_only_a_run_that_would_go_on_from_it(labelled, tmp_path):
    shutil.copytree(labelled.settings.reward, tmp_path / "reward")
    (tmp_path / "reward" / "manifest.json").write_text("{")
    change_settings(labelled, reward=tmp_path / "reward")
    with pytest.raises(ValueError, match="manifest"):
        labelled.training.train("reward", {**REWARD, "reward_steps": 1})
    assert (
        labelled.training.train("reward", {**REWARD, "reward_steps": 1, "start": "fresh"})["state"] == "done"
    )


def test_foresight_is_not_learned_from_a_few_images_and_that_is_said(labelled, monkeypatch):
    taught = labelled.training.train("reward", REWARD)
    assert taught["metrics"]["parts"]["foresight"]["foreseen"] and not taught["metrics"]["note"].startswith(
        "Without"
    )
    assert (labelled.runs.folder(taught["id"]) / "reward" / "teacher" / "reader").is_dir()
    monkeypatch.setattr(stages, "FEWEST_PICTURES", 10_000)
    plain = labelled.training.train("reward", REWARD)
    assert plain["state"] == "done" and "10000" in plain["metrics"]["note"]
    assert not (labelled.runs.folder(plain["id"]) / "reward" / "teacher").exists()


def test_a_reward_model_with_a_teacher_goes_on_from_its_own_reading_and_a_new_one_from_the_teachers(
    labelled, monkeypatch
):
    began, real = [], stages.train_reward

    def moved(model, *given, **more):
        """Training as it is, which leaves the reading at some distance from where it began."""
        began.append(reading(model))
        result = real(model, *given, **more)
        with torch.no_grad():
            for name, value in model.named_parameters():
                if name in model.reading().state_dict():
                    value += 0.01
        return result

    def reading(model):
        return torch.cat([value.float().flatten() for value in model.reading().state_dict().values()])

    def made(run):
        folder = labelled.runs.folder(run["id"]) / "reward"
        teacher = PictureReader.from_pretrained(folder / "teacher" / "reader").state_dict().values()
        return reading(RewardModel.from_pretrained(folder)), torch.cat([v.float().flatten() for v in teacher])

    monkeypatch.setattr(stages, "train_reward", moved)
    first = labelled.training.train("reward", REWARD)
    own, teachers = made(first)
    assert torch.allclose(began[0], teachers, atol=1e-3) and not torch.allclose(own, teachers, atol=5e-3)
    labelled.runs.promote(first["id"], "Ann", force=True)
    labelled.training.train("reward", REWARD)
    assert torch.allclose(began[1], own, atol=1e-3)
    fresh = labelled.training.train("reward", {**REWARD, "start": "fresh"})
    assert torch.allclose(began[2], made(fresh)[1], atol=1e-3)
