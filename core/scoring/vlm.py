"""A vision-language model as the judge of words (DESIGN section 2: s_j; section 3: one code path, two sizes).

The model sees the image and the prompt with one word marked *so*, and answers with a digit (core.scoring.dialogue);
read out are the probabilities of the ten digit tokens at that one position, and the last hidden state there. A word of
which they hold less than half has no score, as the model would rather say something else. The instruction and the
image come first and are the same for all words of an image, so they are computed once: a first pass fills the
key-value cache for each image, a second one reads all words of all images from it, in one batch.

A folder or a hub id of any image-text model of `transformers` that has a chat template and reads from left to right:
Qwen-VL, SmolVLM, InternVL, LLaVA, Gemma and others. A model whose cache is more than keys and values (linear
attention, convolutions) is read by whole sequences instead, the image with every word: slower, the same numbers.
"""

from __future__ import annotations

import copy
import hashlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from core.scoring.dialogue import PROMPT_VERSION, Dialogue
from core.scoring.picture import look, make_processor
from core.scoring.scores import MASS, WordScore, make, unsure, words_to_score

MAX_ROWS = 256  # words read in one pass over the cache
WHOLE_ROWS = 16  # words read in one pass of whole sequences
CACHE_BYTES = 8 << 30  # of keys and values that one pass may hold


class VLMScorer:
    """Scores the words of prompts on images with an image-text model of `transformers`."""

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        image_processor: Any,
        name: str,
        revision: str,
        template: str | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        """`settings` are those of the family's processor; ValueError where the model is of no use here."""
        self.model = model.eval()
        self.tokenizer, self.image_processor = tokenizer, image_processor
        self.name, self.revision = name, revision
        head = model.get_output_embeddings()
        if head is None or getattr(model.config, "is_encoder_decoder", False):
            raise ValueError(
                f"{name} does not read image and text from left to right: choose a model that does."
            )
        self._takes = frozenset(inspect.signature(model.base_model.forward).parameters)
        self._shared = True  # one cache for all words of an image
        self.missing: list[dict[int, str]] = []
        try:
            self.processor = make_processor(model.config, tokenizer, image_processor, settings)
            token = tokenizer.convert_tokens_to_ids(self.processor.image_token)
            controls = {*self.processor.image_token_ids, getattr(model.config, "image_token_id", None)}
            self.dialogue = Dialogue(tokenizer, token, template, controls - {None})
            seen = self._look(Image.new("RGB", (64, 48)))
        except (AttributeError, TypeError, KeyError, ImportError) as error:
            raise ValueError(
                f"{name} cannot be given an image ({error}): choose another image-text model of transformers."
            ) from error
        if not {"input_ids", "pixel_values"} <= seen.keys() or "cross_attention_mask" in seen:
            raise ValueError(
                f"{name} does not take image and text in one sequence: choose a model that does."
            )

    @classmethod
    def load(
        cls,
        path_or_id: str | Path,
        device: str | torch.device | None = None,
        dtype: torch.dtype | str | None = None,
        revision: str | None = None,
    ) -> VLMScorer:
        """Load from a folder or a hub id. On a CPU in float32 unless `dtype` says otherwise, on a GPU as stored."""
        from transformers import (
            AutoImageProcessor,
            AutoModelForImageTextToText,
            AutoTokenizer,
            ProcessorMixin,
        )

        device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        dtype = dtype or (torch.float32 if device.type == "cpu" else "auto")
        source = str(path_or_id)
        if Path(source).is_dir():
            check_folder(Path(source))
        try:
            model = AutoModelForImageTextToText.from_pretrained(source, dtype=dtype, revision=revision)
            tokenizer = AutoTokenizer.from_pretrained(source, revision=revision)
            images = AutoImageProcessor.from_pretrained(source, revision=revision, backend="pil")
            settings, _ = ProcessorMixin.get_processor_dict(source, revision=revision)
        except (OSError, ValueError, KeyError, ImportError) as error:
            first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise ValueError(
                f"The scorer {source!r} cannot be loaded ({first}): give a folder with a saved image-text model, "
                "or a hub id such as Qwen/Qwen2.5-VL-3B-Instruct."
            ) from error
        found = fingerprint(Path(source)) if Path(source).is_dir() else model.config._commit_hash or "unknown"
        name = Path(source).name if Path(source).is_dir() else source
        template = chat_template(source, tokenizer, settings)
        return cls(model.to(device), tokenizer, images, name, found, template, settings)

    @property
    def version(self) -> str:
        """What a stored score depends on: prompt version, model and its revision, image backend."""
        return f"{PROMPT_VERSION}/{self.name}@{self.revision[:12]}/{type(self.image_processor).__name__}"

    @torch.inference_mode()
    def score(
        self,
        images: Sequence[np.ndarray | Image.Image] | np.ndarray,
        prompts: Sequence[str],
        batch: int = 16,
        stop: Callable[[], bool] | None = None,
        rules: Sequence[int] | None = None,
        least: float = MASS,
    ) -> list[list[WordScore]]:
        """Score every scored word of each prompt on its image (uint8 (H, W, 3) or PIL) -> one list an image. `rules`:
        those by which each prompt's words are counted, the current ones where it is None.

        `missing` then holds {word index: reason} for each image, of the words for which the ten digits have less than
        `least` of the probability. `stop` is asked between batches; what was not reached is left as empty lists.
        """
        words = words_to_score(len(images), prompts, batch, rules)
        self.missing = [{} for _ in prompts]
        results: list[list[WordScore]] = [[] for _ in prompts]
        for at in range(0, len(prompts), batch):
            if stop and stop():
                break
            here = [i for i in range(at, min(at + batch, len(prompts))) if words[i]]
            seen = {i: self._look(as_pil(images[i])) for i in here}
            kinds = {i: alike(seen[i]) for i in here}
            for kind in dict.fromkeys(kinds.values()):
                members = [i for i in here if kinds[i] == kind]
                questions = [[self.dialogue.question(prompts[i], w) for w in words[i]] for i in members]
                answers = self._read([seen[i] for i in members], questions)
                for i, read in zip(members, answers, strict=True):
                    for word, p, mass, hidden in zip(words[i], *read, strict=True):
                        if why := unsure(mass, least):
                            self.missing[i][word.index] = why
                        else:
                            results[i].append(make(word.index, p, hidden))
        return results

    def _look(self, image: Image.Image) -> dict[str, Tensor]:
        return look(self.processor, image, self.dialogue.opening, self._takes)

    def _read(
        self, seen: list[dict[str, Tensor]], questions: list[list[list[int]]]
    ) -> list[tuple[np.ndarray, ...]]:
        """Images that look alike and their questions -> for each image what `_answers` says of its J questions."""
        owners = [i for i, asked in enumerate(questions) for _ in asked]
        rows = [ids for asked in questions for ids in asked]
        cache = self._fill(seen) if self._shared else None
        parts = self._whole(seen, owners, rows) if cache is None else self._from(cache, seen, owners, rows)
        cuts = np.cumsum([len(asked) for asked in questions])[:-1]
        kinds = (np.split(np.concatenate(found), cuts) for found in zip(*parts, strict=True))
        return list(zip(*kinds, strict=True))

    def _fill(self, seen: list[dict[str, Tensor]]) -> Any:
        """The cache of the prefixes, an item an image; None where it is more than keys and values of tokens."""
        from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

        cache = self.model.base_model(**self._joined(seen), use_cache=True).past_key_values
        # not their subclasses, which hold other states as well
        plain = (DynamicLayer, DynamicSlidingWindowLayer)
        self._shared = all(type(layer) in plain for layer in getattr(cache, "layers", [None]))
        return cache if self._shared else None

    def _from(
        self, cache: Any, seen: list[dict[str, Tensor]], owners: list[int], rows: list[list[int]]
    ) -> Iterator[tuple[np.ndarray, ...]]:
        """Read every question from the cache of its image."""
        device, length = self.model.device, seen[0]["input_ids"].shape[1]
        # an image takes fewer positions than tokens in some families; the text goes on from where the model says
        deltas = getattr(self.model.base_model, "rope_deltas", None)
        held = sum(
            x.nbytes for layer in cache.layers if layer.keys is not None for x in (layer.keys, layer.values)
        )
        step = min(MAX_ROWS, max(1, CACHE_BYTES * len(seen) // max(1, held)))
        for at in range(0, len(rows), step):
            part, last = rows[at : at + step], at + step >= len(rows)
            own = cache if last else copy.deepcopy(cache)
            own.batch_select_indices(torch.tensor(owners[at : at + step], device=device))
            ids, there = padded(part, device)
            places = {}
            if deltas is not None:
                steps = length + int(deltas.flatten()[0]) + torch.arange(ids.shape[1], device=device)
                places["position_ids"] = steps.expand(len(part), -1)
            yield self._answers(
                there.sum(1) - 1,
                input_ids=ids,
                attention_mask=F.pad(there, (length, 0), value=1),
                past_key_values=own,
                use_cache=True,
                **places,
            )

    def _whole(
        self, seen: list[dict[str, Tensor]], owners: list[int], rows: list[list[int]]
    ) -> Iterator[tuple[np.ndarray, ...]]:
        """Read every question in a sequence of its own, image and all."""
        for at in range(0, len(rows), WHOLE_ROWS):
            inputs = self._joined([seen[i] for i in owners[at : at + WHOLE_ROWS]])
            ids, there = padded(rows[at : at + WHOLE_ROWS], self.model.device)
            length = inputs["input_ids"].shape[1]
            tail = {"input_ids": ids, "attention_mask": there}  # other values a token say what is an image
            for name, value in inputs.items():
                if value.shape == (len(ids), length):
                    inputs[name] = torch.cat(
                        [value, tail.get(name, torch.zeros_like(ids)).to(value.dtype)], 1
                    )
            yield self._answers(length + there.sum(1) - 1, **inputs, use_cache=False)

    def _joined(self, seen: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        """Inputs of images as those of one batch, on the model's device, numbers in its type."""
        joined = {name: torch.cat([one[name] for one in seen]).to(self.model.device) for name in seen[0]}
        return {n: x.to(self.model.dtype) if x.is_floating_point() else x for n, x in joined.items()}

    def _answers(self, last: Tensor, **inputs: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """p(digit) (N, 10) among the ten digits, their share (N,) of the probability of all tokens, and hidden states
        (N, D), at position `last` (N,) of each row. The head is asked there and nowhere else, for the digits in float32;
        what the family does to its logits follows as always."""
        head, digits, hidden = self.model.get_output_embeddings(), self.dialogue.digits, []
        forward = head.forward

        def at_last(states: Tensor) -> Tensor:
            state = states[torch.arange(len(last), device=states.device), last]
            answer = state.float()
            hidden.append(answer)
            bias = None if getattr(head, "bias", None) is None else head.bias[digits].float()
            logits = forward(state).float()
            logits[:, digits] = F.linear(answer, head.weight[digits].float(), bias)
            return logits[:, None]

        own = vars(head).get("forward")
        head.forward = at_last
        try:
            logits = self.model(**inputs).logits[:, 0].float()
        finally:
            del head.forward
            if own is not None:
                head.forward = own
        state = hidden[0].clamp(-6e4, 6e4).cpu().numpy().astype(np.float16)
        ten = logits[:, digits]
        mass = (ten.logsumexp(-1) - logits.logsumexp(-1)).exp()
        return ten.softmax(-1).cpu().numpy(), mass.cpu().numpy(), state


def alike(seen: dict[str, Tensor]) -> tuple:
    """What images have in common that can be read in one batch: tokens, shapes, and grids or sizes where told."""
    return tuple(
        (name, tuple(x.shape), tuple(x.flatten().tolist()) if x.numel() <= 8 or name == "input_ids" else ())
        for name, x in seen.items()
    )


def padded(rows: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Token ids of different lengths -> (N, S) padded on the right with 0, and the mask (N, S) of what is there."""
    width = max(len(row) for row in rows)
    ids = torch.tensor([list(row) + [0] * (width - len(row)) for row in rows], device=device)
    there = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], device=device)
    return ids, there


def as_pil(image: np.ndarray | Image.Image) -> Image.Image:
    """An RGB picture from uint8 (H, W, 3) or PIL; ValueError with the offending shape otherwise."""
    if isinstance(image, Image.Image):
        return image.convert("RGB")
    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(
            f"An image is uint8 of shape (H, W, 3), but this is {image.dtype} of shape {image.shape}."
        )
    return Image.fromarray(image)


def chat_template(source: str, tokenizer: Any, settings: Mapping[str, Any]) -> str | None:
    """The chat template that is saved with the processor; None where only the tokenizer brings one."""
    found = settings.get("chat_template")
    if isinstance(found, dict):
        found = found.get("default")
    if not found and not tokenizer.chat_template:
        raise ValueError(
            f"The scorer {source!r} has no chat template: choose an instruction-tuned image-text model."
        )
    return found


def check_folder(folder: Path) -> None:
    """Where the folder has a manifest, see that its files are what was saved (CheckpointError otherwise)."""
    from core import checkpoint

    if (folder / "manifest.json").exists():
        checkpoint.verify(folder)


def fingerprint(folder: Path) -> str:
    """A revision for a folder: over its configuration, tokenizer, and size, head and tail of each weight file (whole
    weights of a real model would take a minute to read)."""
    seen = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.suffix in (".json", ".jinja", ".model") and path.name != "manifest.json":
            seen.update(path.name.encode() + path.read_bytes())
        elif path.suffix in (".safetensors", ".bin"):
            with path.open("rb") as file:
                size = path.stat().st_size
                seen.update(f"{path.name}:{size}".encode() + file.read(1 << 20))
                file.seek(max(0, size - (1 << 20)))
                seen.update(file.read())
    return seen.hexdigest()
