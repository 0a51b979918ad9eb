"""Prints the doors of the studio, a line each: commands with their arguments, options and defaults; endpoints with the
schema of their parameters and answers, how they queue, and who may use them.

    python -m tests.doors > tests/doors.txt
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, get_args

import gradio as gr
import typer

from studio import api
from studio.cli.application import application
from studio.doors import ENDPOINTS


def typed(command: Any = None, *words: str) -> Iterator[tuple[str, Any]]:
    """The words that call each command, and the command as Typer has it."""
    for name, below in (command or typer.main.get_command(application())).commands.items():
        yield from (
            typed(below, *words, name) if hasattr(below, "commands") else [(" ".join((*words, name)), below)]
        )


def command(words: str, parameters: list[Any]) -> str:
    """?: may be left out, ...: several."""
    arguments = [p for p in parameters if p.param_type_name == "argument"]
    options = [p for p in parameters if p.param_type_name == "option"]
    given = [f"{'' if p.required else '?'}{value(p)}" for p in arguments]
    given += sorted(p.opts[0] if p.is_flag else f"{p.opts[0]} {value(p)}" for p in options)
    return " ".join(["command", words, *given])


def value(parameter: Any) -> str:
    """The type or the choices of a command's parameter, and its default."""
    of = parameter.type_descriptor
    name = "|".join(of.choices or [(get_args(of.annotation)[0] if of.is_list else of.annotation).__name__])
    default = "" if parameter.default is None else f"={parameter.default}"
    return f"{name}{'...' if of.is_list else ''}{default}"


def endpoints() -> Iterator[str]:
    """Each as Gradio describes it."""
    with gr.Blocks() as page:
        api.register(None, None)
    described = page.get_api_info()["named_endpoints"]
    for door, event in zip(ENDPOINTS, page.fns.values(), strict=True):
        about = described[f"/{event.api_name}"]
        given = [
            f"{p['parameter_name']}: {json.dumps(p['type'])}"
            + (f" = {json.dumps(p['parameter_default'])}" if p["parameter_has_default"] else "")
            for p in about["parameters"]
        ]
        answer = ", ".join(json.dumps(one["type"]) for one in about["returns"])
        turn = f"{event.concurrency_limit} of {event.concurrency_id}" if event.queue else "at once"
        yield f"endpoint {event.api_name}({', '.join(given)}) -> {answer}; {turn}; for {door.may}"


def lines() -> list[str]:
    """All doors."""
    return sorted([*(command(words, one.params) for words, one in typed()), *endpoints()])


if __name__ == "__main__":
    print("\n".join(lines()))
