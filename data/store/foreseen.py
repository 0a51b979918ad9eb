"""Two caches for the annotation queue that the application fills, and can rebuild from the samples.

``foreseen``: how far the reward model is from the VLM on a sample, and how much it expects where the VLM is unsure.
``kinds``: the kinds of word in a prompt.

A figure in ``foreseen`` names its models as ``<reward model> <scorer version>``. Where either has changed since, the sample
counts as lacking one; the old figure stays until it is replaced, so that the queue always has an order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from data.store import checks
from data.store.database import Records, last_seq
from data.store.scores import readable


class Foreseen(Records):
    def missing(self, reward: str, revision: str, limit: int = 1_000_000) -> list[str]:
        """Ids of this backbone's samples with VLM scores and without a figure of this reward model, newest first."""
        values = {
            "reward": checks.text("reward", reward, 100),
            "revision": checks.text("revision", revision, 200, empty=True),
            "limit": checks.integer("limit", limit, 0, 10_000_000),
        }
        scorer = """SELECT v.scorer_version FROM scores v WHERE v.sample = s.id AND v.source = 'vlm' AND v.kind = 'set'
            ORDER BY v.seq DESC LIMIT 1"""
        sql = f"""SELECT s.id FROM uncertainty u CROSS JOIN samples s ON s.id = u.sample
                LEFT JOIN foreseen f ON f.sample = s.id
            WHERE s.backbone_revision = :revision AND s.image_path IS NOT NULL
                AND (f.promise IS NULL OR f.model IS NOT :reward || ' ' || ({scorer}))
            ORDER BY s.seq DESC LIMIT :limit"""
        return [sample["id"] for sample in self.rows(sql, values)]

    def seen_by_vlm(self, samples: Iterable[str]) -> dict[str, dict[str, Any]]:
        """The VLM's latest scores of these samples: {sample: {"version": str, "words": {word index: {score,
        distribution}}}}."""
        ids = checks.as_json("samples", [checks.identifier("sample", id) for id in samples])
        seen: dict[str, dict[str, Any]] = {}
        sql = """SELECT sample, word_index, score, distribution, scorer_version FROM scores WHERE seq IN
                (SELECT max(seq) FROM scores WHERE sample IN (SELECT value FROM json_each(?))
                    AND source = 'vlm' GROUP BY sample, word_index)
                AND kind = 'set' ORDER BY seq"""
        for score in map(readable, self.rows(sql, (ids,))):
            sample = seen.setdefault(score["sample"], {"version": "", "words": {}})
            sample["version"] = score["scorer_version"]
            sample["words"][score["word_index"]] = score
        return seen

    def keep(self, figures: Mapping[str, tuple[float, float, str]], reward: str) -> None:
        """Keep figures: {sample: (points of 0-9, promise of 0-1, version of the VLM)}."""
        reward = checks.text("reward", reward, 100)
        records = []
        for id, (points, promise, version) in figures.items():
            checked = (checks.number("points", points, 0, 9), checks.number("promise", promise, 0, 1))
            records.append((*checked, f"{reward} {version}", checks.identifier("sample", id)))
        with self.database.writing() as db:
            sql = """INSERT INTO foreseen (sample, points, promise, model, projected)
                SELECT id, ?, ?, ?, method = 'projected' FROM samples WHERE id = ?
                ON CONFLICT (sample) DO UPDATE SET points = excluded.points, promise = excluded.promise,
                    model = excluded.model"""
            db.conn.executemany(sql, records)

    def any(self) -> bool:
        """Whether the queue has an order by the reward model."""
        return bool(self.rows("SELECT 1 FROM foreseen LIMIT 1"))

    def prompts_without_kinds(
        self, after: int = 0, limit: int = 1_000_000, version: str = ""
    ) -> tuple[list[str], int]:
        """Prompts without kinds of this version, of samples that arrived after the sample of this seq, newest first; and the
        seq of the newest sample, to continue from. Of all samples where the prompt of that sample has no kinds: a backup has
        then brought another store."""
        after, limit = checks.integer("after", after, 0, 2**62), checks.integer("limit", limit, 0, 10_000_000)
        with self.database.reading() as db:
            newest = last_seq(db, "samples")
            known = """SELECT 1 FROM samples s JOIN kinds k ON k.prompt = s.prompt
                WHERE s.seq = ? AND k.version = ? LIMIT 1"""
            if not db.execute(known, (after, version)).fetchone():
                after = 0
            if newest <= after:
                return [], newest
            sql = """SELECT s.prompt FROM samples s WHERE s.seq > ?
                    AND NOT EXISTS (SELECT 1 FROM kinds k WHERE k.prompt = s.prompt AND k.version = ?)
                GROUP BY s.prompt ORDER BY max(s.seq) DESC LIMIT ?"""
            prompts = db.execute(sql, (after, version, limit))
            return [prompt for (prompt,) in prompts], newest

    def keep_kinds(self, kinds: Mapping[str, Iterable[str]], version: str = "") -> None:
        """Keep the kinds of word of prompts, in place of those of another version; a prompt without any gets '', so that it
        is not looked at again. version: of what tells the kinds."""
        checks.text("version", version, 40, empty=True)
        records = [
            (
                checks.text("prompt", prompt, checks.PROMPT_LENGTH),
                checks.text("kind", kind, 40, empty=True),
                version,
            )
            for prompt, of_prompt in kinds.items()
            for kind in (sorted(set(of_prompt)) or [""])
        ]
        with self.database.writing() as db:
            old = [(prompt, version) for prompt in kinds]
            db.conn.executemany("DELETE FROM kinds WHERE prompt = ? AND version <> ?", old)
            db.conn.executemany(
                "INSERT OR IGNORE INTO kinds (prompt, kind, version) VALUES (?, ?, ?)", records
            )
