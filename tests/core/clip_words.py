"""Where CLIP's own tokenizer puts the words of prompts: ``python -m tests.core.clip_words FILE...``, a prompt a line.

The vocabulary is that of open-clip-torch, which is the published one of OpenAI's CLIP; nothing else of the package is used,
as it needs torchvision. For each file: in how many prompts a sub-token of a word belongs to none, or to two; and of how many
prompts the window of 77 tokens ends before the last word, and whether exactly the words beyond it are called unseen.
"""

from __future__ import annotations

import argparse
import gzip
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTokenizer

from core.words import EXTRA, locate, units

WINDOW, MERGES = 77, 49152 - 256 - 2


@cache
def clip_tokenizer() -> CLIPTokenizer:
    """CLIP's tokenizer, as Stable Diffusion's and SDXL's first one."""
    package = find_spec("open_clip")
    if package is None or not package.submodule_search_locations:
        raise ModuleNotFoundError(
            "CLIP's vocabulary is that of open-clip-torch, without what it needs: pip install --no-deps open-clip-torch"
        )
    path = Path(package.submodule_search_locations[0]) / "bpe_simple_vocab_16e6.txt.gz"
    with gzip.open(path, "rt", encoding="utf-8") as file:
        lines = file.read().split("\n")[1 : MERGES + 1]
    merges = [(left, right) for left, right in (line.split() for line in lines)]
    # bytes in the order in which the vocabulary has them: those that print first
    printed = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = [chr(code) for code in printed] + [chr(256 + i) for i in range(256 - len(printed))]
    assert set(letters) == set(ByteLevel.alphabet())
    pieces = [*letters, *(letter + "</w>" for letter in letters), *("".join(pair) for pair in merges)]
    pieces += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=WINDOW)


@dataclass
class Count:
    """Prompts, and how many have a lost or a shared sub-token, do not fit the window, or are cut at the wrong word."""

    prompts: int = 0
    lost: int = 0
    shared: int = 0
    long: int = 0
    wrong: int = 0


def check(prompts: Iterable[str]) -> Count:
    """Look at every word of every prompt."""
    tokenizer, count = clip_tokenizer(), Count()
    for prompt in prompts:
        words = [word for word in units(prompt) if word.kind != EXTRA]
        coded = tokenizer(prompt, return_offsets_mapping=True, verbose=False)
        spans = coded["offset_mapping"]
        places = locate(tokenizer, prompt, words)
        owners: dict[int, int] = {}
        shared = False
        for j, place in enumerate(places):
            for token in place.tokens:
                shared |= token in owners
                owners[token] = j
        inside = range(1, min(len(spans), WINDOW) - 1)  # without the special tokens at both ends
        lost = False
        for token in inside:
            start, end = spans[token]
            heads = [word for word in words if word.head[0] < end and start < word.head[1]]
            lost |= bool(heads) and token not in owners
        last = [
            max((t for t, (a, b) in enumerate(spans) if a < w.head[1] and w.head[0] < b), default=0)
            for w in words
        ]
        wrong = any(place.seen != (end < WINDOW - 1) for place, end in zip(places, last, strict=True))
        count.prompts += 1
        count.lost += lost
        count.shared += shared
        count.long += len(spans) > WINDOW
        count.wrong += wrong
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", type=Path, nargs="+")
    for path in parser.parse_args().files:
        prompts = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        print(path.name, check(prompts))


if __name__ == "__main__":
    main()
