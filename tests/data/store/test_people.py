"""A name belongs to the key that first wrote under it."""

import hashlib

import pytest


def digest(key):
    return hashlib.sha256(key.encode()).hexdigest()


def test_the_first_key_gets_the_name_and_no_other_key_does(store):
    assert store.people.holds("Ann", digest("a")) is None
    assert store.people.claim("Ann", digest("a")) and store.people.claim("Ann", digest("a"))
    assert not store.people.claim("Ann", digest("b"))
    assert (store.people.holds("Ann", digest("a")), store.people.holds("Ann", digest("b"))) == (True, False)


def test_one_key_may_have_several_names(store):
    assert store.people.claim("Ann", digest("a")) and store.people.claim("ANN", digest("a"))


@pytest.mark.parametrize("name", ["ann", "ANN", "\uff21nn", "A\u006e\u006e", " Ann "])
def test_a_name_that_looks_the_same_is_refused_to_others(store, name):
    store.people.claim("Ann", digest("a"))
    if name == "Ann":
        assert not store.people.claim(name, digest("b"))
        return
    with pytest.raises(ValueError, match="looks the same"):
        store.people.claim(name, digest("b"))


def test_the_list_tells_names_and_no_digest(store):
    store.people.claim("Ann", digest("a"))
    (found,) = store.people.find()
    assert set(found) == {"name", "created"} and found["name"] == "Ann"


def test_a_name_that_is_freed_goes_to_the_next_and_the_audit_log_says_by_whom(store):
    store.people.claim("Ann", digest("a"))
    store.people.release("Ann", "root")
    assert store.people.claim("Ann", digest("b"))
    (line,) = store.audit.entries()
    assert (line["who"], line["action"], line["subject"]) == ("root", "release", "Ann")
    with pytest.raises(ValueError, match="Nobody goes by"):
        store.people.release("Bob", "root")
    assert len(store.audit.entries()) == 1


@pytest.mark.parametrize("bad", ["", "a" * 63, "A" * 64, None, 7])
def test_what_is_no_digest_is_refused(store, bad):
    with pytest.raises(ValueError, match="key_sha256"):
        store.people.claim("Ann", bad)


def test_it_is_known_who_wrote_before_there_were_keys(store, sample_row):
    (sample,) = store.samples.add([sample_row()])
    store.scores.set(sample, 1, 5, "Ann")
    assert store.people.wrote("Ann") and not store.people.wrote("Bob")
