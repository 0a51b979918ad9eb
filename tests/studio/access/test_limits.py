"""Who may do what, and how much: a Space is open to strangers, a studio of one's own is not."""

from types import SimpleNamespace

import pytest

from studio.access.limits import (
    OFF,
    SPACE,
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
TOKEN = "a-token-that-was-given"
ANN, BOB = SimpleNamespace(username="Ann"), SimpleNamespace(username="bob")


def studio(**settings):
    return SimpleNamespace(settings=Settings(**settings))


@pytest.mark.parametrize(
    ("setting", "env", "profile", "says"),
    [("everyone", {}, None, ""), ("everyone", ON_SPACE, None, ""), ("login", ON_SPACE, None, "Sign in"),
     ("login", ON_SPACE, BOB, ""), ("login", NO_OAUTH, BOB, "hf_oauth"), ("login", {}, BOB, "hf_oauth"),
     ("nobody", {}, None, "read-only"), ("nobody", ON_SPACE, ANN, "read-only")],
)  # fmt: skip
def test_who_may_correct(setting, env, profile, says):
    found = may_write(Settings(annotate=setting), profile, env)
    assert says in found and bool(found) == bool(says)


@pytest.mark.parametrize(
    ("admins", "env", "name", "profile", "token", "may"),
    [
        ("", {}, "anybody", None, False, True),
        ("", {"GRADIO_SERVER_NAME": "::1"}, "anybody", None, False, True),
        ("", NETWORK, "anybody", None, False, False),
        ("", NETWORK, "anybody", None, True, True),
        ("", NETWORK, "ann", ANN, False, False),  # a profile means nothing off a Space
        ("", {"GRADIO_SHARE": "True"}, "anybody", None, False, False),
        ("Ann, Bea", {}, "bea", None, False, False),
        ("Ann, Bea", {}, "bea", None, True, True),
        ("Ann, Bea", NETWORK, "bea", None, True, True),
        ("Ann, Bea", NETWORK, "bob", None, True, False),
        ("Ann, Bea", NETWORK, "", None, True, False),
        ("", ON_SPACE, "", ANN, False, True),
        ("", ON_SPACE, "", BOB, False, False),
        ("", ON_SPACE, "ann", None, True, False),
        ("bob", ON_SPACE, "", BOB, False, True),
        ("bob", ON_SPACE, "", ANN, False, False),
        ("", NO_OAUTH, "ann", ANN, False, False),
        (",", ON_SPACE, "", SimpleNamespace(username=""), False, False),
    ],
)
def test_who_may_train_and_promote(admins, env, name, profile, token, may):
    assert (may_manage(Settings(admins=admins), name, profile, env, token) == "") is may


@pytest.mark.parametrize(
    ("settings", "env", "needed"),
    [({}, {}, False), ({}, {"GRADIO_SERVER_NAME": "127.0.0.5", "GRADIO_SHARE": "false"}, False), ({}, NETWORK, True),
     ({}, {"GRADIO_SHARE": "true"}, True), ({"token": TOKEN}, {}, True), ({"admins": "Ann"}, {}, True),
     ({"hosts": "studio.example"}, {}, True), ({"token": "none"}, NETWORK, False),
     ({"token": TOKEN, "hosts": "studio.example"}, ON_SPACE, False)],
)  # fmt: skip
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
    ("admins", "env", "name", "profile", "may"),
    [("", {}, "anybody", None, True), ("Ann", {}, "maker", None, True), ("Ann", {}, "bob", None, False),
     ("", NETWORK, "maker", None, True), ("", ON_SPACE, "bob", BOB, False), ("", ON_SPACE, "ann", ANN, True),
     ("", ON_SPACE, "", None, False)],
)  # fmt: skip
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
    [({"max_cells": "3"}, "4 images: 3 at most"), ({"max_steps": "9"}, "10 steps: 9 at most"), ({"max_size": "64"}, "128 pixels"),
          ({"max_samples": "11"}, "keeps 11 images, and it is full with the 6 that grids in the queue")],
)  # fmt: skip
def test_what_is_over_a_bound_is_refused_with_a_sentence(settings, says):
    store = SimpleNamespace(
        samples=SimpleNamespace(count=lambda: 5), grids=SimpleNamespace(cells_waiting=lambda: 6)
    )
    pair = check_request("a red circle", "7, 8", 10, width=128, height=128)
    grid = check_grid("a red circle", "7, 8", steps="10", width=128, height=128)
    for name, asked in (("check_request", pair), ("check_grid", grid)):
        for room in ({}, {"max_samples": "12"}):
            assert getattr(visitor(Settings(**room), {}), name)(asked, store) is asked
        with pytest.raises(ValueError, match=says):
            getattr(visitor(Settings(**settings), {}), name)(asked, store)
