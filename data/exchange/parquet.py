"""The label of every word as Parquet, a row a word, for data frames: the columns of the CSV, with their types.

``distribution`` is a list of ten numbers or null, ``score`` a whole number or null, ``expected`` the one number for
both, 0 to 9, the distribution's mean where there is one; 9 = the word is fully shown. What the CSV loses is lost here too, but no text needs an apostrophe: nothing
runs it. The file's own metadata name the format, its version and the polarity.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data.exchange.jsonl import whole_file
from data.exchange.table import COLUMNS
from data.store import Store
from data.store.labels import expected

VERSION = 1
POLARITY = "0 to 9; 9 = the image fully shows the word, 0 = not at all"
BATCH = 20_000
TYPES = {"seed": "int64", "word_index": "int32", "score": "int8", "strength": "float32", "expected": "float32",
         "weight": "float32"}  # fmt: skip


def schema() -> Any:
    import pyarrow as pa

    fields = [
        pa.field(
            name,
            pa.list_(pa.float32())
            if name == "distribution"
            else pa.type_for_alias(TYPES.get(name, "string")),
        )
        for name in COLUMNS
    ]
    about = {
        "format": "noise-projection-studio/words",
        "version": str(VERSION),
        "polarity": POLARITY,
    }
    return pa.schema(fields, metadata=about)


def row_of(label: Mapping[str, Any]) -> dict[str, Any]:
    """A label of the store as a row."""
    return {
        **{name: label[name] for name in COLUMNS if name != "expected"},
        "expected": round(expected(label), 4),
    }


def write_parquet(labels: Sequence[Mapping[str, Any]], file: io.RawIOBase | Any) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetWriter(file, schema(), compression="zstd") as writer:
        for start in range(0, max(1, len(labels)), BATCH):
            rows = [row_of(label) for label in labels[start : start + BATCH]]
            writer.write_table(pa.Table.from_pylist(rows, schema()))


def export_parquet(store: Store, path: str | Path) -> dict[str, int]:
    """Write the file whole or not at all; returns {samples, words}."""
    labels = store.labels.current(include_calibrated=True)
    with whole_file(path) as file:
        write_parquet(labels, file)
    return {"samples": len({x["sample"] for x in labels}), "words": len(labels)}
