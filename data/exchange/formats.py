"""Labels in the formats of other tools: tables, preference pairs, binary words, word scores, a folder for ``datasets``.

``data.exchange.jsonl`` is the format without loss; each of these loses something, which its own docstring names. All of them
write a word's *current* label (``data.store.labels``), and all can be imported again; votes come in as pairs.
"""

from __future__ import annotations

from data.exchange.folder import export_folder, import_folder
from data.exchange.pairs import export_dpo, export_votes, import_dpo
from data.exchange.parquet import export_parquet, import_parquet
from data.exchange.table import export_csv, import_csv
from data.exchange.words import RAPIDATA, RICHHF, export_words, import_words

__all__ = [
    "RAPIDATA",
    "RICHHF",
    "export_csv",
    "export_dpo",
    "export_folder",
    "export_parquet",
    "export_votes",
    "export_words",
    "import_csv",
    "import_dpo",
    "import_folder",
    "import_parquet",
    "import_words",
]
