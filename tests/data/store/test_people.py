"""A name belongs to the key that first wrote under it."""

import hashlib

import pytest


def digest(key):
    return hashlib.sha256(key.encode()).hexdigest()


def test_the_first_key_gets_the_name_and_no_other_key_does(store):
    assert store.holds("Ann", digest("a")) is None
    assert store.claim_name("Ann", digest("a")) and store.claim_name("Ann", digest("a"))
    assert not store.claim_name("Ann", digest("b"))
    assert (store.holds("Ann", digest("a")), store.holds("Ann", digest("b"))) == (True, False)


def test_one_key_may_have_several_names(store):
    assert store.claim_name("Ann", digest("a")) and store.claim_name("ANN", digest("a"))


@pytest.mark.parametrize("name", ["ann", "ANN", "\uff21nn", "A\u006e\u006e", " Ann "])
def test_a_name_that_looks_the_same_is_refused_to_others(store, name):
    store.claim_name("Ann", digest("a"))
    if name == "Ann":
        assert not store.claim_name(name, digest("b"))
        return
    with pytest.raises(ValueError, match="looks the same"):
        store.claim_name(name, digest("b"))


def test_the_list_tells_names_and_no_digest(store):
    store.claim_name("Ann", digest("a"))
    (found,) = store.people()
    assert set(found) == {"name", "created"} and found["name"] == "Ann"


def test_a_name_that_is_freed_goes_to_the_next_and_the_audit_log_says_by_whom(store):
    store.claim_name("Ann", digest("a"))
    store.release_name("Ann", "root")
    assert store.claim_name("Ann", digest("b"))
    (line,) = store.audit()
    assert (line["who"], line["action"], line["subject"]) == ("root", "release", "Ann")
    with pytest.raises(ValueError, match="Nobody goes by"):
        store.release_name("Bob", "root")
    assert len(store.audit()) == 1


@pytest.mark.parametrize("bad", ["", "a" * 63, "A" * 64, None, 7])
def test_what_is_no_digest_is_refused(store, bad):
    with pytest.raises(ValueError, match="key_sha256"):
        store.claim_name("Ann", bad)


def test_it_is_known_who_wrote_before_there_were_keys(store, sample_row):
    (sample,) = store.add_samples([sample_row()])
    store.set_score(sample, 1, 5, "Ann")
    assert store.wrote("Ann") and not store.wrote("Bob")
