"""Settings come from the environment, and a wrong one is named."""

from pathlib import Path

import pytest

from studio.cli import commands
from studio.settings import ROOT, SETTINGS, Settings, settings_table


def test_without_an_environment_the_defaults_are_those_of_the_table():
    found = Settings.from_env({})
    assert found == Settings()
    assert found.home == ROOT / ".studio"
    assert found.backbone == str(ROOT / "data/models/diffuser")


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("STUDIO_THREADS", "two", "STUDIO_THREADS"),
        ("STUDIO_THREADS", "-1", "STUDIO_THREADS"),
        ("STUDIO_BATCH", "0", "STUDIO_BATCH"),
        ("STUDIO_BATCH", "9" * 30, "STUDIO_BATCH"),
        ("STUDIO_WORLD", "middle", "small or large"),
        ("STUDIO_SCORER_DTYPE", "int8", "auto, float32, float16"),
        ("STUDIO_DEVICE", "gpu", "auto, cpu, cuda"),
        ("STUDIO_DEVICE", "cuda:x", "auto, cpu, cuda"),
        ("STUDIO_DTYPE", "int8", "STUDIO_DTYPE is 'int8': set it to auto, float32, float16 or bfloat16"),
        ("STUDIO_OFFLOAD", "all", "none, model or sequential"),
        ("STUDIO_SLICING", "perhaps", "no or yes"),
        ("STUDIO_SIZE", "1024", "WIDTHxHEIGHT"),
        ("STUDIO_SIZE", "1000x1000x3", "WIDTHxHEIGHT"),
        ("STUDIO_SIZE", "100x100", "multiples of 8"),
        ("STUDIO_SIZE", "8x8", "from 64 to 2048"),
        ("STUDIO_STEPS", "0", "STUDIO_STEPS"),
        ("STUDIO_GUIDANCE", "21", "from 0"),
        ("STUDIO_GUIDANCE", "nan", "STUDIO_GUIDANCE"),
        ("STUDIO_TOKEN", "a secret with spaces", "^STUDIO_TOKEN cannot be used: set it to 16 to 200 letters"),
        ("STUDIO_TOKEN", "short", "16 to 200"),
        ("STUDIO_TOKEN", "None", "or to none"),
        (
            "STUDIO_HOSTS",
            "https://studio.example",
            "STUDIO_HOSTS has 'https://studio.example': write names alone",
        ),
        ("STUDIO_HOSTS", "a.example, b@c.example", "b@c.example"),
        ("STUDIO_HOSTS", "*.example", "names alone"),
    ],
)
def test_a_wrong_setting_is_named(name, value, says):
    with pytest.raises(ValueError, match=says):
        Settings.from_env({name: value})


def test_a_hub_id_stays_one_and_a_folder_becomes_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    found = Settings.from_env({"STUDIO_BACKBONE": "stabilityai/sdxl-turbo", "STUDIO_SCORER": "mine"})
    assert found.backbone == "stabilityai/sdxl-turbo"
    assert Path(found.scorer) == tmp_path / "mine"


def test_another_process_gets_the_same_settings(tmp_path):
    given = {
        "STUDIO_HOME": str(tmp_path),
        "STUDIO_BATCH": "3",
        "STUDIO_BACKBONE": "a/b",
        "STUDIO_SIZE": "96x64",
    }
    given |= {"STUDIO_STEPS": "4", "STUDIO_GUIDANCE": "0", "STUDIO_REVISION": "v1", "STUDIO_SLICING": "yes"}
    given |= {"STUDIO_SCORER_REVISION": "v2", "STUDIO_SCORER_DTYPE": "bfloat16"}
    found = Settings.from_env(given)
    assert (found.scorer_revision, found.scorer_dtype) == ("v2", "bfloat16")
    assert Settings.from_env(found.env()) == found
    assert (found.sides, found.steps, found.guidance) == ((64, 96), "4", "0.0")
    assert Settings().sides is None


@pytest.mark.parametrize(("given", "there"), [("own.txt", "own.txt"), ("geneval/counting:sets", "sets")])
def test_prompts_are_found_from_wherever_a_job_is_started(tmp_path, monkeypatch, given, there):
    monkeypatch.chdir(tmp_path)
    found = Settings.from_env({"STUDIO_PROMPTS": given})
    monkeypatch.chdir("/")
    again = Settings.from_env(found.env())
    assert again.prompts == found.prompts == given.replace(there, str(tmp_path / there))
    assert Settings.from_env({}).prompts == "shapes"


def test_the_table_has_a_row_for_every_setting():
    rows = settings_table().splitlines()
    assert len(rows) == 2 + len(SETTINGS)
    assert all(f"`{variable}`" in rows[i + 2] for i, (variable, _, _) in enumerate(SETTINGS.values()))


def test_the_names_of_the_studio_are_those_that_browsers_send():
    found = Settings.from_env({"STUDIO_HOSTS": "Studio.Example.:8443, 10.0.0.5,[0::1], ::2,"})
    assert found.host_names == ["studio.example", "10.0.0.5", "::1", "::2"]
    assert Settings.from_env(found.env()) == found and Settings().host_names == []


def test_everybody_is_an_administrator_or_some_are_by_name():
    both = {"STUDIO_TOKEN": "none", "STUDIO_ADMINS": "Ann"}
    with pytest.raises(ValueError, match="STUDIO_ADMINS names some: take one of them away"):
        Settings.from_env(both)
    assert Settings.from_env({**both, "SPACE_ID": "ann/studio"}).token == "none"  # means nothing there


def test_the_token_is_in_no_text_of_the_settings(monkeypatch):
    secret = "a-token-that-was-given"
    found = Settings.from_env({"STUDIO_TOKEN": secret})
    assert found.token == secret and secret not in repr(found)
    monkeypatch.setenv("STUDIO_TOKEN", secret)
    assert secret not in str(commands.settings(None, None))
