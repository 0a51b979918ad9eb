"""What an annotator's page reads and writes beside scores: steps to undo, filter choices, remarks, and key receipts.

*Steps* are what one person did, in the order of writing: scores, and leaving a sample by submit or skip. Both are undone by an
event of their own (``Scores.undo``, ``Queue.come_back``), and what was undone is no step.

*Remarks* are flags (with a reason) and notes on a sample. They are append-only events: of a person's flags (notes) on a sample
the last one stands, and one with an empty text takes it back.

A *receipt* holds the number of the last key press of a page that was handled, and the answer to it. A page numbers its keys
and sends again those that were not acknowledged. The receipt is written in the transaction of the key's own events, so that
nothing is done twice. A page is known by a digest of its secret number and its person's name. A page that was silent for
``KEPT_DAYS`` is forgotten; a browser gives up unacknowledged keys after 14 days.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from data.store import checks
from data.store.database import Records, insert, new_id, now, row, rows
from data.store.queue import STILL_LEFT
from data.store.samples import need_sample
from data.store.scores import NOT_UNDONE

CHOICES = ("prompt_set", "method", "projector_run", "prompt")
REMARKS = ("flag", "note")
REASON_LENGTH, NOTE_LENGTH = 200, 2000
KEPT_DAYS = 60
SENTENCE = 2000  # characters of an answer's sentences that are kept

# Remarks that stand.
STANDING_REMARKS = """SELECT id, sample, who, kind, text, created FROM remarks r WHERE text <> '' AND NOT EXISTS
    (SELECT 1 FROM remarks n WHERE n.sample = r.sample AND n.who = r.who AND n.kind = r.kind AND n.seq > r.seq)"""


class Desk(Records):
    def said(self, sample: str) -> list[dict[str, Any]]:
        """The last event of each person and word of a sample, oldest first: {seq, word_index, who, score (None: cleared), created}."""
        with self.database.reading() as db:
            need_sample(db, sample)
            sql = """SELECT seq, word_index, who, score, created FROM scores WHERE seq IN
                    (SELECT max(seq) FROM scores WHERE sample = ? AND source = 'human' GROUP BY word_index, who)
                ORDER BY seq"""
            return rows(db, sql, (sample,))

    def mark(self, sample: str) -> tuple[int, int]:
        """The seq of the last score and of the last remark of a sample, 0 for none."""
        sql = """SELECT coalesce((SELECT max(seq) FROM scores WHERE sample = :sample), 0) AS score,
            coalesce((SELECT max(seq) FROM remarks WHERE sample = :sample), 0) AS remark"""
        (last,) = self.rows(sql, {"sample": checks.identifier("sample", sample)})
        return last["score"], last["remark"]

    def scored_since(self, sample: str, seq: int) -> set[int]:
        """The seqs of a sample's scores after this one."""
        later = self.rows("SELECT seq FROM scores WHERE sample = ? AND seq > ?", (sample, seq))
        return {score["seq"] for score in later}

    def last_step(self, who: str, sample: str | None = None) -> dict[str, Any] | None:
        """This person's last score (of ``sample``, or any) that is not undone: {seq, sample}, or None."""
        sql = f"""SELECT seq, sample FROM scores e WHERE who = :who AND who <> '' AND source = 'human' AND {NOT_UNDONE}
                AND (:sample IS NULL OR sample = :sample)
            ORDER BY seq DESC LIMIT 1"""
        return self.row(sql, {"who": checks.text("who", who), "sample": sample})

    def last_left(self, who: str, sample: str | None = None) -> dict[str, Any] | None:
        """This person's last submit or skip (of ``sample``, or any) that was not taken back: {id, sample, kind, after: the
        seq of the last score before it}, or None."""
        sql = f"""SELECT id, sample, kind, coalesce(after, (SELECT max(seq) FROM scores s WHERE s.who = e.who
                AND s.who <> '' AND s.created < e.created), 0) AS after FROM submissions e
            WHERE who = :who AND {STILL_LEFT} AND (:sample IS NULL OR sample = :sample)
            ORDER BY seq DESC LIMIT 1"""
        return self.row(sql, {"who": checks.text("who", who), "sample": sample})

    def choices(self, name: str, limit: int = 300) -> list[str]:
        """The values of a queue filter among training samples, prompts newest first."""
        checks.one_of("filter", name, CHOICES)
        order = "max(seq) DESC" if name == "prompt" else name
        sql = f"""SELECT {name} FROM samples WHERE split = 'train' AND {name} IS NOT NULL AND {name} <> ''
            GROUP BY {name} ORDER BY {order} LIMIT ?"""
        return [sample[name] for sample in self.rows(sql, (checks.integer("limit", limit, 1, 10_000),))]


COLUMNS: dict[str, checks.Shape] = {
    "id": checks.identifier, "sample": checks.identifier, "who": checks.text, "kind": checks.choice(*REMARKS),
    "text": checks.words(NOTE_LENGTH), "created": checks.time,
}  # fmt: skip


def checked_remark(entry: Mapping[str, Any], sample: Mapping[str, Any]) -> dict[str, Any]:
    """A row of ``remarks`` from elsewhere."""
    remark = checks.entry(entry, COLUMNS, sample["id"])
    if remark["kind"] == "flag":
        checks.text("text", remark["text"], REASON_LENGTH, empty=True)
    return remark


class Remarks(Records):
    def flag(self, sample: str, who: str, reason: str) -> dict[str, Any]:
        """Flag a sample as faulty; returns the event {id, sample, who, kind, text, created}."""
        event = self._remark(sample, who, "flag", checks.text("reason", reason, REASON_LENGTH))
        assert event is not None  # the text is not empty
        return event

    def unflag(self, sample: str, who: str) -> dict[str, Any] | None:
        """Take this person's flag back. None where there was none."""
        return self._remark(sample, who, "flag", "")

    def note(self, sample: str, who: str, text: str) -> dict[str, Any] | None:
        """Set this person's note on the sample; an empty text takes the note back."""
        text = checks.text("note", text, NOTE_LENGTH, empty=True)
        return self._remark(sample, who, "note", text if text.strip() else "")

    def _remark(self, sample: str, who: str, kind: str, text: str) -> dict[str, Any] | None:
        """Repeating what stands returns the standing event."""
        who = checks.text("who", who)
        with self.database.writing() as db:
            need_sample(db, sample)
            sql = """SELECT id, sample, who, kind, text, created FROM remarks
                WHERE sample = ? AND who = ? AND kind = ? ORDER BY seq DESC LIMIT 1"""
            standing = row(db, sql, (sample, who, kind))
            if text == (standing["text"] if standing else ""):
                return standing if text else None
            event = {"id": new_id(), "sample": sample, "who": who, "kind": kind, "text": text}
            event["created"] = now()
            insert(db, "remarks", event)
        return event

    def find(
        self, sample: str | None = None, who: str | None = None, kind: str | None = None
    ) -> list[dict[str, Any]]:
        """The flags and notes that stand, newest first: {id, sample, who, kind, text, created}."""
        if kind is not None:
            checks.one_of("kind", kind, REMARKS)
        sql = f"""{STANDING_REMARKS} AND (:sample IS NULL OR sample = :sample) AND (:who IS NULL OR who = :who)
                AND (:kind IS NULL OR kind = :kind) ORDER BY seq DESC"""
        return self.rows(sql, {"sample": sample, "who": who, "kind": kind})


def page_digest(client: str, who: str) -> str:
    """The key of a person's page in ``receipts``; another person on the same page has another one."""
    return sha256(f"{client}\n{who}".encode()).hexdigest()


def checked_answer(answer: Mapping[str, Any]) -> str:
    """An answer as JSON: {shown, place, left, error, says, word}, as ``studio.annotation.inbox.Result`` has them."""
    for name, longest in (("shown", 64), ("place", 64), ("error", SENTENCE), ("says", SENTENCE)):
        checks.text(name, answer.get(name), longest, empty=True)
    checks.flag("left", answer.get("left"))
    if answer.get("word") is not None:
        checks.integer("word", answer["word"], 0, 999)
    return checks.as_json("answer", dict(answer))


class Receipts(Records):
    def get(self, page: str) -> dict[str, Any] | None:
        """The last key of a page that was handled: {revision, answer}; None where there was none."""
        sql = "SELECT revision, answer FROM receipts WHERE page_sha256 = ?"
        receipt = self.row(sql, (checks.sha256("page", page),))
        return receipt and {**receipt, "answer": json.loads(receipt["answer"])}

    def give(self, page: str, revision: int, answer: Mapping[str, Any]) -> None:
        """Record that this key of the page, and so all before it, was handled."""
        revision = checks.integer("revision", revision, 1, 2**31)
        values = (revision, checked_answer(answer), now(), checks.sha256("page", page))
        with self.database.writing() as db:
            sql = "UPDATE receipts SET revision = ?, answer = ?, changed = ? WHERE page_sha256 = ?"
            if not db.execute(sql, values).rowcount:
                db.execute("DELETE FROM receipts WHERE changed < ?", (now(-86400 * KEPT_DAYS),))
                sql = "INSERT INTO receipts (revision, answer, changed, page_sha256) VALUES (?, ?, ?, ?)"
                db.execute(sql, values)
