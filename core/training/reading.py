"""Before stage 1: the reward model learns to read pictures whose words are known, such as renders.

    L_sight = CE(what stands at a place, what the map shows there)
    L_read  = CE(target_j, read(picture, text)_j) + L_sight

First the map alone, until it shows what is where, then both. Without the first, reading stays at the base rate for a
long time: NOTES.md. Only the part of the model that reads is trained; trunk and foresight are not touched.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core import ranks
from core.networks.reward import RewardModel
from core.training.data import RewardData
from core.training.loop import Ema, FitResult, Progress, fit, seed_step, warmup_cosine
from core.training.reward import cross_entropy, grainy, rows_of


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
    """What stands where in the pictures of a RewardData: at (M, T, 2) x and y in [0, 1], of at most T things;
    kinds (M, T, A) a class for each of A attributes, -1 where there is no thing."""

    at: Tensor
    kinds: Tensor


@ranks.together
def train_reading(
    model: RewardModel,
    data: RewardData,
    places: Places,
    config: ReadingConfig | None = None,
    *,
    folder: Path | str | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    stop: Callable[[], bool] | None = None,
    resume: bool = True,
) -> FitResult:
    """Train `model` in place on pictures and their labels; it ends with the averaged weights."""
    config = config or ReadingConfig()
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
        picture, _ = data.pictures(rows)
        mine, part = ranks.share(config.batch), ranks.part(config.batch)
        picture = grainy(picture, config.grain, draws)[mine].to(device)
        weight = data.weight[rows].to(device)
        things = int((places.kinds[data.picture_row[rows], :, 0] >= 0).sum())
        rows = rows[mine]
        model.train()
        with torch.autocast(device.type, torch.bfloat16, enabled=config.bf16):
            seen = model.sight(picture)
            sight = _sight(names, seen, places, data.picture_row[rows], sizes, things * part)
        losses = {"sight": sight}
        if step >= config.sight_steps:
            hidden, mask, words, _ = data.texts.take(data.item[rows], device)
            with torch.autocast(device.type, torch.bfloat16, enabled=config.bf16):
                logits = model.read(seen, hidden, mask, words)
            target = data.target[rows].to(device)
            losses["read"] = cross_entropy(logits, target, weight[mine], weight.sum() * part)
        return sum(losses.values()), {name: value.item() for name, value in losses.items()}

    result = fit(
        {"reading": reading, "names": names},
        optimiser,
        loss_fn,
        steps=config.steps,
        folder=folder,
        save_every=config.save_every,
        on_progress=on_progress,
        stop=stop,
        resume=resume,
        ema={"reading": average},
        schedule=warmup_cosine(config.steps),
        seed=config.seed,
        batch=config.batch,
    )
    model.eval()
    if not result.stopped:
        average.copy_to(reading)
    return result


def _sight(
    names: nn.Linear, seen: Tensor, places: Places, pictures: Tensor, sizes: list[int], things: float
) -> Tensor:
    """Cross-entropy of every attribute of the things at their places, of the maps seen (B, W, h, w); things: how
    many there are in a share of the batch like this one, on average."""
    height, width = seen.shape[-2:]
    at, kinds = places.at[pictures], places.kinds[pictures]
    cells = (at * torch.tensor([width, height])).long().clamp_min(0)
    x, y = cells[..., 0].clamp_max(width - 1), cells[..., 1].clamp_max(height - 1)
    item, thing = (kinds[..., 0] >= 0).nonzero(as_tuple=True)
    told = names(seen[item, :, y[item, thing], x[item, thing]]).float().split(sizes, dim=-1)
    wanted = kinds[item, thing].to(seen.device)
    if not len(item):
        return seen.sum() * 0
    return (
        len(item)
        / max(things, 1e-8)
        * sum(F.cross_entropy(logits, wanted[:, a]) for a, logits in enumerate(told))
    )


@torch.no_grad()
def evaluate_reading(model: RewardModel, data: RewardData, batch: int = 64) -> Tensor:
    """Expected scores (S, J) in [0, 1], read off the pictures."""
    device, parts = next(model.parameters()).device, []
    model.eval()
    for rows in torch.arange(len(data)).split(batch):
        hidden, mask, words, _ = data.texts.take(data.item[rows], device)
        picture = data.pictures(rows)[0].to(device)
        parts.append(RewardModel.expected(model.read(model.sight(picture), hidden, mask, words)).cpu())
    return torch.cat(parts)
