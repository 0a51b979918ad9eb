"""JSON that is read back from the project's own folders, damaged in every way."""

import pytest

from core.evaluation.journal import FILE, Journal
from core.jsonfile import parsed, read, read_lines, read_or

DAMAGED = (
    b"",
    b"null",
    b"[]",
    b"123",
    b'"x"',
    b"true",
    b"{",
    b"\xff\xfe",
    b"[" * 100_000,
    b"1" * 5000,
    b'{"a": NaN',
)


def test_damaged_or_missing_content_raises_an_error_or_gives_the_default(tmp_path):
    path = tmp_path / "a.json"
    assert read_or(0.0, path) == 0.0
    with pytest.raises(OSError):
        read(path)
    for content in DAMAGED:
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"a\.json is damaged: it should hold an object in JSON\."):
            read(path)
        assert read_or({}, path) == {}


def test_each_kind_of_content_is_distinguished():
    assert [parsed(b"7", float, "it"), parsed(b"7.5", float, "it"), parsed(b"[]", list, "it")] == [7, 7.5, []]
    for content, kind in ((b"true", float), (b"{}", list)):
        with pytest.raises(ValueError, match="it is damaged"):
            parsed(content, kind, "it")


def test_lines_end_only_where_the_file_has_an_end_of_line(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes('{"prompt": "a\u2028b\x85c"}\n{"half'.encode())
    assert read_lines(path) == [{"prompt": "a\u2028b\x85c"}]
    path.write_bytes(b"{}\n123\n{}\n")
    with pytest.raises(ValueError, match="line 2, is damaged"):
        read_lines(path)
    record = {"method": "none", "prompt": "a\u2028b", "seeds": [1], "items": []}
    Journal(tmp_path, {}, {}).add(record)
    assert Journal(tmp_path, {}, {}).get("none", "a\u2028b", [1]) == record


@pytest.mark.parametrize(
    "line", ["123", "[]", "null", "{}", '{"settings": 7}', '{"method": "none", "fingerprint": "x", "items": [', '{"method": "a"}',
             '{"method": "a", "prompt": "b", "seeds": 7}', '{"method": [], "prompt": "b", "seeds": [1]}']
)  # fmt: skip
def test_a_damaged_journal_raises_an_error_that_names_the_file(tmp_path, line):
    (tmp_path / FILE).write_text(f'{{"settings": {{}}}}\n{line}\n')
    with pytest.raises(ValueError, match=rf"{FILE}.* is damaged.* start the experiment again"):
        Journal(tmp_path, {}, {})
