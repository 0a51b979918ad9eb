"""What came of a training, in sentences: seeds before and after it, and what it learned from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

TELLS = 3  # points that one would like to tell
PICTURES = "heldout"  # the folder in a run's with the images of seeds that changed


def by_whom(heldout: Mapping[str, Any]) -> str:
    """The judge of a held-out result."""
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
    lines = [
        f"Of {_many(broken)} that {was}, {now}; {spoiled} that {_were(spoiled)} whole {_are(spoiled)} broken.",
        f"Whole: every word holds and nothing else is in the image, by {by_whom(heldout)}.",
    ]
    return lines + _clear(heldout["difference"].get("clean") or {}, heldout.get("images") or 0)


def _clear(change: Mapping[str, Any], images: int) -> list[str]:
    """The difference in whole images with the half-width of its interval, and whether that is more than chance; where it
    is not, how many images would make it as narrow as TELLS: it shrinks with the root of their number."""
    much, low, high = (change.get(name) for name in ("estimate", "low", "high"))
    if much is None or not _finite(much):
        return []
    said = f"Whole images: {100 * much:+.1f} points"
    if not (_finite(low) and _finite(high)):
        return [f"{said}; how sure that is was not worked out."]
    half = 50 * (high - low)
    if low > 0 or high < 0:
        return [f"{said}, ± {half:.1f}: clear of chance."]
    needed = math.ceil(images * (half / TELLS) ** 2 / 100) * 100
    more = (
        f" To tell {TELLS} points takes about {needed} images, not {images}." if needed > images > 0 else ""
    )
    return [f"{said}, ± {half:.1f}: that is within what chance does.{more}"]


def learned_said(metrics: Mapping[str, Any]) -> list[str]:
    """Whose labels chose the weights of a run's reward model, how much the foresight and the reader see; [] where the
    run trained none, or is of an earlier version. metrics: of a run of kind reward or cycle."""
    reward = metrics.get("reward") if isinstance(metrics.get("reward"), Mapping) else metrics
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
    if _finite(ahead := reader.get("pearson_within")):
        finished = reader.get("finished_pearson_within")
        rest = f" on what is foreseen, {finished:.2f} on finished images" if _finite(finished) else ""
        lines.append(f"Reader: Pearson {ahead:.2f} within a prompt{rest}.")
    return lines


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _many(count: int) -> str:
    return "1 seed" if count == 1 else f"{count} seeds"


def _were(count: int) -> str:
    return "was" if count == 1 else "were"


def _are(count: int) -> str:
    return "is" if count == 1 else "are"
