"""Stages 2 and 3: the projector P_theta learns to be harmless (warm-up), then to be useful (quasi-DPO).

    L_warmup = mean (projected - noise)^2 + kl KL(N(mean, std^2) || N(0, I))
    L_qdpo   = - sum_j w_j log sigmoid(beta gain_j),   gain_j = r_j(projected) - r_j(noise)
    L_final  = L_qdpo + tau constraint + shared pattern + router losses
    w_j      = (1 - r_j(noise))^focus + floor, averaged over an item's scored words; 1 an item on average

The reward model is frozen. A judge that the projector's gradient never sees (`core.foresight`) evaluates it now and
then, and the weights with the largest gain are kept: past that point the projector learns the reward model's mistakes.
The constraint and the pattern that the noises of a prompt share (off by default) are in `core.training.constraint`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Unpack

import torch
import torch.nn.functional as F
from torch import Tensor

from core import ranks
from core.loading import autocast
from core.networks.blocks import evaluating
from core.networks.projector import NoiseProjector, ProjectorOutput
from core.networks.reward import RewardModel
from core.noise import Shape, check_seeds, draw, drift, second
from core.training.constraint import constraint_terms, kl_normal, shared_pattern
from core.training.data import Texts
from core.training.loop import Hooks, seed_step, total
from core.training.stage import StageResult, run_stage

Judge = Callable[[Tensor, Tensor], Tensor]
"""noise (B, C, H, W) and rows (B,) of the validation texts -> expected scores (B, J) in [0, 1]."""

REPEATS = 4  # noises of a prompt in a batch, where the pattern that they share is penalised
FIRST_SEED = 3_000_000_000  # of the pairs that evaluate a projector
WORDLESS = "No word of the prompts carries meaning: give prompts that name things."


@dataclass(frozen=True)
class WarmupConfig:
    """Stage 2's settings."""

    steps: int = 200
    batch: int = 32
    rate: float = 5e-4  # peak learning rate of AdamW
    weight_decay: float = 0.01
    kl: float = 0.01  # weight of the KL term: larger lets std grow (to about its root)
    load_balance: float = 0.01
    router_z: float = 0.001
    average: float = 0.99  # decay of the moving average that is kept
    bf16: bool = False
    save_every: int = 200
    seed: int = 0


@dataclass(frozen=True)
class ProjectorConfig:
    """Stage 3's settings."""

    steps: int = 600
    batch: int = 32
    rate: float = 5e-4  # peak learning rate of AdamW
    weight_decay: float = 0.01
    beta: float = 10.0  # sharpness of the preference: gains are fractions of the whole score
    tau: float = 1.0  # weight of the constraint; NOTES.md has what less of it does
    focus: float = 2.0  # power of (1 - r_j(noise)) in w_j
    floor: float = 0.02  # weight left to a word that the noise already shows
    extra: float = 2.0  # weight of *nothing else* relative to a word
    kl: float = 0.01  # inside the constraint: KL of each latent's N(mean, std^2)
    moments: float = 10.0  # inside the constraint: KL of each item's overall mean and variance
    correlation: float = 0.1  # inside the constraint: spatial correlation
    distance: float = 1.0  # inside the constraint: 1 - cosine with the input
    shared: float = 0.0  # weight, beside the constraint, of the pattern that the noises of a prompt share
    load_balance: float = 0.01
    router_z: float = 0.001
    average: float = 0.99
    evaluate_every: int = 50  # steps between evaluations on the validation prompts
    patience: int = 6  # evaluations without a better one before training ends
    looks: int = 128  # pairs of prompt and seed in an evaluation
    bf16: bool = False
    save_every: int = 100
    seed: int = 0


def word_weights(before: Tensor, scored: Tensor, focus: float, floor: float, fraction: float = 1.0) -> Tensor:
    """w_j (B, J) from r_j(noise) and the importance of words, scored (B, J): larger where the noise scores low. fraction: of
    the batch that these B are.

    They sum to 1 an item on average, not in each: noise that shows its words is to be left alone, since a projector that
    is pushed further learns to draw things twice."""
    raw = ((1 - before.detach()).clamp(0, 1) ** focus + floor) * scored
    raw = raw / scored.sum(-1, keepdim=True).clamp_min(1)
    return raw / ranks.mean(raw.sum(-1).mean(), fraction).clamp_min(1e-8)


def expected_scores(reward: RewardModel, noise: Tensor, *text: Tensor) -> Tensor:
    """r_j (B, J) of a reward model for noise (B, C, H, W) and text: hidden, mask, words."""
    return RewardModel.expected(reward(noise, *text).logits)


def importance(texts: Texts, rows: Tensor, extra: float) -> Tensor:
    """Weights (B, J): 1 for a scored word, `extra` for *nothing else*, 0 for words without a score."""
    scored = texts.scored[rows].float()
    return torch.where(texts.extra[rows], extra * scored, scored)


@ranks.together
def train_warmup(
    projector: NoiseProjector,
    texts: Texts,
    shape: Shape,
    config: WarmupConfig = WarmupConfig(),
    **hooks: Unpack[Hooks],
) -> StageResult:
    """Stage 2, in place: after it the projected noise is standard normal and close to its input.

    With several ranks the load-balance loss is the mean of that of each share."""
    device = next(projector.parameters()).device

    def loss_fn(step: int) -> tuple[Tensor, dict[str, float]]:
        noise, xi, rows = _batch(texts, shape, None, config.batch, config.seed, step, device)
        hidden, mask, _, _ = texts.take(rows, device)
        projector.train()
        with autocast(device, config.bf16):
            out = projector(noise, hidden, mask)
        reconstruction, kl = (out.sample(xi) - noise).square().mean(), kl_normal(out)
        metrics = {"reconstruction": reconstruction.item(), "kl": kl.item(), "std": out.std.mean().item()}
        return reconstruction + config.kl * kl + _router_losses(out, config), metrics

    return run_stage("projector", projector, config, loss_fn, None, hooks)


@ranks.together
def train_projector(
    projector: NoiseProjector,
    reward: RewardModel,
    texts: Texts,
    shape: Shape,
    config: ProjectorConfig = ProjectorConfig(),
    *,
    validation: Texts | None = None,
    judge: Judge | None = None,
    seeds: Sequence[int] | None = None,
    **hooks: Unpack[Hooks],
) -> StageResult:
    """Stage 3, in place, from a warmed-up projector.

    texts: the training prompts (one is enough, for a single-prompt projector). seeds: train on these seeds only;
    None draws fresh noise at every step. validation: prompts on which the gain is measured; the weights with the largest
    gain are kept. judge: measures it on these prompts; None leaves that to the reward model itself.

    With several ranks the load-balance loss and the reported gain are the means of those of each share.
    """
    texts, repeats = usable(texts), REPEATS if config.shared else 1
    if config.batch % (repeats * ranks.world()) and repeats > 1:
        raise ValueError(
            f"The batch is {config.batch}: where what a prompt's noises share is weighed, each prompt comes {REPEATS} times "
            f"in each of {ranks.world()} processes, so make it a multiple of {REPEATS * ranks.world()}."
        )
    # an earlier reward model was not taught *nothing else*
    extra = config.extra if reward.config.extra else 0.0
    device = next(projector.parameters()).device
    allowed = None if seeds is None else check_seeds(seeds)
    trainable = [(p, p.requires_grad) for p in reward.parameters()]
    reward.eval().requires_grad_(False)

    def loss_fn(step: int) -> tuple[Tensor, dict[str, float]]:
        noise, xi, rows = _batch(texts, shape, allowed, config.batch, config.seed, step, device, repeats)
        hidden, mask, words, scored = texts.take(rows, device)
        fraction, weight = ranks.fraction(config.batch), importance(texts, rows, extra).to(device)
        projector.train()
        with autocast(device, config.bf16):
            out = projector(noise, hidden, mask)
            projected = out.sample(xi)
            after = expected_scores(reward, projected, hidden, mask, words)
            with torch.no_grad():
                before = expected_scores(reward, noise, hidden, mask, words)
        gain = after - before
        weights = word_weights(before, weight, config.focus, config.floor, fraction)
        dpo = -(weights * F.logsigmoid(config.beta * gain)).sum(-1).mean()
        terms = constraint_terms(projected, noise, out, fraction)
        constraint = total(getattr(config, name) * value for name, value in terms.items())
        named = {"qdpo": dpo, "constraint": constraint, "std": out.std.mean(), **terms}
        loss = dpo + config.tau * constraint + _router_losses(out, config)
        if config.shared:
            named["shared"] = shared_pattern(projected, noise, repeats)
            loss = loss + config.shared * named["shared"]
        metrics = {name: value.item() for name, value in named.items()}
        metrics["gain"] = gain[scored].mean().item()
        return loss, metrics

    def look(averaged: NoiseProjector) -> tuple[float, dict[str, float]]:
        assert validation is not None
        metrics = evaluate_projector(
            averaged, reward, validation, shape, count=config.looks, judge=judge, extra=extra
        )
        return metrics["gain" if judge is None else "judge_gain"], metrics

    try:
        evaluation = look if validation is not None else None
        return run_stage("projector", projector, config, loss_fn, evaluation, hooks)
    finally:
        for parameter, flag in trainable:
            parameter.requires_grad_(flag)


@torch.no_grad()
def evaluate_projector(
    projector: NoiseProjector,
    reward: RewardModel,
    texts: Texts,
    shape: Shape,
    *,
    count: int = 128,
    judge: Judge | None = None,
    extra: float = 2.0,
) -> dict[str, float]:
    """Gains by the reward model (gain) and the judge (judge_gain), weighted by `importance`, and drift (core.noise.drift),
    over `count` pairs of a prompt (in turn) and a seed (from FIRST_SEED on)."""
    usable_rows, extra = texts.scored.any(1).nonzero().flatten(), extra if reward.config.extra else 0.0
    if not len(usable_rows):
        raise ValueError(WORDLESS)
    device = next(projector.parameters()).device
    gains: dict[str, list[Tensor]] = {"gain": [], "judge_gain": []}
    noises, moved = [], []
    with evaluating(projector):
        for at in torch.arange(count).split(32):
            seeds, rows = (FIRST_SEED + at).tolist(), usable_rows[at % len(usable_rows)]
            noise, xi = draw(seeds, shape).to(device), second(seeds, shape).to(device)
            *text, _ = texts.take(rows, device)
            weight = importance(texts, rows, extra)
            projected = projector(noise, *text[:2]).sample(xi)
            noises.append(noise)
            moved.append(projected)
            gain = expected_scores(reward, projected, *text) - expected_scores(reward, noise, *text)
            changes = {"gain": gain}
            if judge is not None:
                changes["judge_gain"] = judge(projected, rows) - judge(noise, rows)
            for name, change in changes.items():
                gains[name].append((change.cpu() * weight).sum(1) / weight.sum(1))
    means = {name: torch.cat(values).mean().item() for name, values in gains.items() if values}
    return means | drift(torch.cat(moved), torch.cat(noises))


def _batch(
    texts: Texts,
    shape: Shape,
    seeds: list[int] | None,
    batch: int,
    seed: int,
    step: int,
    device: torch.device,
    repeats: int = 1,
) -> tuple[Tensor, Tensor, Tensor]:
    """noise, xi (B, C, H, W) and rows (B,) of texts, each `repeats` times in a row, of this rank's share of a step."""
    draws = seed_step(seed, step)
    rows = torch.randint(len(texts.prompts), (batch // repeats,), generator=draws).repeat_interleave(repeats)
    if seeds is None:
        noise = torch.randn(batch, *shape, generator=draws)
    else:
        noise = draw([seeds[i] for i in torch.randint(len(seeds), (batch,), generator=draws).tolist()], shape)
    xi = torch.randn(batch, *shape, generator=draws)
    mine = ranks.share(batch)
    return noise[mine].to(device), xi[mine].to(device), rows[mine]


def usable(texts: Texts) -> Texts:
    """Select the texts in which a word carries meaning; ValueError where there is none."""
    prompts = [prompt for prompt, scored in zip(texts.prompts, texts.scored, strict=True) if scored.any()]
    if not prompts:
        raise ValueError(WORDLESS)
    return texts.only(prompts)


def _router_losses(out: ProjectorOutput, config: WarmupConfig | ProjectorConfig) -> Tensor:
    return config.load_balance * out.losses["load_balance"] + config.router_z * out.losses["router_z"]
