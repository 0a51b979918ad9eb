"""Tiny random models in the shipped formats, made once a test session: the same code loads them as loads the real ones.

`models(folder)` makes them; `studio_at(home, models)` is a Studio on them with a home of its own.
"""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import torch

from core import checkpoint
from core.networks.projector import NoiseProjector
from core.networks.reward import RewardModel
from core.training.diffuser import build_pipeline
from core.training.scorer_model import ScorerConfig, make_scorer, save_scorer
from data.shapes.scenes import vocabulary
from studio.settings import Settings

SIZE = 64  # pixels a side: latents 8 x 8
STEPS = 2  # sampling steps that tests take
SMALL: dict[str, Any] = {
    "width": 16, "heads": 2, "depth": 1, "experts": 2, "top_k": 1, "channels": (16, 32),
}  # fmt: skip


def models(folder: Path) -> Path:
    """Write diffuser, scorer, projector and reward below `folder`, each random from a fixed seed."""
    torch.manual_seed(0)
    sizes = {"channels": (16, 32), "text_width": 32, "text_layers": 1, "latent_size": SIZE // 8}
    pipe = build_pipeline(vocabulary("small"), **sizes)
    pipe.save_pretrained(folder / "diffuser")
    config = ScorerConfig(
        image=SIZE, patch=8, vision_width=32, vision_depth=1, width=32, depth=1, heads=2, feed=64
    )
    save_scorer(answering(make_scorer(vocabulary("small"), config)), folder / "scorer")
    shape = {"latent_channels": 4, "text_width": int(pipe.unet.config.cross_attention_dim)}
    torch.manual_seed(1)
    projector = NoiseProjector(**shape, **SMALL)
    with torch.no_grad():  # a fresh one changes almost nothing; this one does
        projector.out.weight.normal_(std=0.2)
    checkpoint.save(projector, folder / "projector")
    checkpoint.save(RewardModel(**shape, **SMALL, head_width=16, head_depth=1), folder / "reward")
    return folder


def answering(scorer: Any, least: float = 0.9) -> Any:
    """A random scorer, changed so that it answers with a digit, as one that was trained does: the ten digits' rows of its
    head are raised together, by what its hidden states have in common."""
    head, digits = scorer.model.get_output_embeddings(), scorer.dialogue.digits
    images = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), dtype=np.uint8)
    asked = (images, ["a red circle", "blue", "a star above a square", "the ring"])
    for _ in range(20):
        states = np.stack([score.hidden for row in scorer.score(*asked, least=0) for score in row])
        shared = torch.from_numpy(states.astype(np.float32).mean(0))
        scorer.score(*asked, least=least)
        if not any(scorer.missing):
            return scorer
        with torch.no_grad():
            head.weight[digits] += 2 * shared / shared.square().sum()
    raise AssertionError("this scorer cannot be made to answer with digits")


def settings_at(home: Path, folder: Path) -> Settings:
    """Settings for a studio whose models lie in `folder`."""
    networks = {name: folder / name for name in ("projector", "reward", "labels")}
    models = {name: str(folder / model) for name, model in (("backbone", "diffuser"), ("scorer", "scorer"))}
    # MCP's package takes a second of each start
    return dataclasses.replace(Settings(), home=home, **networks, **models, device="cpu", batch=4, mcp="no")


def change_settings(studio: Any, **changes: Any) -> Settings:
    """Change the settings of a studio and of its parts, which all hold them; the new ones."""
    settings = dataclasses.replace(studio.settings, **changes)
    for part in (studio, *vars(studio).values()):
        if hasattr(part, "settings"):
            part.settings = settings
    return settings


def studio_at(home: Path, folder: Path) -> Any:
    """A Studio on these models with an empty home."""
    from studio.studio import Studio

    return Studio(settings_at(home, folder))
