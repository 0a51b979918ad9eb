"""Training of a small vision-language model that answers with a digit how well a word shows.

The training is independent of the world: examples are pictures, prompts with a truth in [0, 1] for each scored word, and
dense descriptions ("captions") of the picture. The model is made and saved in `scorer_model`.

All questions about a picture are packed into one sequence: the prefix (instruction, image), then blocks that each attend
to the prefix and themselves, at the positions they have when asked alone. So a block computes what the read-out computes,
and the picture is encoded once.

Trained on scores alone, the model stays at the base rate; trained on captions alone, shapes do (15,000 pictures: colours
.97, shapes .24 of 4). So the vision tower comes first: each image token is trained to be near the words for what it shows
and where it is, in the model's own embedding of words. Then captions, then questions, simple ones first, keeping the
earlier losses.

The order of two things along an axis is not learned from answers alone (NOTES.md). So half-way through the layers the
state at a thing's name in a question is trained to be near the words for the thing's place (`place`), and at three
quarters the state at an answer about a relation near the words for the direction from the second thing to the first
(`heading`).
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Unpack

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from PIL import Image, ImageFilter
from torch import Tensor

from core.metrics import auc
from core.scoring.dialogue import Dialogue
from core.scoring.scores import DIGITS, from_truth
from core.scoring.vlm import VLMScorer
from core.training.loop import Ema, FitResult, Hooks, fit, total, warmup_cosine
from core.training.scorer_model import NOTHING, SIDES
from core.words import scored, units

# of the losses; answers are the scorer's purpose
WEIGHTS = {"score": 2.0, "caption": 0.5, "sight": 0.5, "place": 1.0, "heading": 1.0}
SIDED = 0.4  # share of an image token's target for its place
STEEP = 12.0  # slope, along an axis, of the change from the word for one side to the other's
REACH = 0.32  # an image token shows a thing that comes within this share of its side from the token's middle


@dataclass(frozen=True)
class Question:
    """A prompt and the truth in [0, 1] of each of its scored words, then of *nothing else*, in the picture; None for a word
    that is not asked about. places: (x, y), as fractions of the side, of each thing that the prompt names, in order, or
    None; empty where no place is known."""

    prompt: str
    truths: tuple[float | None, ...]
    places: tuple[tuple[float, float] | None, ...] = ()


@dataclass(frozen=True)
class Example:
    """A picture, uint8 (S, S, 3), questions about it, (request, answer) texts that describe it, and its things: (words with
    their shares, x, y, radius), lengths as fractions of the side. mapped: whether `places` is complete."""

    image: np.ndarray
    questions: tuple[Question, ...]
    captions: tuple[tuple[str, str], ...] = ()
    places: tuple[tuple[dict[str, float], float, float, float], ...] = ()
    mapped: bool = False


@dataclass
class Batch:
    """Packed examples. ids (B, L); positions (3, B, L); mask (B, 1, L, L) bool; pixels (B * patches, patch values);
    targets (N, 10) of the answers; caption_ids (M,) that follow in captions; sights (B, tokens, V) the targets of the
    image tokens, zero where they are not known; name_places (K, 2) x and y of the things that are named; directions
    (R, 2) from the second thing to the first. *_at: pairs of a row and a position in it, where the answers (N, 2), the
    captions (M, 2), the things' names (K, 2) and the answers about a relation (R, 2) are."""

    ids: Tensor
    positions: Tensor
    mask: Tensor
    pixels: Tensor
    answer_at: Tensor
    targets: Tensor
    caption_at: Tensor
    caption_ids: Tensor
    sights: Tensor
    name_at: Tensor
    name_places: Tensor
    relation_at: Tensor
    directions: Tensor


def roughen(images: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Augment pictures (B, S, S, 3) uint8 with the artefacts of decoded latents: soft edges, colour drift over patches, pixel
    noise, contrast, JPEG blocks. About a third is left unchanged."""
    out = np.empty_like(images)
    for i, image in enumerate(images):
        if generator.random() < 0.3:
            out[i] = image
            continue
        size = image.shape[0]
        if generator.random() < 0.5:
            soft = Image.fromarray(image).filter(ImageFilter.GaussianBlur(float(generator.uniform(0.3, 1.6))))
            image = np.asarray(soft)
        if generator.random() < 0.25:
            small = int(size * generator.uniform(0.4, 0.8))
            picture = Image.fromarray(image).resize((small, small), Image.Resampling.BILINEAR)
            image = np.asarray(picture.resize((size, size), Image.Resampling.BICUBIC))
        rough = image.astype(np.float32)
        if generator.random() < 0.5:
            cells = int(generator.choice([8, 16, 32]))
            drift = generator.normal(0, generator.uniform(1, 7), (cells, cells, 3)).astype(np.float32)
            colours = (Image.fromarray(drift[..., c]) for c in range(3))
            wide = [np.asarray(colour.resize((size, size), Image.Resampling.BILINEAR)) for colour in colours]
            rough += np.stack(wide, -1)
        if generator.random() < 0.5:
            rough += generator.normal(0, generator.uniform(1, 8), rough.shape).astype(np.float32)
        if generator.random() < 0.4:
            rough = (rough - 128) * generator.uniform(0.85, 1.12) + 128 + generator.uniform(-12, 12)
        image = np.clip(rough + 0.5, 0, 255).astype(np.uint8)
        if generator.random() < 0.2:
            file = io.BytesIO()
            Image.fromarray(image).save(file, "JPEG", quality=int(generator.integers(40, 90)))
            image = np.asarray(Image.open(file).convert("RGB"))
        out[i] = image
    return out


def patches(images: np.ndarray, image_processor: Any) -> Tensor:
    """Square pictures (B, S, S, 3) uint8 -> (B * patches, patch values) at once, equal to the image processor's one by one."""
    p, merge = image_processor.patch_size, image_processor.merge_size
    mean, std = torch.tensor(image_processor.image_mean), torch.tensor(image_processor.image_std)
    size = pixels_of(image_processor)
    if images.shape[1] != size:
        whole = [Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC) for image in images]
        images = np.stack([np.asarray(image) for image in whole])
    x = (torch.from_numpy(images).float() / 255 - mean) / std
    order = "b (gh mh ph) (gw mw pw) c -> (b gh gw mh mw) (c ph pw)"
    return rearrange(x, order, ph=p, pw=p, mh=merge, mw=merge)


def pixels_of(image_processor: Any) -> int:
    """The side to which square pictures are resized."""
    return round(image_processor.size["longest_edge"] ** 0.5)


def pack(examples: Sequence[Example], scorer: VLMScorer, questions: bool = True) -> Batch:
    """Pack each example into one sequence: prefix, captions, and (if `questions`) a block for each scored word."""
    talk, processor = scorer.dialogue, scorer.image_processor
    side = pixels_of(processor) // (processor.patch_size * processor.merge_size)
    prefix = talk.prefix(side * side)
    rope = rope_positions(talk, prefix, side)
    start = int(rope.max()) + 1
    end = scorer.tokenizer.eos_token_id
    rows: list[list[list[int]]] = []
    answer_at, targets, caption_at, caption_ids = [], [], [], []
    name_at, places, relation_at, directions = [], [], [], []
    for b, example in enumerate(examples):
        blocks, at = [], len(prefix)
        for ask, answer in example.captions:
            opening, answered = talk.ask(ask), [*talk.plain(answer), end]
            caption_at += [(b, at + len(opening) - 1 + k) for k in range(len(answered))]
            caption_ids += answered
            blocks.append(opening + answered[:-1])
            at += len(blocks[-1])
        for question in example.questions if questions else ():
            words = scored(units(question.prompt))
            names = [word.text for word in words if word.kind == "object"]
            if question.places and len(question.places) != len(names):
                raise ValueError(
                    f"{question.prompt!r} names {len(names)} things, but {len(question.places)} places are given: give one each."
                )
            if len(words) != len(question.truths):
                raise ValueError(
                    f"{question.prompt!r} has {len(words)} scored words, *nothing else* among them, but {len(question.truths)} "
                    "truths: give one each."
                )
            for word, truth in zip(words, question.truths, strict=True):
                if truth is None:
                    continue
                blocks.append(talk.question(question.prompt, word))
                if question.places:
                    named = zip(name_positions(scorer, blocks[-1], names), question.places, strict=True)
                    for position, place in named:
                        if place is not None:
                            name_at.append((b, at + position))
                            places.append(place)
                at += len(blocks[-1])
                ends = [place for place in question.places if place is not None]
                if word.kind == "relation" and len(ends) == len(question.places) == 2:
                    relation_at.append((b, at - 1))
                    directions.append(np.subtract(ends[0], ends[1]).tolist())
                answer_at.append((b, at - 1))
                targets.append(truth)
        rows.append(blocks)
    length, head = len(prefix) + max(sum(map(len, blocks)) for blocks in rows), len(prefix)
    ids = torch.zeros(len(rows), length, dtype=torch.long)
    block = torch.full((len(rows), length), -1)  # -1 padding, 0 the prefix, then one number a block
    positions = torch.zeros(3, len(rows), length, dtype=torch.long)
    ids[:, :head], block[:, :head], positions[:, :, :head] = torch.tensor(prefix), 0, rope[:, None]
    for b, blocks in enumerate(rows):
        at = head
        for number, tokens in enumerate(blocks, 1):
            span = slice(at, at + len(tokens))
            ids[b, span], block[b, span] = torch.tensor(tokens), number
            positions[:, b, span] = start + torch.arange(len(tokens))
            at += len(tokens)
    reach = (block[:, :, None] == block[:, None]) | (block[:, None] == 0)
    mask = (reach & torch.ones(length, length, dtype=torch.bool).tril()) | torch.eye(length, dtype=torch.bool)
    return Batch(
        ids,
        positions,
        mask[:, None],
        patches(np.stack([example.image for example in examples]), processor),
        torch.tensor(answer_at, dtype=torch.long).reshape(-1, 2),
        torch.from_numpy(from_truth(np.array(targets))).reshape(-1, DIGITS),
        torch.tensor(caption_at, dtype=torch.long).reshape(-1, 2),
        torch.tensor(caption_ids, dtype=torch.long),
        sights(examples, scorer),
        torch.tensor(name_at, dtype=torch.long).reshape(-1, 2),
        torch.tensor(places, dtype=torch.float32).reshape(-1, 2),
        torch.tensor(relation_at, dtype=torch.long).reshape(-1, 2),
        torch.tensor(directions, dtype=torch.float32).reshape(-1, 2),
    )


def name_positions(scorer: VLMScorer, question: Sequence[int], names: Sequence[str]) -> list[int]:
    """Positions of the things' names, in order, among the ids of a question."""
    positions, ids = [], iter(enumerate(question))
    for name in names:
        tokens = scorer.tokenizer(name, add_special_tokens=False)["input_ids"]
        position = next((k for k, id in ids if [id] == tokens), None)
        if position is None or tokens == [scorer.tokenizer.unk_token_id]:
            raise ValueError(f"The scorer does not know the name {name!r}: give it a vocabulary that has it.")
        positions.append(position)
    return positions


def sights(examples: Sequence[Example], scorer: VLMScorer) -> Tensor:
    """Targets of the image tokens as distributions over words (B, tokens, V): half each for "red" and "star", or all for
    "nothing"; with a share (SIDED) for "left" or "right" and "above" or "below", in proportion to the token's place. Zero
    for examples without a complete list of things (`mapped`)."""
    processor, tokenizer = scorer.image_processor, scorer.tokenizer
    side = pixels_of(processor) // (processor.patch_size * processor.merge_size)
    out = torch.zeros(len(examples), side * side, scorer.model.get_output_embeddings().weight.shape[0])
    middle = (np.arange(side) + 0.5) / side
    y, x = (axis.ravel() for axis in np.meshgrid(middle, middle, indexing="ij"))
    for row, example in zip(out, examples, strict=True):
        if not example.mapped:
            continue
        nothing = tokenizer.convert_tokens_to_ids(NOTHING)
        row[:, nothing] = 1.0
        far = [np.hypot(x - px, y - py) / (r + REACH / side) for _, px, py, r in example.places]
        nearest = np.argmin(far, 0) if far else np.zeros(0, int)
        for k, (words, *_) in enumerate(example.places):
            cells = torch.from_numpy(np.flatnonzero((nearest == k) & (far[k] < 1)))
            row[cells, nothing] = 0.0
            for word, share in words.items():
                row[cells, tokenizer.convert_tokens_to_ids(word)] += share
        row *= 1 - SIDED
        for names, along in zip(SIDES, (x, y), strict=True):
            for word, share in zip(names, (1 - along, along), strict=True):
                row[:, tokenizer.convert_tokens_to_ids(word)] += SIDED / 2 * torch.from_numpy(share).float()
    return out


def rope_positions(talk: Dialogue, prefix: list[int], side: int) -> Tensor:
    """The model's rotary positions (3, P) of a prefix with one picture of side x side tokens: text counts up, the picture's
    tokens are spread over height and width, and the picture takes `side` positions."""
    at, tokens = prefix.index(talk.image_token_id), side * side
    before = torch.arange(at).expand(3, -1)
    cell = torch.arange(tokens)
    picture = at + torch.stack([torch.zeros_like(cell), cell // side, cell % side])
    after = at + side + torch.arange(len(prefix) - at - tokens).expand(3, -1)
    return torch.cat([before, picture, after], 1)


def encoded(scorer: VLMScorer, pixels: Tensor, count: int) -> Any:
    """The vision tower's output for `count` pictures, as the model's forward takes it back."""
    side = int((pixels.shape[0] // count) ** 0.5)
    grids = torch.tensor([[1, side, side]] * count)
    return scorer.model.base_model.get_image_features(pixels, grids, return_dict=True)


def answers(scorer: VLMScorer, batch: Batch, vision: Any = None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Logits over all tokens at the answers (N, V), along the captions (M, V), and, from intermediate layers, at the names
    of things (K, V) and at the answers about a relation (R, V).

    The text before the picture is the same for all rows and does not attend to a picture: it is computed once for the
    batch.
    """
    from transformers.cache_utils import DynamicCache

    vision = vision or encoded(scorer, batch.pixels, batch.ids.shape[0])
    model, rows = scorer.model.base_model, batch.ids.shape[0]
    before = batch.ids[0].tolist().index(scorer.dialogue.image_token_id)
    cache = DynamicCache()
    model(
        input_ids=batch.ids[:1, :before], attention_mask=batch.mask[:1, :, :before, :before],
        position_ids=batch.positions[:, :1, :before], past_key_values=cache, use_cache=True,
    )  # fmt: skip
    for layer in cache.layers:
        layer.keys, layer.values = (x.expand(rows, -1, -1, -1) for x in (layer.keys, layer.values))
    out = model(
        input_ids=batch.ids[:, before:], attention_mask=batch.mask[:, :, before:],
        position_ids=batch.positions[:, :, before:], mm_encoder_outputs={"image": vision}, past_key_values=cache,
        use_cache=True, output_hidden_states=True,
    )  # fmt: skip
    head, hidden = scorer.model.get_output_embeddings(), out.last_hidden_state
    layers, norm = len(model.language_model.layers), model.language_model.norm
    middle, late = (out.hidden_states[at] for at in (layers // 2, 3 * layers // 4))

    def logits(states: Tensor, at: Tensor, normed: bool = False) -> Tensor:
        picked = states[at[:, 0], at[:, 1] - before]
        return head(picked if normed else norm(picked)).float()

    return (
        logits(hidden, batch.answer_at, normed=True),
        logits(hidden, batch.caption_at, normed=True),
        logits(middle, batch.name_at),
        logits(late, batch.relation_at),
    )


def losses(scorer: VLMScorer, batch: Batch, read: bool = True) -> dict[str, tuple[Tensor, int]]:
    """Losses as sums, each with the number of its terms.

    sight    image tokens against the words they show, in the model's own embedding of words
    caption  next token
    score    cross-entropy with the soft digits
    place, heading   intermediate states against the words for places and directions, where these are known

    Without `read`, sight alone."""
    vision = encoded(scorer, batch.pixels, batch.ids.shape[0])
    tokens = torch.stack(list(vision.pooler_output))
    near = scorer.model.get_output_embeddings()(tokens).float().log_softmax(-1)
    sums = {"sight": (-(batch.sights * near).sum(), int(batch.sights.sum().round()))}
    if read:
        score_logits, caption_logits, name_logits, heading_logits = answers(scorer, batch, vision)
        log_p = score_logits.log_softmax(-1)[:, scorer.dialogue.digits]
        sums["caption"] = (
            F.cross_entropy(caption_logits, batch.caption_ids, reduction="sum"),
            len(batch.caption_ids),
        )
        sums["score"] = (-(batch.targets * log_p).sum(), len(batch.targets))
        sides = torch.tensor([scorer.tokenizer.convert_tokens_to_ids(list(side)) for side in SIDES])
        far = torch.sigmoid(STEEP * (batch.name_places - 0.5))
        place = torch.stack([1 - far, far], -1) / 2  # (K, axis, side)
        heading = torch.stack([-batch.directions, batch.directions], -1).clamp(min=0)  # (R, axis, side)
        heading = heading / heading.sum((1, 2), keepdim=True).clamp(min=1e-6)
        for name, logits, share in (("place", name_logits, place), ("heading", heading_logits, heading)):
            if len(share):
                sums[name] = (-(share * logits.log_softmax(-1)[:, sides]).sum(), len(share))
    return sums


def train_scorer(
    scorer: VLMScorer,
    examples: Callable[[int], Sequence[Example]],
    *,
    steps: int = 4000,
    sight_steps: int = 800,
    caption_steps: int = 800,
    again: int = 0,
    rate: float = 1.5e-3,
    chunk: int = 8,
    seed: int = 0,
    **hooks: Unpack[Hooks],
) -> FitResult:
    """Train `scorer` in place on `examples(step)`: the vision tower alone for `sight_steps`, then descriptions for
    `caption_steps`, then questions as well. In the last `again` steps the learning rate rises once more, to 0.7 of its
    first peak. Examples of similar length are packed `chunk` at a time. The scorer ends with the average of its weights.
    """
    model = scorer.model.train()
    decay, rest = ([p for p in model.parameters() if (p.ndim > 1) == matrix] for matrix in (True, False))
    groups = [{"params": decay, "weight_decay": 0.05}, {"params": rest, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, rate, betas=(0.9, 0.98))
    ema = Ema(model, 0.998)
    first, second = warmup_cosine(steps - again, 100, 0.03), warmup_cosine(max(1, again), 30, 0.03)

    def loss_fn(step: int) -> tuple[Tensor, dict[str, float]]:
        drawn = list(examples(step))
        generator = np.random.default_rng([seed, step, 11])
        rough = roughen(np.stack([e.image for e in drawn]), generator)
        drawn = [replace(e, image=image) for e, image in zip(drawn, rough, strict=True)]
        reading, asking = step >= sight_steps, step >= sight_steps + caption_steps

        def blocks(e: Example) -> int:
            questions = sum(truth is not None for q in e.questions for truth in q.truths) if asking else 0
            return len(e.captions) + questions

        drawn.sort(key=blocks)
        size = chunk if reading else len(drawn)
        sums: dict[str, list[tuple[Tensor, int]]] = {}
        for at in range(0, len(drawn), size):
            for name, pair in losses(scorer, pack(drawn[at : at + size], scorer, asking), reading).items():
                sums.setdefault(name, []).append(pair)
        means = {
            name: total(loss for loss, _ in pairs) / max(1, sum(count for _, count in pairs))
            for name, pairs in sums.items()
        }
        loss = total(WEIGHTS[name] * mean for name, mean in means.items())
        return loss, {name: mean.item() for name, mean in means.items()}

    def schedule(step: int) -> float:
        return first(step) if step < steps - again else 0.7 * second(step - steps + again)

    result = fit(
        {"model": model}, optimiser, loss_fn, steps=steps, save_every=100, ema={"model": ema}, schedule=schedule,
        seed=seed, **hooks,
    )  # fmt: skip
    if not result.stopped:
        ema.copy_to(model)
    model.eval()
    return result


def evaluate_scorer(scorer: VLMScorer, examples: Sequence[Example]) -> dict[str, dict[str, float]]:
    """For each kind of word, and for all: number of words, AUC of the expected score against truth >= 0.5, and mean absolute
    error of the expected score, over examples with one question each. A scorer that does not yet answer with a digit is
    evaluated by its probabilities of the digits all the same."""
    images, prompts = [e.image for e in examples], [e.questions[0].prompt for e in examples]
    read = scorer.score(images, prompts, batch=32, least=0)
    pairs: dict[str, list[tuple[float, float]]] = {"all": []}
    for example, scores in zip(examples, read, strict=True):
        question = example.questions[0]
        for word, truth, score in zip(scored(units(question.prompt)), question.truths, scores, strict=True):
            if truth is not None:
                for kind in (word.kind, "all"):
                    pairs.setdefault(kind, []).append((truth, score.expected))
    figures = {}
    for kind, rows in sorted(pairs.items()):
        truths, expected = np.array(rows).reshape(-1, 2).T
        error = float(np.abs(expected - truths).mean())
        figures[kind] = {"words": len(rows), "auc": auc(expected, truths >= 0.5), "mae": error}
    return figures
