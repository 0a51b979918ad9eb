"""The server is killed while keys go out and come again (``tests.reliability.once`` says what of it is real, and does it a
hundred times)."""

from tests.reliability import once


def test_every_key_is_in_the_store_exactly_once_though_the_server_is_killed(tmp_path):
    pages, met = once.run(tmp_path, kills=10)
    assert once.once(tmp_path, pages) == []
    assert met > 0 and all(len(page.typed) > 20 for page in pages)
