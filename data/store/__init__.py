"""The store (DESIGN section 5): samples, scores, labels, the annotation queue and runs in one SQLite file.

Each part is in a file of its own; ``Store`` is all of them on one file. Everything takes and returns plain
values and dicts. ValueError: the caller gave something that cannot be kept. StoreError: the file, the disk
or another writer is in the way. Either message is a sentence that can be shown to a user.
"""

from __future__ import annotations

from data.store.audit import Audit
from data.store.cursors import Cursors
from data.store.database import StoreError
from data.store.desk import Desk
from data.store.foreseen import Foreseen
from data.store.gold import Gold
from data.store.grids import Grids
from data.store.imports import Imports
from data.store.judgements import Judgements
from data.store.labels import Labels
from data.store.leases import Leases
from data.store.library import Library
from data.store.missing import Missing
from data.store.people import People
from data.store.queue import Annotation
from data.store.receipts import Receipts
from data.store.remarks import Remarks
from data.store.restore import Backup
from data.store.runs import RunBusy, Runs
from data.store.samples import Samples
from data.store.scores import Scores
from data.store.tallies import Tallies
from data.store.votes import Preferences

__all__ = ["RunBusy", "Store", "StoreError"]


class Store(
    Samples,
    Scores,
    Missing,
    Labels,
    Judgements,
    Annotation,
    Leases,
    Remarks,
    Receipts,
    Grids,
    Preferences,
    Runs,
    Audit,
    Imports,
    Gold,
    Foreseen,
    Desk,
    People,
    Library,
    Backup,
    Cursors,
    Tallies,
):
    """``Store(path)`` opens, creates or migrates; many threads and processes may have one each.

    ``vacuum_into(path)`` makes a backup while others write, ``restore(path)`` takes one back; ``check()`` reads the whole file for damage.
    """
