"""The labels as other tools want them: a table, preference pairs, binary words, word scores.

``data.exchange`` is the format that loses nothing; each of these loses something, and says what in its own
docstring. All of them write a word's *current* label: the people's median, else the simulated annotator's,
else the calibrated scorer's, else the VLM's. CSV and DPO pairs go out only; the two formats of words come back in as well.
"""

from __future__ import annotations

from data.formats.pairs import export_dpo
from data.formats.table import export_csv
from data.formats.words import RAPIDATA, RICHHF, export_words, import_words

__all__ = ["RAPIDATA", "RICHHF", "export_csv", "export_dpo", "export_words", "import_words"]
