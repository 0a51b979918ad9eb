"""Who may do what, and how much: a Space is open to strangers, a studio of one's own is not."""

from types import SimpleNamespace

import pytest

from studio.access.limits import (
    OFF,
    SPACE,
    for_admins,
    limits,
    may_go_by,
    may_manage,
    may_tend,
    may_write,
    open_to_all,
    token_needed,
    visitor,
)
from studio.grids.axes import check_grid
from studio.images.views import check_request
from studio.settings import Settings

ON_SPACE = {
    "SPACE_ID": "ann/studio", "SPACE_AUTHOR_NAME": "ann", "SYSTEM": "spaces",
    "OAUTH_CLIENT_ID": "x", "OAUTH_CLIENT_SECRET": "y", "OAUTH_SCOPES": "openid profile",
    "OPENID_PROVIDER_URL": "https://huggingface.co",
}  # fmt: skip
NO_OAUTH = {"SPACE_ID": "ann/studio", "SPACE_AUTHOR_NAME": "ann", "SYSTEM": "spaces"}
NETWORK = {"GRADIO_SERVER_NAME": "0.0.0.0"}
ANN, BOB = SimpleNamespace(username="Ann"), SimpleNamespace(username="bob")


def studio(**settings):
    return SimpleNamespace(settings=Settings(**settings))


def counts(samples, waiting):
    """A store of two figures, as these are all that is asked of it."""
    return SimpleNamespace(
        samples=SimpleNamespace(count=lambda: samples), grids=SimpleNamespace(cells_waiting=lambda: waiting)
    )


@pytest.mark.parametrize(
    ("setting", "env", "profile", "says"),
    [
        ("everyone", {}, None, ""),
        ("everyone", ON_SPACE, None, ""),
        ("login", ON_SPACE, None, "Sign in"),
        ("login", ON_SPACE, BOB, ""),
        ("login", NO_OAUTH, BOB, "hf_oauth"),
        ("login", {}, BOB, "hf_oauth"),
        ("nobody", {}, None, "read-only"),
        ("nobody", ON_SPACE, ANN, "read-only"),
    ],
)
def test_who_may_correct(setting, env, profile, says):
    found = may_write(Settings(annotate=setting), profile, env)
    assert says in found and bool(found) == bool(says)


@pytest.mark.parametrize(
    ("admins", "env", "name", "profile", "may"),
    [
        ("", {}, "anybody", None, True),
        ("Ann, Bea", {}, "bea", None, False),
        ("Ann, Bea", {}, "bob", None, False),
        ("", NETWORK, "anybody", None, False),
        ("", NETWORK, "ann", ANN, False),
        ("", {"GRADIO_SHARE": "True"}, "anybody", None, False),
        ("", {"GRADIO_SERVER_NAME": "::1"}, "anybody", None, True),
        ("", ON_SPACE, "", ANN, True),
        ("", ON_SPACE, "", BOB, False),
        ("", ON_SPACE, "ann", None, False),
        ("bob", ON_SPACE, "", BOB, True),
        ("bob", ON_SPACE, "", ANN, False),
        ("", NO_OAUTH, "ann", ANN, False),
        (",", ON_SPACE, "", SimpleNamespace(username=""), False),
    ],
)
def test_who_may_train_and_promote(admins, env, name, profile, may):
    assert (may_manage(Settings(admins=admins), name, profile, env) == "") is may


@pytest.mark.parametrize(
    ("settings", "env", "name", "may"),
    [
        ({}, NETWORK, "anybody", True),
        ({"admins": "Ann, Bea"}, {}, "bea", True),
        ({"admins": "Ann, Bea"}, NETWORK, "bea", True),
        ({"admins": "Ann, Bea"}, NETWORK, "bob", False),
        ({"admins": "Ann, Bea"}, NETWORK, "", False),
        ({}, ON_SPACE, "ann", False),
    ],
)
def test_the_token_makes_an_administrator_off_a_space_of_the_names_in_the_setting_alone(
    settings, env, name, may
):
    assert (may_manage(Settings(**settings), name, None, env, token=True) == "") is may


@pytest.mark.parametrize(
    ("settings", "env", "needed"),
    [
        ({}, {}, False),
        ({}, {"GRADIO_SERVER_NAME": "localhost"}, False),
        ({}, {"GRADIO_SERVER_NAME": "127.0.0.5", "GRADIO_SHARE": "false"}, False),
        ({}, NETWORK, True),
        ({}, {"GRADIO_SERVER_NAME": "[::]"}, True),
        ({}, {"GRADIO_SERVER_NAME": "studio.lan"}, True),
        ({}, {"GRADIO_SHARE": "true"}, True),
        ({"token": "a-token-that-was-given"}, {}, True),
        ({"admins": "Ann"}, {}, True),
        ({"hosts": "studio.example"}, {}, True),
        ({"token": "none"}, NETWORK, False),
        ({"token": "a-token-that-was-given", "hosts": "studio.example"}, ON_SPACE, False),
    ],
)
def test_a_token_is_needed_where_others_come_and_where_it_is_asked_for(settings, env, needed):
    found = Settings(**settings)
    assert token_needed(found, env) is needed
    assert (may_manage(found, "anybody", None, env) == "") is (not needed and env is not ON_SPACE)
    says = open_to_all(found, env)
    assert ("STUDIO_TOKEN is none" in says) is (settings.get("token") == "none") and len(says) < 130


def test_only_a_token_makes_a_visitor_go_by_an_administrators_name():
    ruled = Settings(admins="Ann, Bea")
    assert "administrator's" in may_go_by(ruled, "ANN", False, {})
    assert may_go_by(ruled, "ann", True, {}) == may_go_by(ruled, "bob", False, {}) == ""
    assert may_go_by(Settings(), "Ann", False, NETWORK) == may_go_by(ruled, "Ann", False, ON_SPACE) == ""


@pytest.mark.parametrize(
    ("admins", "env", "says"),
    [
        ("Ann", {}, "STUDIO_ADMINS"),
        ("", NETWORK, "link that the console printed"),
        ("", ON_SPACE, "owner of this Space"),
        ("", NO_OAUTH, "owner of this Space"),
    ],
)
def test_what_stands_beside_what_is_off_is_short_and_names_signing_in_only_where_one_can(admins, env, says):
    found = for_admins(Settings(admins=admins), env)
    assert says in found and len(found) < 100
    assert ("signed in" in found) is (env is ON_SPACE)


@pytest.mark.parametrize(
    ("admins", "env", "name", "profile", "may"),
    [
        ("", {}, "anybody", None, True),
        ("Ann", {}, "maker", None, True),
        ("Ann", {}, "bob", None, False),
        ("Ann", {}, "ann", None, False),
        ("", NETWORK, "maker", None, True),
        ("", NETWORK, "bob", None, False),
        ("", ON_SPACE, "maker", None, True),
        ("", ON_SPACE, "bob", BOB, False),
        ("", ON_SPACE, "ann", ANN, True),
        ("", ON_SPACE, "", None, False),
        ("", NO_OAUTH, "ann", None, False),
    ],
)
def test_who_may_stop_a_grid_and_go_on_with_it(admins, env, name, profile, may):
    said = may_tend(Settings(admins=admins), "maker", name, profile, env)
    assert (said == "") is may and (may or "only who started it" in said)


def test_a_space_has_bounds_from_the_start_and_an_own_studio_has_none_of_them():
    assert visitor(Settings(), {}) == OFF and visitor(Settings(), ON_SPACE) == SPACE
    assert visitor(Settings(max_cells="4", max_steps="9"), {}).cells == 4
    assert limits(studio(), ANN, ON_SPACE) == OFF and limits(studio(), BOB, ON_SPACE) == SPACE
    assert limits(studio(max_steps="3"), ANN, {}).steps == 3  # a profile means nothing here


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"max_cells": "3"}, "4 images: 3 at most"),
        ({"max_steps": "9"}, "10 steps: 9 at most"),
        ({"max_size": "64"}, "128 pixels"),
        ({"max_samples": "5"}, "keeps 5 images, and it is full"),
    ],
)
def test_what_is_over_a_bound_is_refused_with_a_sentence(settings, says):
    asked = check_request("a red circle", "7, 8", 10, width=128, height=128)
    store = counts(5, 0)
    assert visitor(Settings(), {}).check_request(asked, store) is asked
    with pytest.raises(ValueError, match=says):
        visitor(Settings(**settings), {}).check_request(asked, store)


def test_what_waiting_grids_are_still_to_make_counts_toward_the_bound():
    asked = check_grid("a red circle", "1-3")
    bound = visitor(Settings(max_samples="12"), {})
    assert bound.check_grid(asked, counts(5, 6)) is asked
    with pytest.raises(
        ValueError, match="keeps 12 images, and it is full with the 7 that grids in the queue"
    ):
        bound.check_grid(asked, counts(5, 7))
