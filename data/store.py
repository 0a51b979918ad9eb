"""The store (DESIGN section 5): samples, scores, labels, the annotation queue and runs in one SQLite file.

Each part is in a file of its own; ``Store`` is all of them on one file. Everything takes and returns plain
values and dicts. ValueError: the caller gave something that cannot be kept. StoreError: the file, the disk
or another writer is in the way. Either message is a sentence that can be shown to a user.
"""

from __future__ import annotations

from data.annotation import Annotation
from data.audit import Audit
from data.database import StoreError
from data.grids import Grids
from data.judgements import Judgements
from data.labels import Labels
from data.leases import Leases
from data.preferences import Preferences
from data.remarks import Remarks
from data.runs import RunBusy, Runs
from data.samples import Samples
from data.scores import Scores

__all__ = ["RunBusy", "Store", "StoreError"]


class Store(
    Samples, Scores, Labels, Judgements, Annotation, Leases, Remarks, Grids, Preferences, Runs, Audit
):
    """``Store(path)`` opens, creates or migrates; many threads and processes may have one each.

    ``vacuum_into(path)`` makes a backup while others write; ``check()`` reads the whole file for damage.
    """
