"""What each kind of training does, stage after stage: `STAGES[kind](job)`.

Each gives the fields with which its run is done: metrics, checkpoint and its sha256. Promoting is decided by the `heldout`
of the metrics. A stage that was finished before a stop or a kill is not repeated, and one that was interrupted resumes
from its last saved state.
"""

from __future__ import annotations

import copy
import logging
import time
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from core import checkpoint
from core.adapter import Adapter, takes_adapters
from core.evaluation.base import Method
from core.evaluation.methods import Tuned
from core.foresight import RewardParts, Teacher
from core.metrics import mean_interval
from core.networks.projector import NoiseProjector
from core.networks.reward import PictureReader, RewardModel
from core.progress import Stopped
from core.scoring.calibrator import Calibrator
from core.training.data import RewardData, Sample
from core.training.foresight import ForesightConfig, train_foresight, with_pictures
from core.training.lora import LoraConfig, train_lora
from core.training.projector import (
    ProjectorConfig,
    WarmupConfig,
    evaluate_projector,
    train_projector,
    train_warmup,
)
from core.training.reading import ReaderConfig, train_reader
from core.training.reward import RewardConfig, evaluate_reward, predict, train_reward
from studio.images.models import SHIPPED, UnfitError, class_of
from studio.numbers import plain
from studio.training import calibration
from studio.training.datasets import Labels, labels_for, replay_of, store_samples, texts_for
from studio.training.heldout import of_run
from studio.training.replay import Replay
from studio.training.runs import Job
from studio.training.sampled import left_out_said

if TYPE_CHECKING:
    from studio.studio import Studio

log = logging.getLogger("studio")
Result = dict[str, Any]
FRESH_PROMPTS = 1500  # that the teacher is asked about
VALIDATION_PROMPTS = 64  # on which a projector is evaluated while it is trained
# images by which a backbone's first prediction is tuned; of fewer it would learn them by heart
FEWEST_PICTURES = 500
ROUND = "round"  # the prompt set of a round's images


# ---- kinds of training --------------------------------------------------------------------------------------------


def reward(job: Job) -> Result:
    """Stage 1 alone: labels -> reward model, compared with the one in use on prompts it did not train on."""
    replay, note = replay_of(job.studio)
    used = job.studio.models.using("calibrator")
    if replay is not None and used.run is not None and job.run["labels"]["filter"]["include_calibrated"]:
        replay = calibration.rescored(replay, used.model, job.studio.runs.get(used.run)["metrics"])
    result = job.stage("reward", lambda: _reward(job, job.run["labels"], replay))
    note = calibration.joined(note, result["note"], left_out_said(result["left_out"]))
    return _done(job, "reward", {**result, "note": note})


def warmup(job: Job) -> Result:
    """Stage 2 alone: a fresh projector that is harmless."""
    prompts = _training_prompts(job)
    result = job.stage("warmup", lambda: _warmup(job, prompts))
    return _done(job, "warmup", result)


def projector(job: Job) -> Result:
    """Stage 3 with the reward model in use, and its held-out result."""
    model = used_model(job, "reward")
    if model is None:
        raise ValueError("There is no reward model to train a projector by: train one and promote it first.")
    prompts = _training_prompts(job)
    folder = _used_folder(job, "reward")
    result = job.stage("projector", lambda: _projector(job, model, folder, prompts))
    heldout = job.stage("heldout", lambda: _heldout(job, prompts))
    return _done(job, "projector", result, heldout)


def calibrator(job: Job) -> Result:
    """The calibrator of the corrections, and its result on corrections that it did not see."""
    result = job.stage("calibrator", lambda: calibration.fit(job, job.run["labels"], partial(about, job)))
    if not result["fitted"]:
        raise ValueError(result["note"])
    return _done(job, "calibrator", result)


def cycle(job: Job) -> Result:
    """The whole loop: corrections -> calibrator -> reward model -> projector -> held-out result before and after."""
    studio, config = job.studio, job.config
    replay, note = replay_of(studio)
    taught = job.stage("calibrator", lambda: calibration.fit(job, job.run["labels"], partial(about, job)))
    use = taught["fitted"] and taught["better"] and config["calibrated"]
    snapshot = job.run["labels"]
    if use:
        model = Calibrator.load(job.folder / "calibrator")
        job.stage("rescored", lambda: calibration.rescore(studio, model, taught, job.run["id"]))
        replay = calibration.rescored(replay, model, taught) if replay is not None else None
        wanted = {**snapshot["filter"], "include_calibrated": True}
        snapshot = job.stage("labels", lambda: studio.store.labels.snapshot(**wanted))
    learned = job.stage("reward", lambda: _reward(job, snapshot, replay))
    reward_model = studio.models.open("reward", job.folder / "reward")
    prompts = job.stage("prompts", lambda: {"prompts": _training_prompts(job, snapshot)})["prompts"]
    result = job.stage("projector", lambda: _projector(job, reward_model, job.folder / "reward", prompts))
    trained = list(dict.fromkeys([*prompts, *learned["prompts"]]))
    heldout = job.stage("heldout", lambda: _heldout(job, trained))

    parts = {"reward": learned, "projector": result, **({"calibrator": taught} if taught["fitted"] else {})}
    for kind, metrics in parts.items():
        job.stage(f"run {kind}", partial(_part, job, kind, metrics, use, snapshot))
    metrics = {
        "calibrator": taught,
        "reward": {k: v for k, v in learned.items() if k != "prompts"},
        "projector": result,
        "labels": learned["labels"],
        "left_out": learned["left_out"],
        "note": calibration.joined(
            note, learned["note"], result.get("note", ""), left_out_said(learned["left_out"])
        ),
    }
    return _done(job, "projector", metrics, heldout)


def lora(job: Job) -> Result:
    """A LoRA, with which the projector is compared: trained on the store's images, each weighted by its word scores; with
    its held-out result against the one in use, or none."""
    result = job.stage("lora", lambda: _lora(job))
    prompts = result.pop("prompts")

    def adapters() -> tuple[Method | None, Method]:
        used = job.config["used"]["lora"]
        before = _tuned(job.studio.models.folder_of(job.studio.runs.get(used))) if used else None
        return before, _tuned(job.folder / "lora")

    heldout = job.stage("heldout", lambda: of_run(job, prompts, adapters))
    return _done(job, "lora", result, heldout)


def collect_round(job: Job) -> Result:
    """The next round of the loop: images with the projector in use, scored, so that people find them in the queue.

    What a projector has learned wrong shows only in the images that it makes. A round collects some on training prompts;
    once people have corrected them, the next training learns from them as from all others.
    """
    studio, config, began = job.studio, job.config, time.monotonic()
    if studio.runs.in_use()["projector"] != config["used"]["projector"]:
        raise ValueError(
            "Another projector has been put into use since this round was begun: start a new round with it."
        )
    chosen = job.stage("prompts", lambda: _round_prompts(studio, config["prompts"]))
    ids = studio.collecting.collect(
        chosen["prompts"], config["seeds"], "projected", steps=config["steps"], guidance=config["guidance"],
        strength=config["strength"], prompt_set=ROUND, first_seed=chosen["first_seed"],
        on_progress=job.counter("images"), stop=job.stopped,
    )  # fmt: skip
    job.check()
    scored = studio.scoring.score(ids, job.counter("scores"), job.stopped)
    job.check()
    if studio.models.using("reward").model is not None:  # the queue's order is then known before anybody asks
        studio.foreseeing.foresee(on_progress=job.counter("reward model asked"), stop=job.stopped)
        job.check()
    return {
        "metrics": {
            "images": len(ids),
            "prompts": len(chosen["prompts"]),
            "scored": scored,
            "projector": config["used"]["projector"] or "shipped",
            "note": f"{len(ids)} images of projected noise stand in the queue. Correct some of them, in the order that "
            "offers projected noise first; then train the whole loop again.",
            "seconds": round(time.monotonic() - began, 1),
        }
    }


STAGES = {
    "reward": reward,
    "warmup": warmup,
    "projector": projector,
    "calibrator": calibrator,
    "lora": lora,
    "cycle": cycle,
    "round": collect_round,
}


# ---- stages -------------------------------------------------------------------------------------------------------


def _reward(job: Job, snapshot: dict[str, Any], replay: Replay | None) -> dict[str, Any]:
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
    before, earlier = used_model(job, "reward"), teacher_of(job, _used_folder(job, "reward"))
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
        base = earlier if config["start"] == "used" else None
        parts["foresight"] = job.stage("foresight", partial(_foresight, job, labels, base))
        reader = base.reader if base else model.reading()
        adapter = base.adapter if base and parts["foresight"]["kept"] else None
        if adapter is None and takes_adapters(job.studio.models.diffuser()):
            adapter = Adapter.load(job.folder / "foresight")
        teacher = Teacher(job.studio.models.diffuser(), reader.float(), adapter)
        if config["reader_steps"]:
            parts["reader"] = job.stage("reader", partial(_reader, job, labels, teacher))
            teacher.reader = PictureReader.from_pretrained(str(job.folder / "reader")).float()
            teacher.reader.requires_grad_(False).to(job.studio.models.device).eval()
        if base is None:
            model.take(teacher.reader)
        else:  # it has since learned to read its own foresight, which is less sharp than the teacher's
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
    fresh = teach = None
    if teacher:
        fresh = texts_for(job.studio, _fresh_prompts(job, labels))
        if not teacher.reader.config.extra:
            fresh.scored &= ~fresh.extra  # the teacher's answers to what it was not taught teach nothing
        teach = teacher.of(fresh)
    result = train_reward(
        model, labels.train, labels.validation, settings, teach=teach, fresh=fresh,
        folder=job.folder / "reward-state", on_progress=job.watch("reward"), stop=job.stopped,
    )  # fmt: skip
    if result.fit.stopped:
        raise Stopped
    revision = job.studio.models.diffuser().revision  # by which the teacher's adapter knows its backbone
    meta = about(job) | {"labels": labels.counts, "backbone_revision": revision}
    checkpoint.save(RewardParts(model, teacher), job.folder / "reward", meta, kind=type(model).__name__)
    validation = {"after": result.metrics}
    if before is not None:
        validation["before"] = evaluate_reward(before, labels.validation)
    return {
        "labels": labels.counts,
        "left_out": labels.left_out,
        "sampling": labels.sampling,
        "replayed": labels.replayed,
        "samples": len(labels.train),
        "judged": int(labels.train.judged.sum()),
        "pictures": pictures,
        "note": calibration.joined(note, labels.note, warning_of(job, "reward")),
        "prompts": labels.prompts,
        "chosen_by": labels.chosen_by,
        "parts": parts,
        "validation": validation,
        "best_step": result.best_step,
        "heldout": _reward_heldout(before, model, labels),
        "seconds": round(time.monotonic() - began, 1),
    }


def _foresight(job: Job, labels: Labels, base: Teacher | None) -> dict[str, Any]:
    """The adapter of the foresight: that of the teacher that is gone on from, or a new one, in the run's folder."""
    config, began = job.config, time.monotonic()
    if base is not None and base.adapter is not None:
        return {"kept": True}
    if not takes_adapters(job.studio.models.diffuser()):  # what the backbone foresees is used as it is
        return {"kept": False}
    steps, rate, rank = (config[f"foresight_{name}"] for name in ("steps", "rate", "rank"))
    settings = ForesightConfig(steps=steps, rate=rate, rank=rank, seed=config["seed"])
    result, foreseen = train_foresight(
        job.studio.models.diffuser(), labels.train, job.folder / "foresight", settings,
        validation=labels.validation if len(with_pictures(labels.validation)) else None,
        folder=job.folder / "foresight-state", on_progress=job.watch("foresight"), stop=job.stopped,
    )  # fmt: skip
    if result.stopped:
        raise Stopped
    return {"kept": False, "foreseen": foreseen, "seconds": round(time.monotonic() - began, 1)}


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
    given = {id(one): teacher.diffuser.encode_many(one.texts.prompts) for one in (data, validation)}

    def foresee(of: RewardData, rows: Tensor) -> Tensor:
        return teacher.foresee(of.noises(rows), given[id(of)], of.item[rows])

    result = train_reader(
        reader, data, validation if len(validation) else None, settings, foresee=foresee,
        folder=job.folder / "reader-state", on_progress=job.watch("reader"), stop=job.stopped,
    )  # fmt: skip
    if result.fit.stopped:
        raise Stopped
    checkpoint.save(reader, job.folder / "reader", about(job))
    return {
        "metrics": result.metrics,
        "best_step": result.best_step,
        "seconds": round(time.monotonic() - began, 1),
    }


def taught_extra(data: RewardData) -> bool:
    """Whether there is a label of *nothing else*."""
    return bool((data.texts.extra[data.item] & (data.weight > 0)).any())


def _fresh_prompts(job: Job, labels: Labels) -> list[str]:
    """The prompts that the teacher is asked about: those with labels, and more of the training set."""
    most = min(FRESH_PROMPTS, job.config["reward_steps"] * job.config["reward_batch"])
    return list(dict.fromkeys([*labels.prompts, *job.studio.prompts.of("train", most)]))[:most]


def _reward_heldout(before: RewardModel | None, after: RewardModel, labels: Labels) -> dict[str, Any]:
    """By how much the likelihood of labels of untrained prompts grew: nats a word, paired, with interval."""
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
    if result.fit.stopped:
        raise Stopped
    checkpoint.save(model, job.folder / "warmup", about(job))
    return {"metrics": result.metrics, "prompts": len(prompts), "seconds": round(time.monotonic() - began, 1)}


def _projector(job: Job, model: RewardModel, folder: Path, prompts: list[str]) -> dict[str, Any]:
    """A projector that is taught by a reward model, in this folder with its teacher; saved in the run's folder."""
    studio, config, began = job.studio, job.config, time.monotonic()
    used, teacher = used_model(job, "projector"), teacher_of(job, folder)
    if used is None or config["start"] == "fresh":
        job.stage("warmup", lambda: _warmup(job, prompts))
        start = studio.models.open("projector", job.folder / "warmup")
    else:
        start = copy.deepcopy(used)
    start = start.requires_grad_(True).train()
    shape, texts = studio.models.diffuser().latent_shape(), texts_for(studio, prompts)
    unseen = [p for p in studio.prompts.of("validation", VALIDATION_PROMPTS) if p not in set(prompts)]
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
    if result.fit.stopped:
        raise Stopped
    checkpoint.save(start, job.folder / "projector", about(job) | {"prompts": len(prompts)})
    validated = {"after": result.metrics}
    if used is not None and validation is not None:
        validated["before"] = evaluate_projector(used, model, validation, shape, judge=judge)
    return {
        "reward_model": validated,
        "best_step": result.best_step,
        "prompts": len(prompts),
        "note": warning_of(job, "projector"),
        "seconds": round(time.monotonic() - began, 1),
    }


def _heldout(job: Job, trained: list[str]) -> dict[str, Any]:
    def models() -> tuple[NoiseProjector | None, NoiseProjector]:
        return used_model(job, "projector"), job.studio.models.open("projector", job.folder / "projector")

    return of_run(job, trained, models)


def image_score(sample: Sample) -> float:
    """The mean expected score in [0, 1] of an image's labelled words."""
    expected = [
        float(np.dot(label, np.arange(10))) if isinstance(label, Sequence) else float(label)
        for label, _ in sample.labels.values()
    ]
    return float(np.clip(np.mean([value / 9 for value in expected]), 0.0, 1.0)) if expected else 0.0


def _lora(job: Job) -> dict[str, Any]:
    """A fresh adapter from the labels of the run, on images of training prompts in the backbone's default size."""
    studio, config, began = job.studio, job.config, time.monotonic()
    rows = studio.store.labels.current(snapshot=job.run["labels"])
    samples, counts, left_out, sampling = store_samples(
        studio, rows, 1.0, with_pictures=True, on_part=job.stoppable("images read")
    )
    images = {id(sample): sample.picture for sample in samples if sample.picture is not None}
    samples = [sample for sample in samples if id(sample) in images]
    if not samples:
        raise ValueError(
            "There is no scored image of a training prompt to fine-tune on: collect and score some first "
            f"(python -m studio collect). {left_out_said(left_out)}".strip()
        )
    scores = [image_score(sample) for sample in samples]
    settings = LoraConfig(
        rank=config["rank"],
        steps=config["lora_steps"],
        batch=config["lora_batch"],
        rate=config["lora_rate"],
        temperature=config["temperature"],
        checkpointing=config["checkpointing"],
        seed=config["seed"],
    )
    with studio.models.lock:
        result, loss = train_lora(
            studio.models.diffuser(), torch.stack(list(images.values())), [sample.prompt for sample in samples], scores,
            settings, job.folder / "lora", meta={"run": job.run["id"], "images": len(samples)},
            folder=job.folder / "lora-state", on_progress=job.watch("LoRA"), stop=job.stopped,
        )  # fmt: skip
    if result.stopped:
        raise Stopped
    return {
        "loss": loss,
        "images": len(samples),
        "mean_score": float(np.mean(scores)),
        "labels": counts,
        "left_out": left_out,
        "sampling": sampling,
        "prompts": list(dict.fromkeys(sample.prompt for sample in samples)),
        "seconds": round(time.monotonic() - began, 1),
    }


def _tuned(folder: Path) -> Method:
    adapter = Adapter.load(folder)
    return Tuned(adapter, f"lora {adapter.sha256[:16]}")


def _round_prompts(studio: Studio, most: int) -> dict[str, Any]:
    """{prompts: at most so many training prompts of which the projector in use has made no image, first_seed: 0}. If it
    has made one of each: the first prompts of all, and the first seed that none of them has had."""
    using = studio.models.using("projector")
    if using.model is None:
        raise ValueError(using.problem)
    rows = studio.store.samples.find(
        method="projected", projector_run=using.run, split="train", limit=1_000_000
    )
    made = Counter(row["prompt"] for row in rows)
    prompts = studio.prompts.of("train", most + len(made))
    if not prompts:
        raise ValueError("There is no training prompt: give a larger set (STUDIO_PROMPTS).")
    fresh = [prompt for prompt in prompts if not made[prompt]][:most]
    if fresh:
        return {"prompts": fresh, "first_seed": 0}
    again = prompts[:most]
    return {"prompts": again, "first_seed": max(made[prompt] for prompt in again)}


# ---- models to begin with -----------------------------------------------------------------------------------------


def used_model(job: Job, kind: str) -> Any:
    """The model that was in use when the run was made, or None where none can be used: what the project ships does not
    fit another backbone. One that cannot be read any more stops only a run that would start from it."""
    models, shipped, folder = job.studio.models, job.config["used"][kind] is None, _used_folder(job, kind)
    if shipped and not folder.exists():
        return None
    try:
        model = models.open(kind, folder)
        models.check_fits(model, folder)
    except ValueError as error:
        shipped_for_another = isinstance(error, UnfitError) and shipped
        if not shipped_for_another and job.config.get("start") != "fresh":
            raise
        log.warning("The %s in use is left out of account: %s", kind, error)
        return None
    return model


def _used_folder(job: Job, kind: str) -> Path:
    """The folder of the model that was in use when this run was made."""
    run = job.config["used"][kind]
    return job.studio.models.folder_in_use(kind, job.studio.runs.get(run) if run else None)


def warning_of(job: Job, kind: str) -> str:
    """The sentence where a run begins from a model in use that was trained for another backbone, or ''."""
    if job.config.get("start") != "used":
        return ""
    return job.studio.models.warning_of(kind, job.config["used"][kind] or SHIPPED, _used_folder(job, kind))


def teacher_of(job: Job, folder: Path) -> Teacher | None:
    """The teacher beside the reward model in a folder; None where none fits this backbone."""
    try:
        return Teacher.of_reward(folder, job.studio.models.diffuser())
    except ValueError as error:
        log.info("No teacher goes with the reward model: %s", error)
        return None


def begin(job: Job, kind: str, used: Any, fresh: bool = False) -> Any:
    """A model to train: a copy of the one in use, or a new one of its shape."""
    models, diffuser = job.studio.models, job.studio.models.diffuser()
    if used is not None and not fresh and job.config.get("start") == "used":
        return copy.deepcopy(used).requires_grad_(True).train()
    torch.manual_seed(job.config["seed"])
    if used is not None:
        model = class_of(kind).from_config(used.config)
    else:
        model = class_of(kind)(latent_channels=diffuser.channels, text_width=diffuser.text_width)
    return model.to(models.device).train()


def about(job: Job) -> dict[str, Any]:
    """What a checkpoint's manifest says of where it comes from: the run, and the backbone that it was trained for."""
    return {"run": job.run["id"], **job.studio.models.backbone().meta()}


# ---- shared -------------------------------------------------------------------------------------------------------


def _training_prompts(job: Job, snapshot: dict[str, Any] | None = None) -> list[str]:
    """The prompts that a projector is trained on: those with labels first, then others, as many as are configured."""
    studio, most = job.studio, job.config["prompts"]
    rows = studio.store.labels.current(snapshot=snapshot or job.run["labels"])
    labelled = [
        p for p in dict.fromkeys(row["prompt"] for row in rows) if studio.prompts.split_of(p) == "train"
    ]
    return list(dict.fromkeys([*labelled, *studio.prompts.of("train", most)]))[:most]


def _part(
    job: Job, kind: str, metrics: dict[str, Any], use: bool, snapshot: dict[str, Any]
) -> dict[str, Any]:
    """Record one of a cycle's models as a run of its own, so that it can be in use and be named by itself."""
    store, folder = job.studio.store, job.folder / kind
    id = f"{job.run['id']}-{kind}"
    metrics = plain({k: v for k, v in metrics.items() if k != "prompts"})
    metrics["use"] = kind != "calibrator" or use
    digest = checkpoint.digest(folder)
    with store.database.writing():
        try:
            store.runs.get(id)
        except ValueError:
            store.runs.new(kind, {"cycle": job.run["id"]}, job.run["id"], snapshot, id)
        store.runs.update(
            id, state="done", metrics=metrics, checkpoint=_relative(job, folder), checkpoint_sha256=digest
        )
    return {"run": id}


def _done(job: Job, part: str, metrics: dict[str, Any], heldout: dict[str, Any] | None = None) -> Result:
    """The fields with which a run is done."""
    folder = job.folder / part
    metrics = {k: v for k, v in metrics.items() if k != "prompts" or not isinstance(v, list)}
    if heldout:
        metrics["heldout"] = heldout
    return {
        "metrics": {**metrics, "seconds_now": round(time.monotonic() - job.began, 1)},
        "checkpoint": _relative(job, folder),
        "checkpoint_sha256": checkpoint.digest(folder),
    }


def _relative(job: Job, folder: Path) -> str:
    return folder.relative_to(job.studio.settings.home).as_posix()
