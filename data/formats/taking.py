"""What an import of scores that people gave elsewhere has in common, whatever the file looks like.

What comes in is one person's score of a word, 0 to 9 (9 = fully shown), with ``scorer`` saying from which format. A
word whose label says the same already, or that this person has scored so, gets no event: importing twice changes
nothing. Place and word must be those of the prompt's own words, and the word one that is scored. All of a file is taken
over, or nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from sqlite_utils import Database

from data import checks
from data.exchange import ImportRefused
from data.labels import checked_filter, expected, labels_at
from data.samples import need_sample
from data.scores import Units, checked_event, insert_event, latest, need_unit

Says = Callable[[float | None, Mapping[str, Any] | None], bool]


def whole(value: Any) -> Any:
    """A number of a file, as an int where it is whole: data frames write whole numbers with gaps between them as 3.0."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def digit(score: int) -> Says:
    """Of a file that gives whole scores: it says what the person or the label's own digit says."""
    return lambda own, label: score in (own, label and label["score"])


@contextmanager
def refused(name: str, line: Callable[[], int], what: str = "line") -> Iterator[None]:
    """Turns what goes wrong into ImportRefused with the line (or row), or into a sentence that the file cannot be read."""
    try:
        yield
    except ImportRefused:
        raise
    except OSError as error:
        raise ValueError(f"{name} cannot be read ({error.strerror}); check its name.") from None
    except ValueError as error:
        raise ImportRefused(name, line(), str(error), what) from None


class Taking:
    """One import within one write transaction: ``word`` for each word of the file, then ``finish``."""

    def __init__(self, db: Database, who: str, scorer: str, units: Units) -> None:
        self.db, self.who, self.scorer, self._units = db, who, scorer, units
        last = db.execute("SELECT coalesce(max(seq), 0) FROM scores").fetchone()[0]
        found = labels_at(db, last, checked_filter({"include_calibrated": True}))
        self.labels = {(x["sample"], x["word_index"]): x for x in found}
        self.samples: dict[str, dict[str, Any]] = {}
        self.units: dict[str, Sequence[Any]] = {}
        self.known: set[tuple[str, int]] = set()
        self.changes: list[dict[str, Any]] = []

    def sample(self, id: Any, *prompts: Any) -> dict[str, Any]:
        """The sample, which must be in the store and have one of these prompts, if any; its units are known then."""
        if not isinstance(id, str) or id not in self.samples:
            found = need_sample(self.db, id)
            self.samples[found["id"]] = found
            self.units[found["id"]] = self._units(found)
        found = self.samples[id]
        if prompts and found["prompt"] not in prompts:
            raise ValueError(f"the sample {id} has another prompt in the store.")
        return found

    def word(self, line: int, sample: dict[str, Any], index: Any, word: Any, score: int, says: Says) -> None:
        """One word. says (this person's own score, the label or None): whether either is what the file says."""
        index = checks.integer("word_index", whole(index), 0, 999)
        text = checks.text("a word", "" if word is None else word, checks.PROMPT_LENGTH, empty=True)
        unit = need_unit(sample, self.units[sample["id"]], index, text)
        place = (sample["id"], index)
        if place in self.known:
            raise ValueError(f"the word {index} of the sample {sample['id']} is there twice.")
        self.known.add(place)
        label = self.labels.get(place)
        own = latest(self.db, *place, "human", self.who)
        if says(own and own["score"], label):
            return
        self.changes.append(
            {
                "line": line,
                "sample": sample["id"],
                "word_index": index,
                "word": unit.text,
                "before": round(expected(label), 4) if label else None,
                "after": score,
            }
        )

    def finish(self, dry_run: bool) -> dict[str, Any]:
        """Store the changes, or not; {samples, words, same, new, changed, changes}: ``new`` had no label."""
        for change in [] if dry_run else self.changes:
            event = {name: change[name] for name in ("sample", "word_index", "word")}
            said = {"source": "human", "who": self.who, "score": change["after"], "scorer": self.scorer}
            insert_event(self.db, checked_event({**event, **said}))
        new = sum(change["before"] is None for change in self.changes)
        return {
            "samples": len({sample for sample, _ in self.known}),
            "words": len(self.known),
            "same": len(self.known) - len(self.changes),
            "new": new,
            "changed": len(self.changes) - new,
            "changes": self.changes,
        }
