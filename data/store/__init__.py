"""The store: samples, scores, labels, the annotation queue and runs in one SQLite file.

``Store`` holds a part for each subject, all on one file. Everything takes and returns plain values and dicts. ValueError: a
value cannot be kept. StoreError: the file, the disk or another writer is in the way. Either message can be shown to a user.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from data.store.audit import Audit
from data.store.cursors import Cursors
from data.store.database import DatabaseFile, StoreError
from data.store.desk import Desk, Receipts, Remarks
from data.store.foreseen import Foreseen
from data.store.gold import Gold
from data.store.grids import Grids
from data.store.imports import Imports
from data.store.judgements import Judgements
from data.store.labels import Labels
from data.store.library import Library
from data.store.people import People
from data.store.queue import Leases, Queue, Tallies
from data.store.restore import Restoring
from data.store.runs import RunBusy, Runs
from data.store.samples import Samples
from data.store.scores import Missing, Scores
from data.store.votes import Votes

__all__ = ["RunBusy", "Store", "StoreError"]


class Store:
    """Open, create or migrate the database at ``path``; many threads and processes may have a store each.

    ``store.database`` is the file (``reading()``, ``writing()``, ``vacuum_into(path)`` for a backup while others write); the
    other attributes are the parts by subject.
    """

    def __init__(self, path: str | Path) -> None:
        self.database = database = DatabaseFile(path)
        self.samples = Samples(database)
        self.scores = Scores(database)
        self.missing = Missing(database)
        self.labels = Labels(database)
        self.judgements = Judgements(database)
        self.queue = Queue(database)
        self.leases = Leases(database)
        self.remarks = Remarks(database)
        self.receipts = Receipts(database)
        self.grids = Grids(database)
        self.votes = Votes(database)
        self.runs = Runs(database)
        self.audit = Audit(database)
        self.imports = Imports(database)
        self.gold = Gold(database)
        self.foreseen = Foreseen(database)
        self.desk = Desk(database)
        self.people = People(database)
        self.library = Library(database)
        self.restoring = Restoring(database)
        self.cursors = Cursors(database)
        self.tallies = Tallies(database)

    @contextmanager
    def to_export(self) -> Iterator[Store]:
        """This store or, where it is damaged, a store on a temporary copy of what can be read."""
        if not self.database.damage:
            yield self
            return
        with self.restoring.readable_copy() as path:
            copy = Store(path)
            try:
                yield copy
            finally:
                copy.database.close()
