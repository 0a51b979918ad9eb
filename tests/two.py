"""Two processes that work as one, as a launcher would start them: `start(work, *arguments)`; their work is below."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
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
from tests.tiny import SMALL

ROOT = Path(__file__).resolve().parent.parent
SHAPE = (4, 8, 8)
DIES_WITH = 7  # a batch of this many is the death of the second process, in its third step


def environment(rank: int, port: int) -> dict[str, str]:
    names = {
        "RANK": rank,
        "LOCAL_RANK": rank,
        "WORLD_SIZE": 2,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
    }
    return {name: str(value) for name, value in names.items()}


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def start(*arguments: Any, env: dict[str, str] | None = None) -> list[subprocess.Popen]:
    """`python -m tests.two ARGUMENTS` as rank 0 and rank 1."""
    port = free_port()
    return [
        subprocess.Popen(
            [sys.executable, "-m", "tests.two", *map(str, arguments)],
            cwd=ROOT, env={**os.environ, **(env or {}), **environment(rank, port)}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for rank in range(2)
    ]  # fmt: skip


# ---- what they do -------------------------------------------------------------------------------------------------


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
    first = train_reward(
        model, given, given, config, **hooks("reward"), stop=lambda: len(seen["reward"]) == 4
    )
    assert first.fit.stopped
    seen["best"] = train_reward(again, given, given, config, **hooks("reward")).best_step
    noises = NoiseProjector(**shape, **SMALL)
    stages.train_warmup(noises, given.texts, SHAPE, stages.WarmupConfig(steps=3, batch=5), **hooks("warmup"))
    config = stages.ProjectorConfig(steps=6, batch=5, evaluate_every=3)
    stages.train_projector(noises, again, given.texts, SHAPE, config, **hooks("projector"))
    weights = {"reward": again.state_dict(), "projector": noises.state_dict()}
    return {**seen, "weights": weights}


def fatal_training() -> None:
    """A training in which the second process dies."""
    config = stages.WarmupConfig(steps=50, batch=DIES_WITH)
    noises = NoiseProjector(latent_channels=4, text_width=32, **SMALL)
    stages.train_warmup(noises, data().texts, SHAPE, config)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def trained(folder: str) -> None:
    """Rank 0 leaves in FOLDER what `train` found, and what it was told when the second process died."""
    draw_batch = stages._batch

    def batch(*given: Any) -> Any:
        return die() if given[3] == DIES_WITH and given[5] == 2 else draw_batch(*given)

    with ranks.group():
        if ranks.rank():
            stages._batch = batch
            ranks.follow()
            return
        found, began = train(Path(folder)), time.monotonic()
        try:
            fatal_training()
        except ranks.Lost as error:
            found["lost"], found["seconds"] = str(error), time.monotonic() - began
        torch.save(found, Path(folder) / "found.pt")
        os._exit(0)  # there is nobody left to leave the group with


def command(who: str, *arguments: str) -> int:
    """`python -m studio ARGUMENTS`; process WHO is killed when it has finished a batch."""
    from studio.__main__ import main
    from studio.images import shards

    if os.environ["RANK"] == who:
        write = shards.Shard.write

        def last(*given: Any) -> None:
            write(*given)
            die()

        shards.Shard.write = last
    return main(arguments)


def main(arguments: Sequence[str]) -> int:
    torch.set_num_threads(1)
    if arguments[0] == "train":
        trained(arguments[1])
        return 0
    return command(*arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
