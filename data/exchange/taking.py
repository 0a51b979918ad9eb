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

from data.exchange.intake import CHANGES
from data.exchange.jsonl import ImportRefused
from data.exchange.staging import Staging
from data.store import checks
from data.store.labels import expected
from data.store.library import labels_of
from data.store.samples import need_sample
from data.store.scores import Units, checked_event, insert_event, latest, need_unit

MOST = 1_000_000  # scores of a file
RECENT = 500  # samples that are kept at hand
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
    """One import: ``word`` for each word of the file, then ``finish``."""

    def __init__(self, stage: Staging, who: str, scorer: str, units: Units) -> None:
        self.stage, self.db, self.who, self.scorer, self._units = stage, stage.db, who, scorer, units
        self.samples = 0  # that were named
        self._recent: dict[str, tuple[dict[str, Any], Sequence[Any], dict[int, dict[str, Any]]]] = {}
        self.db.execute(
            "CREATE TEMP TABLE known (sample, word_index, PRIMARY KEY (sample, word_index)) WITHOUT ROWID"
        )
        self.counts, self.changes = {"words": 0, "changed": 0, "new": 0}, []

    def sample(self, id: Any, *prompts: Any) -> dict[str, Any]:
        """The sample, which must be in the store and have one of these prompts, if any."""
        found = self._known(id)[0]
        if prompts and found["prompt"] not in prompts:
            raise ValueError(f"the sample {id} has another prompt in the store.")
        return found

    def units(self, id: str) -> Sequence[Any]:
        """The units of a sample."""
        return self._known(id)[1]

    def _known(self, id: Any) -> tuple[dict[str, Any], Sequence[Any], dict[int, dict[str, Any]]]:
        """A sample, its units, and the labels that it has."""
        if not isinstance(id, str) or id not in self._recent:
            checks.identifier("sample", id)
            self.samples += self.stage.pull(id)
            found = need_sample(self.db, id)
            kept = ("word", "score", "distribution")
            labels = {index: {n: x[n] for n in kept} for (_, index), x in labels_of(self.db, [id]).items()}
            while len(self._recent) >= RECENT:
                self._recent.pop(next(iter(self._recent)))
            self._recent[id] = found, self._units(found), labels
        return self._recent[id]

    def word(self, line: int, sample: dict[str, Any], index: Any, word: Any, score: int, says: Says) -> None:
        """One word. says (this person's own score, the label or None): whether either is what the file says."""
        index = checks.integer("word_index", whole(index), 0, 999)
        text = checks.text("a word", "" if word is None else word, checks.PROMPT_LENGTH, empty=True)
        _, units, labels = self._known(sample["id"])
        unit, label = need_unit(sample, units, index, text), labels.get(index)
        place = (sample["id"], index)
        if not self.db.execute("INSERT OR IGNORE INTO known VALUES (?, ?)", place).rowcount:
            raise ValueError(f"the word {index} of the sample {sample['id']} is there twice.")
        self.counts["words"] += 1
        if self.counts["words"] > MOST:
            raise ValueError(f"the file has more than {MOST:,} scores; import it in parts.")
        own = latest(self.db, *place, "human", self.who)
        if says(own and own["score"], label):
            return
        change = {
            "line": line,
            "sample": sample["id"],
            "word_index": index,
            "word": unit.text,
            "before": round(expected(label), 4) if label else None,
            "after": score,
        }
        self.counts["changed" if label else "new"] += 1
        if len(self.changes) < CHANGES:
            self.changes.append(change)
        event = {name: change[name] for name in ("sample", "word_index", "word")}
        said = {"source": "human", "who": self.who, "score": score, "scorer": self.scorer}
        insert_event(self.db, checked_event({**event, **said}))

    def finish(self, dry_run: bool) -> dict[str, Any]:
        """Store the changes, or not; {samples, words, same, new, changed, changes: the first of them}: ``new`` had no
        label."""
        (samples,) = self.db.execute("SELECT count(DISTINCT sample) FROM known").fetchone()
        if not dry_run:
            self.stage.write()
        words, new, changed = (self.counts[name] for name in ("words", "new", "changed"))
        same = words - new - changed
        return {"samples": samples, "words": words, "same": same, "new": new, "changed": changed,
                "changes": self.changes}  # fmt: skip
