"""The registry of commands and endpoints: what there is, and that all of it is explained."""

from pathlib import Path

from studio.api import described
from studio.doors import ENDPOINTS, PASSED
from tests import doors

LISTED = Path(doors.__file__).with_suffix(".txt")


def test_names_parameters_defaults_queues_and_rights_are_those_that_scripts_rely_on():
    """What is meant to change is listed anew: python -m tests.doors > tests/doors.txt"""
    assert doors.lines() == LISTED.read_text(encoding="utf-8").splitlines()


def test_every_command_and_endpoint_and_each_parameter_is_explained():
    for words, command in doors.typed():
        assert command.help and all(parameter.help for parameter in command.params), words
    for door in ENDPOINTS:
        text = described(door)
        assert not text.startswith("\n") and not text.endswith("Returns:\n    "), door.name
        for name in set(door.work.__annotations__) - {*PASSED, "profile", "request", "return"}:
            assert f"\n    {name}: " in text, (door.name, name)
