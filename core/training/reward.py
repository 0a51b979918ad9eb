"""Stage 1c: the reward model R_phi learns from a teacher and from labelled samples what the noise will show.

    L_reward = foresee mean (foreseen picture - the teacher's)^2 + CE(the teacher's word scores, R_phi(noise, text))
             + the same on labelled samples: sum_sj v_sj CE(target_sj, R_phi(noise_s, text_s)_j) / sum_sj v_sj
               + foresee mean (foreseen picture - picture)^2 + read CE(target, read(picture)) + router losses

The teacher (`core.foresight`) labels any number of fresh noises and prompts at the cost of one call of the denoiser
each, where a labelled sample costs all sampling steps, a decoding and a scoring. target is a person's score (one-hot) or
the scorer's distribution over 0..9, v the label's weight; a fixed share of every batch are images that people judged.

Departures from the paper (arXiv 2510.14526), which learns from labelled samples alone: the teacher, and the foreseen
picture, whose latents say in every cell what the noise became, where a score says it once a word.

Against overfitting: dropout, weight decay, jittered noise, label smoothing over neighbouring scores, a moving average of
the weights, and early stopping on held-out prompts.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Unpack

import numpy as np
import torch
from torch import Tensor, nn

from core import ranks
from core.loading import autocast
from core.metrics import pearson, spearman, within
from core.networks.blocks import evaluating
from core.networks.reward import RewardModel
from core.training.data import RewardData, Texts
from core.training.loop import Hooks, seed_step, total
from core.training.stage import StageResult, run_stage

SELECTABLE = ("cross_entropy", "pearson", "spearman", "pearson_within")

Teach = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""A teacher for some texts: noise (B, C, H, W) and rows (B,) of them -> the foreseen picture (B, C, H, W) and the logits of
its words (B, J, 10)."""


@dataclass(frozen=True)
class RewardConfig:
    """Stage 1's settings."""

    steps: int = 2000  # at most; early stopping may end before
    batch: int = 64  # samples a step
    fresh: float = 0.75  # share of them that are fresh noises labelled by the teacher; without a teacher 0
    judged: float = 0.25  # share of the labelled ones that people judged, where there are any
    rate: float = 1e-3  # peak learning rate of AdamW
    weight_decay: float = 0.05
    smoothing: float = 0.3  # share of a label's mass given to the neighbouring scores
    jitter: float = 0.1  # noise <- sqrt(1 - jitter^2) noise + jitter N(0, I)
    foresee: float = 1.0  # weight of the squared error of the foreseen picture
    read: float = 0.5  # weight of reading the scores off the picture itself
    grain: float = 0.3  # noise of up to this much is added to a picture that is read
    load_balance: float = 0.01  # weight of the router's load-balance loss
    router_z: float = 0.001  # weight of the router's z-loss
    average: float = 0.995  # decay of the moving average that is evaluated and kept
    evaluate_every: int = 100  # steps between evaluations on the validation prompts
    select: str = "pearson_within"  # figure that selects the weights: one of SELECTABLE
    patience: int = 6  # evaluations without a better one before training ends
    looks: int = 1024  # validation samples in an evaluation, all noises of a prompt together
    bf16: bool = False  # autocast: faster on recent CPUs and on GPUs
    save_every: int = 200
    seed: int = 0


def smooth(target: Tensor, amount: float) -> Tensor:
    """target (..., 10) with `amount` of each score's mass moved to its two neighbours; off the ends it stays."""
    up = torch.cat([target[..., :1] * 0, target[..., :-1]], -1)
    down = torch.cat([target[..., 1:], target[..., -1:] * 0], -1)
    ends = torch.zeros_like(target)
    ends[..., 0], ends[..., -1] = target[..., 0], target[..., -1]
    return (1 - amount) * target + amount / 2 * (up + down + ends)


def cross_entropy(logits: Tensor, target: Tensor, weight: Tensor, divisor: Tensor | None = None) -> Tensor:
    """Weighted mean cross-entropy of logits and target (B, J, 10) with weight (B, J). divisor: in place of their sum."""
    each = -(target * logits.log_softmax(-1)).sum(-1)
    return (each * weight).sum() / (weight.sum() if divisor is None else divisor).clamp_min(1e-8)


def grainy(picture: Tensor, most: float, draws: torch.Generator) -> Tensor:
    """picture (B, C, H, W) with normal noise added, each at a random strength from 0 to `most`."""
    grain = most * torch.rand(len(picture), 1, 1, 1, generator=draws)
    return picture + (grain * torch.randn(picture.shape, generator=draws)).to(picture.device)


def rows_of(step: int, batch: int, count: int, seed: int) -> Tensor:
    """The samples of a step: each once in every pass over `count`, in an order that is a function of (seed, pass)."""
    places = torch.arange(step * batch, (step + 1) * batch)
    rows = torch.empty_like(places)
    for turn in (places // count).unique().tolist():
        order = torch.randperm(count, generator=torch.Generator().manual_seed((seed * 65_537 + turn) % 2**32))
        mask = places // count == turn
        rows[mask] = order[places[mask] % count]
    return rows


def selected(metrics: dict[str, float], by: str) -> float:
    """The figure that selects the weights, larger is better: the cross-entropy where no word has two noises to compare."""
    if by == "cross_entropy" or by == "pearson_within" and not metrics["compared"]:
        return -metrics["cross_entropy"]
    return metrics[by]


def mixed_rows(step: int, batch: int, data: RewardData, share: float, seed: int) -> Tensor:
    """The samples of a step: a `share` of images that people judged, where there are any, then others, each in turn."""
    judged, rest = data.judged.nonzero().flatten(), (~data.judged).nonzero().flatten()
    count = 0 if not len(judged) else round(share * batch) if len(rest) else batch
    kinds = ((judged, count), (rest, batch - count))
    return torch.cat([samples[rows_of(step, n, len(samples), seed)] for samples, n in kinds if n])


@ranks.together
def train_reward(
    model: RewardModel,
    data: RewardData,
    validation: RewardData | None = None,
    config: RewardConfig = RewardConfig(),
    *,
    teach: Teach | None = None,
    fresh: Texts | None = None,
    **hooks: Unpack[Hooks],
) -> StageResult:
    """Stage 1c, in place, on labelled samples and, with a teacher, on what `teach` answers for fresh noises under the prompts
    of `fresh`; the model ends with the averaged weights that did best on `validation` (the last ones without it).

    The initial weights are evaluated first, so fine-tuning on labels that do not help changes nothing. With several
    ranks the load-balance loss is the mean of that of each share.
    """
    if config.select not in SELECTABLE:
        raise ValueError(f"Unknown figure to select by, {config.select!r}: use {', '.join(SELECTABLE)}.")
    if (teach is None) != (fresh is None):
        raise ValueError("A teacher and the texts that it is asked about go together: give both or none.")
    device = next(model.parameters()).device
    taught = round(config.fresh * config.batch) if teach else 0
    labelled = config.batch - taught

    def look(averaged: RewardModel) -> tuple[float, dict[str, float]]:
        metrics = evaluate_reward(averaged, first, config.batch)
        return selected(metrics, config.select), metrics

    def loss_fn(step: int) -> tuple[Tensor, dict[str, float]]:
        draws = seed_step(config.seed, step)
        losses: dict[str, Tensor] = {}
        if labelled:
            losses |= label_losses(mixed_rows(step, labelled, data, config.judged, config.seed), draws)
        if taught:
            losses |= teacher_losses(draws)
        share = {True: labelled / config.batch, False: taught / config.batch}
        loss = total(
            share[not name.startswith("taught_")] * getattr(config, name.removeprefix("taught_"), 1.0) * value
            for name, value in losses.items()
        )
        return loss, {name: value.item() for name, value in losses.items()}

    def teacher_losses(draws: torch.Generator) -> dict[str, Tensor]:
        """Losses against the teacher, on fresh noises under random prompts."""
        assert teach is not None and fresh is not None
        usable = fresh.scored.any(1).nonzero().flatten()
        rows = usable[torch.randint(len(usable), (taught,), generator=draws)]
        noise, mine = torch.randn(taught, *data.shape, generator=draws), ranks.share(taught)
        rows, noise = rows[mine], noise[mine].to(device)
        picture, answers = (tensor.to(device) for tensor in teach(noise, rows))
        hidden, mask, words, scored = fresh.take(rows, device)
        model.train()
        with autocast(device, config.bf16):
            out = model(noise, hidden, mask, words)
        losses = {
            "cross_entropy": cross_entropy(out.logits, answers.softmax(-1), scored.float()),
            "foresee": (out.picture - picture).square().mean(),
            **out.losses,
        }
        return {f"taught_{name}": value for name, value in losses.items()}

    def label_losses(rows: Tensor, draws: torch.Generator) -> dict[str, Tensor]:
        """Losses against the labels and the pictures of the samples at rows."""
        mine, fraction = ranks.share(len(rows)), ranks.fraction(len(rows))
        noise = data.noises(rows[mine])
        if config.jitter:
            shaken = torch.randn(len(rows), *data.shape, generator=draws)[mine]
            noise = (1 - config.jitter**2) ** 0.5 * noise + config.jitter * shaken
        hidden, mask, words, _ = data.texts.take(data.item[rows[mine]], device)
        target, weights = data.target[rows[mine]].to(device), data.weight[rows].to(device)
        weight = weights[mine]
        model.train()
        with autocast(device, config.bf16):
            out = model(noise.to(device), hidden, mask, words)
        target = smooth(target, config.smoothing)
        losses = {
            "cross_entropy": cross_entropy(out.logits, target, weight, weights.sum() * fraction),
            **out.losses,
        }
        picture, present = data.pictures(rows)
        shown = present[mine]
        if shown.any():
            grain = grainy(picture, config.grain, draws)
            at = (present.cumsum(0) - 1)[mine][shown]
            picture, grain = picture[at].to(device), grain[at].to(device)
            # weighted by the share of items with a picture: one picture is not to count for a whole batch
            losses["foresee"] = shown.double().mean().item() * (out.picture[shown] - picture).square().mean()
            with autocast(device, config.bf16):
                logits = model.read(model.sight(grain), hidden[shown], mask[shown], words[shown])
            read = cross_entropy(logits, target[shown], weight[shown], weights[present].sum() * fraction)
            losses["read"] = present.double().mean().item() * read
        return losses

    if validation is None:
        return run_stage("reward", model, config, loss_fn, None, hooks)
    first = validation.subset(validation.item.argsort(stable=True)[: config.looks])
    result = run_stage("reward", model, config, loss_fn, look, hooks)
    if not result.fit.stopped and len(validation) > len(first):
        result.metrics = ranks.first(lambda: evaluate_reward(model, validation, config.batch))
    return result


@torch.no_grad()
def predict(model: nn.Module, data: RewardData, batch: int = 64) -> Tensor:
    """logits (S, J, 10) of all samples, on the CPU, in evaluation mode."""
    return _predict(model, data, batch)[0]


def _predict(model: nn.Module, data: RewardData, batch: int) -> tuple[Tensor, float | None]:
    """Logits, and the share of the variance of the available pictures that was foreseen."""
    device, logits = next(model.parameters()).device, []
    error = variance = 0.0
    mean = data.picture_mean()
    with evaluating(model):
        for rows in torch.arange(len(data)).split(batch):
            hidden, mask, words, _ = data.texts.take(data.item[rows], device)
            out = model(data.noises(rows).to(device), hidden, mask, words)
            logits.append(out.logits.cpu())
            picture, present = data.pictures(rows)
            if present.any():
                error += (out.picture.cpu()[present] - picture).square().sum().item()
                variance += (picture - mean).square().sum().item()
    return torch.cat(logits), 1 - error / variance if variance else None


@torch.no_grad()
def evaluate_reward(model: nn.Module, data: RewardData, batch: int = 64) -> dict[str, float]:
    """Accuracy of the model on labelled words.

    cross_entropy      weighted, against the labels as they are
    pearson, spearman  expected score against the label's, over words
    pearson_within     the same after subtracting the mean of each word of each prompt on both sides: what is left is due
                       to the noise, and only that can a projector use; over words with two noises or more
    foreseen           share of the variance of the pictures' latents that is foreseen, where pictures are available
    """
    logits, foreseen = _predict(model, data, batch)
    return figures(logits, data) | ({} if foreseen is None else {"foreseen": foreseen})


def figures(logits: Tensor, data: RewardData) -> dict[str, float]:
    """The figures of `evaluate_reward` from logits (S, J, 10)."""
    entropy = cross_entropy(logits, data.target, data.weight).item()
    labelled = data.weight > 0
    scores = torch.arange(data.target.shape[-1]) / (data.target.shape[-1] - 1)
    guess = RewardModel.expected(logits)[labelled].double().numpy()
    truth = (data.target * scores).sum(-1)[labelled].double().numpy()
    group = (data.item[:, None] * labelled.shape[1] + torch.arange(labelled.shape[1]))[labelled].numpy()
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
        "words": float(labelled.sum()),
        "compared": float(several.sum()),
    }
