"""What ``parquet`` and ``folder`` wrote, taken in again: as one person's scores, by the rules of ``table.import_csv``.

A row of the Parquet table is a word. Of the dataset folder, or of a zip of it, the ``metadata.parquet`` of each split is
read, in which a row is an image with its words; its pictures are not, for it is the store's own images that are scored.
A word that has no score (a distribution alone, as the VLM gives it) says nothing; whole numbers may be floats, as pandas makes them of a column with gaps. Lost: who said it, whether it was given or confirmed, and all that
went out without coming in by a CSV table.
"""

from __future__ import annotations

import math
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, BinaryIO

from data.exchange.pages import check_footer, check_pages
from data.exchange.staging import staging
from data.exchange.taking import Taking, digit, refused, whole
from data.store import Store, checks
from data.store.scores import Units

NEEDED = ("sample", "word_index", "score")
METADATA = "metadata.parquet"
LARGEST = 1 << 28  # bytes of a split's metadata in a zip
LIST = 1 << 22  # bytes of a zip's list of files, about 40,000 images
MOST_SPLITS, MOST_WORDS = 16, 1000
BATCH = 500
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

    with refused(path.name, lambda: at, "row"), staging(store, path.name) as stage:
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


def _metadata(path: Path) -> Iterator[Path | BinaryIO]:
    """The metadata of each split, from a folder or a zip of it."""
    if path.is_dir():
        found: list[Any] = sorted(path.glob(f"*/{METADATA}"))
        if not found:
            raise ValueError(
                f"no split with a {METADATA} is in the folder; name the folder that was exported."
            )
        yield from found
        return
    _check_list(path)
    try:
        with zipfile.ZipFile(path) as archive:
            parts = sorted(
                (p for p in archive.infolist() if p.filename.endswith(f"/{METADATA}")),
                key=lambda p: p.filename,
            )
            if not parts:
                raise ValueError(f"no split with a {METADATA} is in the zip; give the zip that was exported.")
            if len(parts) > MOST_SPLITS:
                raise ValueError(f"the zip has {len(parts)} splits, and {MOST_SPLITS} at most are read.")
            for part in parts:
                with tempfile.TemporaryFile() as file:
                    _unpack(archive, part, file)
                    yield file
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError) as error:
        raise ValueError(f"not a zip that can be read ({error}).") from None


def _check_list(path: Path) -> None:
    """ValueError where the list of files at the end of a zip is larger than may be read at once."""
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, 2) - 65_600))
        tail = file.read()
    at = tail.rfind(b"PK\5\6")
    size = int.from_bytes(tail[at + 12 : at + 16], "little")
    if at < 0 or len(tail) < at + 22:
        raise ValueError("not a zip that can be read (its end is not one's).")
    if size > LIST or tail[max(0, at - 20) : at].startswith(b"PK\6\7"):
        raise ValueError(
            f"the zip's list of files is larger than {LIST >> 20} MB; unpack it, and import the folder with python -m studio."
        )


def _unpack(archive: zipfile.ZipFile, part: zipfile.ZipInfo, file: BinaryIO) -> None:
    """A part of a zip into a file, a piece at a time."""
    if part.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{part.filename} is packed in another way than the zip that was exported.")
    if part.file_size > LARGEST:
        raise ValueError(f"{part.filename} is larger than {LARGEST >> 20} MB; import the folder in parts.")
    with archive.open(part) as packed:
        while piece := packed.read(1 << 18):
            file.write(piece)


def _read(source: Path | BinaryIO, needed: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """The rows of a Parquet file, in the columns that are asked for and those that are checked. Nothing is unpacked before
    it is known to fit (``pages``), and no text is read that is longer than any that the store keeps."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with source.open("rb") if isinstance(source, Path) else nullcontext(source) as opened:
            check_footer(opened)
            file = pq.ParquetFile(opened, pre_buffer=False, buffer_size=1 << 16)
            leaves = [file.schema.column(i) for i in range(len(file.schema))]
            tops = {leaf.path.split(".")[0] for leaf in leaves}
            lacking = [name for name in needed if name not in tops]
            if lacking:
                raise ValueError(f"there is no column {lacking[0]}; {', '.join(needed)} are needed.")
            wanted = [i for i, leaf in enumerate(leaves) if _is_wanted(leaf, needed)]
            plain = {leaves[i].path.split(".")[0] for i in wanted}
            odd = [name for name in needed if name not in plain]
            if odd == ["words"]:
                raise ValueError("words must be a list of {index, word, score, ...}.")
            if odd:
                raise ValueError(f"the column {odd[0]} must have one value a row.")
            check_pages(opened, file.metadata, wanted)
            paths = [leaves[i].path for i in wanted]
            texts = [leaves[i].path for i in wanted if leaves[i].physical_type == "BYTE_ARRAY"]
            file = pq.ParquetFile(opened, read_dictionary=texts, pre_buffer=False, buffer_size=1 << 16)
            for batch in file.iter_batches(BATCH, columns=paths, use_threads=False):
                for name, column in zip(batch.schema.names, batch.columns):
                    _check_lengths(name, column)
                for at in range(batch.num_rows):
                    yield batch.slice(at, 1).to_pylist()[0]
    except (pa.ArrowException, OSError) as error:
        raise ValueError(
            f"not a Parquet file that can be read ({str(error).splitlines()[0][:120]})."
        ) from None


def _is_wanted(leaf: Any, needed: tuple[str, ...]) -> bool:
    """Whether a column, or a field of the words of an image, is one that is read."""
    top, *inner = leaf.path.split(".")
    if top == "words":
        return inner[-1:] in (["index"], ["word"], ["score"]) and leaf.max_repetition_level == 1
    return not inner and top in (*needed, "word", "prompt")


def _check_lengths(name: str, column: Any) -> None:
    """ValueError where a text or a list of a column is longer than any that the store keeps."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = column.type
    if pa.types.is_dictionary(kind):
        _check_lengths(name, column.dictionary)
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
        longest = pc.max(pc.list_value_length(column)).as_py() or 0
        if longest > MOST_WORDS:
            raise ValueError(
                f"{name} has {longest} entries in a row; an image has {MOST_WORDS} words at most."
            )
        _check_lengths(name, column.values)
    elif pa.types.is_struct(kind):
        for field in kind:
            _check_lengths(f"{name}.{field.name}", column.field(field.name))
    elif kind in (pa.string(), pa.large_string(), pa.binary(), pa.large_binary()):
        longest = pc.max(pc.binary_length(column)).as_py() or 0
        if longest > 4 * checks.PROMPT_LENGTH:  # bytes of a character
            raise ValueError(
                f"{name} has a text of {longest} bytes; a prompt has {checks.PROMPT_LENGTH} characters at most."
            )


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{name} must be text, not {checks.shown(value)}.")
    return value
