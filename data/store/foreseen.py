"""Two caches that the application fills, for the annotation queue: how far the reward model is from the VLM on a
sample, and how much it expects where the VLM is unsure (``foreseen``); and the kinds of word in a prompt (``kinds``). Both can be made again from the samples.

A figure of ``foreseen`` names the models that it is of: the reward model's and the scorer's version, as ``<reward> <scorer
version>``. Where either has changed since, the sample counts as lacking one; the old figure stands until then, so that
the queue always has an order.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from data.store import checks
from data.store.database import Records, rows

# The version of the VLM whose scores of the sample s are the latest.
SCORER = """(SELECT v.scorer_version FROM scores v WHERE v.sample = s.id AND v.source = 'vlm' AND v.kind = 'set'
    ORDER BY v.seq DESC LIMIT 1)"""
LACKING = f"""FROM uncertainty u CROSS JOIN samples s ON s.id = u.sample
    LEFT JOIN foreseen f ON f.sample = s.id
    WHERE s.backbone_revision = :revision AND s.image_path IS NOT NULL
        AND (f.promise IS NULL OR f.model IS NOT :reward || ' ' || {SCORER})"""


class Foreseen(Records):
    def missing(self, reward: str, revision: str, limit: int = 1_000_000) -> list[str]:
        """Ids of samples of this backbone that the VLM has scored and that lack a figure of this reward model, the
        newest first."""
        values = {
            "reward": checks.text("reward", reward, 100),
            "revision": checks.text("revision", revision, 200, empty=True),
            "limit": checks.integer("limit", limit, 0, 10_000_000),
        }
        with self.database.reading() as db:
            found = db.execute(f"SELECT s.id {LACKING} ORDER BY s.seq DESC LIMIT :limit", values)
            return [id for (id,) in found]

    def seen_by_vlm(self, samples: Iterable[str]) -> dict[str, dict[str, Any]]:
        """What the VLM said last of each sample's words: {sample: {"version": str, "words": {word index: its distribution,
        or its score where it gave only that}}}."""
        ids = checks.as_json("samples", [checks.identifier("sample", id) for id in samples])
        found: dict[str, dict[str, Any]] = {}
        with self.database.reading() as db:
            said = rows(
                db,
                """SELECT sample, word_index, score, distribution, scorer_version FROM scores WHERE seq IN
                    (SELECT max(seq) FROM scores WHERE sample IN (SELECT value FROM json_each(?))
                        AND source = 'vlm' GROUP BY sample, word_index)
                    AND kind = 'set' ORDER BY seq""",
                (ids,),
            )
        for r in said:
            one = found.setdefault(r["sample"], {"version": "", "words": {}})
            one["version"] = r["scorer_version"]
            spread = json.loads(r["distribution"]) if r["distribution"] else None
            one["words"][r["word_index"]] = r["score"] if spread is None else spread
        return found

    def keep(self, figures: Mapping[str, tuple[float, float, str]], reward: str) -> None:
        """Keep figures: {sample: (points of 0-9, promise of 0-1, version of the VLM)}."""
        reward = checks.text("reward", reward, 100)
        kept = [
            (
                checks.number("points", points, 0, 9),
                checks.number("promise", promise, 0, 1),
                f"{reward} {version}",
                checks.identifier("sample", id),
            )
            for id, (points, promise, version) in figures.items()
        ]
        with self.database.writing() as db:
            db.conn.executemany(
                """INSERT INTO foreseen (sample, points, promise, model, projected)
                SELECT id, ?, ?, ?, method = 'projected' FROM samples WHERE id = ?
                ON CONFLICT (sample) DO UPDATE SET points = excluded.points, promise = excluded.promise,
                    model = excluded.model""",
                kept,
            )

    def any(self) -> bool:
        """Whether the queue has an order by the reward model at all."""
        with self.database.reading() as db:
            return db.execute("SELECT 1 FROM foreseen LIMIT 1").fetchone() is not None

    def prompts_without_kinds(self, after: int = 0, limit: int = 1_000_000) -> tuple[list[str], int]:
        """Prompts of samples that arrived after the sample of this seq and whose kinds are not kept, the newest first;
        and the seq of the newest sample, to go on from. Of all samples where the kinds of that sample are not kept: the
        store is then another one, that a backup has brought."""
        values = (checks.integer("after", after, 0, 2**62), checks.integer("limit", limit, 0, 10_000_000))
        with self.database.reading() as db:
            newest = db.execute("SELECT coalesce(max(seq), 0) FROM samples").fetchone()[0]
            kept = "SELECT 1 FROM samples s JOIN kinds k ON k.prompt = s.prompt WHERE s.seq = ? LIMIT 1"
            if not db.execute(kept, values[:1]).fetchone():
                values = (0, values[1])
            if newest <= values[0]:
                return [], newest
            found = db.execute(
                """SELECT s.prompt FROM samples s WHERE s.seq > ?
                    AND NOT EXISTS (SELECT 1 FROM kinds k WHERE k.prompt = s.prompt)
                GROUP BY s.prompt ORDER BY max(s.seq) DESC LIMIT ?""",
                values,
            )
            return [prompt for (prompt,) in found], newest

    def keep_kinds(self, kinds: Mapping[str, Iterable[str]]) -> None:
        """Keep the kinds of word of prompts; a prompt without any keeps '', so that it is not asked for again."""
        kept = [
            (checks.text("prompt", prompt, checks.PROMPT_LENGTH), checks.text("kind", kind, 40, empty=True))
            for prompt, found in kinds.items()
            for kind in (sorted(set(found)) or [""])
        ]
        with self.database.writing() as db:
            db.conn.executemany("INSERT OR IGNORE INTO kinds (prompt, kind) VALUES (?, ?)", kept)
