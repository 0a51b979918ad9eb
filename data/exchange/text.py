"""Text files from elsewhere: UTF-8, with or without a byte order mark."""

from __future__ import annotations

import codecs


def decoded(raw: bytes, first: bool) -> str:
    """A part of a file as text, without the byte order mark where it is the first part; ValueError where it is not UTF-8."""
    if first:
        ascii_in_utf16 = b"\0\0" in (raw[:4:2], raw[1:4:2])
        if ascii_in_utf16 or raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise ValueError("the file is UTF-16; save it as UTF-8.")
        raw = raw.removeprefix(codecs.BOM_UTF8)
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError("not UTF-8; save the file as UTF-8.") from None
