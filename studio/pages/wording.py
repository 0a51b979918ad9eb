"""What Compare says of a pair in words: how far it is, how much better it is, and why a side of it is empty."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from studio.components import notices
from studio.images.detecting import Opinion, compared
from studio.images.views import shared, totals
from studio.studio import CompareUpdate, Pair, SampleView

PROJECTED, CHOSEN = "With projector", "Best of several noises"  # what the second image is called
ALONE = (
    "No model is in use that would give it other noise, so there is nothing to hold against it. Train one (a projector, or "
    "for the best of 8 a reward model) and promote it: it appears here."
)
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
    """How much the mean score of the second image is more, or None where that cannot be said."""
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


def named(pair: Pair) -> str:
    """What the second image of a pair is called."""
    if pair.projected is None or not pair.chosen:
        return PROJECTED
    return f"{CHOSEN}, of seed {pair.projected.seed}"


def summary(pairs: Sequence[Pair], opinions: Mapping[str, Opinion] | None = None) -> str:
    """What the projector or the choice of noise does over all seeds, by whose opinion, in a sentence or two. opinions: the
    detector's, by sample."""
    gains = [by for by in map(gain, pairs) if by is not None]
    if not gains:
        return ""
    better = sum(by > 0.05 for by in gains)
    worse = sum(by < -0.05 for by in gains)
    mean = round(sum(gains) / len(gains), 1) + 0.0  # never -0.0
    does = f"changes the mean score by {signed(mean)}" if mean else "does not change the mean score"
    who = "the chosen noise" if any(pair.chosen for pair in pairs) else "the projector"
    return " ".join([
        f"By the VLM, over {len(gains)} seeds {who} {does}: better on {better}, worse on {worse}. The VLM can be wrong.",
        *detected(pairs, opinions or {}),
    ])  # fmt: skip


def detected(pairs: Sequence[Pair], opinions: Mapping[str, Opinion]) -> list[str]:
    """What the detector says of the same seeds; nothing where it knows none."""
    both = [
        (opinions[pair.none.id], opinions[pair.projected.id])
        for pair in pairs
        if pair.projected and pair.none.id in opinions and pair.projected.id in opinions
    ]
    if not both:
        return []
    counts = compared(both)
    return ["By the detector: better on {better}, the same on {same}, worse on {worse}.".format(**counts)]


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
