"""The labels as other tools want them: tables, preference pairs, binary words, word scores, a folder for `datasets`.

``data.exchange.jsonl`` is the format that loses nothing; each of these loses something, and says what in its own
docstring. All of them write a word's *current* label: the people's median, else what people confirmed, else the
simulated annotator's, else the calibrated scorer's, else the VLM's. All but blind votes, which come in as pairs, come back in as well.
"""

from __future__ import annotations

from data.exchange.columns import import_folder, import_parquet
from data.exchange.folder import export_folder
from data.exchange.pairs import export_dpo, export_votes, import_dpo
from data.exchange.parquet import export_parquet
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
