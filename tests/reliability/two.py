"""Two processes that work as one, as a launcher would start them: `start(work, ...)`; what they do is below."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from core import ranks
from core.networks.projector import NoiseProjector
from core.networks.reward import RewardModel
from core.training import projector as stages
from core.training.data import RewardData, Sample, Texts
from core.training.loop import fit
from core.training.reward import RewardConfig, train_reward
from core.words import units
from tests.browser.conftest import Forked, fork, free_port
from tests.tiny import SMALL

SHAPE = (4, 8, 8)
DIES_WITH = 7  # a batch of this many is the death of the second process, in its third step


def start(log: Path, work: Callable[..., Any], *given: Any, **env: str) -> list[Forked]:
    """Two processes that do this, as rank 0 and rank 1; what they print is in LOG.0 and LOG.1."""
    place = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    return [
        fork({**os.environ, **env, **place, "RANK": str(rank), "LOCAL_RANK": str(rank)},
             log.with_suffix(f".{rank}"), work, *given)
        for rank in range(2)
    ]  # fmt: skip


def data() -> RewardData:
    """30 samples of 5 prompts with random texts and labels; two of three have a picture."""
    draws, prompts = torch.Generator().manual_seed(0), [f"a red circle {w} a blue square" for w in "vwxyz"]
    count, words, tokens = len(prompts), len(units(prompts[0])), 10
    texts = Texts(
        prompts,
        torch.randn(count, tokens, 32, generator=draws),
        torch.ones(count, tokens, dtype=torch.bool),
        torch.rand(count, words, tokens, generator=draws),
        torch.ones(count, words, dtype=torch.bool),
        torch.zeros(count, words, dtype=torch.bool),
    )
    samples = [
        Sample(prompts[i % count], i, {1: (i % 10, 1.0 + i % 3), 2: ([0.1] * 10, 2.0)}, None,
               torch.randn(SHAPE, generator=draws) if i % 3 else None)
        for i in range(30)
    ]  # fmt: skip
    return RewardData.build(samples, texts, SHAPE)


def unshared() -> list[float]:
    """Losses of a training that no other process takes part in (fine-tuning and the embedded models' are such)."""
    torch.manual_seed(0)
    layer, losses = nn.Linear(3, 1), []

    def loss(_step: int) -> tuple[torch.Tensor, dict[str, float]]:
        return layer(torch.ones(2, 3)).square().mean(), {}

    optimiser = torch.optim.SGD(layer.parameters(), lr=0.1)
    fit({"layer": layer}, optimiser, loss, steps=4, on_progress=lambda p: losses.append(p.metrics["loss"]))
    return losses


def train(folder: Path) -> dict[str, Any]:
    """Losses and weights of a reward model, stopped after 4 steps and gone on with, and of a projector."""
    seen: dict[str, Any] = {"reward": [], "warmup": [], "projector": [], "unshared": unshared()}
    given, shape = data(), {"latent_channels": 4, "text_width": 32}

    def hooks(name: str) -> dict[str, Any]:
        return {"on_progress": lambda p: seen[name].append(p.metrics["loss"]), "folder": folder / name}

    torch.manual_seed(1)
    model = RewardModel(**shape, **SMALL, head_width=16, head_depth=1, dropout=0.0)
    again, config = RewardModel.from_config(model.config), RewardConfig(steps=8, batch=9, evaluate_every=3)
    stopping = hooks("reward") | {"stop": lambda: len(seen["reward"]) == 4}
    assert train_reward(model, given, given, config, **stopping).fit.stopped
    seen["best"] = train_reward(again, given, given, config, **hooks("reward")).best_step
    noises = NoiseProjector(**shape, **SMALL)
    stages.train_warmup(noises, given.texts, SHAPE, stages.WarmupConfig(steps=3, batch=5), **hooks("warmup"))
    config = stages.ProjectorConfig(steps=6, batch=5, evaluate_every=3)
    stages.train_projector(noises, again, given.texts, SHAPE, config, **hooks("projector"))
    return {**seen, "weights": {"reward": again.state_dict(), "projector": noises.state_dict()}}


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def trained(folder: Path) -> None:
    """Rank 0 leaves in the folder what `train` found, and what it was told when the second process died."""
    torch.set_num_threads(1)
    draw_batch = stages._batch

    def batch(*given: Any) -> Any:
        return die() if given[3] == DIES_WITH and given[5] == 2 else draw_batch(*given)

    with ranks.group():
        if ranks.rank():
            stages._batch = batch
            ranks.follow()
            return
        found, began = train(folder), time.monotonic()
        noises = NoiseProjector(latent_channels=4, text_width=32, **SMALL)
        config = stages.WarmupConfig(steps=50, batch=DIES_WITH)
        try:
            stages.train_warmup(noises, data().texts, SHAPE, config)
        except ranks.Lost as error:
            found["lost"], found["seconds"] = str(error), time.monotonic() - began
        torch.save(found, folder / "found.pt")
        os._exit(0)  # there is nobody left to leave the group with


def command(dying: str, *arguments: str) -> None:
    """`python -m studio ARGUMENTS`; the process of this rank is killed when it has finished a batch."""
    from studio.__main__ import main
    from studio.images import shards

    torch.set_num_threads(1)
    if os.environ["RANK"] == dying:
        write = shards.Shard.write

        def last(*given: Any) -> None:
            write(*given)
            die()

        shards.Shard.write = last
    raise SystemExit(main(arguments))
