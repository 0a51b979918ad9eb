"""What unpacking a Parquet file would take, read from its page headers before anything is unpacked.

A few hundred bytes can stand for gigabytes: a page that is packed well, a text that a dictionary repeats, a run of a million
values. The footer's own figures may lie, but a page can only be unpacked to the size and the number of values that its
header gives. Headers and footer are Thrift's compact protocol; the numbers of fields are those of parquet.thrift.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, BinaryIO

FOOTER = 1 << 20  # bytes
ITEMS = 50_000  # values in a footer or a header; a footer has about 25 for each column of each row group
PAGES = 32 << 20  # bytes of the largest pages of all columns that are read, unpacked
VALUES = 1_000_000  # of a column
ENCODINGS = {  # whose values are no larger than their page, or are named in a dictionary
    0: "PLAIN", 2: "PLAIN_DICTIONARY", 3: "RLE", 4: "BIT_PACKED", 5: "DELTA_BINARY_PACKED",
    6: "DELTA_LENGTH_BYTE_ARRAY", 8: "RLE_DICTIONARY", 9: "BYTE_STREAM_SPLIT",
}  # fmt: skip
WINDOW = 1 << 16  # bytes in which a header must end
WRITE = "write it with pandas as it does by default, or in parts."


class _Compact:
    """Values of Thrift's compact protocol in some bytes; ValueError where they end too early or are too many."""

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
        """A value; a struct is a dict by number of field, what nobody asks for is None."""
        self.left -= 1
        if self.left < 0 or depth > 20:
            raise ValueError(f"its footer or a header has more than {ITEMS} entries; {WRITE}")
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
        found, field = {}, 0
        while head := self.byte():
            field = field + (head >> 4) if head >> 4 else self.signed()
            found[field] = self.value(head & 15, depth + 1)
        return found


def check_footer(file: BinaryIO) -> None:
    """ValueError where the footer is larger, or has more in it, than a table of scores needs."""
    size = file.seek(0, 2)
    file.seek(max(0, size - 8))
    tail = file.read(8)
    length = int.from_bytes(tail[:4], "little")
    if len(tail) < 8 or tail[4:] != b"PAR1" or length > size - 8:
        raise ValueError("not a Parquet file that can be read (its end is not one's).")
    if length > FOOTER:
        raise ValueError(f"its footer has {length} bytes, and {FOOTER} at most are read; {WRITE}")
    file.seek(size - 8 - length)
    _Compact(file.read(length)).struct()


def check_pages(file: BinaryIO, metadata: Any, columns: Sequence[int]) -> None:
    """ValueError where the pages of these columns, by their number, unpack to more than the bounds. metadata: pyarrow's,
    of which only the places are believed."""
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
                # of data, data (2), a dictionary
                about = header.get(5) or header.get(8) or header.get(7) or {}
                encoding = about.get(4 if 8 in header else 2, 0)
                if encoding not in ENCODINGS:
                    raise ValueError(
                        f"the column {chunk.path_in_schema} has the encoding {encoding}, whose texts can be of any size "
                        f"unpacked; {WRITE}"
                    )
                if 7 not in header:
                    values[column] += about.get(1, 0)
                key = (column, 7 in header)
                largest[key] = max(largest.get(key, 0), unpacked, packed)
                if sum(largest.values()) > PAGES:
                    raise ValueError(
                        f"its pages unpack to more than {PAGES >> 20} MB at a time (the column {chunk.path_in_schema}); {WRITE}"
                    )
                if values[column] > VALUES:
                    raise ValueError(
                        f"the column {chunk.path_in_schema} has more than {VALUES:,} values; import it in parts."
                    )
                start += compact.at + packed
