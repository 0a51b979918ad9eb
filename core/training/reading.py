"""Stage 1b: a reader learns how well each word shows in a picture, from the picture's latents.

    L_read = sum_sj v_sj CE(target_sj, reader(picture_s, text_s)_j) / sum_sj v_sj

on finished pictures with labels, where no noise is in the way, then also on the foreseen ones (`train_reader`). A new
reader first learns it from pictures whose words and places are known, such as renders (`train_reading`):

    L_sight = CE(class of a thing, the map at its place)

The map is trained alone at first, until it shows what is where, then both. Without that, reading stays at the base rate
for a long time (NOTES.md). The paper has no reader.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Unpack

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core import ranks
from core.loading import autocast
from core.networks.blocks import evaluating
from core.networks.reward import PictureReader
from core.training.data import RewardData
from core.training.loop import Ema, FitResult, Hooks, fit, seed_step, total, warmup_cosine
from core.training.reward import cross_entropy, figures, grainy, mixed_rows, rows_of, selected, smooth
from core.training.stage import StageResult, run_stage

Foresee = Callable[[RewardData, Tensor], Tensor]
"""Samples and rows (B,) of them -> the latents (B, C, H, W) foreseen from their noises."""


@dataclass(frozen=True)
class ReadingConfig:
    """Settings of learning to read."""

    steps: int = 2500
    sight_steps: int = 200  # of these, the first on the map alone
    batch: int = 64  # pictures a step
    rate: float = 2e-3  # peak learning rate of AdamW
    weight_decay: float = 0.05
    grain: float = 0.3  # noise of up to this much is added to a picture
    average: float = 0.99  # decay of the moving average that is kept
    bf16: bool = False
    save_every: int = 200
    seed: int = 0


@dataclass
class Places:
    """Contents of the pictures of a RewardData: at (M, T, 2), x and y in [0, 1] of at most T things; kinds (M, T, A), a
    class for each of A attributes, -1 where there is no thing."""

    at: Tensor
    kinds: Tensor


@ranks.together
def train_reading(
    model: PictureReader,
    data: RewardData,
    places: Places,
    config: ReadingConfig = ReadingConfig(),
    **hooks: Unpack[Hooks],
) -> FitResult:
    """Train `model` in place on pictures and their labels; it ends with the averaged weights."""
    if (data.picture_row < 0).any():
        raise ValueError("Some samples have no picture to read: leave them out.")
    device, width = next(model.parameters()).device, model.config.head_width
    sizes = [int(kinds.max()) + 1 for kinds in places.kinds.unbind(-1)]
    torch.manual_seed(config.seed)
    names = nn.Linear(width, sum(sizes)).to(device)
    reading = nn.ModuleList([model.sight, model.word_in, model.sentence_in, model.reader, model.classify])
    optimiser = torch.optim.AdamW(
        [*reading.parameters(), *names.parameters()],
        lr=config.rate, betas=(0.9, 0.98), weight_decay=config.weight_decay,
    )  # fmt: skip
    average = Ema(reading, config.average)

    def loss_fn(step: int) -> tuple[Tensor, dict[str, float]]:
        draws = seed_step(config.seed, step)
        rows = rows_of(step, config.batch, len(data), config.seed)
        mine, fraction = ranks.share(config.batch), ranks.fraction(config.batch)
        picture = grainy(data.pictures(rows)[0], config.grain, draws)[mine].to(device)
        weight = data.weight[rows].to(device)
        things = int((places.kinds[data.picture_row[rows], :, 0] >= 0).sum())
        rows = rows[mine]
        model.train()
        with autocast(device, config.bf16):
            maps = model.sight(picture)
            losses = {"sight": _sight(names, maps, places, data.picture_row[rows], sizes, things * fraction)}
        if step >= config.sight_steps:
            hidden, mask, words, _ = data.texts.take(data.item[rows], device)
            with autocast(device, config.bf16):
                logits = model.read(maps, hidden, mask, words)
            target = data.target[rows].to(device)
            losses["read"] = cross_entropy(logits, target, weight[mine], weight.sum() * fraction)
        return total(losses.values()), {name: value.item() for name, value in losses.items()}

    result = fit(
        {"reading": reading, "names": names},
        optimiser,
        loss_fn,
        steps=config.steps,
        save_every=config.save_every,
        ema={"reading": average},
        schedule=warmup_cosine(config.steps),
        seed=config.seed,
        batch=config.batch,
        **hooks,
    )
    model.eval()
    if not result.stopped:
        average.copy_to(reading)
    return result


def _sight(
    names: nn.Linear, maps: Tensor, places: Places, pictures: Tensor, sizes: list[int], things: float
) -> Tensor:
    """Cross-entropy of every attribute of the things, read from maps (B, W, h, w) at their places. things: their average
    number in a share of the batch of this size."""
    height, width = maps.shape[-2:]
    at, kinds = places.at[pictures], places.kinds[pictures]
    cells = (at * torch.tensor([width, height])).long().clamp_min(0)
    x, y = cells[..., 0].clamp_max(width - 1), cells[..., 1].clamp_max(height - 1)
    item, thing = (kinds[..., 0] >= 0).nonzero(as_tuple=True)
    if not len(item):
        return maps.sum() * 0
    logits = names(maps[item, :, y[item, thing], x[item, thing]]).float().split(sizes, dim=-1)
    target = kinds[item, thing].to(maps.device)
    entropy = total(F.cross_entropy(of, target[:, a]) for a, of in enumerate(logits))
    return len(item) / max(things, 1e-8) * entropy


@torch.no_grad()
def evaluate_reading(
    model: PictureReader, data: RewardData, batch: int = 64, foresee: Foresee | None = None
) -> Tensor:
    """Logits (S, J, 10) read off the pictures, or off the foreseen ones."""
    device, logits = next(model.parameters()).device, []
    with evaluating(model):
        for rows in torch.arange(len(data)).split(batch):
            hidden, mask, words, _ = data.texts.take(data.item[rows], device)
            picture = (foresee(data, rows) if foresee else data.pictures(rows)[0]).to(device)
            logits.append(model.read(model.sight(picture), hidden, mask, words).cpu())
    return torch.cat(logits)


@dataclass(frozen=True)
class ReaderConfig:
    """Settings of learning to read from labels."""

    steps: int = 400  # at most; early stopping may end before
    foreseen: float = 0.25  # share of a batch that is read off the foreseen pictures
    judged: float = 0.25  # share of a batch that people judged, where there are any
    batch: int = 64  # pictures a step
    rate: float = 5e-4  # peak learning rate of AdamW
    weight_decay: float = 0.05
    smoothing: float = 0.3  # share of a label's mass given to the neighbouring scores
    grain: float = 0.3  # noise of up to this much is added to a finished picture
    average: float = 0.99  # decay of the moving average that is evaluated and kept
    evaluate_every: int = 50
    select: str = "pearson_within"  # on foreseen pictures where there are any: they will judge the projector
    patience: int = 6
    bf16: bool = False
    save_every: int = 100
    seed: int = 0


@ranks.together
def train_reader(
    model: PictureReader,
    data: RewardData,
    validation: RewardData | None = None,
    config: ReaderConfig = ReaderConfig(),
    *,
    foresee: Foresee | None = None,
    **hooks: Unpack[Hooks],
) -> StageResult:
    """Stage 1b, in place, on labelled samples with pictures, without `foresee` on finished ones only; the model ends with the
    averaged weights that did best on `validation`, the initial ones among them."""
    if not len(data) or (data.picture_row < 0).any():
        raise ValueError("Some samples have no picture to read: leave them out, or make their images again.")
    device = next(model.parameters()).device
    cache: dict[int, Tensor] = {}  # the foreseen pictures of the validation samples do not change

    def foreseen(samples: RewardData, rows: Tensor) -> Tensor:
        assert foresee is not None
        first = int(rows[0])
        if first not in cache:
            cache[first] = foresee(samples, rows).cpu()
        return cache[first]

    def look(averaged: PictureReader) -> tuple[float, dict[str, float]]:
        assert validation is not None
        finished = figures(evaluate_reading(averaged, validation, config.batch), validation)
        if foresee is None:
            return selected(finished, config.select), finished
        ahead = figures(evaluate_reading(averaged, validation, config.batch, foreseen), validation)
        finished = {f"finished_{name}": value for name, value in finished.items()}
        return selected(ahead, config.select), ahead | finished

    def loss_fn(step: int) -> tuple[Tensor, dict[str, float]]:
        draws = seed_step(config.seed, step)
        rows = mixed_rows(step, config.batch, data, config.judged, config.seed)
        picture = grainy(data.pictures(rows)[0], config.grain, draws)
        early = torch.rand(len(rows), generator=draws) < (config.foreseen if foresee else 0)
        mine, fraction = ranks.share(len(rows)), ranks.fraction(len(rows))
        weights = data.weight[rows].to(device)
        rows, picture, early = rows[mine], picture[mine], early[mine]
        if foresee and early.any():
            picture[early] = foresee(data, rows[early]).cpu()
        hidden, mask, words, _ = data.texts.take(data.item[rows], device)
        model.train()
        with autocast(device, config.bf16):
            logits = model(picture.to(device), hidden, mask, words)
        target = smooth(data.target[rows].to(device), config.smoothing)
        loss = cross_entropy(logits, target, weights[mine], weights.sum() * fraction)
        return loss, {"read": loss.item()}

    evaluation = look if validation is not None else None
    return run_stage("reader", model, config, loss_fn, evaluation, hooks, warmup=20)
