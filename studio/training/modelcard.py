"""A run's model card: what it is, what it was trained on, what was measured, and what is known against it.

Front matter by huggingface_hub, so that the Hub reads it. Nothing in a card comes from anywhere but the run's row.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

TITLES = {
    "cycle": "Noise projector",
    "projector": "Noise projector",
    "warmup": "Noise projector, warmed up only",
    "reward": "Reward model for noise projection",
    "calibrator": "Calibrator of a word scorer",
    "lora": "LoRA of a diffusion model",
}
WHAT = {
    "cycle": "Moves the initial noise of a diffusion model, once, before denoising, toward what the prompt needs.",
    "projector": "Moves the initial noise of a diffusion model, once, before denoising, toward what the prompt needs.",
    "warmup": "A projector that has learned to be harmless: it makes images neither better nor worse.",
    "reward": "Foresees how well each word of a prompt will show, from the initial noise and the prompt alone.",
    "calibrator": "Corrects the scores of a vision-language model where people corrected them.",
    "lora": "An adapter of the diffusion model, fine-tuned on images weighted by their word scores.",
}
USE = {
    "cycle": "STUDIO_PROJECTOR",
    "projector": "STUDIO_PROJECTOR",
    "warmup": "STUDIO_PROJECTOR",
    "reward": "STUDIO_REWARD",
}
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


def card(run: Mapping[str, Any], heldout: Mapping[str, Any] | None, backbone: str) -> str:
    """Markdown. heldout: the result of the run, or of the loop that it is a part of."""
    kind, title = run["kind"], f"{TITLES.get(run['kind'], run['kind'])} {run['id']}"
    data = ModelCardData(
        library_name="diffusers",
        base_model=None if Path(backbone).is_absolute() else backbone,
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
        *_use(kind),
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
    kind = "text-to-image" if heldout["of"] not in IN_NATS else "other"
    return [
        EvalResult(
            task_type=kind, dataset_type="held-out", dataset_name=f"held-out {heldout['of']}",
            metric_type=name, metric_name=name, metric_value=round(heldout["after"][name]["estimate"], 4),
        )
        for name in FIGURES if (heldout["after"].get(name) or {}).get("estimate") is not None
    ]  # fmt: skip


def _use(kind: str) -> list[str]:
    if kind not in USE:
        return []
    return ["## How to use it", f"```\n{USE[kind]}=FOLDER python app.py\n```"]


def _trained(run: Mapping[str, Any]) -> list[str]:
    labels = run["labels"]
    if not labels:
        return []
    counts = (
        ", ".join(f"{count} by {source}" for source, count in sorted(labels.get("sources", {}).items()))
        or "none"
    )
    start = (run["config"].get("used") or {}).get("projector") or "what the project ships"
    began = f" Began from: {start}." if run["kind"] in ("cycle", "projector") else ""
    return [
        "## Trained on",
        f"{labels.get('count', 'Some')} word labels ({counts}), a snapshot with sha256 `{labels.get('sha256', '?')[:16]}`.{began}",
    ]


def _measured(heldout: Mapping[str, Any] | None) -> list[str]:
    if not heldout:
        return ["## Measured", "Nothing was measured on held-out prompts."]
    parts = [part for part in ("none", "before", "after") if part in heldout]
    rows = []
    names = FIGURES if heldout["of"] not in IN_NATS else {"words": "log-likelihood of a label, nats a word"}
    for name, words in names.items():
        found = [heldout[part].get(name) for part in parts]
        if any(found):
            rows.append(
                (words, *(_interval(f) for f in found), _interval(heldout["difference"].get(name), "+"))
            )
    judge = f"Judge: {heldout['judge']}" + (
        ", on which nothing was trained."
        if heldout["independent"]
        else ", from which the labels came: not independent."
    )
    size = (
        f" {heldout['images']} images of {heldout['prompts']} prompts each."
        if {"images", "prompts"} <= heldout.keys()
        else ""
    )
    return [
        "## Measured",
        f"On {heldout['of']} that nothing was trained on, with 95 % intervals where they are known. {judge}{size}",
        _table(("figure", *parts, "difference"), rows),
    ]


def _limits(kind: str) -> list[str]:
    return ["## Known limits", "\n".join(f"- {line}" for line in LIMITS[kind])] if kind in LIMITS else []


def _interval(found: Mapping[str, float | None] | None, sign: str = "") -> str:
    """An estimate with its interval; alone where it has no bounds, as a calibrator's before and after."""
    if not found or found["estimate"] is None:
        return ""
    spec = f"{sign}.3f"
    if found["low"] is None or found["high"] is None:
        return f"{found['estimate']:{spec}}"
    return f"{found['estimate']:{spec}} [{found['low']:{spec}}, {found['high']:{spec}}]"


def _table(head: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    """A table whose cells cannot break out of it: settings may be a user's text."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(_cell(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def _cell(value: Any) -> str:
    text = " ".join(str(value).split())
    for char in "\\|`<>":
        text = text.replace(char, f"\\{char}")
    return text
