"""Preference pairs for direct preference optimisation (DPO), from word labels or from votes; JSONL without a header.

A line: prompt, chosen and rejected (paths of images inside the app's folder), margin, split, and the two samples' ids. Among
the samples of one prompt (and split) the best is paired with the worst, the second best with the second worst, and so on, so
that each image is in one pair at most. Samples are ranked by the mean of their words' labels, over 9, with *nothing else*
counting as one more word. The margin (above 0, up to 1) is the difference of the means over the words labelled in both.

Lost: which words made the difference, images without a partner, ties, and all events. ``split`` is kept, so that pairs
of held-out prompts can be left out of a training.

``export_votes`` writes the same lines from people's votes between two images, one line per vote for a side (the last of each
person on each pair), and ``import_dpo`` imports such lines as one person's votes: **chosen is the better image**. Lost
that way: margins, ties, and who voted.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sqlite_utils import Database

from data.exchange.jsonl import json_line, records, whole_file
from data.exchange.staging import CHANGES, Staging, refused, staging
from data.store import Store, checks
from data.store.database import insert, new_id, now, row, rows
from data.store.labels import expected
from data.store.samples import need_sample

FIELDS = ("prompt", "chosen", "rejected", "margin", "split", "chosen_sample", "rejected_sample")


def _mean(words: Mapping[int, float], over: set[int] | None = None) -> float:
    wanted = sorted(words if over is None else over)
    return sum(words[i] for i in wanted) / len(wanted) / 9


def export_dpo(store: Store, path: str | Path) -> dict[str, int]:
    """Write the file whole or not at all; returns {samples: with a label and an image, pairs}."""
    labels = store.labels.current(include_calibrated=True)
    with store.database.reading() as db:
        images = rows(db, "SELECT id, prompt, split, image_path FROM samples WHERE image_path IS NOT NULL")
    samples = {s["id"]: s for s in images}
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
                values = (
                    prompt,
                    samples[chosen]["image_path"],
                    samples[rejected]["image_path"],
                    margin,
                    split,
                )
                file.write(json_line(dict(zip(FIELDS, (*values, chosen, rejected)))))
                pairs += 1
    return {"samples": len(words), "pairs": pairs}


# the last vote of each person on each pair, whichever image was on the left
LAST = """SELECT p.* FROM preferences p WHERE NOT EXISTS (SELECT 1 FROM preferences n WHERE n.who = p.who AND n.seq > p.seq
    AND min(n.left_sample, n.right_sample) = min(p.left_sample, p.right_sample)
    AND max(n.left_sample, n.right_sample) = max(p.left_sample, p.right_sample))"""


def export_votes(store: Store, path: str | Path) -> dict[str, int]:
    """Write votes between two images of one prompt, whole or not at all; returns {samples, pairs}."""
    with store.database.reading() as db:
        sql = f"""SELECT c.prompt, c.image_path AS chosen, r.image_path AS rejected, c.split, c.id AS chosen_sample,
                r.id AS rejected_sample FROM ({LAST} AND p.choice IN ('left', 'right') ORDER BY p.seq) v
            JOIN samples c ON c.id = CASE v.choice WHEN 'left' THEN v.left_sample ELSE v.right_sample END
            JOIN samples r ON r.id = CASE v.choice WHEN 'left' THEN v.right_sample ELSE v.left_sample END
            WHERE c.prompt = r.prompt AND c.image_path IS NOT NULL AND r.image_path IS NOT NULL ORDER BY v.seq"""
        pairs = rows(db, sql)
    with whole_file(path) as file:
        for pair in pairs:
            file.write(json_line(pair))
    samples = {pair[side] for pair in pairs for side in ("chosen_sample", "rejected_sample")}
    return {"samples": len(samples), "pairs": len(pairs)}


def _side(stage: Staging, record: Mapping[str, Any], side: str) -> str:
    """The id of one side's sample, given by id or by the image's path."""
    prompt, id, image = record.get("prompt"), record.get(f"{side}_sample"), record.get(side)
    if id is None:
        path = checks.relative_path(side, image)
        sql = "SELECT id FROM main.samples WHERE prompt = ? AND image_path = ?"
        samples = rows(stage.db, sql, (checks.text("prompt", prompt, checks.PROMPT_LENGTH), path))
        if len(samples) != 1:
            raise ValueError(
                f"{len(samples) or 'no'} images of this prompt lie at {checks.shown(path)}; give {side}_sample."
            )
        id = samples[0]["id"]
    stage.pull(checks.identifier("sample", id))
    sample = need_sample(stage.db, id)
    if sample["prompt"] != prompt:
        raise ValueError(f"the sample {sample['id']} has another prompt in the store.")
    if image is not None and image != sample["image_path"]:
        raise ValueError(
            f"the sample {sample['id']} has another image in the store than {checks.shown(image)}."
        )
    return sample["id"]


def import_dpo(store: Store, path: str | Path, who: str, dry_run: bool = False) -> dict[str, Any]:
    """Import each line as this person's vote for ``chosen``, all of them or none.

    Returns {pairs, same, new, changed, changes: the first of them, [{line, prompt, chosen_sample, rejected_sample, before,
    after}]}; before is the person's last vote on the pair ('chosen', 'rejected', 'tie', 'none'), or None. A pair on which
    the person has voted the same gets no new vote.
    """
    path, number = Path(path), 1
    checks.text("who", who)
    changes: list[dict[str, Any]] = []
    counts = {"pairs": 0, "same": 0, "new": 0, "changed": 0}
    with refused(path.name, lambda: number), open(path, "rb") as file, staging(store, path.name) as stage:
        stage.db.execute("CREATE TEMP TABLE known (one, other, PRIMARY KEY (one, other)) WITHOUT ROWID")
        for number, record in records(file, path.name):
            checks.names(record, FIELDS, "a line has an unknown field {0}.")
            chosen, rejected = (_side(stage, record, side) for side in ("chosen", "rejected"))
            if chosen == rejected:
                raise ValueError("chosen and rejected are the same image.")
            pair = sorted((chosen, rejected))
            if not stage.db.execute("INSERT OR IGNORE INTO known VALUES (?, ?)", pair).rowcount:
                raise ValueError("this pair is in the file twice.")
            before = _vote(stage.db, chosen, rejected, who)
            counts["pairs"] += 1
            counts["same" if before == "chosen" else "new" if before is None else "changed"] += 1
            if before == "chosen":
                continue
            if len(changes) < CHANGES:
                change = {"line": number, "prompt": record["prompt"], "chosen_sample": chosen}
                changes.append({**change, "rejected_sample": rejected, "before": before, "after": "chosen"})
            vote = {"left_sample": chosen, "right_sample": rejected, "choice": "left"}
            insert(stage.db, "preferences", {"id": new_id(), **vote, "who": who, "created": now()})
        if not dry_run:
            stage.write()
    return {**counts, "changes": changes}


def _vote(db: Database, chosen: str, rejected: str, who: str) -> str | None:
    """This person's last vote on the two: chosen, rejected, tie, none, or None."""
    sql = """SELECT left_sample, choice FROM preferences WHERE who = :who AND seq IN
            (SELECT seq FROM preferences WHERE left_sample = :a AND right_sample = :b
            UNION SELECT seq FROM preferences WHERE left_sample = :b AND right_sample = :a)
        ORDER BY seq DESC LIMIT 1"""
    vote = row(db, sql, {"who": who, "a": chosen, "b": rejected})
    if not vote:
        return None
    if vote["choice"] in ("tie", "none"):
        return vote["choice"]
    return "chosen" if (vote["choice"] == "left") == (vote["left_sample"] == chosen) else "rejected"
