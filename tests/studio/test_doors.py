"""The registry of commands and endpoints: what there is, and that all of it is explained."""

from pathlib import Path

from studio import api
from studio.api import described
from studio.doors import ENDPOINTS, EVERYONE, PASSED, Endpoint
from tests import doors

LISTED = Path(doors.__file__).with_suffix(".txt")


def test_names_parameters_defaults_queues_and_rights_are_those_that_scripts_rely_on():
    """What is meant to change is listed anew: python -m tests.doors > tests/doors.txt"""
    assert doors.lines() == LISTED.read_text(encoding="utf-8").splitlines()


def test_a_function_with_options_can_be_an_endpoint_too(monkeypatch):
    def total(first: int, *, second: int = 2, third: int = 3):
        """The sum."""
        return first + second + third

    monkeypatch.setattr(api, "ENDPOINTS", [Endpoint("total", total, EVERYONE, "")])
    front = api.endpoints(None, None)["total"]
    assert front(1) == 6 and front(1, 5) == 9 and front(1, third=0) == 3


def test_every_command_and_endpoint_and_each_parameter_is_explained():
    for words, command in doors.typed():
        assert command.help and all(parameter.help for parameter in command.params), words
    for door in ENDPOINTS:
        text = described(door)
        assert not text.startswith("\n") and not text.endswith("Returns:\n    "), door.name
        for name in set(door.work.__annotations__) - {*PASSED, "profile", "request", "return"}:
            assert f"\n    {name}: " in text, (door.name, name)
