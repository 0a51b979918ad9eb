"""Prompt sets: the project's own, generated from the grammar of the shapes world, and a reader for a user's file.

Public sets are read by `data.prompts.public`. The project's own are generated on demand from a fixed seed, since a copy on disk
could get out of step with the grammar.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from data.exchange.text import decoded
from data.shapes.scenes import WORLDS, heldout_prompts
from data.store.checks import PROMPT_LENGTH

SETS = {"shapes_train": "train", "shapes_validation": "validation", "shapes_heldout": "heldout"}
MOST = 100_000


def load(name: str, n: int = 100, world: str = "small", seed: int = 0) -> list[str]:
    """The first ``n`` distinct prompts of one of the project's own sets; the same arguments give the same prompts."""
    if name not in SETS:
        raise ValueError(f"There is no prompt set {ascii(name)[:60]}; choose from {', '.join(SETS)}.")
    if world not in WORLDS:
        raise ValueError(f"There is no world {ascii(world)[:60]}; choose from {', '.join(WORLDS)}.")
    if isinstance(n, bool) or not isinstance(n, int) or not 1 <= n <= MOST:
        raise ValueError(f"n must be a whole number from 1 to {MOST}, not {ascii(n)[:60]}.")
    return [scene.prompt for scene in heldout_prompts(n, world, SETS[name], seed)]


def read(path: str | Path) -> list[str]:
    """Read a user's prompts: UTF-8, one per line.

    Empty lines and comments are left out. A comment begins with "# " or "##", or is a "#" alone; "#1 dad mug" is a prompt.
    Duplicates are dropped. ValueError names the line that cannot be used.
    """
    path = Path(path)
    prompts: dict[str, int] = {}
    for number, raw in lines(path):
        line = raw.strip()
        if not line or re.match(r"#(#|\s|$)", line):
            continue
        where = f"{path.name}, line {number}"
        prompts.setdefault(usable(where, line), number)
        if len(prompts) > MOST:
            raise ValueError(f"{where}: more than {MOST} prompts; split the file.")
    if not prompts:
        raise ValueError(f"{path.name} holds no prompt; write one a line.")
    return list(prompts)


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a UTF-8 file, whatever they end in, with their numbers from 1; ValueError where it cannot be read."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path.name} cannot be read ({error.strerror}); check its name.") from None
    for number, raw in enumerate(data.splitlines(), 1):
        try:
            yield number, decoded(raw, first=number == 1)
        except ValueError as error:
            raise ValueError(f"{path.name}, line {number}: {error}") from None


def usable(where: str, prompt: str) -> str:
    """The prompt in Unicode's composed form (NFC); ValueError, with its place in the file, if it is too long or no text."""
    if len(prompt) > PROMPT_LENGTH:
        raise ValueError(f"{where}: {len(prompt)} characters; shorten it to {PROMPT_LENGTH} at most.")
    if "\x00" in prompt:
        raise ValueError(f"{where}: not a text file; save it as plain text.")
    for place, char in enumerate(prompt, 1):
        if unicodedata.category(char) in ("Cc", "Cs"):
            name = "tab" if char == "\t" else f"control character (U+{ord(char):04X})"
            raise ValueError(f"{where}: a {name} at place {place} of the prompt; put a space there.")
    return unicodedata.normalize("NFC", prompt)
