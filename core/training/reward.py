"""Stage 1c: the reward model learns what the noise will show, from a teacher and from labelled samples.

    L_reward = foresee mean (picture foreseen - the teacher's)^2 + CE(the teacher's words, R_phi(noise, text))
             + the same on labelled samples: sum_sj v_sj CE(target_sj, R_phi(noise_s, text_s)_j) / sum_sj v_sj
               + foresee mean (picture foreseen - picture)^2 + read CE(target, read(picture)) + router losses

The teacher (`core.foresight`) answers on any number of fresh noises and prompts for one call of the denoiser each,
where a labelled sample costs all sampling steps, a decoding and a scoring. target is a person's score (one-hot) or the
scorer's distribution over 0..9, v the label's weight; a fixed share of every batch are images that people judged.
Without a teacher only the labelled samples are learned from, as in the paper. Our departure: pictures are foreseen as
well, since their latents say in every cell what came of the noise, where a score says it once a word.

Against overfitting: dropout, weight decay, jittered noise, label mass shared with the neighbouring scores, a moving
average of the weights, and early stopping on prompts that were not trained on.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from core import ranks
from core.evaluation.metrics import pearson, spearman, within
from core.networks.blocks import evaluating
from core.networks.reward import RewardModel
from core.training.data import RewardData, Texts
from core.training.loop import Ema, FitResult, Progress, fit, seed_step, warmup_cosine

SELECTABLE = ("cross_entropy", "pearson", "spearman", "pearson_within")

Teach = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""A teacher: noise (B, C, H, W) and rows (B,) of the texts that it is asked about -> the picture foreseen (B, C, H, W)
and the logits of its words (B, J, 10)."""

Look = Callable[[nn.Module], tuple[float, dict[str, float]]]
"""Judges a model: a score, larger is better, and the metrics to keep with it."""


@dataclass(frozen=True)
class RewardConfig:
    """Stage 1's settings."""

    steps: int = 2000  # at most; early stopping may end before
    batch: int = 64  # samples a step
    fresh: float = 0.75  # share of them that are fresh noises, which the teacher answers; without a teacher 0
    judged: float = 0.25  # share of the labelled ones that people judged, where there are any
    rate: float = 1e-3  # peak learning rate of AdamW
    weight_decay: float = 0.05
    smoothing: float = 0.3  # share of a label's mass given to the neighbouring scores
    jitter: float = 0.1  # noise <- sqrt(1 - jitter^2) noise + jitter N(0, I)
    foresee: float = 1.0  # weight of the squared error of the picture foreseen
    read: float = 0.5  # weight of reading the scores off the picture itself
    grain: float = 0.3  # noise of up to this much is added to a picture that is read
    load_balance: float = 0.01  # weight of the router's load-balance loss
    router_z: float = 0.001  # weight of the router's z-loss
    average: float = 0.995  # decay of the moving average that is evaluated and kept
    evaluate_every: int = 100  # steps between looks at the validation prompts
    select: str = "pearson_within"  # what a look goes by: that, or cross_entropy, pearson, spearman
    patience: int = 6  # looks without a better one before training ends
    looks: int = 1024  # samples of the validation prompts in a look, all noises of a prompt together
    bf16: bool = False  # autocast: faster on recent CPUs and on GPUs
    save_every: int = 200
    seed: int = 0


@dataclass
class StageResult:
    """How the loop ended, the metrics of the kept weights, and the step they are of (0: the weights at the start)."""

    fit: FitResult
    metrics: dict[str, float]
    best_step: int


class Best:
    """The best moving-averaged weights so far, kept in the loop's `extra` so that a resumed run has them too."""

    def __init__(self, average: Ema, patience: int) -> None:
        self.model, self.patience = average.module, patience
        self.extra: dict = {"score": -float("inf"), "step": -1, "since": 0, "weights": {}, "metrics": {}}

    def offer(self, step: int, look: Look) -> dict[str, float]:
        """Let look(model) judge the averaged weights as they are before `step`; keep them if it scores higher.

        Returns what it found, named for the progress log."""
        score, metrics = ranks.first(lambda: look(self.model))
        if score > self.extra["score"]:
            weights = {name: value.detach().clone() for name, value in self.model.named_parameters()}
            self.extra |= {"score": score, "step": step, "since": 0, "weights": weights, "metrics": metrics}
        else:
            self.extra["since"] += 1
        return {f"validation_{name}": value for name, value in metrics.items()}

    def exhausted(self) -> bool:
        """Whether the last `patience` looks brought nothing better."""
        return self.extra["since"] >= self.patience

    @torch.no_grad()
    def restore(self, model: nn.Module) -> None:
        """Put the best weights into `model`."""
        for name, parameter in model.named_parameters():
            parameter.copy_(self.extra["weights"][name])


def smooth(target: Tensor, amount: float) -> Tensor:
    """target (..., 10) with `amount` of each score's mass moved to its two neighbours; off the ends it stays."""
    up = torch.cat([target[..., :1] * 0, target[..., :-1]], -1)
    down = torch.cat([target[..., 1:], target[..., -1:] * 0], -1)
    ends = torch.zeros_like(target)
    ends[..., 0], ends[..., -1] = target[..., 0], target[..., -1]
    return (1 - amount) * target + amount / 2 * (up + down + ends)


def cross_entropy(logits: Tensor, target: Tensor, weight: Tensor, total: Tensor | None = None) -> Tensor:
    """Weighted mean cross-entropy: logits and target (B, J, 10), weight (B, J). total: divided by instead of the sum of
    these weights."""
    each = -(target * logits.log_softmax(-1)).sum(-1)
    return (each * weight).sum() / (weight.sum() if total is None else total).clamp_min(1e-8)


def grainy(picture: Tensor, most: float, draws: torch.Generator) -> Tensor:
    """picture (B, C, H, W) with normal noise added, of a strength for each from 0 to `most`."""
    grain = most * torch.rand(len(picture), 1, 1, 1, generator=draws)
    return picture + (grain * torch.randn(picture.shape, generator=draws)).to(picture.device)


def rows_of(step: int, batch: int, count: int, seed: int) -> Tensor:
    """The samples of a step: each once in every pass over `count`, in an order that is a function of (seed, pass)."""
    places = torch.arange(step * batch, (step + 1) * batch)
    rows = torch.empty_like(places)
    for turn in (places // count).unique().tolist():
        order = torch.randperm(count, generator=torch.Generator().manual_seed((seed * 65_537 + turn) % 2**32))
        here = places // count == turn
        rows[here] = order[places[here] % count]
    return rows


def selected(found: dict[str, float], by: str) -> float:
    """The figure of `evaluate_reward` that a look goes by, larger is better: the cross-entropy where no word has two
    noises to compare."""
    if by == "cross_entropy" or by == "pearson_within" and not found["compared"]:
        return -found["cross_entropy"]
    return found[by]


def mixed_rows(step: int, batch: int, data: RewardData, share: float, seed: int) -> Tensor:
    """The samples of a step, `share` of them of those that people judged, where there are any; each kind in turn."""
    judged, rest = (kind.nonzero().flatten() for kind in (data.judged, ~data.judged))
    few = round(share * batch) if len(rest) else batch
    if not len(judged):
        few = 0
    parts = [(judged, few), (rest, batch - few)]
    return torch.cat([kind[rows_of(step, n, len(kind), seed)] for kind, n in parts if n])


@ranks.together
def train_reward(
    model: RewardModel,
    data: RewardData,
    validation: RewardData | None = None,
    config: RewardConfig | None = None,
    *,
    teach: Teach | None = None,
    fresh: Texts | None = None,
    folder: Path | str | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    stop: Callable[[], bool] | None = None,
    resume: bool = True,
) -> StageResult:
    """Train `model` in place, on labelled samples and, where there is a teacher, on what `teach` says of fresh noises
    under the prompts of `fresh`; it ends with the averaged weights that did best on `validation` (the last, if None).

    The weights at the start are the first to be judged, so fine-tuning on labels that do not help changes nothing.

    Stopped early by `stop`, the run can be continued from `folder`, and the model is not to be used yet.

    Several ranks differ from one in the load-balance loss, whose load is that of each share.
    """
    config = config or RewardConfig()
    if config.select not in SELECTABLE:
        raise ValueError(
            f"Unknown figure {config.select!r} to select by: use one of {', '.join(SELECTABLE)}."
        )
    device = next(model.parameters()).device
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=config.rate, betas=(0.9, 0.98), weight_decay=config.weight_decay
    )
    average = Ema(model, config.average)
    best = Best(average, config.patience)

    if (teach is None) != (fresh is None):
        raise ValueError("A teacher and the texts that it is asked about go together: give both or none.")
    if fresh is not None:
        fresh_rows = fresh.scored.any(1).nonzero().flatten()
    asked = round(config.fresh * config.batch) if teach else 0
    labelled = config.batch - asked

    some = validation and validation.subset(validation.item.argsort(stable=True)[: config.looks])

    def look(twin: nn.Module) -> tuple[float, dict[str, float]]:
        found = evaluate_reward(twin, some, config.batch)
        return selected(found, config.select), found

    def loss_fn(step: int) -> tuple[Tensor, dict[str, float]]:
        looked = {}
        if validation is not None and step % config.evaluate_every == 0:
            looked = best.offer(step, look)
        draws = seed_step(config.seed, step)
        losses = {}
        if labelled:
            losses |= of_labels(mixed_rows(step, labelled, data, config.judged, config.seed), draws)
        if asked:
            losses |= of_teacher(draws)
        share = {True: labelled / config.batch, False: asked / config.batch}
        loss = sum(
            share[not name.startswith("taught_")] * getattr(config, name.removeprefix("taught_"), 1.0) * value
            for name, value in losses.items()
        )
        return loss, {name: value.item() for name, value in losses.items()} | looked

    def of_teacher(draws: torch.Generator) -> dict[str, Tensor]:
        """What the teacher says of fresh noises under prompts at random."""
        rows = fresh_rows[torch.randint(len(fresh_rows), (asked,), generator=draws)]
        noise, mine = torch.randn(asked, *data.shape, generator=draws), ranks.share(asked)
        rows, noise = rows[mine], noise[mine].to(device)
        picture, told = (part.to(device) for part in teach(noise, rows))
        hidden, mask, words, scored = fresh.take(rows, device)
        model.train()
        with torch.autocast(device.type, torch.bfloat16, enabled=config.bf16):
            out = model(noise, hidden, mask, words)
        losses = {
            "cross_entropy": cross_entropy(out.logits, told.softmax(-1), scored.float()),
            "foresee": (out.picture - picture).square().mean(),
            **out.losses,
        }
        return {f"taught_{name}": value for name, value in losses.items()}

    def of_labels(rows: Tensor, draws: torch.Generator) -> dict[str, Tensor]:
        """What labels and pictures say of the samples at rows."""
        mine, part = ranks.share(len(rows)), ranks.part(len(rows))
        noise = data.noises(rows[mine])
        if config.jitter:
            shaken = torch.randn(len(rows), *data.shape, generator=draws)[mine]
            noise = (1 - config.jitter**2) ** 0.5 * noise + config.jitter * shaken
        hidden, mask, words, _ = data.texts.take(data.item[rows[mine]], device)
        target, weights = data.target[rows[mine]].to(device), data.weight[rows].to(device)
        weight = weights[mine]
        model.train()
        with torch.autocast(device.type, torch.bfloat16, enabled=config.bf16):
            out = model(noise.to(device), hidden, mask, words)
        target = smooth(target, config.smoothing)
        losses = {
            "cross_entropy": cross_entropy(out.logits, target, weight, weights.sum() * part),
            **out.losses,
        }
        picture, known = data.pictures(rows)
        own = known[mine]
        if own.any():
            grain = grainy(picture, config.grain, draws)
            at = (known.cumsum(0) - 1)[mine][own]
            picture, grain = picture[at].to(device), grain[at].to(device)
            # one picture is not to count for a batch of them
            losses["foresee"] = own.double().mean().item() * (out.picture[own] - picture).square().mean()
            with torch.autocast(device.type, torch.bfloat16, enabled=config.bf16):
                logits = model.read(model.sight(grain), hidden[own], mask[own], words[own])
            read = cross_entropy(logits, target[own], weight[own], weights[known].sum() * part)
            losses["read"] = known.double().mean().item() * read
        return losses

    result = fit(
        {"reward": model},
        optimiser,
        loss_fn,
        steps=config.steps,
        folder=folder,
        save_every=config.save_every,
        on_progress=on_progress,
        stop=lambda: best.exhausted() or bool(stop and stop()),
        resume=resume,
        ema={"reward": average},
        schedule=warmup_cosine(config.steps),
        seed=config.seed,
        extra=best.extra,
        batch=config.batch,
    )
    ended = finish(model, average, best, result, look if validation is not None else None)
    if not result.stopped and validation is not None and len(validation) > len(some):
        ended.metrics = ranks.first(lambda: evaluate_reward(model, validation, config.batch))
    return ended


def finish(
    model: nn.Module,
    average: Ema,
    best: Best,
    result: FitResult,
    look: Look | None,
) -> StageResult:
    """Put the kept weights into the model, unless the run was stopped from outside."""
    model.eval()
    if result.stopped and not best.exhausted():
        return StageResult(result, {}, best.extra["step"])
    if result.stopped:
        result.stopped = False  # ended by its own choice
    elif look is not None:
        best.offer(result.step, look)
    if look is None:
        average.copy_to(model)
        return StageResult(result, dict(result.metrics), result.step)
    best.restore(model)
    return StageResult(result, best.extra["metrics"], best.extra["step"])


@torch.no_grad()
def predict(model: nn.Module, data: RewardData, batch: int = 64) -> Tensor:
    """logits (S, J, 10) of all samples, on the CPU, in evaluation mode."""
    return _predict(model, data, batch)[0]


def _predict(model: nn.Module, data: RewardData, batch: int) -> tuple[Tensor, float | None]:
    """Logits, and what share of the variance of the pictures at hand was foreseen."""
    device, parts = next(model.parameters()).device, []
    missed = varied = 0.0
    usual = data.picture_mean()
    with evaluating(model):
        for rows in torch.arange(len(data)).split(batch):
            hidden, mask, words, _ = data.texts.take(data.item[rows], device)
            out = model(data.noises(rows).to(device), hidden, mask, words)
            parts.append(out.logits.cpu())
            picture, known = data.pictures(rows)
            if known.any():
                missed += (out.picture.cpu()[known] - picture).square().sum().item()
                varied += (picture - usual).square().sum().item()
    return torch.cat(parts), 1 - missed / varied if varied else None


@torch.no_grad()
def evaluate_reward(model: nn.Module, data: RewardData, batch: int = 64) -> dict[str, float]:
    """How right the model is on labelled words.

    cross_entropy      weighted, against the labels as they are
    pearson, spearman  expected score against the label's, over words
    foreseen           share of the variance of the pictures' latents that is foreseen; where they are at hand
    pearson_within     the same with the mean of each word of each prompt taken away on both sides: what is left is
                       the noise's doing, and only that can a projector use; over words with two noises or more
    """
    logits, foreseen = _predict(model, data, batch)
    return figures(logits, data) | ({} if foreseen is None else {"foreseen": foreseen})


def figures(logits: Tensor, data: RewardData) -> dict[str, float]:
    """As `evaluate_reward`, of logits (S, J, 10) that are there already."""
    entropy = cross_entropy(logits, data.target, data.weight).item()
    there = data.weight > 0
    scores = torch.arange(data.target.shape[-1]) / (data.target.shape[-1] - 1)
    guess = RewardModel.expected(logits)[there].double().numpy()
    truth = (data.target * scores).sum(-1)[there].double().numpy()
    group = (data.item[:, None] * there.shape[1] + torch.arange(there.shape[1]))[there].numpy()
    _, group, size = np.unique(group, return_inverse=True, return_counts=True)
    several = size[group] > 1
    correlations = {
        "pearson": pearson(guess, truth),
        "spearman": spearman(guess, truth),
        "pearson_within": pearson(within(guess, group)[several], within(truth, group)[several]),
    }
    return {
        "cross_entropy": entropy,
        **{name: 0.0 if math.isnan(value) else value for name, value in correlations.items()},
        "words": float(there.sum()),
        "compared": float(several.sum()),
    }
