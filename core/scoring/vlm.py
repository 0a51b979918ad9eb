"""A vision-language model as the judge of words (DESIGN section 2: s_j; section 3: one code path, two sizes).

The model sees the image and the prompt with one word marked *so*, and answers with a digit; read out are the
probabilities of the ten digit tokens at that one position, and the last hidden state there. The instruction and the
image come first and are the same for all words of an image, so they are computed once: a first pass fills the
key-value cache for each image, a second one reads all words of all images from it, in one batch.

A folder or a hub id of the Qwen-VL family; parts are loaded without AutoProcessor, which needs torchvision for video.
Prompts are data: their text is tokenised apart from the chat template, with special tokens switched off.
"""

from __future__ import annotations

import copy
import hashlib
import inspect
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from core.scoring.scores import DIGITS, WordScore, make
from core.words import Word, check_prompt, scored, split

PROMPT_VERSION = "marked-1"
INSTRUCTION = "How well does the image show the word marked *so* of the prompt? Answer with a digit: 0 not at all, 9 fully."
MARK = "*"
SLOT = "PROMPT"  # stands for the prompt while the chat template is rendered
MAX_ROWS = 256  # words read in one pass over the cache


def mark(prompt: str, word: Word) -> str:
    """The prompt with `word` marked; the mark's own sign is taken out of the prompt, so that one word is marked."""
    bare = prompt.replace(MARK, " ")
    return f"{bare[: word.start]}{MARK}{bare[word.start : word.end]}{MARK}{bare[word.end :]}"


class Dialogue:
    """The one text of a question, as token ids: prefix (instruction and image, the same for all words of an image)
    and question (marked prompt, up to the position at which the digit is read)."""

    def __init__(self, tokenizer: Any, image_token_id: int, chat_template: str | None = None) -> None:
        self.tokenizer = tokenizer
        self.image_token_id = image_token_id
        messages = [
            {"role": "system", "content": INSTRUCTION},
            {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": SLOT}]},
        ]
        text = tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True, chat_template=chat_template
        )
        head, _, tail = text.rpartition(SLOT)
        self.head, self.tail = self._ids(head), self._ids(tail)
        if self.head.count(image_token_id) != 1:
            raise ValueError(
                f"The chat template writes {self.head.count(image_token_id)} image tokens where one is needed: "
                "this model's chat template is not of the Qwen-VL form."
            )
        coded = [self._ids(str(digit)) for digit in range(DIGITS)]
        if any(len(ids) != 1 for ids in coded) or len({ids[0] for ids in coded}) != DIGITS:
            raise ValueError(f"The tokenizer does not write each digit as one token of its own: {coded}.")
        self.digits = [ids[0] for ids in coded]
        self.special = {id for id, token in tokenizer.added_tokens_decoder.items() if token.special}
        self.special |= {image_token_id}
        self.special.discard(getattr(tokenizer, "unk_token_id", None))

    def _ids(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def plain(self, text: str) -> list[int]:
        """Ids of text that is data: never a special token, whatever it spells."""
        ids = self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        return [id for id in ids if id not in self.special]

    def prefix(self, image_tokens: int) -> list[int]:
        """Ids up to and including what follows the image, with `image_tokens` places for it."""
        at = self.head.index(self.image_token_id)
        return self.head[:at] + [self.image_token_id] * image_tokens + self.head[at + 1 :]

    def ask(self, text: str) -> list[int]:
        """Ids of a user's text and of the opening of the answer."""
        return self.plain(text) + self.tail

    def question(self, prompt: str, word: Word) -> list[int]:
        """Ids from the marked prompt to the position whose next token is the digit."""
        return self.ask(mark(prompt, word))


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
    ) -> None:
        self.model = model.eval()
        self.tokenizer, self.image_processor = tokenizer, image_processor
        self.name, self.revision = name, revision
        if getattr(model.config, "image_token_id", None) is None or not hasattr(
            image_processor, "merge_size"
        ):
            raise ValueError(f"{name} is not an image-text model of the Qwen-VL family: choose one that is.")
        self.dialogue = Dialogue(tokenizer, model.config.image_token_id, template)
        self._takes_types = "mm_token_type_ids" in inspect.signature(model.base_model.forward).parameters

    @classmethod
    def load(
        cls,
        path_or_id: str | Path,
        device: str | torch.device | None = None,
        dtype: torch.dtype | str | None = None,
        revision: str | None = None,
    ) -> VLMScorer:
        """Load from a folder or a hub id. On a CPU in float32 unless `dtype` says otherwise, on a GPU as stored."""
        from transformers import AutoImageProcessor, AutoModelForImageTextToText, AutoTokenizer

        device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        dtype = dtype or (torch.float32 if device.type == "cpu" else "auto")
        source = str(path_or_id)
        if Path(source).is_dir():
            check_folder(Path(source))
        try:
            model = AutoModelForImageTextToText.from_pretrained(source, dtype=dtype, revision=revision)
            tokenizer = AutoTokenizer.from_pretrained(source, revision=revision)
            images = AutoImageProcessor.from_pretrained(source, revision=revision, backend="pil")
        except (OSError, ValueError, KeyError) as error:
            first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise ValueError(
                f"The scorer {source!r} cannot be loaded ({first}): give a folder with a saved image-text model, "
                "or a hub id such as Qwen/Qwen2.5-VL-3B-Instruct."
            ) from error
        found = fingerprint(Path(source)) if Path(source).is_dir() else model.config._commit_hash or "unknown"
        name = Path(source).name if Path(source).is_dir() else source
        return cls(
            model.to(device), tokenizer, images, name, found, chat_template(source, tokenizer, revision)
        )

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
    ) -> list[list[WordScore]]:
        """Score every scored word of each prompt on its image (uint8 (H, W, 3) or PIL) -> one list an image.

        `stop` is asked between batches; what was not reached is left as empty lists.
        """
        if len(images) != len(prompts):
            raise ValueError(
                f"There are {len(images)} images but {len(prompts)} prompts: give one prompt an image."
            )
        if batch < 1:
            raise ValueError(f"batch is {batch}: give 1 or more images at a time.")
        words = [scored(split(check_prompt(prompt))) for prompt in prompts]
        results: list[list[WordScore]] = [[] for _ in prompts]
        for at in range(0, len(prompts), batch):
            if stop and stop():
                break
            here = [i for i in range(at, min(at + batch, len(prompts))) if words[i]]
            coded = {i: self.image_processor(images=[as_pil(images[i])], return_tensors="pt") for i in here}
            grids = {i: tuple(coded[i]["image_grid_thw"][0].tolist()) for i in here}
            for grid in dict.fromkeys(grids.values()):
                members = [i for i in here if grids[i] == grid]
                pixels = torch.cat([coded[i]["pixel_values"] for i in members])
                questions = [[self.dialogue.question(prompts[i], w) for w in words[i]] for i in members]
                answers = self._read(pixels, grid, questions)
                for i, (p, hidden) in zip(members, answers, strict=True):
                    results[i] = [make(w.index, p[j], hidden[j]) for j, w in enumerate(words[i])]
        return results

    def _read(
        self, pixels: Tensor, grid: tuple[int, int, int], questions: list[list[list[int]]]
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Images of one grid and their questions -> for each image p(digit) (J, 10) and hidden states (J, D)."""
        base, device, count = self.model.base_model, self.model.device, len(questions)
        tokens = grid[0] * grid[1] * grid[2] // self.image_processor.merge_size**2
        prefix = torch.tensor(self.dialogue.prefix(tokens), device=device).expand(count, -1)
        length = prefix.shape[1]
        types = (
            {"mm_token_type_ids": (prefix == self.dialogue.image_token_id).int()} if self._takes_types else {}
        )
        cache = base(
            input_ids=prefix,
            attention_mask=torch.ones_like(prefix),
            pixel_values=pixels.to(device),
            image_grid_thw=torch.tensor([grid] * count, device=device),
            use_cache=True,
            **types,
        ).past_key_values
        # an image takes fewer positions than tokens; the text goes on from where the model says
        deltas = getattr(base, "rope_deltas", None)
        start = length + (int(deltas.flatten()[0]) if deltas is not None else 0)

        owners = [i for i, asked in enumerate(questions) for _ in asked]
        rows = [ids for asked in questions for ids in asked]
        head = self.model.get_output_embeddings().weight[self.dialogue.digits]
        found_p, found_hidden = [], []
        for at in range(0, len(rows), MAX_ROWS):
            part = rows[at : at + MAX_ROWS]
            last = at + MAX_ROWS >= len(rows)
            own = cache if last else copy.deepcopy(cache)
            own.batch_select_indices(torch.tensor(owners[at : at + MAX_ROWS], device=device))
            ids, there = padded(part, device)
            hidden = base(
                input_ids=ids,
                attention_mask=F.pad(there, (length, 0), value=1),
                position_ids=(start + torch.arange(ids.shape[1], device=device)).expand(len(part), -1),
                past_key_values=own,
                use_cache=True,
            ).last_hidden_state
            answer = hidden[torch.arange(len(part), device=device), there.sum(1) - 1]
            found_p.append((answer.float() @ head.float().T).softmax(-1).cpu().numpy())
            found_hidden.append(answer.float().clamp(-6e4, 6e4).cpu().numpy().astype(np.float16))
        cuts = np.cumsum([len(asked) for asked in questions])[:-1]
        return list(
            zip(np.split(np.concatenate(found_p), cuts), np.split(np.concatenate(found_hidden), cuts))
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


def chat_template(source: str, tokenizer: Any, revision: str | None = None) -> str | None:
    """None where the tokenizer brings its own chat template, else the one that is saved beside the processor."""
    if tokenizer.chat_template:
        return None
    from transformers.utils import cached_file

    for name in ("chat_template.jinja", "chat_template.json"):
        path = cached_file(source, name, revision=revision, _raise_exceptions_for_missing_entries=False)
        if path:
            text = Path(path).read_text()
            return json.loads(text)["chat_template"] if name.endswith("json") else text
    raise ValueError(
        f"The scorer {source!r} has no chat template: choose an instruction-tuned image-text model."
    )


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
        if path.suffix in (".json", ".jinja") and path.name != "manifest.json":
            seen.update(path.name.encode() + path.read_bytes())
        elif path.suffix in (".safetensors", ".bin"):
            with path.open("rb") as file:
                size = path.stat().st_size
                seen.update(f"{path.name}:{size}".encode() + file.read(1 << 20))
                file.seek(max(0, size - (1 << 20)))
                seen.update(file.read())
    return seen.hexdigest()
