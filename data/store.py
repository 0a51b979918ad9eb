"""The store (DESIGN section 5): samples, scores, labels, the annotation queue and runs in one SQLite file.

Each part is in a file of its own; ``Store`` is all of them on one file. Everything takes and returns plain
values and dicts. ValueError: the caller gave something that cannot be kept. StoreError: the file, the disk
or another writer is in the way. Either message is a sentence that can be shown to a user.
"""

from __future__ import annotations

from data.annotation import Annotation
from data.audit import Audit
from data.backup import Backup
from data.cursors import Cursors
from data.database import StoreError
from data.desk import Desk
from data.foreseen import Foreseen
from data.gold import Gold
from data.grids import Grids
from data.imports import Imports
from data.judgements import Judgements
from data.labels import Labels
from data.leases import Leases
from data.library import Library
from data.missing import Missing
from data.people import People
from data.preferences import Preferences
from data.receipts import Receipts
from data.remarks import Remarks
from data.runs import RunBusy, Runs
from data.samples import Samples
from data.scores import Scores
from data.tallies import Tallies

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
