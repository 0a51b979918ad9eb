"""`python -m studio pretrain scorer`: the small VLM, taught on renders of the shapes world only.

Renders that are right and wrong on purpose (`data.shapes.degrade`), half of them decoded from latents that noise and
smoothing changed a little, so that they look as a diffuser's pictures do. Of each it is known which bodies stand there:
they are described, and asked about with the prompt that was drawn and with changed ones. No generated image and no
verdict of the detector is ever used.

Pictures are made in blocks when they are first needed and kept in the work folder; questions about them are new each
time.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from core.loading import autocast
from core.progress import OnProgress, Stop
from core.scoring.vlm import VLMScorer
from core.training.loop import FitResult
from core.training.scorer import Example, Question, evaluate_scorer, train_scorer
from core.training.scorer_model import NOTHING, ScorerConfig, make_scorer, save_scorer
from core.words import scored, units
from data.shapes import scenes
from data.shapes.bodies import Body, truths_of
from data.shapes.degrade import spoiled
from data.shapes.questions import changed, seen_things
from data.shapes.regions import SHAPES
from data.shapes.render import render
from data.shapes.scenes import WORLDS, Scene, Thing, World
from data.shapes.truth import COLOURS

MIXED, BLOB = "mixed", "blob"  # the words for a colour and a shape that are none
ASKS = ("describe", "where", "what", "from", "count", MIXED, BLOB)
ALONE = 0.25  # of the pictures ask for one thing, where a word's truth is whether it is seen at all
DRAWN = 0.7  # of the pictures are asked about with the prompt that was drawn as well
NEARNESS = 0.3  # of the questions about relations ask whether one thing is next to the other
PLAIN = 0.6  # of the examples of the last stage are about everything, so that the rest is not forgotten
BLOCK = 500  # pictures that are made and kept together
_STREAM = 40_507
Places = tuple[tuple[float, float] | None, ...]


@dataclass(frozen=True)
class Picture:
    """A picture uint8 (S, S, 3), the prompt that it was drawn for, rightly or wrongly, and the bodies on it."""

    image: np.ndarray
    prompt: str
    bodies: tuple[Body, ...]

    @property
    def mirrored(self) -> Picture:
        """Left and right exchanged: the prompt is that of the first picture still."""
        return Picture(self.image[:, ::-1], self.prompt, tuple(body.mirrored for body in self.bodies))


def shares(body: Body) -> dict[str, float]:
    """The words for what a body shows, summing to 1: half for its colour and half for its shape, in parts where it is
    between two, the rest for what is no colour, no shape, or hardly there."""
    shown: dict[str, float] = {}
    for names, truths, none in ((COLOURS, body.colours, MIXED), (SHAPES, body.shapes, BLOB)):
        whole = max(1.0, sum(truths))
        for name, truth in zip(names, truths, strict=True):
            if truth > 0.02:
                shown[name] = 0.5 * body.seen * truth / whole
        shown[none] = 0.5 * body.seen * (1 - sum(t for t in truths if t > 0.02) / whole)
    shown[NOTHING] = 1.0 - body.seen
    return {word: share for word, share in shown.items() if share > 1e-6}


def name_of(body: Body) -> str:
    """A body in two words."""
    likeliest = ((COLOURS, body.colours, MIXED), (SHAPES, body.shapes, BLOB))
    return " ".join(
        names[int(np.argmax(truths))] if max(truths) >= 0.5 else none for names, truths, none in likeliest
    )


def captions(bodies: tuple[Body, ...], rng: np.random.Generator) -> tuple[tuple[str, str], ...]:
    """Dense descriptions of a picture: all bodies with their place on a ten by ten grid, their number, one looked up by
    name and one by place, and where one is, seen from another: the nearer direction first, the other where it is between
    two."""
    order = sorted((body for body in bodies if body.seen >= 0.5), key=lambda body: (body.x, body.y))
    names = [name_of(body) for body in order]
    cells = [" ".join(str(int(np.clip(10 * v, 0, 9))) for v in (body.x, body.y)) for body in order]
    texts = [
        ("describe", " , ".join(f"{n} {c}" for n, c in zip(names, cells, strict=True)) or NOTHING),
        ("count", str(min(len(order), 9))),
    ]
    if not order:
        return tuple(texts)
    one, other = (int(k) for k in rng.integers(len(order), size=2))
    if names.count(names[one]) == 1:
        texts.append((f"where {names[one]}", cells[one]))
    if cells.count(cells[other]) == 1:
        texts.append((f"what {cells[other]}", names[other]))
    if len(order) > 1:
        a, b = (int(k) for k in rng.permutation(len(order))[:2])
        if names.count(names[a]) == names.count(names[b]) == 1:
            texts.append((f"where {names[a]} from {names[b]}", direction(order[a], order[b])))
    return tuple(texts)


def direction(first: Body, second: Body) -> str:
    """Where the first body is, seen from the second: one word within 30 degrees of an axis, else two."""
    x, y = first.x - second.x, first.y - second.y
    across, along = (abs(x), "left" if x < 0 else "right"), (abs(y), "above" if y < 0 else "below")
    ways = sorted([across, along], reverse=True)
    return " ".join(word for size, word in ways if size > 0.577 * ways[0][0] or size == ways[0][0])


def picture(index: int, world: World, seed: int, split: str = "train", alone: float = ALONE) -> Picture:
    """Picture `index`, a function of its arguments only. `alone` is the part of the prompts that name one thing."""
    rng = np.random.default_rng([_STREAM, seed, index])
    scene = scenes.sample_scene(rng, world, split)
    if rng.random() < alone:
        prompts = [scenes.sentence(rng, [replace(thing, count=1)], None) for thing in scene.things]
        singles = [scenes.parse(prompt, world) for prompt in prompts]
        scene = next((one for one in singles if one.split == split), scene)
    wrong = spoiled(scene, int(rng.integers(2**31)), world=world)
    return Picture(wrong.image, scene.prompt, wrong.bodies)


def question(scene: Scene, bodies: Sequence[Body], places: Places = ()) -> Question:
    """A prompt and the truth of all its words, and of *nothing else*, in a picture of these bodies."""
    words, alone = truths_of(scene, bodies)
    return Question(scene.prompt, (*words, alone), places)


def example(
    shown: Picture, world: World, rng: np.random.Generator, prompts: int = 2, single: bool = False
) -> Example:
    """A picture or its mirror image, its descriptions, and `prompts` of which the truth is known: mostly the one that was
    drawn, then changed ones, `single` ones naming one thing."""
    if rng.random() < 0.5:
        shown = shown.mirrored
    scene = scenes.parse(shown.prompt, world)
    questions: list[Question] = []
    while len(questions) < prompts:
        drawn = not questions and not single and rng.random() < DRAWN
        other = scene if drawn else changed(scene, shown.bodies, world, rng, single)
        questions.append(question(other, shown.bodies, places_of(other.things, shown.bodies, world)))
    return Example(shown.image, tuple(questions), captions(shown.bodies, rng), mapped(shown.bodies), True)


def relations(pictures: Iterable[Picture], world: World, rng: np.random.Generator) -> Example:
    """An example of the first of the pictures that shows two clear things: in which order they stand along the axis on which
    they do, asked both ways, or (a share NEARNESS) whether they stand next to each other. A share PLAIN is a plain `example`
    of the first picture with one prompt; so is the last picture where none shows two clear things."""
    plain, pair = rng.random() < PLAIN, None
    for shown in pictures:
        if plain or (pair := two_things(shown.bodies, world, rng)) is not None:
            break
    if pair is None:
        return example(shown, world, rng, 1)
    if rng.random() < 0.5:
        shown, pair = shown.mirrored, [(thing, body.mirrored) for thing, body in pair]
    (a, first), (b, second) = pair
    step = abs(first.x - second.x), abs(first.y - second.y)
    ways = [r for r in world.relations if (r in ("left", "right")) == (step[0] > step[1])]
    if rng.random() < NEARNESS:
        ways = [scenes.NEAR]
    elif rng.random() < 0.2:
        ways.append(str(rng.choice([r for r in world.relations if r not in ways])))
    questions = []
    for things, both in (([a, b], (first, second)), ([b, a], (second, first))):
        places = tuple((body.x, body.y) for body in both)
        for relation in ways:
            scene = scenes.parse(scenes.sentence(rng, things, relation), world)
            words, _ = truths_of(scene, shown.bodies)
            truths = [t if w.kind == "relation" else None for w, t in zip(scene.words, words, strict=True)]
            questions.append(Question(scene.prompt, (*truths, None), places))
    texts = tuple(
        (f"where {one.key} from {other.key}", direction(of, origin))
        for (one, of), (other, origin) in (pair, pair[::-1])
    )
    return Example(shown.image, tuple(questions), texts, mapped(shown.bodies), True)


def mapped(bodies: Iterable[Body]) -> tuple[tuple[dict[str, float], float, float, float], ...]:
    """The things of a picture, as `Example.places`."""
    return tuple((shares(body), body.x, body.y, body.radius) for body in bodies)


def seen_once(bodies: Iterable[Body], world: World) -> dict[str, tuple[Thing, Body]]:
    """The clear things that are seen once each, by colour and shape, with their bodies."""
    seen = [(thing, body) for body in bodies for thing in seen_things([body], world)]
    keys = [thing.key for thing, _ in seen]
    return {one[0].key: one for one in seen if keys.count(one[0].key) == 1}


def places_of(things: Iterable[Thing], bodies: Iterable[Body], world: World) -> Places:
    """Places of the things; None for one that is not seen, or not once."""
    where = {key: (body.x, body.y) for key, (_, body) in seen_once(bodies, world).items()}
    return tuple(where.get(thing.key) if thing.count == 1 else None for thing in things)


def two_things(
    bodies: Iterable[Body], world: World, rng: np.random.Generator
) -> list[tuple[Thing, Body]] | None:
    """Two clear things that are seen once each, with their bodies; None where there are fewer."""
    alone = list(seen_once(bodies, world).values())
    if len(alone) < 2:
        return None
    pair = [alone[int(k)] for k in rng.permutation(len(alone))[:2]]
    scene = scenes.parse(scenes.sentence(rng, [thing for thing, _ in pair], None), world)
    return pair if scene.split == "train" else None


def held_out(count: int, world: str = "small") -> list[Example]:
    """Right and wrong renders of compositions that training never shows, each with its prompt, for `evaluate_scorer`."""
    pictures = (picture(i, WORLDS[world], 1_000, "heldout", 0.0) for i in range(count))
    return [
        Example(shown.image, (question(scenes.parse(shown.prompt, world), shown.bodies),))
        for shown in pictures
    ]


def order_of(scorer: VLMScorer, world: str, count: int = 60) -> dict[str, float]:
    """The mean score of the relation word on right renders: of the relation that holds (true), of its opposite, of the true
    one with the things exchanged, and of one along the other axis. AUC does not tell the first three apart."""
    rng = np.random.default_rng(5)
    asked: list[tuple[str, np.ndarray, str]] = []
    while len(asked) < 4 * count:
        scene = scenes.sample_scene(rng, world)
        if scene.relation is None or len(scene.things) != 2:
            continue
        image, things = render(scene, int(rng.integers(2**31))).image, list(scene.things)
        across = "above" if scene.relation in ("left", "right") else "left"
        for name, order, relation in (
            ("true", things, scene.relation),
            ("opposite", things, scenes.OPPOSITE[scene.relation]),
            ("exchanged", things[::-1], scene.relation),
            ("across", things, across),
        ):
            asked.append((name, image, scenes.sentence(rng, order, relation)))
    expected: dict[str, list[float]] = {}
    answers = scorer.score([image for _, image, _ in asked], [prompt for *_, prompt in asked], least=0)
    for (name, _, prompt), scores in zip(asked, answers, strict=True):
        words = scored(units(prompt))
        expected.setdefault(name, []).extend(
            score.expected for word, score in zip(words, scores, strict=True) if word.kind == "relation"
        )
    return {name: float(np.mean(values)) for name, values in expected.items()}


def read_body(fields: dict[str, Any]) -> Body:
    """A body from its fields as JSON has them."""
    return Body(**{**fields, "colours": tuple(fields["colours"]), "shapes": tuple(fields["shapes"])})


class Pictures:
    """The training pictures in blocks, kept in `work`; half of them go through `vae`, an autoencoder, if there is one."""

    def __init__(self, world: World, seed: int, work: Path, vae: Any = None) -> None:
        self.world, self.seed, self.work, self.vae = world, seed, work, vae
        self.block = lru_cache(maxsize=4)(self._block)

    def __getitem__(self, index: int) -> Picture:
        return self.block(index // BLOCK)[index % BLOCK]

    def _block(self, number: int) -> list[Picture]:
        path = self.work / f"pictures-{self.world.name}-{self.seed}-{number}.npz"
        if path.exists():
            with np.load(path) as stored:
                pairs = zip(stored["images"], json.loads(str(stored["rows"])), strict=True)
                return [
                    Picture(image, prompt, tuple(map(read_body, bodies))) for image, (prompt, bodies) in pairs
                ]
        pictures = [picture(number * BLOCK + i, self.world, self.seed) for i in range(BLOCK)]
        if self.vae is not None:
            half = pictures[::2]
            rng = np.random.default_rng([_STREAM, self.seed, number, 7])
            decoded = through(self.vae, np.stack([one.image for one in half]), rng)
            pictures[::2] = [replace(one, image=image) for one, image in zip(half, decoded, strict=True)]
        self.work.mkdir(parents=True, exist_ok=True)
        rows = [(one.prompt, [asdict(body) for body in one.bodies]) for one in pictures]
        partial = path.with_suffix(".tmp.npz")
        np.savez(partial, images=np.stack([one.image for one in pictures]), rows=json.dumps(rows))
        os.replace(partial, path)
        return pictures


@torch.inference_mode()
def through(vae: Any, images: np.ndarray, rng: np.random.Generator, batch: int = 25) -> np.ndarray:
    """Images uint8 (B, S, S, 3) through the autoencoder, their latents a little changed on the way: white noise, noise
    over larger patches, smoothing; none of it so strong that a body is lost."""
    decoded = []
    for at in range(0, len(images), batch):
        pixels = torch.from_numpy(images[at : at + batch].copy()).float().permute(0, 3, 1, 2) / 127.5 - 1
        with autocast(torch.device("cpu")):
            z = vae.encode(pixels).latent_dist.mean.float()
            b, _, h, w = z.shape
            size = z.std(dim=(1, 2, 3), keepdim=True)
            white, wide = (torch.from_numpy(rng.normal(size=(b, 4, n, n))).float() for n in (h, h // 4))
            wide = F.interpolate(wide, size=(h, w), mode="bicubic")
            amount = torch.from_numpy(rng.uniform(0, 1, (3, b, 1, 1, 1)) ** 2).float()
            z = torch.lerp(z, F.avg_pool2d(z, 3, 1, 1, count_include_pad=False), 0.5 * amount[0])
            z = z + size * (0.2 * amount[1] * white + 0.25 * amount[2] * wide)
            pixels = vae.decode(z).sample.float()
        decoded.append(((pixels.clamp(-1, 1) + 1) * 127.5 + 0.5).permute(0, 2, 3, 1).to(torch.uint8).numpy())
    return np.concatenate(decoded)


def autoencoder(folder: Path | None) -> Any:
    """The diffuser's autoencoder from its folder; None without one."""
    if folder is None:
        return None
    from diffusers import AutoencoderKL

    if not (folder / "config.json").exists():
        raise ValueError(
            f"There is no autoencoder in {folder}: run `python -m studio pretrain vae` first, or give the folder of one "
            "by --vae."
        )
    return AutoencoderKL.from_pretrained(folder).eval().to(memory_format=torch.channels_last)


def pretrain_scorer(
    out: Path,
    work: Path,
    vae_folder: Path | None = None,
    *,
    world: str = "small",
    steps: int = 5200,
    sight_steps: int = 700,
    caption_steps: int = 600,
    simple_steps: int = 300,
    relation_steps: int = 4000,
    batch: int = 16,
    pictures: int = 20_000,
    config: ScorerConfig | None = None,
    seed: int = 0,
    validate: int = 300,
    on_progress: OnProgress = None,
    stop: Stop = None,
) -> tuple[FitResult, dict]:
    """Train the small VLM and save it to `out`; its state and its pictures are kept in `work`, from where it goes on.

    In this order: the vision tower alone, descriptions, questions about single things (where the shape's signal is
    not hidden behind another object's), questions about everything, and (`relation_steps` after `steps`) many about
    relations, which are learned last. `pictures` are made, then met again with other
    questions. vae_folder: the autoencoder that half of them go through.

    Returns what the loop did, the figures by kind of word on held-out renders, and those of `order_of`.
    """
    known = WORLDS[world]
    scorer = make_scorer([*scenes.vocabulary("large"), *ASKS], config, seed)
    stored = Pictures(known, seed, work, autoencoder(vae_folder))

    def example_at(step: int, i: int) -> Example:
        rng = np.random.default_rng([_STREAM, seed, step, i])
        if step >= steps:
            start = i % pictures // BLOCK * BLOCK
            near = (stored[start + int(k)] for k in rng.integers(min(BLOCK, pictures), size=6))
            return relations(near, known, rng)
        prompts = 0 if step < sight_steps + caption_steps else 2
        single = step < sight_steps + caption_steps + simple_steps
        return example(stored[i % pictures], known, rng, prompts, single)

    def examples(step: int) -> list[Example]:
        sight = step < sight_steps  # cheap: the vision tower alone, so twice as many
        start = (2 * step if sight else sight_steps + step) * batch
        return [example_at(step, i) for i in range(start, start + (2 * batch if sight else batch))]

    result = train_scorer(
        scorer, examples, steps=steps + relation_steps, sight_steps=sight_steps, caption_steps=caption_steps,
        again=relation_steps, folder=work, on_progress=on_progress, stop=stop, seed=seed,
    )  # fmt: skip
    figures: dict[str, Any] = {}
    if not result.stopped:
        if validate:
            figures = evaluate_scorer(scorer, held_out(validate, world)) | {"order": order_of(scorer, world)}
        meta = {
            "world": world, "steps": steps, "sight_steps": sight_steps, "caption_steps": caption_steps,
            "simple_steps": simple_steps, "relation_steps": relation_steps, "batch": batch, "pictures": pictures,
            "seed": seed, "held_out": figures,
        }  # fmt: skip
        save_scorer(scorer, out, meta)
    return result, figures
