"""A name belongs to the key that first wrote under it."""

import hashlib

import pytest


def digest(key):
    return hashlib.sha256(key.encode()).hexdigest()


def test_the_first_key_gets_the_name_and_no_other_key_does(store, sample_row):
    assert store.people.holds("Ann", digest("a")) is None
    assert store.people.claim("Ann", digest("a")) and store.people.claim("Ann", digest("a"))
    assert not store.people.claim("Ann", digest("b"))
    assert (store.people.holds("Ann", digest("a")), store.people.holds("Ann", digest("b"))) == (True, False)
    (found,) = store.people.find()
    assert set(found) == {"name", "created"} and found["name"] == "Ann"  # and no digest
    assert store.people.claim("ANN", digest("a"))  # one key may have several names
    for bad in ("", "a" * 63, "A" * 64, None, 7):
        with pytest.raises(ValueError, match="key_sha256"):
            store.people.claim("Ann", bad)
    (sample,) = store.samples.add([sample_row()])
    store.scores.set(sample, 1, 5, "Ann")  # as before there were keys
    assert store.people.wrote("Ann") and not store.people.wrote("Bob")


@pytest.mark.parametrize("name", ["ann", "ANN", "\uff21nn", "A\u006e\u006e", " Ann "])
def test_a_name_that_looks_the_same_is_refused_to_others(store, name):
    store.people.claim("Ann", digest("a"))
    if name == "Ann":
        assert not store.people.claim(name, digest("b"))
        return
    with pytest.raises(ValueError, match="looks the same"):
        store.people.claim(name, digest("b"))


def test_a_name_that_is_freed_goes_to_the_next_and_the_audit_log_says_by_whom(store):
    store.people.claim("Ann", digest("a"))
    store.people.release("Ann", "root")
    assert store.people.claim("Ann", digest("b"))
    (line,) = store.audit.entries()
    assert (line["who"], line["action"], line["subject"]) == ("root", "release", "Ann")
    with pytest.raises(ValueError, match="Nobody goes by"):
        store.people.release("Bob", "root")
    assert len(store.audit.entries()) == 1
