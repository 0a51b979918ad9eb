"""Settings come from the environment, and a wrong one is named."""

from pathlib import Path

import pytest

from studio.cli import commands
from studio.settings import ROOT, Settings


def test_without_an_environment_the_defaults_are_those_of_the_table():
    found = Settings.from_env({})
    assert found == Settings()
    assert found.home == ROOT / ".studio"
    assert found.backbone == str(ROOT / "data/models/diffuser")


@pytest.mark.parametrize(
    ("name", "values", "says"),
    [
        ("THREADS", ["two"], "STUDIO_THREADS"),
        ("BATCH", ["0", "9" * 30], "STUDIO_BATCH"),
        ("WORLD", ["middle"], "small or large"),
        ("SCORER_DTYPE", ["int8"], "auto, float32, float16"),
        ("DEVICE", ["gpu"], "auto, cpu, cuda"),
        ("DTYPE", ["int8"], "STUDIO_DTYPE is 'int8': set it to auto, float32, float16 or bfloat16"),
        ("OFFLOAD", ["all"], "none, model, group or sequential"),
        ("SLICING", ["perhaps"], "no or yes"),
        ("QUANTIZE", ["int3"], "STUDIO_QUANTIZE is 'int3': set it to none, fp8, torchao-int8"),
        ("SIZE", ["1024"], "WIDTHxHEIGHT"),
        ("SIZE", ["100x100"], "multiples of 8"),
        ("SIZE", ["8x8"], "from 64 to 2048"),
        ("STEPS", ["0"], "STUDIO_STEPS"),
        ("GUIDANCE", ["21", "nan"], "STUDIO_GUIDANCE"),
        (
            "TOKEN",
            ["a secret with spaces", "short"],
            "^STUDIO_TOKEN cannot be used: set it to 16 to 200 letters",
        ),
        ("TOKEN", ["None"], "or to none"),
        ("HOSTS", ["https://a.example"], "STUDIO_HOSTS has 'https://a.example': write names alone"),
        ("HOSTS", ["a.example, b@c.example", "*.example"], "names alone"),
        ("MCP", ["maybe"], "STUDIO_MCP"),
        ("NEGATIVE", ["x" * 2001], "STUDIO_NEGATIVE cannot be used as a negative prompt. .*shorten it"),
        ("NEGATIVE", ["ugly\nhands"], "STUDIO_NEGATIVE cannot .*control character"),
    ],
)
def test_a_wrong_setting_is_named(name, values, says):
    for value in values:
        with pytest.raises(ValueError, match=says):
            Settings.from_env({f"STUDIO_{name}": value})


def test_a_hub_id_stays_one_and_a_folder_becomes_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    found = Settings.from_env({"STUDIO_BACKBONE": "stabilityai/sdxl-turbo", "STUDIO_SCORER": "mine"})
    assert found.backbone == "stabilityai/sdxl-turbo"
    assert Path(found.scorer) == tmp_path / "mine"


def test_another_process_gets_the_same_settings(tmp_path):
    given = {
        "HOME": str(tmp_path), "BATCH": "3", "BACKBONE": "a/b", "SIZE": "96x64", "STEPS": "4", "GUIDANCE": "0", "REVISION": "v1",
        "SLICING": "yes", "SCORER_REVISION": "v2", "SCORER_DTYPE": "bfloat16",
    }  # fmt: skip
    found = Settings.from_env({f"STUDIO_{name}": value for name, value in given.items()})
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
    assert secret not in str(commands.settings())
