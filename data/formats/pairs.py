"""Preference pairs for direct preference optimisation (DPO), from the words' current labels; JSONL without a header.

A line: prompt, chosen and rejected (paths of images inside the app's folder), margin, split, and the two samples'
ids. Of the samples of one prompt (and split) the best goes with the worst, the second best with the second worst, and so on:
an image is in one pair at most. A sample's rank is the mean of its words' labels, over 9. The margin (0 to 1, more
than 0) is the difference of the means over the words that are labelled in both images.

Lost: which words made the difference, every image that found no partner, ties, and all events. ``split`` stays,
so that pairs of held-out prompts can be kept out of a training.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from data.database import rows
from data.exchange import json_line, whole_file
from data.labels import expected
from data.store import Store


def _mean(words: Mapping[int, float], over: set[int] | None = None) -> float:
    wanted = sorted(words if over is None else over)
    return sum(words[i] for i in wanted) / len(wanted) / 9


def export_dpo(store: Store, path: str | Path) -> dict[str, int]:
    """Write the file whole or not at all; returns {samples, pairs}: how many had a label and an image, and the pairs."""
    labels = store.labels(include_calibrated=True)
    with store.reading() as db:
        found = rows(db, "SELECT id, prompt, split, image_path FROM samples WHERE image_path IS NOT NULL")
    samples = {s["id"]: s for s in found}
    words: dict[str, dict[int, float]] = defaultdict(dict)
    for label in labels:
        if label["sample"] in samples:
            words[label["sample"]][label["word_index"]] = expected(label)
    prompts: dict[tuple[str, str], list[str]] = defaultdict(list)
    for id in words:
        prompts[samples[id]["prompt"], samples[id]["split"]].append(id)
    pairs = 0
    with whole_file(path) as file:
        for (prompt, split), ids in prompts.items():
            ranked = sorted(ids, key=lambda id: _mean(words[id]), reverse=True)
            for i in range(len(ranked) // 2):
                chosen, rejected = ranked[i], ranked[-1 - i]
                both = words[chosen].keys() & words[rejected].keys()
                margin = round(_mean(words[chosen], both) - _mean(words[rejected], both), 4) if both else 0.0
                if margin <= 0:
                    continue
                record = {
                    "prompt": prompt,
                    "chosen": samples[chosen]["image_path"],
                    "rejected": samples[rejected]["image_path"],
                    "margin": margin,
                    "split": split,
                    "chosen_sample": chosen,
                    "rejected_sample": rejected,
                }
                file.write(json_line(record))
                pairs += 1
    return {"samples": len(words), "pairs": pairs}
