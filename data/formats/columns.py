"""What ``parquet`` and ``folder`` wrote, taken in again: as one person's scores, by the rules of ``table.import_csv``.

A row of the Parquet table is a word. Of the dataset folder, or of a zip of it, the ``metadata.parquet`` of each split is
read, in which a row is an image with its words; its pictures are not, for it is the store's own images that are scored.
A word that has no score (a distribution alone, as the VLM gives it) says nothing; whole numbers may be floats, as pandas makes them of a column with gaps. Lost: who said it, whether it was given or confirmed, and all that
went out without coming in by a CSV table.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from data import checks
from data.formats.taking import Taking, digit, refused, whole
from data.scores import Units
from data.staging import staging
from data.store import Store

NEEDED = ("sample", "word_index", "score")
METADATA = "metadata.parquet"
LARGEST = 1 << 30  # bytes of a split's metadata in a zip
BATCH = 5_000
Row = tuple[int, str, Any, Any, Any, Any]  # place, sample, word index, word, prompt, score


def import_parquet(
    store: Store, path: str | Path, who: str, dry_run: bool = False, *, units: Units
) -> dict[str, Any]:
    """Take over the scores of a Parquet table that say something else than the store, all of them or nothing; returns
    what ``import_words`` does. ImportRefused names row (as its ``line``) and reason."""
    return _take(store, Path(path), who, dry_run, units, "from parquet", _table)


def import_folder(
    store: Store, path: str | Path, who: str, dry_run: bool = False, *, units: Units
) -> dict[str, Any]:
    """The same of a dataset folder, or of a zip of one; rows are counted through its splits in the order of their names."""
    return _take(store, Path(path), who, dry_run, units, "from a dataset", _folder)


def _take(
    store: Store,
    path: Path,
    who: str,
    dry_run: bool,
    units: Units,
    remark: str,
    rows: Callable[[Path], Iterator[Row]],
) -> dict[str, Any]:
    checks.text("who", who)
    at = 1

    with refused(path.name, lambda: at, "row"), staging(store) as stage:
        taking = Taking(stage, who, remark, units)
        for at, *cells in rows(path):
            # a gap between whole numbers makes them floats, and is NaN
            sample, index, word, prompt, given = (
                None if isinstance(cell, float) and math.isnan(cell) else cell for cell in cells
            )
            if given is None:
                continue
            score = checks.score(whole(given))
            found = taking.sample(sample, *([] if prompt is None else [prompt]))
            taking.word(at, found, index, word, score, digit(score))
        return taking.finish(dry_run)


def _table(path: Path) -> Iterator[Row]:
    for at, row in enumerate(_read(path, NEEDED), 1):
        yield (
            at,
            _text("sample", row["sample"]),
            row["word_index"],
            row.get("word"),
            row.get("prompt"),
            row["score"],
        )


def _folder(path: Path) -> Iterator[Row]:
    at = 0
    for source in _metadata(path):
        for row in _read(source, ("id", "words")):
            at += 1
            for word in row["words"] or []:
                if not isinstance(word, dict) or not {"index", "score"} <= set(word):
                    raise ValueError("words must be a list of {index, word, score, ...}.")
                sample = _text("id", row["id"])
                yield at, sample, word["index"], word.get("word"), row.get("prompt"), word["score"]


def _metadata(path: Path) -> Iterator[Path | io.BytesIO]:
    """The metadata of each split, from a folder or a zip of it."""
    if path.is_dir():
        found: list[Any] = sorted(path.glob(f"*/{METADATA}"))
        if not found:
            raise ValueError(
                f"no split with a {METADATA} is in the folder; name the folder that was exported."
            )
        yield from found
        return
    try:
        with zipfile.ZipFile(path) as archive:
            parts = sorted(
                (p for p in archive.infolist() if p.filename.endswith(f"/{METADATA}")),
                key=lambda p: p.filename,
            )
            if not parts:
                raise ValueError(f"no split with a {METADATA} is in the zip; give the zip that was exported.")
            for part in parts:
                if part.file_size > LARGEST:
                    raise ValueError(
                        f"{part.filename} is larger than {LARGEST >> 20} MB; import the folder in parts."
                    )
                yield io.BytesIO(archive.read(part))
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise ValueError(f"not a zip that can be read ({error}).") from None


def _read(source: Path | io.BytesIO, needed: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """The rows of a Parquet file, in the columns that are asked for and those that are checked."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(source)
        names = file.schema_arrow.names
        lacking = [name for name in needed if name not in names]
        if lacking:
            raise ValueError(f"there is no column {lacking[0]}; {', '.join(needed)} are needed.")
        wanted = [name for name in (*needed, "word", "prompt") if name in names]
        for batch in file.iter_batches(BATCH, columns=wanted):
            yield from batch.to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise ValueError(
            f"not a Parquet file that can be read ({str(error).splitlines()[0][:120]})."
        ) from None


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{name} must be text, not {checks.shown(value)}.")
    return value
