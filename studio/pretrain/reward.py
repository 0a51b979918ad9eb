"""`python -m studio pretrain reward`: a reward model that can read a picture of the shapes world, by its latents.

It has seen renders only, and knows nothing yet of what noise becomes: that is what collected samples teach it
(`python -m studio train reward --set start=used`).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from core import checkpoint
from core.backbone import Backbone
from core.diffusion import Diffuser
from core.metrics import auc
from core.networks.reward import RewardModel
from core.progress import OnProgress, Stop
from core.training.data import RewardData, Sample, Texts
from core.training.loop import FitResult
from core.training.reading import Places, ReadingConfig, evaluate_reading, train_reading
from core.words import units
from data.shapes.bodies import clear, truths_of
from data.shapes.questions import changed
from data.shapes.render import layout
from data.shapes.scenes import WORLDS
from studio.images.detecting import by_index
from studio.numbers import plain
from studio.pretrain.renders import example_scene, latents_of

QUESTIONS = 2  # prompts about a picture
_STREAM = 50_423


def questions(index: int, world: str) -> list[tuple[str, dict[int, float]]]:
    """QUESTIONS prompts about render `index`, with the truth of each scored word, and of *nothing else*, by its index."""
    scene = example_scene(index, world)
    bodies = clear(layout(scene, index)[1])
    rng, pairs = np.random.default_rng([_STREAM, index]), []
    for _ in range(QUESTIONS):
        other = changed(scene, bodies, WORLDS[world], rng, single=False)
        truths, alone = truths_of(other, bodies)
        nothing_else = units(other.prompt)[-1].index
        pairs.append((other.prompt, {**by_index(other.prompt, other, truths), nothing_else: alone}))
    return pairs


def places_of(count: int, world: str) -> Places:
    """Places, colours and shapes of the things in the first renders."""
    known = WORLDS[world]
    at, kinds = torch.zeros(count, known.max_objects, 2), torch.full((count, known.max_objects, 2), -1)
    for i in range(count):
        scene = example_scene(i, world)
        for k, p in enumerate(layout(scene, i)[1]):
            at[i, k] = torch.tensor([p.x, p.y])
            colour, shape = scene.things[p.thing].colour, p.shape
            kinds[i, k] = torch.tensor([known.colours.index(colour), known.shapes.index(shape)])
    return Places(at, kinds)


def reading_data(
    latents: Tensor, world: str, encode: Callable[[list[str]], object], emphasis: float = 1.0
) -> RewardData:
    """Every picture with QUESTIONS prompts, in order. A relation weighs `emphasis` times as much as other words."""
    rows = [(i, *question) for i in range(len(latents)) for question in questions(i, world)]
    texts = Texts.encode(encode, [prompt for _, prompt, _ in rows])
    samples = []
    for i, prompt, truths in rows:
        weights = [emphasis if word.kind == "relation" else 1.0 for word in units(prompt)]
        samples.append(Sample(prompt, i, {j: (round(9 * truth), weights[j]) for j, truth in truths.items()}))
    data = RewardData.build(samples, texts, tuple(latents.shape[1:]))
    data.picture, data.picture_row = latents, torch.tensor([i for i, _, _ in rows])
    return data


def figures_of(model: RewardModel, data: RewardData) -> dict[str, dict[str, float]]:
    """AUC of the truth of words by kind."""
    labelled = data.weight > 0
    guess = RewardModel.expected(evaluate_reading(model, data))[labelled].numpy()
    truth = ((data.target * torch.arange(10)).sum(-1) / 9 >= 0.5)[labelled].numpy()
    prompts = [units(data.texts.prompts[i]) for i in data.item.tolist()]
    kinds = np.array([prompts[sample][word].kind for sample, word in labelled.nonzero().tolist()])
    figures = {}
    for name in ("all", *np.unique(kinds).tolist()):
        rows = (kinds == name) | (name == "all")
        figures[name] = {"words": int(rows.sum()), "auc": plain(auc(guess[rows], truth[rows]))}
    return figures


def pretrain_reward(
    out: Path,
    work: Path,
    diffuser_folder: Path,
    *,
    world: str = "small",
    count: int = 24_000,
    steps: int = 4500,
    sight_steps: int = 200,
    batch: int = 64,
    rate: float = 2e-3,
    emphasis: float = 5.0,
    validate: int = 500,
    seed: int = 0,
    device: str = "cpu",
    on_progress: OnProgress = None,
    stop: Stop = None,
) -> tuple[FitResult, dict]:
    """Teach a new reward model to read the latents of `count` renders; save it to `out`.

    emphasis: weight of relation words, which are rare and learned last. work keeps state and latents.

    Returns what the loop did and the figures by kind of word on the last `validate` renders, which it does not see.
    """
    if count <= validate:
        raise ValueError(f"{count} renders leave none to learn from beside {validate}: make more.")
    diffuser = Diffuser.load(str(diffuser_folder))
    latents = latents_of(diffuser.pipe.vae, work, world, count, device)
    data = reading_data(latents, world, diffuser.encode, emphasis)
    torch.manual_seed(seed)
    model = RewardModel(latent_channels=diffuser.channels, text_width=diffuser.text_width, extra=True)
    model.to(device)
    last = (len(latents) - validate) * QUESTIONS
    config = ReadingConfig(steps=steps, sight_steps=sight_steps, batch=batch, rate=rate, bf16=True, seed=seed)
    state = zlib.crc32(repr((world, count, config, emphasis, validate, diffuser.revision)).encode())
    result = train_reading(
        model, data.subset(torch.arange(last)), places_of(count, world), config, folder=work / f"reward-{state:08x}",
        on_progress=on_progress, stop=stop,
    )  # fmt: skip
    figures: dict = {}
    if not result.stopped:
        figures = figures_of(model, data.subset(torch.arange(last, len(data)))) if validate else {}
        meta = {"world": world, "steps": steps, "batch": batch, "emphasis": emphasis, "renders": count}
        checkpoint.save(model, out, meta | {"reading": figures} | Backbone.of(diffuser).meta())
    return result, figures
