"""The result of a training in words: sentences on seeds before and after it and on what it learned, and its model card.

The card's front matter is made by huggingface_hub, so that the Hub reads it. Nothing in a card comes from anywhere but the
run's row.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studio.numbers import finite

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

POINTS = 3  # a difference that one would like to detect
REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")  # owner/name on the Hub
PICTURES = "heldout"  # the folder in a run's with the images of seeds that changed

TITLES = {
    **dict.fromkeys(("cycle", "projector"), "Noise projector"),
    "warmup": "Noise projector, warmed up only",
    "reward": "Reward model for noise projection",
    "calibrator": "Calibrator of a word scorer",
    "lora": "LoRA of a diffusion model",
}
MOVES = "Moves the initial noise of a diffusion model, once, before denoising, toward what the prompt needs."
WHAT = {
    **dict.fromkeys(("cycle", "projector"), MOVES),
    "warmup": "A projector that has learned to be harmless: it makes images neither better nor worse.",
    "reward": "Foresees how well each word of a prompt will show, from the initial noise and the prompt alone.",
    "calibrator": "Corrects the scores of a vision-language model where people corrected them.",
    "lora": "An adapter of the diffusion model, fine-tuned on images weighted by their word scores.",
}
USE = {**dict.fromkeys(("cycle", "projector", "warmup"), "STUDIO_PROJECTOR"), "reward": "STUDIO_REWARD"}
FIGURES = {
    "words": "words that hold",
    "strict": "images in which every word holds",
    "clean": "images in which every word holds and nothing else is there",
}
IN_NATS = ("labels", "corrections")  # what a result is of, where its figure is a log-likelihood and no share
LIMITS = {
    "projector": [
        "It was judged on the prompts and the backbone named here; nothing is known of others.",
        "All noises of a prompt are moved alike in part, so images of one prompt may resemble each other more.",
        "No word score says that a thing is there twice: look at the figure for images in which nothing else is there.",
    ],
    "reward": ["Its labels come from a scorer and from corrections: it has learned the mistakes of both."],
    "calibrator": ["It is right for the scorer version that was corrected, and for no other."],
    "lora": ["It was trained on images of the backbone itself; it can teach it nothing that it never drew."],
}  # fmt: skip


# ---- sentences ----------------------------------------------------------------------------------------------------


def by_whom(heldout: Mapping[str, Any]) -> str:
    """The judge of a held-out result, in words."""
    return "people" if heldout["judge"] == "people" else f"the {heldout['judge']}"


def seeds_said(heldout: Mapping[str, Any]) -> list[str]:
    """How many seeds became whole and how many broke, what whole means, and whether the difference is clear of chance;
    [] where a run of an earlier version did not count them."""
    seeds = heldout.get("seeds")
    if not seeds:
        return []
    when = "before" if heldout["base"] == "before" else "without a projector"
    broken, mended, spoiled = seeds["broken"], seeds["mended"], seeds["spoiled"]
    was, now = f"{_were(broken)} broken {when}", f"{mended} {_are(mended)} whole now"
    many = "1 seed" if broken == 1 else f"{broken} seeds"
    lines = [
        f"Of {many} that {was}, {now}; {spoiled} that {_were(spoiled)} whole {_are(spoiled)} broken.",
        f"Whole: every word holds and nothing else is in the image, by {by_whom(heldout)}.",
    ]
    return lines + _clear(heldout["difference"].get("clean") or {}, heldout.get("images") or 0)


def _clear(change: Mapping[str, Any], images: int) -> list[str]:
    """The difference in whole images with the half-width of its interval, and whether it is significant; if not, the number
    of images for a half-width of POINTS, which shrinks with the root of their number."""
    estimate, low, high = change.get("estimate"), change.get("low"), change.get("high")
    if not finite(estimate):
        return []
    change_text = f"Whole images: {100 * estimate:+.1f} points"
    if not (finite(low) and finite(high)):
        return [f"{change_text}; how sure that is was not worked out."]
    half = 50 * (high - low)
    if low > 0 or high < 0:
        return [f"{change_text}, ± {half:.1f}: clear of chance."]
    needed = math.ceil(images * (half / POINTS) ** 2 / 100) * 100
    more = f" To tell {POINTS} points takes about {needed} images, not {images}."
    return [
        f"{change_text}, ± {half:.1f}: that is within what chance does.{more if needed > images > 0 else ''}"
    ]


def learned_said(metrics: Mapping[str, Any]) -> list[str]:
    """Whose labels chose the weights of a run's reward model, and how good its foresight and reader are; [] where the run
    trained none, or is of an earlier version. metrics: of a run of kind reward or cycle."""
    reward = metrics["reward"] if isinstance(metrics.get("reward"), Mapping) else metrics
    lines = []
    chosen = reward.get("chosen_by")
    if chosen == "people":
        lines.append("The weights of the reward model were chosen by people's labels on validation prompts.")
    elif chosen:
        lines.append(
            "The weights of the reward model were chosen by the scorer's labels on validation prompts: people's are too few."
        )
    parts = reward.get("parts") or {}
    foresight, reader = parts.get("foresight") or {}, (parts.get("reader") or {}).get("metrics") or {}
    if foresight.get("kept"):
        lines.append("Foresight: that of the reward model it began with.")
    elif foresight.get("foreseen"):
        before, after = foresight["foreseen"]["before"], foresight["foreseen"]["after"]
        lines.append(
            f"Foresight: {100 * after:.0f} % of the variance of the finished latents is foreseen, {100 * before:.0f} % before "
            "it was tuned."
        )
    if finite(foreseen := reader.get("pearson_within")):
        finished = reader.get("finished_pearson_within")
        rest = f" on what is foreseen, {finished:.2f} on finished images" if finite(finished) else ""
        lines.append(f"Reader: Pearson {foreseen:.2f} within a prompt{rest}.")
    return lines


def _were(count: int) -> str:
    return "was" if count == 1 else "were"


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


# ---- the model card -----------------------------------------------------------------------------------------------


def card(
    run: Mapping[str, Any],
    heldout: Mapping[str, Any] | None,
    backbone: str,
    use: Sequence[str] | None = None,
    licence: str = "",
) -> str:
    """A run's model card in Markdown. heldout: the result of the run, or of the cycle that it is a part of. use: the
    paragraphs on how to use it, where it is not used by the studio. licence: of the weights, for the front matter."""
    from huggingface_hub import ModelCardData  # slow to import, and the command line reads this module

    kind, title = run["kind"], f"{TITLES.get(run['kind'], run['kind'])} {run['id']}"
    data = ModelCardData(
        library_name="diffusers",
        base_model=backbone if REPOSITORY.fullmatch(backbone) else None,
        license=licence or None,
        tags=["noise-projection", "text-to-image", kind],
        model_name=title if heldout else None,
        eval_results=_results(heldout) if heldout else None,
    )
    parts = [
        f"---\n{data.to_yaml()}\n---",
        f"# {title}",
        WHAT.get(kind, ""),
        "Made by Noise Projection Studio after arXiv 2510.14526.",
        f"Backbone: `{Path(backbone).name}`. State: {run['state']}. Made {str(run['created'])[:10]}.",
        *(_use(kind) if use is None else use),
        *_trained(run),
        *_measured(heldout),
        *_limits("projector" if kind in ("cycle", "warmup") else kind),
        "## Settings",
        _table(("setting", "value"), sorted((k, v) for k, v in run["config"].items() if k != "used")),
    ]
    if run["checkpoint_sha256"]:
        parts.append(f"sha256 of the checkpoint's manifest: `{run['checkpoint_sha256']}`")
    return "\n\n".join(part for part in parts if part) + "\n"


def _results(heldout: Mapping[str, Any]) -> list[EvalResult]:
    from huggingface_hub import EvalResult

    kind = "text-to-image" if heldout["of"] not in IN_NATS else "other"
    return [
        EvalResult(
            task_type=kind, dataset_type="held-out", dataset_name=f"held-out {heldout['of']}",
            metric_type=name, metric_name=name, metric_value=round(heldout["after"][name]["estimate"], 4),
        )
        for name in FIGURES if (heldout["after"].get(name) or {}).get("estimate") is not None
    ]  # fmt: skip


def _use(kind: str) -> list[str]:
    return ["## How to use it", f"```\n{USE[kind]}=FOLDER python app.py\n```"] if kind in USE else []


def _trained(run: Mapping[str, Any]) -> list[str]:
    labels = run["labels"]
    if not labels:
        return []
    sources = sorted(labels.get("sources", {}).items())
    counts = ", ".join(f"{count} by {source}" for source, count in sources) or "none"
    start = (run["config"].get("used") or {}).get("projector") or "what the project ships"
    began = f" Began from: {start}." if run["kind"] in ("cycle", "projector") else ""
    return [
        "## Trained on",
        f"{labels.get('count', 'Some')} word labels ({counts}), a snapshot with sha256 `{labels.get('sha256', '?')[:16]}`.{began}",
    ]


def _measured(heldout: Mapping[str, Any] | None) -> list[str]:
    if not heldout:
        return ["## Measured", "Nothing was measured on held-out prompts."]
    sides = [side for side in ("none", "before", "after") if side in heldout]
    rows = []
    names = FIGURES if heldout["of"] not in IN_NATS else {"words": "log-likelihood of a label, nats a word"}
    for name, meaning in names.items():
        figures = [heldout[side].get(name) for side in sides]
        if any(figures):
            difference = interval(heldout["difference"].get(name), "+")
            rows.append((meaning, *map(interval, figures), difference))
    independence = "from which the labels came: not independent"
    if heldout["independent"]:
        independence = "on which nothing was trained"
    judge = f"Judge: {heldout['judge']}, {independence}."
    if {"images", "prompts"} <= heldout.keys():
        judge += f" {heldout['images']} images of {heldout['prompts']} prompts each."
    return [
        "## Measured",
        f"On {heldout['of']} that nothing was trained on, with 95 % intervals where they are known. {judge}",
        _table(("figure", *sides, "difference"), rows),
    ]


def _limits(kind: str) -> list[str]:
    return ["## Known limits", "\n".join(f"- {line}" for line in LIMITS[kind])] if kind in LIMITS else []


def interval(figure: Mapping[str, float | None] | None, sign: str = "") -> str:
    """An estimate with its interval, "" for none; alone where it has no bounds, as a calibrator's before and after."""
    if not figure or figure["estimate"] is None:
        return ""
    bounds, spec = (figure["low"], figure["high"]), f"{sign}.3f"
    span = "" if None in bounds else f" [{', '.join(format(bound, spec) for bound in bounds)}]"
    return f"{figure['estimate']:{spec}}{span}"


def _table(head: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    """A Markdown table; its cells are escaped, as settings may be a user's text."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(_cell(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def _cell(value: Any) -> str:
    text = " ".join(str(value).split())
    for char in "\\|`<>":
        text = text.replace(char, f"\\{char}")
    return text
