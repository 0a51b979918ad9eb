"""The command line, made by Typer from the registry. Imports nothing heavy, so that --help answers at once."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from studio.cli import agreement, commands, exchange, experiment, grid, shipping  # noqa: F401 - to register them
from studio.cli.console import Console
from studio.doors import COMMANDS, GROUPS, PASSED, PROGRAM, Command, Result, read

EVERYWHERE = {"json": "a file for the whole result; - is stdout", "home": "a folder in place of STUDIO_HOME"}


class WrongArguments(ValueError):
    """Arguments that no command takes; its text is a sentence."""


@dataclass(frozen=True)
class Call:
    """A command with the values that it was given, and the options that all commands have."""

    door: Command
    values: dict[str, Any]
    json: str | None
    home: str | None

    def run(self, console: Console) -> Result:
        """Do the command's work."""
        names = inspect.signature(self.door.work).parameters
        passed: dict[str, Any] = {"console": console} if "console" in names else {}
        if "studio" in names:
            passed["studio"] = commands.studio_of(self.home)
        answer = self.door.work(**passed, **self.door.fixed, **self.values)
        return Result(answer, self.door.text(answer)) if self.door.text else answer


def parse(arguments: Sequence[str] | None = None) -> Call | None:
    """The call that these arguments (those of the process) ask for, or None where it was help, which is printed; raises
    WrongArguments."""
    try:
        call = typer.main.get_command(application()).main(arguments, prog_name=PROGRAM, standalone_mode=False)
    except typer.TyperException as error:
        context = getattr(error, "ctx", None)
        sentence = " ".join(error.format_message().replace("Value error, ", "").split()).rstrip(".")
        asked = context.command_path if context else PROGRAM
        raise WrongArguments(f"{sentence}. `{asked} --help` says what can be given.") from None
    return call if isinstance(call, Call) else None


def application() -> typer.Typer:
    """All commands, as plain text: no boxes, no colours."""
    look = {"help_option_names": ["-h", "--help"], "max_content_width": 110}
    about = "Noise Projection Studio without a browser."
    top = typer.Typer(add_completion=False, rich_markup_mode=None, help=about, context_settings=look)
    groups = {word: typer.Typer() for word in GROUPS}
    for door in COMMANDS:
        add = groups.get(door.words[0], top).command
        name, epilog = door.words[-1], _listed(door.settings)
        add(name, help=door.summary, short_help=door.summary, epilog=epilog)(_front(door))
    for word, summary in GROUPS.items():
        top.add_typer(groups[word], name=word, help=summary, short_help=summary)
    return top


def _front(door: Command) -> Callable[..., Call]:
    """What Typer calls: a function with the parameters of the door, which answers the call."""

    def front(json: str | None, home: str | None, **values: Any) -> Call:
        return Call(door, values, json, home)

    hidden = {*PASSED, *door.fixed}
    public = [p for name, p in inspect.signature(door.work).parameters.items() if name not in hidden]
    for name, text in EVERYWHERE.items():
        option = Annotated[str | None, text]
        public.append(
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=option)
        )
    signature = inspect.Signature([*map(_parameter, public)])
    front.__signature__ = signature  # type: ignore[attr-defined]  # no type knows it; `inspect` reads it
    return front


def _parameter(parameter: inspect.Parameter) -> inspect.Parameter:
    kind, text = read(parameter.annotation)
    if parameter.kind is parameter.KEYWORD_ONLY:
        info = typer.Option(f"--{parameter.name.replace('_', '-')}", help=text)
    else:
        info = typer.Argument(help=text)
    return parameter.replace(annotation=Annotated[kind, info], kind=parameter.KEYWORD_ONLY)


def _listed(settings: Mapping[str, Any]) -> str | None:
    """The settings under a command's help, a line each; \\b keeps Typer from filling the lines."""

    def full(field: Any) -> str:
        larger = getattr(field, "full", None)
        return "" if larger in (None, field.default) else f" (full: {larger})"

    lines = [f"  {name}={field.default}{full(field)}  {field.meaning}" for name, field in settings.items()]
    return "\n".join(["\b", "settings and defaults:", *lines]) if lines else None
