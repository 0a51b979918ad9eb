"""Who may write under which name: keys that browsers keep, and anonymous ids that only the server can make."""

import os
from types import SimpleNamespace

import pytest

from data.store import Store
from studio.access.identity import is_anonymous, new_key, read_kept
from studio.annotation.people import SECRET, People
from studio.pages import shared
from studio.settings import Settings

ANN = SimpleNamespace(username="ann")
SPACE = {"SPACE_ID": "bo/s", "SYSTEM": "spaces", "OAUTH_CLIENT_ID": "x", "OAUTH_CLIENT_SECRET": "y"}


class Studio:
    """What decides who may write, without the models of a whole studio."""

    def __init__(self, home, **settings):
        self.settings = Settings(home=home, **settings)
        self.store = Store(home / "studio.db")
        self.people = People(self.settings, self.store)


@pytest.fixture
def studio(quick_path):
    return Studio(quick_path)


def test_a_new_browser_gets_an_anonymous_id_and_nothing_is_kept_of_it_until_it_writes(studio):
    kept = studio.people.issue(None)
    name = read_kept(kept).name
    assert is_anonymous(name) and studio.people.issue(kept) == kept and studio.store.people.find() == []
    assert shared.writer(studio, kept) == name and studio.store.people.find()[0]["name"] == name


def test_an_anonymous_id_that_the_server_did_not_make_cannot_write(studio):
    for forged in (f"{new_key()}:anonymous-0123456789ab", f"{new_key()}:{read_kept(studio.people.issue(None)).name}",
                   f"{new_key()}:ANONYMOUS-0123456789ab"):  # fmt: skip
        with pytest.raises(ValueError, match="not one that this studio gave out"):
            shared.writer(studio, forged)
        assert read_kept(studio.people.issue(forged)).name != read_kept(forged).name
    assert studio.store.people.find() == []
    names = {shared.writer(studio, nothing) for nothing in (None, "", "  ")}  # somebody new each time
    assert len(names) == 3 and all(map(is_anonymous, names))


def test_a_browser_goes_back_to_its_names_and_another_that_is_brought_the_key_may_write_too(studio):
    first = studio.people.issue(None)
    ann = studio.people.renamed("Ann", first)
    assert shared.writer(studio, ann) == "Ann"
    bob = studio.people.renamed("Bob", ann)
    assert studio.people.renamed("", bob) == first and studio.people.renamed("Ann", bob) == ann
    assert shared.writer(studio, studio.people.adopted(f" {ann}\n")) == "Ann"
    for wrong in (f"{new_key()}:Ann", "Ann", "", None, 7, ann[1:], ann + "\x00", "0" * 32 + ":vlm"):
        with pytest.raises(ValueError, match="not the key|no key"):
            studio.people.adopted(wrong)
    studio.store.people.release("Ann", "root")  # a page that is open meanwhile claims it again
    assert shared.writer(studio, ann) == "Ann"


def test_the_secret_is_made_once_for_all_processes_and_is_nobody_elses_to_read(studio, quick_path):
    kept = studio.people.issue(None)
    assert Studio(quick_path).people.issue(kept) == kept
    assert os.stat(quick_path / SECRET).st_mode & 0o077 == 0


def test_a_name_is_the_first_browsers_that_writes_under_it(studio):
    mine, theirs = (studio.people.renamed(" Ann ", studio.people.issue(None)) for _ in range(2))
    assert shared.writer(studio, mine) == "Ann"
    with pytest.raises(ValueError, match="belongs to another browser"):
        shared.writer(studio, theirs)
    with pytest.raises(ValueError, match="choose another name, or bring the key"):
        studio.people.renamed("Ann", studio.people.issue(None))
    with pytest.raises(ValueError, match="looks the same"):
        shared.writer(studio, studio.people.renamed("ann", theirs))
    assert shared.writer(studio, mine) == "Ann"


def test_a_name_without_its_key_cannot_write(studio):
    for kept in ("Ann", "x:Ann", "g" * 32 + ":Ann", 7, ["Ann"], "0" * 32 + ":", "0" * 32 + ":detector"):
        with pytest.raises(ValueError, match="no key to write with"):
            shared.writer(studio, kept)


def test_on_a_space_a_name_is_an_accounts_and_off_it_a_profile_opens_nothing(studio, monkeypatch, quick_path):
    local = studio.people.renamed("Ann", studio.people.issue(None))
    shared.writer(studio, local)
    with pytest.raises(ValueError, match="STUDIO_ANNOTATE=login"):
        shared.writer(Studio(quick_path, annotate="login"), local, ANN)
    for name, value in SPACE.items():
        monkeypatch.setenv(name, value)
    assert shared.writer(studio, None, ANN) == "ann" and shared.writer(studio, local, ANN) == "ann"
    with pytest.raises(ValueError, match="a name is an account's"):
        shared.writer(studio, local)
    assert is_anonymous(read_kept(studio.people.issue(local)).name)
    with pytest.raises(ValueError, match="looks like an anonymous id"):
        shared.writer(studio, None, SimpleNamespace(username="anonymous-0123456789ab"))


def test_names_from_before_there_were_keys_go_to_the_first_who_claims_them(studio, sample_row):
    (sample,) = studio.store.samples.add([sample_row()])
    for old in ("Ann", "anonymous-0123456789ab"):
        studio.store.scores.set(sample, 1, 5, old)
        kept = studio.people.issue(old)  # what the browser kept then was the name alone
        assert read_kept(kept).name == old and shared.writer(studio, kept) == old
        assert read_kept(studio.people.issue(old)).name != old
