"""What each kind of training does, stage after stage (DESIGN section 2): `STAGES[kind](job)`.

Each gives the fields with which its run is done: metrics, checkpoint and its sha256. Metrics hold `heldout`, by which
promoting is decided. A stage that was finished before a stop or a kill is not done again, and one that was on goes on
from its last saved state.
"""

from __future__ import annotations

import copy
import time
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from core import checkpoint
from core.foresight import RewardParts, Teacher
from core.metrics import mean_interval
from core.networks.reward import PictureReader, RewardModel
from core.training.data import RewardData
from core.training.foresight import ForesightConfig, train_foresight, with_pictures
from core.training.loop import Stopped
from core.training.lora import Adapter, Conditions
from core.training.projector import (
    ProjectorConfig,
    WarmupConfig,
    evaluate_projector,
    train_projector,
    train_warmup,
)
from core.training.reading import ReaderConfig, train_reader
from core.training.reward import RewardConfig, StageResult, evaluate_reward, predict, train_reward
from studio.numbers import plain
from studio.training import calibration, rounds
from studio.training.datasets import Labels, labels_for, replay_of, texts_for, told
from studio.training.finetuning import lora
from studio.training.heldout import of_run
from studio.training.initial import begin, used_model, used_teacher
from studio.training.runs import Job

Found = dict[str, Any]
FRESH_PROMPTS = 1500  # that the teacher is asked about
# images by which a backbone's first prediction is tuned; of fewer it would learn them by heart
FEWEST_PICTURES = 500


def reward(job: Job) -> Found:
    """Stage 1 alone: labels -> reward model, compared with the one in use on prompts it did not train on."""
    replay, note = replay_of(job.studio)
    used = job.studio.models.using("calibrator")
    if replay is not None and used.model is not None and job.run["labels"]["filter"]["include_calibrated"]:
        replay = calibration.rescored(replay, used.model, job.studio.runs.get(used.run)["metrics"])
    result = job.stage("reward", lambda: _reward(job, job.run["labels"], replay))
    return _done(
        job, "reward", {**result, "note": calibration.joined(note, result["note"], told(result["left_out"]))}
    )


def warmup(job: Job) -> Found:
    """Stage 2 alone: a fresh projector that is harmless."""
    prompts = _training_prompts(job)
    result = job.stage("warmup", lambda: _warmup(job, prompts))
    return _done(job, "warmup", result)


def projector(job: Job) -> Found:
    """Stage 3 with the reward model in use, and its held-out result."""
    model = used_model(job, "reward")
    if model is None:
        raise ValueError("There is no reward model to train a projector by: train one and promote it first.")
    prompts = _training_prompts(job)
    result = job.stage("projector", lambda: _projector(job, model, used_teacher(job), prompts))
    heldout = job.stage("heldout", lambda: _heldout(job, prompts))
    return _done(job, "projector", {**result, **_as_metrics(heldout)})


def calibrator(job: Job) -> Found:
    """What the corrections teach about the scorer, and how it fares on corrections it did not see."""
    result = job.stage("calibrator", lambda: calibration.fit(job, job.run["labels"]))
    if not result["fitted"]:
        raise ValueError(result["note"])
    return _done(job, "calibrator", result)


def cycle(job: Job) -> Found:
    """The whole loop: corrections -> calibrator -> reward model -> projector -> held-out result before and after."""
    studio, config = job.studio, job.config
    replay, note = replay_of(studio)
    taught = job.stage("calibrator", lambda: calibration.fit(job, job.run["labels"]))
    use = taught["fitted"] and taught["better"] and config["calibrated"]
    snapshot = job.run["labels"]
    if use:
        model = calibration.load(job.folder / "calibrator")
        job.stage("rescored", lambda: calibration.rescore(studio, model, taught, job.run["id"]))
        replay = calibration.rescored(replay, model, taught) if replay is not None else None
        wanted = {k: v for k, v in snapshot["filter"].items() if k != "include_calibrated"}
        snapshot = job.stage(
            "labels", lambda: studio.store.labels.snapshot(**wanted, include_calibrated=True)
        )
    learned = job.stage("reward", lambda: _reward(job, snapshot, replay))
    model = studio.models.open("reward", job.folder / "reward")
    prompts = job.stage("prompts", lambda: {"prompts": _training_prompts(job, snapshot)})["prompts"]
    teacher = _teacher(job)
    result = job.stage("projector", lambda: _projector(job, model, teacher, prompts))
    trained = list(dict.fromkeys([*prompts, *learned["prompts"]]))
    heldout = job.stage("heldout", lambda: _heldout(job, trained))

    parts = {"reward": learned, "projector": result, **({"calibrator": taught} if taught["fitted"] else {})}
    for kind, metrics in parts.items():
        job.stage(f"run {kind}", lambda kind=kind, metrics=metrics: _part(job, kind, metrics, use, snapshot))
    metrics = {
        "calibrator": taught,
        "reward": {k: v for k, v in learned.items() if k != "prompts"},
        "projector": result,
        "labels": learned["labels"],
        "left_out": learned["left_out"],
        "note": calibration.joined(note, learned["note"], told(learned["left_out"])),
        **_as_metrics(heldout),
    }
    return _done(job, "projector", metrics)


STAGES = {
    "reward": reward,
    "warmup": warmup,
    "projector": projector,
    "calibrator": calibrator,
    "lora": lora,
    "cycle": cycle,
    "round": rounds.collect,
}


# ---- stages -------------------------------------------------------------------------------------------------------


def _reward(job: Job, snapshot: dict[str, Any], replay: Any) -> dict[str, Any]:
    """Foresight, reader, reward model: each learns from the one before."""
    config, began = job.config, time.monotonic()
    labels = labels_for(
        job.studio,
        snapshot,
        correction_weight=config["correction_weight"],
        replay=replay,
        replay_samples=config["replay"],
        seed=config["seed"],
        with_pictures=config["pictures"],
        on_part=job.stoppable("images read"),
    )
    before, earlier = used_model(job, "reward"), used_teacher(job)
    model = begin(job, "reward", before)
    parts: dict[str, Any] = {}
    teacher, note = None, ""
    pictures = len(with_pictures(labels.train))
    if config["foresight_steps"] and earlier is None and pictures < FEWEST_PICTURES:
        note = (
            f"Without a teacher, as {pictures} images are at hand and foresight is learned from {FEWEST_PICTURES}: collect "
            "more of training prompts (python -m studio collect)."
        )
    elif config["foresight_steps"] and pictures:
        parts["foresight"] = job.stage("foresight", lambda: _foresight(job, labels, earlier))
        fresh = earlier is None or config["start"] == "fresh"
        reader = model.reading() if fresh else earlier.reader
        adapter = earlier.adapter if parts["foresight"]["kept"] else Adapter.load(job.folder / "foresight")
        teacher = Teacher(job.studio.models.diffuser(), reader.float(), adapter)
        if config["reader_steps"]:
            parts["reader"] = job.stage("reader", lambda: _reader(job, labels, teacher))
            teacher.reader = PictureReader.from_pretrained(str(job.folder / "reader")).float()
            teacher.reader.requires_grad_(False).to(job.studio.models.device).eval()
        if fresh:
            model.take(teacher.reader)
        else:  # it has learned since to read what it foresees itself, which is less sharp than what the teacher does
            model.register_to_config(extra=teacher.reader.config.extra)
    elif taught_extra(labels.train):
        model.register_to_config(extra=True)
    settings = RewardConfig(
        steps=config["reward_steps"],
        batch=config["reward_batch"],
        rate=config["reward_rate"],
        judged=config["judged_share"],
        evaluate_every=max(1, min(100, config["reward_steps"] // 4)),
        bf16=job.studio.models.device.type == "cpu",
        seed=config["seed"],
    )
    asked = texts_for(job.studio, _fresh_prompts(job, labels)) if teacher else None
    if asked is not None and not teacher.reader.config.extra:
        asked.scored &= ~asked.extra  # nothing is to be learned from what the teacher was not taught
    result = train_reward(
        model, labels.train, labels.validation, settings, teach=teacher and teacher.of(asked), fresh=asked,
        folder=job.folder / "reward-state", on_progress=job.watch("reward"), stop=job.stopped,
    )  # fmt: skip
    _go_on(result)
    meta = {
        "run": job.run["id"],
        "labels": labels.counts,
        "backbone_revision": job.studio.models.diffuser().revision,
    }
    checkpoint.save(RewardParts(model, teacher), job.folder / "reward", meta, kind=type(model).__name__)
    found = {
        "labels": labels.counts,
        "left_out": labels.left_out,
        "sampling": labels.sampling,
        "samples": len(labels.train),
        "judged": int(labels.train.judged.sum()),
        "pictures": pictures,
        "note": note,
        "prompts": labels.prompts,
        "chosen_by": labels.chosen_by,
        "parts": parts,
        "validation": {"after": result.metrics},
        "best_step": result.best_step,
        "heldout": _reward_heldout(before, model, labels),
        "seconds": round(time.monotonic() - began, 1),
    }
    if before is not None:
        found["validation"]["before"] = evaluate_reward(before, labels.validation)
    return found


def _foresight(job: Job, labels: Labels, earlier: Teacher | None) -> dict[str, Any]:
    """The adapter of the foresight: that of the reward model in use, or a new one."""
    config, began = job.config, time.monotonic()
    if config["start"] == "used" and earlier is not None and earlier.adapter is not None:
        return {"kept": True}
    settings = ForesightConfig(
        steps=config["foresight_steps"],
        rate=config["foresight_rate"],
        rank=config["foresight_rank"],
        seed=config["seed"],
    )
    result, found = train_foresight(
        job.studio.models.diffuser(), labels.train, job.folder / "foresight", settings,
        validation=labels.validation if len(with_pictures(labels.validation)) else None,
        folder=job.folder / "foresight-state", on_progress=job.watch("foresight"), stop=job.stopped,
    )  # fmt: skip
    if result.stopped:
        raise Stopped
    return {"kept": False, "foreseen": found, "seconds": round(time.monotonic() - began, 1)}


def _reader(job: Job, labels: Labels, teacher: Teacher) -> dict[str, Any]:
    """The reader of `teacher`, taught by labels; saved in the run's folder."""
    config, began = job.config, time.monotonic()
    reader = copy.deepcopy(teacher.reader).requires_grad_(True).train()
    data, validation = with_pictures(labels.train), with_pictures(labels.validation)
    if taught_extra(data):
        reader.register_to_config(extra=True)
    settings = ReaderConfig(
        steps=config["reader_steps"],
        rate=config["reader_rate"],
        judged=config["judged_share"],
        evaluate_every=max(1, min(50, config["reader_steps"] // 4)),
        bf16=job.studio.models.device.type == "cpu",
        seed=config["seed"],
    )
    given = {id(one): Conditions.encode(teacher.diffuser, one.texts.prompts) for one in (data, validation)}

    def foresee(of: RewardData, rows: Tensor) -> Tensor:
        return teacher.foresee(of.noises(rows), given[id(of)], of.item[rows])

    result = train_reader(
        reader, data, validation if len(validation) else None, settings, foresee=foresee,
        folder=job.folder / "reader-state", on_progress=job.watch("reader"), stop=job.stopped,
    )  # fmt: skip
    _go_on(result)
    checkpoint.save(reader, job.folder / "reader", {"run": job.run["id"]})
    return {
        "metrics": result.metrics,
        "best_step": result.best_step,
        "seconds": round(time.monotonic() - began, 1),
    }


def taught_extra(data: RewardData) -> bool:
    """Whether a label speaks of *nothing else*."""
    return bool((data.texts.extra[data.item] & (data.weight > 0)).any())


def _fresh_prompts(job: Job, labels: Labels) -> list[str]:
    """The prompts that the teacher is asked about: those with labels and more of the training set."""
    most = min(FRESH_PROMPTS, job.config["reward_steps"] * job.config["reward_batch"])
    return list(dict.fromkeys([*labels.prompts, *job.studio.prompts.of("train", most)]))[:most]


def _reward_heldout(before: RewardModel | None, after: RewardModel, labels: Labels) -> dict[str, Any]:
    """How much likelier the labels of prompts that were not trained on became: nats a word, paired, with interval."""
    data = labels.validation
    rows = {"after": _likelihood(after, data)}
    if before is not None:
        rows["before"] = _likelihood(before, data)
    base = rows.get("before", np.full_like(rows["after"], -np.log(10)))
    clusters = data.item[:, None].expand_as(data.weight)[data.weight > 0].tolist()
    return {
        "of": "labels",
        "judge": "scorer",
        "independent": False,
        "key": f"labels {len(base)}",
        "base": "before" if before is not None else "none",
        **{name: {"words": mean_interval(values, clusters)._asdict()} for name, values in rows.items()},
        "difference": {"words": mean_interval(rows["after"] - base, clusters)._asdict()},
    }


def _likelihood(model: RewardModel, data: RewardData) -> np.ndarray:
    """Log-likelihood of each label (words,)."""
    logs = predict(model, data).log_softmax(-1)
    return (data.target * logs).sum(-1)[data.weight > 0].double().numpy()


def _warmup(job: Job, prompts: list[str]) -> dict[str, Any]:
    studio, config, began = job.studio, job.config, time.monotonic()
    texts, shape = texts_for(studio, prompts), studio.models.diffuser().latent_shape()
    model = begin(job, "projector", used_model(job, "projector"), fresh=True)
    settings = WarmupConfig(steps=config["warmup_steps"], rate=config["warmup_rate"], seed=config["seed"])
    result = train_warmup(
        model, texts, shape, settings, folder=job.folder / "warmup-state",
        on_progress=job.watch("warm-up"), stop=job.stopped,
    )  # fmt: skip
    _go_on(result)
    checkpoint.save(model, job.folder / "warmup", {"run": job.run["id"]})
    return {"metrics": result.metrics, "prompts": len(prompts), "seconds": round(time.monotonic() - began, 1)}


def _teacher(job: Job) -> Teacher | None:
    """That of the reward model of this run."""
    try:
        return Teacher.of_reward(job.folder / "reward", job.studio.models.diffuser())
    except ValueError:
        return None  # the run was asked for none


def _projector(job: Job, model: RewardModel, teacher: Teacher | None, prompts: list[str]) -> dict[str, Any]:
    studio, config, began = job.studio, job.config, time.monotonic()
    used = used_model(job, "projector")
    if used is None or config["start"] == "fresh":
        job.stage("warmup", lambda: _warmup(job, prompts))
        start = studio.models.open("projector", job.folder / "warmup")
    else:
        start = copy.deepcopy(used)
    start = start.requires_grad_(True).train()
    shape, texts = studio.models.diffuser().latent_shape(), texts_for(studio, prompts)
    unseen = [p for p in studio.prompts.of("validation", 64) if p not in set(prompts)]
    validation = texts_for(studio, unseen) if unseen else None
    settings = ProjectorConfig(
        steps=config["projector_steps"],
        batch=config["projector_batch"],
        rate=config["projector_rate"],
        tau=config["tau"],
        shared=config.get("shared", 0.0),  # a run of an earlier version has no such field
        evaluate_every=max(1, min(50, config["projector_steps"] // 4)),
        seed=config["seed"],
    )
    judge = teacher.judge(validation) if teacher is not None and validation is not None else None
    result = train_projector(
        start, model, texts, shape, settings, validation=validation, judge=judge, folder=job.folder / "projector-state",
        on_progress=job.watch("projector"), stop=job.stopped,
    )  # fmt: skip
    _go_on(result)
    checkpoint.save(start, job.folder / "projector", {"run": job.run["id"], "prompts": len(prompts)})
    found = {"after": result.metrics}
    if used is not None and validation is not None:
        found["before"] = evaluate_projector(used, model, validation, shape, judge=judge)
    return {
        "reward_model": found,
        "best_step": result.best_step,
        "prompts": len(prompts),
        "seconds": round(time.monotonic() - began, 1),
    }


def _heldout(job: Job, trained: list[str]) -> dict[str, Any]:
    after = job.folder / "projector"
    return of_run(
        job, trained, lambda: (used_model(job, "projector"), job.studio.models.open("projector", after))
    )


# ---- what they share ----------------------------------------------------------------------------------------------


def _go_on(result: StageResult) -> None:
    if result.fit.stopped:
        raise Stopped


def _training_prompts(job: Job, snapshot: dict[str, Any] | None = None) -> list[str]:
    """The prompts that a projector learns on: those with labels first, then the world's, as many as are asked for."""
    studio, most = job.studio, job.config["prompts"]
    rows = studio.store.labels.current(snapshot=snapshot or job.run["labels"])
    labelled = [
        p for p in dict.fromkeys(row["prompt"] for row in rows) if studio.prompts.split_of(p) == "train"
    ]
    return list(dict.fromkeys([*labelled, *studio.prompts.of("train", most)]))[:most]


def _as_metrics(heldout: dict[str, Any]) -> dict[str, Any]:
    return {"heldout": heldout} if heldout else {}


def _part(
    job: Job, kind: str, metrics: dict[str, Any], use: bool, snapshot: dict[str, Any]
) -> dict[str, Any]:
    """The run of one of a cycle's models, so that it can be in use and be named by itself."""
    store, folder = job.studio.store, job.folder / kind
    id = f"{job.run['id']}-{kind}"
    metrics = plain({k: v for k, v in metrics.items() if k != "prompts"}) | {
        "use": kind != "calibrator" or use
    }
    digest = checkpoint.digest(folder)
    with store.database.writing():
        try:
            store.runs.get(id)
        except ValueError:
            store.runs.new(kind, {"cycle": job.run["id"]}, job.run["id"], snapshot, id)
        store.runs.update(
            id,
            state="done",
            metrics=metrics,
            checkpoint=_relative(job, folder),
            checkpoint_sha256=digest,
        )
    return {"run": id}


def _done(job: Job, part: str, metrics: dict[str, Any]) -> Found:
    folder = job.folder / part
    metrics = {k: v for k, v in metrics.items() if k != "prompts" or not isinstance(v, list)}
    return {
        "metrics": {**metrics, "seconds_now": round(time.monotonic() - job.began, 1)},
        "checkpoint": _relative(job, folder),
        "checkpoint_sha256": checkpoint.digest(folder),
    }


def _relative(job: Job, folder: Path) -> str:
    return folder.relative_to(job.studio.settings.home).as_posix()
