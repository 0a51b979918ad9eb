"""What Compare says of a pair in words: how far it is, how much better it is, and why a side of it is empty."""

from __future__ import annotations

from html import escape

from studio.components import notices
from studio.service import CompareUpdate, Pair, SampleView
from studio.views import shared, totals

ALONE = "No projector is in use, so there is nothing to hold against it. Train one and promote it: it appears here."
GONE = "The file of this image is gone. Compare the same prompt and seed again to make it anew."


def how_far(update: CompareUpdate) -> tuple[float, str]:
    """How much is done, 0..1, and the words for it."""
    done = update.step / max(1, update.total)
    return {
        "encode": (0.0, "Reading the prompt"),
        "denoise": (0.9 * done, f"Step {update.step} of {update.total}"),
        "decode": (0.93, "The images are there and stored"),
        "score": (0.96, "Scoring the words"),
        "done": (1.0, ""),
        "stopped": (0.0, ""),
    }[update.stage]


def gain(pair: Pair) -> float | None:
    """How much the projector changes the mean score, or None where that cannot be said."""
    return None if pair.projected is None else change(pair.none, pair.projected)


def change(before: SampleView, after: SampleView) -> float | None:
    """How much more the mean score of the second is, over what both have; None where a word has a score on one of them
    alone."""
    was, now = totals(before, after)
    if (
        was is None
        or now is None
        or any((a.score is None) != (b.score is None) for a, b in shared(before, after))
    ):
        return None
    return now - was


def arrow(by: float | None) -> str:
    """A change of a mean score, its direction in a sign as well."""
    if by is None:
        return ""
    if abs(by) < 0.05:
        return "= 0"
    return f"{'▲' if by > 0 else '▼'} {signed(by)}"


def signed(by: float) -> str:
    """With the minus that the chips have."""
    return f"{by:+.1f}".replace("-", "−")


def summary(pairs: list[Pair]) -> str:
    """What the projector does over all seeds, in a sentence."""
    gains = [by for by in map(gain, pairs) if by is not None]
    if not gains:
        return ""
    better = sum(by > 0.05 for by in gains)
    worse = sum(by < -0.05 for by in gains)
    mean = round(sum(gains) / len(gains), 1) + 0.0  # never -0.0
    does = f"changes the mean score by {signed(mean)}" if mean else "does not change the mean score"
    return (
        f"Over {len(gains)} seeds the projector {does}: "
        f"better on {better}, worse on {worse}. The scores are the VLM's, which can be wrong."
    )


# a chip's digit is the most likely score, which may be another
MEAN = (
    "The mean over the words and “nothing else” of your score where there is one, else of the expected score of the VLM's "
    "ten probabilities."
)


def total(sample: SampleView | None, before: SampleView | None = None) -> str:
    """The mean score under an image, and how it changed; or why there is none."""
    if sample is None:
        return f'<p class="quiet">{ALONE}</p>'
    gone = "" if sample.image_path else notices.notice(GONE, problem=True)
    if sample.total is None:
        return f'{gone}<p class="total">Not scored yet</p>'
    said = ""
    if before is not None and (by := change(before, sample)) is not None:
        said = f", {arrow(by)}"
    return f'{gone}<p class="total" title="{escape(MEAN)}">Mean score <strong>{sample.total:.1f}</strong> of 9{escape(said)}</p>'
