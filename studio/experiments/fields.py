"""Settings of each experiment: the reduced size that a laptop does in minutes, and the full size.

`size=reduced` (the default) or `size=full` fills in a table's sizes; a field that is set by itself overrides it.
Imports nothing heavy, as the command line's help reads this.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from studio.annotation import HABITS
from studio.numbers import real, shown, whole
from studio.training.configs import _HELDOUT, _SEED, Field, Kind

LONGEST = 400  # characters of a list
MOST_PROMPTS = 20_000


@dataclass(frozen=True)
class Sized(Field):
    """A field whose value at the full size is another."""

    full: Any = None


@dataclass(frozen=True)
class Several(Sized):
    """Numbers, written with commas: each within the bounds."""

    def check(self, name: str, value: Any) -> str:
        """The list as it is kept: in order, each number once."""
        name, (low, high) = name.replace("_", " "), self.bounds
        words = [word for word in re.split(r"[,\s]+", str(value)[: LONGEST + 1].strip("()[] ")) if word]
        if not words or len(str(value)) > LONGEST:
            raise ValueError(f"The {name} {shown(value)} is no list of numbers: write them with commas.")
        check: Callable[..., float] = whole if isinstance(low, int) else real
        values = dict.fromkeys(check(name, word, low, high) for word in words)
        return ",".join(f"{value:g}" for value in values)


@dataclass(frozen=True)
class Words(Sized):
    """Free text of one line: names with commas, or a prompt."""

    def check(self, name: str, value: Any) -> str:
        text = " ".join(str(value).split())
        if len(text) > LONGEST or not text.isprintable():
            raise ValueError(
                f"The {name.replace('_', ' ')} {shown(value)} is too long or no text: shorten it."
            )
        return text


def numbers(text: str) -> list[float]:
    """The numbers of a `Several`."""
    return [float(number) for number in text.split(",")]


METHODS = (
    "projected,best-of-2,best-of-4,best-of-8,best-noise-of-8,best-noise-of-32,pag,autoguidance,lora,"
    "pag+projected,lora+projected,best-of-4+projected"
)


def _judged(prompts: tuple[int, int], seeds: tuple[int, int]) -> dict[str, Field]:
    """Prompts and seeds at the reduced and at the full size, and how their images are made."""
    return {
        "prompts": Sized(prompts[0], (1, 10_000), "held-out prompts", prompts[1]),
        "seeds": Sized(seeds[0], (2, 10_000), "unseen seeds of each", seeds[1]),
        "steps": _HELDOUT["steps"],
        "guidance": _HELDOUT["guidance"],
    }


_SIZE = {"size": Field("reduced", ("reduced", "full"), "reduced: minutes on one core; full: the paper's")}
_STRENGTH = Field(1.0, (0.0, 1.0), "of the projection")
_RATE = Field(2e-4, (1e-7, 1.0), "peak learning rate")
_BATCH = Sized(32, (1, 4096), "noises a training step", 32)

FIELDS: dict[str, dict[str, Field]] = {
    "fidelity": {
        **_SIZE,
        **_judged((10, 10), (40, 100)),
        "simulated": Sized(400, (0, 1_000_000), "words that the simulated annotator corrects, of prompts of the shapes "
                           "world; 0 leaves it out", 5000),
        **_SEED,
    },
    "single": {
        **_SIZE,
        "prompt": Words("", (), "the prompt; none: the one that the reward model expects least of"),
        "prompts": Sized(32, (1, 10_000), "prompts to find that one among", 200),
        "seen": Sized(48, (2, 10_000), "seeds that are trained on", 100),
        "unseen": Sized(96, (2, 10_000), "seeds that are not", 400),
        "train_steps": Sized(250, (1, 1_000_000), "training steps", 1000),
        "batch": _BATCH,
        "rate": _RATE,
        "tau": Field(0.3, (0, 1000), "weight of the constraint"),
        "steps": _HELDOUT["steps"],
        "guidance": _HELDOUT["guidance"],
        **_SEED,
    },
    "shift": {
        **_SIZE,
        **_judged((5, 5), (60, 200)),
        "noises": Sized(400, (4, 100_000), "noises of each prompt", 1000),
        "well": Field(0.25, (0.01, 0.9), "the best share of a prompt's images: their noises are the well-scored ones"),
        "strength": _STRENGTH,
        **_SEED,
    },
    "tau": {
        **_SIZE,
        **_judged((20, 100), (4, 8)),
        "taus": Several("0.1,0.3,1,10", (0.0, 1e6), "weights of the constraint, a projector trained with each"),
        "shared": Several("0", (0.0, 1e6), "weights of the constraint on what the noises of a prompt are moved by in "
                          "common; with each but 0 one more projector is trained, beside the first tau", "0,1"),
        "strengths": Several("0.25,0.5,0.75,1", (0.0, 1.0), "strengths of the projector in use"),
        "start": Field("fresh", ("used", "fresh"), "what each is trained from: the projector in use, or a fresh one that "
                       "was warmed up"),
        "train_steps": Sized(100, (1, 1_000_000), "training steps of each", 400),
        "warmup_steps": Field(200, (1, 1_000_000), "steps of the warm-up, where the start is fresh"),
        "train_prompts": Sized(400, (1, 100_000), "training prompts", 800),
        "noises": Sized(256, (8, 100_000), "noises of each of three prompts that KL is measured over", 1000),
        "batch": _BATCH,
        "rate": Field(8e-4, (1e-7, 1.0), "peak learning rate"),
        **_SEED,
    },
    "alignment": {
        **_SIZE,
        **_judged((16, 100), (8, 16)),
        "methods": Words(METHODS, (), "what is compared with none, with commas"),
        "strength": _STRENGTH,
        "lora_prompts": Sized(100, (1, 100_000), "training prompts whose images a LoRA is trained on, where none is in use",
                              400),
        "lora_seeds": Sized(2, (1, 100), "images of each", 4),
        "lora_steps": Sized(200, (1, 1_000_000), "training steps of that LoRA", 1000),
    },
    "corrections": {
        **_SIZE,
        **_judged((16, 100), (4, 8)),
        "counts": Several("0,100,300", (0, 100_000), "corrected words", "0,100,300,1000"),
        "repeats": Sized(2, (1, 20), "trainings with each count, with seeds of their own", 3),
        "habit": Field("every", HABITS, "of the simulated annotator, what is typed of an image: every word; wrong ones "
                       "alone, then Done; clean: the same, but n where none is wrong"),
        "controls": Field(True, (), "the two controls: corrections permuted among words of one kind (placebo), and another "
                          "prompt's text given to the projector; both with the largest count"),
        "pool_prompts": Sized(120, (1, 100_000), "training prompts whose images are scored and corrected", 400),
        "pool_seeds": Field(1, (1, 100), "images of each"),
        "replay": Sized(1000, (0, 1_000_000), "samples trained on again from the labels kept with the models", 4000),
        "foresight_steps": Sized(150, (0, 1_000_000), "of the foresight, where the model in use has none", 150),
        "reader_steps": Sized(50, (0, 1_000_000), "of the reader, at most", 300),
        "reward_steps": Sized(50, (1, 1_000_000), "of the reward model, at most", 200),
        "projector_steps": Sized(60, (1, 1_000_000), "of the projector, at most", 200),
        "train_prompts": Sized(400, (1, 100_000), "training prompts of the projector", 800),
        **_SEED,
    },
}  # fmt: skip


def check_experiment(config: Mapping[str, Any] | None) -> dict[str, Any]:
    """The whole configuration of an experiment: {name, given, prompt_source, ...its fields, filled in}; ValueError for
    a field that it does not have or a bad value.

    config: name and chosen settings; given: prompts in place of the studio's, and prompt_source, their source.
    """
    chosen = dict(config or {})
    name, given = chosen.pop("name", None), chosen.pop("given", None)
    source = str(chosen.pop("prompt_source", "") or "")[:200]
    if name not in FIELDS:
        raise ValueError(f"There is no experiment {shown(name)}: choose one of {', '.join(FIELDS)}.")
    fields = FIELDS[name]
    for field in chosen:
        if field not in fields:
            raise ValueError(
                f"The experiment {name} has no setting {shown(field)}: it has {', '.join(fields)}."
            )
    full = fields["size"].check("size", chosen.get("size", "reduced")) == "full"
    texts = given is None or all(isinstance(prompt, str) for prompt in given)
    if given is not None and not (texts and 0 < len(given) <= MOST_PROMPTS):
        raise ValueError(f"Prompts are texts, at least one and at most {MOST_PROMPTS}.")
    return {
        "name": name,
        "given": list(given) if given is not None else None,
        "prompt_source": source,
        **{
            field: spec.check(field, chosen.get(field, default_of(spec, full)))
            for field, spec in fields.items()
        },
    }


def default_of(field: Field, full: bool) -> Any:
    """A field's default at the full or the reduced size."""
    larger = getattr(field, "full", None)
    return larger if full and larger is not None else field.default


EXPERIMENT = Kind(lambda config: FIELDS.get(str(config.get("name")), {}), check_experiment)
