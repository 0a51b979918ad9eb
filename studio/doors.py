"""The registry of what the studio does for scripts: commands (`python -m studio`) and endpoints (`gradio_client`, MCP).

Each is a function with types and a docstring, whose parameters are annotated with what they mean, and a decorator says by
which door it is reached, who may use it and how it queues. `studio.cli` makes the command line of the functions,
`studio.api` the endpoints: names, types, defaults and help stand in the function alone. A function may have both doors.
What a door passes itself is asked for by the parameter's name (`PASSED`). Imports nothing heavy. Modules of doors have no
``from __future__ import annotations``: their types are read as they are.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

PROGRAM = "python -m studio"
# console: of a command; loading and key (the `who` that was sent): of an endpoint
PASSED = ("studio", "console", "loading", "key")

# Who may use an endpoint. Except for EVERYONE the function's `who` is then the caller's name, no longer the key that was sent.
EVERYONE = "everyone"
PEOPLE = "whoever has a key"
WRITERS = "whoever has a key and may write here"
OWNERS = "whose grid it is, and administrators"
GOLD = "administrators, where there are any"
ADMINISTRATORS = "administrators"

SampleId = Annotated[str, "the sample's id"]
RunId = Annotated[str, "the run's id"]
GridId = Annotated[str, "the grid's id"]
# options of sampling (`studio.images.options`)
Negative = Annotated[str | None, "what the images should not show; none given: STUDIO_NEGATIVE"]
Scheduler = Annotated[
    str | None,
    "diffusers' class name, such as DPMSolverMultistepScheduler; none given: STUDIO_SCHEDULER, else the model's own",
]
Loras = Annotated[str, "files of the folder loras in STUDIO_HOME, with weights: style:0.8,pose"]
Weighted = Annotated[bool, "prompt and negative prompt have weights as in the WebUI: (hat:1.3), [hat]"]
# formats that labels are exported to and imported from; `studio.exchange.transfer` says what is in each
OutFormat = Literal["jsonl", "csv", "parquet", "dataset", "dpo", "votes", "richhf", "rapidata"]
InFormat = Literal["jsonl", "csv", "parquet", "dataset", "dpo", "richhf", "rapidata"]

F = TypeVar("F", bound=Callable[..., Any])


@dataclass
class Result:
    """What a command answers: data for --json, text for people, and the command that resumes work that was stopped."""

    data: Any
    text: str
    again: str = ""


@dataclass(frozen=True)
class Command:
    """A command: the words that call it, its function, what these words say already, its settings (`Field` by name), and
    the text of its data where the function returns the data alone."""

    words: tuple[str, ...]
    work: Callable[..., Any]
    summary: str
    fixed: Mapping[str, str]
    settings: Mapping[str, Any]
    text: Callable[[Any], str] | None


@dataclass(frozen=True)
class Endpoint:
    """An endpoint: its name, its function, who may use it, and the line in which it waits ("": it answers at once)."""

    name: str
    work: Callable[..., Any]
    may: str
    line: str


COMMANDS: list[Command] = []
GROUPS: dict[str, str] = {}  # the summary of each word that begins several commands
ENDPOINTS: list[Endpoint] = []


def command(
    *, settings: Mapping[str, Any] | None = None, text: Callable[[Any], str] | None = None
) -> Callable[[F], F]:
    """Make a function the command of its name: parameters before ``*`` are its arguments, those after it its options."""

    def register(work: F) -> F:
        COMMANDS.append(Command((name_of(work),), work, summary_of(work), {}, settings or {}, text))
        return work

    return register


def group(
    of: str, kinds: Mapping[str, Mapping[str, Any]], summary: str, summaries: Mapping[str, str] | None = None
) -> Callable[[F], F]:
    """Make a function a group of commands, one a kind with its settings; the parameter `of` is the kind."""

    def register(work: F) -> F:
        name, each = name_of(work), summaries or {}
        GROUPS[name] = summary
        for kind, settings in kinds.items():
            about = each.get(kind, summary_of(work))
            COMMANDS.append(Command((name, kind), work, about, {of: kind}, settings, None))
        return work

    return register


def endpoint(may: str = EVERYONE, line: str = "") -> Callable[[F], F]:
    """Make a function the endpoint of its name."""

    def register(work: F) -> F:
        ENDPOINTS.append(Endpoint(name_of(work), work, may, line))
        return work

    return register


def name_of(work: Callable[..., Any]) -> str:
    """The name of a door, which is that of its function: without the underscore of `import_`."""
    return work.__name__.rstrip("_")


def summary_of(work: Callable[..., Any]) -> str:
    """The first line of a function's docstring."""
    return (inspect.getdoc(work) or "").partition("\n")[0]


def read(annotation: Any) -> tuple[Any, str]:
    """A parameter's type, and the text that it is annotated with or ""."""
    if get_origin(annotation) is not Annotated:
        return annotation, ""
    kind, text, *_ = get_args(annotation)
    return kind, text
