"""How images were sampled (steps, guidance, scheduler, negative prompt): which way most have, and what is left out as it has
another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from studio.images.making import sampler_of
from studio.images.options import default_options

if TYPE_CHECKING:
    from studio.studio import Studio

PARTLY = "judged in part"  # the one reason for which only the scores of people are left out
SAMPLING = ("steps", "guidance", "sampler", "negative")


def own_way(studio: Studio) -> dict[str, Any]:
    """The studio's own steps, guidance, scheduler and negative prompt."""
    options = default_options(studio.settings)
    sampler = sampler_of(studio.models.diffuser(), options)
    return {**studio.models.sampling(), "sampler": sampler, "negative": options.negative}


def sampling_of(samples: Sequence[Mapping[str, Any]], own: Mapping[str, Any]) -> dict[str, Any]:
    """The steps, guidance, scheduler and negative prompt that most of these samples were made with; of two equally common ways ``own``. A
    sample without a scheduler counts as made with the own one."""
    default = tuple(own[name] for name in SAMPLING)
    ways = Counter(
        (s["steps"], s["guidance"], s["sampler"] or own["sampler"], s["negative"]) for s in samples
    )
    if not ways:
        return dict(zip(SAMPLING, default, strict=True))
    # a tie is broken by the settings themselves, so that a resumed run takes the same ones
    chosen = max(
        ways, key=lambda way: (ways[way], sum(a == b for a, b in zip(way, default, strict=True)), way)
    )
    return dict(zip(SAMPLING, chosen, strict=True))


def usable(
    samples: Sequence[Mapping[str, Any]], wanted: Mapping[str, Any]
) -> tuple[list[Mapping[str, Any]], dict[str, int]]:
    """The samples that have all these settings (columns of a sample), and how many have not, by the first that differs,
    as a reason of ``left_out_said``. A sample without a scheduler, as an imported one may be, is kept."""
    kept: list[Mapping[str, Any]] = []
    left_out: Counter[str] = Counter()
    for sample in samples:
        names = [name for name in wanted if name != "sampler" or sample["sampler"]]
        other = next((name for name in names if sample[name] != wanted[name]), None)
        if other:
            left_out[_why(other, sample, wanted)] += 1
        else:
            kept.append(sample)
    return kept, dict(left_out)


def _why(name: str, sample: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """Why a sample with another setting is left out."""
    if name == "backbone_revision":
        return "made with another backbone"
    if name in ("height", "width"):
        return (
            f"made at {sample['width']}x{sample['height']} pixels, not {wanted['width']}x{wanted['height']}"
        )
    if name in ("loras", "weighted"):
        return {
            "loras": "made with LoRA files",
            "weighted": "made with weights in the prompt or the negative prompt",
        }[name]
    if name == "negative":
        return f"made with {against(sample[name])}, others with {against(wanted[name])}"
    text = {"steps": "{} steps", "guidance": "guidance {:g}", "sampler": "the scheduler {}"}[name]
    return f"made with {text.format(sample[name])}, others with {text.format(wanted[name])}"


def against(negative: str) -> str:
    """A negative prompt in a sentence."""
    return f"the negative prompt {negative[:60]!r}" if negative else "no negative prompt"


def replay_said(replayed: Mapping[str, Any], sampling: Mapping[str, Any]) -> str:
    """How the images of the labels kept with the models were sampled otherwise than those beside them, in a sentence, or ''."""
    _, reasons = usable([replayed], {name: sampling[name] for name in replayed if name in sampling})
    return f"The labels kept with the models are of images {next(iter(reasons))}." if reasons else ""


def left_out_said(left_out: Mapping[str, int]) -> str:
    """What was left out, in a sentence or two, or ''."""
    reasons = [f"{count} {why}" for why, count in sorted(left_out.items()) if why != PARTLY]
    sentences = [f"Labelled images that were left out: {'; '.join(reasons)}."] if reasons else []
    if partly := left_out.get(PARTLY):
        sentences.append(
            f"Left out: people's scores of {'1 image' if partly == 1 else f'{partly} images'} of which other words were "
            "neither scored nor confirmed; open them again and press Done."
        )
    return " ".join(sentences)
