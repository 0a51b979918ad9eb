"""Labels as a Parquet table, one row per word, for data frames: the columns of the CSV with their types; out and in again.

``distribution`` is a list of ten numbers or null, ``score`` a whole number or null, ``expected`` one number for both. The file's
metadata have the format, its version and the polarity. It loses what the CSV loses.

A table comes in as one person's scores, by the rules of ``table.import_csv``; whole numbers may be floats, as pandas makes them
in a column with gaps.

A Parquet file of a few hundred bytes can stand for gigabytes: a well-packed page, a text that a dictionary repeats, a run of a
million values. The footer's own figures may lie, but a page unpacks only to the size and number of values in its header.
So the page headers are read before anything is unpacked. Headers and footer are Thrift's compact protocol; the field numbers
are those of parquet.thrift.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from data.exchange.jsonl import whole_file
from data.exchange.staging import Place, Row, import_rows
from data.exchange.table import COLUMNS, NEEDED, count_labels, row_of
from data.store import Store, checks
from data.store.scores import Units

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

VERSION = 1
POLARITY = "0 to 9; 9 = the image fully shows the word, 0 = not at all"
WRITE_BATCH, READ_BATCH = 20_000, 500  # rows
TYPES = {"seed": "int64", "word_index": "int32", "score": "int8", "strength": "float32", "expected": "float32",
         "weight": "float32"}  # fmt: skip
MOST_WORDS = 1000  # of an image
FOOTER = 1 << 20  # bytes
ITEMS = 50_000  # values in a footer or a header; a footer has about 25 for each column of each row group
PAGES = 32 << 20  # bytes of the largest pages of all columns that are read, unpacked
VALUES = 1_000_000  # of a column
ENCODINGS = {  # whose values are no larger than their page, or are named in a dictionary
    0: "PLAIN", 2: "PLAIN_DICTIONARY", 3: "RLE", 4: "BIT_PACKED", 5: "DELTA_BINARY_PACKED",
    6: "DELTA_LENGTH_BYTE_ARRAY", 8: "RLE_DICTIONARY", 9: "BYTE_STREAM_SPLIT",
}  # fmt: skip
WINDOW = 1 << 16  # bytes in which a header must end
REWRITE = "write it with pandas as it does by default, or in parts."


# -- export


def export_parquet(store: Store, path: str | Path) -> dict[str, int]:
    """Write the file whole or not at all; returns {samples, words}."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {name: pa.type_for_alias(TYPES.get(name, "string")) for name in COLUMNS}
    types["distribution"] = pa.list_(pa.float32())
    metadata = {"format": "noise-projection-studio/words", "version": str(VERSION), "polarity": POLARITY}
    schema = pa.schema(types.items(), metadata=metadata)
    labels = store.labels.current(include_calibrated=True)
    with whole_file(path) as file, pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for start in range(0, max(1, len(labels)), WRITE_BATCH):
            rows = [row_of(label) for label in labels[start : start + WRITE_BATCH]]
            writer.write_table(pa.Table.from_pylist(rows, schema))
    return count_labels(labels)


# -- import


def import_parquet(
    store: Store, path: str | Path, who: str, dry_run: bool = False, *, units: Units
) -> dict[str, Any]:
    """Import the scores that differ from the store, all or none, as ``import_words`` does; the ``line`` of ImportRefused is a row."""
    return import_rows(store, path, who, dry_run, units, "from parquet", _scores)


def _scores(path: Path, place: Place) -> Iterator[Row]:
    for place.number, row in enumerate(read_rows(path, NEEDED), 1):
        sample = checks.text("sample", row["sample"])
        yield sample, row["word_index"], row.get("word"), row.get("prompt"), row["score"]


def read_rows(source: Path | BinaryIO, needed: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """The rows of a Parquet file, with the needed columns and those that are checked, all sizes bounded before they are unpacked."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    def is_wanted(leaf: Any) -> bool:
        """Whether a column, or a field of an image's words, is read."""
        top, *inner = leaf.path.split(".")
        if top == "words":
            return inner[-1:] in (["index"], ["word"], ["score"]) and leaf.max_repetition_level == 1
        return not inner and top in (*needed, "word", "prompt")

    try:
        with source.open("rb") if isinstance(source, Path) else nullcontext(source) as opened:
            check_footer(opened)
            file = pq.ParquetFile(opened, pre_buffer=False, buffer_size=1 << 16)
            leaves = [file.schema.column(i) for i in range(len(file.schema))]
            tops = {leaf.path.split(".")[0] for leaf in leaves}
            missing = [name for name in needed if name not in tops]
            if missing:
                raise ValueError(f"there is no column {missing[0]}; {', '.join(needed)} are needed.")
            wanted = [i for i, leaf in enumerate(leaves) if is_wanted(leaf)]
            usable = {leaves[i].path.split(".")[0] for i in wanted}
            unusable = [name for name in needed if name not in usable]
            if unusable == ["words"]:
                raise ValueError("words must be a list of {index, word, score, ...}.")
            if unusable:
                raise ValueError(f"the column {unusable[0]} must have one value a row.")
            check_pages(opened, file.metadata, wanted)
            paths = [leaves[i].path for i in wanted]
            texts = [leaves[i].path for i in wanted if leaves[i].physical_type == "BYTE_ARRAY"]
            file = pq.ParquetFile(opened, read_dictionary=texts, pre_buffer=False, buffer_size=1 << 16)
            for batch in file.iter_batches(READ_BATCH, columns=paths, use_threads=False):
                for name, column in zip(batch.schema.names, batch.columns):
                    _check_lengths(name, column)
                for at in range(batch.num_rows):
                    yield batch.slice(at, 1).to_pylist()[0]
    except (pa.ArrowException, OSError) as error:
        raise ValueError(
            f"not a Parquet file that can be read ({str(error).splitlines()[0][:120]})."
        ) from None


def _check_lengths(name: str, column: pa.Array) -> None:
    """ValueError where a text or list in a column is longer than any in the store."""
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


# -- bounds on what is unpacked


class _Compact:
    """A reader of Thrift's compact protocol; ValueError where the bytes end too early or hold too many values."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at, self.left = data, 0, ITEMS

    def byte(self) -> int:
        if self.at >= len(self.data):
            raise ValueError("not a Parquet file that can be read (a header is cut off).")
        self.at += 1
        return self.data[self.at - 1]

    def number(self) -> int:
        value = shift = 0
        while (byte := self.byte()) & 128 and shift < 70:
            value |= (byte & 127) << shift
            shift += 7
        return value | byte << shift

    def signed(self) -> int:
        value = self.number()
        return value >> 1 ^ -(value & 1)

    def skip(self, count: int) -> None:
        if count > len(self.data) - self.at:
            raise ValueError("not a Parquet file that can be read (a header is cut off).")
        self.at += count

    def value(self, kind: int, depth: int = 0) -> Any:
        """A value: a struct is a dict by field number; values that are not needed are None."""
        self.left -= 1
        if self.left < 0 or depth > 20:
            raise ValueError(f"its footer or a header has more than {ITEMS} entries; {REWRITE}")
        if kind in (1, 2):
            return kind == 1
        if kind == 3:
            return self.byte()
        if kind in (4, 5, 6):
            return self.signed()
        if kind == 7:
            return self.skip(8)
        if kind == 8:
            return self.skip(self.number())
        if kind in (9, 10):
            head = self.byte()
            count = head >> 4 if head >> 4 < 15 else self.number()
            return [self.value(head & 15 if head & 15 > 2 else 3, depth + 1) for _ in range(count)]
        if kind == 12:
            return self.struct(depth)
        raise ValueError("not a Parquet file that can be read (an unknown kind of value).")

    def struct(self, depth: int = 0) -> dict[int, Any]:
        fields: dict[int, Any] = {}
        field = 0
        while head := self.byte():
            field = field + (head >> 4) if head >> 4 else self.signed()
            fields[field] = self.value(head & 15, depth + 1)
        return fields


def check_footer(file: BinaryIO) -> None:
    """ValueError where the footer is larger, or has more entries, than a table of scores needs."""
    size = file.seek(0, 2)
    file.seek(max(0, size - 8))
    tail = file.read(8)
    length = int.from_bytes(tail[:4], "little")
    if len(tail) < 8 or tail[4:] != b"PAR1" or length > size - 8:
        raise ValueError("not a Parquet file that can be read (its end is not one's).")
    if length > FOOTER:
        raise ValueError(f"its footer has {length} bytes, and {FOOTER} at most are read; {REWRITE}")
    file.seek(size - 8 - length)
    _Compact(file.read(length)).struct()


def check_pages(file: BinaryIO, metadata: pq.FileMetaData, columns: Sequence[int]) -> None:
    """ValueError where the pages of these columns, by number, unpack to more than the bounds. Only the offsets are trusted."""
    largest: dict[tuple[int, bool], int] = {}
    values = dict.fromkeys(columns, 0)
    for group in range(metadata.num_row_groups):
        for column in columns:
            chunk = metadata.row_group(group).column(column)
            start = chunk.data_page_offset
            if chunk.has_dictionary_page and 0 < chunk.dictionary_page_offset < start:
                start = chunk.dictionary_page_offset
            end = start + chunk.total_compressed_size
            while start < end:
                file.seek(start)
                compact = _Compact(file.read(WINDOW))
                header = compact.struct()
                unpacked, packed = header.get(2), header.get(3)
                if not isinstance(unpacked, int) or not isinstance(packed, int) or min(unpacked, packed) < 0:
                    raise ValueError("not a Parquet file that can be read (a page without a size).")
                # the header of a data page, of version 1 or 2, or of a dictionary page
                about = header.get(5) or header.get(8) or header.get(7) or {}
                encoding = about.get(4 if 8 in header else 2, 0)
                if encoding not in ENCODINGS:
                    raise ValueError(
                        f"the column {chunk.path_in_schema} has the encoding {encoding}, whose texts can be of any size "
                        f"unpacked; {REWRITE}"
                    )
                if 7 not in header:
                    values[column] += about.get(1, 0)
                key = (column, 7 in header)
                largest[key] = max(largest.get(key, 0), unpacked, packed)
                if sum(largest.values()) > PAGES:
                    raise ValueError(
                        f"its pages unpack to more than {PAGES >> 20} MB at a time (the column {chunk.path_in_schema}); {REWRITE}"
                    )
                if values[column] > VALUES:
                    raise ValueError(
                        f"the column {chunk.path_in_schema} has more than {VALUES:,} values; import it in parts."
                    )
                start += compact.at + packed
