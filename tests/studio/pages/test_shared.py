"""What the tabs share of who may do what: a name needs its key, and looking takes no name."""

from __future__ import annotations

import dataclasses
import secrets

import pytest

from studio.access.limits import NotYet
from studio.pages import shared
from tests.studio.gridded import PROMPT


def kept(name):
    return f"{secrets.token_hex(16)}:{name}"


@pytest.fixture
def ruled(studio):
    """A studio with an administrator."""
    studio.settings = dataclasses.replace(studio.settings, admins="Root")
    return studio


def test_a_name_is_known_by_its_key_and_is_not_taken_by_that(studio):
    ann = kept("Ann")
    assert shared.known(studio, ann) == "Ann" and studio.store.people.find() == []
    assert shared.proven(studio, ann) == "Ann"
    assert shared.known(studio, ann) == "Ann"
    for other in (kept("Ann"), "Ann", None, 7, kept("anonymous-0123456789ab")):
        assert shared.known(studio, other) is None
    mine = studio.people.issue(None)
    assert shared.known(studio, mine) == mine.partition(":")[2]


def test_a_grid_is_stopped_by_who_started_it_and_by_administrators_only(ruled, token_shown):
    config = {"prompt": PROMPT, "seeds": [1], "variants": [{}]}
    ann, bob, root = kept("Ann"), kept("Bob"), kept("Root")
    grid = ruled.store.grids.add(config, shared.proven(ruled, ann))
    with token_shown():
        assert shared.tender(ruled, grid, ann) == "Ann" and shared.tender(ruled, grid, root) == "Root"
    for other in (bob, kept("Ann"), "Ann", None, kept("Root"), root):
        with pytest.raises(ValueError, match="only who started it, or an administrator"):
            shared.tender(ruled, grid, other)
    assert {one["name"] for one in ruled.store.people.find()} == {"Ann", "Root"}
    ruled.settings = dataclasses.replace(ruled.settings, admins="")
    assert shared.tender(ruled, grid, bob) == "Bob"  # a machine of one's own
    with pytest.raises(ValueError, match="no grid"):
        shared.tender(ruled, "nothing", ann)


def test_only_an_administrator_manages_where_there_are_any_and_looking_takes_nobody_elses_name(
    ruled, token_shown
):
    ann, root = kept("Ann"), kept("Root")
    assert not any(shared.manages(ruled, one) for one in (ann, "Root", None, 7, "", root))
    with token_shown():
        assert not any(shared.manages(ruled, one) for one in (ann, "Root", None, 7, ""))
        assert ruled.store.people.find() == []
        assert shared.manages(ruled, root) and shared.manages(ruled, root)
        assert not shared.manages(ruled, kept("Root"))
    assert not shared.manages(ruled, root)
    assert [one["name"] for one in ruled.store.people.find()] == ["Root"]
    ruled.settings = dataclasses.replace(ruled.settings, admins="", annotate="nobody")
    assert all(shared.manages(ruled, one) for one in (ann, None, ""))
    with pytest.raises(ValueError, match="read-only") as refused:
        shared.writer(ruled, ann)
    assert not isinstance(refused.value, NotYet)  # what nobody can end is no refusal for now


def test_an_administrators_name_is_not_whose_browser_says_so_first(ruled, token_shown):
    stranger, root = kept("root"), kept("Root")
    for ask in (shared.writer, shared.proven, shared.admin):
        with pytest.raises(ValueError, match="administrator's|STUDIO_ADMINS"):
            ask(ruled, stranger)
    assert ruled.store.people.find() == []
    with token_shown():
        assert shared.writer(ruled, root) == shared.admin(ruled, root) == "Root"
    with pytest.raises(
        NotYet, match="administrator's"
    ):  # so what they send is kept: a restart made another token
        shared.writer(ruled, root)


def test_who_writes_nothing_may_restore_a_damaged_store_whose_name_cannot_be_noted(studio):
    studio.store.database.damage = "The database studio.db is damaged."
    assert shared.admin(studio, kept("ann")) == "ann"
    assert shared.admin(studio, None).startswith("anonymous")


@pytest.mark.parametrize(("annotate", "may"), [("everyone", True), ("login", False), ("nobody", False)])
def test_the_queue_keeps_an_image_only_for_who_may_write_under_a_name_that_is_theirs(studio, annotate, may):
    studio.settings = dataclasses.replace(studio.settings, annotate=annotate)
    ann = kept("Ann")
    assert shared.holds(studio, ann) is shared.holds(studio, studio.people.issue(None)) is may
    assert studio.store.people.find() == []
    studio.people.write_as(ann)
    assert shared.holds(studio, ann) is may
    assert not any(shared.holds(studio, one) for one in (kept("Ann"), "Ann", None))
