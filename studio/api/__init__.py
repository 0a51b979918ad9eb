"""The studio for scripts and agents: named endpoints (``gradio_client``), each a tool where MCP is on.

An endpoint is a function with types and a docstring: the types are its schema, the docstring is what ``/endpoints#api`` and
an agent read of it; ``studio.doors`` says who may use it and how it queues. Behind each stands what stands behind the page:
the same checks of every value, the same names and keys, the same bounds for visitors. What goes wrong is answered by a
sentence.

What was said of words needs no model, so those endpoints answer at once, past the queue; what computes shares the
page's one place at the models.
"""

import inspect
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import gradio as gr

from studio.access.waiting import CARRYING, MODELS
from studio.api import exchange, grids, images, labels, quality, runs, training  # noqa: F401 - to register them
from studio.api.answers import FIGURES, FILES, caller
from studio.cli import commands  # noqa: F401 - as a command can be an endpoint too
from studio.doors import ADMINISTRATORS, ENDPOINTS, EVERYONE, PASSED, Endpoint, read
from studio.errors import sentence
from studio.pages.shared import Loading
from studio.settings import Settings
from studio.studio import Studio

LIMITS = {MODELS: 1, FILES: 1, CARRYING: 1, FIGURES: 2}  # of each line, how many go on at once
NO_MCP = 'STUDIO_MCP is yes, but the package "mcp" is not installed: pip install "mcp>=1.21,<2", or set it to auto or no.'
PROFILE = inspect.Parameter(
    "profile", inspect.Parameter.POSITIONAL_OR_KEYWORD, default=None, annotation=gr.OAuthProfile | None
)


def endpoints(studio: Studio, loading: Loading) -> dict[str, Callable[..., Any]]:
    """Every endpoint by its name, as Gradio takes it."""
    return {door.name: _front(door, studio, loading) for door in ENDPOINTS}


def register(studio: Studio, loading: Loading) -> None:
    """All endpoints, in the page that is being built."""
    fronts = endpoints(studio, loading)
    for door in ENDPOINTS:
        line: dict[str, Any] = {}
        if door.line:
            line = {"concurrency_id": door.line, "concurrency_limit": LIMITS[door.line]}
        gr.api(fronts[door.name], api_name=door.name, queue=bool(door.line), **line)


def _front(door: Endpoint, studio: Studio, loading: Loading) -> Callable[..., Any]:
    """The endpoint: it lets in who may, and answers every exception with a sentence, as text: a client is no page."""
    names = inspect.signature(door.work).parameters
    # Gradio passes values by their order, also those of a command's options
    public = [
        p.replace(annotation=read(p.annotation)[0], kind=PROFILE.kind)
        for name, p in names.items()
        if name not in PASSED
    ]
    if "profile" not in names:  # the account of a request, which is no parameter for clients
        public.append(PROFILE)
    signature = inspect.signature(door.work).replace(parameters=public)

    def front(*values: Any, **named: Any) -> Any:
        try:
            call = signature.bind(*values, **named)
            call.apply_defaults()
            arguments = call.arguments
            for name, parameter in signature.parameters.items():
                if parameter.annotation is bool and not isinstance(arguments[name], bool):
                    arguments[name] = parameter.default  # each default is the careful choice
            passed = {"studio": studio, "loading": loading, "key": arguments.get("who"), **arguments}
            if door.may != EVERYONE:
                passed["who"] = caller(door.may, studio, arguments)
            return door.work(**{name: passed[name] for name in names})
        except Exception as exception:  # noqa: BLE001
            raise gr.Error(sentence(exception), title="That did not work", print_exception=False) from None

    front.__name__, front.__doc__ = door.name, described(door)
    front.__annotations__ = {parameter.name: parameter.annotation for parameter in public}
    front.__signature__ = signature  # type: ignore[attr-defined]  # no type knows it; `inspect` reads it
    return front


def described(door: Endpoint) -> str:
    """The docstring in the form in which Gradio reads one, with what its parameters are annotated with."""
    text, _, answer = (inspect.getdoc(door.work) or "").partition("\n\nReturns: ")
    if door.may == ADMINISTRATORS:
        text += " For those who may manage the studio."
    meanings = {name: read(p.annotation)[1] for name, p in inspect.signature(door.work).parameters.items()}
    meanings |= {"who": meanings["who"] or "from sign_in"} if "who" in meanings else {}
    lines = "".join(f"    {name}: {meaning}\n" for name, meaning in meanings.items() if meaning)
    return f"{text}\n\nParameters:\n{lines}\nReturns:\n    {answer}"


def mcp(settings: Settings) -> bool:
    """Whether the endpoints are to be MCP tools as well; ValueError where they are to be and cannot."""
    installed = find_spec("mcp") is not None
    if settings.mcp == "yes" and not installed:
        raise ValueError(NO_MCP)
    return installed and settings.mcp != "no"
