"""What tests of imports share: the importers with a fake of a prompt's words, and a store of which nobody said anything."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from data.exchange import folder, jsonl, parquet, table, words
from data.store import Store


def fake_units(texts: Sequence[str] | None = None, text: str = "x") -> Callable[[dict[str, Any]], list[Any]]:
    """A fake of ``core.words.units_of``: the words are these texts, which no word of a prompt need be, or one text again and
    again, so that the formats are seen to carry any text."""

    def units(sample: dict[str, Any]) -> list[Any]:
        count = sample["n_words"]
        words = texts[:count] if texts else [text.format(i) for i in range(count)]
        return [SimpleNamespace(text=w, start=2 * i, end=2 * i + 1, scored=True) for i, w in enumerate(words)]

    return units


def importers(units: Callable[[dict[str, Any]], Sequence[Any]]) -> tuple[Any, Any, Any, Any, Any]:
    """``import_labels``, ``import_csv``, ``import_words``, ``import_parquet`` and ``import_folder``, which ask ``units`` for
    the words of a sample."""
    tables = (table.import_csv, words.import_words, parquet.import_parquet, folder.import_folder)
    labels, *others = (partial(take, units=units) for take in (jsonl.import_labels, *tables))
    return labels, *others  # type: ignore[return-value]


def unsaid(store: Store, folder: Path) -> Store:
    """Another store with the same samples, of which nobody has said anything."""
    bare = Store(folder / "bare.db")
    bare.samples.add([{k: v for k, v in s.items() if k != "seq"} for s in store.samples.find(newest=False)])
    return bare
