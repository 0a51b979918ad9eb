"""core/scoring/connection.py: addresses, pauses, and answers that a gateway packs."""

import gzip
import tracemalloc
import zlib

import pytest
from httpx import Headers

from core.scoring.answers import Unreadable
from core.scoring.connection import Connection, check_address, retry_after, unpacked

BODY = b'{"choices": []}' * 9


def test_answers_are_unpacked_however_a_gateway_packs_them():
    raw = zlib.compressobj(wbits=-15)
    for packed, header in (
        (gzip.compress(BODY), "gzip"),
        (gzip.compress(BODY), "X-GZIP"),
        (gzip.compress(BODY), "identity"),  # a header that does not say so
        (gzip.compress(BODY[:9]) + gzip.compress(BODY[9:]), "gzip"),
        (zlib.compress(BODY), "deflate"),
        (raw.compress(BODY) + raw.flush(), "deflate"),  # without zlib's header
        (BODY, "gzip"),  # a header that is left over
    ):
        assert unpacked(packed, header, 1000) == BODY


def test_a_packed_answer_that_is_too_long_or_damaged_is_unreadable_before_it_is_unpacked():
    bomb = bytes(20 << 20)
    packed = [
        gzip.compress(bomb),
        zlib.compress(bomb),
        gzip.compress(b"") * 20_000,
        gzip.compress(b"1" * 800) * 2,
    ]
    damaged, long = "the answer is packed and damaged", "the answer is longer than 1000 bytes"
    cases = [(packed[0], "gzip", long), (packed[1], "deflate", long), (packed[3], "gzip", long)]
    cases += [
        (gzip.compress(BODY)[:-9], "gzip", damaged),
        (gzip.compress(BODY)[:-8] + bytes(8), "gzip", damaged),
    ]
    cases += [(b"{}", "deflate", damaged), (b"\x1f\x8b\x08" + bytes(60), "gzip", damaged)]
    cases += [(b"\x0b\x01\x80{}\x03", "br", "the answer is packed as 'br', not as gzip or deflate")]
    tracemalloc.start()
    try:
        for body, header, says in cases:
            with pytest.raises(Unreadable, match=says):
                unpacked(body, header, 1000)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_retry_after_is_read_as_seconds_or_as_a_date():
    for said in (
        "",
        "soon",
        "-7",
        "nan",
        "1e9",
        "9" * 99,
        "Wed, 21 Oct 2015 07:28:00 GMT",
        "Fri, 99 Dec 9999",
    ):
        assert retry_after(Headers({"Retry-After": said})) == 0
    assert retry_after(Headers({"Retry-After": " 7 "})) == 7
    assert 1e9 <= retry_after(Headers({"Retry-After": "Fri, 31 Dec 9999 23:59:59 GMT"})) <= 1e12


def test_an_address_is_accepted_with_and_without_v1_and_not_repeated_where_it_is_refused():
    for given, address in (
        ("http://h:8000", "http://h:8000"),
        ("HTTPS://H/v1/", "https://h"),
        (" http://h/a/v1", "http://h/a"),
        ("http://[::1]:8000/", "http://[::1]:8000"),
    ):
        assert check_address(given) == address
    for given in (
        "", "h:8000", "ftp://h", "http://", "http://me:hunter2@h", "http://hunter2@h", "http://h?key=hunter2",
        "http://h/#hunter2", "http://h:x", "http://h:99999", "http://hunter2\x00", "http://xn--/hunter2",
    ):  # fmt: skip
        with pytest.raises(ValueError, match="http://host:8000") as raised:
            check_address(given)
        assert "hunter2" not in str(raised.value)


def test_pauses_back_off_exponentially_with_jitter_a_cap_and_the_servers_request():
    line = Connection("http://127.0.0.1:1", back_off=1.0, longest_pause=10.0)
    for attempt, most in [(1, 1), (2, 2), (3, 4), (4, 8), (5, 10), (20, 10)]:
        pauses = [line.pause(attempt) for _ in range(200)]
        assert most / 2 <= min(pauses) <= max(pauses) <= most
    assert len({line.pause(1) for _ in range(50)}) > 1
    assert (line.pause(1, 7.0), line.pause(1, 3600.0)) == (7.0, 10.0)
