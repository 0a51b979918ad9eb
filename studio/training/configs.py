"""Settings of each kind of training, evaluation and benchmark: a table each, checked before a run is made. A *round*
trains nothing: it makes the images that the next training learns from.

The defaults are sized for a laptop: a whole cycle with the embedded models takes less than ten minutes on two cores.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from studio.numbers import real, shown, text, whole


@dataclass(frozen=True)
class Field:
    """A setting: its default, its bounds (of a number, or choices; none for free text), and its meaning."""

    default: Any
    bounds: tuple[Any, ...]
    meaning: str

    def check(self, name: str, value: Any) -> Any:
        """The value in the default's type; ValueError with a sentence otherwise."""
        name = name.replace("_", " ")
        if isinstance(self.default, bool):
            word = str(value).lower()
            if word in ("true", "yes", "1", "false", "no", "0"):
                return word in ("true", "yes", "1")
            raise ValueError(f"The {name} {shown(value)} is neither true nor false: use one of them.")
        if isinstance(self.default, str) and not self.bounds:
            return text(name, value, 500)
        if isinstance(self.default, str):
            if value not in self.bounds:
                raise ValueError(
                    f"The {name} {shown(value)} is not known: choose {' or '.join(map(str, self.bounds))}."
                )
            return value
        low, high = self.bounds
        if isinstance(self.default, int):
            return whole(name, value, int(low), int(high))
        return real(name, value, low, high)


CORRECTED = ("human", "confirmed", "simulated")  # sources of corrected labels

_SEED = {"seed": Field(0, (0, 2**31 - 1), "of weights, order and noise")}
_SCORES = {
    "correction_weight": Field(1.0, (0, 1000), "how much more a corrected word counts than a scored one"),
    "replay": Field(4000, (0, 1_000_000), "samples trained on again from the labels kept with the models"),
    "sources": Field(
        "all", ("all", "vlm", "corrections"), "which of the store's labels: all, vlm or corrections"
    ),
    "calibrated": Field(
        True, (), "use the calibrated scores where the calibrator was better on unseen corrections"
    ),
}
_REWARD = {
    "foresight_steps": Field(
        150,
        (0, 1_000_000),
        "steps that tune the backbone's own first prediction on stored images, where the reward model that is begun "
        "with has none; 0: no teacher, the labelled images alone",
    ),
    "foresight_rate": Field(2e-3, (1e-7, 1.0), "peak learning rate of the foresight"),
    "foresight_rank": Field(16, (1, 1024), "of its adapter's layers"),
    "reader_steps": Field(
        300, (0, 1_000_000), "at most, in which the reader learns from labels on finished images"
    ),
    "reader_rate": Field(5e-4, (1e-7, 1.0), "peak learning rate of the reader"),
    "reward_steps": Field(
        200, (1, 1_000_000), "at most, in which the reward model learns from the teacher and the labels"
    ),
    "reward_batch": Field(64, (1, 4096), "images or noises a step"),
    "reward_rate": Field(5e-4, (1e-7, 1.0), "peak learning rate"),
    "judged_share": Field(0.25, (0, 1), "share of a batch that people judged, where there are any"),
    "pictures": Field(True, (), "learn also what picture comes of the noise, from the images of the store"),
}
_WARMUP = {
    "warmup_steps": Field(200, (1, 1_000_000), "steps that make a fresh projector harmless"),
    "warmup_rate": Field(5e-4, (1e-7, 1.0), "peak learning rate of the warm-up"),
}
_PROJECTOR = {
    "projector_steps": Field(200, (1, 1_000_000), "at most; it stops where unseen prompts gain no more"),
    "projector_batch": Field(32, (1, 4096), "noises a step"),
    "projector_rate": Field(2e-4, (1e-7, 1.0), "peak learning rate"),
    "tau": Field(
        0.3, (0, 1000), "weight of the constraint that keeps the noise near N(0, I) and near its input"
    ),
    "shared": Field(
        0.0,
        (0, 1000),
        "weight of the pattern by which all noises of a prompt are moved alike; above 0 the batch is a multiple of 4",
    ),
    "prompts": Field(800, (1, 100_000), "training prompts"),
}
_INIT = {"start": Field("used", ("used", "fresh"), "go on from the model in use, or begin anew")}
_HELDOUT = {
    "heldout_prompts": Field(
        48, (0, 10_000), "prompts that were not trained on, to judge by; 0 leaves it out"
    ),
    "heldout_seeds": Field(4, (1, 64), "unseen seeds of each"),
    "steps": Field(
        20, (1, 100), "sampling steps of the images that are judged, unless the backbone has its own"
    ),
    "guidance": Field(4.0, (0, 20), "their guidance, unless the backbone has its own"),
}
_CALIBRATOR = {
    "corrections_needed": Field(40, (1, 1_000_000), "corrected words below which the calibrator is left out"),
}
_LORA = {
    "lora_steps": Field(300, (1, 1_000_000), "training steps"),
    "lora_batch": Field(8, (1, 4096), "images a step"),
    "lora_rate": Field(2e-4, (1e-7, 1.0), "peak learning rate"),
    "rank": Field(8, (1, 1024), "of the adapter's layers"),
    "temperature": Field(0.2, (0.001, 100), "an image of mean score s counts exp((s - 1) / temperature)"),
    "checkpointing": Field(False, (), "keep fewer activations: less memory, a third slower"),
}
_LORA_SCORES = {"sources": _SCORES["sources"]}

_ROUND = {
    "prompts": Field(100, (1, 100_000), "training prompts whose images are made with the projector in use"),
    "seeds": Field(1, (1, 1000), "images of each"),
    "strength": Field(1.0, (0.0, 1.0), "of the projection"),
}

FIELDS: dict[str, dict[str, Field]] = {
    "reward": {**_INIT, **_REWARD, **_SCORES, **_SEED},
    "warmup": {**_WARMUP, "prompts": _PROJECTOR["prompts"], **_SEED},
    "projector": {**_INIT, **_PROJECTOR, **_WARMUP, **_HELDOUT, **_SEED},
    "calibrator": {**_CALIBRATOR, **_SEED},
    "lora": {**_LORA, **_LORA_SCORES, **_HELDOUT, **_SEED},
    "cycle": {**_INIT, **_CALIBRATOR, **_REWARD, **_SCORES, **_PROJECTOR, **_WARMUP, **_HELDOUT, **_SEED},
    "round": {**_ROUND, "steps": _HELDOUT["steps"], "guidance": _HELDOUT["guidance"]},
}

_JUDGED = {
    "prompts": Field(100, (1, 100_000), "held-out prompts; of those of --prompts, all unless this is set"),
    "seeds": Field(8, (1, 1000), "unseen seeds of each"),
    "steps": _HELDOUT["steps"],
    "guidance": _HELDOUT["guidance"],
}
EVALUATIONS: dict[str, dict[str, Field]] = {
    "alignment": {
        **_JUDGED,
        "projected": Field(True, (), "compare the projector in use"),
        "strength": Field(1.0, (0.0, 1.0), "of the projection"),
        "best_of": Field(8, (1, 16), "best of 2, 4, ... up to this many by the scorer; 1 leaves it out"),
        "methods": Field(
            "", (), "more of them, with commas: pag, apg-7, lora, best-noise-of-8, pag+projected, ..."
        ),
        "best_noise": Field(
            0, (0, 64), "best of so many noises by the reward model's teacher, or by itself; 0 leaves it out"
        ),
        "other_text": Field(False, (), "a control: the projector in use, given another prompt's text"),
    },
    "fidelity": _JUDGED,
    "detector": {
        "renders": Field(
            2000, (1, 1_000_000), "fresh renders to read, as they are and after a VAE round trip"
        ),
        "seed": Field(0, (0, 2**31 - 1), "of the renders"),
    },
    "habits": {
        "images": Field(100, (10, 2000), "images that each annotator goes through, of a prompt each"),
        "right": Field(0.85, (0.5, 1.0), "share of words in which the scorer is on the right side of 5"),
        "graded": Field(False, (), "truths are all digits, not 0 and 9 alone"),
        "repeats": Field(5, (1, 1000), "worlds that the figures are means over"),
        "seed": Field(0, (0, 2**31 - 1), "of the scores, the truths and the calibrators"),
    },
}

BENCHMARK: dict[str, Field] = {
    "repeats": Field(5, (1, 1000), "rounds in which everything is timed once"),
    "steps": _HELDOUT["steps"],
    "guidance": _HELDOUT["guidance"],
    "sdxl": Field(True, (), "measure SDXL's shapes too, with random weights (7 GB in bfloat16)"),
    "sdxl_size": Field(1024, (64, 4096), "pixels a side"),
    "sdxl_steps": Field(30, (1, 100), "sampling steps"),
    "sdxl_guidance": Field(5.0, (0, 20), "guidance; above 1 every step takes two forwards"),
    "sdxl_dtype": Field("bfloat16", ("bfloat16", "float16", "float32"), "of its weights"),
    "sdxl_repeats": Field(3, (1, 1000), "rounds"),
    "sdxl_timed_steps": Field(
        0, (0, 100), "steps that are timed and stand for all; 0: all on a GPU, one on a CPU"
    ),
    "sdxl_batch": Field(0, (0, 4096), "of its training; 0: the default on a GPU, 4 on a CPU"),
}


class Kind(NamedTuple):
    """The settings of a kind of run: its fields, which may depend on the chosen values, and a check of all values."""

    fields: Callable[[Mapping[str, Any]], Mapping[str, Field]]
    check: Callable[[Mapping[str, Any]], dict[str, Any]]


def with_own(
    fields: Mapping[str, Field], sampling: Mapping[str, Any], config: Mapping[str, Any] | None
) -> dict[str, Any]:
    """A configuration with the backbone's own sampling (`Models.sampling`) for what was not chosen."""
    return {**{name: value for name, value in sampling.items() if name in fields}, **(config or {})}


def check_config(kind: str, config: Mapping[str, Any] | None) -> dict[str, Any]:
    """The whole configuration of a kind of training, with defaults; ValueError for an unknown field or a bad value."""
    if kind not in FIELDS:
        raise ValueError(f"{shown(kind)} cannot be trained: choose one of {', '.join(FIELDS)}.")
    return _checked(f"{kind} training", FIELDS[kind], config)


def check_evaluation(kind: str, config: Mapping[str, Any] | None) -> dict[str, Any]:
    """Like `check_config`, for an evaluation."""
    if kind not in EVALUATIONS:
        raise ValueError(f"{shown(kind)} cannot be evaluated: choose {' or '.join(EVALUATIONS)}.")
    return _checked(f"{kind} evaluation", EVALUATIONS[kind], config)


def check_benchmark(config: Mapping[str, Any] | None) -> dict[str, Any]:
    """Like `check_config`, for the benchmark."""
    return _checked("benchmark", BENCHMARK, config)


def _checked(what: str, fields: Mapping[str, Field], config: Mapping[str, Any] | None) -> dict[str, Any]:
    config = config or {}
    for name in config:
        if name not in fields:
            raise ValueError(f"A {what} has no setting {shown(name)}: it has {', '.join(fields)}.")
    return {name: field.check(name, config.get(name, field.default)) for name, field in fields.items()}


def _kind(name: str) -> Kind:
    return Kind(lambda config: FIELDS[name], partial(check_config, name))


KINDS = {name: _kind(name) for name in FIELDS}
