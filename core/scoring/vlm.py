"""Scorer of words s_j by a vision-language model of `transformers`.

The model sees the image and the prompt with one word marked *so*, and answers with a digit (core.scoring.dialogue). The
probabilities of the ten digit tokens at that one position and the last hidden state there are read out. A word for which
the digits have less than half of the probability has no score, as the model prefers another answer. The instruction and
the image come first and are the same for all words of an image, so they are computed once: a first pass fills the
key-value cache for each image, a second one reads all words of all images from it in one batch.

Any causal image-text model of `transformers` with a chat template works, from a folder or a hub id: Qwen-VL, SmolVLM,
InternVL, LLaVA, Gemma and others. A model whose cache is more than keys and values (linear attention, convolutions) is
read by whole sequences instead, the image with every word: slower, the same numbers.
"""

from __future__ import annotations

import copy
import hashlib
import inspect
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from core import checkpoint
from core.progress import Stop
from core.scoring.dialogue import PROMPT_VERSION, Dialogue
from core.scoring.picture import look, make_processor
from core.scoring.scores import MASS, WordScore, make, unsure, words_to_score

MAX_ROWS = 256  # words read in one pass over the cache
WHOLE_ROWS = 16  # words read in one pass of whole sequences
CACHE_BYTES = 8 << 30  # of keys and values in one pass


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
        """template: the chat template, else the tokenizer's. settings: of the family's processor. ValueError where the model
        cannot be used."""
        self.model = model.eval()
        self.tokenizer, self.image_processor = tokenizer, image_processor
        self.name, self.revision = name, revision
        head = model.get_output_embeddings()
        if head is None or getattr(model.config, "is_encoder_decoder", False):
            raise ValueError(f"{name} reads no image and text from left to right: choose a model that does.")
        self._takes = frozenset(inspect.signature(model.base_model.forward).parameters)
        self._shared = True  # whether all words of an image share a cache
        self.missing: list[dict[int, str]] = []
        try:
            self.processor = make_processor(model.config, tokenizer, image_processor, settings)
            token = tokenizer.convert_tokens_to_ids(self.processor.image_token)
            controls = {*self.processor.image_token_ids, getattr(model.config, "image_token_id", None)}
            self.dialogue = Dialogue(tokenizer, token, template, controls - {None})
            inputs = self._inputs(Image.new("RGB", (64, 48)))
        except (AttributeError, TypeError, KeyError, ImportError) as error:
            raise ValueError(
                f"{name} cannot be given an image ({error}): choose another image-text model of transformers."
            ) from error
        if not {"input_ids", "pixel_values"} <= inputs.keys() or "cross_attention_mask" in inputs:
            raise ValueError(f"{name} takes no image and text in one sequence: choose a model that does.")

    @classmethod
    def load(
        cls,
        path_or_id: str | Path,
        device: str | torch.device | None = None,
        dtype: torch.dtype | str | None = None,
        revision: str | None = None,
    ) -> VLMScorer:
        """Load from a folder or a hub id; dtype None is float32 on a CPU, the stored one on a GPU."""
        from transformers import (
            AutoImageProcessor,
            AutoModelForImageTextToText,
            AutoTokenizer,
            ProcessorMixin,
        )

        device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        dtype = dtype or (torch.float32 if device.type == "cpu" else "auto")
        source, local = str(path_or_id), Path(path_or_id).is_dir()
        if (Path(source) / checkpoint.MANIFEST).exists():
            checkpoint.verify(source)
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
        commit = fingerprint(Path(source)) if local else model.config._commit_hash or "unknown"
        name = Path(source).name if local else source
        template = chat_template(source, tokenizer, settings)
        return cls(model.to(device), tokenizer, images, name, commit, template, settings)

    @property
    def version(self) -> str:
        """Identifies what a stored score depends on: prompt version, model and its revision, image backend."""
        return f"{PROMPT_VERSION}/{self.name}@{self.revision[:12]}/{type(self.image_processor).__name__}"

    @torch.inference_mode()
    def score(
        self,
        images: Sequence[np.ndarray | Image.Image] | np.ndarray,
        prompts: Sequence[str],
        batch: int = 16,
        stop: Stop = None,
        rules: Sequence[int] | None = None,
        least: float = MASS,
    ) -> list[list[WordScore]]:
        """Score every scored word of each prompt on its image (uint8 (H, W, 3) or PIL) -> one list an image. rules: by which
        each prompt's words are counted; None: the current ones.

        `missing` then holds {word index: reason} for each image, of the words for which the ten digits have less than
        `least` of the probability. `stop` is checked between batches; images that were not reached have empty lists.
        """
        words = words_to_score(len(images), prompts, batch, rules)
        self.missing = [{} for _ in prompts]
        results: list[list[WordScore]] = [[] for _ in prompts]
        for at in range(0, len(prompts), batch):
            if stop and stop():
                break
            rows = [i for i in range(at, min(at + batch, len(prompts))) if words[i]]
            inputs = {i: self._inputs(as_pil(images[i])) for i in rows}
            layouts = {i: layout(inputs[i]) for i in rows}
            for same in dict.fromkeys(layouts.values()):
                members = [i for i in rows if layouts[i] == same]
                questions = [[self.dialogue.question(prompts[i], w) for w in words[i]] for i in members]
                answers = self._read([inputs[i] for i in members], questions)
                for i, read in zip(members, answers, strict=True):
                    for word, p, mass, hidden in zip(words[i], *read, strict=True):
                        if why := unsure(mass, least):
                            self.missing[i][word.index] = why
                        else:
                            results[i].append(make(word.index, p, hidden))
        return results

    def _inputs(self, image: Image.Image) -> dict[str, Tensor]:
        return look(self.processor, image, self.dialogue.opening, self._takes)

    def _read(
        self, images: list[dict[str, Tensor]], questions: list[list[list[int]]]
    ) -> list[tuple[np.ndarray, ...]]:
        """Inputs of images of one layout and their questions -> for each image the `_answers` to its J questions."""
        owners = [i for i, of_image in enumerate(questions) for _ in of_image]
        rows = [ids for of_image in questions for ids in of_image]
        cache = self._fill(images) if self._shared else None
        whole = cache is None
        batches = self._whole(images, owners, rows) if whole else self._from(cache, images, owners, rows)
        cuts = np.cumsum([len(of_image) for of_image in questions])[:-1]
        columns = (np.split(np.concatenate(column), cuts) for column in zip(*batches, strict=True))
        return list(zip(*columns, strict=True))

    def _fill(self, images: list[dict[str, Tensor]]) -> Any:
        """The cache of the prefixes, an item an image; None where it is more than keys and values."""
        from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

        cache = self.model.base_model(**self._joined(images), use_cache=True).past_key_values
        # not their subclasses, which have other states as well
        plain = (DynamicLayer, DynamicSlidingWindowLayer)
        self._shared = all(type(layer) in plain for layer in getattr(cache, "layers", [None]))
        return cache if self._shared else None

    def _from(
        self, cache: Any, images: list[dict[str, Tensor]], owners: list[int], rows: list[list[int]]
    ) -> Iterator[tuple[np.ndarray, ...]]:
        """Read every question from the cache of its image."""
        device, length = self.model.device, images[0]["input_ids"].shape[1]
        # in some families an image takes fewer positions than tokens, and the text continues at the model's offset
        deltas = getattr(self.model.base_model, "rope_deltas", None)
        filled = [layer for layer in cache.layers if layer.keys is not None]
        held = sum(layer.keys.nbytes + layer.values.nbytes for layer in filled)
        step = min(MAX_ROWS, max(1, CACHE_BYTES * len(images) // max(1, held)))
        for at in range(0, len(rows), step):
            batch, last = rows[at : at + step], at + step >= len(rows)
            selected = cache if last else copy.deepcopy(cache)
            selected.batch_select_indices(torch.tensor(owners[at : at + step], device=device))
            ids, mask = padded(batch, device)
            positions = {}
            if deltas is not None:
                steps = length + int(deltas.flatten()[0]) + torch.arange(ids.shape[1], device=device)
                positions["position_ids"] = steps.expand(len(batch), -1)
            yield self._answers(
                mask.sum(1) - 1, input_ids=ids, attention_mask=F.pad(mask, (length, 0), value=1),
                past_key_values=selected, use_cache=True, **positions,
            )  # fmt: skip

    def _whole(
        self, images: list[dict[str, Tensor]], owners: list[int], rows: list[list[int]]
    ) -> Iterator[tuple[np.ndarray, ...]]:
        """Read every question in a whole sequence, with the image."""
        for at in range(0, len(rows), WHOLE_ROWS):
            inputs = self._joined([images[i] for i in owners[at : at + WHOLE_ROWS]])
            ids, mask = padded(rows[at : at + WHOLE_ROWS], self.model.device)
            length = inputs["input_ids"].shape[1]
            tail = {"input_ids": ids, "attention_mask": mask}  # other values per token mark the image
            for name, value in inputs.items():
                if value.shape == (len(ids), length):
                    rest = tail.get(name, torch.zeros_like(ids)).to(value.dtype)
                    inputs[name] = torch.cat([value, rest], 1)
            yield self._answers(length + mask.sum(1) - 1, **inputs, use_cache=False)

    def _joined(self, images: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        """Inputs of images as one batch, on the model's device and in its dtype."""
        joined = {name: torch.cat([i[name] for i in images]).to(self.model.device) for name in images[0]}
        return {n: x.to(self.model.dtype) if x.is_floating_point() else x for n, x in joined.items()}

    def _answers(self, last: Tensor, **inputs: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """p(digit) (N, 10) among the ten digits, their share (N,) of the probability of all tokens, and hidden states
        (N, D), at position `last` (N,) of each row. The head is applied only there, in float32 for the digits; the model's
        own processing of logits follows as usual."""
        head, digits = self.model.get_output_embeddings(), self.dialogue.digits
        hidden: list[Tensor] = []
        forward = head.forward

        def at_last(states: Tensor) -> Tensor:
            state = states[torch.arange(len(last), device=states.device), last]
            hidden.append(state.float())
            bias = None if getattr(head, "bias", None) is None else head.bias[digits].float()
            logits = forward(state).float()
            logits[:, digits] = F.linear(hidden[-1], head.weight[digits].float(), bias)
            return logits[:, None]

        patched = vars(head).get("forward")
        head.forward = at_last
        try:
            logits = self.model(**inputs).logits[:, 0].float()
        finally:
            del head.forward
            if patched is not None:
                head.forward = patched
        state = hidden[0].clamp(-6e4, 6e4).cpu().numpy().astype(np.float16)
        ten = logits[:, digits]
        mass = (ten.logsumexp(-1) - logits.logsumexp(-1)).exp()
        return ten.softmax(-1).cpu().numpy(), mass.cpu().numpy(), state


def layout(inputs: dict[str, Tensor]) -> tuple:
    """Equal for images that can be read in one batch: tokens, shapes, and grids or sizes where there are any."""
    return tuple(
        (name, tuple(x.shape), tuple(x.flatten().tolist()) if x.numel() <= 8 or name == "input_ids" else ())
        for name, x in inputs.items()
    )


def padded(rows: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Token ids of different lengths -> (N, S) padded on the right with 0, and their mask (N, S)."""
    pad = torch.nn.utils.rnn.pad_sequence
    ids = pad([torch.tensor(row) for row in rows], batch_first=True)
    mask = pad([torch.ones(len(row), dtype=torch.long) for row in rows], batch_first=True)
    return ids.to(device), mask.to(device)


def as_pil(image: np.ndarray | Image.Image) -> Image.Image:
    """An RGB picture from uint8 (H, W, 3) or PIL; ValueError with the offending shape otherwise."""
    if isinstance(image, Image.Image):
        return image.convert("RGB")
    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"An image is uint8 of shape (H, W, 3), not {image.dtype} of shape {image.shape}.")
    return Image.fromarray(image)


def chat_template(source: str, tokenizer: Any, settings: Mapping[str, Any]) -> str | None:
    """The chat template saved with the processor; None where only the tokenizer has one."""
    template = settings.get("chat_template")
    if isinstance(template, dict):
        template = template.get("default")
    if not template and not tokenizer.chat_template:
        raise ValueError(
            f"The scorer {source!r} has no chat template: choose an instruction-tuned image-text model."
        )
    return template


def fingerprint(folder: Path) -> str:
    """A digest of a folder's configuration, tokenizer, and size, head and tail of each weight file."""
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.suffix in (".json", ".jinja", ".model") and path.name != checkpoint.MANIFEST:
            digest.update(path.name.encode() + path.read_bytes())
        elif path.suffix in (".safetensors", ".bin"):
            with path.open("rb") as file:
                size = path.stat().st_size
                digest.update(f"{path.name}:{size}".encode() + file.read(1 << 20))
                file.seek(max(0, size - (1 << 20)))
                digest.update(file.read())
    return digest.hexdigest()
