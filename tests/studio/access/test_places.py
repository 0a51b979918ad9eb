"""Where what is made is kept, and what is said of it."""

import os

import pytest

from studio.access import places
from studio.settings import Settings

SPACE = {"SPACE_ID": "ann/studio"}


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine with a project, an account and /data, on one disk."""
    for name in ("project", "account", "data", "tmp"):
        (tmp_path / name).mkdir()

    (tmp_path / "mounts").write_text("overlay / overlay rw 0 0")
    monkeypatch.setattr(places, "DATA", tmp_path / "data")
    monkeypatch.setattr(places, "MOUNTS", tmp_path / "mounts")
    monkeypatch.setattr(places.tempfile, "gettempdir", lambda: str(tmp_path / "tmp"))
    return tmp_path


@pytest.fixture
def mounted(machine):
    """A function that says what is mounted where, as /proc does: no test can mount a bucket."""

    def write(**points):
        lines = [
            "overlay / overlay rw 0 0",
            *(f"x {machine / p} {kind} rw 0 0" for p, kind in points.items()),
        ]
        (machine / "mounts").write_text("\n".join(lines))

    return write


@pytest.fixture
def read_only(monkeypatch):
    """A function after which a folder counts as read-only: root may write in any folder whatever its mode."""
    real, denied = places.os.access, set()
    monkeypatch.setattr(places.os, "access", lambda path, mode: str(path) not in denied and real(path, mode))
    return lambda path: denied.add(str(path))


def home(machine, env=None, given=""):
    env = {"HOME": str(machine / "account"), **(env or {})}
    return places.home(given, machine / "project" / ".studio", env)


def test_where_the_project_is_read_only_the_account_has_it_and_else_a_temporary_folder(machine, read_only):
    assert home(machine) == machine / "project" / ".studio"
    read_only(machine / "project")
    found = home(machine)
    assert found == machine / "account" / ".noise-projection-studio"
    assert places.warning(found, False, {}) == ""
    read_only(machine / "account")
    found = home(machine)
    assert found.parent == machine / "tmp" and "temporary folder" in places.warning(found, False, {})


def test_a_space_keeps_what_it_has_on_its_mounted_storage_or_says_that_it_will_be_lost(machine, mounted):
    found = home(machine, SPACE)
    assert found == machine / "project" / ".studio"
    assert "lost at its next restart" in places.warning(found, False, SPACE)
    assert places.warning(found, True, SPACE) == ""
    mounted(data="ext4")
    found = home(machine, SPACE)
    assert found == machine / "data" / places.NAME and places.warning(found, False, SPACE) == ""


def test_a_folder_in_the_common_temporary_folder_is_closed_to_and_not_taken_from_other_accounts(
    tmp_path, monkeypatch
):
    folder = tmp_path / "shown"
    folder.mkdir(mode=0o755)
    for _ in range(2):
        places.claim(folder)
        assert folder.stat().st_mode & 0o777 == 0o700
        folder.rmdir()
    (tmp_path / "theirs").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "theirs")
    with pytest.raises(PermissionError):
        places.claim(tmp_path / "link")
    me = os.getuid()
    monkeypatch.setattr(places.os, "getuid", lambda: me + 1)
    with pytest.raises(PermissionError, match="another account"):
        places.claim(tmp_path / "theirs")


def test_a_folder_that_was_asked_for_and_cannot_be_written_is_told(machine, read_only):
    read_only(machine / "project")
    with pytest.raises(ValueError, match="STUDIO_HOME is .* nothing can be written"):
        home(machine, given=str(machine / "project" / "deep" / "down"))
    (machine / "file").write_text("x")
    with pytest.raises(ValueError, match="STUDIO_HOME"):
        home(machine, given=str(machine / "file"))


@pytest.mark.parametrize("given", ["", "data/mine"])
def test_a_bucket_gets_the_back_ups_and_the_database_stays_on_the_local_disk(machine, mounted, given):
    mounted(data="fuse.hf-mount")
    given = given and str(machine / given)
    assert home(machine, SPACE, given) in (
        machine / "project" / ".studio",
        machine / "account" / ".noise-projection-studio",
    )
    wanted = given or str(machine / "data" / places.NAME)
    assert places.backup("", given, SPACE) == wanted and places.backup("", given, {}) == ""


def test_a_back_up_is_a_folder_or_a_dataset(tmp_path):
    assert places.backup("ann/copies", "", {}) == "ann/copies"
    assert places.backup(str(tmp_path), "", {}) == str(tmp_path)
    for wrong in ("copies", "https://huggingface.co/datasets/a/b", "a/b/c", "a b/c"):
        with pytest.raises(ValueError, match="STUDIO_BACKUP"):
            Settings.from_env({"STUDIO_BACKUP": wrong})


def test_the_hubs_cache_moves_only_where_it_cannot_be_written(machine, read_only):
    env = {"HOME": str(machine / "account")}
    assert places.hub_cache(env, machine / "home") == ""
    read_only(machine / "account")
    assert places.hub_cache(env, machine / "home") == str(machine / "home" / "huggingface")
    assert places.hub_cache({**env, "HF_HOME": str(machine / "data")}, machine / "home") == ""


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("The checkpoint /opt/me/models/reward does not exist.", "The checkpoint reward does not exist."),
        ("Not there ('/a/b c/d', /e/f.json): look.", "Not there ('b c/d', f.json): look."),
        ("/srv/me/.studio/runs/", ""),
        ("See https://example.org/a/b, hub id owner/name, and/or ./here/it/is or /status.",) * 2,
        ("STUDIO_LABELS=/data/labels", "STUDIO_LABELS=labels"),
        ("7 of 1/2/3, data/models/reward, ~/models/x",) * 2,
    ],
)
def test_visitors_are_told_the_last_name_of_a_path(said, told):
    assert places.shortened(said) == told
