"""Who is writing: a signed-in account on a Space with OAuth, elsewhere a name or an anonymous id."""

from types import SimpleNamespace
from unicodedata import normalize

import pytest

from studio.access.identity import anonymous, check_name, oauth_enabled, who

SPACE = {"SPACE_ID": "me/studio", "SYSTEM": "spaces", "OAUTH_CLIENT_ID": "x", "OAUTH_CLIENT_SECRET": "y"}
ANN = SimpleNamespace(username="ann")


@pytest.mark.parametrize("missing", SPACE)
def test_oauth_counts_only_where_space_and_client_are_all_there(missing):
    assert oauth_enabled(SPACE)
    assert not oauth_enabled({k: v for k, v in SPACE.items() if k != missing})


def test_on_a_space_only_the_account_counts_and_off_it_a_profile_is_not_believed():
    assert who("Bea", ANN, {}) == "Bea"
    assert who(None, ANN, {}).startswith("anonymous-")
    assert who("Bea", ANN, SPACE) == "ann"
    assert who("ann", None, SPACE).startswith("anonymous-")
    mine = anonymous()
    assert who(mine, None, SPACE) == mine


@pytest.mark.parametrize("name", ["Ann", " Ann ", "安", "a" * 80, "anonymous-0123456789ab", "A\u0308nn"])
def test_names_of_people_are_taken_in_one_form(name):
    assert check_name(name) == normalize("NFC", name.strip())


@pytest.mark.parametrize(
    ("name", "says"),
    [("  ", "empty"), ("a" * 81, "80 at most"), ("a\nb", "cannot be shown"), ("a\u202eb", "cannot be shown"),
     ("a\x00", "cannot be shown"), (3, "must be text"), ("Detector", "taken by the studio"), ("vlm", "taken by the studio"),
     ("ｄｅｔｅｃｔｏｒ", "taken by the studio")],
)  # fmt: skip
def test_names_that_cannot_be_are_refused(name, says):
    with pytest.raises(ValueError, match=says):
        check_name(name)
