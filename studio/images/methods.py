"""Sampling methods by name: parts joined with "+", the outermost first, each with the model that is in use.

best-noise-of-N asks the teacher of the reward model in use (the backbone's own first prediction, and a reader); where
there is none, and as best-noise-of-N-by-reward, the reward model itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from core.evaluation.base import Method
from core.evaluation.choosing import by_reward, by_teacher
from core.evaluation.controls import OtherText
from core.evaluation.methods import BestOf, BestOfNoise, Guidance, Projected, Tuned
from core.guiders import GUIDERS
from studio.images.models import Models
from studio.numbers import real, shown, whole

if TYPE_CHECKING:
    from core.foresight import Teacher
    from studio.studio import Studio

NAMES = (
    "none, projected, projected-STRENGTH, best-of-N, best-noise-of-N, best-noise-of-N-by-reward, lora, "
    f"{', '.join(GUIDERS)} (guidance, also with a number: pag-3)"
)
MOST = 1000  # images or noises to choose from
NOISE, BY_REWARD = "best-noise-of", "best-noise-by-reward"  # parts that choose among noises
CHOOSING = (NOISE, BY_REWARD)
TEACHER, REWARD = "the backbone's first prediction and the reader", "the reward model"  # what chooses
# how parts are nested, the outermost first; two of one rank in the order of the name
RANKS = {
    "best-of": 0, "lora": 1, **dict.fromkeys(GUIDERS, 2), NOISE: 3, BY_REWARD: 3, "projected": 3, "none": 4,
}  # fmt: skip
PART = re.compile(rf"({'|'.join(name for name in RANKS if name != BY_REWARD)})(?:-([0-9.]+))?(-by-reward)?")


def build(studio: Studio, names: Iterable[str], *, strength: float = 1.0) -> list[Method]:
    """The methods of these names, each once; a part "projected" without a number has this strength.

    ValueError with the known names for one that is unknown, and with what to do where its model is missing.
    """
    makers = Makers(studio.models, real("strength", strength, 0, 1))
    methods: dict[str, Method] = {}
    for parts in [parse(name) for name in names]:
        method = makers.assemble(parts)
        methods.setdefault(method.name, method)
    return list(methods.values())


def other_text(studio: Studio, prompts: Sequence[str], strength: float = 1.0) -> Method:
    """A control for two or more prompts: the projector in use, given another prompt's text; ValueError without one."""
    projector, diffuser = Makers(studio.models, strength).model("projector"), studio.models.diffuser()
    return OtherText(projector, diffuser, prompts, strength, "projected for another prompt")


def parse(name: str, known: str = NAMES) -> list[tuple[str, str | None]]:
    """A name as its parts and their numbers, the outermost first; ValueError with the known names."""
    parts = []
    for piece in str(name).split("+"):
        match = PART.fullmatch(piece.strip().lower())
        if match is None or not _numbered(match) or (match[3] and match[1] != NOISE):
            raise ValueError(
                f"There is no method {shown(piece.strip())}. Known here are: {known}, and combinations such as pag+projected."
            )
        parts.append((BY_REWARD if match[3] else match[1], match[2]))
    kinds = [part for part, _ in parts]
    if len(set(kinds)) < len(kinds) or ("none" in kinds and len(kinds) > 1):
        raise ValueError(f"{shown(name)} cannot be combined: name each part once, and none by itself.")
    return sorted(parts, key=lambda part: RANKS[part[0]])


def named(part: str, number: Any = None) -> str:
    """The name of a part with its number."""
    if part == BY_REWARD:
        return f"{NOISE}-{number}-by-reward"
    return part if number is None else f"{part}-{number}"


def without_choice(method: str) -> str:
    """A method without its choice of a noise: how the image of the chosen noise is made."""
    parts = [piece for piece in method.split("+") if not piece.startswith(NOISE)]
    return "+".join(parts) or "none"


def chooses(method: str) -> bool:
    """Whether a method chooses among noises: its image is a plain one of another seed."""
    return without_choice(method) != method


def _numbered(match: re.Match[str]) -> bool:
    """Whether a part has a number if it needs one, and none if it takes none."""
    if match[2] is None:
        return not match[1].startswith("best-")
    return match[1] not in ("none", "lora")


class Makers:
    """Factory of methods. Models are opened when a part needs them, and the reward model is digested once."""

    def __init__(self, models: Models, strength: float) -> None:
        self.models, self.strength = models, strength
        self._choosers: dict[str, Any] = {}

    def assemble(self, parts: Sequence[tuple[str, str | None]]) -> Method:
        """The method of the parts that `parse` gives."""
        method: Method | None = None
        for part, number in reversed(parts):
            method = self._part(part, number, method)
        assert method is not None
        return method

    def _part(self, part: str, number: str | None, base: Method | None) -> Method:
        """The method of one part, wrapped around a base."""
        if part == "projected":
            strength = self.strength if number is None else real("strength", number, 0, 1)
            return Projected(self.model("projector"), strength, base=base)
        if part == "best-of":
            return BestOf(whole("number of images", number, 1, MOST), base=base)
        if part in CHOOSING:
            name = named(part, number) if part == BY_REWARD else ""
            return BestOfNoise(whole("number of noises", number, 1, MOST), self.chooser(part), base, name)
        if part in GUIDERS:
            return Guidance(part, None if number is None else real("scale", number, 0, 100), base)
        return Tuned(self.model("lora"), base=base) if part == "lora" else Method()

    def model(self, kind: str) -> Any:
        """The model in use; ValueError with the sentence that says why there is none."""
        using = self.models.using(kind)
        if using.model is None:
            none_used = (
                f"There is no {kind} in use: train one (python -m studio train {kind}) and promote it."
            )
            raise ValueError(f"{using.problem or none_used} Or leave the methods with it out.")
        return using.model

    def chooser(self, by: str = NOISE) -> Any:
        """The chooser of a noise: the teacher of the reward model in use where it has one and `by` allows it, else itself."""
        if by not in self._choosers:
            reward = self.model("reward")
            teacher = self.teacher() if by == NOISE else None
            self._choosers[by] = by_teacher(teacher) if teacher else by_reward(reward)
        return self._choosers[by]

    def teacher(self) -> Teacher | None:
        """The teacher of the reward model, or None."""
        return self.models.teacher().model


def projects(method: str) -> bool:
    """Whether a method moves the noise by a projector."""
    return "projected" in method.split("+")
