"""Which words of prompts are scored, counted against a tagger: ``python -m tests.core.tagging FILE...``, a prompt a line.

For each file: the share of the prompts in which every noun, adjective and number, as HanTa tags them, and every word of
relation is (part of) a scored unit, the words that most often are not, and how many prompts have no relation. The tagger is
wrong at times; what it lists is to be looked at, not obeyed.
"""

from __future__ import annotations

import argparse
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from core.words import split

CARRYING = ("NN", "JJ", "CD")  # how the tags of nouns, adjectives and numbers begin
RELATIONS = frozenset(
    """above below left right under over behind front inside outside beside beneath underneath between near around atop
    across opposite top bottom on in into onto against along through toward towards within upon beyond amid among
    alongside""".split()
)
SHOWN = 10


@cache
def tagger() -> Any:
    from HanTa import HanoverTagger

    return HanoverTagger.HanoverTagger("morphmodel_en.pgz")


def overlooked(prompt: str) -> Iterator[str]:
    """The words of a prompt that carry meaning and are in no scored unit."""
    spans = [match.span() for match in re.finditer(r"[\w'’-]+", prompt)]
    units = [(word.start, word.end) for word in split(prompt) if word.scored]
    tags = tagger().tag_sent([prompt[start:end] for start, end in spans]) if spans else []
    for (start, end), (word, _, tag) in zip(spans, tags, strict=True):
        wanted = tag.startswith(CARRYING) or word.casefold() in RELATIONS
        if wanted and not any(first < end and start < last for first, last in units):
            yield word.casefold()


def without_relation(prompts: Iterable[str]) -> list[str]:
    return [prompt for prompt in prompts if all(word.kind != "relation" for word in split(prompt))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", type=Path, nargs="+")
    for path in parser.parse_args().files:
        prompts = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        result = {prompt: set(overlooked(prompt)) for prompt in prompts}
        whole, lacking = sum(not words for words in result.values()), without_relation(result)
        print(
            f"{path.name}: {100 * whole / len(result):.1f} % of {len(result):,} prompts; {len(lacking)} have no relation"
        )
        for word, count in Counter(word for words in result.values() for word in words).most_common(SHOWN):
            example = next(prompt for prompt, words in result.items() if word in words)
            print(f"  {count:5} {word:14} {example[:80]}")


if __name__ == "__main__":
    main()
